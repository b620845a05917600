"""AFS against closed forms in numpy: policies that are linear in their representations, whose Fisher matrix is known.

For logits = sum_k h_k W_k the gradient of log pi(a) by h_k is W_k[:, a] - W_k pi.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import fisher, moments, spectra
from progressive import column, layers, network

OLD, NEW = (0, "fc"), (1, "fc")


def linear(weights):
  """Functions of a policy that is linear in its representations, as `fisher` calls them."""

  def log_probs(additions, batch):
    logits = 0.0
    for place, w in weights.items():
      x = batch["activations"][place] + additions[place]
      logits = logits + jnp.tensordot(x, w, axes=w.ndim - 1)
    return jax.nn.log_softmax(logits)

  def of_taken(additions, batch):
    return jnp.take_along_axis(log_probs(additions, batch), batch["actions"][:, None], axis=1)[:, 0]

  return log_probs, of_taken, lambda batch: batch["activations"]


def record(seed, num_samples, shapes, num_actions=3):
  rng = np.random.default_rng(seed)
  draw = {place: np.maximum(rng.normal(0.5, 2.0, (num_samples, *shape)), 0.0) for place, shape in shapes.items()}
  activations = {place: jnp.asarray(x, jnp.float32) for place, x in draw.items()}
  return {"activations": activations, "actions": jnp.asarray(rng.integers(num_actions, size=num_samples), jnp.int32)}


def numpy_gradients(weights, batch):
  """place -> gradient of log pi of every action, [N, A, ...], and pi [N, A]."""
  flat = {place: np.asarray(x, np.float64).reshape(len(x), -1) for place, x in batch["activations"].items()}
  matrices = {place: np.asarray(w, np.float64).reshape(-1, w.shape[-1]) for place, w in weights.items()}
  logits = sum(flat[place] @ matrices[place] for place in weights)
  policy = np.exp(logits - logits.max(axis=1, keepdims=True))
  policy /= policy.sum(axis=1, keepdims=True)
  gradients = {}
  for place, w in matrices.items():
    gradient = w.T[None] - (policy @ w.T)[:, None]
    gradients[place] = gradient.reshape(*gradient.shape[:2], *weights[place].shape[:-1])
  return gradients, policy


def variance(x):
  return np.asarray(x, np.float64).reshape(-1, x.shape[-1]).var(axis=0)


def make_weights(seed, shapes, num_actions=3, scale=0.3):
  rng = np.random.default_rng(seed)
  return {
    place: jnp.asarray(rng.normal(0, scale, (*shape, num_actions)), jnp.float32) for place, shape in shapes.items()
  }


def test_the_exact_fisher_of_a_linear_softmax():
  shapes = {OLD: (5,), NEW: (4,)}
  weights, batch = make_weights(0, shapes), record(1, 200, shapes)
  log_probs, _, activations = linear(weights)
  found = fisher.diagonals(log_probs, activations, [batch])
  gradients, policy = numpy_gradients(weights, batch)
  for place in shapes:
    expected = np.einsum("na,nad->d", policy, gradients[place] ** 2) / 200 * variance(batch["activations"][place])
    np.testing.assert_allclose(found[place], expected, rtol=1e-4)


def test_the_fisher_of_the_actions_that_were_taken():
  shapes = {OLD: (5,), NEW: (4,)}
  weights, batch = make_weights(0, shapes), record(1, 200, shapes)
  _, of_taken, activations = linear(weights)
  found = fisher.diagonals(of_taken, activations, [batch])
  gradients, _ = numpy_gradients(weights, batch)
  taken = np.arange(200), np.asarray(batch["actions"])
  for place in shapes:
    expected = (gradients[place][taken] ** 2).mean(axis=0) * variance(batch["activations"][place])
    np.testing.assert_allclose(found[place], expected, rtol=1e-4)


def test_fisher_has_one_value_per_feature_map():
  shapes = {OLD: (3, 4, 2), NEW: (2, 2, 2)}
  weights, batch = make_weights(2, shapes, scale=0.1), record(3, 50, shapes)
  log_probs, _, activations = linear(weights)
  found = fisher.diagonals(log_probs, activations, [batch])
  gradients, policy = numpy_gradients(weights, batch)
  for place in shapes:
    per_map = (gradients[place] ** 2).sum(axis=(2, 3))
    expected = np.einsum("na,nad->d", policy, per_map) / 50 * variance(batch["activations"][place])
    assert found[place].shape == (2,)
    np.testing.assert_allclose(found[place], expected, rtol=1e-4)


def test_independent_choices_add_up():
  """Two softmaxes, each reading its own half: the Fisher of the pair is the sum of both; cross terms are 0."""
  shapes = {OLD: (4,)}
  first, second = (make_weights(seed, shapes)[OLD] for seed in (4, 5))
  batch = record(6, 100, shapes)
  each = [fisher.diagonals(*linear({OLD: w})[::2], [batch])[OLD] for w in (first, second)]

  def both(additions, batch):
    return jnp.stack([linear({OLD: w})[0](additions, batch) for w in (first, second)], axis=1)

  found = fisher.diagonals(both, linear({OLD: first})[2], [batch])[OLD]
  np.testing.assert_allclose(found, each[0] + each[1], rtol=1e-4)


def test_batches_are_one_sample_of_states():
  shapes = {OLD: (5,), NEW: (2, 2, 3)}
  weights, batch = make_weights(0, shapes), record(1, 90, shapes)
  _, of_taken, activations = linear(weights)
  whole = fisher.diagonals(of_taken, activations, [batch])

  def parts():
    for part in (slice(0, 40), slice(40, 80), slice(80, 90)):  # The last is shorter.
      yield jax.tree.map(lambda x, part=part: x[part], batch)

  in_parts = fisher.diagonals(of_taken, activations, parts())
  for place in shapes:
    np.testing.assert_allclose(in_parts[place], whole[place], rtol=1e-5)


def test_an_unused_column_has_exactly_nothing():
  shapes = {OLD: (5,), NEW: (5,)}
  weights, batch = make_weights(0, shapes), record(1, 50, shapes)
  weights[OLD] = jnp.zeros_like(weights[OLD])
  found = fisher.diagonals(*linear(weights)[::2], [batch])
  np.testing.assert_array_equal(found[OLD], 0.0)
  assert fisher.per_column(found) == {OLD: 0.0, NEW: 1.0}
  np.testing.assert_array_equal(fisher.per_feature(found)[NEW], 1.0)


def test_the_unit_of_a_feature_does_not_matter():
  """A feature times c and its weights over c give the same policy and AFS. Unnormalised, AFS would differ by c^2."""
  shapes = {OLD: (3,), NEW: (3,)}
  weights, batch = make_weights(0, shapes), record(1, 100, shapes)
  before = fisher.diagonals(*linear(weights)[::2], [batch])
  c = jnp.array([10.0, 0.1, 1.0])
  batch["activations"][OLD] = batch["activations"][OLD] * c[None]
  weights[OLD] = weights[OLD] / c[:, None]
  after = fisher.diagonals(*linear(weights)[::2], [batch])
  np.testing.assert_allclose(after[OLD], before[OLD], rtol=1e-4)
  assert (before[OLD] > 0).all()


def test_a_feature_that_never_changes_tells_nothing():
  shapes = {OLD: (2,), NEW: (2,)}
  weights, batch = make_weights(0, shapes), record(1, 100, shapes)
  batch["activations"][OLD] = batch["activations"][OLD].at[:, 0].set(3.0)
  found = fisher.diagonals(*linear(weights)[::2], [batch])[OLD]
  assert found[0] == 0.0 and found[1] > 0.0


def test_sum_and_share_readings_by_hand():
  diagonal = {(0, "fc"): np.array([3.0, 0.0, 0.0, 5.0]), (1, "fc"): np.array([1.0, 2.0, 0.0])}
  diagonal[1, "conv"] = np.array([7.0])
  by_feature = fisher.per_feature(diagonal)
  np.testing.assert_allclose(by_feature[0, "fc"], [0.75, 0, 0, 1])  # Only one column has the fourth feature.
  np.testing.assert_allclose(by_feature[1, "fc"], [0.25, 1, 0])  # The third matters in neither column.
  assert fisher.per_column(diagonal, "sum") == {(0, "fc"): 1.75, (1, "fc"): 1.25, (1, "conv"): 1.0}
  assert fisher.per_column(diagonal, "share") == pytest.approx({(0, "fc"): 8 / 11, (1, "fc"): 3 / 11, (1, "conv"): 1.0})
  assert np.isnan(fisher.per_column({(0, "fc"): np.zeros(2)})[0, "fc"])  # Nothing is used: no share.


def test_bad_input_is_refused():
  log_probs, _, activations = linear(make_weights(0, {OLD: (2,)}))
  with pytest.raises(ValueError, match="no samples"):
    fisher.diagonals(log_probs, activations, [])
  with pytest.raises(ValueError, match="reading='mean' is not one of"):
    fisher.per_column({}, "mean")


def test_a_progressive_network_through_its_own_additions():
  """On the real network, the old column is unused if and only if its laterals are cut."""
  spec = column.Column(
    (("pixels", (6, 6, 1)),),
    (
      layers.Conv("conv1", ("pixels",), 3, (3, 3), 1),
      layers.Dense("fc", ("conv1",), 4),
      layers.Dense("output", ("fc",), 4, activation=None, laterals="linear"),
    ),
  )
  net = network.Network((spec, spec))
  params = network.init(jax.random.key(0), net)
  batch = jax.random.uniform(jax.random.key(1), (40, 6, 6, 1))
  places = [(k, layer) for layer in ("conv1", "fc") for k in (0, 1)]

  def apply(params, batch, additions):
    first = jnp.ones(len(batch), bool)
    return network.apply(
      params, net, inputs={"pixels": batch}, state=network.initial_state(net), is_first=first, additions=additions
    )[0]

  def diagonals(params):
    def log_probs(additions, batch):
      return jax.nn.log_softmax(apply(params, batch, additions)[-1]["output"][:, :3])

    def activations(batch):
      found = apply(params, batch, {})
      return {(k, layer): found[k][layer] for k, layer in places}

    return fisher.diagonals(log_probs, activations, [batch])

  connected = fisher.per_column(diagonals(params))
  assert all(0.0 < connected[place] < 1.0 for place in places)
  new = {
    name: layer | {"laterals": jax.tree.map(jnp.zeros_like, layer["laterals"])} if "laterals" in layer else layer
    for name, layer in params[1].items()
  }
  cut = fisher.per_column(diagonals((params[0], new)))
  assert [cut[0, "conv1"], cut[0, "fc"], cut[1, "conv1"], cut[1, "fc"]] == [0.0, 0.0, 1.0, 1.0]


def test_moments_of_many_batches_are_numpy_s():
  rng = np.random.default_rng(0)
  x = rng.normal(1000.0, 0.1, (3, 50, 4, 2)).astype(np.float32)  # With this mean, E[x^2] - E[x]^2 would cancel.
  found = moments.variances(lambda batch: {OLD: batch}, [jnp.asarray(part) for part in x])
  np.testing.assert_allclose(found[OLD], x.reshape(-1, 2).astype(np.float64).var(axis=0), rtol=1e-3)
  with pytest.raises(ValueError, match="no samples"):
    moments.variances(lambda batch: {OLD: batch}, [])


def test_spectra_by_hand():
  afs = {(0, "conv2"): np.array([0.2, 0.8]), (1, "conv2"): np.array([0.5, 0.1]), (2, "conv2"): np.array([0.3, 0.1])}
  np.testing.assert_array_equal(spectra.source_values(afs, "conv2"), [0.2, 0.8, 0.5, 0.1])
  np.testing.assert_array_equal(spectra.newest_values(afs, "conv2"), [0.3, 0.1])
  # Two nets of 2 and 4 features on fractions 0, 1/4, 1/2, 3/4, 1: features stand at 1/4, 3/4 and at 1/8, 3/8, ...
  found = spectra.spectrum([np.array([0.2, 0.8]), np.array([0.2, 0.8, 0.5, 0.1])], num_points=5)
  np.testing.assert_allclose(found.steps, [0, 0.25, 0.5, 0.75, 1])
  np.testing.assert_allclose(found.values, [[0.8, 0.8, 0.5, 0.2, 0.2], [0.8, 0.65, 0.35, 0.15, 0.1]])
  assert spectra.used_fraction(np.ones(8)) == 1.0
  assert spectra.used_fraction(np.eye(8)[3]) == 1 / 8
  assert np.isnan(spectra.used_fraction(np.zeros(8)))
  with pytest.raises(ValueError, match="layer 'fc' is in 0 columns"):
    spectra.source_values(afs, "fc")
