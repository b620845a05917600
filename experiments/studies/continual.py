"""Modes of a game in sequence: average performance and forward transfer by method, and what correcting ProgNet changes.

A run's config names its method and mode (`configs.continual`). An episode succeeds if it reaches a score: the mean
return of the methods in the last tenth of the task. We do not know the papers' scores.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis import continual, curves, plots, records
from experiments.report import colors, drawing
from experiments.store import sweep_folder

COLORS = {
  "scratch": colors.METHODS["scratch"][0],
  "finetune": colors.METHODS["finetune"][0],
  "as published": "#8c5a9e",
  "corrected": "#2f8f5b",
  "with adapters": colors.METHODS["progressive"][0],
}
_PROGRESSIVE = {"blind": "as published", "linear": "corrected", "adapter": "with adapters"}  # Laterals -> method.
_RETAINED = "retained"  # A task played again after the last one, by the network that finetuning has made.
_PERFORMANCE, _TRANSFER = "average performance", "forward transfer"
_KEPT = "success after the last task, finetuned"
_SCORE, _RETURN = "score to reach", "return in the end"
_CHANGES = {name: f"more {name}" for name in (_PERFORMANCE, _TRANSFER)}
_BOUNDS = drawing.Bounds(0.0, 1.0, but_for=(_TRANSFER, _SCORE, _RETURN, *_CHANGES.values()))  # Shares of episodes.


class _Task(NamedTuple):
  """One task as one method learned it; arrays are over the seeds, `[S]`."""

  curve: curves.Curve  # Of returns.
  returns: np.ndarray  # At the end.
  success: np.ndarray  # At the end.
  area: np.ndarray
  transfer: np.ndarray


class _Game(NamedTuple):
  """Everything that is known about the tasks of one game."""

  name: str
  modes: tuple[int, ...]  # In the order in which they are learned.
  scores: Mapping[int, float]  # Scores that succeed, for the modes that some method has learned.
  tasks: Mapping[tuple[str, int], _Task]  # By method and mode.
  retained: Mapping[int, np.ndarray]  # Mode -> success of finetuning after the last task, `[S]`.
  gaps: Mapping[str, str]


def draw(runs: Sequence[records.Run]) -> drawing.Drawn:
  """A panel of returns for each mode; both measures of every method, each task's part, and the correction's effect.

  Raises:
    ValueError: for a run of another experiment, for two runs of the same task, method and seed, or for runs of one game
      that differ in length.
  """
  by_game: dict[str, dict[tuple[str, int, int], records.Run]] = {}
  for run in runs:
    game, method, mode, seed = _key(run)
    other = by_game.setdefault(game, {}).setdefault((method, mode, seed), run)
    if other is not run:
      raise ValueError(f"{run.path} and {other.path} are runs of the same task, method and seed; leave one out")
  for of_game in by_game.values():
    _check_lengths([run for (method, *_), run in of_game.items() if method != _RETAINED])
  games = [_read(game, of_game) for game, of_game in by_game.items()]
  panels = [
    plots.Panel(
      f"{game.name}, mode {mode}",
      [plots.Line(name, color, game.tasks[name, mode].curve) for name, color in _drawn(game, mode).items()],
    )
    for game in games
    for mode in game.modes
    if _drawn(game, mode)
  ]
  if not panels:
    reasons = "; ".join(f"{what}: {why}" for game in games for what, why in game.gaps.items())
    raise ValueError(
      f"there is no task that a method has learned, and scratch has tried ({reasons}); go on with the plan"
    )
  picture = plots.learning_curves(
    panels, x_label="agent steps", y_label="return", panels_per_row=4, has_shared_legend=True
  )
  measures = {game.name: {method: _measures(game, method) for method in _methods(game)} for game in games}
  changes = {
    f"{game}: corrected less as published": _change(of_game)
    for game, of_game in measures.items()
    if "corrected" in of_game
  }
  return drawing.Drawn(
    picture,
    {f"{game}: {method}": cells for game, of_game in measures.items() for method, cells in of_game.items()},
    more_tables={
      **({"changes": changes} if changes else {}),
      "tasks": {row: cells for game in games for row, cells in _of_tasks(game).items()},
    },
    gaps={what: why for game in games for what, why in game.gaps.items()},
    places=2,
    bounds=_BOUNDS,
  )


def _check_lengths(runs: Sequence[records.Run]) -> None:
  for run in runs[1:]:
    here, there = (one.config["train"]["steps"] for one in (run, runs[0]))
    if here != there:
      raise ValueError(
        f"{run.path}: train.steps={here}, but {there} in {runs[0].path}; areas are of whole runs: give --runs those of "
        f"one length"
      )


def _key(run: records.Run) -> tuple[str, str, int, int]:
  """(game, method, mode, seed) of a run."""
  config = run.config
  mode, method = config.get("world_options", {}).get("mode"), config.get("method")
  if method == "progressive":
    method = _PROGRESSIVE.get(config["train"]["column"].get("laterals", ""))
  elif method == "finetune_head":
    method = _RETAINED
  if mode is None or method not in (*COLORS, _RETAINED):
    raise ValueError(f"{run.path}: no run of configs/continual.py: its method is {method!r} and its mode {mode!r}")
  return config["world"].removeprefix("atari/"), method, int(mode), int(config["seed"])


def _read(game: str, runs: Mapping[tuple[str, int, int], records.Run]) -> _Game:
  """Measures what has been learned of a game; whatever is missing for some seed is a gap."""
  modes, seeds = sorted({mode for _, mode, _ in runs}), sorted({seed for *_, seed in runs})
  gaps: dict[str, str] = {}

  def complete(method: str, mode: int) -> list[records.Run]:
    """The runs of all seeds; if one is missing, none, and a gap is noted."""
    found = [runs.get((method, mode, seed)) for seed in seeds]
    lacking = [f"seed {seed}: {_lack(run)}" for seed, run in zip(seeds, found, strict=True) if _lack(run)]
    if lacking:
      gaps[f"{game}, mode {mode}, {method}"] = "; ".join(lacking) if len(seeds) > 1 else lacking[0].split(": ", 1)[1]
    return [] if lacking else [run for run in found if run]

  tasks: dict[tuple[str, int], _Task] = {}
  scores: dict[int, float] = {}
  retained: dict[int, np.ndarray] = {}
  for mode in modes:
    scratch = complete("scratch", mode)
    others = () if mode == modes[0] else COLORS.keys() - {"scratch"}  # All methods learn the first mode from scratch.
    found = {method: complete(method, mode) if method in others else scratch for method in COLORS}
    if not scratch:
      continue
    ends = [[sweep_folder.last_returns(run).mean() for run in of_method] for of_method in found.values() if of_method]
    score = float(np.mean([np.mean(end) for end in ends]))
    if score <= 0.0:
      gaps[f"{game}, mode {mode}"] = f"methods return {score:.1f} in the end: no score to reach"
      continue
    scores[mode] = score
    tasks["scratch", mode] = baseline = _measure(scratch, score, None)
    for method, of_method in found.items():
      if of_method and method != "scratch":
        tasks[method, mode] = _measure(of_method, score, baseline.area)
    if mode != modes[-1] and (again := complete(_RETAINED, mode)):
      retained[mode] = np.array([continual.successes(records.episodes(run)[1], score).mean() for run in again])
  return _Game(game, tuple(modes), scores, tasks, retained, gaps)


def _lack(run: records.Run | None) -> str:
  """Why a run does not count; '' if it does."""
  if run is None:
    return "not run"
  if not records.has_ended(run):
    return "empty: no episode has ended"
  return sweep_folder.why_incomplete([run], int(run.config["train"]["steps"]), is_done=True)[1]


def _measure(runs: Sequence[records.Run], score: float, baselines: np.ndarray | None) -> _Task:
  steps = int(runs[0].config["train"]["steps"])
  succeeding = [
    continual.success_curve(*records.episodes(run), score=score, num_steps=steps, num_points=sweep_folder.NUM_POINTS)
    for run in runs
  ]
  area = np.concatenate([curves.mean_height(curve) for curve in succeeding])
  late = [sweep_folder.last_returns(run) for run in runs]
  return _Task(
    curve=curves.stack([sweep_folder.points(run, steps, None) for run in runs]),
    returns=np.array([returns.mean() for returns in late]),
    success=np.array([continual.successes(returns, score).mean() for returns in late]),
    area=area,
    transfer=continual.forward_transfer(area, area if baselines is None else baselines),
  )


def _methods(game: _Game) -> tuple[str, ...]:
  """All methods; for a game with one mode, which all learn from scratch, only "scratch"."""
  return tuple(COLORS) if len(game.modes) > 1 else ("scratch",)


def _drawn(game: _Game, mode: int) -> dict[str, str]:
  """Method -> colour, for the lines of a panel."""
  methods = ("scratch",) if mode == game.modes[0] else COLORS
  return {name: COLORS[name] for name in methods if (name, mode) in game.tasks}


def _measures(game: _Game, method: str) -> dict[str, drawing.Cell]:
  """Average performance and forward transfer over all tasks; words if a task is missing."""
  lacking = [f"mode {mode}" for mode in game.modes if (method, mode) not in game.tasks]
  if lacking:
    return dict.fromkeys((_PERFORMANCE, _TRANSFER), f"lacks {', '.join(lacking)}")
  tasks = {mode: game.tasks[method, mode] for mode in game.modes}
  transfer = np.mean([task.transfer for task in tasks.values()], axis=0)
  ends = {mode: task.success for mode, task in tasks.items()}  # Only finetuning changes these later.
  if method == "finetune":
    ends |= {mode: game.retained[mode] for mode in game.modes[:-1] if mode in game.retained}
    if forgotten := [f"mode {mode}" for mode in game.modes[:-1] if mode not in game.retained]:
      return {_PERFORMANCE: f"lacks {', '.join(forgotten)} in the end", _TRANSFER: transfer}
  return {_PERFORMANCE: continual.average_performance(np.stack(list(ends.values()))), _TRANSFER: transfer}


def _change(measures: Mapping[str, Mapping[str, drawing.Cell]]) -> dict[str, drawing.Cell]:
  """The corrected network minus the published one, seed by seed."""
  changes: dict[str, drawing.Cell] = {}
  for name, corrected in measures["corrected"].items():
    published = measures["as published"][name]
    words = [cell for cell in (corrected, published) if isinstance(cell, str)]
    if words:
      changes[_CHANGES[name]] = words[0]
    elif isinstance(corrected, np.ndarray) and isinstance(published, np.ndarray):
      changes[_CHANGES[name]] = corrected - published
  return changes


def _kept(game: _Game, mode: int, method: str) -> dict[str, drawing.Cell]:
  """What finetuning still does in a mode after the last one. The first mode is learned once, from scratch, for all."""
  is_finetuned = method == "finetune" or mode == game.modes[0]
  return {_KEPT: game.retained[mode]} if is_finetuned and mode in game.retained else {}


def _of_tasks(game: _Game) -> dict[str, dict[str, drawing.Cell]]:
  return {
    f"{game.name}, mode {mode}: {method}": {
      _SCORE: drawing.number(game.scores[mode]),
      _RETURN: task.returns,
      "success in the end": task.success,
      "area": task.area,
      _TRANSFER: task.transfer,
      **_kept(game, mode, method),
    }
    for mode in game.modes
    for method in _drawn(game, mode)
    for task in [game.tasks[method, mode]]
  }
