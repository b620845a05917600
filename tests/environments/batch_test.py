"""Batches of worlds: how often a world is traced. Each world's own tests show that a batch equals the world alone."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import batch, dm_env_adapter
from tests.agents import worlds


def test_equal_worlds_are_traced_once_for_all_places_and_programs():
  counts = collections.Counter()

  def counted(method):
    def call(self, *arguments):
      counts[method] += 1
      return getattr(worlds.CueRecall, method)(self, *arguments)

    return call

  methods = {method: counted(method) for method in ("reset", "step", "observe")}
  world = dataclasses.dataclass(frozen=True)(type("Counted", (worlds.CueRecall,), methods))

  @functools.partial(jax.jit, static_argnames=("side_by_side", "num_steps"))
  def play(key, *, side_by_side, num_steps):
    state = side_by_side.init(key)
    for _ in range(num_steps):
      state = side_by_side.step(state, jnp.zeros((3, 1), jnp.int32))
    return state

  for num_steps in (1, 2):
    play(jax.random.key(0), side_by_side=batch.Batch(world(), 3, ("signal",)), num_steps=num_steps)
  assert counts == {"reset": 1, "step": 1, "observe": 1}


def in_batch(world):
  many = batch.Batch(world, 2, ("signal",))
  many.step(many.init(jax.random.key(0)), jnp.zeros((2, 1), jnp.int32))


def behind_dm_env(world):
  environment = dm_env_adapter.DmEnv(world, seed=0)
  environment.reset()
  environment.step(np.zeros(1, np.int32))


@dataclasses.dataclass(frozen=True)
class Weak(worlds.CueRecall):
  """Its first reward is a Python number to JAX."""

  def reset(self, key):
    return super().reset(key).replace(reward=jnp.asarray(0.0))


def test_a_weakly_typed_state_is_of_full_type():
  """Otherwise a program is compiled for what `reset` made, and again for what `step` made of it."""
  assert Weak().reset(jax.random.key(0)).reward.weak_type
  many = batch.Batch(Weak(), 2, ("signal",))
  state = many.init(jax.random.key(0))
  stepped = many.step(state, jnp.zeros((2, 1), jnp.int32))
  assert jax.typeof(state.worlds.reward) == jax.typeof(stepped.worlds.reward)
  assert not state.worlds.reward.weak_type


@pytest.mark.parametrize("play", [in_batch, behind_dm_env])
def test_a_world_is_computed_in_float32(play):
  """An H100's default is TF32, of 11 bits. Rotations in it move far pixels, and physics does not tolerate it."""
  seen = []

  def noted(method):
    def call(self, *arguments):
      seen.append((method, jax.config.jax_default_matmul_precision))
      return getattr(worlds.CueRecall, method)(self, *arguments)

    return call

  methods = {method: noted(method) for method in ("reset", "step", "observe")}
  play(dataclasses.dataclass(frozen=True)(type("Noted", (worlds.CueRecall,), methods))())
  assert set(seen) == {(method, "float32") for method in methods}
  assert jax.config.jax_default_matmul_precision is None
