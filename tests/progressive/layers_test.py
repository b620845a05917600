"""Each kind of layer, a user's own included: compared with numpy or flax at the same weights, grown over, and saved."""

import dataclasses
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.store import network_file
from progressive import column, cost, layers, network, wiring
from tests.progressive import own_layers

NUM_STEPS = 6
IS_FIRST = np.array([False, False, True, False, True, False])
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def _output(reads, **kwargs):
  return layers.Dense("output", (reads,), 2, activation=None, laterals="linear", **kwargs)


def _column(*chain, shape=(3,)):
  return column.Column((("x", shape),), (*chain, _output(chain[-1].name)))


def _random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _noisy(params, seed=7):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: x + jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), params)


def _run(spec, params, x, is_first=IS_FIRST):
  return network.apply(params, spec, inputs={"x": x}, state=network.initial_state(spec), is_first=is_first)[0]


def _alone(layer, x, shape=(3,)):
  """Returns (activations for `x` `[N, ...]`, parameters in numpy) of `layer` as the first layer of a column."""
  spec = network.Network((_column(layer, shape=shape),))
  params = _noisy(network.init(jax.random.key(0), spec))
  activations, _ = network.apply(params, spec, inputs={"x": x})
  return activations[0][layer.name], jax.tree.map(np.asarray, params[0][layer.name])


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


# The gated recurrent unit.


def test_gru_equals_flax_cell():
  spec = network.Network((_column(layers.GRU("gru", ("x",), 4)),))
  params = _noisy(network.init(jax.random.key(0), spec))
  own, x = params[0]["gru"], _random(NUM_STEPS, 3)
  cell = {"hn": {"bias": own["recurrent_bias"]}}
  for index, gate in enumerate("rzn"):
    part = slice(4 * index, 4 * index + 4)
    cell[f"i{gate}"] = {"kernel": own["input_kernel"][:, part], "bias": own["bias"][part]}
    cell.setdefault(f"h{gate}", {})["kernel"] = own["recurrent_kernel"][:, part]
  hidden, expected = jnp.zeros(4), []
  for t in range(NUM_STEPS):
    hidden = jnp.zeros(4) if IS_FIRST[t] else hidden
    hidden, _ = nn.GRUCell(4).apply({"params": cell}, hidden, x[t])
    expected.append(hidden)
  np.testing.assert_allclose(_run(spec, params, x)[0]["gru"], jnp.stack(expected), **CLOSE)


def test_laterals_into_a_gru_act_on_its_gates():
  spec = network.Network((_column(layers.Dense("fc", ("x",), 5), layers.GRU("gru", ("fc",), 4)),) * 2)
  assert [c.source for c in dict(wiring.connections(spec.columns)[1])["gru"]] == [(0, "fc"), (0, "gru")]
  params, x = _noisy(network.init(jax.random.key(0), spec)), _random(NUM_STEPS, 3)
  first, second = jax.tree.map(np.asarray, _run(spec, params, x))
  w = jax.tree.map(np.asarray, params[1]["gru"])
  from_first = w["laterals"]["column_0"]
  assert from_first["fc"]["U"].shape == (5, 12) and from_first["gru"]["U"].shape == (4, 12)
  gates = second["fc"] @ w["input_kernel"] + w["bias"]
  gates += first["fc"] @ from_first["fc"]["U"] + first["gru"] @ from_first["gru"]["U"]
  hidden, expected = np.zeros(4), []
  for t in range(NUM_STEPS):
    hidden = np.zeros(4) if IS_FIRST[t] else hidden
    own = hidden @ w["recurrent_kernel"]
    reset, update = _sigmoid(gates[t, :4] + own[:4]), _sigmoid(gates[t, 4:8] + own[4:8])
    new = np.tanh(gates[t, 8:] + reset * (own[8:] + w["recurrent_bias"]))
    hidden = (1 - update) * new + update * hidden
    expected.append(hidden)
  np.testing.assert_allclose(second["gru"], expected, **CLOSE)


@pytest.mark.parametrize("kind", (layers.LSTM, layers.GRU))
def test_a_partially_unrolled_scan_equals_a_plain_scan(kind, as_if_on):
  """On a GPU several steps are written out at once. Twenty steps are not a multiple of their number."""
  x, is_first, key = _random(20, 3), np.arange(20) % 7 == 3, jax.random.key(0)
  layer = kind("core", ("x",), 4)
  params = layer.init(key, (3,))

  def output(params):
    unroll = jax.vmap(
      lambda x, is_first: layer.unroll(params, x, terms=(), state=layer.initial_state(), is_first=is_first)
    )
    seen, state = unroll(jnp.asarray(x)[None], jnp.asarray(is_first)[None])
    return jnp.sum(jnp.sin(seen)), (seen, state)

  outcomes = []
  for backend in ("cpu", "gpu"):
    as_if_on(backend)
    outcomes.append(jax.value_and_grad(output, has_aux=True)(params))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), *outcomes)


@pytest.mark.parametrize("kind", (layers.LSTM, layers.GRU))
@pytest.mark.parametrize("batch", ((), (3,), (2, 3)))
def test_gradients_over_time_equal_those_of_steps_one_after_the_other(kind, batch):
  layer = kind("core", ("x",), 4)
  spec = network.Network((_column(layer),))
  params = _noisy(network.init(jax.random.key(0), spec))
  x, is_first = jnp.asarray(_random(NUM_STEPS, *batch, 3)), _random(NUM_STEPS, *batch, seed=1) > 0.5
  state = jax.tree.map(lambda s: jnp.asarray(_random(*s.shape, seed=2)), network.initial_state(spec, batch_shape=batch))

  def ours(params, x, state):
    activations, last = network.apply(params, spec, inputs={"x": x}, state=state, is_first=jnp.asarray(is_first))
    return jnp.sum(jnp.sin(activations[0]["core"])) + sum(jnp.sum(jnp.cos(s)) for s in jax.tree.leaves(last))

  def one_by_one(params, x, state):
    own, total, state = params[0]["core"], 0.0, state[0]["core"]

    def step(state, x):
      gates = x @ own["input_kernel"] + own["bias"]
      return layer.step(own, state, gates, layer.hidden(state) @ own["recurrent_kernel"])

    for _ in batch:
      step = jax.vmap(step)
    for t in range(NUM_STEPS):
      first = is_first[t].reshape(*batch, 1)
      state = jax.tree.map(lambda s, first=first: jnp.where(first, jnp.zeros_like(s), s), state)
      state, activations = step(state, x[t])
      total += jnp.sum(jnp.sin(activations))
    return total + sum(jnp.sum(jnp.cos(s)) for s in jax.tree.leaves(state))

  actual, expected = (jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(params, x, state) for f in (ours, one_by_one))
  assert np.any(expected[1][0][0]["core"]["recurrent_kernel"])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected)


@pytest.mark.parametrize("kind", (layers.LSTM, layers.GRU))
def test_the_recurrent_kernels_gradient_is_not_added_up_step_by_step(kind):
  spec = network.Network((_column(kind("core", ("x",), 4)),))
  params, x = network.init(jax.random.key(0), spec), jnp.zeros((NUM_STEPS, 5, 3))
  state = network.initial_state(spec, batch_shape=(5,))
  of = jax.grad(lambda params: jnp.sum(network.apply(params, spec, inputs={"x": x}, state=state)[0][0]["core"]))
  scans = [one for one in jax.make_jaxpr(of)(params).eqns if one.primitive.name == "scan"]
  assert len(scans) == 2  # Forward and backward.
  kernel = params[0]["core"]["recurrent_kernel"].shape
  assert kernel not in [out.aval.shape for scan in scans for out in scan.outvars]


def test_a_state_without_gradients_is_refused():
  class Counting(layers.GRU):
    def initial_state(self):
      return jnp.zeros((self.size,), jnp.int32)

  with pytest.raises(ValueError, match="Layer 'core': its state is int32"):
    _column(Counting("core", ("x",), 4))


def test_recurrent_layers_read_each_others_kind():
  lstm, gru = (_column(layers.Dense("fc", ("x",), 5), kind("core", ("fc",), 4)) for kind in (layers.LSTM, layers.GRU))
  into = dict(wiring.connections((lstm, gru))[1])
  assert [c.source for c in into["core"]] == [(0, "fc"), (0, "core")]


# Normalisation.


@pytest.mark.parametrize("shape", ((5,), (2, 3, 5)))
def test_layer_norm_equals_flax(shape):
  x = 3.0 + _random(NUM_STEPS, *shape)
  actual, params = _alone(layers.LayerNorm("norm", ("x",), activation="tanh"), x, shape)
  assert actual.shape == x.shape
  np.testing.assert_allclose(
    actual, np.tanh(nn.LayerNorm(use_fast_variance=False).apply({"params": params}, x)), rtol=1e-4, atol=1e-5
  )


def test_a_network_grows_over_normalised_columns():
  chain = (
    layers.Dense("fc", ("x",), 5, activation=None),
    layers.LayerNorm("norm", ("fc",)),
    layers.Dense("fc2", ("norm",), 4),
  )
  spec = network.Network((_column(*chain),) * 2)
  into = dict(wiring.connections(spec.columns)[1])
  assert {name: [c.source for c in read] for name, read in into.items() if read} == {
    "fc2": [(0, "norm")],
    "output": [(0, "fc2")],
  }
  report = cost.report(spec)[0]
  assert [layer.num_parameters for layer in report.layers] == [3 * 5 + 5, 5 + 5, 5 * 4 + 4, 4 * 2 + 2]
  assert [layer.flops for layer in report.layers] == [2 * 3 * 5, 0, 2 * 5 * 4, 2 * 4 * 2]


# Activations.


@pytest.mark.parametrize(
  "activation,name,function",
  (
    ("softplus", "softplus", lambda x: np.log1p(np.exp(x))),
    (jax.nn.sigmoid, "sigmoid", _sigmoid),
    (jnp.sin, "jax.numpy:sin", np.sin),
    (own_layers.cube, "tests.progressive.own_layers:cube", lambda x: x**3),
    ("tests.progressive.own_layers:cube", "tests.progressive.own_layers:cube", lambda x: x**3),
  ),
)
def test_any_activation_by_name_or_itself(activation, name, function):
  layer = layers.Dense("fc", ("x",), 5, activation=activation)
  assert layer.activation == name
  x = _random(NUM_STEPS, 3)
  actual, w = _alone(layer, x)
  np.testing.assert_allclose(actual, function(x @ w["kernel"] + w["bias"]), rtol=1e-4, atol=1e-5)
  assert layers.from_json(json.loads(json.dumps(layers.to_json(layer)))) == layer


def test_an_activation_that_could_not_be_saved_is_refused():
  with pytest.raises(ValueError, match="lambda.* cannot be saved by its name; define it at the top of a module"):
    layers.Dense("fc", ("x",), 5, activation=lambda x: x)


def test_a_function_that_is_defined_anew_is_the_new_one(monkeypatch):
  layer = layers.Dense("fc", ("x",), 5, activation=own_layers.cube)
  x = _random(NUM_STEPS, 3)
  before, _ = _alone(layer, x)
  monkeypatch.setattr(own_layers, "cube", lambda x: 2.0 * x**3)
  np.testing.assert_allclose(_alone(layer, x)[0], 2.0 * before, rtol=1e-6)


def test_what_the_program_itself_defines_is_not_saved(monkeypatch):
  monkeypatch.setattr(sys.modules["__main__"], "cube", own_layers.cube, raising=False)
  with pytest.raises(ValueError, match="__main__:cube is defined in the program itself.*; move it into a module"):
    layers.to_json(layers.Dense("fc", ("x",), 5, activation="__main__:cube"))


# Modules of flax.


class Perceptron(nn.Module):
  sizes: tuple[int, ...]

  @nn.compact
  def __call__(self, x):
    for size in self.sizes[:-1]:
      x = nn.tanh(nn.Dense(size)(x))
    return nn.Dense(self.sizes[-1])(x)


def _perceptron(w, x):
  hidden = np.tanh(x @ w["Dense_0"]["kernel"] + w["Dense_0"]["bias"])
  return hidden @ w["Dense_1"]["kernel"] + w["Dense_1"]["bias"]


def test_a_flax_module_equals_numpy():
  x = _random(NUM_STEPS, 3)
  actual, w = _alone(layers.Flax("body", ("x",), Perceptron((4, 5))), x)
  np.testing.assert_allclose(actual, _perceptron(w["module"], x), **CLOSE)


def test_a_flax_module_on_maps_equals_flax_and_two_inputs_are_joined():
  x = _random(NUM_STEPS, 4, 4, 2)
  actual, w = _alone(layers.Flax("body", ("x",), nn.Conv(3, (3, 3)), activation="relu", laterals=None), x, (4, 4, 2))
  np.testing.assert_allclose(actual, np.maximum(nn.Conv(3, (3, 3)).apply({"params": w["module"]}, x), 0), **CLOSE)
  spec = column.Column(
    (("image", (2, 2, 3)), ("x", (4,))), (layers.Flax("body", ("image", "x"), nn.Dense(5)), _output("body"))
  )
  assert column.input_shape(spec, spec.layer("body")) == (16,)


def test_laterals_into_a_flax_module_add_to_what_it_gives_before_the_activation():
  body = layers.Flax("body", ("fc",), Perceptron((4, 6)), activation="relu", laterals="linear")
  spec = network.Network((_column(layers.Dense("fc", ("x",), 5), body),) * 2)
  params, x = _noisy(network.init(jax.random.key(0), spec)), _random(NUM_STEPS, 3)
  first, second = jax.tree.map(np.asarray, _run(spec, params, x))
  w = jax.tree.map(np.asarray, params[1]["body"])
  before = _perceptron(w["module"], second["fc"]) + first["fc"] @ w["laterals"]["column_0"]["fc"]["U"]
  np.testing.assert_allclose(second["body"], np.maximum(before, 0), **CLOSE)
  assert (before < -0.1).any()
  report = dict((layer.name, layer) for layer in cost.report(spec)[1].layers)["body"]
  assert report.num_parameters == (5 * 4 + 4) + (4 * 6 + 6) and report.laterals[0].num_parameters == 5 * 6
  assert report.flops >= 2 * (5 * 4 + 4 * 6)


class Reversed(nn.Module):
  @nn.compact
  def __call__(self, x):
    return x[:, ::-1]


def test_a_flax_module_without_arithmetic_costs_nothing():
  spec = network.Network((_column(layers.Flax("body", ("x",), Reversed())),))
  assert dict((layer.name, layer.flops) for layer in cost.report(spec)[0].layers)["body"] == 0


class Noisy(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dropout(0.5, deterministic=False)(x)


class Statistics(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.BatchNorm(use_running_average=True)(x)


@pytest.mark.parametrize(
  "module,message",
  (
    (Noisy(), "'body': its module cannot read .3,.: Dropout_0 needs PRNG"),
    (Statistics(), r"'body': its module keeps \['batch_stats', 'params'\]; a layer has 'params' alone"),
    (nn.Sequential([nn.Dense(3)]), "'body': its module cannot be hashed; give its fields as tuples"),
    (nn.RNN(nn.LSTMCell(3), return_carry=True), "'body': its module makes tuple, not one array"),
    (nn.DenseGeneral((2, 3)), r"'body': its module makes \(2, 2, 3\) of \(2, 3\), not \[N, D\] or \[N, H, W, C\]"),
  ),
)
def test_flax_modules_that_are_no_layers_are_refused(module, message):
  with pytest.raises(ValueError, match=message):
    _column(layers.Flax("body", ("x",), module))


def test_laterals_into_a_flax_modules_maps_are_refused():
  conv = layers.Conv("conv", ("x",), 3, 2, 1)
  made = _column(conv, layers.Flax("body", ("conv",), nn.Conv(3, (3, 3))), shape=(4, 4, 2))
  with pytest.raises(ValueError, match=r"Column 1, layer 'body' cannot read 'conv' \(3, 3, 3\) .*laterals=None"):
    network.Network((made, made))
  without = _column(conv, layers.Flax("body", ("conv",), nn.Conv(3, (3, 3)), laterals=None), shape=(4, 4, 2))
  network.Network((without, without))


# A user's own layer, and all layers grown over and saved.


def test_an_own_layer_equals_numpy_with_its_laterals():
  spec = network.Network((_column(layers.Dense("fc", ("x",), 5), own_layers.Highway("high", ("fc",), 0.5)),) * 2)
  params, x = _noisy(network.init(jax.random.key(0), spec)), _random(NUM_STEPS, 3)
  first, second = jax.tree.map(np.asarray, _run(spec, params, x))
  w = jax.tree.map(np.asarray, params[1]["high"])
  adapter = w["laterals"]["column_0"]["fc"]
  term = np.maximum((adapter["alpha"] * first["fc"]) @ adapter["V"] + adapter["b"], 0) @ adapter["U"]
  expected = w["gate"] * second["fc"] + (1 - w["gate"]) * (second["fc"] @ w["kernel"] + term)
  np.testing.assert_allclose(second["high"], expected, **CLOSE)


def _everything():
  return _column(
    layers.Dense("fc", ("x",), 5, activation=None),
    layers.LayerNorm("norm", ("fc",), activation="gelu"),
    layers.Flax("body", ("norm",), Perceptron((4, 6)), activation=jnp.tanh),
    layers.Flax("more", ("body",), nn.Sequential((nn.Dense(5, kernel_init=nn.initializers.ones), nn.relu)), sources=()),
    own_layers.Highway("high", ("more",), 0.5),
    layers.GRU("gru", ("high",), 4),
    layers.LSTM("lstm", ("gru",), 3),
  )


@dataclasses.dataclass(frozen=True)
class _Mean(layers.Layer):
  """A user's correct layer. Each class below gets one thing wrong."""

  def shape(self, read):
    return (1,)

  def init(self, key, read):
    return {}

  def apply(self, params, x, *, terms):
    return x.mean(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class _Wider(_Mean):
  def apply(self, params, x, *, terms):
    return x


@dataclasses.dataclass(frozen=True)
class _Deaf(_Mean):
  def apply(self, params, x):
    return x.mean(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class _Mute(layers.Layer):
  pass


@dataclasses.dataclass(frozen=True)
class _Doubling(own_layers.Minimal):
  def step(self, params, state, gates, recurrent):
    state = jnp.concatenate([gates, recurrent])
    return state, state


@dataclasses.dataclass(frozen=True)
class _Halving(own_layers.Minimal):
  def step(self, params, state, gates, recurrent):
    return state, state[:2]


@dataclasses.dataclass(frozen=True)
class _Stepless(layers.Recurrent):
  num_gates = 1
  initial_state, hidden = own_layers.Minimal.initial_state, own_layers.Minimal.hidden


@dataclasses.dataclass(frozen=True)
class _Gateless(layers.Recurrent):
  initial_state = own_layers.Minimal.initial_state


@dataclasses.dataclass(frozen=True)
class _Stateless(layers.Recurrent):
  num_gates = 1


@pytest.mark.parametrize(
  ("kind", "error", "message"),
  [
    (_Doubling, ValueError, r"'own': step\(params, state, gates, recurrent\) fails for x \(2, 3\): .*carry"),
    (_Halving, ValueError, r"Layer 'own': step gives \(2, 2\) for x \(2, 3\), and shape says \(4,\) a step"),
    (_Stepless, NotImplementedError, r"_Stepless says no step\(params, state, gates, recurrent\)"),
    (_Gateless, NotImplementedError, "_Gateless says no num_gates, or no initial_state"),
    (_Stateless, NotImplementedError, "_Stateless says no num_gates, or no initial_state"),
    (_Wider, ValueError, r"Layer 'own': apply gives \(2, 3\) for x \(2, 3\), and shape says \(1,\) a step"),
    (
      _Deaf,
      ValueError,
      r"Layer 'own': apply\(params, x, terms=\(\)\) fails for x \(2, 3\): .*unexpected keyword .*'terms'",
    ),
    (_Mute, NotImplementedError, r"_Mute says no shape\(read\)"),
  ],
)
def test_an_own_layer_that_contradicts_itself_is_refused_where_its_column_is_made(kind, error, message):
  output = layers.Dense("output", ("own",), 2, activation=None)
  column.Column((("x", (3,)),), (_Mean("own", ("x",)), output))
  with pytest.raises(error, match=message):
    sizes = (4,) if issubclass(kind, layers.Recurrent) else ()
    column.Column((("x", (3,)),), (kind("own", ("x",), *sizes), output))


def test_an_own_memory_equals_numpy_with_its_laterals():
  spec = network.Network((_column(layers.Dense("fc", ("x",), 5), own_layers.Minimal("memory", ("fc",), 4)),) * 2)
  params, x = _noisy(network.init(jax.random.key(0), spec)), _random(NUM_STEPS, 3)
  first, second = jax.tree.map(np.asarray, _run(spec, params, x))
  w = jax.tree.map(np.asarray, params[1]["memory"])
  laterals = w["laterals"]["column_0"]
  assert laterals.keys() == {"fc", "memory"}  # The layer below, and the memory itself (`wiring`).
  term = sum(first[name] @ laterals[name]["U"] for name in laterals)
  state = np.zeros(4, np.float32)
  for t in range(NUM_STEPS):
    state = np.zeros(4, np.float32) if IS_FIRST[t] else state
    gates = second["fc"][t] @ w["input_kernel"] + w["bias"] + term[t] + state @ w["recurrent_kernel"]
    state = np.tanh(gates)
    np.testing.assert_allclose(second["memory"][t], state, **CLOSE)


def test_a_grown_column_of_all_layers_starts_as_the_previous_one():
  spec = network.Network((_everything(),))
  params, x = _noisy(network.init(jax.random.key(0), spec)), _random(NUM_STEPS, 3)
  before = _run(spec, params, x)[0]
  grown_spec = network.Network((_everything(),) * 2)
  grown = network.grow(jax.random.key(1), params, spec=grown_spec)
  first, second = _run(grown_spec, grown, x)
  jax.tree.map(np.testing.assert_array_equal, first, before)
  np.testing.assert_array_equal(second["output"], before["output"])
  assert jnp.abs(before["output"]).max() > 0.1


def test_any_layer_survives_the_networks_file(tmp_path):
  spec = network.Network((_everything(),) * 2)
  network_file.write_spec(tmp_path, spec)
  text = (tmp_path / "network.json").read_text()
  assert '"type": "GRU"' in text and '"type": "tests.progressive.own_layers:Highway"' in text
  assert '"type": "flax.linen:Sequential"' in text and '"named": "jax.nn:relu"' in text
  read = network_file.read_spec(tmp_path)
  assert read == spec and hash(read) == hash(spec)
  params, x = network.init(jax.random.key(0), spec), _random(NUM_STEPS, 3)
  np.testing.assert_array_equal(_run(read, params, x)[-1]["output"], _run(spec, params, x)[-1]["output"])


@pytest.mark.parametrize(
  "fields,message",
  (
    ({"type": "no_such_module:Layer"}, "another package: 'no_such_module:Layer' cannot be imported .*on Python's path"),
    ({"type": "Denser"}, "'Denser' cannot be imported"),
    ({"type": "os:getcwd"}, "'os:getcwd' is no dataclass"),
    ({"type": "Dense", "depth": 3}, "depth"),
  ),
)
def test_a_layer_that_cannot_be_read_is_refused_with_the_file(tmp_path, fields, message):
  network_file.write_spec(tmp_path, network.Network((_everything(),)))
  file = tmp_path / "network.json"
  value = json.loads(file.read_text())
  value["columns"][0]["layers"][0] = fields
  file.write_text(json.dumps(value))
  with pytest.raises(ValueError, match=message) as error:
    network_file.read_spec(tmp_path)
  assert str(file) in str(error.value)
