import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from progressive import column, layers
from tests.progressive import columns

NUM_STEPS = 6


def _dense(name="output", inputs=("x",), size=2, **kwargs):
  return layers.Dense(name, inputs, size, **({"activation": None, "laterals": "linear"} | kwargs))


def _apply(spec, params, inputs, state=None, is_first=None):
  is_first = jnp.zeros(NUM_STEPS, bool) if is_first is None else is_first
  state = column.initial_state(spec) if state is None else state
  return column.apply(params, spec, inputs=inputs, state=state, is_first=is_first, laterals={}, additions={}, known={})


def _lstm_column(size=4):
  return column.Column((("x", (3,)),), (layers.LSTM("lstm", ("x",), size), _dense(inputs=("lstm",))))


def _sequence(seed=1):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(NUM_STEPS, 3)), jnp.float32)


def test_lstm_equals_flax_optimized_cell():
  spec = _lstm_column()
  params = column.init(jax.random.key(0), spec)
  own = params["lstm"]
  cell = {}
  for index, gate in enumerate("ifgo"):
    part = slice(4 * index, 4 * index + 4)
    cell[f"i{gate}"] = {"kernel": own["input_kernel"][:, part]}
    cell[f"h{gate}"] = {"kernel": own["recurrent_kernel"][:, part], "bias": own["bias"][part]}
  carry, x = (jnp.zeros(4), jnp.zeros(4)), _sequence()
  expected = []
  for t in range(NUM_STEPS):
    carry, h = nn.OptimizedLSTMCell(4).apply({"params": cell}, carry, x[t])
    expected.append(h)
  activations, state = _apply(spec, params, {"x": x})
  np.testing.assert_allclose(activations["lstm"], jnp.stack(expected), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(state["lstm"].cell, carry[0], rtol=1e-5, atol=1e-6)


def test_lstm_starts_with_open_forget_gates_and_orthogonal_recurrence():
  own = column.init(jax.random.key(0), _lstm_column())["lstm"]
  np.testing.assert_array_equal(own["bias"], [0] * 4 + [1] * 4 + [0] * 8)
  for gate in np.split(np.asarray(own["recurrent_kernel"]), 4, axis=1):
    np.testing.assert_allclose(gate.T @ gate, np.eye(4), atol=1e-5)


def test_contrast_kernels_are_blind_to_brightness_and_four_times_as_large():
  image = ("image", (8, 8, 4))
  made = {}
  for how in ("lecun", "contrast"):
    conv = layers.Conv("conv1", ("image",), 64, 8, 4, kernel_init=how)
    spec = column.Column((image,), (conv, _dense(inputs=("conv1",))))
    made[how] = column.init(jax.random.key(0), spec)
    plain = {"image": jnp.broadcast_to(jnp.linspace(0.0, 1.0, NUM_STEPS)[:, None, None, None], (NUM_STEPS, 8, 8, 4))}
    seen = np.asarray(_apply(spec, made[how], plain)[0]["conv1"])
    assert (np.abs(seen) < 1e-5).all() == (how == "contrast")
  lecun, contrast = (np.asarray(made[how]["conv1"]["kernel"]) for how in ("lecun", "contrast"))
  np.testing.assert_allclose(contrast, 4 * (lecun - lecun.mean((0, 1, 2))), atol=1e-6)
  assert contrast.std() == pytest.approx(4 / np.sqrt(8 * 8 * 4), rel=0.05)
  with pytest.raises(ValueError, match="kernel_init='ones'"):
    column.Column((image,), (layers.Conv("conv1", ("image",), 2, 8, 4, kernel_init="ones"), _dense()))


def test_layers_equal_numpy():
  spec = column.Column(
    (("image", (3, 3, 2)), ("x", (3,))),
    (
      layers.Conv("conv", ("image",), 4, 2, 1),
      layers.Dense("fc", ("conv", "x"), 5),
      _dense(inputs=("fc", "x")),
    ),
  )
  params = jax.tree.map(lambda a: a + 0.1, column.init(jax.random.key(0), spec))
  params["output"]["bias"] = jnp.array([-9.0, 0.1])
  rng = np.random.default_rng(0)
  image, x = rng.normal(size=(NUM_STEPS, 3, 3, 2)).astype(np.float32), np.asarray(_sequence())
  activations, _ = _apply(spec, params, {"image": jnp.asarray(image), "x": jnp.asarray(x)})
  w = jax.tree.map(np.asarray, params)
  conv = np.zeros((NUM_STEPS, 2, 2, 4))
  for i in range(2):
    for j in range(2):
      conv[:, i, j] = np.tensordot(image[:, i : i + 2, j : j + 2], w["conv"]["kernel"], 3) + w["conv"]["bias"]
  conv = np.maximum(conv, 0)
  fc = np.maximum(np.hstack([conv.reshape(NUM_STEPS, -1), x]) @ w["fc"]["kernel"] + w["fc"]["bias"], 0)
  output = np.hstack([fc, x]) @ w["output"]["kernel"] + w["output"]["bias"]
  np.testing.assert_allclose(activations["conv"], conv, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(activations["fc"], fc, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(activations["output"], output, rtol=1e-4, atol=1e-5)
  assert (output < 0).any(), "the output must be linear: below zero too"


def test_two_maps_join_along_channels():
  spec = column.Column(
    (("image", (4, 4, 2)),),
    (
      layers.Conv("a", ("image",), 3, 1, 1),
      layers.Conv("b", ("image", "a"), 2, 2, 2),
      _dense(inputs=("b",)),
    ),
  )
  assert column.input_shape(spec, spec.layer("b")) == (4, 4, 5)
  assert column.shapes(spec)["b"] == (2, 2, 2)


def test_stacked_lstms_unroll_as_step_by_step_and_reset_at_first_steps():
  spec = column.Column(
    (("x", (3,)),),
    (layers.LSTM("low", ("x",), 4), layers.LSTM("high", ("x", "low"), 3), _dense(inputs=("high",))),
  )
  params, x = column.init(jax.random.key(0), spec), _sequence()
  is_first = jnp.array([False, False, True, False, True, False])
  start = jax.tree.map(lambda s: s + 0.5, column.initial_state(spec))
  whole, last = _apply(spec, params, {"x": x}, start, is_first)
  state, steps = start, []
  for t in range(NUM_STEPS):
    if is_first[t]:
      state = column.initial_state(spec)
    activations, state = _apply(spec, params, {"x": x[t : t + 1]}, state, jnp.zeros(1, bool))
    steps.append(activations["output"])
  np.testing.assert_allclose(whole["output"], jnp.concatenate(steps), rtol=1e-5, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), dict(last), dict(state))
  unreset, _ = _apply(spec, params, {"x": x}, start)
  assert np.abs(unreset["output"][2] - whole["output"][2]).max() > 1e-3


def test_every_intermediate_layer_is_rectified():
  spec = columns.feed_forward()
  params = column.init(jax.random.key(0), spec)
  activations, _ = _apply(spec, params, {"pixels": jax.random.normal(jax.random.key(1), (NUM_STEPS, 12, 12, 3))})
  for name in ("conv1", "conv2", "fc"):
    assert activations[name].min() == 0 and activations[name].max() > 0


X = (("x", (3,)),)
IMAGE = (("image", (6, 6, 3)),)


@pytest.mark.parametrize(
  "inputs,chain,message",
  (
    (X, (_dense(inputs=("y",)),), r"'output' reads 'y', which is none of the inputs or earlier layers \['x'\]"),
    (X, (layers.Dense("output", ("x",), 2),), "last layer must be Dense"),
    (X, (), "last layer must be Dense"),
    (X, (layers.Dense("fc", ("x",), 2), _dense()), r"Nothing reads \['fc'\]"),
    (X, (layers.Dense("x", ("x",), 2), _dense()), r"\['x'\] are used twice"),
    (X, (_dense(inputs=("x", "x")),), r"'output' reads \('x', 'x'\): give each once"),
    (X, (_dense(size=0),), "'output': size=0 must be an int, at least 1"),
    (X, (_dense(size=4.5),), "'output': size=4.5 must be an int, at least 1"),
    (X, (_dense(size="4"),), "'output': size='4' must be an int, at least 1"),
    (X, (_dense(laterals="convolution"),), "laterals='convolution' is not one of"),
    (
      X,
      (layers.Dense("fc", ("x",), 2, activation="glue"), _dense(inputs=("fc",))),
      "activation='glue': jax.nn has no such function; nearest is glu",
    ),
    (
      X,
      (layers.Dense("fc", ("x",), 2, activation="glu"), _dense(inputs=("fc",))),
      "activation='glu': .* keep the shape",
    ),
    (X, (layers.Dense("fc", ("x",), 2, activation="one_hot"), _dense(inputs=("fc",))), "'one_hot': .* of one array"),
    (X, (layers.Dense("fc", "x", 2), _dense(inputs=("fc",))), "must be a tuple of at least one name"),
    ((("x", (2, 3)),), (_dense(),), r"Input 'x' has shape \(2, 3\)"),
    (
      X,
      (layers.Conv("conv", ("x",), 2, 2, 1), _dense(inputs=("conv",))),
      r"'conv' is a convolution and cannot read 'x' of shape \(3,\)",
    ),
    (
      IMAGE,
      (layers.Conv("conv", ("image",), 2, 8, 4), _dense(inputs=("conv",))),
      r"kernel \(8, 8\) does not fit into its input \(6, 6, 3\); use a kernel of at most \(6, 6\)",
    ),
    (
      IMAGE,
      (
        layers.Conv("a", ("image",), 2, 2, 2),
        layers.Conv("b", ("image", "a"), 2, 2, 2),
        _dense(inputs=("b",)),
      ),
      r"'b' cannot join 'image' \(6, 6, 3\) and 'a' \(3, 3, 2\)",
    ),
    (X, [_dense()], r"layers must be a tuple of layers, of one \(layer,\), not \[Dense"),
    (X, _dense(), "layers must be a tuple of layers, .* not Dense"),
    (X, ("output",), "layers must be a tuple of layers, .* not .'output',."),
    ({"x": (3,)}, (_dense(),), r"inputs must be \(\(name, shape\), ...\), .* not \{'x': \(3,\)\}"),
    (("x", (3,)), (_dense(),), r"inputs must be \(\(name, shape\), ...\), .* not \('x', \(3,\)\)"),
    ((("x", (3.0,)),), (_dense(),), r"Input 'x' has shape \(3.0,\); give .* ints of at least 1"),
    ((("x", (True,)),), (_dense(),), r"Input 'x' has shape \(True,\); give .* ints of at least 1"),
    (X, (layers.Dense("fc", ("x",), True), _dense(inputs=("fc",))), "'fc': size=True must be an int"),
    (((0, (3,)),), (_dense(inputs=(0,)),), r"Names \[0\] are no strings"),
    ((("x", 3),), (_dense(),), r"Input 'x' has shape 3; give \(D,\) or \(H, W, C\)"),
    (X, (_dense(inputs=["x"]),), r"Layer 'output': inputs=\['x'\] cannot be hashed .*; give tuples"),
    (IMAGE, (layers.Conv("c", ("image",), 2, (2, 2, 1), 1), _dense(inputs=("c",))), r"'c': kernel=\(2, 2, 1\) must be"),
    (IMAGE, (layers.Conv("c", ("image",), 2, 2.5, 1), _dense(inputs=("c",))), "'c': kernel=2.5 must be one int or"),
    (X, (layers.Dense("fc", ("x",), 2, activation=3), _dense(inputs=("fc",))), "'fc': activation=3 is no function"),
  ),
)
def test_wrong_columns_are_refused_by_name(inputs, chain, message):
  with pytest.raises(ValueError, match=message):
    column.Column(inputs, chain)


def test_fields_outside_comparison_may_be_unhashable():
  @dataclasses.dataclass(frozen=True)
  class Noted(layers.Dense):
    notes: dict = dataclasses.field(default_factory=dict, compare=False, kw_only=True)

  column.Column(X, (Noted("fc", ("x",), 2, notes={"a": 1}), _dense(inputs=("fc",))))
