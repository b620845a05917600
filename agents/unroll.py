"""Runs policy and worlds for T steps and records a trajectory.

Worlds in JAX and the policy run in one `lax.scan`; worlds behind `dm_env` are stepped by the host around the same
jitted `act`. Both follow dm_env's convention (the step after LAST ignores its action and shows FIRST), so both make
trajectories of the same form, and the same keys choose the same actions.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, trajectory
from environments import batch as batch_lib
from environments import core
from progressive import network, partition


class _Now(NamedTuple):
  """What is carried from step to step."""

  batch_state: batch_lib.BatchState
  recurrent_state: actor_critic.RecurrentState  # Every leaf [B, ...].


class _Seen(NamedTuple):
  """What a step leaves behind; every leaf is `[B, ...]`, or `[T, B, ...]` for all steps."""

  timestep: core.TimeStep
  action: jax.Array
  log_prob: jax.Array
  activations: network.Activations


@functools.partial(jax.jit, static_argnames=("batch", "num_steps", "greedy", "keeps_activations"))
def unroll(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  batch: batch_lib.Batch,
  batch_state: batch_lib.BatchState,
  recurrent_state: actor_critic.RecurrentState,
  key: jax.Array,
  num_steps: int,
  greedy: bool = False,
  keeps_activations: bool = False,
) -> tuple[batch_lib.BatchState, actor_critic.RecurrentState, trajectory.Trajectory]:
  """Plays `num_steps` steps in every world of a batch.

  Both states are those at the end of the last unroll, or `batch.init(key)` and `actor_critic.initial_state(agent, B)`.
  `greedy` plays the most probable actions. Returns both states after T steps, and a trajectory `[T+1, B, ...]`. With
  `keeps_activations` the trajectory keeps activations, for an update of exactly the parameters that played.
  """

  def step(now: _Now, step_key: jax.Array) -> tuple[_Now, _Seen]:
    timestep = now.batch_state.timestep
    chosen = actor_critic.act(agent, trainable, frozen, now.recurrent_state, timestep, step_key, greedy)
    after = _Now(batch.step(now.batch_state, chosen.action), chosen.recurrent_state)
    activations = chosen.activations if keeps_activations else ()
    return after, _Seen(timestep, chosen.action, chosen.log_prob, activations)

  end, seen = jax.lax.scan(step, _Now(batch_state, recurrent_state), jax.random.split(key, num_steps))
  last = jax.tree.map(lambda x: x[None], end.batch_state.timestep)
  timesteps, activations = _followed_by(seen.timestep, last), seen.activations
  if keeps_activations:
    params = partition.merge(trainable, frozen)
    activations = _followed_by(activations, actor_critic.apply(agent, params, last, end.recurrent_state)[0])
  played = trajectory.Trajectory(timesteps, seen.action, seen.log_prob, recurrent_state, activations)
  return end.batch_state, end.recurrent_state, played


def _followed_by(steps: Any, last: Any) -> Any:
  """Concatenates `[T, ...]` and `[1, ...]`."""
  return jax.tree.map(lambda *x: jnp.concatenate(x), steps, last)


def host_init(agent: actor_critic.Agent, environments: Sequence[dm_env.Environment]) -> core.TimeStep:
  """Starts an episode in each environment: the first timestep, every leaf `[B, ...]` numpy."""
  return _stack(agent, [environment.reset() for environment in environments])


def host_unroll(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  environments: Sequence[dm_env.Environment],
  timestep: core.TimeStep,
  recurrent_state: actor_critic.RecurrentState,
  key: jax.Array,
  num_steps: int,
  greedy: bool = False,
  keeps_activations: bool = False,
) -> tuple[core.TimeStep, actor_critic.RecurrentState, trajectory.Trajectory]:
  """`unroll` for B environments behind `dm_env`, one after the other.

  `timestep`, `[B, ...]`, is where the last unroll ended, or `host_init(agent, environments)`. Of the observations, only
  those that the network and its heads read are kept. Returns the last timestep, the recurrent state, and a trajectory
  of numpy arrays; only its activations stay on the device.
  """
  initial_state = recurrent_state
  timesteps, actions, log_probs, activations = [timestep], [], [], []
  for step_key in jax.random.split(key, num_steps):
    chosen = actor_critic.act(agent, trainable, frozen, recurrent_state, timestep, step_key, greedy)
    action, recurrent_state = np.asarray(chosen.action), chosen.recurrent_state
    timestep = _stack(agent, _step(environments, action))
    timesteps.append(timestep)
    actions.append(action)
    log_probs.append(np.asarray(chosen.log_prob))
    if keeps_activations:
      activations.append(chosen.activations)
  stacked = jax.tree.map(lambda *x: np.stack(x), *timesteps)
  if keeps_activations:
    activations.append(actor_critic.act(agent, trainable, frozen, recurrent_state, timestep, key, greedy).activations)
  kept = _stack_arrays(activations) if keeps_activations else ()
  recorded = trajectory.Trajectory(stacked, np.stack(actions), np.stack(log_probs), initial_state, kept)
  return timestep, recurrent_state, recorded


@jax.jit
def _stack_arrays(steps: Sequence[network.Activations]) -> network.Activations:
  """Stacks `[B, ...]` of each of T + 1 steps into `[T+1, B, ...]`."""
  return jax.tree.map(lambda *x: jnp.stack(x), *steps)


def _step(environments: Sequence[dm_env.Environment], actions: np.ndarray) -> list[dm_env.TimeStep]:
  """One step of each environment; if one of several raises, its error says which one it was."""
  timesteps = []
  for i, (environment, action) in enumerate(zip(environments, actions, strict=True)):
    try:
      timesteps.append(environment.step(action))
    except Exception as error:
      if len(environments) > 1:
        error.add_note(f"raised by world {i} of 0 to {len(environments) - 1}")
      raise
  return timesteps


def _stack(agent: actor_critic.Agent, timesteps: Sequence[dm_env.TimeStep]) -> core.TimeStep:
  """B timesteps of dm_env as one, in the form of JAX worlds: at FIRST, where dm_env has None, reward 0 and discount 1.

  Behind dm_env, auxiliary heads, and agents that have a teacher, learn from signals among the observations.
  """
  return core.TimeStep(
    step_type=np.array([t.step_type for t in timesteps], np.int32),
    reward=np.array([0.0 if t.reward is None else t.reward for t in timesteps], np.float32),
    discount=np.array([1.0 if t.discount is None else t.discount for t in timesteps], np.float32),
    observation=_stack_each(timesteps, network.input_names(agent.spec)),
    privileged=_stack_each(timesteps, actor_critic.signals(agent)),
  )


def _stack_each(timesteps: Sequence[dm_env.TimeStep], names: Iterable[str]) -> dict[str, np.ndarray]:
  return {name: np.stack([np.asarray(t.observation[name]) for t in timesteps]) for name in names}
