"""Worlds by name: `make("jaco/reach/random", num_joints=6)`.

A name leads to a constructor; the options are that constructor's keyword arguments. A world's module is imported when
it is made, so that what is not used need not be installed.
"""

import difflib
from typing import Any

from environments import core


def _jaco(task: str, **options: Any) -> core.Environment:
  from environments.jaco import tasks, world

  return world.Jaco(tasks.TASKS[task], **options)


def _pong(variant: str, **options: Any) -> core.Environment:
  from environments.pong import world

  return world.Pong(variant, **options)


def _maze(task: str, **options: Any) -> core.Environment:
  from environments.maze import tasks, world

  return world.Maze(tasks.TASKS[task], **options)


_MAKERS = {
  "jaco/reach/fixed": lambda **options: _jaco("reach/fixed", **options),
  "jaco/reach/random": lambda **options: _jaco("reach/random", **options),
  "maze/i_maze": lambda **options: _maze("i_maze", **options),
  "maze/random_goal_1": lambda **options: _maze("random_goal_1", **options),
  "maze/random_goal_2": lambda **options: _maze("random_goal_2", **options),
  "maze/random_goal_small": lambda **options: _maze("random_goal_small", **options),
  "maze/static_1": lambda **options: _maze("static_1", **options),
  "maze/static_2": lambda **options: _maze("static_2", **options),
  "maze/static_small": lambda **options: _maze("static_small", **options),
  "pong/pong": lambda **options: _pong("pong", **options),
  "pong/noisy": lambda **options: _pong("noisy", **options),
  "pong/black": lambda **options: _pong("black", **options),
  "pong/white": lambda **options: _pong("white", **options),
  "pong/zoom": lambda **options: _pong("zoom", **options),
  "pong/h_flip": lambda **options: _pong("h_flip", **options),
  "pong/v_flip": lambda **options: _pong("v_flip", **options),
  "pong/hv_flip": lambda **options: _pong("hv_flip", **options),
}


def names() -> tuple[str, ...]:
  """All names, sorted."""
  return tuple(sorted(_MAKERS))


def make(name: str, **options: Any) -> core.Environment:
  """The world called `name`.

  Args:
    name: one of `names()`.
    **options: keyword arguments of its constructor.

  Raises:
    ValueError: for an unknown name, with the nearest one; for an option that cannot be, with its name.
  """
  if name not in _MAKERS:
    nearest = difflib.get_close_matches(name, _MAKERS, n=1, cutoff=0.0)[0]
    raise ValueError(f'no world is called "{name}"; the nearest is "{nearest}", all are {", ".join(names())}')
  try:
    return _MAKERS[name](**options)
  except TypeError as error:
    raise ValueError(f'"{name}" cannot be made with {sorted(options)}: {error}') from error
