"""Draws a figure of a paper from run directories, the paper's own curves and numbers beside ours.

    python -m experiments.figures --figure=corl2017_fig5 --runs='runs/fig5/*' --out=runs/fig5/figure

One function a figure, all in `FIGURES`. Each writes `<figure>.png`, `.svg`, `.md` (a table), `.json` (the same with
every run's number) and `provenance.json` (command, commit, and the runs that were read). Any number of seeds a method;
bands are 95 % bootstrap intervals of the mean over runs.
"""

import difflib
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from analysis import curves, paper, plots, records
from experiments import binary, run_directory

_FIGURE = flags.DEFINE_string("figure", None, "Which figure: a name in FIGURES.")
_RUNS = flags.DEFINE_multi_string("runs", None, "Run directories, folders of them, or globs; may be repeated.")
_OUT = flags.DEFINE_string("out", "runs/figures", "Folder to write to.")

# An episode ends after 50 steps of reward at most 1.
_RETURN_LIMITS = (-1.0, 50.0)
COLORS = {
  "progressive": ("#1f4e9c", "#5aa0e6"),
  "finetune": ("#d9661f", "#f0a868"),
  "finetune_head": ("#8c5a9e", "#bd93cc"),
  "random_column": ("#2f8f5b", "#84c9a3"),
  "scratch": ("#555555", "#a0a0a0"),
}  # method -> (wide, narrow)
# The paper's names of our methods (CoRL 2017, figure 5).
_PAPER_FIG5 = {
  "progressive, wide": "wide progressive",
  "progressive, narrow": "narrow progressive",
  "finetune, wide": "wide finetuned",
  "scratch, wide": "wide scratch",
  "scratch, narrow": "narrow scratch",
}


class Drawn(NamedTuple):
  """A figure before it is written."""

  panels: Sequence[plots.Panel]
  x_label: str
  statistics: Mapping[str, Mapping[str, np.ndarray]]  # row -> column -> one number a run, [S].


def corl2017_fig5(runs: Sequence[records.Run]) -> Drawn:
  """Returns on the arm over arm steps by method: raw points each 1,000 steps (dotted) and their running median."""
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
  return Drawn(panels, "arm steps", statistics)


def corl2017_fig4(runs: Sequence[records.Run]) -> Drawn:
  """Returns in simulation over agent steps of the first column, by width and by having a memory."""
  ours = {label: _train_curve(group) for label, group in _by_label(runs, _memory_and_width).items()}
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
  return Drawn(panels, "agent steps", statistics)


FIGURES: Mapping[str, Callable[[Sequence[records.Run]], Drawn]] = {
  "corl2017_fig4": corl2017_fig4,
  "corl2017_fig5": corl2017_fig5,
}


def make(name: str, runs: Sequence[records.Run]) -> Drawn:
  """The figure `name` of `runs`.

  Raises:
    ValueError: unknown figure (the nearest is named), or a run that lacks what the figure shows.
  """
  if name not in FIGURES:
    nearest = difflib.get_close_matches(name, FIGURES, n=1, cutoff=0.0)[0]
    raise ValueError(f"--figure={name} is not one of {', '.join(FIGURES)}; nearest is {nearest}")
  if not runs:
    raise ValueError(f"--figure={name} needs run directories: give --runs")
  return FIGURES[name](runs)


def draw(drawn: Drawn) -> plots.mpl_figure.Figure:
  """The picture."""
  return plots.learning_curves(drawn.panels, x_label=drawn.x_label, y_label="return", y_limits=_RETURN_LIMITS)


def cells(drawn: Drawn) -> dict[str, dict[str, str]]:
  """The table, row -> column -> cell: mean over runs and, for two runs or more, its 95 % bootstrap interval."""
  rows = {}
  for row, columns in drawn.statistics.items():
    num_runs = max(len(values) for values in columns.values())
    rows[row] = {"runs": str(num_runs)} | {column: _cell(values) for column, values in columns.items()}
  return rows


def write(name: str, drawn: Drawn, runs: Sequence[records.Run], out: pathlib.Path) -> None:
  """Writes picture, table, numbers and provenance into `out`."""
  out.mkdir(parents=True, exist_ok=True)
  plots.save(draw(drawn), out / name)
  (out / f"{name}.md").write_text(curves.table(cells(drawn)))
  numbers = {
    row: {column: _summary(values) for column, values in columns.items()} for row, columns in drawn.statistics.items()
  }
  run_directory.write_json(out / f"{name}.json", numbers)
  read = {str(run.path): {key: run.provenance.get(key) for key in ("command", "commit", "seed")} for run in runs}
  run_directory.write_json(out / "provenance.json", run_directory.provenance() | {"runs": read})


def _episode_curve(runs: Sequence[records.Run]) -> tuple[curves.Curve, curves.Curve]:
  """(filtered, raw) curves of finished episodes in bins of 1,000 arm steps, as the paper's."""
  each = [curves.points(*records.episodes(run), bin_steps=1000, num_steps=records.num_steps(run)) for run in runs]
  raw = curves.stack(each)
  return raw._replace(values=curves.median_filter(raw.values)), raw


def _train_curve(runs: Sequence[records.Run]) -> curves.Curve:
  """Mean return of the episodes that ended between two records, on 300 points up to the end of the shortest run."""
  each = [records.series(run, kind="train", name="return_mean") for run in runs]
  grid = np.linspace(0.0, min(steps[-1] for steps, _ in each), 301)
  values = [curves.resample(np.r_[0, steps], np.r_[0.0, values], grid) for steps, values in each]
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
  return f"{method}, {_width(run)}"


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
  )


def _until(curve: curves.Curve, step: float) -> curves.Curve:
  is_shown = curve.steps <= step * 1.001
  return curves.Curve(curve.steps[is_shown], curve.values[:, is_shown])


def _cell(values: np.ndarray) -> str:
  summary = _summary(values)
  if summary["mean"] is None:
    return "–"
  places = 0 if summary["mean"] >= 1000 else 1
  cell = f"{summary['mean']:,.{places}f}"
  return cell if summary["low"] is None else f"{cell} [{summary['low']:,.{places}f}, {summary['high']:,.{places}f}]"


def _summary(values: np.ndarray) -> dict:
  interval = curves.band(values)
  numbers = {name: float(getattr(interval, name)) for name in interval._fields}
  return {name: x if math.isfinite(x) else None for name, x in numbers.items()} | {
    "each": [float(x) if math.isfinite(x) else None for x in values]
  }


def main(argv: Sequence[str]) -> None:
  """Reads, draws, writes."""
  del argv
  name, out = str(_FIGURE.value), pathlib.Path(_OUT.value or "runs/figures")
  if name not in FIGURES:
    make(name, ())  # Refused before anything is read.
  runs = [records.read(path) for path in records.find(_RUNS.value or ())]
  drawn = make(name, runs)
  write(name, drawn, runs, out)
  print(curves.table(cells(drawn)))
  print(f"{len(runs)} runs read; wrote {out / name}.png, .svg, .md, .json")


if __name__ == "__main__":
  binary.run(main)
