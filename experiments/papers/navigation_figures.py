"""Learning to navigate, from folders of sweeps: figure 3 and table 1 of Mirowski et al. 2017, the paper's beside ours.

The headline stands under figure 3: how many times fewer environment steps (four frames an agent step) the agents with
auxiliary losses need to reach a score than the same agent without. That score lies half way from what untrained play
scores in a maze to the best final score there; a quarter and three quarters of the way stand beside it. Curves are
smoothed by a running median of `SMOOTH_POINTS` for this. `navigation_episode_figures` has the figures of one episode.
"""

import re
from collections.abc import Mapping

import numpy as np

from analysis import curves, measure_plots, navigation, paper, plots, speedup, transfer
from experiments.disk import navigation_folder
from experiments.papers import drawing

COLORS = {
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
_OTHER_COLOR = "#000000"
_HAS_LOSSES = re.compile(r"(?P<base>ff|lstm|nav(_rgbd)?|reacher)_(d|l|pose)\w*?(?P<clip>(_clip)?)")
SHARES = (0.5, 0.25, 0.75)  # Of the way from untrained play to the best score; the first is the headline.
SMOOTH_POINTS = 5
# Our agents -> the legends of figure 3, and the rows of table 1. The paper's starred agents cut rewards, ours do not.
PAPER_FIG3 = {
  "ff": "FF A3C*",
  "lstm": "LSTM A3C*",
  "nav": "Nav A3C*",
  "nav_l": "Nav A3C*+L",
  "nav_d1l": "Nav A3C*+D1L",
  "nav_d1": "Nav A3C+D1",
  "nav_d2": "Nav A3C+D2",
  "nav_d1d2l": "Nav A3C+D1D2L",
}
PAPER_TABLE1 = {
  "ff": "FF A3C",
  "lstm": "LSTM A3C",
  "nav_d1msel": "Nav A3C+D+L",
  "nav_d2": "Nav A3C+D2",
  "nav_d1d2l": "Nav A3C+D1D2L",
}
_NOT_THERE = "not in the paper"


def fig3(found: navigation_folder.Navigation) -> drawing.Drawn:
  """Learning curves of all agents, a panel a maze; AUC and final score; what auxiliary losses save."""
  panels, levels = [], []
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for maze in found.mazes:
    sweeps = [sweep for sweep in in_order(found.of(maze)) if sweep.curve is not None]
    if not sweeps:
      continue
    panels.append(plots.Panel(maze, [_line(sweep) for sweep in sweeps]))
    levels.append(scores_between(sweeps)[0])
    statistics |= {sweep.name: curve_numbers(sweep) | _beside_paper(sweep) for sweep in sweeps}
  picture = plots.learning_curves(
    panels, x_label="environment steps", y_label="score", panels_per_row=3, has_shared_legend=True
  )
  for axis, level in zip(picture.axes, levels, strict=False):
    axis.axhline(level, color="0.6", linestyle="--", linewidth=0.9)
  gaps, saved = found.gaps | _no_baseline(found), speedups(found)
  more_tables = {"speedup": saved} if saved else {}
  return drawing.Drawn(drawing.mark_gaps(picture, gaps), statistics, more_tables=more_tables, gaps=gaps)


def table1(found: navigation_folder.Navigation) -> drawing.Drawn:
  """Table 1: the learning curve's numbers, and those of test episodes; the paper's rows below ours."""
  tested = [sweep for maze in found.mazes for sweep in in_order(found.of(maze)) if sweep.tested is not None]
  if not tested:
    raise ValueError("no sweep has test episodes; run experiments.navigate --runs=... first")
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for sweep in tested:
    numbers = {name: cell for name, cell in curve_numbers(sweep).items() if name in ("AUC", "score")}
    statistics[sweep.name] = numbers | test_numbers(sweep)
    for row in _paper_rows(sweep):
      statistics[f"{sweep.maze}/{row.agent} (paper, {row.version})"] = _paper_numbers(row)
  picture = measure_plots.dots([sweep.name for sweep in tested], *_dots(tested))
  gaps = found.gaps | found.untested
  return drawing.Drawn(drawing.mark_gaps(picture, gaps), statistics, gaps=gaps)


def curve_numbers(sweep: navigation_folder.Sweep) -> dict[str, drawing.Cell]:
  """AUC and final score of each top run over the whole length, or why there are none."""
  if sweep.note or sweep.curve is None:
    return {"AUC": sweep.note, "score": sweep.note}
  horizon = float(sweep.environment_steps)
  return {"AUC": navigation.auc(sweep.curve, horizon), "score": transfer.final_scores(sweep.curve, horizon)}


def test_numbers(sweep: navigation_folder.Sweep) -> dict[str, drawing.Cell]:
  """What test episodes say; words where there is nothing to measure."""
  assert sweep.tested is not None
  told = sweep.tested.summary
  no_goal = "no goal found"
  numbers: dict[str, drawing.Cell] = {
    "test score": sweep.tested.score,
    "goals %": drawing.number(told["goal_percent"]),
    "first goal, s": _or(told["first_s"], no_goal),
    "later goals, s": _or(told["later_s"], no_goal if told["first_s"] is None else "no second goal"),
    "position %": _or(told["position_percent"], "too few episodes"),
  }
  if told["loop_closure"] is not None:
    f1 = told["loop_closure"]["f1"]
    numbers["loop F1 %"] = "no loop" if f1 is None else drawing.number(100.0 * f1)
  for name, one in told["depth"].items():
    layer = name.rpartition("_from_")[2]
    numbers[f"depth % from {layer} (prior)"] = f"{one['accuracy_percent']:.1f} ({one['prior_percent']:.1f})"
  return numbers


def scores_between(sweeps: list[navigation_folder.Sweep]) -> list[float]:
  """The scores at `SHARES` of the way from untrained play to the best final score among sweeps in one maze."""
  all_curves = [sweep.curve for sweep in sweeps if sweep.curve is not None]
  start = float(np.mean(np.concatenate([curve.values[:, 0] for curve in all_curves])))
  best = max(float(transfer.final_scores(curve, float(curve.steps[-1])).mean()) for curve in all_curves)
  return [start + share * (best - start) for share in SHARES]


def speedups(found: navigation_folder.Navigation) -> dict[str, dict[str, drawing.Cell]]:
  """Each maze, score and agent with auxiliary losses -> steps it needs, steps without, and their ratio."""
  table: dict[str, dict[str, drawing.Cell]] = {}
  for maze in found.mazes:
    sweeps = [sweep for sweep in in_order(found.of(maze)) if sweep.curve is not None]
    if not sweeps:
      continue
    by_agent = {sweep.agent: sweep for sweep in sweeps}
    for share, score in zip(SHARES, scores_between(sweeps), strict=True):
      for sweep in sweeps:
        without = by_agent.get(_without(sweep.agent))
        if without is not None:
          table[f"{sweep.name}, score {score:.1f} ({share:.0%})"] = _speedup(without, sweep, score)
  return table


def in_order(sweeps: tuple[navigation_folder.Sweep, ...]) -> list[navigation_folder.Sweep]:
  """In the order of the colours; agents without one of their own last."""
  known = list(COLORS)
  return sorted(sweeps, key=lambda sweep: known.index(sweep.agent) if sweep.agent in known else len(known))


def _line(sweep: navigation_folder.Sweep) -> plots.Line:
  assert sweep.curve is not None
  return plots.Line(sweep.agent, COLORS.get(sweep.agent, _OTHER_COLOR), sweep.curve)


def _speedup(without: navigation_folder.Sweep, sweep: navigation_folder.Sweep, score: float) -> dict[str, drawing.Cell]:
  slow, fast = (_smooth(one.curve) for one in (without, sweep))
  numbers: dict[str, drawing.Cell] = {}
  try:
    ratio = speedup.speedup(slow, fast, score)
  except ValueError:
    numbers["speed-up"] = "reached before learning"
  else:
    numbers["speed-up"] = speedup.describe(ratio)
    if ratio.is_known:
      numbers["ratio"] = curves.Interval(*(np.asarray(x) for x in (ratio.at_least, ratio.low, ratio.high)))
  numbers["steps with"], numbers["steps without"] = speedup.steps_to(fast, score), speedup.steps_to(slow, score)
  return numbers


def _smooth(curve: curves.Curve | None) -> curves.Curve:
  assert curve is not None
  return curves.Curve(curve.steps, curves.median_filter(curve.values, SMOOTH_POINTS))


def _no_baseline(found: navigation_folder.Navigation) -> dict[str, str]:
  """Mazes whose agents with auxiliary losses have nothing to be compared with."""
  gaps = {}
  for maze in found.mazes:
    agents = [sweep.agent for sweep in found.of(maze) if sweep.curve is not None]
    missing = sorted({_without(agent) for agent in agents} - {"", *agents})
    if missing:
      gaps[f"speed-up in {maze}"] = f"no {missing[0]} there to compare with"
  return gaps


def _without(agent: str) -> str:
  """The agent that one with auxiliary losses is compared with; '' for one that has none."""
  match = _HAS_LOSSES.fullmatch(agent)
  return match["base"] + match["clip"] if match else ""


def _beside_paper(sweep: navigation_folder.Sweep) -> dict[str, drawing.Cell]:
  """The paper's final score of the same agent, and ours in % of it and of an expert's."""
  theirs = paper.navigation_scores().get(sweep.maze, {}).get(PAPER_FIG3.get(sweep.agent, ""))
  human = paper.NAVIGATION_HUMAN.get(sweep.maze)
  ours = curve_numbers(sweep)["score"]

  def percent_of(other: float | None) -> drawing.Cell:
    if other is None:
      return _NOT_THERE
    return 100.0 * ours / other if isinstance(ours, np.ndarray) else sweep.note

  return {
    "paper's score": _or(theirs, _NOT_THERE),
    "% of the paper's": percent_of(theirs),
    "% of an expert's": percent_of(human),
  }


def _paper_rows(sweep: navigation_folder.Sweep) -> list[paper.NavigationRow]:
  name = PAPER_TABLE1.get(sweep.agent)
  return [row for row in paper.navigation_table1() if (row.maze, row.agent) == (sweep.maze, name)]


def _paper_numbers(row: paper.NavigationRow) -> dict[str, drawing.Cell]:
  return {
    name: drawing.number(value)
    for name, value in (
      ("AUC", row.auc),
      ("score", row.score),
      ("test score", row.test_score),
      ("goals %", row.goals),
      ("first goal, s", row.first_s),
      ("later goals, s", row.later_s),
      ("position %", row.position_percent),
    )
  }


def _dots(
  tested: list[navigation_folder.Sweep],
) -> tuple[Mapping[str, list[curves.Interval]], Mapping[str, list[float]]]:
  """(ours, the paper's) of the measures that all agents have."""
  measures = ("test score", "goals %", "first goal, s", "later goals, s", "position %")
  missing = drawing.number(np.nan)
  ours: dict[str, list[curves.Interval]] = {name: [] for name in measures}
  theirs: dict[str, list[float]] = {name: [] for name in measures}
  for sweep in tested:
    numbers = test_numbers(sweep)
    beside = [_paper_numbers(row) for row in _paper_rows(sweep)][-1:]
    for name in measures:
      cell = numbers[name]
      ours[name].append(cell if isinstance(cell, curves.Interval) else missing)
      their_cells = [one[name] for one in beside]
      theirs[name].append(
        float(their_cells[0].mean) if their_cells and isinstance(their_cells[0], curves.Interval) else np.nan
      )
  return ours, {name: values for name, values in theirs.items() if np.isfinite(values).any()}


def _or(x: float | None, words: str) -> drawing.Cell:
  return words if x is None else drawing.number(x)
