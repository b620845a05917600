"""Worlds side by side: how often a world is traced. That they are the world alone is shown for each of ours."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp

from environments import batch
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
