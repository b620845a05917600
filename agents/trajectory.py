"""What an unroll hands to the learner, and which of its transitions count.

Transition t leads from `timesteps[t]` to `timesteps[t+1]`; its reward and discount are those of `timesteps[t+1]`.
Worlds restart by themselves (dm_env's convention), so one transition in each episode, LAST to FIRST, belongs to no
episode: it has weight 0. A return may bootstrap at LAST but never reach beyond it.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from environments import core
from progressive import network


@struct.dataclass
class Trajectory:
  """T steps of B worlds. Legend: `T` time, `B` worlds, `A` entries of an action."""

  timesteps: core.TimeStep  # Every leaf [T+1, B, ...]; the last one is where the next unroll begins.
  actions: jax.Array  # [T, B, A] int32
  behaviour_log_prob: jax.Array  # [T, B] float32: log-probability of each action when it was chosen.
  initial_state: Any  # Every leaf [B, ...]: the recurrent state before `timesteps[0]` was read.
  activations: network.Activations = ()  # [T+1, B, ...] each, of the parameters that learn from this; () if not kept.


def weights(step_type: jax.Array) -> jax.Array:
  """1 for transitions inside an episode, 0 for those from LAST to FIRST: `[T+1, ...]` int32 -> `[T, ...]` float32."""
  chex.assert_type(step_type, jnp.int32)
  return (step_type[:-1] != core.LAST).astype(jnp.float32)


def share(played: Any, index: jax.Array, num_shares: int, *, axis: int) -> Any:
  """One of `num_shares` equal shares of the worlds: every `num_shares`-th world from `index` on.

  Args:
    played: every leaf `[..., B, ...]`, with the worlds on `axis`.
    index: `[]`, which share.
    num_shares: a divisor of B.
    axis: 1 where time comes first.
  """

  def own(x: jax.Array) -> jax.Array:
    dealt = x.reshape(*x.shape[:axis], -1, num_shares, *x.shape[axis + 1 :])
    return jax.lax.dynamic_index_in_dim(dealt, index, axis + 1, keepdims=False)

  return jax.tree.map(own, played)


@struct.dataclass
class EpisodeProgress:
  """Reward and length so far of the episode that each world is in."""

  episode_return: jax.Array  # [B] float32
  episode_length: jax.Array  # [B] int32, in transitions


class EpisodeEnds(NamedTuple):
  """Which steps ended an episode, and its return and length; 0 elsewhere."""

  is_last: jax.Array  # [T, B] bool
  returns: jax.Array  # [T, B] float32
  lengths: jax.Array  # [T, B] int32


class EpisodeStatistics(NamedTuple):
  """Sums over the episodes that ended in an unroll: add up several of them, then divide by `num_episodes`."""

  num_episodes: jax.Array  # [] int32
  return_sum: jax.Array  # [] float32
  length_sum: jax.Array  # [] int32


def init_progress(num_worlds: int) -> EpisodeProgress:
  """Progress of `num_worlds` episodes that have just begun."""
  return EpisodeProgress(
    episode_return=jnp.zeros(num_worlds, jnp.float32), episode_length=jnp.zeros(num_worlds, jnp.int32)
  )


def track_episodes(progress: EpisodeProgress, timesteps: core.TimeStep) -> tuple[EpisodeProgress, EpisodeEnds]:
  """Follows episodes through an unroll `[T+1, B]`; `progress` is their progress at `timesteps[0]`.

  Returns the progress at `timesteps[T]`, and which of the steps 1 to T ended an episode.
  """
  chex.assert_rank([timesteps.step_type, timesteps.reward], 2)
  chex.assert_equal_shape([timesteps.step_type, timesteps.reward])

  def step(before: EpisodeProgress, inputs: tuple[jax.Array, jax.Array]) -> tuple[EpisodeProgress, EpisodeEnds]:
    step_type, reward = inputs
    is_first = step_type == core.FIRST
    is_last = step_type == core.LAST
    now = EpisodeProgress(
      episode_return=jnp.where(is_first, jnp.float32(0), before.episode_return + reward),
      episode_length=jnp.where(is_first, jnp.int32(0), before.episode_length + jnp.int32(1)),
    )
    return now, EpisodeEnds(
      is_last=is_last,
      returns=jnp.where(is_last, now.episode_return, 0.0),
      lengths=jnp.where(is_last, now.episode_length, 0),
    )

  return jax.lax.scan(step, progress, (timesteps.step_type[1:], timesteps.reward[1:]))


def statistics(ends: EpisodeEnds) -> EpisodeStatistics:
  """Sums over the episodes that ended in an unroll."""
  return EpisodeStatistics(
    num_episodes=jnp.sum(ends.is_last, dtype=jnp.int32),
    return_sum=jnp.sum(ends.returns),
    length_sum=jnp.sum(ends.lengths, dtype=jnp.int32),
  )
