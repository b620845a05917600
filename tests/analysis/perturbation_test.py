"""APS against scores whose critical noise is known, and against AFS on nets where both must agree."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import fisher, moments, perturbation

SCALES = np.geomspace(1e-3, 1e3, 25)
KEY = jax.random.key(0)


def find(scores, scales, clean_score=10.0, floor=0.0):
  return perturbation.of_scores(scales, scores, clean_score=clean_score, floor=floor)


def test_between_two_scales_by_hand():
  # Half of 10 lies two thirds of the way from 7 to 4; on the logarithmic scale from 1 to 1000 that is 100.
  found = find([10.0, 7.0, 4.0, 0.0], [0.1, 1.0, 1000.0, 1e4])
  assert found.scale == pytest.approx(100.0) and found.where == "inside"
  assert found.sensitivity == pytest.approx(0.01)


def test_half_is_counted_from_the_floor():
  # Half way from 19 to -21 is -1, a third of the way from 3 to -9. Between 1 and 1000 that is 10.
  found = find([19.0, 3.0, -9.0], [0.1, 1.0, 1000.0], clean_score=19.0, floor=-21.0)
  assert found.scale == pytest.approx(10.0)


def test_a_smooth_fall_is_found_where_it_is():
  for at in (0.02, 1.0, 37.0):
    scores = 20.0 / (1.0 + SCALES / at) - 10.0
    assert find(scores, SCALES, clean_score=10.0, floor=-10.0).scale == pytest.approx(at, rel=0.02)


def test_outside_of_the_grid_it_says_so():
  never = find([10.0, 9.0], [1.0, 4.0])
  assert (never.scale, never.where, never.sensitivity) == (math.inf, "above", 0.0)
  at_once = find([4.0, 1.0], [0.5, 1.0])
  assert (at_once.scale, at_once.where, at_once.sensitivity) == (0.5, "below", 2.0)
  lines = perturbation.describe({(0, "fc"): never, (1, "fc"): at_once, (2, "fc"): find([9.0, 1.0], [1.0, 2.0])})
  assert len(lines) == 2 and "column 0, fc" in lines[0] and "does not break" in lines[0]
  assert "column 1, fc" in lines[1] and "already" in lines[1]


def test_the_first_crossing_counts():
  found = find([8.0, 2.0, 9.0, 0.0], [1.0, 2.0, 4.0, 8.0])
  assert found.scale == pytest.approx(math.sqrt(2.0))
  np.testing.assert_array_equal(found.scores, [8, 2, 9, 0])


def test_shares_by_hand():
  used, half_as_much, unused = find([9.0, 1.0], [1.0, 4.0]), find([9.0, 1.0], [2.0, 8.0]), find([10.0, 9.0], [1.0, 4.0])
  shares = perturbation.shares({(0, "a"): used, (1, "a"): half_as_much, (2, "a"): unused, (0, "b"): unused})
  assert shares[0, "a"] == pytest.approx(2 / 3) and shares[1, "a"] == pytest.approx(1 / 3)
  assert shares[2, "a"] == 0.0
  assert math.isnan(shares[0, "b"])  # Nothing broke: the share is undetermined, not 0.


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match=r"scales=\[1.0, 1.0\] must rise from above 0"):
    find([1.0, 1.0], [1.0, 1.0])
  with pytest.raises(ValueError, match="must rise from above 0"):
    find([1.0, 1.0], [0.0, 1.0])
  with pytest.raises(ValueError, match="clean_score=-21 is not above floor=-21"):
    find([1.0], [1.0], clean_score=-21.0, floor=-21.0)
  with pytest.raises(ValueError, match="noise of scale 4 is NaN"):
    find([1.0, math.nan], [1.0, 4.0])


def test_noise_has_each_feature_s_own_variance():
  variance = jnp.array([4.0, 0.0, 0.25])
  noise = perturbation.noise(KEY, (40, 12, 12, 3), variance, jnp.float32(0.5))
  np.testing.assert_allclose(np.var(np.asarray(noise), axis=(0, 1, 2)), [2.0, 0.0, 0.125], rtol=0.05)
  flat = np.asarray(noise).reshape(-1, 3)  # Every entry is independent: neighbours and features are uncorrelated.
  assert abs(np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]) < 0.05
  assert abs(np.corrcoef(flat[:, 0], flat[:, 2])[0, 1]) < 0.05
  assert perturbation.noise(KEY, (5, 3), variance, jnp.float32(0.5)).shape == (5, 3)


def test_aps_and_afs_agree_where_the_answer_is_known():
  """Two actions, logit = the sum over columns of w_k times the sum of h_k: both measures are proportional to var w_k^2.

  Weights 2 : 1 : 0 of identically distributed features must give shares 0.8 : 0.2 : 0. The score is how often the
  noisy choice equals the clean one, which is 0.5 at random. Its critical scale also follows from the normal
  distribution.
  """
  weight = {(0, "fc"): 2.0, (1, "fc"): 1.0, (2, "fc"): 0.0}
  activations = {
    place: jax.random.normal(k, (8_000, 8))
    for place, k in zip(weight, jax.random.split(jax.random.key(1), 3), strict=True)
  }
  variances = moments.variances(lambda batch: batch, [activations])

  def logit(additions, batch):
    return sum(weight[place] * jnp.sum(batch[place] + additions[place], axis=1) for place in weight)

  def log_probs(additions, batch):
    x = logit(additions, batch)
    return jnp.stack([jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)], axis=1)

  none = jax.tree.map(jnp.zeros_like, activations)
  clean = logit(none, activations) > 0.0
  noisy = jax.jit(lambda place_noise: jnp.mean(jnp.float32((logit(place_noise, activations) > 0.0) == clean)))

  def scores(place, key):
    variance = jnp.asarray(variances[place], jnp.float32)
    noises = (
      perturbation.noise(k, (8_000, 8), variance, jnp.float32(scale))
      for k, scale in zip(jax.random.split(key, len(SCALES)), SCALES, strict=True)
    )
    return [float(noisy(none | {place: noise})) for noise in noises]

  found = {
    place: find(scores(place, jax.random.fold_in(KEY, k)), SCALES, clean_score=1.0, floor=0.5)
    for k, place in enumerate(weight)
  }
  aps = perturbation.shares(found)
  afs = fisher.per_column(fisher.diagonals(log_probs, lambda batch: batch, [activations]))
  expected = {(0, "fc"): 0.8, (1, "fc"): 0.2, (2, "fc"): 0.0}
  assert aps == pytest.approx(expected, abs=0.02)
  assert afs == pytest.approx(expected, abs=0.02)
  assert aps[2, "fc"] == afs[2, "fc"] == 0.0
  # x and x + noise have the same sign with probability 1 - arccos(r) / pi, where r is their correlation: 0.75 at
  # r = cos(pi / 4).
  whole = 8 * (2.0**2 + 1.0**2)
  assert found[0, "fc"].scale == pytest.approx(whole / (8 * 2.0**2), rel=0.05)


def test_shares_go_with_the_square_of_the_weights():
  """The noise of four columns acts through w: scale w^2 breaks the policy, so the shares are w^2 / sum w^2."""
  rng = np.random.default_rng(0)
  for _ in range(3):
    weights = np.sort(rng.uniform(0.2, 3.0, 4))[::-1]
    criticals = {
      (k, "fc"): find(20.0 / (1.0 + SCALES * w**2) - 10.0, SCALES, floor=-10.0) for k, w in enumerate(weights)
    }
    aps = perturbation.shares(criticals)
    np.testing.assert_allclose([aps[k, "fc"] for k in range(4)], weights**2 / (weights**2).sum(), rtol=0.05)


def test_scores_measured_beforehand_by_hand():
  """Half of 10 lies a third of the way from 7 to 1, so the scale is 2 x 2^(1/3)."""
  found = perturbation.of_scores([1.0, 2.0, 4.0], [9.0, 7.0, 1.0], clean_score=10.0, floor=0.0)
  assert found.scale == pytest.approx(2.0 ** (4 / 3)) and found.where == "inside"
  with pytest.raises(AssertionError):
    perturbation.of_scores([1.0, 2.0, 4.0], [9.0, 7.0], clean_score=10.0, floor=0.0)
