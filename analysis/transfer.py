"""Transfer score: the area under a method's learning curve, relative to learning the target from scratch.

    score = area above `floor` up to `horizon` of the method / the same of baseline 1 on that target

Rusu et al. 2016 (section 5) run 25 jobs per cell with sampled hyper-parameters and report the mean of the top 3. They
do not say how a game with negative scores is shifted, how far the area goes, by what the top is ranked, or whether
curves are averaged before or after the area is taken. All four are fields of `Definition`. Averaging commutes with the
area unless a run dips below the floor, because what lies below it counts as 0, not as negative.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from analysis import curves

RANKINGS = ("area", "final")
AVERAGES = ("runs", "curve")
# Our choice: the mean over this share of the horizon counts as the final score; a single point is too noisy to rank by.
FINAL_SHARE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
  """What the paper leaves open about the score, with each choice explained."""

  # The score that counts as nothing. In Pong: its minimum -21, or -20, with which the paper's own curves come nearest.
  floor: float
  horizon: float  # Number of steps up to which the area goes, in the curves' unit.
  top_k: int | None = 3  # How many of a cell's runs, the best ones, count; None: all.
  rank_by: str = "area"  # "area" (which is compared, and least noisy), or "final": the mean of the last tenth.
  average: str = "runs"  # "runs": the mean of the runs' areas; "curve": the area of their mean curve.

  def __post_init__(self) -> None:
    """Refuses values that give no score."""
    for name, value, known in (("rank_by", self.rank_by, RANKINGS), ("average", self.average, AVERAGES)):
      if value not in known:
        raise ValueError(f"{name}={value!r} is not one of {known}")
    if self.top_k is not None and self.top_k < 1:
      raise ValueError(f"top_k={self.top_k} keeps no run; give at least 1, or None for all")
    if not (np.isfinite(self.floor) and np.isfinite(self.horizon) and self.horizon > 0):
      raise ValueError(f"floor={self.floor} and horizon={self.horizon} must be finite, and horizon above 0")


def readings(definition: Definition, horizons: Sequence[float] = ()) -> dict[str, Definition]:
  """Every reading of the paper with this floor and top, by label: ranking x average x (`horizon`, `horizons`)."""
  definitions = {}
  for horizon in dict.fromkeys((definition.horizon, *horizons)):
    for rank_by in RANKINGS:
      for average in AVERAGES:
        label = f"top by {rank_by}, area of {'each run' if average == 'runs' else 'the mean curve'}, to {horizon:g}"
        definitions[label] = dataclasses.replace(definition, horizon=horizon, rank_by=rank_by, average=average)
  return definitions


def areas(curve: curves.Curve, definition: Definition, indices: np.ndarray | None = None) -> np.ndarray:
  """Mean height above the floor of the top of S runs, `[R]` points of score: area / length, for any unit of steps.

  `indices`, `[R, S']`, are the runs in each resample; None means one resample that holds each run once.
  """
  num_runs = len(curve.values)
  top_k = definition.top_k or num_runs
  if num_runs < top_k:
    raise ValueError(f"top_k={top_k} of {num_runs} runs")
  if not np.isfinite(curve.values).all():
    raise ValueError(f"{(~np.isfinite(curve.values)).any(axis=1).sum()} of {num_runs} runs have a point that is NaN")
  indices = np.arange(num_runs)[None] if indices is None else indices
  piece = curves.between(curve, float(curve.steps[0]), definition.horizon)
  each = _height_above(piece.steps, piece.values, definition.floor)
  rank = each if definition.rank_by == "area" else final_scores(curve, definition.horizon)
  weights = _weights_of_top(rank, indices, top_k)
  if definition.average == "runs":
    return weights @ each
  return _height_above(piece.steps, weights @ piece.values, definition.floor)


def final_scores(curve: curves.Curve, horizon: float) -> np.ndarray:
  """Each run's mean over the last tenth before `horizon`, `[S]`."""
  start = max(float(curve.steps[0]), (1.0 - FINAL_SHARE) * horizon)
  return curves.mean_height(curves.between(curve, start, horizon))


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
  """`above` / `below` `[R]`, areas >= 0; infinite where `below` is 0 (a baseline on the floor bounds nothing)."""
  unbounded = np.where(np.isnan(above + below), np.nan, np.inf)
  return np.divide(above, below, out=unbounded, where=below > 0)


def _height_above(steps: np.ndarray, values: np.ndarray, floor: float) -> np.ndarray:
  """The exact mean over `steps` `[G]` of the part above `floor` of the line through `values` `[..., G]`."""
  above = values - floor
  low = np.minimum(above[..., :-1], above[..., 1:])
  high = np.maximum(above[..., :-1], above[..., 1:])
  triangle = np.divide(high**2, 2.0 * (high - low), out=np.zeros_like(high), where=(high > 0) & (low < 0))
  segment = np.where(low >= 0, 0.5 * (low + high), triangle)  # Mean height; 0 where all of it lies below.
  return segment @ np.diff(steps) / (steps[-1] - steps[0])


def _weights_of_top(rank: np.ndarray, indices: np.ndarray, top_k: int) -> np.ndarray:
  """`[R, S]`: the weight of each run in each resample; rows sum to 1."""
  order = np.argsort(-rank[indices], axis=1, kind="stable")[:, :top_k]
  chosen = np.take_along_axis(indices, order, axis=1)
  weights = np.zeros((len(indices), len(rank)))
  np.add.at(weights, (np.arange(len(indices))[:, None], chosen), 1.0 / top_k)
  return weights
