import jax
import jax.numpy as jnp
import numpy as np
import pytest

from progressive import lateral, layers

NUM_STEPS = 3


def _connection(layer, source_shape, kind, width=2):
  return lateral.Connection(layer, (5, 5, 3), (0, "source"), source_shape, kind, width)


def _params_and_source(connection, alpha=0.1):
  params = lateral.init(jax.random.key(0), connection, alpha=alpha)
  if connection.kind == "adapter":
    params["b"] = params["b"] + 0.3
  rng = np.random.default_rng(0)
  return params, rng.normal(size=(NUM_STEPS, *connection.source_shape)).astype(np.float32)


def _adapted(params, h):
  w = jax.tree.map(np.asarray, params)
  return np.maximum((w["alpha"] * h) @ w["V"] + w["b"], 0)  # A 1x1 convolution is a product along the channels.


def test_dense_adapter_equals_numpy():
  connection = _connection(layers.Dense("fc", ("x",), 5), (6,), "adapter")
  params, h = _params_and_source(connection)
  expected = _adapted(params, h) @ np.asarray(params["U"])
  np.testing.assert_allclose(lateral.apply(params, connection, h=jnp.asarray(h)), expected, rtol=1e-5, atol=1e-6)
  assert {name: x.shape for name, x in params.items()} == {"alpha": (), "V": (6, 2), "b": (2,), "U": (2, 5)}


def test_conv_adapter_equals_numpy():
  connection = _connection(layers.Conv("conv", ("x",), 4, (2, 3), 2), (5, 5, 3), "adapter")
  params, h = _params_and_source(connection)
  projected, u = _adapted(params, h), np.asarray(params["U"])
  actual = lateral.apply(params, connection, h=jnp.asarray(h))
  assert actual.shape == (NUM_STEPS, 2, 2, 4) and u.shape == (2, 3, 2, 4)
  for i in range(2):
    for j in range(2):
      expected = np.tensordot(projected[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 3], u, 3)
      np.testing.assert_allclose(actual[:, i, j], expected, rtol=1e-4, atol=1e-5)


def test_map_into_dense_is_projected_then_flattened():
  connection = _connection(layers.Dense("fc", ("x",), 5), (2, 2, 3), "adapter")
  params, h = _params_and_source(connection)
  expected = _adapted(params, h).reshape(NUM_STEPS, 8) @ np.asarray(params["U"])
  np.testing.assert_allclose(lateral.apply(params, connection, h=jnp.asarray(h)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer,outputs", ((layers.Dense("fc", ("x",), 5), 5), (layers.LSTM("lstm", ("x",), 5), 20)))
def test_linear_is_one_product_without_bias(layer, outputs):
  connection = _connection(layer, (6,), "linear")
  params, h = _params_and_source(connection)
  assert list(params) == ["U"] and params["U"].shape == (6, outputs)
  np.testing.assert_allclose(
    lateral.apply(params, connection, h=jnp.asarray(h)), h @ np.asarray(params["U"]), rtol=1e-5, atol=1e-6
  )


def test_alpha_scales_the_source():
  connection = _connection(layers.Dense("fc", ("x",), 5), (6,), "adapter")
  params, h = _params_and_source(connection, alpha=0.1)
  unscaled = lateral.apply(dict(params, alpha=jnp.float32(1.0)), connection, h=jnp.asarray(0.1 * h))
  np.testing.assert_allclose(lateral.apply(params, connection, h=jnp.asarray(h)), unscaled, rtol=1e-4)


def test_laterals_into_the_output_start_small():
  receivers = {name: layers.Dense(name, ("x",), 50, activation=None) for name in ("fc", "output")}
  deviations = {
    name: np.std(lateral.init(jax.random.key(0), _connection(layer, (400,), "linear"), alpha=1.0)["U"])
    for name, layer in receivers.items()
  }
  np.testing.assert_allclose(deviations["fc"], 1 / np.sqrt(400), rtol=0.05)  # LeCun et al. 1998
  np.testing.assert_allclose(deviations["output"], 0.1 / np.sqrt(400), rtol=0.05)
