"""A teacher: a trained network that sees what the simulation shows, beside a learner that sees what the arm shows.

    joints, target --simulation--> pixels --teacher--> logits, which the learner's policy is drawn to

An arm knows its joints, and whoever computes its reward knows the target. From these, the simulation can draw the
picture that it would have shown, and a network from the simulation can say what it would do. This is kickstarting
(Schmitt et al. 2018) by a teacher that sees more than the learner, as in "Learning by cheating" (Chen et al. 2019).
Only learning needs the teacher: the policy reads what the arm shows, and nothing else.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from agents import actor_critic, heads
from experiments.setup import place as place_lib
from experiments.store import released
from progressive import column, network


def load(path: str) -> released.Source:
  """The network of `train.teacher`; raises as `released.load_source`, naming the field."""
  try:
    return released.load_source(path)
  except ValueError as error:
    raise ValueError(f"train.teacher: {error}") from error


def taught(place: place_lib.Place, source: released.Source) -> place_lib.Host:
  """The place, whose worlds also show as `actor_critic.TEACHER` what the network of `source` would do there.

  Raises:
    ValueError: for a place that cannot say what its simulation shows, or a network that does not fit it.
  """
  if not isinstance(place, place_lib.Host) or not hasattr(place.world, "simulated"):
    raise ValueError(
      f"train.teacher: {place.name} cannot say what its simulation shows; learn on an arm (arm://, twin/), or set "
      f"train.teacher=''"
    )
  num_choices = place_lib.num_choices(place)
  try:
    place_lib.check_inputs(place, source.spec)
    actor_critic.init(actor_critic.Agent(source.spec, num_choices, actor_critic.Hyper()), ())  # Refuses another size.
    place_lib.check_alike(place, source.spec, source.learned_in, acts=True)
  except ValueError as error:
    raise ValueError(f"train.teacher: a network of other inputs or joints than {place.name} has: {error}") from error
  say = jax.jit(functools.partial(_say, source.spec, num_choices))
  world, *others = (_Taught(world, say, source, num_choices) for world in place.worlds)
  return dataclasses.replace(place, world=world, others=tuple(others))


class _Taught(dm_env.Environment):
  """A world with one more observation: what a network would do in it, as logits float32 `[A, N]`."""

  def __init__(
    self,
    environment: dm_env.Environment,
    say: Callable[..., tuple[jax.Array, network.State]],
    source: released.Source,
    num_choices: tuple[int, ...],
  ):
    self._environment = environment
    self._params = source.params
    self._say = say
    self._start = self._state = network.initial_state(source.spec)
    self._shape = (len(num_choices), max(num_choices))

  def reset(self) -> dm_env.TimeStep:
    return self._with_advice(self._environment.reset())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    return self._with_advice(self._environment.step(action))

  def observation_spec(self) -> Mapping[str, specs.Array]:
    name = actor_critic.TEACHER
    return {**self._environment.observation_spec(), name: specs.Array(self._shape, np.float32, name=name)}

  def action_spec(self) -> specs.BoundedArray:
    return self._environment.action_spec()

  def reward_spec(self) -> specs.Array:
    return self._environment.reward_spec()

  def close(self) -> None:
    self._environment.close()

  def __getattr__(self, name: str) -> Any:
    """Whatever else the world has."""
    if name == "_environment":  # Not set yet: a copy asks for it before it is filled.
      raise AttributeError(name)
    return getattr(self._environment, name)

  def _with_advice(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    if timestep.first():
      self._state = self._start
    logits, self._state = self._say(self._params, self.simulated(timestep.observation), self._state)
    return timestep._replace(observation={**timestep.observation, actor_critic.TEACHER: np.asarray(logits)})


def _say(
  spec: network.Network, num_choices: tuple[int, ...], params: Any, inputs: Mapping[str, Any], state: network.State
) -> tuple[jax.Array, network.State]:
  """Logits `[A, N]` at one step, and the memory after it."""
  activations, state = network.apply(
    params, spec, inputs={name: jnp.asarray(x)[None] for name, x in inputs.items()}, state=state
  )
  return heads.split(activations[-1][column.OUTPUT][0], num_choices)[0], state
