"""The transfer matrix: a score for every way to learn (method, source) and every target, and its summary.

These are figure 4a and table 1 of Rusu et al. 2016. A cell that was not run, is half run, or cannot exist (its target
was the source) is NaN with a note that says why. It is never 0 and never part of a mean. Baseline 1 of a target is in
all of the target's cells, so these cells share its bootstrap resamples; the intervals of the summary follow from that.
Runs of method and baseline are resampled independently, and the top is chosen anew in every resample. For the top of
few runs the interval is approximate: a resample can repeat the best run but never contain a better one.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis import curves, intervals, transfer

IS_SOURCE = "source"  # The note of a cell whose target is one of its sources.
MISSING = "not run"


class Row(NamedTuple):
  """One way to learn a target."""

  method: str  # 'finetune', 'progressive2', ...
  source: str  # The task learned before; several tasks are joined by '+', in order.


class Matrix(NamedTuple):
  """Scores of M rows on T targets."""

  rows: tuple[Row, ...]
  targets: tuple[str, ...]
  values: np.ndarray  # [M, T] float64, NaN if there is no score.
  low: np.ndarray  # [M, T] the intervals' ends, NaN if there are none.
  high: np.ndarray  # [M, T]
  notes: np.ndarray  # [M, T] str: why a cell has no score; '' if it has one.
  resampled: np.ndarray  # [R, M, T] bootstrap scores; R = 0 if there are none.


class Summary(NamedTuple):
  """One method's score over all its cells: 1 is baseline 1."""

  mean: intervals.Interval  # Scalars.
  median: intervals.Interval
  num_cells: int
  num_missing: int  # Cells that should have a score and have none.


def build(
  cells: Mapping[tuple[Row, str], curves.Curve],
  baselines: Mapping[str, curves.Curve],
  *,
  rows: Sequence[Row],
  targets: Sequence[str],
  definition: transfer.Definition,
  own_floors: Mapping[str, float] | None = None,
  num_resamples: int = 2000,
) -> Matrix:
  """Scores every cell.

  Args:
    cells: (row, target) -> the curves of its runs; cells that were not run are left out.
    baselines: target -> the curves of learning it from scratch.
    rows, targets: of the matrix, in order.
    definition: the definition of a score.
    own_floors: target -> the score that counts as nothing there, if it is not the definition's.
    num_resamples: number of bootstrap resamples.

  Raises:
    ValueError: for a cell that is in no row or column.
  """
  stray = [f"{row.method} from {row.source} on {t}" for row, t in cells if row not in rows or t not in targets]
  if stray:
    raise ValueError(f"no row or column of the matrix holds: {', '.join(stray)}")
  shape = (len(rows), len(targets))
  values, notes = np.full(shape, np.nan), np.full(shape, "", object)
  resampled = np.full((num_resamples, *shape), np.nan)
  for t, target in enumerate(targets):
    how = dataclasses.replace(definition, floor=(own_floors or {}).get(target, definition.floor))
    below = _sample(baselines.get(target), how, num_resamples, (0, t))
    for m, row in enumerate(rows):
      above = _sample(cells.get((row, target)), how, num_resamples, (0, t, m + 1))
      notes[m, t] = _why_not(row, target, above, below)
      if not notes[m, t]:
        values[m, t] = above.area / below.area
        resampled[:, m, t] = transfer.ratio(above.resampled, below.resampled)
  low, high = intervals.percentiles(resampled)
  has_none = np.isnan(resampled).any(axis=0)
  low, high = np.where(has_none, np.nan, low), np.where(has_none, np.nan, high)
  return Matrix(tuple(rows), tuple(targets), values, low, high, notes.astype(str), resampled)


def of_values(
  rows: Sequence[Row], targets: Sequence[str], values: np.ndarray, notes: np.ndarray | None = None
) -> Matrix:
  """A matrix of bare scores `[M, T]` without intervals, such as a paper's; NaN cells need no note of their own."""
  values = np.asarray(values, np.float64)
  if values.shape != (len(rows), len(targets)):
    raise ValueError(f"values is {values.shape}, want ({len(rows)} rows, {len(targets)} targets)")
  if notes is None:
    notes = np.asarray([[_why_empty(row, target) for target in targets] for row in rows])
  none = np.full_like(values, np.nan)
  notes = np.where(np.isnan(values), notes, "")
  return Matrix(tuple(rows), tuple(targets), values, none, none, notes, np.zeros((0, *values.shape)))


def same_cells(matrix: Matrix, other: Matrix) -> Matrix:
  """`matrix` on the rows and targets of `other`, without the cells that `other` lacks: so means can be compared."""
  values, notes = np.full(other.values.shape, np.nan), np.full(other.values.shape, MISSING, object)
  for m, row in enumerate(other.rows):
    for t, target in enumerate(other.targets):
      if row in matrix.rows and target in matrix.targets:
        values[m, t] = matrix.values[matrix.rows.index(row), matrix.targets.index(target)]
  values[np.isnan(other.values)] = np.nan
  notes[other.notes == IS_SOURCE] = IS_SOURCE
  return of_values(other.rows, other.targets, values, notes.astype(str))


def summarise(matrix: Matrix) -> dict[str, Summary]:
  """method -> mean and median over all cells of that method that have a score; nothing is clipped."""
  summaries = {}
  for method in dict.fromkeys(row.method for row in matrix.rows):
    is_method = np.asarray([row.method == method for row in matrix.rows])
    has_score = is_method[:, None] & ~np.isnan(matrix.values)
    should = is_method[:, None] & (matrix.notes != IS_SOURCE)
    values, resampled = matrix.values[has_score], matrix.resampled[:, has_score]
    mean, median = (_estimate(statistic, values, resampled) for statistic in (np.mean, np.median))
    summaries[method] = Summary(mean, median, int(has_score.sum()), int((should & ~has_score).sum()))
  return summaries


def table(
  summaries: Mapping[str, Summary], beside: Mapping[str, Mapping[str, tuple[float, float]]]
) -> dict[str, dict[str, str]]:
  """Rows for `curves.table`, like table 1 of the paper: mean and median in % of baseline 1.

  `beside`: heading -> method -> (mean, median) in %, to be shown beside ours.
  """
  rows = {"scratch": {"mean %": "100", "median %": "100", "cells": ""} | dict.fromkeys(beside, "100 / 100")}
  for method, summary in summaries.items():
    missing = f" ({summary.num_missing} missing)" if summary.num_missing else ""
    rows[method] = {
      "mean %": _percent(summary.mean),
      "median %": _percent(summary.median),
      "cells": f"{summary.num_cells}{missing}",
    }
    for heading, numbers in beside.items():
      pair = numbers.get(method, (np.nan, np.nan))
      rows[method][heading] = "{:.0f} / {:.0f}".format(*pair) if np.isfinite(pair).all() else "–"
  return rows


class _Sample(NamedTuple):
  """The areas of one set of runs."""

  area: float  # NaN if there is none.
  resampled: np.ndarray  # [R]; NaN for a single run.
  note: str  # Why there is none.


def _sample(
  curve: curves.Curve | None, definition: transfer.Definition, num_resamples: int, seed: tuple[int, ...]
) -> _Sample:
  none = np.full(num_resamples, np.nan)
  if curve is None:
    return _Sample(np.nan, none, MISSING)
  num_runs, top_k = len(curve.values), definition.top_k or len(curve.values)
  if num_runs < top_k:
    return _Sample(np.nan, none, f"{num_runs} of {top_k} runs")
  if definition.horizon > curve.steps[-1] + 0.5 * (curve.steps[-1] - curve.steps[-2]):
    return _Sample(np.nan, none, f"at {curve.steps[-1] / definition.horizon:.0%}")
  area = float(transfer.areas(curve, definition)[0])
  if num_runs == 1:
    return _Sample(area, none, "")
  indices = intervals.resamples(np.random.default_rng(seed), num_resamples, num_runs)
  return _Sample(area, transfer.areas(curve, definition, indices), "")


def _why_not(row: Row, target: str, above: _Sample, below: _Sample) -> str:
  """Why a cell has no score; '' if it has one."""
  if above.note:
    return _why_empty(row, target) if above.note == MISSING else above.note
  if below.note:
    return f"scratch: {below.note}"
  return "" if below.area > 0 else "scratch: at floor"


def _why_empty(row: Row, target: str) -> str:
  return IS_SOURCE if target in row.source.split("+") else MISSING


def _estimate(statistic: Callable[..., np.ndarray], values: np.ndarray, resampled: np.ndarray) -> intervals.Interval:
  none = np.asarray(np.nan)
  if not values.size:
    return intervals.Interval(none, none, none)
  if not len(resampled) or np.isnan(resampled).any():
    return intervals.Interval(statistic(values), none, none)
  return intervals.Interval(statistic(values), *intervals.percentiles(statistic(resampled, axis=-1)))


def _percent(interval: intervals.Interval) -> str:
  if np.isnan(interval.mean):
    return "–"
  return intervals.words(*(100.0 * float(x) for x in interval), places=0)
