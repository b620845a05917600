"""The one interval: how far a mean may be from what more runs, or more episodes, would give.

95 % bootstrap intervals of the mean, widened for few values. Percentiles of resampled means cover too rarely: 86 % for
6 values of a normal, where they say 95 %. So the level is raised until they are as wide as Student's t would have them:
the expanded percentile interval of Hesterberg 2015, "What Teachers Should Know About the Bootstrap". It never leaves
the range of the values. The price: of fewer than `FEWEST` values it is the least and the greatest, or nearly, and no
interval within the range does better than 1 - 2^(1 - n), 50 % for two values and 75 % for three. Figures call it a
range there. One value has no interval.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import stats

FEWEST = 6  # 1 - 2^(1 - n) is above 0.95 from here on.
CONFIDENCE = 0.95


class Interval(NamedTuple):
  """An estimate and its interval; `low` and `high` are NaN where there is none."""

  mean: np.ndarray  # [...]
  low: np.ndarray  # [...]
  high: np.ndarray  # [...]


def of_mean(values: np.ndarray, *, num_resamples: int = 9999) -> Interval:
  """The mean and its interval, `[...]`, of `values` `[N, ...]`, whose rows (runs, episodes) are independent."""
  values = np.asarray(values, np.float64)
  mean, num = values.mean(axis=0), len(values)
  if num < 2:
    return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
  tail = stats.norm.sf(np.sqrt(num / (num - 1)) * stats.t.isf(0.5 * (1.0 - CONFIDENCE), num - 1))
  low, high = stats.bootstrap(
    (values,),
    np.mean,
    axis=0,
    confidence_level=1.0 - 2.0 * tail,
    n_resamples=num_resamples,
    batch=1000,
    method="percentile",
    vectorized=True,
    rng=np.random.default_rng(0),  # So that a figure can be drawn again.
  ).confidence_interval
  ends = np.clip((low, high), values.min(axis=0), values.max(axis=0))  # Of three equal values the mean is rounded.
  return Interval(mean, *ends)


def resamples(rng: np.random.Generator, num_resamples: int, num_runs: int) -> np.ndarray:
  """Which runs each bootstrap resample holds, `[R, S]`: for ratios and medians, whose samples differ in size."""
  return rng.integers(num_runs, size=(num_resamples, num_runs))


def percentiles(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Low and high end over the first axis of resampled estimates `[R, ...]`; some may be infinite. Not widened."""
  tail = 50.0 * (1.0 - CONFIDENCE)
  low, high = np.percentile(resampled, [tail, 100.0 - tail], axis=0, method="inverted_cdf")
  return low, high


def name(counts: Iterable[int]) -> str:
  """What intervals of means of so many values are, in words for a figure: ranges where there are too few values."""
  is_enough = {num >= FEWEST for num in counts if num > 1}
  named = {False: "least to greatest", True: "95 % interval of the mean"}
  if len(is_enough) == 2:
    return f"{named[True]}; of fewer than {FEWEST}, {named[False]}"
  return "".join(named[enough] for enough in is_enough)


def words(mean: float, low: float | None, high: float | None, *, places: int = 1) -> str:
  """'8.5 [2.0, 15.0]', or '8.5' alone where low and high are None or NaN."""
  text = f"{mean:,.{places}f}"
  if low is None or high is None or np.isnan(low) or np.isnan(high):
    return text
  return f"{text} [{low:,.{places}f}, {high:,.{places}f}]"
