"""`standardise` starts a column from data: each layer is checked in numpy, and nothing else may change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import progressive as pn

COLUMN = pn.Column(
  inputs=(("pixels", (12, 12, 3)), ("joints", (5,))),
  layers=(
    pn.Conv("conv1", ("pixels",), 4, 4, 2),
    pn.Conv("conv2", ("conv1",), 6, 3, 1),
    pn.Dense("dense1", ("conv2", "joints"), 16),
    pn.LSTM("lstm1", ("dense1",), 8),
    pn.Dense("output", ("lstm1",), 3, activation=None, laterals="linear"),
  ),
)
FITTED = ("conv1", "conv2", "dense1")
apply = jax.jit(pn.apply, static_argnums=1)


@pytest.fixture(scope="module")
def data():
  rng = np.random.default_rng(0)
  static = rng.uniform(size=(1, 1, 12, 12, 3))  # Shared by all pictures.
  pixels = np.uint8(255 * np.clip(static + 0.05 * rng.normal(size=(7, 3, 12, 12, 3)), 0, 1))
  return {"pixels": jnp.asarray(pixels), "joints": jnp.asarray(rng.normal(size=(7, 3, 5)), jnp.float32)}


def grown(num_columns):
  spec = pn.Network((COLUMN,))
  params = pn.init(jax.random.key(0), spec)
  for k in range(1, num_columns):
    spec = pn.Network((*spec.columns, COLUMN))
    params = pn.grow(jax.random.key(k), params, spec=spec)
  return params, spec


def pre_activations(params, spec, data, layer):
  """The newest column's pre-activations of `layer`: a bias so large that all units fire undoes every ReLU."""
  last = dict(params[-1])
  last[layer] = {**last[layer], "bias": last[layer]["bias"] + 1e4}
  state = pn.initial_state(spec, batch_shape=(3,))
  x = apply((*params[:-1], last), spec, inputs=data, state=state)[0][-1][layer]
  return np.asarray(x, np.float64).reshape(-1, x.shape[-1]) - 1e4


@pytest.mark.parametrize("num_columns", [1, 2])
def test_units_have_mean_0_and_deviation_1(data, num_columns):
  params, spec = grown(num_columns)
  fitted = pn.standardise(params, spec, inputs=data, state=pn.initial_state(spec, batch_shape=(3,)))
  for layer in FITTED:
    before, after = (pre_activations(each, spec, data, layer) for each in (params, fitted))
    deviations = before.std(axis=0)
    assert not np.allclose(deviations, 1.0, atol=0.2)
    np.testing.assert_allclose(after.mean(axis=0), 0.0, atol=2e-2)
    np.testing.assert_allclose(after.std(axis=0), 1.0, atol=2e-2)


def test_frozen_columns_memory_and_output_stay_and_the_policy_with_them(data):
  params, spec = grown(2)
  state = pn.initial_state(spec, batch_shape=(3,))
  fitted = pn.standardise(params, spec, inputs=data, state=state)
  assert pn.content_hash(fitted[0]) == pn.content_hash(params[0])
  for layer in ("lstm1", "output"):
    assert pn.content_hash(fitted[1][layer]) == pn.content_hash(params[1][layer])
  assert {path[1] for path, a, b in zip(pn.paths(params), *map(jax.tree.leaves, (params, fitted)), strict=True)
          if not np.array_equal(a, b)} == set(FITTED)  # fmt: skip
  answers = [apply(each, spec, inputs=data, state=state)[0][-1]["output"] for each in (params, fitted)]
  np.testing.assert_array_equal(*answers)  # The column starts as exactly the old policy, also after the fit.


def test_no_examples_are_refused():
  layers = (pn.Dense("hidden", ("x",), 8), pn.Dense("output", ("hidden",), 2, activation=None))
  spec = pn.Network((pn.Column((("x", (4,)),), layers),))
  with pytest.raises(ValueError, match="standardise needs at least one example"):
    pn.standardise(pn.init(jax.random.key(0), spec), spec, inputs={"x": jnp.zeros((0, 4))})


def test_units_that_never_vary_are_not_blown_up():
  layers = (pn.Dense("hidden", ("x",), 8), pn.Dense("output", ("hidden",), 2, activation=None))
  spec = pn.Network((pn.Column((("x", (4,)),), layers),))
  params = pn.init(jax.random.key(0), spec)
  constant = pn.standardise(params, spec, inputs={"x": jnp.ones((6, 4))})
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(constant))
  np.testing.assert_array_equal(constant[0]["hidden"]["kernel"], params[0]["hidden"]["kernel"])
  x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
  kernel = params[0]["hidden"]["kernel"].at[:, 0].multiply(1e-6)
  first = ({**params[0], "hidden": {**params[0]["hidden"], "kernel": kernel}},)
  fitted = pn.standardise(first, spec, inputs={"x": jnp.asarray(x)})[0]["hidden"]["kernel"]
  deviations = (x @ np.asarray(kernel)).std(axis=0)
  np.testing.assert_allclose(fitted[:, 0], kernel[:, 0] / (0.1 * np.sqrt(np.mean(deviations**2))), rtol=1e-4)
