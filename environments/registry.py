"""Worlds by name: `make("jaco/reach/random", num_joints=6)`.

`make` looks up the maker of a name and calls it with the options as keyword arguments. A maker returns a world in JAX
(`core.Environment`) or one behind dm_env, which `make` puts into the form that agents play (`environments.host`). Your
own world needs no entry here: `make("my_package.my_module:MyWorld")` imports it. `register` gives it a shorter name. An
installed package does the same with an entry point in the group `progressive_robots.worlds`. Modules are imported when
a world is made, so unused worlds need not be installed.
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

GROUP = "progressive_robots.worlds"  # The group of entry points, each name = package.module:maker.

World: typing.TypeAlias = core.Environment | dm_env.Environment
Maker = Callable[..., World]

# Name -> module:maker and the maker's first argument.
_OURS: dict[str, tuple[str, Any]] = {
  **{f"jaco/{name}": ("environments.jaco.world:Jaco", task) for name, task in jaco_tasks.TASKS.items()},
  **{f"maze/{name}": ("environments.maze.world:Maze", task) for name, task in maze_tasks.TASKS.items()},
  **{f"pong/{name}": ("environments.pong.world:Pong", name) for name in variants.NAMES},
}
# The same for prefixes: the rest of the name is the maker's argument. Each has an example.
_OPEN = {
  "arm://": ("environments.arm.client:connect", "arm://localhost:5005"),
  "twin/": ("environments.arm.client:connect_to_twin", "twin/reach/random"),
  "atari/": ("environments.atari.world:Atari", "atari/pong"),
}
_REGISTERED: dict[str, Maker] = {}


def register(name: str, maker: Maker) -> None:
  """Gives the worlds that `maker` makes the name `name`.

  Args:
    name: a new name, without a colon (which is for `package.module:maker`).
    maker: takes the world's options by keyword and returns a `core.Environment` or a `dm_env.Environment`. If it has
      a parameter `seed` or `observations`, `make` passes on its own.

  Raises:
    ValueError: if the name is taken or has a colon.
  """
  if name in names() or _is_ours(name):
    raise ValueError(f'a world cannot be registered as "{name}": the name is taken or has a colon; choose another')
  _REGISTERED[name] = maker


def names() -> tuple[str, ...]:
  """All complete names, sorted. Also valid: `arm://host:port`, `twin/task`, `atari/game`, `package.module:maker`."""
  return tuple(sorted({*_OURS, *_REGISTERED, *metadata.entry_points(group=GROUP).names}))


def make(name: str, /, *, seed: int | None = None, observations: Sequence[str] | None = None, **options: Any) -> World:
  """Makes the world called `name`.

  Args:
    name: one of `names()`, `arm://host:port`, `twin/task`, `atari/game` or `package.module:maker`.
    seed: the seed for the episodes of a world behind dm_env; None for the world's own seed. A world in JAX must not
      depend on it: its episodes come from keys, and the runs of a sweep share one world.
    observations: the observations that will be read, for a world that can leave out the others (the arm); None for all.
    **options: keyword arguments of the maker. It gets lists as tuples, which can be fields of a frozen dataclass, and
      which a config that was saved as JSON no longer has.

  Raises:
    ValueError: for an unknown name (the error gives the nearest one), for an invalid option (the error names it and
      the valid ones), or for a missing package (the error says what installs it).
    FileNotFoundError: if an option names a file that does not exist.
    protocol.BridgeError: if the server of an arm or a twin is not there, or refuses.
  """
  maker = _maker(name)
  known = inspect.signature(maker).parameters
  options = {key: _without_lists(value) for key, value in options.items()}
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
  if "seed" in known:
    conformance.check_seeds(functools.partial(maker, **arguments), name)
  if name not in _OURS and not name.startswith(tuple(_OPEN)):
    conformance.check_forms(world, type(world).__name__)
  return world


def resolve(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Returns `options` with every file replaced by its content: what a run must keep to make its world again.

  A maker that reads files has an attribute `resolve`, a function from options to options. For other makers nothing
  changes.

  Raises:
    FileNotFoundError: if a file does not exist.
    ValueError: as `make`, or if a file cannot be read.
  """
  maker = _maker(name)
  function = getattr(maker.func if isinstance(maker, functools.partial) else maker, "resolve", dict)
  return function(options)


def _maker(name: str) -> Maker:
  """The maker of `name`, with its first argument bound if it has one."""
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
  """Whether the name is reserved: it is one of ours, has one of our prefixes, or contains a colon."""
  return name in _OURS or any(name.startswith(prefix) for prefix in _OPEN) or ":" in name


def _is_path(name: str) -> bool:
  """Whether the name has the form `package.module:maker`."""
  return name.count(":") == 1 and all(part.isidentifier() for part in name.replace(":", ".").split("."))


def _load_installed(entries: Sequence[metadata.EntryPoint], name: str) -> Maker:
  """The maker that an installed package calls `name`; ValueError if another one has the name, or it is broken."""
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


def _without_lists(value: Any) -> Any:
  """The value with tuples in place of lists."""
  return tuple(_without_lists(item) for item in value) if isinstance(value, list | tuple) else value


def _check(name: str, known: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> None:
  """Refuses options that the maker does not take, options of a wrong type, and missing options."""
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
  """Whether `value` fits a plain type annotation. Only the maker itself can judge other annotations."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return any(fits(value, one) for one in typing.get_args(hint))
  if hint in (int, float):
    return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
  return isinstance(value, hint) if hint in (bool, str, types.NoneType) else True
