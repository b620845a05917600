"""The figures of Rusu et al. 2017 (CoRL) from run directories, the paper's own curves beside ours.

Methods in two widths, any number of seeds each.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import curves, paper, plots, records
from experiments.report import drawing

RETURN_BOUNDS = drawing.Bounds(0.0, 50.0)  # An episode ends after 50 steps of a reward of 0 or 1.
_RETURN_LIMITS = (-1.0, 50.0)  # Of axes.
_BIN_STEPS = 1000  # Between two of the paper's points.
COLORS = {
  "progressive": ("#1f4e9c", "#5aa0e6"),
  "finetune": ("#d9661f", "#f0a868"),
  "finetune_head": ("#8c5a9e", "#bd93cc"),
  "random_column": ("#2f8f5b", "#84c9a3"),
  "scratch": ("#555555", "#a0a0a0"),
  "unchanged": ("#000000", "#000000"),
}  # method -> (wide, narrow)
_LEAST_RATE = 1e-9  # A network that learns at less stays what it was: the source column, unchanged.
# The paper's names of our methods (CoRL 2017, figure 5).
_PAPER_FIG5 = {
  "progressive, wide": "wide progressive",
  "progressive, narrow": "narrow progressive",
  "finetune, wide": "wide finetuned",
  "scratch, wide": "wide scratch",
  "scratch, narrow": "narrow scratch",
}


def fig5(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Returns on the arm over arm steps by method: raw points each 1,000 steps (dotted) and their running median."""
  panels, statistics = fig5_panels(runs)
  note = f"ours: running median of {curves.MEDIAN_POINTS} points, one each {_BIN_STEPS:,} steps, as the paper's"
  drawn = _drawn(panels, "arm steps", statistics, _short_runs(_by_label(runs, _method_and_width)), note)
  return drawn._replace(bounds=RETURN_BOUNDS)


def fig5_panels(runs: Sequence[records.Run]) -> tuple[Sequence[plots.Panel], drawing.Table]:
  """Figure 5's two panels, ours and the paper's, and its table."""
  ours = {label: _episode_curve(group) for label, group in _by_label(runs, _method_and_width).items()}
  digitised = paper.rusu2017("fig5")
  theirs = {}
  for label, name in _PAPER_FIG5.items():
    theirs[label] = tuple(curves.stack([digitised[f"{name}_{line}"]]) for line in ("median", "raw"))
  longest = max(curve.steps[-1] for curve, _ in ours.values())
  shown = {label: tuple(_until(curve, longest) for curve in pair) for label, pair in theirs.items()}
  statistics = {}
  for label, (solid, dotted) in _in_order(ours).items():
    statistics[f"{label} (ours)"] = _fig5_statistics(solid, dotted)
    if label in theirs:
      statistics[f"{label} (paper)"] = _fig5_statistics(*theirs[label])
  panels = [
    plots.Panel("ours, on the twin arm", [_line(label, *pair) for label, pair in _in_order(ours).items()]),
    plots.Panel("Rusu et al. 2017, figure 5, on the Jaco", [_line(label, *pair) for label, pair in shown.items()]),
  ]
  return panels, statistics


def fig4(runs: Sequence[records.Run]) -> drawing.Drawn:
  """Returns in simulation over agent steps of the first column, by width and by having a memory."""
  groups = _by_label(runs, _memory_and_width)
  ours = {label: _train_curve(group) for label, group in groups.items()}
  theirs = {
    f"{memory}, {width}": curves.stack([paper.rusu2017(f"fig4_{memory.lower()}")[width]])
    for memory in ("LSTM", "FF")
    for width in ("wide", "narrow")
  }
  statistics = {}
  for label, curve in ours.items():
    statistics[f"{label} (ours)"] = _fig4_statistics(curve)
    if label in theirs:
      statistics[f"{label} (paper)"] = _fig4_statistics(theirs[label])
  longest = max(curve.steps[-1] for curve in ours.values())
  panels = [
    plots.Panel("ours, in simulation", [_line(label, curve) for label, curve in ours.items()]),
    plots.Panel(
      "Rusu et al. 2017, figure 4", [_line(label, _until(curve, longest)) for label, curve in theirs.items()]
    ),
  ]
  return _drawn(panels, "agent steps", statistics, _short_runs(groups))


def draw(panels: Sequence[plots.Panel], *, x_label: str = "arm steps", note: str = "") -> mpl_figure.Figure:
  """Panels of returns, side by side."""
  return plots.learning_curves(panels, x_label=x_label, y_label="return", y_limits=_RETURN_LIMITS, note=note)


def _drawn(
  panels: Sequence[plots.Panel], x_label: str, statistics: drawing.Table, gaps: Mapping[str, str], note: str = ""
) -> drawing.Drawn:
  return drawing.Drawn(draw(panels, x_label=x_label, note=note), statistics, gaps=gaps)


def _episode_curve(runs: Sequence[records.Run]) -> tuple[curves.Curve, curves.Curve]:
  """(filtered, raw) curves of finished episodes in bins of 1,000 arm steps, as the paper's."""
  each = [curves.points(*records.episodes(run), bin_steps=_BIN_STEPS, num_steps=records.num_steps(run)) for run in runs]
  # Filtered before the shortest run cuts the others: a window at a cut does not see what lies behind it.
  return curves.stack([(steps, curves.median_filter(values)) for steps, values in each]), curves.stack(each)


def _short_runs(groups: Mapping[str, Sequence[records.Run]]) -> dict[str, str]:
  """The runs that end the curve of their group before its others do."""
  gaps = {}
  for label, runs in groups.items():
    longest = max(records.num_steps(run) for run in runs)
    for run in runs:
      if records.num_steps(run) < longest - _BIN_STEPS // 2:
        gaps[run.path.name] = f"stops at step {records.num_steps(run):,} of {longest:,}; so does {label}"
  return gaps


def _train_curve(runs: Sequence[records.Run]) -> curves.Curve:
  """Mean return of the episodes that ended between two records, on 300 points up to the end of the shortest run."""
  each = [records.series(run, kind="train", name="return_mean") for run in runs]
  grid = np.linspace(0.0, min(steps[-1] for steps, _ in each), 301)
  values = [np.interp(grid, np.r_[0, steps], np.r_[0.0, values]) for steps, values in each]
  return curves.Curve(steps=grid, values=np.stack(values))


def _fig5_statistics(solid: curves.Curve, dotted: curves.Curve) -> dict[str, np.ndarray]:
  values = {f"@{step // 1000}k": curves.at(solid, step) for step in (1_000, 5_000, 10_000, 30_000, 60_000)}
  return values | {
    "raw @1k": curves.at(dotted, 1_000),
    "raw mean to 10k": curves.mean_within(dotted, 0, 10_000),
    "raw mean 30k to 60k": curves.mean_within(dotted, 30_000, 60_000),
  }


def _fig4_statistics(curve: curves.Curve) -> dict[str, np.ndarray]:
  values = {f"@{step / 1e6:g}M": curves.at(curve, step) for step in (1e6, 5e6, 1e7, 2e7)}
  return values | {"end": curve.values[:, -1], "steps": np.full(len(curve.values), curve.steps[-1])}


def _by_label(runs: Sequence[records.Run], label: Callable[[records.Run], str]) -> dict[str, list[records.Run]]:
  groups: dict[str, list[records.Run]] = {}
  for run in runs:
    groups.setdefault(label(run), []).append(run)
  return groups


def _in_order(by_label: Mapping[str, tuple]) -> dict[str, tuple]:
  """Sorted as the methods in `COLORS`, wide before narrow."""
  methods = list(COLORS)
  return dict(sorted(by_label.items(), key=lambda item: (methods.index(item[0].split(", ")[0]), item[0][::-1])))


def _method_and_width(run: records.Run) -> str:
  method = run.config.get("method")
  if method not in COLORS:
    raise ValueError(f"{run.path}: method {method!r} in config.json is not one of {', '.join(COLORS)}")
  rate = run.config.get("train", {}).get("hyper", {}).get("learning_rate", 1.0)
  return f"{method if rate > _LEAST_RATE else 'unchanged'}, {_width(run)}"


def _memory_and_width(run: records.Run) -> str:
  has_lstm = any(layer["type"] == "LSTM" for layer in _layers(run))
  return f"{'LSTM' if has_lstm else 'FF'}, {_width(run)}"


def _width(run: records.Run) -> str:
  """The paper's two columns differ at the first convolution: 16 features (wide) or 8 (narrow)."""
  features = [layer["features"] for layer in _layers(run) if layer["type"] == "Conv"]
  return "wide" if features and features[0] >= 16 else "narrow"


def _layers(run: records.Run) -> Sequence[Mapping]:
  """Layers of the column that learned: the last."""
  if not run.network:
    raise ValueError(f"{run.path}: network.json is missing; it says which columns learned")
  return run.network["columns"][-1]["layers"]


def _line(label: str, solid: curves.Curve, dotted: curves.Curve | None = None) -> plots.Line:
  name, width = label.split(", ")
  colors = COLORS.get(name, COLORS["progressive"] if name == "LSTM" else COLORS["finetune"])
  num_runs = len(solid.values)
  return plots.Line(
    label=f"{label} ({num_runs} runs)" if num_runs > 1 else label,
    color=colors[width == "narrow"],
    solid=solid,
    dotted=dotted,
    is_dashed=name == "unchanged",
  )


def _until(curve: curves.Curve, step: float) -> curves.Curve:
  is_shown = curve.steps <= step * 1.001
  return curves.Curve(curve.steps[is_shown], curve.values[:, is_shown])
