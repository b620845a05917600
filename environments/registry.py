"""Worlds by name: `make("jaco/reach/random", num_joints=6)`.

A name leads to a maker, and the options are its keyword arguments. It returns a world in JAX (`core.Environment`) or
one behind dm_env, which comes out as agents play it (`environments.host`). A world of one's own needs no entry here:
`make("my_package.my_module:MyWorld")` imports it. `register` gives it a shorter name, as an installed package does by
an entry point of the group `progressive_robots.worlds`. Modules are imported when a world is made, so that what is not
used need not be installed.
"""

import difflib
import functools
import importlib
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import dm_env

from environments import conformance, core, host
from environments.jaco import tasks as jaco_tasks
from environments.maze import tasks as maze_tasks
from environments.pong import variants

GROUP = "progressive_robots.worlds"  # Of entry points: name = package.module:maker.

World: typing.TypeAlias = core.Environment | dm_env.Environment
Maker = Callable[..., World]

# Name -> module:maker and its first argument.
_OURS: dict[str, tuple[str, Any]] = {
  **{f"jaco/{name}": ("environments.jaco.world:Jaco", task) for name, task in jaco_tasks.TASKS.items()},
  **{f"maze/{name}": ("environments.maze.world:Maze", task) for name, task in maze_tasks.TASKS.items()},
  **{f"pong/{name}": ("environments.pong.world:Pong", name) for name in variants.NAMES},
}
# The same where the rest of the name is the argument, with an example.
_OPEN = {
  "arm://": ("environments.arm.client:connect", "arm://localhost:5005"),
  "twin/": ("environments.arm.client:connect_to_twin", "twin/reach/random"),
  "atari/": ("environments.atari.world:Atari", "atari/pong"),
}
_REGISTERED: dict[str, Maker] = {}


def register(name: str, maker: Maker) -> None:
  """Calls what `maker` makes `name`.

  Args:
    name: new, without a colon (which is for `package.module:maker`).
    maker: takes the world's options by keyword and returns a `core.Environment` or a `dm_env.Environment`. One with
      parameters `seed` or `observations` is given those of `make`.

  Raises:
    ValueError: if the name is taken or has a colon.
  """
  if name in names() or _is_ours(name):
    raise ValueError(f'a world cannot be registered as "{name}": the name is taken or has a colon; choose another')
  _REGISTERED[name] = maker


def names() -> tuple[str, ...]:
  """All whole names, sorted; beside them `arm://host:port`, `twin/task`, `atari/game` and `package.module:maker`."""
  return tuple(sorted({*_OURS, *_REGISTERED, *metadata.entry_points(group=GROUP).names}))


def make(name: str, /, *, seed: int | None = None, observations: Sequence[str] | None = None, **options: Any) -> World:
  """The world called `name`.

  Args:
    name: one of `names()`, `arm://host:port`, `twin/task`, `atari/game` or `package.module:maker`.
    seed: of the episodes of a world behind dm_env, None for its own; a world in JAX takes keys.
    observations: those that will be read, for a world that can leave the others out (the arm); None for all.
    **options: keyword arguments of its maker.

  Raises:
    ValueError: for an unknown name, with the nearest one; for an option that cannot be, with its name and those that
      can; for a package that is missing, with what installs it.
    FileNotFoundError: if an option names a file that is not there.
    protocol.BridgeError: from an arm or a twin, which has a server: what that refuses.
  """
  maker = _maker(name)
  known = inspect.signature(maker).parameters
  given: dict[str, Any] = {"seed": seed, "observations": observations and sorted(set(observations))}
  arguments = {key: value for key, value in given.items() if key in known and value is not None} | options
  _check(name, known, arguments)
  try:
    world = maker(**arguments)
  except ModuleNotFoundError as error:
    raise ValueError(f'"{name}" cannot be made: {error}') from error
  except TypeError as error:
    if not options:
      raise
    raise ValueError(f'"{name}" cannot be made with {options}: {error}') from error
  if isinstance(world, dm_env.Environment):
    try:
      return host.adapt(world, name=name)
    except ValueError:
      world.close()  # An arm has one client at a time.
      raise
  conformance.check_made(world, name)
  if name not in _OURS and not name.startswith(tuple(_OPEN)):
    conformance.check_forms(world, type(world).__name__)
  return world


def resolve(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """`options` with every file replaced by what stands in it: what a run must keep to find its world again.

  A maker that reads files has a function `resolve`, options to options, as an attribute; others change nothing.

  Raises:
    FileNotFoundError: if a file is not there.
    ValueError: as `make`, or if a file cannot be read.
  """
  maker = _maker(name)
  function = getattr(maker.func if isinstance(maker, functools.partial) else maker, "resolve", dict)
  return function(options)


def _maker(name: str) -> Maker:
  """What makes `name`, its first argument given where it has one."""
  if name in _REGISTERED:
    return _REGISTERED[name]
  installed = tuple(metadata.entry_points(group=GROUP, name=name))
  if installed:
    return _load_installed(installed, name)
  if name in _OURS:
    path, argument = _OURS[name]
    return functools.partial(_load(path, name), argument)
  for prefix, (path, _) in _OPEN.items():
    if name.startswith(prefix):
      return functools.partial(_load(path, name), name.removeprefix(prefix))
  if _is_path(name):
    return _load(name, name)
  nearest = difflib.get_close_matches(name, [*names(), *(example for _, example in _OPEN.values())], n=1, cutoff=0.0)
  raise ValueError(
    f'no world is called "{name}"; the nearest is "{nearest[0]}"; all are {", ".join(names())}, arm://host:port, '
    f"twin/task, atari/game and package.module:maker"
  )


def _is_ours(name: str) -> bool:
  """Whether nobody else may call a world so: it is one of ours, or begins or is written as such."""
  return name in _OURS or any(name.startswith(prefix) for prefix in _OPEN) or ":" in name


def _is_path(name: str) -> bool:
  """Whether it is written as `package.module:maker` is."""
  return name.count(":") == 1 and all(part.isidentifier() for part in name.replace(":", ".").split("."))


def _load_installed(entries: Sequence[metadata.EntryPoint], name: str) -> Maker:
  """The maker that one installed package calls `name`; ValueError if another has the name too, or it is broken."""
  claims = [f"{entry.dist.name if entry.dist else 'a package'} ({entry.value})" for entry in entries]
  if len(claims) > 1 or _is_ours(name):
    raise ValueError(
      f'"{name}" is a name of {", ".join(claims)}{" and of our own" if _is_ours(name) else ""}: uninstall what is not '
      f"meant, or name the world as package.module:maker"
    )
  if not _is_path(entries[0].value):
    raise ValueError(f'"{name}" cannot be made: its entry point of {claims[0]} is not package.module:maker')
  try:
    return _load(entries[0].value, name)
  except (ImportError, ValueError) as error:
    raise ValueError(f"{error} (an entry point of {claims[0]})") from error


def _load(path: str, name: str) -> Maker:
  """The maker at `package.module:maker`."""
  module_name, _, attribute = path.partition(":")
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    raise ValueError(f'"{name}" cannot be made: {error}; install the package, or correct the name') from error
  maker = getattr(module, attribute, None)
  if not callable(maker):
    raise ValueError(f'"{name}" cannot be made: {module_name} has no function or class "{attribute}"')
  return maker


def _check(name: str, known: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> None:
  """Refuses options that a maker does not take, that are of another type, or that are missing."""
  by_name = {key: p for key, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
  is_open = any(p.kind == p.VAR_KEYWORD for p in known.values())
  offered = ", ".join(key for key in by_name if key not in ("seed", "observations")) or "none"
  for key, value in arguments.items():
    if key not in by_name and not is_open:
      raise ValueError(f'"{name}" has no option "{key}"; its options are {offered}')
    if key in by_name and not fits(value, by_name[key].annotation):
      raise ValueError(f'"{name}": {key}={value!r} is not {inspect.formatannotation(by_name[key].annotation)}')
  for key, parameter in by_name.items():
    if key not in arguments and parameter.default is parameter.empty:
      raise ValueError(f'"{name}" needs the option "{key}"; its options are {offered}')


def fits(value: Any, hint: Any) -> bool:
  """Whether `value` is what a plain annotation says; the maker itself must judge all others."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return any(fits(value, one) for one in typing.get_args(hint))
  if hint in (int, float):
    return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
  return isinstance(value, hint) if hint in (bool, str, types.NoneType) else True
