"""The figures of Rusu et al. 2017 (CoRL) from run directories, the paper's own curves beside ours.

The figures show methods in two widths with any number of seeds each. Figure 6 shows all runs of a sweep, each by its
final return. One figure is only ours: returns over the size of the reality gap.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import curves, intervals, paper, plots, records
from environments.arm import gap as gap_lib
from environments.jaco import constants
from experiments.configs import base
from experiments.report import colors, drawing
from experiments.store import released, run_directory, sweep_folder

RETURN_BOUNDS = drawing.Bounds(0.0, 50.0)  # An episode ends after 50 steps with a reward of 0 or 1.
_RETURN_LIMITS = (-1.0, 50.0)  # Of axes.
_BIN_STEPS = 1000  # Steps between two of the paper's points.
# The paper's names for our methods (CoRL 2017, figure 5).
_PAPER_FIG5 = {
  "progressive, wide": "wide progressive",
  "progressive, narrow": "narrow progressive",
  "finetune, wide": "wide finetuned",
  "scratch, wide": "wide scratch",
  "scratch, narrow": "narrow scratch",
}
_PAPER_FIG6 = {"finetune": "finetuned", "progressive": "progressive"}
# Variant of jaco_corl2017.py -> its label in figure 7, and the paper's name.
_FIG7 = {"fig7_three": ("three columns", "3col"), "fig7_two": ("two columns", "2col")}
_ALL_EPISODES, _EARLY = "all episodes", "to 10k"
_WITHOUT_ARM = ("maze/", "pong/", "atari/")  # Prefixes of worlds' names.
_ELSEWHERE = "fig7_static"  # The second of three columns.
# Fields of `train` in which runs of one line may differ.
_BESIDE_LEARNING = (
  "steps", "evaluate_every", "evaluation_episodes", "keep_checkpoints", "save_every", "updates_per_record", "video"
)  # fmt: skip
_COPIED = "from a copy"  # A new column that starts as a copy of the first one.
_TAUGHT = "taught"
_RANDOMIZED, _HELPED = "randomized", "with helper losses"  # First columns that differ from the paper's.


def fig5(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Returns on the arm over arm steps by method: a raw point each 1,000 steps (dotted) and the running median."""
  runs, gaps = _begun(runs)
  return _over_arm_steps(*fig5_panels(runs), gaps | _short_runs(_by_label(runs, _method_and_width)))


def fig5_panels(runs: Sequence[records.Run]) -> tuple[Sequence[plots.Panel], drawing.Table]:
  """Figure 5's two panels, ours and the paper's, and its table.

  Raises:
    ValueError: for runs in different worlds, or runs of one label that started from different columns.
  """
  groups = _in_order(_by_label(runs, _method_and_width))
  _check_sources(groups)
  titles = (f"ours, {_where(runs)}", "Rusu et al. 2017, figure 5, on the Jaco")
  return _beside_the_paper(groups, "fig5", _PAPER_FIG5, titles)


def fig7(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Returns on the conveyor over arm steps, drawn as in figure 5.

  Runs of the second of three columns, which learns elsewhere, are left out.

  Raises:
    ValueError: for a run of another experiment, if no run is on the conveyor, or if some are on another conveyor.
  """
  runs, gaps = _begun(runs)
  by_agent = _by_label(runs, _agent)
  groups = {label: by_agent[agent] for agent, (label, _) in _FIG7.items() if agent in by_agent}
  if not groups:
    raise ValueError(f"all runs are of {_ELSEWHERE}; give --runs those of {', '.join(_FIG7)}")
  shown = [run for group in groups.values() for run in group]
  titles = (f"ours, {_where(shown)}", "Rusu et al. 2017, figure 7, on the Jaco")
  panels, statistics = _beside_the_paper(groups, "fig7", dict(_FIG7.values()), titles)
  gaps |= {label: "not run" for label, _ in _FIG7.values() if label not in groups}
  return _over_arm_steps(panels, statistics, gaps | _short_runs(groups))


def fig6(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Final returns of runs, best first, by change of the simulated scene and by method."""
  groups = _by_label(runs, _method_and_change)
  panels, gaps = [], {}
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for change in constants.CHANGES:
    lines = []
    for method in _PAPER_FIG6:
      label = f"{method}_{change}"
      ours, theirs = _final_returns(groups.get(label, ())), _paper_final_returns(change, method)
      if isinstance(ours, str):
        gaps[label] = ours
        statistics[f"{label} (ours)"] = {"mean": ours}
      else:
        lines.append(_sorted_line(f"{method}, ours", method, ours))
        statistics[f"{label} (ours)"] = _fig6_statistics(ours)
      lines.append(_sorted_line(f"{method}, Rusu et al. 2017", method, theirs)._replace(style="--"))
      statistics[f"{label} (paper)"] = _fig6_statistics(theirs)
    panels.append(plots.Panel(change.replace("_", " "), lines))
  picture = plots.learning_curves(
    panels,
    x_label="runs, best first, %",
    y_label="final return",
    y_limits=_RETURN_LIMITS,
    panels_per_row=len(panels),
    has_shared_legend=True,
    note="ours: mean of the episodes that ended in the last tenth of a run",
  )
  return drawing.Drawn(picture, statistics, gaps=gaps, bounds=RETURN_BOUNDS)


def gap(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Returns on the twin over the size of the reality gap: the unchanged column, and learning by each method.

  Raises:
    ValueError: for a run that is not on a twin, or has another task there.
  """
  runs, gaps = _begun(runs)
  by_gap = _by_label(runs, _gap_of)
  _where(runs, but_for=("world_options.gap",))
  sizes = [level for level in gap_lib.LEVELS if level in by_gap] + sorted(set(by_gap) - set(gap_lib.LEVELS))
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  points: dict[tuple[str, str], dict[float, np.ndarray]] = {}  # Method and part of the run -> size in % -> returns.
  for size in sizes:
    groups = _in_order(_by_label(by_gap[size], _method_and_width))
    _check_sources(groups)
    gaps |= _short_runs({f"{size}: {label}": group for label, group in groups.items()})
    for label, group in groups.items():
      _check_alike(label, group)
      returns = _returns_by_part(label, group)
      statistics[f"{size}: {label}"] = {
        part: intervals.of_mean(x, bounds=RETURN_BOUNDS[:2]) if part == _ALL_EPISODES else x
        for part, x in returns.items()
      }
      if size in gap_lib.LEVELS:
        for part, x in returns.items():
          points.setdefault((label, part), {})[100.0 * gap_lib.LEVELS[size]] = x
  lines = [_over_the_gap(*key, at) for key, at in points.items()]
  for label, color in (("progressive, narrow", "0.5"), ("finetune, wide", "0.7")):
    steps, values = paper.rusu2017("fig5")[f"{_PAPER_FIG5[label]}_raw"]
    start = curves.Curve(np.array([0.0, 100.0]), np.full((1, 2), np.interp(_BIN_STEPS, steps, values)))
    lines.append(plots.Line(f"{_method(label)} @1k (paper)", color, start, style="--"))
  panel, note = plots.Panel("ours, on the twin", lines), "unchanged: over episodes"
  picture = draw([panel], x_label="reality gap, % of the full one", note=note)
  return drawing.Drawn(picture, statistics, gaps=gaps, bounds=RETURN_BOUNDS)


def fig4(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Returns of the first column in simulation over agent steps, by width and by having a memory.

  Raises:
    ValueError: for a run that is not in simulation and from scratch, runs in different worlds, or runs of one label
      that learned with different settings.
  """
  runs, gaps = _begun(runs)
  groups = _by_label(runs, _memory_and_width)
  where = _where(runs)
  for label, group in groups.items():
    _check_alike(label, group)
  ours = {label: _train_curve(group) for label, group in groups.items()}
  theirs = {
    f"{memory}, {width}": curves.stack([paper.rusu2017(f"fig4_{memory.lower()}")[width]])
    for memory in ("LSTM", "FF")
    for width in ("wide", "narrow")
  }
  statistics: dict[str, Mapping[str, drawing.Cell]] = {}
  for label, curve in ours.items():
    statistics[f"{label} (ours)"] = _fig4_statistics(curve)
    if label in theirs:
      statistics[f"{label} (paper)"] = _numbers(_fig4_statistics(theirs[label]))
  panels = [  # Each over its own steps: a laptop's runs end before the paper's begin to rise.
    plots.Panel(f"ours, {where}", [_line(label, curve) for label, curve in ours.items()]),
    plots.Panel("Rusu et al. 2017, figure 4", [_line(label, curve) for label, curve in theirs.items()]),
  ]
  return _drawn(panels, "agent steps", statistics, gaps | _short_runs(groups))


def draw(panels: Sequence[plots.Panel], *, x_label: str = "arm steps", note: str = "") -> mpl_figure.Figure:
  """Panels of returns, side by side."""
  return plots.learning_curves(panels, x_label=x_label, y_label="return", y_limits=_RETURN_LIMITS, note=note)


def _drawn(
  panels: Sequence[plots.Panel], x_label: str, statistics: drawing.Table, gaps: Mapping[str, str], note: str = ""
) -> drawing.Drawn:
  bounds = RETURN_BOUNDS._replace(but_for=("steps",))
  return drawing.Drawn(draw(panels, x_label=x_label, note=note), statistics, gaps=gaps, bounds=bounds)


def _over_arm_steps(panels: Sequence[plots.Panel], statistics: drawing.Table, gaps: Mapping[str, str]) -> drawing.Drawn:
  note = f"ours: running median of {curves.MEDIAN_POINTS} points, one each {_BIN_STEPS:,} steps, as the paper's"
  return _drawn(panels, "arm steps", statistics, gaps, note)


def _beside_the_paper(
  groups: Mapping[str, Sequence[records.Run]], figure: str, names: Mapping[str, str], titles: tuple[str, str]
) -> tuple[Sequence[plots.Panel], drawing.Table]:
  """Two panels over arm steps, ours and the paper's, and their table.

  Args:
    groups: label -> runs.
    figure: the paper's figure.
    names: label -> the name of the paper's curve there.
    titles: of the panels.

  Raises:
    ValueError: for runs of one label that learned with different settings.
  """
  for label, group in groups.items():
    _check_alike(label, group)
  ours = {label: _episode_curve(group) for label, group in groups.items()}
  digitised = paper.rusu2017(figure)
  theirs = {}
  for label, name in names.items():
    theirs[label] = tuple(curves.stack([digitised[f"{name}_{kind}"]]) for kind in ("median", "raw"))
  longest = max(curve.steps[-1] for curve, _ in ours.values())
  shown = {label: tuple(_until(curve, longest) for curve in pair) for label, pair in theirs.items()}
  statistics: dict[str, Mapping[str, drawing.Cell]] = {}
  for label, pair in ours.items():
    statistics[f"{label} (ours)"] = _fig5_statistics(*pair)
    name = label.removesuffix(f", {_TAUGHT}")  # The paper has no teachers.
    if name in theirs:
      statistics[f"{name} (paper)"] = _numbers(_fig5_statistics(*theirs[name]))
  lines = [[_line(label, *pair) for label, pair in side.items()] for side in (ours, shown)]
  return [plots.Panel(title, side) for title, side in zip(titles, lines, strict=True)], statistics


def _episode_curve(runs: Sequence[records.Run]) -> tuple[curves.Curve, curves.Curve]:
  """(filtered, raw) curves of finished episodes in bins of 1,000 arm steps, like the paper's."""
  each = [curves.points(*records.episodes(run), bin_steps=_BIN_STEPS, num_steps=records.num_steps(run)) for run in runs]
  # Filtered before the others are cut to the shortest run: a window at a cut does not see what lies behind it.
  return curves.stack([(steps, _filtered(values)) for steps, values in each]), curves.stack(each)


def _filtered(values: np.ndarray) -> np.ndarray:
  """The paper's running median of a curve `[G]`; NaN where a short run ends within a window that begins with zeros."""
  half = curves.MEDIAN_POINTS // 2
  is_lopsided = np.arange(len(values)) > len(values) - 1 - half
  is_lopsided[half:] = is_lopsided[0] = False
  return np.where(is_lopsided, np.nan, curves.median_filter(values))


def _begun(runs: Sequence[records.Run]) -> tuple[Sequence[records.Run], dict[str, str]]:
  """The runs in which an episode has ended; runs in which none has are gaps.

  Raises:
    ValueError: if no episode has ended in any run.
  """
  gaps = {str(run.path): "no episode has ended yet" for run in runs if not records.has_ended(run)}
  begun = [run for run in runs if str(run.path) not in gaps]
  if not begun:
    raise ValueError(f"{runs[0].path}: no episode has ended yet; train longer")
  return begun, gaps


def _short_runs(groups: Mapping[str, Sequence[records.Run]]) -> dict[str, str]:
  """The runs that end before other runs of their group, or before the steps in their config, and so cut its curve."""
  gaps = {}
  for label, runs in groups.items():
    longest = max(max(records.num_steps(run), run.config.get("train", {}).get("steps", 0)) for run in runs)
    for run in runs:
      if records.num_steps(run) < longest - _BIN_STEPS // 2:
        gaps[str(run.path)] = f"stops at step {records.num_steps(run):,} of {longest:,}; so does {label}"
  return gaps


def _train_curve(runs: Sequence[records.Run]) -> curves.Curve:
  """Finished episodes in hundredths of the longest run, up to the end of the shortest run."""
  steps = max(records.num_steps(run) for run in runs)
  return curves.stack([sweep_folder.points(run, steps, None) for run in runs])


def _fig5_statistics(solid: curves.Curve, dotted: curves.Curve) -> dict[str, np.ndarray]:
  values = {f"@{step // 1000}k": curves.at(solid, step) for step in (1_000, 5_000, 10_000, 30_000, 60_000)}
  return values | {
    "raw @1k": curves.at(dotted, 1_000),
    "raw mean to 10k": curves.mean_within(dotted, 0, 10_000),
    "raw mean 30k to 60k": curves.mean_within(dotted, 30_000, 60_000),
  }


def _returns_by_part(label: str, runs: Sequence[records.Run]) -> dict[str, np.ndarray]:
  """For an unchanged column, every episode's return; for runs that learn, each run's early and late means."""
  if label.startswith("unchanged"):
    return {_ALL_EPISODES: np.concatenate([records.episodes(run)[1] for run in runs])}
  _, raw = _episode_curve(runs)
  return {_EARLY: curves.mean_within(raw, 0, 10_000), "30k to 60k": curves.mean_within(raw, 30_000, 60_000)}


def _over_the_gap(label: str, part: str, at: Mapping[float, np.ndarray]) -> plots.Line:
  """One line, with a band if every size of the gap has the same number of runs, or of episodes."""
  is_even = len({len(x) for x in at.values()}) == 1
  values = np.stack([x if is_even else np.mean(x, keepdims=True) for x in at.values()], axis=1)
  curve = curves.Curve(np.array(list(at)), values)
  return plots.Line(f"{label}: {part}", _color(label), curve, style="--" if part == _EARLY else "-")


def _numbers(of_one_curve: Mapping[str, np.ndarray]) -> dict[str, drawing.Cell]:
  """The numbers of a paper's curve, which is a mean of runs that are not known individually."""
  return {name: drawing.number(float(x)) for name, (x,) in of_one_curve.items()}


def _fig4_statistics(curve: curves.Curve) -> dict[str, np.ndarray]:
  values = {f"@{step / 1e6:g}M": curves.at(curve, step) for step in (1e6, 5e6, 1e7, 2e7)}
  return values | {"end": curve.values[:, -1], "steps": np.full(len(curve.values), curve.steps[-1])}


def _fig6_statistics(finals: np.ndarray) -> dict[str, drawing.Cell]:
  """Statistics of final returns `[N]`, the highest first."""
  return {
    "mean": finals,
    "max": drawing.number(finals[0]),
    "at a third": drawing.number(finals[len(finals) // 3]),
    "% above 1": drawing.number(100.0 * float(np.mean(finals > 1.0))),  # The others failed.
  }


def _final_returns(runs: Sequence[records.Run]) -> np.ndarray | str:
  """Final returns of all runs of a finished sweep, the highest first, `[N]`; or why there are none."""
  if not runs:
    return "not run"
  reached, steps = min(map(records.num_steps, runs)), max(run.config["train"]["steps"] for run in runs)
  if reached < steps:
    return f"at step {reached:,} of {steps:,}"
  try:
    finals = [sweep_folder.late_return(run) for run in runs]
  except ValueError as error:  # No episode has ended there.
    return str(error)
  return np.sort(np.maximum(finals, RETURN_BOUNDS.low))[::-1]  # A run that diverged has also failed.


def _paper_final_returns(change: str, method: str) -> np.ndarray:
  """Final returns of the paper's 300 runs, from the line through the ranks that were read."""
  ranks, returns = paper.rusu2017(f"fig6_{change}")[_PAPER_FIG6[method]]
  return np.interp(np.arange(ranks[-1] + 1), ranks, returns)


def _sorted_line(label: str, method: str, finals: np.ndarray) -> plots.Line:
  """A line over the share of runs, in %, so that sweeps of any size can be compared."""
  share = 100.0 * (np.arange(len(finals)) + 0.5) / len(finals)
  return plots.Line(label, colors.METHODS[method][0], curves.Curve(share, finals[None]))


def _by_label(runs: Sequence[records.Run], label: Callable[[records.Run], str]) -> dict[str, list[records.Run]]:
  """Runs by the label of their line; refuses a run that appears twice, which would narrow an interval."""
  groups: dict[str, list[records.Run]] = {}
  for run in runs:
    group = groups.setdefault(label(run), [])
    for other in group:
      if other.config == run.config:
        raise ValueError(
          f"{run.path} and {other.path} are one run: config and seed are the same; give --runs one of them"
        )
    group.append(run)
  return groups


def _in_order(by_label: Mapping[str, list[records.Run]]) -> dict[str, list[records.Run]]:
  """Sorts like the methods in `colors`, wide before narrow."""
  methods = list(colors.METHODS)
  return dict(sorted(by_label.items(), key=lambda item: (methods.index(item[0].split(", ")[0]), item[0][::-1])))


def _method_and_width(run: records.Run) -> str:
  method = run.config.get("method")
  if method not in colors.METHODS:
    raise ValueError(f"{run.path}: method {method!r} in config.json is not one of {', '.join(colors.METHODS)}")
  train = run.config.get("train", {})
  rate = train.get("hyper", {}).get("learning_rate", 1.0)
  more = f", {_COPIED}" if run.config.get("output_init") == "copy" else ""
  more += f", {_TAUGHT}" if train.get("teacher") else ""
  return f"{method if rate > base.LEAST_RATE else 'unchanged'}, {_width(run)}{more}"


def _method_and_change(run: records.Run) -> str:
  change, method = run.config.get("world_options", {}).get("change"), run.config.get("method")
  if change not in constants.CHANGES or method not in _PAPER_FIG6:
    raise ValueError(
      f"{run.path}: change {change!r} and method {method!r} in config.json are none of figure 6, which has "
      f"{', '.join(constants.CHANGES)} by {' and '.join(_PAPER_FIG6)}"
    )
  return f"{method}_{change}"


def _gap_of(run: records.Run) -> str:
  size = _place(run)["world_options.gap"]
  if not size:
    raise ValueError(f"{run.path}: config.json has no world_options.gap; only runs on a twin of their own have a gap")
  return size


def _agent(run: records.Run) -> str:
  agent = run.config.get("agent")
  if agent not in (*_FIG7, _ELSEWHERE):
    raise ValueError(f"{run.path}: agent {agent!r} in config.json is not one of {', '.join(_FIG7)}")
  return agent


def _place(run: records.Run) -> dict[str, str]:
  """Where a run learns, and what was changed there; all arms count as one, whatever their address."""
  world, options = run.config.get("world", ""), run.config.get("world_options", {})
  if world.startswith("twin/"):
    options = {"gap": "full"} | options  # Its own default.
  changed = {f"world_options.{name}": options.get(name) or "" for name in ("gap", "change", "num_joints")}
  return {"world": "arm://" if world.startswith("arm://") else world, **changed}


def _where(runs: Sequence[records.Run], but_for: Collection[str] = ()) -> str:
  """'in simulation', 'on the twin' or behind a bridge: the one world of all runs, except for the options in `but_for`.

  Raises:
    ValueError: if the runs are not in one world.
  """
  first = _place(runs[0])
  for run in runs:
    for name, value in _place(run).items():
      if value != first[name] and name not in but_for:
        raise ValueError(
          f"{run.path}: {name} in config.json is {value!r}, but {first[name]!r} in {runs[0].path}; give --runs those "
          f"of one alone"
        )
  if first["world"].startswith(_WITHOUT_ARM):
    raise ValueError(f"{runs[0].path}: world {first['world']!r} in config.json has no arm")
  if first["world"].startswith("twin/"):
    size = first["world_options.gap"]
    return "on the twin" if size in ("", "full") else f"on the twin, gap {size}"
  return "on an arm or its twin" if first["world"].startswith("arm://") else "in simulation"


def _check_sources(groups: Mapping[str, Sequence[records.Run]]) -> None:
  """Refuses runs of one line that started from different networks, if their provenance names these."""
  for label, runs in groups.items():
    known = [run for run in runs if released.SOURCE_HASH in run.provenance]
    for run in known[1:]:
      if run.provenance[released.SOURCE_HASH] != known[0].provenance[released.SOURCE_HASH]:
        here, there = (one.config.get("source") for one in (run, known[0]))
        raise ValueError(
          f"{run.path}: {label} started from {here}, but from another network, {there}, in {known[0].path}; give "
          f"--runs those of one alone"
        )


def _check_alike(label: str, runs: Sequence[records.Run]) -> None:
  """Refuses runs of one line that did not learn with the same settings."""
  first, *others = runs
  for run in others:
    changes = run_directory.difference(_settings(first), _settings(run), "train.")
    if changes:
      raise ValueError(
        f"{run.path}: {label} has learned otherwise than in {first.path}, {'; '.join(changes)}; give --runs those of "
        f"one alone"
      )


def _settings(run: records.Run) -> dict[str, Any]:
  return {name: value for name, value in run.config.get("train", {}).items() if name not in _BESIDE_LEARNING}


def _memory_and_width(run: records.Run) -> str:
  method, world = run.config.get("method"), run.config.get("world", "")
  if method != "scratch" or world.startswith(("arm://", "twin/")):
    raise ValueError(
      f"{run.path}: method {method!r} and world {world!r} in config.json are none of figure 4, which has first "
      f"columns: in simulation, from scratch"
    )
  has_lstm = any(layer["type"] == "LSTM" for layer in _layers(run))
  randomization = run.config.get("world_options", {}).get("randomization") or {}
  parts = ["LSTM" if has_lstm else "FF", _width(run)]
  if any(randomization.values()):
    parts.append(_RANDOMIZED)
  if run.config.get("train", {}).get("auxiliary"):
    parts.append(_HELPED)
  return ", ".join(parts)


def _width(run: records.Run) -> str:
  """The paper's two columns differ at the first convolution: 16 features (wide) or 8 (narrow)."""
  features = [layer["features"] for layer in _layers(run) if layer["type"] == "Conv"]
  return "wide" if features and features[0] >= 16 else "narrow"


def _layers(run: records.Run) -> Sequence[Mapping]:
  """Layers of the column that learned, the last one."""
  if not run.network:
    raise ValueError(f"{run.path}: network.json is missing; it says which columns learned")
  return run.network["columns"][-1]["layers"]


def _line(label: str, solid: curves.Curve, dotted: curves.Curve | None = None) -> plots.Line:
  num_runs = len(solid.values)
  return plots.Line(
    label=f"{label} ({num_runs} runs)" if num_runs > 1 else label,
    color=_color(label),
    solid=solid,
    dotted=dotted,
    style=_style(label),
  )


def _style(label: str) -> str:
  is_other = _method(label) == "unchanged" or _RANDOMIZED in label or _COPIED in label
  return plots.STYLES[2 * label.endswith(_TAUGHT) + is_other]


def _method(label: str) -> str:
  return label.partition(", ")[0]


def _color(label: str) -> str:
  name, _, width = label.partition(", ")
  other = "progressive" if name in ("LSTM", "three columns") else "finetune"
  if width.endswith(_HELPED):
    other = "random_column" if name == "LSTM" else "finetune_head"
  return colors.METHODS.get(name, colors.METHODS[other])[width.startswith("narrow")]


def _until(curve: curves.Curve, step: float) -> curves.Curve:
  is_shown = curve.steps <= step * 1.001
  return curves.Curve(curve.steps[is_shown], curve.values[:, is_shown])
