import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import evaluation
from environments import batch as batch_lib
from tests.agents import agents_for_tests, worlds


@dataclasses.dataclass(frozen=True)
class UnevenChain(worlds.Chain):
  """Lasts 1 step or 4, by the toss of the cue; a point a step."""

  def observe(self, state):
    return super().observe(state.replace(time=jnp.where((state.cue == 0) & (state.time == 1), 4, state.time)))


def test_short_episodes_do_not_crowd_out_long_ones():
  world = UnevenChain()
  agent, trainable, frozen = agents_for_tests.make(world, memory=True)
  batch = batch_lib.Batch(world, 100, ("signal",))
  episodes = evaluation.evaluate(agent, trainable, frozen, batch, jax.random.key(0), episodes_per_world=3)
  assert episodes.returns.shape == episodes.lengths.shape == (300,)
  np.testing.assert_array_equal(np.unique(episodes.returns), [1.0, 4.0])
  np.testing.assert_array_equal(episodes.returns, episodes.lengths)
  # Mean of 300 fair tosses of 1 or 4: 2.5, standard error 0.087. By transitions it would be 3.4.
  assert abs(episodes.returns.mean() - 2.5) < 0.35


def test_an_endless_episode_is_refused():
  agent, trainable, frozen = agents_for_tests.make(worlds.Chain())
  batch = batch_lib.Batch(worlds.Chain(), 2, ("signal",))
  with pytest.raises(ValueError, match="2 of 2 episodes did not end within max_steps=3"):
    evaluation.evaluate(agent, trainable, frozen, batch, jax.random.key(0), max_steps=3)
