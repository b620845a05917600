"""Features in a plane by t-SNE, coloured by what the agent should represent.

Figure 7 of Mirowski et al. 2017 shows cells of the LSTM on the I-maze, with one colour for each alcove that holds the
goal. Each panel has one map, since every net has its own features.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import plots, projection

_COLORS = ("#1f4e9c", "#d9661f", "#2f8f5b", "#8c5a9e", "#b8860b", "#555555", "#c0392b", "#3aa6a6")
_PANELS_PER_ROW = 4


class Panel(NamedTuple):
  """One net's features."""

  title: str
  features: np.ndarray  # [N, D]
  labels: Sequence[str]  # N names of groups, such as the goal's alcove.


def maps(panels: Sequence[Panel]) -> mpl_figure.Figure:
  """Draws a panel for each net, with a dot for each step."""
  groups = list(dict.fromkeys(sorted(label for panel in panels for label in panel.labels)))
  colors: Mapping[str, str] = {group: _COLORS[i % len(_COLORS)] for i, group in enumerate(groups)}
  num_columns = min(len(panels), _PANELS_PER_ROW)
  num_rows = -(-len(panels) // num_columns)
  fig, every = plots.axes((4.0 * num_columns, 4.0 * num_rows), num_rows, num_columns)
  for unused in every.flat[len(panels) :]:
    unused.set_visible(False)
  handles = {}
  for axis, panel in zip(every.flat, panels, strict=False):
    points, labels = projection.embed(panel.features), np.asarray(panel.labels)
    for group in groups:
      is_group = labels == group
      x, y = points[is_group].T
      handles[group] = axis.scatter(x, y, s=6, color=colors[group], alpha=0.6, linewidth=0)
    axis.set_title(panel.title, fontsize=11, loc="left")
    axis.set_xlabel(f"t-SNE of {len(points)} steps", fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
  plots.legend_below(fig, handles, ncols=2 * num_columns, markerscale=2.5)
  return fig
