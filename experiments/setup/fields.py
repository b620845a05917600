"""What the fields of a config mean, read from where it is written anyway: docstrings' Args, and comments beside fields.

`_SECTIONS` says which function or dataclass makes a section, `_WORLDS` which world. `_OTHERS` holds the fields that
none of these document.
"""

import fnmatch
import functools
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import config_dict

from agents import actor_critic, auxiliary
from experiments.configs import base

# Pattern of a section's fields -> what documents them. For each field, the first pattern that says something counts.
_SECTIONS: tuple[tuple[str, Any], ...] = (
  ("train.hyper.*", actor_critic.Hyper),
  ("train.column.*", base.column),
  ("train.auxiliary.*.*", auxiliary.Head),
  ("train.*", base.phase),
  ("sweep.*", base.sweep),
  ("matrix.*", base.matrix),
  ("*", base.experiment),
)
# Options of a world by the family in its name: "module:object", imported when asked for.
_WORLDS: Mapping[str, tuple[str, ...]] = {
  "jaco": ("environments.jaco.world:Jaco.__init__", "environments.jaco.randomize:Randomization"),
  "pong": ("environments.pong.world:Pong.__init__", "environments.pong.variants:Options"),
  "maze": ("environments.maze.world:Maze.__init__",),
  "atari": ("environments.atari.world:Atari.__init__", "environments.atari.emulator:load"),
}
_OTHERS: Mapping[str, str] = {"agent": "name of the learner, for figures and tables"}


class Field(NamedTuple):
  """One line of a config."""

  name: str  # Dotted.
  value: Any
  meaning: str  # '' if nothing says.


def describe(config: config_dict.ConfigDict) -> Iterator[Field]:
  """Every field of a config that is not a section, by name."""
  for name, value in _leaves(config):
    yield Field(name, value, next(filter(None, _meanings(config, name)), ""))


def documented(thing: Any) -> dict[str, str]:
  """Name -> meaning of a function's arguments or a class's fields, from its docstring or the comments beside them.

  In a docstring an entry is `name: words`, on lines of its own; later lines of an entry are indented deeper.
  """
  names = set(inspect.signature(thing).parameters)
  meanings: dict[str, str] = {}
  current, depth = "", 0
  for line in (inspect.getdoc(thing) or "").splitlines():
    indent = len(line) - len(line.lstrip())
    match = re.match(r"\s*\*{0,2}(\w+): (.+)", line)
    if match and match[1] in names:
      current, depth = match[1], indent
      meanings[current] = match[2]
    elif current and line.strip() and indent > depth:
      meanings[current] += " " + line.strip()
    else:
      current = ""
  return meanings | (_comments(thing) if inspect.isclass(thing) else {})


def _comments(thing: type) -> dict[str, str]:
  """Field -> the comment on its line."""
  return dict(re.findall(r"^ +(\w+): .*?  # (.+)$", inspect.getsource(thing), re.MULTILINE))


def _meanings(config: config_dict.ConfigDict, name: str) -> Iterator[str]:
  last = name.rpartition(".")[2]
  for pattern, thing in _SECTIONS:
    if fnmatch.fnmatchcase(name, pattern):
      yield _documented_once(thing).get(last, "")
  if name.startswith("world_options.") and "world" in config:
    for path in _WORLDS.get(config.world.partition("/")[0], ()):
      yield _documented_once(path).get(last, "")
  yield _OTHERS.get(name, "")


@functools.cache
def _documented_once(thing: Any) -> dict[str, str]:
  """`documented` of a thing, or of "module:object"."""
  if isinstance(thing, str):
    module, _, names = thing.partition(":")
    thing = functools.reduce(getattr, names.split("."), importlib.import_module(module))
  return documented(thing)


def _leaves(config: config_dict.ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
  for key, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from _leaves(value, f"{prefix}{key}.")
    else:
      yield prefix + key, value
