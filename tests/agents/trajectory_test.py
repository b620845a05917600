import jax.numpy as jnp
import numpy as np

from agents import trajectory
from environments import core

FIRST, MID, LAST = core.FIRST, core.MID, core.LAST


def _timesteps(step_type, reward):
  step_type = jnp.array(step_type, jnp.int32)
  reward = jnp.array(reward, jnp.float32)
  return core.TimeStep(step_type, reward, jnp.ones_like(reward), observation={}, privileged={})


def test_only_the_transition_between_episodes_weighs_nothing():
  weights = trajectory.weights(jnp.array([[MID, LAST, FIRST, MID, LAST]], jnp.int32).T)
  np.testing.assert_array_equal(weights, np.array([[1, 0, 1, 1]], np.float32).T)


def test_shares_are_dealt_out_in_turn():
  rewards = jnp.asarray(10 * np.arange(4)[:, None] + np.arange(6), jnp.float32)  # [t, b] is 10 t + b.
  played = {"reward": rewards, "action": rewards[:3, :, None] + 0.5}
  second = trajectory.share(played, jnp.int32(1), 3, axis=1)
  np.testing.assert_array_equal(second["reward"], [[1, 4], [11, 14], [21, 24], [31, 34]])
  np.testing.assert_array_equal(second["action"][..., 0], [[1.5, 4.5], [11.5, 14.5], [21.5, 24.5]])
  start = jnp.arange(12.0).reshape(6, 2)
  np.testing.assert_array_equal(trajectory.share(start, jnp.int32(1), 3, axis=0), [[2, 3], [8, 9]])


def test_episodes_are_followed_across_unrolls():
  # World 0: an episode of 3 transitions ends in the second unroll; world 1: one of 2, then one of 1.
  step_type = np.array([[FIRST, MID, MID, LAST, FIRST], [FIRST, MID, LAST, FIRST, LAST]]).T
  reward = np.array([[0, 1, 2, 4, 0], [0, 8, 16, 0, 32]]).T
  progress = trajectory.init_progress(2)
  progress, ends = trajectory.track_episodes(progress, _timesteps(step_type[:3], reward[:3]))
  first = trajectory.statistics(ends)
  assert (int(first.num_episodes), float(first.return_sum), int(first.length_sum)) == (1, 24.0, 2)
  np.testing.assert_array_equal(np.argwhere(ends.is_last), [[1, 1]])
  assert (float(ends.returns[1, 1]), int(ends.lengths[1, 1])) == (24.0, 2)
  progress, ends = trajectory.track_episodes(progress, _timesteps(step_type[2:], reward[2:]))
  second = trajectory.statistics(ends)
  assert (int(second.num_episodes), float(second.return_sum), int(second.length_sum)) == (2, 7.0 + 32.0, 3 + 1)
  np.testing.assert_array_equal(progress.episode_return, [0, 32])
