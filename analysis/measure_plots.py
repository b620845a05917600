"""A picture of a table: a row per measured thing, a panel per measure, a dot per number with its interval.

Our dots are filled, a paper's are rings. A missing number leaves its row of that panel empty.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import intervals, plots

_OURS, _THEIRS = "#1f4e9c", "#d9661f"


def dots(
  rows: Sequence[str],
  ours: Mapping[str, Sequence[intervals.Interval]],
  theirs: Mapping[str, Sequence[float]],
) -> mpl_figure.Figure:
  """A panel for each measure of `ours`.

  Args:
    rows: names, from the top.
    ours: measure -> an interval for each row; NaN if there is none.
    theirs: measure -> a number for each row, or NaN; a measure may be missing.
  """
  fig, (axes,) = plots.axes((1.8 + 2.3 * len(ours), 1.1 + 0.3 * len(rows)), 1, len(ours), sharey=True)
  heights = -np.arange(len(rows), dtype=np.float64)
  for axis, (measure, cells) in zip(axes, ours.items(), strict=True):
    mean, low, high = (np.asarray([float(x) for x in column]) for column in zip(*cells, strict=True))
    reach = np.nan_to_num(np.stack([mean - low, high - mean]), nan=0.0)
    is_there = np.isfinite(mean)
    axis.errorbar(
      mean[is_there], heights[is_there], xerr=reach[:, is_there], fmt="o", color=_OURS, markersize=5, label="ours"
    )
    if measure in theirs:
      axis.plot(
        theirs[measure], heights, "o", color=_THEIRS, markersize=8, fillstyle="none", clip_on=False, label="paper"
      )
    axis.set_title(measure, fontsize=10, loc="left")
    axis.set_yticks(heights, rows, fontsize=8)
    axis.set_ylim(heights[-1] - 0.6, 0.6)
    if not np.any(np.fmin(mean, low) < 0):
      axis.set_xlim(left=0)
    axis.grid(color="0.92", linewidth=0.8)
  plots.legend_below(fig, plots.handles_of(axes), ncols=2)
  return fig
