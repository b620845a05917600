"""A JAX world as a `dm_env.Environment`.

One jitted reset, step and observation are pure, and compiled once for equal worlds; only the edge converts to numpy
arrays. One seed determines the whole sequence of episodes.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import dm_env
import jax
import numpy as np
from dm_env import specs

from environments import core


class DmEnv(dm_env.Environment):
  """dm_env's view of one JAX world."""

  def __init__(self, environment: core.Environment, *, seed: int, observations: Sequence[str] | None = None):
    """Wraps `environment`; `seed` sets all coming episodes, `observations` names those to show, None for all.

    Raises:
      ValueError: for an observation that the world does not offer.
    """
    offered = environment.observation_spec()
    shown = tuple(offered if observations is None else observations)
    for name in shown:
      if name not in offered:
        raise ValueError(f'no observation is called "{name}"; the world offers {", ".join(offered)}')
    for name in ("control_dt_s", "return_bounds"):  # What films and intervals ask a world for.
      if hasattr(environment, name):
        setattr(self, name, getattr(environment, name))
    self._shows = environment, shown
    self._spec = {name: offered[name] for name in shown}
    self._action_spec = environment.action_spec()
    self._key = jax.random.key(seed)
    self._state: core.State | None = None
    self._is_last = True

  def reset(self) -> dm_env.TimeStep:
    self._key, key = jax.random.split(self._key)
    self._state, timestep = _start(*self._shows, key)
    self._is_last = False
    return dm_env.restart(self._arrays(timestep))

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Advances one control step. After the last step of an episode, it starts the next and ignores `action`."""
    if self._is_last:
      return self.reset()
    self._action_spec.validate(np.asarray(action))
    self._state, timestep = _advance(*self._shows, self._state, np.asarray(action, self._action_spec.dtype))
    self._is_last = int(timestep.step_type) == core.LAST
    return dm_env.TimeStep(
      step_type=dm_env.StepType(int(timestep.step_type)),
      reward=float(timestep.reward),
      discount=float(timestep.discount),
      observation=self._arrays(timestep),
    )

  def observation_spec(self) -> Mapping[str, specs.Array]:
    return self._spec

  def action_spec(self) -> specs.BoundedArray:
    return self._action_spec

  def _arrays(self, timestep: core.TimeStep) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in timestep.observation.items()}


@functools.partial(jax.jit, static_argnames=("environment", "shown"))
@core.in_float32
def _start(environment: core.Environment, shown: tuple[str, ...], key: jax.Array) -> tuple[core.State, core.TimeStep]:
  state = environment.reset(key)
  return state, _observe(environment, shown, state)


@functools.partial(jax.jit, static_argnames=("environment", "shown"))
@core.in_float32
def _advance(
  environment: core.Environment, shown: tuple[str, ...], state: core.State, action: jax.Array
) -> tuple[core.State, core.TimeStep]:
  state = environment.step(state, action)
  return state, _observe(environment, shown, state)


def _observe(environment: core.Environment, shown: tuple[str, ...], state: core.State) -> core.TimeStep:
  timestep = environment.observe(state)
  observation = {name: timestep.observation[name] for name in shown}
  return dataclasses.replace(timestep, observation=observation, privileged={})
