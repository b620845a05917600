"""Figures of learning curves: arrays in, a matplotlib figure out.

A panel holds lines; a line is one method over S runs. The solid line is the mean of the filtered curves, with the band
of `intervals`, or with a thin line for each run if there are few. The dotted line (if given) is the mean of the raw
curves. The figure says so above its panels. Nothing is shown on a screen, and no global state of matplotlib is changed.
"""

import io
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import figure as mpl_figure

from analysis import curves, intervals

_CHARACTERS_PER_INCH = 15  # In the text above the panels.
_MOST_BANDS = 6  # In a panel: the bands of more lines hide each other and the lines.
STYLES = ("-", "--", "-.", ":")


class Line(NamedTuple):
  """One method's curve."""

  label: str
  color: str
  solid: curves.Curve
  dotted: curves.Curve | None = None
  style: str = "-"  # One of `STYLES`, for the solid line, to tell lines of one colour apart.


class Panel(NamedTuple):
  """Lines in one pair of axes."""

  title: str
  lines: Sequence[Line]


def learning_curves(
  panels: Sequence[Panel],
  *,
  x_label: str,
  y_label: str,
  y_limits: tuple[float, float] | None = None,
  bounds: tuple[float, float] = (-np.inf, np.inf),
  panels_per_row: int | None = None,
  has_shared_legend: bool = False,
  note: str = "",
) -> mpl_figure.Figure:
  """Draws panels side by side, at most `panels_per_row` (None: all) in a row.

  Without `y_limits` each panel has the limits of its own lines (tasks with other scores). Bands end at `bounds`, the
  lowest and the highest possible value. `has_shared_legend`: one legend below all panels instead of one in each.
  `note`: further text about the lines.
  """
  num_rows = -(-len(panels) // (panels_per_row or len(panels)))
  num_columns = -(-len(panels) // num_rows)  # Rows of equal length, as far as possible.
  width, height = (5.4, 4.0) if num_columns <= 2 else (4.0, 3.2)
  size = width * num_columns, height * num_rows
  fig, every = axes(size, num_rows, num_columns, sharey=y_limits is not None)
  for axis, panel in zip(every.flat, panels, strict=False):
    for line in panel.lines:
      _draw(axis, line, has_band=len(panel.lines) <= _MOST_BANDS, bounds=bounds)
    axis.set_title(panel.title, fontsize=11, loc="left")
    axis.set_xlabel(x_label)
    axis.set_ylim(y_limits)
    axis.margins(x=0.01)
    axis.grid(axis="y", color="0.9", linewidth=0.8)
    axis.xaxis.set_major_formatter(lambda x, _: _thousands(x))
    if not has_shared_legend:
      axis.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)
  for unused in every.flat[len(panels) :]:
    unused.set_visible(False)
  for axis in every[:, 0]:
    axis.set_ylabel(y_label)
  words = textwrap.fill("; ".join(filter(None, (_explained(panels), note))), int(size[0] * _CHARACTERS_PER_INCH))
  fig.suptitle(words, fontsize=8, color="0.35", x=0.01, ha="left")
  if has_shared_legend:
    handles = handles_of(every.flat[: len(panels)])
    num_lines = -(-len(handles) // (2 * num_columns + 1))
    legend_below(fig, handles, ncols=-(-len(handles) // max(num_lines, 1)))
  return fig


def axes(
  size: tuple[float, float], num_rows: int = 1, num_columns: int = 1, *, layout: Any = "constrained", **options: Any
) -> tuple[mpl_figure.Figure, np.ndarray]:
  """A figure of `size` inches and its axes `[num_rows, num_columns]`, without top and right borders."""
  fig = mpl_figure.Figure(figsize=size, layout=layout)
  every = fig.subplots(num_rows, num_columns, squeeze=False, **options)
  for axis in every.flat:
    axis.spines[["top", "right"]].set_visible(False)
  return fig, every


def legend_below(fig: mpl_figure.Figure, handles: Mapping[str, Any], *, ncols: int, **options: Any) -> None:
  """Adds one legend below all axes, label -> what is drawn; none if nothing is drawn."""
  if handles:
    options |= {"loc": "outside lower center", "ncols": ncols, "fontsize": 9, "frameon": False}
    fig.legend(handles.values(), handles.keys(), **options)


def handles_of(every: Iterable[matplotlib.axes.Axes]) -> dict[str, Any]:
  """Label -> what is drawn, over all axes, each label once."""
  return {label: one for axis in every for one, label in zip(*axis.get_legend_handles_labels(), strict=True)}


def save(fig: mpl_figure.Figure, path: pathlib.Path) -> None:
  """Writes `path` as PNG and as SVG, whichever suffix it has; equal figures give equal files."""
  path.parent.mkdir(parents=True, exist_ok=True)
  name = path.stem if path.suffix in (".png", ".svg") else path.name
  fig.savefig(path.with_name(f"{name}.png"), dpi=150)
  with matplotlib.rc_context({"svg.hashsalt": name}):
    fig.savefig(path.with_name(f"{name}.svg"), metadata={"Date": None})


def png(fig: mpl_figure.Figure) -> bytes:
  """The figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  fig.savefig(buffer, dpi=150, format="png")
  return buffer.getvalue()


def _explained(panels: Sequence[Panel]) -> str:
  """Words that say what the lines and bands are."""
  lines = [line for panel in panels for line in panel.lines]
  counts = [len(line.solid.values) for panel in panels if len(panel.lines) <= _MOST_BANDS for line in panel.lines]
  parts = []
  if max((len(line.solid.values) for line in lines), default=1) > 1:
    parts.append("lines: mean over runs")
  if max(counts, default=1) > 1:
    parts.append(intervals.name(counts))
  if any(len(panel.lines) > _MOST_BANDS for panel in panels) and parts:
    parts.append(f"the mean alone where there are more than {_MOST_BANDS} lines")
  if any(line.dotted is not None for line in lines):
    parts.append("dotted: before smoothing")
  return "; ".join(parts)


def _draw(axis: matplotlib.axes.Axes, line: Line, *, has_band: bool, bounds: tuple[float, float]) -> None:
  marker = "o" if len(line.solid.steps) == 1 else None  # One point is not visible as a line.
  axis.plot(
    line.solid.steps,
    line.solid.mean,
    color=line.color,
    linewidth=1.8,
    linestyle=line.style,
    marker=marker,
    label=line.label,
  )
  if has_band:
    spread(axis, line.solid, line.color, bounds=bounds)
  if line.dotted is not None:
    axis.plot(line.dotted.steps, line.dotted.mean, color=line.color, linewidth=1.0, linestyle=":", alpha=0.8)


def spread(
  axis: matplotlib.axes.Axes, curve: curves.Curve, color: str, *, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> None:
  """Draws the band around the mean of a curve's runs, or each of few runs (`intervals.name`); nothing for one run."""
  if len(curve.values) >= intervals.FEWEST:
    interval = intervals.of_mean(curve.values, bounds=bounds)
    axis.fill_between(curve.steps, interval.low, interval.high, color=color, alpha=0.18, linewidth=0)
  elif len(curve.values) > 1:
    axis.plot(curve.steps, curve.values.T, color=color, linewidth=0.7, alpha=0.5)


def _thousands(x: float) -> str:
  """An axis label: 0, 500, 10k, 2.5M."""
  for size, letter in ((1e6, "M"), (1e3, "k")):
    if abs(x) >= size:
      return f"{x / size:g}{letter}"
  return f"{x:g}"
