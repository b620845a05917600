"""Reads navigators on disk: every sweep of an agent in a maze below some folders, its curve and its test episodes.

A sweep may be empty, half written, unreadable, complete or tested. In each case its `gap` says in words what it lacks.
Curves count environment steps as the paper does: four frames for each agent step in a maze. An arm's reachers with the
navigators' losses are also read; for them the maze is the name of their world.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analysis import curves, records
from environments.maze import constants
from experiments.store import checkpoint, sweep_folder
from experiments.studies.navigation import episodes_file

_MAZE, _ARM = "maze/", "jaco/"


class Sweep(NamedTuple):
  """One agent in one maze."""

  path: pathlib.Path
  agent: str  # As in experiments/configs/navigation.py: nav_d2.
  maze: str  # static_1; on an arm the world's name: jaco/reach/fixed.
  steps: int  # Of every run, in agent steps.
  num_runs: int  # When all are there.
  top: int  # How many of its runs count.
  options: Mapping[str, Any]  # Its world's.
  column: Mapping[str, Any]  # What its network is made of, without heads.
  heads: Mapping[str, Any]  # Its auxiliary heads, name -> fields, without costs, which go with the clip.
  reward_clip: float  # The largest reward for learning; inf: none is clipped.
  settings: Mapping[str, Any]  # How it learns: hyper-parameters, worlds, steps of an unroll, and total steps.
  runs: tuple[records.Run, ...]  # Those that have finished episodes.
  best: tuple[records.Run, ...]  # The top runs by the area under their curves.
  curve: curves.Curve | None  # Of the best, over environment steps up to the end of the shortest; None without runs.
  tested: episodes_file.Tested | None
  note: str  # Why `runs` are not complete, in a word or two: 'at 40%'; '' if they are.
  gap: str  # The same in full, and which runs are missing.
  newest_step: int | None = None  # Of its checkpoints; None if there are none.

  @property
  def name(self) -> str:
    """The name of a row: 'static_1/nav_d2'."""
    return f"{self.maze}/{self.agent}"

  @property
  def is_in_a_maze(self) -> bool:
    """Whether it can be tested as a navigator."""
    return not self.maze.startswith(_ARM)

  @property
  def stale_test(self) -> str:
    """The step of its test, if it has learned further since; '' if the test is of the newest checkpoint."""
    at = self.tested.summary.get("trained_steps") if self.tested else None
    if at is None or self.newest_step is None or at >= self.newest_step:
      return ""
    return f"tested at step {at:,} of {self.newest_step:,}: run experiments.navigate"

  @property
  def is_clipped(self) -> bool:
    """Whether it learns from clipped rewards, as the paper's starred agents do."""
    return math.isfinite(self.reward_clip)

  @property
  def is_as_published(self) -> bool:
    """Whether layout, length and fruit are the task's own, so that its numbers compare with the paper's."""
    is_replaced = any(self.options.get(name) is not None for name in ("layout", "num_steps"))
    return not is_replaced and bool(self.options.get("fruit_returns", True))

  @property
  def environment_steps(self) -> int:
    """Length of every run in environment steps."""
    return self.steps * (constants.ACTION_REPEAT if self.is_in_a_maze else 1)


class Navigation(NamedTuple):
  """All sweeps, by maze and agent."""

  sweeps: tuple[Sweep, ...]

  @property
  def runs(self) -> tuple[records.Run, ...]:
    """Every run that was read."""
    return tuple(run for sweep in self.sweeps for run in sweep.runs)

  @property
  def mazes(self) -> tuple[str, ...]:
    """Every maze with a sweep."""
    return tuple(dict.fromkeys(sweep.maze for sweep in self.sweeps))

  @property
  def gaps(self) -> dict[str, str]:
    """Every sweep that is not complete, and why."""
    return {sweep.name: sweep.gap for sweep in self.sweeps if sweep.gap}

  @property
  def untested(self) -> dict[str, str]:
    """Every sweep whose test is missing, or of an older checkpoint than its newest, and why."""
    said = {}
    for sweep in self.sweeps:
      if sweep.tested is None and sweep.is_in_a_maze:
        said[sweep.name] = sweep.gap or "not tested: run experiments.navigate"
      elif sweep.stale_test:
        said[sweep.name] = "; ".join(filter(None, (sweep.gap, sweep.stale_test)))
    return said

  def of(self, maze: str) -> tuple[Sweep, ...]:
    """The sweeps in one maze."""
    return tuple(sweep for sweep in self.sweeps if sweep.maze == maze)


def find(patterns: Sequence[str], *, in_mazes_only: bool = False) -> tuple[pathlib.Path, ...]:
  """Folders of sweeps that `patterns` name, sorted: a sweep, a folder with sweeps at any depth, or a glob.

  Raises:
    ValueError: if a pattern names none.
  """
  sweeps: set[pathlib.Path] = set()
  for pattern in patterns:
    files = {file for root in records.folders(pattern) for file in root.rglob("config.json")}
    worlds = (_MAZE,) if in_mazes_only else (_MAZE, _ARM)
    own = {file.parent for file in files if _is_sweep(records.read_object(file), worlds)}
    if not own:
      raise ValueError(
        f"--runs={pattern}: no sweep of a navigator there; train one by experiments/configs/navigation.py"
      )
    sweeps |= own
  return tuple(sorted(sweeps))


def read_all(patterns: Sequence[str]) -> Navigation:
  """All sweeps that `patterns` name.

  Raises:
    ValueError: if there is none, if two are of one agent in one maze, or if nothing has been learned yet.
  """
  sweeps = sorted((read(path) for path in find(patterns)), key=lambda sweep: (sweep.maze, sweep.agent))
  for one, other in zip(sweeps, sweeps[1:], strict=False):
    if one.name == other.name:
      raise ValueError(f"{one.path} and {other.path} are both sweeps of {one.agent} in {one.maze}; name one of them")
  everyone = Navigation(tuple(sweeps))
  if not everyone.runs:
    raise ValueError(f"--runs={','.join(patterns)}: no run has finished episodes; train longer")
  return everyone


def read(path: pathlib.Path) -> Sweep:
  """The sweep in `path`.

  Raises:
    ValueError: if its config.json lacks a field.
  """
  config = records.read_object(path / "config.json")
  try:
    nothing = _unread(path, config)
  except KeyError as error:
    raise ValueError(f"{path / 'config.json'} lacks {error}; it is no sweep of this version's") from error
  try:
    members = sweep_folder.read_members(path, nothing.num_runs)
  except ValueError as error:
    return nothing._replace(note="unreadable", gap=f"unreadable: {error}")
  try:
    tested, fault = episodes_file.read(path), ""
  except ValueError as error:  # The curves are still there.
    tested, fault = None, f"its test is unreadable: {error}"
  runs = members.runs
  note, gap = sweep_folder.why_incomplete(runs, nothing.steps, is_done=True)
  gap = "; ".join(filter(None, (gap, members.lacking, fault)))
  sweep = nothing._replace(runs=runs, tested=tested, note=note, gap=gap, newest_step=_newest_step(path))
  if not runs:
    return sweep
  curve = curve_of(runs, sweep)
  if fault := sweep_folder.why_unreadable(runs, curve):
    return nothing._replace(note="unreadable", gap=fault)
  best = sweep_folder.top_runs(curve, sweep.top, min(0.0, float(curve.values.min())))
  return sweep._replace(best=tuple(runs[i] for i in best), curve=curve._replace(values=curve.values[best]))


def _unread(path: pathlib.Path, config: Mapping[str, Any]) -> Sweep:
  """What the config says about a sweep."""
  phase = config["train"]
  return Sweep(
    path=path,
    agent=config["agent"],
    maze=config["world"].removeprefix(_MAZE),
    steps=int(phase["steps"]),
    num_runs=int(config["sweep"]["num_runs"]),
    top=max(int(config["sweep"]["top"]), 1),
    options=config.get("world_options", {}),
    column=phase["column"],
    heads={name: {**head, "cost": None} for name, head in phase["auxiliary"].items()},
    reward_clip=float(phase["hyper"]["reward_clip"]),
    settings={name: phase[name] for name in ("hyper", "num_worlds", "num_steps", "steps")},
    runs=(),
    best=(),
    curve=None,
    tested=None,
    note="",
    gap="",
  )


def curve_of(runs: Sequence[records.Run], sweep: Sweep, *, median_points: int = 1) -> curves.Curve:
  """The curve of a sweep's runs over environment steps, smoothed as by `curves.points`."""
  curve = curves.stack([sweep_folder.points(run, sweep.steps, None, median_points) for run in runs])
  return curve._replace(steps=curve.steps * (sweep.environment_steps // sweep.steps))


def _newest_step(path: pathlib.Path) -> int | None:
  """The newest step of the checkpoints in `path`; None if none can be tested."""
  try:
    return max(checkpoint.steps(path / "checkpoints"), default=None)
  except ValueError:  # Saved by an earlier version.
    return None


def _is_sweep(config: Mapping[str, Any], worlds: tuple[str, ...]) -> bool:
  return {"agent", "world", "train", "sweep"} <= set(config) and str(config["world"]).startswith(worlds)
