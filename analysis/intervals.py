"""The one interval: how far a mean may be from the mean of more runs, or of more episodes.

    mean +- t(n - 1) deviation / sqrt(n)

These are 95 % intervals of the mean by Student's t, for two or more values. For normally distributed values they
contain the mean 95 times of 100, for any number of values. For skewed returns between 0 and 50 they do so less often:
for Beta(5, 1), with most values near 50, 90 to 92 times for 2 to 10 values and 94 for 30; for Beta(1/2, 2), with most
values near 0, 86 to 92 and 94. A bootstrap does no better from 8 values on and worse below, even if it is widened as in
Hesterberg 2015 ("What Teachers Should Know About the Bootstrap"): no interval within the range of the values contains
the mean more often than 1 - 2^(1 - n), 50 % for two values. The price is width: the interval of two values is 12.7
times as wide as their distance. If there are fewer than `FEWEST` values, figures draw each of them and no band. One
value has no interval.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy

FEWEST = 4  # The fewest values for which a figure draws a band.
CONFIDENCE = 0.95


class Interval(NamedTuple):
  """An estimate and its interval; `low` and `high` are NaN if there is none."""

  mean: np.ndarray  # [...]
  low: np.ndarray  # [...]
  high: np.ndarray  # [...]


def of_mean(values: np.ndarray, *, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
  """The mean and its interval, `[...]`, of `values` `[N, ...]`, whose rows (runs, episodes) are independent.

  `bounds`: the lowest and the highest possible value, if known; the interval ends there.
  """
  values = np.asarray(values, np.float64)
  mean, num = values.mean(axis=0), len(values)
  if num < 2:
    return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
  reach = scipy.special.stdtrit(num - 1, 0.5 * (1.0 + CONFIDENCE)) * values.std(axis=0, ddof=1) / np.sqrt(num)
  return Interval(mean, *np.clip((mean - reach, mean + reach), *bounds))


def resamples(rng: np.random.Generator, num_resamples: int, num_runs: int) -> np.ndarray:
  """The runs in each bootstrap resample, `[R, S]`: for ratios and medians, whose samples differ in size."""
  return rng.integers(num_runs, size=(num_resamples, num_runs))


def percentiles(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Low and high end over the first axis of resampled estimates `[R, ...]`; some may be infinite.

  They serve for ratios and medians, which Student's t does not fit. For few runs they are not 95 % intervals. With the
  same number of runs on both sides, a ratio of means lies within them 67 times of 100 for two runs, 80 for three, 85
  for four, 89 for six, 92 for ten and 93 for 25. A ratio of medians lies within them 66, 89 and 93 times, and 96 or 97
  from five runs on.
  """
  tail = 50.0 * (1.0 - CONFIDENCE)
  low, high = np.percentile(resampled, [tail, 100.0 - tail], axis=0, method="inverted_cdf")
  return low, high


def name(counts: Iterable[int]) -> str:
  """What a figure draws beside the mean for these counts: a shaded band, or thin lines for fewer than `FEWEST`."""
  counts = list(counts)
  parts = [f"shaded: {100 * CONFIDENCE:.0f} % interval of the mean"] if any(num >= FEWEST for num in counts) else []
  if any(1 < num < FEWEST for num in counts):
    parts.append("thin: each of them" + (f" where there are fewer than {FEWEST}" if parts else ""))
  return "; ".join(parts)


def words(mean: float, low: float | None, high: float | None, *, places: int = 1) -> str:
  """'8.5 [2.0, 15.0]', or only '8.5' if low and high are None or NaN."""
  text = f"{mean:,.{places}f}"
  if low is None or high is None or np.isnan(low) or np.isnan(high):
    return text
  return f"{text} [{low:,.{places}f}, {high:,.{places}f}]"
