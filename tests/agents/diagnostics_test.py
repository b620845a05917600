import jax.numpy as jnp
import numpy as np
import pytest

from agents import diagnostics


def test_dead_and_silent_units_are_counted():
  rng = np.random.default_rng(0)
  x = np.maximum(rng.normal(size=(5, 4, 8)), 0.0).astype(np.float32)
  x[..., 0] = 0.0  # Dead.
  x[..., 1] = 3.0  # Fires, and says nothing.
  x[..., 2] = 3.0 + 1e-3 * rng.normal(size=(5, 4))
  maps = np.maximum(rng.normal(size=(5, 4, 3, 3, 2)), 0.0).astype(np.float32)
  maps[..., 1] = 0.0
  shares = diagnostics.of_units({"dense1": jnp.asarray(x), "conv1": jnp.asarray(maps)})
  expected = {"dead/dense1": 1 / 8, "silent/dense1": 3 / 8, "dead/conv1": 1 / 2, "silent/conv1": 1 / 2}
  assert {name: float(share) for name, share in shares.items()} == expected


def test_a_layer_without_a_live_unit_is_all_dead_and_silent():
  assert {float(share) for share in diagnostics.of_units({"dense1": jnp.zeros((3, 2, 4))}).values()} == {1.0}


def test_information_of_a_policy_that_looks_and_of_one_that_does_not():
  sees = jnp.array([[[[30.0, 0.0]]], [[[0.0, 30.0]]]])  # [T, B, A, N]: what is seen decides the action.
  blind = jnp.broadcast_to(jnp.array([1.0, -1.0]), (2, 1, 1, 2))
  ones = jnp.ones((2, 1))
  assert float(diagnostics.information(sees, ones)) == pytest.approx(np.log(2), abs=1e-5)
  assert float(diagnostics.information(blind, ones)) == pytest.approx(0.0, abs=1e-6)
  assert float(diagnostics.information(sees, jnp.array([[1.0], [0.0]]))) == pytest.approx(0.0, abs=1e-5)


def test_information_by_hand_with_weights_two_entries_and_choices_that_are_impossible():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(4, 3, 2, 3)).astype(np.float32)
  logits[:, :, 0, 2] = -1e9
  weights = rng.integers(0, 2, size=(4, 3)).astype(np.float32)
  p = np.exp(logits - logits.max(axis=-1, keepdims=True))
  p /= p.sum(axis=-1, keepdims=True)
  own = p[weights > 0]

  def entropy(p):
    return -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0.0), axis=(-2, -1))

  expected = entropy(own.mean(axis=0)) - entropy(own).mean()
  assert float(diagnostics.information(jnp.asarray(logits), jnp.asarray(weights))) == pytest.approx(expected, abs=1e-5)


def test_steps_are_relative_to_their_layer_and_frozen_columns_have_none():
  before = ({"fc": {"kernel": None}}, {"fc": {"kernel": jnp.full((2, 2), 3.0)}, "output": {"bias": jnp.zeros(1)}})
  after = ({"fc": {"kernel": None}}, {"fc": {"kernel": jnp.full((2, 2), 3.3)}, "output": {"bias": jnp.ones(1)}})
  steps = diagnostics.of_step(before, after)
  assert set(steps) == {"step/fc", "step/output"}
  assert float(steps["step/fc"]) == pytest.approx(0.1, rel=1e-5)


def test_steps_of_layers_of_one_name_are_of_all_columns_that_learn():
  """The norm sqrt(3^2 + 4^2) moves by sqrt(0.3^2 + 0.4^2), and then the first column moves alone."""
  before = ({"fc": {"bias": jnp.array([3.0])}}, {"fc": {"bias": jnp.array([4.0])}})
  both = ({"fc": {"bias": jnp.array([3.3])}}, {"fc": {"bias": jnp.array([4.4])}})
  assert float(diagnostics.of_step(before, both)["step/fc"]) == pytest.approx(0.1, rel=1e-5)
  assert float(diagnostics.of_step(before, (both[0], before[1]))["step/fc"]) == pytest.approx(0.06, rel=1e-5)
