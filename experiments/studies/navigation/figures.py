"""Learning to navigate, from folders of sweeps: figure 3 and table 1 of Mirowski et al. 2017, the paper's beside ours.

The main result is under figure 3: how many times fewer environment steps (four frames per agent step) the agents with
auxiliary losses need to reach a score than the same agent without them. That score is half way from the score of
untrained play in a maze to the best final score in it. A quarter and three quarters of the way are also given. For
this, curves are smoothed by a running median of `SMOOTH_POINTS`. A final score is the mean over the episodes that ended
in a run's last tenth. `episode_figures` has the figures of one episode.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from analysis import intervals, measure_plots, navigation, paper, plots, speedup
from experiments.report import drawing
from experiments.store import run_directory, sweep_folder
from experiments.studies.navigation import episodes_file, folder

_UNCLIPPED = {
  "ff": "#999999",
  "lstm": "#555555",
  "nav": "#d9661f",
  "nav_rgbd": "#8c5a9e",
  "nav_l": "#b8860b",
  "nav_d1": "#5aa0e6",
  "nav_d1l": "#3aa6a6",
  "nav_d2": "#1f4e9c",
  "nav_d1d2": "#c0392b",
  "nav_d1d2l": "#2f8f5b",
  "reacher": "#d9661f",
  "reacher_l": "#b8860b",
  "reacher_d1": "#5aa0e6",
  "reacher_d2": "#1f4e9c",
  "reacher_d1d2l": "#2f8f5b",
  "reacher_pose": "#8c5a9e",
}
# In the order of figures; agents that clip rewards are drawn dashed.
COLORS = {name: color for agent, color in _UNCLIPPED.items() for name in (agent, f"{agent}_clip")}
# Used in turn for other agents; agents that differ only in the clip share a colour.
_OTHER_COLORS = ("#000000", "#e377c2", "#7a4a21", "#9acd32", "#c2185b", "#00bcd4", "#e6c700", "#4b0082", "#6b6b00")
_MOST_OF_THE_ARM = 50.0  # The largest return of an episode.
_PERCENTAGES = ("% of the paper's", "% of an expert's")
SHARES = (0.5, 0.25, 0.75)  # Of the way from untrained play to the best score; the first is the main result.
SMOOTH_POINTS = 5
# Our agents -> the legends of figure 3, and the rows of table 1. Starred agents clip rewards. So do the agents of v1,
# which have the starred agents' scores and whose D regresses depth from the encoder.
PAPER_FIG3 = {
  "ff_clip": "FF A3C*",
  "lstm_clip": "LSTM A3C*",
  "nav_clip": "Nav A3C*",
  "nav_l_clip": "Nav A3C*+L",
  "nav_d1_clip": "Nav A3C*+D1",
  "nav_d1l_clip": "Nav A3C*+D1L",
  "nav_d1": "Nav A3C+D1",
  "nav_d1mse": "Nav A3C+D1MSE",
  "nav_d2": "Nav A3C+D2",
  "nav_d1d2l": "Nav A3C+D1D2L",
}
PAPER_TABLE1 = {
  "ff_clip": "FF A3C",
  "lstm_clip": "LSTM A3C",
  "nav_d1msel_clip": "Nav A3C+D+L",
  "nav_d2": "Nav A3C+D2",
  "nav_d1d2l": "Nav A3C+D1D2L",
}
_NOT_THERE = "not in the paper"
_VERSIONS = {"v1": "v1", "v3": "v3, remembered"}
# The paper's I-maze has other places than ours, and more of them (environments/maze/tasks.py).
_OTHER_PLACES = {"i_maze": dict.fromkeys(("first goal, s", "later goals, s", "position %"), "another maze")}


def fig3(everyone: folder.Navigation) -> drawing.Drawn:
  """Learning curves of all agents, a panel for each maze; AUC and final score; the steps that auxiliary losses save.

  Bands and intervals are over the top runs, which were chosen by the same curves: they do not cover that choice.
  """
  panels, levels = [], []
  colors = _colors(everyone)
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for maze, sweeps in _learned(everyone):
    counts = sorted(len(sweep.curve.values) for sweep in sweeps if sweep.curve is not None)
    counted = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else f"{counts[0]}"
    panels.append(plots.Panel(f"{maze}, runs a line: {counted}", [_line(sweep, colors) for sweep in sweeps]))
    levels.append(scores_between(sweeps)[0])
    statistics |= {sweep.name: _counted(sweep) | curve_numbers(sweep) | _beside_paper(sweep) for sweep in sweeps}
  bounds = _bounds(everyone)
  note = "level dashed line: half of the way from untrained play to the best score"
  picture = plots.learning_curves(
    panels,
    x_label="environment steps",
    y_label="score",
    bounds=bounds[:2],
    panels_per_row=3,
    has_shared_legend=True,
    note=note,
  )
  for axis, level in zip(picture.axes, levels, strict=False):
    axis.axhline(level, color="0.6", linestyle="--", linewidth=0.9)
  gaps, saved = everyone.gaps | _unfit_baselines(everyone), speedups(everyone)
  more_tables = {"speedup": saved} if saved else {}
  return drawing.Drawn(picture, statistics, more_tables=more_tables, gaps=gaps, bounds=bounds)


def table1(everyone: folder.Navigation) -> drawing.Drawn:
  """Table 1: the numbers of the learning curve and of test episodes; the paper's rows are below ours."""
  tested = tested_sweeps(everyone)
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for sweep, one in tested:
    numbers = {name: cell for name, cell in curve_numbers(sweep).items() if name in ("AUC", "score")}
    statistics[sweep.name] = numbers | test_numbers(one)
    for row in _paper_rows(sweep):
      statistics[f"{sweep.maze}/{row.agent} (paper, {_VERSIONS[row.version]})"] = _paper_numbers(row)
  picture = measure_plots.dots([sweep.name for sweep, _ in tested], *_dots(tested))
  gaps = everyone.gaps | everyone.untested
  return drawing.Drawn(picture, statistics, gaps=gaps, bounds=_bounds(everyone))


def curve_numbers(sweep: folder.Sweep) -> dict[str, drawing.Cell]:
  """AUC and final score of each top run over its whole length, or why there are none."""
  if sweep.note or sweep.curve is None:
    return {"AUC": sweep.note, "score": sweep.note}
  return {"AUC": navigation.auc(sweep.curve, float(sweep.environment_steps)), "score": _final_scores(sweep)}


def tested_sweeps(everyone: folder.Navigation) -> list[tuple[folder.Sweep, episodes_file.Tested]]:
  """Every sweep that has test episodes, with these; ValueError if none has."""
  sweeps = [sweep for maze in everyone.mazes for sweep in in_order(everyone.of(maze))]
  tested = [(sweep, sweep.tested) for sweep in sweeps if sweep.tested is not None]
  if not tested:
    raise ValueError("no sweep has test episodes; run experiments.navigate --runs=... first")
  return tested


def describe(tested: episodes_file.Tested) -> str:
  """The results of test episodes in one line."""
  return "; ".join(f"{name} {words}" for name, words in drawing.cells({"": test_numbers(tested)})[""].items())


def test_numbers(tested: episodes_file.Tested) -> dict[str, drawing.Cell]:
  """The results of test episodes; words if there is nothing to measure."""
  summary = tested.summary
  no_goal = "no goal found"
  numbers: dict[str, drawing.Cell] = {
    "test score": tested.score,
    "test episodes": str(summary["episodes"]),
    "goals %": drawing.number(summary["goal_percent"]),
    "first goal, s": _or(summary["first_s"], no_goal),
    "later goals, s": _or(summary["later_s"], no_goal if summary["first_s"] is None else "no second goal"),
    "position %": _or(summary["position_percent"], "too few episodes"),
  }
  if summary["loop_closure"] is not None:
    f1 = summary["loop_closure"]["f1"]
    numbers["loop F1 %"] = "no loop" if f1 is None else drawing.number(100.0 * f1)
    share = summary["loop_percent"] / 100.0  # Always saying yes has this precision and a recall of 1.
    numbers["loop F1 % of always yes"] = drawing.number(200.0 * share / (1.0 + share))
  for name, one in summary["depth"].items():
    layer = name.rpartition("_from_")[2]
    numbers[f"depth % from {layer} (prior)"] = f"{one['accuracy_percent']:.1f} ({one['prior_percent']:.1f})"
  return numbers


def scores_between(sweeps: list[folder.Sweep]) -> list[float]:
  """The scores at `SHARES` of the way from untrained play to the best final score of the sweeps in one maze."""
  start = float(np.mean(np.concatenate([sweep.curve.values[:, 0] for sweep in sweeps if sweep.curve is not None])))
  best = max(float(_final_scores(sweep).mean()) for sweep in sweeps if sweep.best)
  return [start + share * (best - start) for share in SHARES]


def speedups(everyone: folder.Navigation) -> dict[str, dict[str, drawing.Cell]]:
  """Maze, score and agent with auxiliary losses -> median steps with and without these losses, and their ratio."""
  table: dict[str, dict[str, drawing.Cell]] = {}
  for _, sweeps in _learned(everyone):
    for share, score in zip(SHARES, scores_between(sweeps), strict=True):
      for sweep in sweeps:
        without = _without(sweep, sweeps)
        if without is None:
          continue
        lacking = [f"{one.agent} {one.note}" for one in (sweep, without) if one.note]
        row = f"{sweep.name}, score {score:.1f} ({share:.0%})"
        table[row] = {"speed-up": "; ".join(lacking)} if lacking else _speedup(without, sweep, score)
  return table


def in_order(sweeps: tuple[folder.Sweep, ...]) -> list[folder.Sweep]:
  """Sorts in the order of the colours; agents without a colour of their own come last."""
  places = {agent: place for place, agent in enumerate(COLORS)}
  return sorted(sweeps, key=lambda sweep: places.get(sweep.agent, len(places)))


def _learned(everyone: folder.Navigation) -> Iterator[tuple[str, list[folder.Sweep]]]:
  """Each maze with the ordered sweeps there that have curves, if there are any."""
  for maze in everyone.mazes:
    if sweeps := [sweep for sweep in in_order(everyone.of(maze)) if sweep.curve is not None]:
      yield maze, sweeps


def _colors(everyone: folder.Navigation) -> dict[str, str]:
  """Every agent's colour, the same in all panels."""
  others = sorted((sweep for sweep in everyone.sweeps if sweep.agent not in COLORS), key=lambda sweep: sweep.agent)
  colors = COLORS.copy()
  unused = itertools.cycle(_OTHER_COLORS)
  for sweep in others:
    if sweep.agent not in colors:
      alike = [one.agent for one in others if (one.column, one.heads) == (sweep.column, sweep.heads)]
      colors |= dict.fromkeys(alike, next(unused))
  return colors


def _line(sweep: folder.Sweep, colors: Mapping[str, str]) -> plots.Line:
  assert sweep.curve is not None
  return plots.Line(sweep.agent, colors[sweep.agent], sweep.curve, style="--" if sweep.is_clipped else "-")


def _counted(sweep: folder.Sweep) -> dict[str, drawing.Cell]:
  """Which runs count: the best of those that have ended episodes, which may be fewer than planned."""
  planned = f" ({sweep.num_runs} planned)" if len(sweep.runs) < sweep.num_runs else ""
  return {"counted": f"top {len(sweep.best)} of {len(sweep.runs)}{planned}"}


def _bounds(everyone: folder.Navigation) -> drawing.Bounds:
  """Bounds of scores: from 0 if no score is below it (lemons give negative rewards), and on the arm up to 50."""
  if not any(sweep.is_in_a_maze for sweep in everyone.sweeps):
    return drawing.Bounds(0.0, _MOST_OF_THE_ARM, but_for=_PERCENTAGES)
  lowest = min(sweep.curve.values.min() for sweep in everyone.sweeps if sweep.curve is not None)
  return drawing.Bounds(low=0.0) if lowest >= 0.0 else drawing.Bounds()


def _final_scores(sweep: folder.Sweep) -> np.ndarray:
  """Each top run's mean return in its last tenth, `[S]`; if no episode ended there, the return of its last one."""
  return np.array([sweep_folder.last_returns(run).mean() for run in sweep.best])


def _speedup(without: folder.Sweep, sweep: folder.Sweep, score: float) -> dict[str, drawing.Cell]:
  slow, fast = (folder.curve_of(one.best, one, median_points=SMOOTH_POINTS) for one in (without, sweep))
  numbers: dict[str, drawing.Cell] = {}
  try:
    ratio = speedup.speedup(slow, fast, score)
  except ValueError:
    numbers["speed-up"] = "reached before learning"
  else:
    numbers["speed-up"] = speedup.describe(ratio)
    if ratio.is_known:
      numbers["ratio"] = intervals.Interval(*(np.asarray(x) for x in (ratio.at_least, ratio.low, ratio.high)))
  return numbers | {
    "steps with": speedup.steps_in_words(fast, score),
    "steps without": speedup.steps_in_words(slow, score),
  }


def _unfit_baselines(everyone: folder.Navigation) -> dict[str, str]:
  """Agents with auxiliary losses whose baseline is missing, has other settings, or has another choice of runs."""
  gaps = {}
  for maze, sweeps in _learned(everyone):
    missing = [sweep.agent for sweep in sweeps if sweep.heads and _without(sweep, sweeps) is None]
    if missing:
      gaps[f"speed-up in {maze}"] = f"no {missing[0]} without its auxiliary losses there to compare with"
    for sweep in sweeps:
      without = _without(sweep, sweeps) or sweep
      ours, theirs = (f"top {len(one.best)} of {len(one.runs)} runs" for one in (sweep, without))
      is_choice = any(one.top < one.num_runs for one in (sweep, without))
      changes = run_directory.difference(without.settings, sweep.settings, "train.")
      faults = [f"{ours} against {theirs} without"] if ours != theirs and is_choice else []
      faults += [f"other settings without its losses: {'; '.join(changes)}"] if changes else []
      if faults:
        gaps[f"speed-up of {sweep.name}"] = "; ".join(faults)
  return gaps


def _without(sweep: folder.Sweep, sweeps: list[folder.Sweep]) -> folder.Sweep | None:
  """The baseline in `sweeps` of a sweep with auxiliary losses: the same column and clip, without these losses."""
  if not sweep.heads:
    return None
  plain = (one for one in sweeps if not one.heads and one.reward_clip == sweep.reward_clip)
  return next((one for one in plain if not run_directory.difference(one.column, sweep.column, "train.column.")), None)


def _beside_paper(sweep: folder.Sweep) -> dict[str, drawing.Cell]:
  """The paper's final score of the same agent, and ours in % of it and of an expert's score."""
  maze = sweep.maze if sweep.is_as_published else ""
  theirs = paper.navigation_scores().get(maze, {}).get(PAPER_FIG3.get(sweep.agent, ""))
  human = paper.NAVIGATION_HUMAN.get(maze)
  ours = curve_numbers(sweep)["score"]

  def percent_of(other: float | None) -> drawing.Cell:
    if other is None:
      return _NOT_THERE
    return 100.0 * ours / other if isinstance(ours, np.ndarray) else sweep.note

  return {
    "paper's score": _or(theirs, _NOT_THERE),
    _PERCENTAGES[0]: percent_of(theirs),
    _PERCENTAGES[1]: percent_of(human),
  }


def _paper_rows(sweep: folder.Sweep) -> list[paper.NavigationRow]:
  if not sweep.is_as_published:
    return []
  name = PAPER_TABLE1.get(sweep.agent)
  return [row for row in paper.navigation_table1() if (row.maze, row.agent) == (sweep.maze, name)]


def _paper_numbers(row: paper.NavigationRow) -> dict[str, drawing.Cell]:
  given = {
    "AUC": row.auc,
    "score": row.score,
    "test score": row.test_score,
    "goals %": row.goals,
    "first goal, s": row.first_s,
    "later goals, s": row.later_s,
    "position %": row.position_percent,
  }
  loop_f1 = paper.NAVIGATION_LOOP_F1.get((row.version, row.maze, row.agent))
  if loop_f1 is not None:
    given["loop F1 %"] = 100.0 * loop_f1
  numbers: dict[str, drawing.Cell] = {name: drawing.number(x) for name, x in given.items()}
  return numbers | _OTHER_PLACES.get(row.maze, {})


def _dots(
  tested: list[tuple[folder.Sweep, episodes_file.Tested]],
) -> tuple[Mapping[str, list[intervals.Interval]], Mapping[str, list[float]]]:
  """(ours, the paper's) of the measures that all agents have."""
  measures = ("test score", "goals %", "first goal, s", "later goals, s", "position %")
  missing = drawing.number(np.nan)
  ours: dict[str, list[intervals.Interval]] = {name: [] for name in measures}
  theirs: dict[str, list[float]] = {name: [] for name in measures}
  for sweep, one in tested:
    numbers = test_numbers(one)
    beside = [_paper_numbers(row) for row in _paper_rows(sweep)][-1:]
    for name in measures:
      cell = numbers[name]
      ours[name].append(cell if isinstance(cell, intervals.Interval) else missing)
      their_cells = [row[name] for row in beside]
      theirs[name].append(
        float(their_cells[0].mean) if their_cells and isinstance(their_cells[0], intervals.Interval) else np.nan
      )
  return ours, {name: values for name, values in theirs.items() if np.isfinite(values).any()}


def _or(x: float | None, words: str) -> drawing.Cell:
  return words if x is None else drawing.number(x)
