"""Figures of learning curves: arrays in, a matplotlib figure out.

A panel holds lines; a line is one method over S runs: solid the mean of the filtered curves with its confidence band,
dotted (if given) the mean of the raw ones. Nothing is shown on a screen and no global state of matplotlib is touched.
"""

import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import figure as mpl_figure

from analysis import curves


class Line(NamedTuple):
  """One method's curve."""

  label: str
  color: str
  solid: curves.Curve
  dotted: curves.Curve | None = None


class Panel(NamedTuple):
  """Lines in one pair of axes."""

  title: str
  lines: Sequence[Line]


def learning_curves(
  panels: Sequence[Panel], *, x_label: str, y_label: str, y_limits: tuple[float, float]
) -> mpl_figure.Figure:
  """Panels side by side on the same axes, one legend for each."""
  fig = mpl_figure.Figure(figsize=(5.4 * len(panels), 4.0), layout="constrained")
  axes = fig.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
  for axis, panel in zip(axes, panels, strict=True):
    for line in panel.lines:
      _draw(axis, line)
    axis.set_title(panel.title, fontsize=11, loc="left")
    axis.set_xlabel(x_label)
    axis.set_ylim(*y_limits)
    axis.margins(x=0.01)
    axis.grid(axis="y", color="0.9", linewidth=0.8)
    axis.xaxis.set_major_formatter(lambda x, _: _thousands(x))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)
  axes[0].set_ylabel(y_label)
  return fig


def save(fig: mpl_figure.Figure, path: pathlib.Path) -> None:
  """Writes `path` as PNG and as SVG, whatever its suffix; equal figures give equal files."""
  path.parent.mkdir(parents=True, exist_ok=True)
  fig.savefig(path.with_suffix(".png"), dpi=150)
  with matplotlib.rc_context({"svg.hashsalt": path.stem}):
    fig.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def png(fig: mpl_figure.Figure) -> bytes:
  """The figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  fig.savefig(buffer, dpi=150, format="png")
  return buffer.getvalue()


def _draw(axis: matplotlib.axes.Axes, line: Line) -> None:
  interval = curves.band(line.solid.values)
  axis.plot(line.solid.steps, interval.mean, color=line.color, linewidth=1.8, label=line.label)
  if np.isfinite(interval.low).all():
    axis.fill_between(line.solid.steps, interval.low, interval.high, color=line.color, alpha=0.18, linewidth=0)
  if line.dotted is not None:
    axis.plot(line.dotted.steps, line.dotted.mean, color=line.color, linewidth=1.0, linestyle=":", alpha=0.8)


def _thousands(x: float) -> str:
  """An axis label: 0, 500, 10k, 2.5M."""
  for size, letter in ((1e6, "M"), (1e3, "k")):
    if abs(x) >= size:
      return f"{x / size:g}{letter}"
  return f"{x:g}"
