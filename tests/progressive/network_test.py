import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from progressive import column, layers, network, partition, wiring
from tests.progressive import columns

NUM_STEPS = 4
OBSERVATIONS = columns.inputs(NUM_STEPS)
IS_FIRST = jnp.array([False, False, True, False])
apply = jax.jit(network.apply, static_argnums=1)
ADAPTED = columns.recurrent()
PHI = column.Column(
  (("proprioception", (5,)),),
  (
    layers.Dense("phi", ("proprioception",), 3),
    layers.LSTM("lstm", ("phi",), 4),
    layers.Dense("output", ("lstm",), 7, activation=None, laterals="linear"),
  ),
)


def _with_phi():
  """Rusu et al. 2017's second conveyor column: proprioception joins vision before the LSTM."""
  chain = list(columns.recurrent().layers)
  chain.insert(3, layers.Dense("phi", ("proprioception",), 3))
  chain[4] = layers.LSTM("lstm", ("fc", "phi"), 4)
  return column.Column((("pixels", (12, 12, 3)), ("proprioception", (5,))), tuple(chain))


def _wiring(*column_specs, k=-1):
  return {name: [c.source for c in into] for name, into in wiring.connections(column_specs)[k] if into}


def _change_layer(spec, name, **fields):
  chain = tuple(dataclasses.replace(x, **fields) if x.name == name else x for x in spec.layers)
  return column.Column(spec.inputs, chain)


# The wiring.


def test_equal_columns_read_the_layer_below_and_the_twin_lstm():
  assert _wiring(*[columns.recurrent()] * 3) == {
    "conv2": [(1, "conv1"), (0, "conv1")],
    "fc": [(1, "conv2"), (0, "conv2")],
    "lstm": [(1, "fc"), (1, "lstm"), (0, "fc"), (0, "lstm")],
    "output": [(1, "lstm"), (0, "lstm")],
  }


def test_a_proprioceptive_column_reads_vision_from_its_lstm_up():
  assert _wiring(columns.recurrent(), columns.proprioceptive()) == {
    "lstm": [(0, "fc"), (0, "lstm")],
    "output": [(0, "lstm")],
  }


def test_the_conveyor_columns():
  assert _wiring(columns.recurrent(), _with_phi())["lstm"] == [(0, "fc"), (0, "lstm")]
  assert _wiring(columns.recurrent(), _with_phi(), PHI) == {
    "lstm": [(1, "fc"), (1, "phi"), (1, "lstm"), (0, "fc"), (0, "lstm")],
    "output": [(1, "lstm"), (0, "lstm")],
  }


def test_layers_without_namesakes_go_by_their_inputs():
  # An LSTM put on top of a feed-forward column's layers reads that column's fc, as it reads its own fc.
  assert _wiring(columns.feed_forward(), columns.recurrent())["lstm"] == [(0, "fc")]
  # With no name in common, steps from the output decide. b2 reads b1, which is three steps away, like conv2.
  renamed = column.Column(
    (("proprioception", (5,)),),
    (
      layers.Dense("b1", ("proprioception",), 3),
      layers.Dense("b2", ("b1",), 3),
      layers.LSTM("core", ("b2",), 3),
      layers.Dense("output", ("core",), 7, activation=None, laterals="linear"),
    ),
  )
  assert _wiring(columns.recurrent(), renamed) == {
    "b2": [(0, "conv2")],
    "core": [(0, "fc"), (0, "lstm")],
    "output": [(0, "lstm")],
  }


def test_sources_and_none_override_the_rule():
  spec = _change_layer(columns.proprioceptive(), "fc", sources=((0, "conv2"),))
  spec = _change_layer(spec, "lstm", laterals=None)
  assert _wiring(columns.recurrent(), spec) == {"fc": [(0, "conv2")], "output": [(0, "lstm")]}


def test_adapters_are_as_wide_as_what_their_layer_reads_or_as_the_layer_itself():
  spec = _change_layer(columns.proprioceptive(), "fc", sources=((0, "conv2"),))
  into = dict(wiring.connections((columns.recurrent(), columns.recurrent(3, 2), spec))[1])
  assert into["conv2"][0].width == 3 and into["fc"][0].width == 2
  into = dict(wiring.connections((columns.recurrent(), spec))[1])
  assert into["fc"][0].width == 8


# Growth.


@pytest.mark.parametrize(
  "column_specs",
  (
    (columns.recurrent(), columns.recurrent(2, 3, 4, 5)),
    (columns.feed_forward(), columns.feed_forward(), columns.feed_forward(2, 2, 2)),
    (columns.recurrent(), columns.proprioceptive(), columns.recurrent()),
    (columns.recurrent(), _with_phi(), PHI),
    (columns.feed_forward(), columns.recurrent(), columns.proprioceptive(), columns.feed_forward()),
  ),
)
def test_a_new_column_starts_as_exactly_the_previous_policy_and_value(column_specs):
  spec, params = columns.grown(*column_specs[:-1])
  before = columns.outputs(spec, params, OBSERVATIONS, IS_FIRST)
  grown_spec = network.Network(column_specs)
  grown = network.grow(jax.random.key(9), params, spec=grown_spec)
  np.testing.assert_array_equal(columns.outputs(grown_spec, grown, OBSERVATIONS, IS_FIRST), before)
  assert float(jnp.abs(before).max()) > 0.1
  assert not jnp.any(grown[-1]["output"]["kernel"])
  random = network.grow(jax.random.key(9), params, spec=grown_spec, output_init="random")
  assert float(jnp.abs(columns.outputs(grown_spec, random, OBSERVATIONS, IS_FIRST) - before).max()) > 0.01


def test_a_copied_column_has_the_same_outputs_and_gradients():
  """Apart from laterals, its gradient is the first column's. Its laterals, zeros, add nothing yet, but they learn."""
  spec, params = columns.grown(ADAPTED)
  both = network.Network((ADAPTED, ADAPTED))
  grown = network.grow(jax.random.key(9), params, spec=both, output_init="copy")
  before = columns.outputs(spec, params, OBSERVATIONS, IS_FIRST)
  np.testing.assert_allclose(columns.outputs(both, grown, OBSERVATIONS, IS_FIRST), before, atol=1e-6)
  assert partition.content_hash(grown[:1]) == partition.content_hash(params)

  def loss(own, earlier, of):
    return jnp.sum(jnp.sin(columns.outputs(of, (*earlier, own), OBSERVATIONS, IS_FIRST)))

  gradient = jax.jit(jax.grad(loss), static_argnums=2)
  alone, beside = gradient(params[0], (), spec), gradient(grown[1], grown[:1], both)
  for name, layer in alone.items():
    for part, gradient in layer.items():
      np.testing.assert_allclose(beside[name][part], gradient, atol=1e-5)
  num_laterals = 0
  for layer in beside.values():
    for connection in layer.get("laterals", {}).get("column_0", {}).values():
      assert jnp.any(connection["U"])
      num_laterals += 1
  assert num_laterals == 5  # conv2, fc, the LSTM's two and the output.


@pytest.mark.parametrize("output_init", network.OUTPUT_INITS)
def test_parameters_that_are_donated_to_a_step_are_the_new_columns_alone(output_init):
  spec, params = columns.grown(columns.recurrent(), columns.recurrent())
  both = network.Network((*spec.columns, columns.recurrent()))
  if output_init == "copy":  # Only a first column can be copied: it reads no earlier one.
    spec, params, both = network.Network(spec.columns[:1]), params[:1], network.Network(both.columns[:2])
  before = np.asarray(columns.outputs(spec, params, OBSERVATIONS, IS_FIRST))
  grown = network.grow(jax.random.key(9), params, spec=both, output_init=output_init)
  own, _ = partition.split(grown, lambda path: path[0] == len(params))
  step = jax.jit(lambda own: jax.tree.map(lambda x: x + 1, own), donate_argnums=0)
  step(own)
  np.testing.assert_array_equal(columns.outputs(spec, params, OBSERVATIONS, IS_FIRST), before)


@pytest.mark.parametrize(
  ("earlier", "newest", "message"),
  [
    (
      (ADAPTED,),
      columns.recurrent(conv2=4),
      "copy of column 0, but differs in conv2; .*output_init='previous' or 'random'",
    ),
    ((ADAPTED,), columns.proprioceptive(), "copy of column 0, but differs in conv1, conv2, fc, lstm; make"),
    ((ADAPTED, ADAPTED), ADAPTED, "copy of column 1, which reads earlier columns in conv2, fc, lstm, output; give"),
  ],
)
def test_a_column_that_is_no_copy_is_refused(earlier, newest, message):
  spec, params = columns.grown(*earlier)
  grown = network.Network((*spec.columns, newest))
  with pytest.raises(ValueError, match=message):
    network.grow(jax.random.key(0), params, spec=grown, output_init="copy")


def test_a_third_column_copies_the_second_columns_output_laterals():
  spec, params = columns.grown(columns.feed_forward(), columns.feed_forward())
  learned = params[1]["output"] | {"kernel": jnp.full((6, 7), 0.3)}
  params = (params[0], params[1] | {"output": learned})
  grown_spec = network.Network((columns.feed_forward(),) * 3)
  output = network.grow(jax.random.key(9), params, spec=grown_spec)[-1]["output"]
  np.testing.assert_array_equal(output["laterals"]["column_1"]["fc"]["U"], learned["kernel"])
  np.testing.assert_array_equal(output["laterals"]["column_0"]["fc"]["U"], learned["laterals"]["column_0"]["fc"]["U"])
  np.testing.assert_array_equal(output["bias"], learned["bias"])


def test_adding_a_column_leaves_older_parameters_and_activations_as_they_were():
  spec, params = columns.grown(columns.recurrent(), columns.proprioceptive())
  state = network.initial_state(spec)
  before, state_before = network.apply(params, spec, inputs=OBSERVATIONS, state=state, is_first=IS_FIRST)
  grown_spec = network.Network((*spec.columns, columns.recurrent()))
  grown = network.grow(jax.random.key(9), params, spec=grown_spec)
  assert partition.content_hash(grown[:2]) == partition.content_hash(params)
  after, state_after = network.apply(
    grown, grown_spec, inputs=OBSERVATIONS, state=network.initial_state(grown_spec), is_first=IS_FIRST
  )
  jax.tree.map(np.testing.assert_array_equal, (before, state_before), (after[:2], state_after[:2]))


def test_every_lateral_alone_moves_the_layer_that_it_enters():
  spec, params = columns.grown(columns.recurrent(), columns.proprioceptive(), columns.recurrent(), output_init="random")
  state = network.initial_state(spec)
  before, _ = apply(params, spec, inputs=OBSERVATIONS, state=state, is_first=IS_FIRST)
  num_laterals = 0
  for k, connections in enumerate(wiring.connections(spec.columns)):
    for name, into in connections:
      for connection in into:
        num_laterals += 1
        path = (k, name, "laterals", f"column_{connection.source[0]}", connection.source[1], "U")
        u, others = partition.split(params, lambda p, path=path: p == path)
        cut = partition.merge(jax.tree.map(jnp.zeros_like, u), others)
        after, _ = apply(cut, spec, inputs=OBSERVATIONS, state=state, is_first=IS_FIRST)
        assert float(jnp.abs(after[k][name] - before[k][name]).max()) > 1e-6, path
        if (k, name) != (1, "output"):  # Nothing reads an older column's output.
          assert float(jnp.abs(after[-1]["output"] - before[-1]["output"]).max()) > 0, path
  assert num_laterals == (2 + 1) + (1 + 1 + 4 + 2)  # By hand: first lstm and output, then conv2, fc, lstm and output.


def test_altering_any_layer_of_a_frozen_column_changes_the_new_columns_output():
  spec, params = columns.grown(columns.recurrent(), columns.recurrent(), output_init="random")
  before = columns.outputs(spec, params, OBSERVATIONS)
  for name in ("conv1", "conv2", "fc", "lstm"):
    altered = params[0] | {name: jax.tree.map(lambda x: x + 0.1, params[0][name])}
    after = columns.outputs(spec, (altered, params[1]), OBSERVATIONS)
    assert float(jnp.abs(after - before).max()) > 1e-6, name


def test_alpha_is_where_it_is_asked_to_start():
  spec = network.Network((columns.feed_forward(),) * 2)
  params = network.grow(
    jax.random.key(0), network.init(jax.random.key(0), network.Network(spec.columns[:1])), spec=spec, alpha=0.01
  )
  alphas = {path: x for path, x in zip(partition.paths(params), jax.tree.leaves(params), strict=True) if x.ndim == 0}
  assert {path[1] for path in alphas} == {"conv2", "fc"}
  assert all(float(x) == np.float32(0.01) for x in alphas.values())


def test_adapters_that_would_never_learn_are_refused():
  """U relu(V 0 h + b) with b = 0 has no gradient with respect to any parameter: a ReLU has none at 0."""
  spec = network.Network((columns.feed_forward(),) * 2)
  first = network.init(jax.random.key(0), network.Network(spec.columns[:1]))
  for alpha in (0.0, -1.0, float("nan"), float("inf")):
    with pytest.raises(ValueError, match=f"alpha={alpha} must be a finite number > 0"):
      network.grow(jax.random.key(0), first, spec=spec, alpha=alpha)


# Applying.


def test_unroll_equals_step_by_step_across_resets():
  spec, params = columns.grown(columns.recurrent(), columns.proprioceptive(), output_init="random")
  state = network.initial_state(spec)
  whole, last = apply(params, spec, inputs=OBSERVATIONS, state=state, is_first=IS_FIRST)
  steps = []
  for t in range(NUM_STEPS):
    now = {name: x[t : t + 1] for name, x in OBSERVATIONS.items()}
    activations, state = apply(params, spec, inputs=now, state=state, is_first=IS_FIRST[t : t + 1])
    steps.append(activations)
  joined = jax.tree.map(lambda *xs: jnp.concatenate(xs), *steps)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731
  jax.tree.map(close, (whole, last), (joined, state))
  fresh, _ = apply(
    params,
    spec,
    inputs={name: x[2:] for name, x in OBSERVATIONS.items()},
    state=network.initial_state(spec),
    is_first=IS_FIRST[3:].repeat(2),
  )
  close(whole[-1]["output"][2:], fresh[-1]["output"])


def test_jit_equals_no_jit_and_vmap_equals_a_loop():
  spec, params = columns.grown(columns.recurrent(), columns.proprioceptive(), output_init="random")
  worlds = [columns.inputs(NUM_STEPS, seed=seed) for seed in range(3)]
  each = [columns.outputs(spec, params, world) for world in worlds]
  batch = jax.tree.map(lambda *xs: jnp.stack(xs), *worlds)
  batched = jax.jit(jax.vmap(lambda observations: columns.outputs(spec, params, observations)))(batch)
  np.testing.assert_allclose(batched, jnp.stack(each), rtol=1e-4, atol=1e-6)


def test_bytes_are_scaled_and_equal_floats():
  spec, params = columns.grown(columns.feed_forward())
  floats = OBSERVATIONS | {"pixels": OBSERVATIONS["pixels"].astype(jnp.float32) / 255}
  expected = columns.outputs(spec, params, floats)
  np.testing.assert_allclose(columns.outputs(spec, params, OBSERVATIONS), expected, rtol=1e-4, atol=1e-6)


def test_input_names_in_order_of_first_use():
  spec = network.Network((columns.recurrent(), columns.proprioceptive(), columns.recurrent()))
  assert network.input_names(spec) == ("pixels", "proprioception", "target")


# What is refused.


@pytest.mark.parametrize(
  "second,message",
  (
    (
      _change_layer(columns.recurrent(), "conv2", sources=((0, "conv2"),)),
      r"Column 1, layer 'conv2' cannot read 'conv2' \(3, 3, 5\) of column 0: its kernel \(3, 3\) with stride 1 makes "
      r"\(3, 3, 5\) from its own input \(5, 5, 3\), but not from this; name other layers in its sources",
    ),
    (
      _change_layer(columns.recurrent(), "conv2", sources=((0, "fc"),)),
      r"Column 1, layer 'conv2' cannot read 'fc' \(6,\) of column 0: .* not from this",
    ),
    (_change_layer(ADAPTED, "fc", sources=((1, "conv2"),)), "sources names column 1; it can read 0 to 0"),
    (_change_layer(ADAPTED, "fc", sources=((0, "conv3"),)), "'conv3', which is no layer of column 0"),
    (_change_layer(ADAPTED, "fc", sources=((0, "conv2"),) * 2), "'fc': sources=.* names a layer twice; name it once"),
    (columns.recurrent(size=14), r"Column 1 reads input 'pixels' as \(14, 14, 3\), an earlier one as \(12, 12, 3\)"),
  ),
)
def test_wrong_networks_are_refused_by_name(second, message):
  with pytest.raises(ValueError, match=message):
    network.Network((ADAPTED, second))


def test_columns_that_are_no_tuple_are_refused():
  for given, kind in ((ADAPTED, "Column"), ([ADAPTED], "list")):
    with pytest.raises(ValueError, match=rf"columns must be a tuple, of one column \(column,\), not a {kind}"):
      network.Network(given)


@pytest.mark.parametrize(
  "second,message",
  (
    (columns.recurrent(outputs=8), "'output' has 8 outputs and column 0's 7.*output_init='random'"),
    (_change_layer(ADAPTED, "output", laterals="adapter"), "laterals='adapter', but only linear ones can copy"),
    (_change_layer(ADAPTED, "output", sources=((0, "fc"),)), r"does not read \[\('column_0', 'lstm'\)\]"),
  ),
)
def test_growth_that_cannot_keep_the_policy_is_refused(second, message):
  spec, params = columns.grown(ADAPTED)
  grown = network.Network((*spec.columns, second))
  with pytest.raises(ValueError, match=message):
    network.grow(jax.random.key(0), params, spec=grown)
  network.grow(jax.random.key(0), params, spec=grown, output_init="random")


def test_missing_inputs_and_wrong_growth_are_refused():
  spec, params = columns.grown(ADAPTED)
  with pytest.raises(ValueError, match=r"inputs lack \['pixels'\]"):
    network.apply(params, spec, inputs={}, state=network.initial_state(spec), is_first=IS_FIRST)
  many = {name: np.stack([x, x], axis=1) for name, x in OBSERVATIONS.items()}  # [T, 2, ...]
  with pytest.raises(
    ValueError, match=r"of one sequence, the inputs of \(2,\) .*initial_state\(spec, batch_shape=\(2,\)\)"
  ):
    network.apply(params, spec, inputs=many, state=network.initial_state(spec))
  steps = jnp.asarray(IS_FIRST, jnp.int32)
  with pytest.raises(ValueError, match="is_first is int32, not bool"):
    network.apply(params, spec, inputs=OBSERVATIONS, state=network.initial_state(spec), is_first=steps)
  with pytest.raises(ValueError, match="params has 1 columns and spec 1; grow adds exactly one"):
    network.grow(jax.random.key(0), params, spec=spec)
  with pytest.raises(ValueError, match="output_init='zero' is not one of"):
    network.grow(jax.random.key(0), params, spec=network.Network((ADAPTED, ADAPTED)), output_init="zero")


# Additions to activations.


def _outputs_with(spec, params, additions):
  state = network.initial_state(spec)
  return network.apply(params, spec, inputs=OBSERVATIONS, state=state, is_first=IS_FIRST, additions=additions)[0]


def test_a_frozen_layer_taken_away_is_a_lateral_set_to_zero():
  spec, params = columns.grown(columns.feed_forward(), columns.feed_forward(), output_init="random")
  plain = _outputs_with(spec, params, {})
  taken = _outputs_with(spec, params, {(0, "fc"): -plain[0]["fc"]})
  assert not np.asarray(taken[0]["fc"]).any()
  cut = jax.tree.map(lambda x: x, params)
  cut[1]["output"]["laterals"]["column_0"]["fc"]["U"] = jnp.zeros((6, 7), jnp.float32)
  np.testing.assert_allclose(taken[1]["output"], _outputs_with(spec, cut, {})[1]["output"], atol=1e-5)
  assert np.abs(taken[1]["output"] - plain[1]["output"]).max() > 1e-2


def test_an_addition_to_an_lstm_is_seen_above_it_and_not_carried_on():
  spec, params = columns.grown(columns.recurrent())
  plain = _outputs_with(spec, params, {})[0]
  once = jnp.zeros((NUM_STEPS, 4), jnp.float32).at[0].set(1.0)
  added = _outputs_with(spec, params, {(0, "lstm"): once})[0]
  expected = np.asarray(plain["output"]) + np.asarray(once @ params[0]["output"]["kernel"])
  np.testing.assert_allclose(added["output"], expected, atol=1e-5)


def test_an_addition_to_no_layer_is_refused():
  spec, params = columns.grown(columns.recurrent())
  for place in ((0, "pixels"), (1, "fc")):
    with pytest.raises(ValueError, match="no .column, layer."):
      _outputs_with(spec, params, {place: jnp.zeros((NUM_STEPS, 6), jnp.float32)})
  with pytest.raises(ValueError, match=rf"addition to column 0, 'lstm' has shape \(5,\), .* \({NUM_STEPS}, 4\)"):
    _outputs_with(spec, params, {(0, "lstm"): jnp.zeros(5, jnp.float32)})


# Activations that are known already.


def _scores(spec, own, frozen, known=None):
  """Returns a sum over every layer of the newest column, and all activations, for three examples of four steps."""
  params = partition.merge(own, frozen)
  batch = {name: jnp.stack([x, x[::-1], 2 * x], axis=1) for name, x in OBSERVATIONS.items()}
  state = network.initial_state(spec, batch_shape=(3,))
  is_first = jnp.tile(IS_FIRST[:, None], 3)
  activations, _ = network.apply(params, spec, inputs=batch, state=state, is_first=is_first, known=known)
  return sum(jnp.sum(jnp.cos(x)) for x in activations[-1].values()), activations


@dataclasses.dataclass(frozen=True)
class _Doubled(layers.Dense):
  def activate(self, y):
    return 2.0 * super().activate(y)


def _of_many_kinds():
  """Two columns with maps, adapters, an LSTM, a normalised layer, a layer without ReLU, and one with a doubled ReLU."""
  chain = list(columns.recurrent().layers)
  chain[2] = layers.Dense("fc", ("conv2",), 6, activation=None)
  chain[3:4] = [
    layers.LayerNorm("norm", ("fc",)),
    layers.Dense("bent", ("norm",), 6, activation="tanh"),
    _Doubled("doubled", ("bent",), 6),
    layers.LSTM("lstm", ("doubled",), 4),
  ]
  spec, params = columns.grown(ADAPTED, column.Column(ADAPTED.inputs, tuple(chain)), output_init="random")
  return spec, *partition.split(params, lambda path: path[0] == 1)


def test_known_activations_change_neither_outputs_nor_gradients():
  spec, own, frozen = _of_many_kinds()
  gradient = jax.jit(jax.value_and_grad(_scores, argnums=1, has_aux=True), static_argnums=0)
  (_, activations), expected = gradient(spec, own, frozen)
  for known in (activations, (activations[0], {}), ({}, {"conv2": activations[1]["conv2"]})):
    (_, again), actual = gradient(spec, own, frozen, known)
    for (path, x), (_, y) in zip(*map(jax.tree_util.tree_leaves_with_path, (expected, actual)), strict=True):
      np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-6), activations, again)
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(expected))  # There was something to compare.


def test_known_activations_are_taken_and_not_computed_again():
  spec, own, frozen = _of_many_kinds()
  scores = jax.jit(_scores, static_argnums=0)
  activations = scores(spec, own, frozen)[1]
  others = jax.tree.map(lambda x: x + 1, activations)
  jax.tree.map(np.testing.assert_array_equal, scores(spec, own, frozen, others)[1], others)
  gradient = jax.jit(jax.grad(_scores, argnums=1, has_aux=True), static_argnums=0)
  flops = [gradient.lower(spec, own, frozen, known).compile().cost_analysis()["flops"] for known in (None, activations)]
  # For 4 x 3 examples: the products of two convolutions and a dense layer, in both columns.
  spared = 2 * 12 * sum(2 * x.size * n for x, n in ((own[1]["conv1"]["kernel"], 25), (own[1]["conv2"]["kernel"], 9)))
  assert flops[0] - flops[1] > spared


@pytest.mark.parametrize(
  "known, message",
  [
    (({"conv1": jnp.zeros((4, 3, 5, 5, 2), jnp.float32)}, {}), r"column 0, 'conv1' is \(4, 3, 5, 5, 2\) and .* there"),
    (({}, {"pixels": jnp.zeros((4, 3, 12, 12, 3), jnp.float32)}), "column 1, 'pixels' .* no layer of it"),
    (({},), "known is of 1 columns and the network has 2"),
  ],
)
def test_known_activations_of_others_are_refused(known, message):
  spec, own, frozen = _of_many_kinds()
  with pytest.raises(ValueError, match=message):
    _scores(spec, own, frozen, known)


class Doubled(layers.Dense):
  """A Dense layer with its own `apply`."""

  def apply(self, params, x, *, terms):
    return 2 * super().apply(params, x, terms=terms)


def test_an_apply_of_ones_own_is_used():
  spec, params = columns.grown(columns.feed_forward())
  chain = [Doubled("fc", ("conv2",), 6) if one.name == "fc" else one for one in spec.columns[0].layers]
  doubled = network.Network((column.Column(spec.columns[0].inputs, tuple(chain)),))
  plain, twice = (network.apply(params, one, inputs=OBSERVATIONS)[0] for one in (spec, doubled))
  np.testing.assert_allclose(twice[0]["fc"], 2 * plain[0]["fc"], rtol=1e-5)

  def total(params, known):
    return network.apply(params, doubled, inputs=OBSERVATIONS, known=known)[0][0]["output"].sum()

  for x, y in zip(*(jax.tree.leaves(jax.grad(total)(params, known)) for known in (None, twice)), strict=True):
    np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5)


def test_known_activations_beside_additions_are_refused():
  spec, params = columns.grown(columns.recurrent())
  known = ({"lstm": jnp.zeros((NUM_STEPS, 4), jnp.float32)},)
  with pytest.raises(ValueError, match="give one of both"):
    network.apply(
      params, spec, inputs=OBSERVATIONS, state=network.initial_state(spec), is_first=IS_FIRST, known=known,
      additions={(0, "lstm"): known[0]["lstm"]},
    )  # fmt: skip


# Blind laterals, a published fault: column 0 is never read.


def _blind(spec, kind="blind"):
  return column.Column(spec.inputs, tuple(dataclasses.replace(layer, laterals=kind) for layer in spec.layers))


def _loss(params, spec):
  return jnp.sum(jnp.square(columns.outputs(spec, params, OBSERVATIONS)))


@pytest.mark.parametrize("kind", ["blind", "linear"])
def test_outputs_and_all_gradients_of_blind_columns_do_not_depend_on_column_0(kind):
  one = columns.feed_forward()
  spec, params = columns.grown(one, _blind(one, kind), _blind(one, kind), output_init="random")
  others = (columns.grown(one, seed=9)[1][0], *params[1:])
  results = []
  for given in (params, others):
    gradients = jax.grad(_loss)(given, spec)
    results.append((columns.outputs(spec, given, OBSERVATIONS), gradients[1:], gradients[0]))
  (outputs, newer, first), (outputs_of_others, newer_of_others, _) = results
  if kind == "linear":  # The same shape, corrected: a change in column 0 changes everything that learns.
    assert float(jnp.abs(outputs - outputs_of_others).max()) > 0.1
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(first["conv1"]))
    return
  np.testing.assert_array_equal(outputs, outputs_of_others)
  jax.tree.map(np.testing.assert_array_equal, newer, newer_of_others)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(first))
  # Column 1 is read, and all laterals learn, including those that should read column 0.
  altered = (params[0], columns.grown(one, seed=9)[1][0] | {"output": params[1]["output"]}, params[2])
  altered[1].update({name: {**altered[1][name], "laterals": params[1][name]["laterals"]} for name in ("conv2", "fc")})
  assert float(jnp.abs(columns.outputs(spec, altered, OBSERVATIONS) - outputs).max()) > 0.01
  laterals = [
    newer[1][name]["laterals"][source] for name in ("conv2", "fc", "output") for source in newer[1][name]["laterals"]
  ]
  assert len(laterals) == 6 and all(np.any(leaf) for leaf in jax.tree.leaves(laterals))


def test_a_blind_policy_is_not_copied_into_a_column_that_sees():
  """A blind U reads the column's own pre-activations, a linear U reads column 0: a copied U gives another policy."""
  one = columns.feed_forward()
  spec, params = columns.grown(one, _blind(one), output_init="random")
  with pytest.raises(ValueError, match="Column 1's 'output' has blind laterals.*output_init='random'"):
    network.grow(jax.random.key(0), params, spec=network.Network((*spec.columns, one)))


def test_a_blind_column_reads_its_own_path_before_the_activation_in_numpy():
  chain = (layers.Dense("a", ("proprioception",), 4), layers.Dense("b", ("a",), 3))
  output = layers.Dense("output", ("b",), 2, activation=None)
  one = column.Column((("proprioception", (5,)),), (*chain, output))
  spec, params = columns.grown(one, _blind(one), output_init="random")
  w = jax.tree.map(lambda x: np.asarray(x, np.float64), params[1])
  x = np.asarray(OBSERVATIONS["proprioception"], np.float64)

  def own(name, x):
    return x @ w[name]["kernel"] + w[name]["bias"]

  def lateral(name, source, h):
    return h @ w[name]["laterals"]["column_0"][source]["U"]

  a = own("a", x)
  b_alone = own("b", np.maximum(a, 0))
  b = np.maximum(b_alone + lateral("b", "a", a), 0)
  expected = own("output", b) + lateral("output", "b", b_alone)
  actual = network.apply(params, spec, inputs=OBSERVATIONS)[0][-1]["output"]
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("second", "message"),
  [
    (
      columns.feed_forward(conv1=4),
      r"Column 1, layer 'conv2' is blind to column 0, whose 'conv1' is \(5, 5, 3\) and its",
    ),
    (columns.recurrent(), r"Column 1, layer 'conv2' is blind to column 0, but its own \['lstm'\] have no activation"),
  ],
)
def test_columns_that_cannot_be_blind_are_refused(second, message):
  with pytest.raises(ValueError, match=message):
    network.Network((columns.feed_forward(), _blind(second)))


def test_initial_alpha_may_be_traced():
  spec = network.Network((columns.feed_forward(),) * 2)
  params = network.init(jax.random.key(0), network.Network(spec.columns[:1]))
  grow = lambda alpha: network.grow(jax.random.key(1), params, spec=spec, output_init="random", alpha=alpha)  # noqa: E731
  grown = jax.vmap(grow)(jnp.asarray([0.1, 1.0]))[-1]
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x: x[0], grown), grow(0.1)[-1])
