"""Any `dm_env.Environment` in the form that agents play: int32 choices `[A]` from 0, observations in one flat mapping.

Only this module shifts and reshapes actions: a `DiscreteArray`, an integer with another minimum, or a block of
integers. A nested observation becomes `robot/joints`, and a bare array `observation`. Observations without numbers
(text) are not offered. A world that agents cannot play is refused when it is made; the error names the problem and the
fix.
"""

import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

BARE = "observation"  # The name of an observation that has none.
MOST_CHOICES = 1024  # Per entry of an action. More choices suggest a mistaken bound (a guess).


class HostWorld(dm_env.Environment):
  """`environment` in the form that agents play."""

  def __init__(self, environment: dm_env.Environment, *, name: str):
    """Wraps `environment`. Errors mention `name`.

    Raises:
      ValueError: if the action is not made of bounded integers, an observation has no numbers, or the reward is not one
        number.
    """
    self._environment = environment
    self._name = name
    self._theirs = _action(environment.action_spec(), name)
    self._minimum = np.broadcast_to(self._theirs.minimum, self._theirs.shape).astype(np.int64)
    arrays = _arrays(environment.observation_spec(), name)
    self._paths: dict[str, tuple[tuple[Any, ...], specs.Array]] = {}
    for path, spec in arrays:
      flat = "/".join(map(str, path)) or BARE
      if flat in self._paths:
        raise ValueError(f"{name}: two observations are {flat!r}, at {self._paths[flat][0]} and {path}; rename one")
      self._paths[flat] = path, spec
    if not self._paths:
      raise ValueError(f"{name} shows no array of numbers: {environment.observation_spec()}; a network reads some")
    reward = environment.reward_spec()
    if not isinstance(reward, specs.Array) or int(np.prod(reward.shape)) != 1:
      raise ValueError(f"{name}: the reward is {reward}; agents learn from one number, of shape ()")
    # The first step starts an episode, as after LAST. None means that a step has failed; then either may come.
    self._is_last: bool | None = True

  def action_spec(self) -> specs.BoundedArray:
    """int32 `[A]`, where A is the number of entries of the environment's own action."""
    most = np.broadcast_to(self._theirs.maximum, self._theirs.shape).astype(np.int64) - self._minimum
    return specs.BoundedArray((most.size,), np.int32, 0, most.reshape(-1), name="action")

  def observation_spec(self) -> Mapping[str, specs.Array]:
    """Flat: name -> array."""
    return {name: spec for name, (_, spec) in self._paths.items()}

  def reset(self) -> dm_env.TimeStep:
    self._is_last = None
    timestep = self._ours(self._environment.reset())
    if not timestep.first():
      raise ValueError(f"{self._name}: reset must start an episode, but is {timestep.step_type!r}")
    return timestep

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Advances one step with `action`, int32 `[A]` from 0."""
    entries = np.asarray(action).reshape(self._theirs.shape) + self._minimum
    was_last, self._is_last = self._is_last, None
    timestep = self._ours(self._environment.step(entries.astype(self._theirs.dtype)))
    if was_last and not timestep.first():
      raise ValueError(
        f"{self._name}: the step after LAST must start an episode (dm_env), but is {timestep.step_type!r}"
      )
    if timestep.first() and was_last is False:
      raise ValueError(f"{self._name}: an episode starts without LAST before it: end it by dm_env.truncation")
    return timestep

  def close(self) -> None:
    self._environment.close()

  def __getattr__(self, name: str) -> Any:
    """Looks up other attributes in the environment: `control_dt_s` and `return_bounds`."""
    if name == "_environment":  # Not set yet: a copy asks for it before it is filled.
      raise AttributeError(name)
    return getattr(self._environment, name)

  def _ours(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    if not isinstance(timestep, dm_env.TimeStep):
      raise ValueError(f"{self._name}: a step gives a {type(timestep).__name__}; make it a dm_env.TimeStep")
    if not timestep.first() and (timestep.reward is None or timestep.discount is None):
      raise ValueError(
        f"{self._name}: reward is {timestep.reward}, discount {timestep.discount}; only FIRST has none (dm_env)"
      )
    self._is_last = timestep.last()
    seen = {}
    for name, (path, spec) in self._paths.items():
      try:
        seen[name] = np.asarray(functools.reduce(operator.getitem, path, timestep.observation))
      except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{self._name}: {name!r} is missing in what it shows") from error
      _check_form(self._name, name, seen[name], spec)
    reward, discount = (self._number(name, getattr(timestep, name)) for name in ("reward", "discount"))
    return timestep._replace(reward=reward, discount=discount, observation=seen)

  def _number(self, name: str, x: Any) -> float | None:
    if x is None:
      return None
    if np.size(x) != 1 or not np.isfinite(x).all():
      raise ValueError(f"{self._name}: {name} is {x}; agents learn from one finite number")
    return float(np.asarray(x).reshape(()))


def adapt(environment: dm_env.Environment, *, name: str) -> HostWorld:
  """`environment` as agents play it; itself if it is a `HostWorld` already. Raises as `HostWorld`."""
  return environment if isinstance(environment, HostWorld) else HostWorld(environment, name=name)


def _check_form(world: str, name: str, seen: np.ndarray, spec: specs.Array) -> None:
  """Refuses a shape unlike the spec's, uint8 (read as pixels) for other numbers or the reverse, and NaN."""
  if seen.shape != spec.shape or (seen.dtype == np.uint8) != (spec.dtype == np.uint8):
    raise ValueError(
      f"{world}: {name!r} is {seen.dtype} {list(seen.shape)}, but its spec says {spec.dtype} {list(spec.shape)}; make "
      f"both alike (uint8 is read as pixels, divided by 255)"
    )
  if seen.dtype.kind == "f" and not np.isfinite(seen).all():
    raise ValueError(f"{world}: {name!r} has numbers that are not finite; agents learn from finite ones")


def _action(spec: Any, name: str) -> specs.BoundedArray:
  """The environment's own action; if agents cannot play it, ValueError with the fix."""
  if isinstance(spec, specs.BoundedArray) and np.issubdtype(spec.dtype, np.integer) and np.prod(spec.shape) > 0:
    if np.max(np.asarray(spec.maximum, np.float64) - spec.minimum) < MOST_CHOICES:
      return spec
  raise ValueError(
    f"{name}: its action is {spec}; an agent chooses among integers: make it a BoundedArray of int32, [A], of at most "
    f"{MOST_CHOICES:,} values an entry (for a float, choose some values of it and play their number)"
  )


def _arrays(tree: Any, name: str, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], specs.Array]]:
  """The specs of numbers in a nest of mappings and sequences, each with the path of keys and indices to it."""
  if isinstance(tree, Mapping | list | tuple):
    for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
      yield from _arrays(value, name, (*path, key))
  elif not isinstance(tree, specs.Array):
    raise ValueError(f"{name}: its observation_spec has {tree!r}; make it a specs.Array, or a mapping of some")
  elif np.issubdtype(tree.dtype, np.number) or tree.dtype == np.bool_:
    yield path, tree
