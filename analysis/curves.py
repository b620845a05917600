"""Learning curves: from finished episodes to the line in a figure and its numbers.

A run gives episodes (step at the end, return). `points` averages them in equal bins, and `median_filter` smooths. The
band around the mean over runs (seeds) comes from `intervals`. Rusu et al. 2017 (figure 5) draw one point each 1,000
steps, starting from 0 at step 0, and a running median of 11 points that sees zeros before the first point. Their
digitised solid lines follow from their dotted lines by exactly this filter, except for the last five points, which lie
beyond step 60,000 of figure 5.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import numpy as np

MEDIAN_POINTS = 11  # Rusu et al. 2017, figure 5; see above.


class Curve(NamedTuple):
  """One method's learning curve over S runs of equal length."""

  steps: np.ndarray  # [G] float64: agent steps at each point.
  values: np.ndarray  # [S, G] float64: each run's score there.

  @property
  def mean(self) -> np.ndarray:
    """Mean over runs, `[G]`."""
    return self.values.mean(axis=0)


def points(
  ends: np.ndarray,
  returns: np.ndarray,
  *,
  bin_steps: int,
  num_steps: int,
  start: float | None = 0.0,
  median_points: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """Mean return of the episodes that end in each bin, with the paper's 0 at step 0.

  Args:
    ends: `[N]` the step at which each episode ended, in (0, num_steps].
    returns: `[N]` its return.
    bin_steps: width of a bin.
    num_steps: length of the run; a last bin that is less than half full is left out, unless it is the only one.
    start: the value at step 0: the score before anything was learned (Pong: -21); None: the value of the first bin in
      which an episode ends.
    median_points: width of a running median over step 0 and the bins in which an episode ends, narrower at both ends;
      1: none. If worlds begin together, most bins are empty, and a median over all of them would smooth little.

  Returns:
    steps `[G]` (0, bin_steps, 2 bin_steps, ...) and values `[G]`; point g averages the episodes that end in
    ((g - 1) bin_steps, g bin_steps]. An empty bin repeats the point before it.
  """
  ends, returns = np.asarray(ends), np.asarray(returns, np.float64)
  chex.assert_equal_shape((ends, returns))
  chex.assert_rank((ends, returns), 1)
  num_bins = max(1, int(num_steps / bin_steps + 0.5))
  which = np.ceil(ends / bin_steps).astype(int)
  filled = [g for g in np.unique(which) if 1 <= g <= num_bins]
  found = [returns[which == g].mean() for g in filled]
  if start is None:
    start = found[0] if found else 0.0
  means = median_filter(np.array([start, *found]), median_points, before=np.nan)
  steps = np.arange(num_bins + 1)
  return np.float64(bin_steps) * steps, means[np.searchsorted(filled, steps, side="right")]


def median_filter(values: np.ndarray, num_points: int = MEDIAN_POINTS, *, before: float = 0.0) -> np.ndarray:
  """Centred running median over the last axis, of odd width; the window is narrower at the end.

  In front of the first point it sees `before`: the paper's zeros, or NaN for a narrower window there as well.
  """
  if num_points < 1 or num_points % 2 == 0:
    raise ValueError(f"num_points={num_points} is not odd; nearest are {num_points - 1} and {num_points + 1}")
  half = num_points // 2
  values = np.asarray(values, np.float64)
  first, last = (np.full((*values.shape[:-1], half), fill) for fill in (before, np.nan))
  padded = np.concatenate([first, values, last], axis=-1)
  return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, num_points, axis=-1), axis=-1)


def stack(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Curve:
  """Stacks runs on one grid, each with steps `[G_s]` and values `[G_s]`; the curve ends with the shortest run."""
  if not curves:
    raise ValueError("no runs to stack")
  length = min(len(steps) for steps, _ in curves)
  grid = np.asarray(curves[0][0][:length], np.float64)
  for steps, _ in curves:
    np.testing.assert_allclose(steps[:length], grid, err_msg="runs lie on different grids")
  return Curve(steps=grid, values=np.stack([values[:length] for _, values in curves]))


def at(curve: Curve, step: float) -> np.ndarray:
  """Each run's value at `step`, `[S]`; NaN if the curve does not reach it (half a grid step is tolerated)."""
  reach = curve.steps[-1] + 0.5 * (curve.steps[-1] - curve.steps[-2])
  if step > reach:
    return np.full(len(curve.values), np.nan)
  return np.asarray([np.interp(step, curve.steps, values) for values in curve.values])


def mean_within(curve: Curve, first_step: float, last_step: float) -> np.ndarray:
  """Each run's mean over the points in (first_step, last_step], `[S]`; NaN if the curve ends before `last_step`."""
  inside = (curve.steps > first_step) & (curve.steps <= last_step)
  reach = curve.steps[-1] + 0.5 * (curve.steps[-1] - curve.steps[-2])
  if not inside.any() or (np.isfinite(last_step) and last_step > reach):
    return np.full(len(curve.values), np.nan)
  return curve.values[:, inside].mean(axis=-1)


def between(curve: Curve, first_step: float, last_step: float) -> Curve:
  """The piece of a curve from `first_step` to `last_step`, with both ends on the line through the points.

  Raises:
    ValueError: if the curve does not reach that far on either side (half a grid step is tolerated, and held flat).
  """
  if not first_step < last_step:
    raise ValueError(f"first_step={first_step:g} is not before last_step={last_step:g}")
  if len(curve.steps) < 2:
    raise ValueError(f"a curve of {len(curve.steps)} points has no piece; it needs 2")
  before, after = 0.5 * (curve.steps[1] - curve.steps[0]), 0.5 * (curve.steps[-1] - curve.steps[-2])
  if first_step < curve.steps[0] - before or last_step > curve.steps[-1] + after:
    raise ValueError(
      f"the curve spans steps {curve.steps[0]:g} to {curve.steps[-1]:g}, not {first_step:g} to {last_step:g}"
    )
  inside = (curve.steps > first_step) & (curve.steps < last_step)
  steps = np.r_[first_step, curve.steps[inside], last_step]
  return Curve(steps, np.stack([np.interp(steps, curve.steps, values) for values in curve.values]))


def mean_height(curve: Curve) -> np.ndarray:
  """Each run's mean over the whole curve, `[S]`: the area under the line through its points over its span."""
  return np.trapezoid(curve.values, curve.steps, axis=-1) / (curve.steps[-1] - curve.steps[0])


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
  """A Markdown table from row name -> column name -> cell; a cell that a row lacks is left empty."""
  columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
  lines = [["", *columns], ["---"] * (len(columns) + 1)]
  lines += [[name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items()]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
