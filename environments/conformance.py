"""Checks that a world is what agents need, in one call, for use in your own tests.

    assert conformance.check(Corridor) > 0

Without this check, a faulty world is noticed late or never. A discount of 0 in mid-episode cuts every return, a reward
that is not a number ends a run, and a world without equality is compiled again and again. The check plays random legal
actions: in two copies of a world in JAX inside one jit, or in one environment behind `dm_env`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from environments import batch, core, host

_COPIES = 2  # Number of copies of a world in JAX.
_METHODS = ("observation_spec", "privileged_spec", "action_spec", "reset", "step", "observe")
_NEEDS_NUMBERS = (
  jax.errors.ConcretizationTypeError,
  jax.errors.NonConcreteBooleanIndexError,
  jax.errors.TracerArrayConversionError,
  jax.errors.TracerIntegerConversionError,
)
_SCALARS = {"step_type": np.int32, "reward": np.float32, "discount": np.float32}


def check(make: Callable[..., core.Environment | dm_env.Environment], *, num_steps: int = 200, seed: int = 0) -> int:
  """Plays `num_steps` steps in the world that `make` makes, and checks each step.

  Args:
    make: a world's class or maker, or `functools.partial(registry.make, name, **options)`.
    num_steps: enough steps for one or more episodes to end.
    seed: seeds the actions and the episodes: those of a world in JAX, or of a maker with a parameter `seed`.

  Returns:
    The number of episodes that ended. If it is 0, the end of an episode was not checked.

  Raises:
    ValueError: names the first thing that is not as agents need it.
  """
  if not callable(make):
    raise ValueError(f"a {type(make).__name__} cannot be called; give a world's class, or a function that makes it")
  seeded, takes_seed = make, "seed" in inspect.signature(make).parameters
  if takes_seed:
    make = functools.partial(make, seed=seed)
  world = make()
  name, rng = type(world).__name__, np.random.default_rng(seed)
  if isinstance(world, dm_env.Environment):
    adapted = host.adapt(world, name=name)
    try:
      return _check_host(adapted, name, num_steps, rng)
    finally:
      adapted.close()
  check_made(world, name)
  if takes_seed:
    check_seeds(seeded, name)
  other = make()
  if world != other or hash(world) != hash(other):
    raise ValueError(
      f"{name} does not equal one made alike: programs are compiled for each; make it a frozen dataclass"
    )
  return _check_jax(world, name, num_steps, rng, jax.random.key(seed))


def check_made(world: Any, name: str) -> None:
  """Refuses a world in JAX that lacks one of its functions, or a hash."""
  kind = type(world).__name__
  missing = [method for method in _METHODS if not callable(getattr(world, method, None))]
  if missing:
    raise ValueError(
      f'"{name}" made a {kind}: it is no dm_env.Environment, and as a world in JAX (environments.core.Environment) it '
      f"has no {', '.join(missing)}"
    )
  try:
    hash(world)
  except TypeError as error:
    raise ValueError(f'"{name}" made a {kind} without a hash ({error}); make {kind} a frozen dataclass') from error


def check_seeds(make: Callable[..., core.Environment], name: str) -> None:
  """Refuses a maker whose world in JAX depends on its seed."""
  if make(seed=0) != make(seed=1):
    raise ValueError(
      f"{name} is another world with another seed; in JAX episodes come from keys, a sweep's runs share one world, and "
      f"an evaluation has another seed: call what shapes the world by another name"
    )


def check_forms(world: core.Environment, name: str) -> None:
  """Refuses, without playing, a state whose form changes, and outputs in another form than agents read."""
  choices = core.num_choices(world.action_spec())
  if max(choices, default=0) > host.MOST_CHOICES:
    raise ValueError(f"{name}: its action is {world.action_spec()}; an entry has at most {host.MOST_CHOICES:,} values")
  state = _forms_of(world, "reset", name, jax.random.key(0))
  stepped = _forms_of(world, "step", name, state, jax.ShapeDtypeStruct((len(choices),), jnp.int32))
  if jax.tree.structure(state) != jax.tree.structure(stepped) or _forms(state) != _forms(stepped):
    raise ValueError(f"{name}.step: the state changes its form, from {state} to {stepped}; a scan needs one")
  seen = _forms_of(world, "observe", name, state)
  if not isinstance(seen, core.TimeStep):
    raise ValueError(f"{name}.observe gives a {type(seen).__name__}; make it a core.TimeStep")
  for field, dtype in _SCALARS.items():
    form = getattr(seen, field)
    if not isinstance(form, jax.ShapeDtypeStruct) or form.shape != () or form.dtype != dtype:
      raise ValueError(f"{name}.observe: {field} is {_in_words(form)}; make it {np.dtype(dtype)} []")
  shown, signals = _specs(world)
  for what, offered, given in (("observation", shown, seen.observation), ("privileged", signals, seen.privileged)):
    if not isinstance(given, Mapping):
      raise ValueError(f"{name}.observe: {what} is {_in_words(given)}; make it a mapping, name -> array")
    if offered.keys() != given.keys():
      raise ValueError(f"{name}.observe: {what} has {sorted(given)}, its spec {sorted(offered)}")
    for key, spec in offered.items():
      form = given[key]
      if not isinstance(form, jax.ShapeDtypeStruct) or (form.shape, form.dtype) != (spec.shape, spec.dtype):
        said = f"{spec.dtype} {list(spec.shape)}"
        raise ValueError(
          f"{name}.observe: {what} {key!r} is {_in_words(form)}, but its spec says {said}; make both alike"
        )


def _specs(world: core.Environment) -> list[dict[str, specs.Array]]:
  """The specs of observations and signals, in JAX's dtypes (in a spec, `float` is float64)."""
  return [
    {name: spec.replace(dtype=jax.dtypes.canonicalize_dtype(spec.dtype)) for name, spec in offered.items()}
    for offered in (world.observation_spec(), world.privileged_spec())
  ]


def _forms_of(world: core.Environment, method: str, name: str, *arguments: Any) -> Any:
  """The form of a method's result; ValueError if the method needs numbers that a compiled program does not have."""
  try:
    return jax.eval_shape(getattr(world, method), *arguments)
  except _NEEDS_NUMBERS as error:
    why = str(error).splitlines()[0]
    raise ValueError(f"{name}.{method} cannot be compiled ({why}); use jnp.where or jax.lax.cond, and jnp") from error


def _in_words(form: Any) -> str:
  return f"{form.dtype} {list(form.shape)}" if isinstance(form, jax.ShapeDtypeStruct) else type(form).__name__


def _check_jax(world: core.Environment, name: str, num_steps: int, rng: np.random.Generator, key: jax.Array) -> int:
  check_forms(world, name)
  most = np.array(core.num_choices(world.action_spec()))
  shown, signals = _specs(world)
  place = batch.Batch(world, _COPIES, tuple(shown), tuple(signals))
  step = jax.jit(place.step)
  worlds, num_ended = jax.jit(place.init)(key), 0
  was_last = np.ones(_COPIES, bool)
  for i in range(num_steps + 1):
    timestep = jax.device_get(worlds.timestep)
    for copy in range(_COPIES):
      one = jax.tree.map(lambda leaf, copy=copy: leaf[copy], timestep)
      where = f"{name}, step {i}"
      _check_values(where, "observation", shown, one.observation)
      _check_values(where, "privileged", signals, one.privileged)
      _check_order(where, one, was_last=bool(was_last[copy]))
      if was_last[copy] and (one.reward, one.discount) != (0.0, 1.0):
        raise ValueError(f"{where}: at FIRST the reward is {one.reward} and the discount {one.discount}, not 0 and 1")
    was_last = timestep.step_type == core.LAST
    num_ended += int(was_last.sum())
    worlds = step(worlds, jnp.asarray(rng.integers(0, most, (_COPIES, most.size)), jnp.int32))
  return num_ended


def _check_host(world: dm_env.Environment, name: str, num_steps: int, rng: np.random.Generator) -> int:
  most = np.array(core.num_choices(world.action_spec()))
  world.reset()
  world.step(rng.integers(0, most).astype(np.int32))
  timestep, was_last, num_ended = world.reset(), True, 0  # Reset in mid-episode: an evaluation begins so.
  for i in range(num_steps + 1):
    where = f"{name}, step {i}"
    _check_values(where, "observation", world.observation_spec(), timestep.observation)
    if timestep.first() and (timestep.reward, timestep.discount) != (None, None):
      raise ValueError(f"{where}: FIRST has a reward or a discount; use dm_env.restart")
    _check_order(where, timestep, was_last=was_last)
    was_last = timestep.last()
    num_ended += was_last
    timestep = world.step(rng.integers(0, most).astype(np.int32))
  return num_ended


def _check_values(where: str, what: str, offered: Mapping[str, specs.Array], given: Mapping[str, Any]) -> None:
  for name, spec in offered.items():
    try:
      spec.validate(np.asarray(given[name]))
    except ValueError as error:
      raise ValueError(f"{where}: {what} {name!r} is not as its spec says: {error}") from error
    if not np.isfinite(given[name]).all():
      raise ValueError(f"{where}: {what} {name!r} has entries that are no numbers")


def _check_order(where: str, timestep: core.TimeStep | dm_env.TimeStep, *, was_last: bool) -> None:
  """Checks that an episode begins at FIRST and nowhere else, and that reward and discount are valid."""
  if (timestep.step_type == core.FIRST) != was_last:
    expected = "FIRST" if was_last else "MID or LAST"
    raise ValueError(f"{where}: the step is {dm_env.StepType(int(timestep.step_type)).name}, not {expected}")
  if timestep.reward is not None and not np.isfinite(timestep.reward):
    raise ValueError(f"{where}: the reward is {timestep.reward}")
  if timestep.discount is not None and not 0.0 <= timestep.discount <= 1.0:
    raise ValueError(f"{where}: the discount is {timestep.discount}, not from 0 to 1")
  if timestep.step_type == core.MID and timestep.discount == 0.0:
    raise ValueError(f"{where}: the discount is 0 in mid-episode; it is 0 at LAST alone, where the world ends")


def _forms(tree: Any) -> list[tuple[Any, Any]]:
  return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
