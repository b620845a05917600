import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import evaluation
from environments import batch as batch_lib
from environments import dm_env_adapter
from tests.agents import agents_for_tests, worlds


@dataclasses.dataclass(frozen=True)
class UnevenChain(worlds.Chain):
  """An episode lasts 1 step or 4, as the random cue decides. Each step gives a point."""

  def observe(self, state):
    return super().observe(state.replace(time=jnp.where((state.cue == 0) & (state.time == 1), 4, state.time)))


def test_short_episodes_do_not_crowd_out_long_ones():
  world = UnevenChain()
  agent, trainable, frozen = agents_for_tests.make(world, memory=True)
  batch = batch_lib.Batch(world, 300, ("signal",))
  episodes = evaluation.evaluate(agent, trainable, frozen, batch, jax.random.key(0))
  assert episodes.returns.shape == episodes.lengths.shape == (300,)
  np.testing.assert_array_equal(np.unique(episodes.returns), [1.0, 4.0])
  np.testing.assert_array_equal(episodes.returns, episodes.lengths)
  # Mean of 300 fair tosses of 1 or 4: 2.5, standard error 0.087. Weighted by transitions it would be 3.4.
  assert abs(episodes.returns.mean() - 2.5) < 0.35


def test_an_endless_episode_is_refused():
  agent, trainable, frozen = agents_for_tests.make(worlds.Chain())
  batch = batch_lib.Batch(worlds.Chain(), 2, ("signal",))
  with pytest.raises(ValueError, match="2 of 2 episodes did not end within 3 steps; let the world end it"):
    evaluation.evaluate(agent, trainable, frozen, batch, jax.random.key(0), max_steps=3)
  behind_dm_env = dm_env_adapter.DmEnv(worlds.Chain(), seed=0)
  play = functools.partial(evaluation.host_evaluate, agent, trainable, frozen, behind_dm_env, jax.random.key(0))
  with pytest.raises(ValueError, match="episode 1 did not end within 3 steps; let the world end it"):
    play(num_episodes=2, max_steps=3)
  assert play(num_episodes=2, max_steps=8).lengths.max() <= 8


def test_additions_change_the_policy_and_zeros_do_not():
  """An addition to the output decides the action; zeros leave every episode as it was, bitwise."""
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make_progressive(world)
  batch = batch_lib.Batch(world, 8, ("signal",))
  plain = evaluation.episode(agent, trainable, frozen, batch, jax.random.key(0))

  def push(scales, step):
    del step
    return {(1, "output"): jnp.broadcast_to(scales, (8, 3)), (0, "hidden"): jnp.zeros((8, 32), jnp.float32)}

  def play(scales):
    fn = jax.tree_util.Partial(push, scales)
    return evaluation.episode(agent, trainable, frozen, batch, jax.random.key(0), additions_fn=fn)

  lanes = jnp.array([[0.0, 0.0, 0.0], [1e6, 0.0, 0.0], [0.0, 1e6, 0.0]], jnp.float32)
  returns, lengths, is_over = jax.vmap(play)(lanes)
  jax.tree.map(lambda together, alone: np.testing.assert_array_equal(together[0], alone), (returns, lengths), plain[:2])
  assert is_over.all()
  # Every lane has the same eight cues, so always naming cue 0 is right where always naming cue 1 is wrong.
  np.testing.assert_array_equal(returns[1] + returns[2], np.ones(8))
  assert 0 < returns[1].sum() < 8
