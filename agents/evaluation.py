"""How good an agent is: returns of whole episodes.

Every world plays the same number of episodes, and all of them count. Averaging whatever episodes end within a
number of steps would favour the short ones, which on an arm are the crashes.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, unroll
from environments import batch as batch_lib
from environments import core

# Step [] int32 from 0 -> what is added to activations at that step, each [B, ...]: noise, to see what depends on them.
AdditionsFn = Callable[[jax.Array], actor_critic.Additions]


MAX_STEPS = 100_000  # Per episode; without a limit, a world that never ends would be played for ever.
_NO_END = "did not end within {:,} steps; let the world end it, or set train.evaluation_episodes=0"


class Episodes(NamedTuple):
  """N finished episodes."""

  returns: np.ndarray  # [N] float32, undiscounted sums of rewards.
  lengths: np.ndarray  # [N] int32, in transitions.


class _Playing(NamedTuple):
  """Episodes that are being played, one in each of B worlds."""

  batch_state: batch_lib.BatchState
  recurrent_state: actor_critic.RecurrentState  # Every leaf [B, ...].
  returns: jax.Array  # [B] float32, so far.
  lengths: jax.Array  # [B] int32, so far.
  is_over: jax.Array  # [B] bool
  num_steps: jax.Array  # [] int32, of the longest episode.


def evaluate(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  batch: batch_lib.Batch,
  key: jax.Array,
  *,
  greedy: bool = False,
  max_steps: int = MAX_STEPS,
) -> Episodes:
  """Plays an episode in each world of a batch.

  Raises:
    ValueError: if an episode has not ended after `max_steps` steps.
  """
  (episode_key,) = jax.random.split(key, 1)  # The random numbers with which published returns were measured.
  returns, lengths, is_over = episode(agent, trainable, frozen, batch, episode_key, greedy, max_steps)
  if not is_over.all():
    raise ValueError(f"{int((~is_over).sum())} of {batch.num_worlds} episodes {_NO_END.format(max_steps)}")
  return Episodes(np.asarray(returns), np.asarray(lengths))


def host_evaluate(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  environment: dm_env.Environment,
  key: jax.Array,
  *,
  num_episodes: int,
  greedy: bool = False,
  max_steps: int = MAX_STEPS,
  on_end: Callable[[int, float], None] = lambda episode, episode_return: None,
) -> Episodes:
  """Plays `num_episodes` episodes in an environment behind `dm_env`, each from a reset.

  `on_end` receives the number, from 0, and the return of each episode as soon as it is over: an arm may fail in the
  next one.

  Raises:
    ValueError: if an episode has not ended after `max_steps` steps.
  """
  returns = np.zeros(num_episodes, np.float32)
  lengths = np.zeros(num_episodes, np.int32)
  for episode, episode_key in enumerate(jax.random.split(key, num_episodes)):
    timestep = unroll.host_init(agent, [environment])
    state = actor_critic.initial_state(agent, 1)
    while timestep.step_type[0] != core.LAST:
      step_key = jax.random.fold_in(episode_key, lengths[episode])
      timestep, state, _ = unroll.host_unroll(
        agent, trainable, frozen, [environment], timestep, state, step_key, 1, greedy
      )
      returns[episode] += timestep.reward[0]
      lengths[episode] += 1
      if lengths[episode] == max_steps and timestep.step_type[0] != core.LAST:
        raise ValueError(f"episode {episode + 1} {_NO_END.format(max_steps)}")
    on_end(episode, float(returns[episode]))
  return Episodes(returns, lengths)


@functools.partial(jax.jit, static_argnames=("batch", "greedy", "max_steps"))
def episode(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  batch: batch_lib.Batch,
  key: jax.Array,
  greedy: bool = False,
  max_steps: int = MAX_STEPS,
  additions_fn: AdditionsFn | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Plays one episode in each world until the last one ends: returns `[B]`, lengths `[B]`, whether each ended `[B]`.

  `additions_fn` is a pytree, such as a `jax.tree_util.Partial`. Its arrays are data, so other values need no other
  program. A `vmap` plays the same episodes (same starts, same random draws of actions) under many such values.
  """

  def step(now: _Playing) -> _Playing:
    act_key = jax.random.fold_in(action_key, now.num_steps)
    additions = None if additions_fn is None else additions_fn(now.num_steps)
    timestep = now.batch_state.timestep
    chosen = actor_critic.act(agent, trainable, frozen, now.recurrent_state, timestep, act_key, greedy, additions)
    batch_state = batch.step(now.batch_state, chosen.action)
    return _Playing(
      batch_state=batch_state,
      recurrent_state=chosen.recurrent_state,
      returns=now.returns + jnp.where(now.is_over, 0.0, batch_state.timestep.reward),
      lengths=now.lengths + (~now.is_over).astype(jnp.int32),
      is_over=now.is_over | (batch_state.timestep.step_type == core.LAST),
      num_steps=now.num_steps + 1,
    )

  world_key, action_key = jax.random.split(key)
  num_worlds = batch.num_worlds
  start = _Playing(
    batch_state=batch.init(world_key),
    recurrent_state=actor_critic.initial_state(agent, num_worlds),
    returns=jnp.zeros(num_worlds, jnp.float32),
    lengths=jnp.zeros(num_worlds, jnp.int32),
    is_over=jnp.zeros(num_worlds, bool),
    num_steps=jnp.int32(0),
  )
  end = jax.lax.while_loop(lambda now: ~now.is_over.all() & (now.num_steps < max_steps), step, start)
  return end.returns, end.lengths, end.is_over
