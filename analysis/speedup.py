"""How many times fewer steps one way of learning needs than another to reach a score.

    speed-up = median steps of the slow runs / median steps of the fast runs

A run that never reaches the score within its length is censored: it needs more steps than it had, but it is unknown how
many. Such a run is never dropped, and its length is never used as its answer. A ratio with a censored median is a
bound. The low end of the bootstrap interval is a percentile of the lowest possible ratio of each resample, the high end
one of the highest possible ratio (they may be 0 or infinite).
"""

from typing import NamedTuple

import numpy as np

from analysis import curves, intervals

_NUM_RESAMPLES = 2000


class Speedup(NamedTuple):
  """A ratio of steps and its interval; above 1, `method` is faster than `baseline`."""

  at_least: float  # Equal to `at_most` if both medians are known.
  at_most: float
  low: float  # NaN if either side has a single run.
  high: float
  num_reached: int  # How many of the method's runs.
  num_runs: int
  num_baseline_reached: int
  num_baseline_runs: int

  @property
  def is_known(self) -> bool:
    """Whether both medians were reached, so that the ratio is a number, not a bound."""
    return self.at_least == self.at_most


def steps_to(curve: curves.Curve, score: float) -> np.ndarray:
  """The step at which each run first reaches `score`, on the line through its points, `[S]`; infinite if never."""
  steps = np.full(len(curve.values), np.inf)
  for s, values in enumerate(curve.values):
    reached = np.flatnonzero(values >= score)
    if not reached.size:
      continue
    g = int(reached[0])
    if g == 0:
      steps[s] = curve.steps[0]
    else:
      share = (score - values[g - 1]) / (values[g] - values[g - 1])
      steps[s] = curve.steps[g - 1] + share * (curve.steps[g] - curve.steps[g - 1])
  return steps


def steps_in_words(curve: curves.Curve, score: float) -> str:
  """Median of the steps to `score`, and each run's steps, sorted: '200 (100; 200; never)'.

  If runs that never reach it are in the median, its least possible value: '> 300 (100; never; never)' of 300 steps.
  """
  steps = np.sort(steps_to(curve, score))
  least, most = np.median(np.minimum(steps, curve.steps[-1])), np.median(steps)
  each = "; ".join(f"{x:,.0f}" if np.isfinite(x) else "never" for x in steps)
  return f"{'' if least == most else '> '}{least:,.0f} ({each})"


def speedup(baseline: curves.Curve, method: curves.Curve, score: float) -> Speedup:
  """How many times fewer steps than `baseline` the runs of `method` need to reach `score`.

  Smooth the curves first if they are noisy: the first point above the score counts.

  Raises:
    ValueError: if a run is at the score from its first point, because the ratio then says nothing.
  """
  slow, fast = steps_to(baseline, score), steps_to(method, score)
  if (slow == baseline.steps[0]).any() or (fast == method.steps[0]).any():
    raise ValueError(f"score={score:g} is reached at the first point by some run: choose one that must be learned")
  lengths = float(baseline.steps[-1]), float(method.steps[-1])
  at_least, at_most = _bounds(slow[None], fast[None], *lengths)
  low = high = np.asarray(np.nan)
  if min(len(slow), len(fast)) > 1:
    rng = np.random.default_rng(0)
    slow_resampled, fast_resampled = (x[intervals.resamples(rng, _NUM_RESAMPLES, len(x))] for x in (slow, fast))
    lowest, highest = _bounds(slow_resampled, fast_resampled, *lengths)
    low, high = intervals.percentiles(lowest)[0], intervals.percentiles(highest)[1]
  return Speedup(
    at_least=float(at_least[0]),
    at_most=float(at_most[0]),
    low=float(low),
    high=float(high),
    num_reached=int(np.isfinite(fast).sum()),
    num_runs=len(fast),
    num_baseline_reached=int(np.isfinite(slow).sum()),
    num_baseline_runs=len(slow),
  )


def describe(ratio: Speedup) -> str:
  """One line: '4.0x [2.1, 9.7]', or '> 4.0x' if only a bound is known."""
  if ratio.is_known:
    text = f"{ratio.at_least:.1f}x"
  elif np.isinf(ratio.at_most) and ratio.at_least > 0:
    text = f"> {ratio.at_least:.1f}x"
  elif np.isfinite(ratio.at_most):
    text = f"< {ratio.at_most:.1f}x"
  else:
    text = "unknown"
  if not np.isnan(ratio.low):
    text += f" [{ratio.low:.1f}, {ratio.high:.1f}]"
  return (
    f"{text} ({ratio.num_reached} of {ratio.num_runs} runs reach it, "
    f"{ratio.num_baseline_reached} of {ratio.num_baseline_runs} of the baseline)"
  )


def _bounds(
  slow: np.ndarray, fast: np.ndarray, slow_length: float, fast_length: float
) -> tuple[np.ndarray, np.ndarray]:
  """The least and the greatest possible ratio of medians, for each row of `[R, S]` steps."""
  # A censored run is between its length and infinity: x / inf is 0, inf / x is infinite.
  slow_least, fast_least = np.minimum(slow, slow_length), np.minimum(fast, fast_length)
  slow_most, slow_least, fast_most, fast_least = (
    np.median(steps, axis=1) for steps in (slow, slow_least, fast, fast_least)
  )
  return slow_least / fast_most, slow_most / fast_least
