"""A picture of forgetting: the score on the source task before and after a target was learned.

A progressive network's source column is frozen, so its two bars are equal. Finetuning overwrites what it started from.
A bar is a mean; each score in the mean is a dot.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import plots

_BEFORE, _AFTER = "0.72", "#1f4e9c"
_LOST = "#c0392b"


class Change(NamedTuple):
  """One method's scores on the source task, for S networks."""

  label: str
  before: np.ndarray  # [S] on the source task, before the target was seen.
  after: np.ndarray  # [S] on the source task, by the same columns, after the target was learned.


def bars(changes: Sequence[Change], *, y_label: str, floor: float) -> mpl_figure.Figure:
  """A pair of bars for each method, with the mean loss in points under its name.

  Bars begin at `floor`, the score that counts as nothing (Pong: -21): a bar from 0 would hide a score below 0. For a
  score below the floor, the bar hangs down from it.
  """
  fig, ((axis,),) = plots.axes((1.5 * len(changes) + 1.4, 3.8))
  for x, change in enumerate(changes):
    for side, (values, color) in enumerate(((change.before, _BEFORE), (change.after, _AFTER))):
      at = x + 0.36 * (side - 0.5)
      axis.bar(at, np.mean(values) - floor, 0.34, bottom=floor, color=color, label=("before", "after")[side])
      if len(values) > 1:
        axis.plot([at] * len(values), values, ".", color="0.15", markersize=4)
  names = [f"{change.label}\n{_loss(change)}" for change in changes]
  axis.set_xticks(range(len(changes)), labels=names, fontsize=9)
  for name, change in zip(axis.get_xticklabels(), changes, strict=True):
    name.set_color(_LOST if np.mean(change.after) < np.mean(change.before) else "0.1")
  axis.set_ylabel(y_label)
  axis.set_ylim(bottom=min(floor, *(float(np.min(x)) for change in changes for x in change[1:])))
  shown = {f"{label} the target was learned": handle for label, handle in plots.handles_of([axis]).items()}
  ncols = 2 if len(changes) > 2 else 1  # Side by side, the labels are wider than two methods.
  fig.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=ncols, fontsize=9, frameon=False)
  return fig


def _loss(change: Change) -> str:
  difference = float(np.mean(change.after) - np.mean(change.before))
  return "unchanged" if difference == 0 else f"{difference:+.1f}".replace("-", "\N{MINUS SIGN}")
