"""A picture of the transfer matrix, with any number of matrices side by side (figure 4a of Rusu et al. 2016).

As in the paper, colour runs from blue (0, nothing learned) over white (1, as from scratch) to green (2 and above).
Every cell shows its number. A cell without a score is grey: plain if target and source are the same task, hatched and
labelled with the reason if a score is missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.axes
import numpy as np
from matplotlib import colors as mpl_colors
from matplotlib import figure as mpl_figure
from matplotlib import patches

from analysis import transfer_matrix

CLIP = 2.0
COLORS = mpl_colors.LinearSegmentedColormap.from_list("transfer", ["#2a5fb0", "#ffffff", "#2f9450"])
_SAME_TASK, _MISSING = "0.93", "0.82"
_CELL_INCHES = (0.56, 0.36)
_LEAST_INCHES = 3.0  # Of a panel's width, for its title.


class Panel(NamedTuple):
  """One matrix."""

  title: str
  matrix: transfer_matrix.Matrix
  is_clipped: bool = False  # Whether its scores of `CLIP` mean `CLIP` or more, as if read from the paper's colours.


def heat_maps(panels: Sequence[Panel]) -> mpl_figure.Figure:
  """Panels side by side with one colour scale; ValueError if there is none.

  A panel with the rows of the first does not repeat their names.
  """
  if not panels:
    raise ValueError("no matrix to draw")
  widths = [max(_CELL_INCHES[0] * len(panel.matrix.targets), _LEAST_INCHES) for panel in panels]
  num_rows = max(len(panel.matrix.rows) for panel in panels)
  size = sum(widths) + 2.2, _CELL_INCHES[1] * num_rows + 1.7
  fig = mpl_figure.Figure(figsize=size, layout="constrained")
  axes = fig.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
  for axis, panel in zip(axes, panels, strict=True):
    _draw(axis, panel)
    if axis is not axes[0] and panel.matrix.rows == panels[0].matrix.rows:
      axis.set_yticklabels([])
  scale = axes[0].images[0]
  bar = fig.colorbar(scale, ax=list(axes), orientation="horizontal", fraction=0.05, aspect=50, pad=0.03, shrink=0.6)
  bar.set_ticks([0.0, 0.5, 1.0, 1.5, CLIP], labels=["0", "0.5", "1", "1.5", "2 or more"])
  bar.ax.tick_params(labelsize=9)
  bar.set_label("transfer score (1: as from scratch)", fontsize=9)
  return fig


def _draw(axis: matplotlib.axes.Axes, panel: Panel) -> None:
  matrix = panel.matrix
  axis.imshow(np.ma.masked_invalid(matrix.values), cmap=COLORS, vmin=0.0, vmax=CLIP, aspect="auto")
  for m in range(len(matrix.rows)):
    for t in range(len(matrix.targets)):
      if np.isnan(matrix.values[m, t]):
        _draw_empty(axis, m, t, str(matrix.notes[m, t]))
      else:
        _draw_score(axis, m, t, float(matrix.values[m, t]), panel.is_clipped)
  axis.set_title(panel.title, fontsize=11, loc="left", pad=10)
  axis.xaxis.tick_top()
  axis.set_xticks(range(len(matrix.targets)), labels=matrix.targets, fontsize=9)
  axis.set_yticks(range(len(matrix.rows)), labels=[f"{row.method} ← {row.source}" for row in matrix.rows], fontsize=9)
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  axis.set_xticks(np.arange(len(matrix.targets) + 1) - 0.5, minor=True)
  axis.set_yticks(np.arange(len(matrix.rows) + 1) - 0.5, minor=True)
  axis.grid(which="minor", color="white", linewidth=1.5)
  axis.tick_params(which="minor", length=0)
  for m in range(1, len(matrix.rows)):
    if matrix.rows[m].method != matrix.rows[m - 1].method:
      axis.axhline(m - 0.5, color="0.25", linewidth=1.0)


def _draw_score(axis: matplotlib.axes.Axes, m: int, t: int, score: float, is_clipped: bool) -> None:
  red, green, blue, _ = COLORS(min(score, CLIP) / CLIP)
  luminance = 0.299 * red + 0.587 * green + 0.114 * blue
  is_beyond = is_clipped and score >= CLIP
  text = f"≥{CLIP:g}" if is_beyond else f"{score:.2f}" if score < 10 else f"{score:.0f}"
  axis.text(t, m, text, ha="center", va="center", fontsize=9, color="white" if luminance < 0.55 else "0.1")


def _draw_empty(axis: matplotlib.axes.Axes, m: int, t: int, note: str) -> None:
  is_same_task = note == transfer_matrix.IS_SOURCE
  rectangle = patches.Rectangle(
    (t - 0.5, m - 0.5),
    1.0,
    1.0,
    facecolor=_SAME_TASK if is_same_task else _MISSING,
    edgecolor="0.65",
    linewidth=0.0,
    hatch=None if is_same_task else "////",
  )
  axis.add_patch(rectangle)
  text = "–" if is_same_task else note.replace(": ", ":\n").replace(" of ", "/").replace(" runs", "\nruns")
  back = None if is_same_task else {"facecolor": _MISSING, "edgecolor": "none", "pad": 0.8}
  axis.text(
    t, m, text, ha="center", va="center", fontsize=9 if is_same_task else 7, color="0.35", linespacing=0.9, bbox=back
  )
