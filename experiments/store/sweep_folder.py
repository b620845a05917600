"""A sweep on disk, read: its members' learning curves, which of them are best, and why some have not got so far.

Curves are made here, from the returns of finished episodes, so that all figures draw the same ones; members are
compared by their last tenth. What has not been reached is named in words, never drawn as a zero.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis import curves, records, transfer

NUM_POINTS = 100  # Of a learning curve. A point of the paper's averages 1/640 of a run 13 times our laptop's.
_MOST_NAMES = 3  # Of runs that are named as missing.


class TooShort(ValueError):
  """No episode ended in the last tenth of a run, so that nothing says how well it plays."""


class Members(NamedTuple):
  """The runs of a sweep."""

  runs: tuple[records.Run, ...]  # Those that have finished episodes.
  lacking: str  # How many there are of how many, and which are not among them; '' where all are, or none.


def read_members(path: pathlib.Path, num_runs: int) -> Members:
  """Reads the members of the sweep in `path`, which has `num_runs` when all are there.

  More may lie there, of a config with more runs that was given up before its first checkpoint: they are not read.

  Raises:
    ValueError: one cannot be read.
  """
  own = {f"{i:02}": path / "runs" / f"{i:02}" for i in range(num_runs)}
  there = {name: records.read(run) for name, run in own.items() if (run / "metrics.jsonl").exists()}
  ended = {name: run for name, run in there.items() if records.has_ended(run)}
  absent = [name for name in own if name not in ended]
  if not absent or not ended:
    return Members(tuple(ended.values()), "")
  more = f" and {len(absent) - _MOST_NAMES} more" if len(absent) > _MOST_NAMES else ""
  names = ", ".join(absent[:_MOST_NAMES]) + more
  return Members(tuple(ended.values()), f"{len(ended)} of {num_runs} runs have ended episodes, not {names}")


def score(path: pathlib.Path) -> float:
  """Mean return of the episodes that a run finished in the last tenth of its steps.

  Raises:
    TooShort: if none ended there.
    ValueError: if it cannot be read.
  """
  return late_return(records.read(path))


def best(paths: Sequence[pathlib.Path]) -> tuple[int, list[float]]:
  """Which of the runs in `paths` scores best, and the `score` of each: minus infinity where it is too short.

  Raises:
    TooShort: if all are.
    ValueError: if one cannot be read.
  """
  scores, too_short = list[float](), list[TooShort]()
  for path in paths:
    try:
      scores.append(score(path))
    except TooShort as error:
      scores.append(-np.inf)
      too_short.append(error)
  if len(too_short) == len(scores):
    raise too_short[0]
  return int(np.argmax(scores)), scores


def late_return(run: records.Run) -> float:
  """`score` of a run that was read; minus infinity for one whose last update, or a return, is no number."""
  last = records.last(run, kind="train")
  if not np.isfinite([last.get(name, 0.0) for name in ("loss", "gradient_norm")]).all():
    return -np.inf
  returns = late_returns(run)
  if not returns.size:
    raise TooShort(f"{run.path}: no episode ended in the last tenth of its steps; train longer")
  mean = float(returns.mean())
  return mean if np.isfinite(mean) else -np.inf


def late_returns(run: records.Run) -> np.ndarray:
  """Returns of the episodes that a run finished in the last tenth of its steps, `[N]`; N is 0 where none did."""
  if not records.has_ended(run):
    return np.zeros(0)
  ends, returns = records.episodes(run)
  return returns[ends > (1.0 - transfer.FINAL_SHARE) * records.num_steps(run)]


def last_returns(run: records.Run) -> np.ndarray:
  """`late_returns` of a run that has ended episodes, or what its last one returned where none ended there."""
  returns = late_returns(run)
  return returns if returns.size else records.episodes(run)[1][-1:]


def points(run: records.Run, steps: int, start: float | None, median_points: int = 1) -> tuple[np.ndarray, np.ndarray]:
  """A learning curve up to `steps`: what ended in each of `NUM_POINTS` bins, steps `[G]` and values `[G]`.

  Args:
    run: with finished episodes.
    steps: of the whole sweep, which the bins divide.
    start: the value at step 0, what is scored before anything is learned; None: what the first episodes returned, which
      were played before much was.
    median_points: as of `curves.points`.
  """
  ends, returns = records.episodes(run)
  num_steps = min(records.num_steps(run), steps)
  ends = np.minimum(ends, num_steps)  # The last update may go beyond.
  bin_steps = max(1, round(steps / NUM_POINTS))
  start = float(returns[0]) if start is None else start
  return curves.points(
    ends, returns, bin_steps=bin_steps, num_steps=num_steps, start=start, median_points=median_points
  )


def top_runs(curve: curves.Curve, top: int, floor: float) -> np.ndarray:
  """Which runs have the most area above the floor, as a transfer score counts it: `top` indices, or all of fewer."""
  how = transfer.Definition(floor=floor, horizon=float(curve.steps[-1]), top_k=1)
  each = [transfer.areas(curves.Curve(curve.steps, values[None]), how)[0] for values in curve.values]
  return np.argsort(-np.asarray(each), kind="stable")[:top]


def why_unreadable(runs: Sequence[records.Run], curve: curves.Curve) -> str:
  """Which of `runs`, a line of the curve each, has a return that is no number; '' where none has."""
  bad = [run for run, values in zip(runs, curve.values, strict=True) if not np.isfinite(values).all()]
  return f"unreadable: {bad[0].path} has a return that is no number" if bad else ""


def why_incomplete(runs: Sequence[records.Run], steps: int, *, is_done: bool) -> tuple[str, str]:
  """(note, gap): why a sweep of `steps` is not complete, short and in full; '' where it is.

  `runs` are those that have finished episodes; `is_done`: whether what comes after learning was done too.
  """
  if not runs:
    return "empty", "empty: no episode has ended"
  reached = min(records.num_steps(run) for run in runs)
  if reached >= (1 - 0.5 / NUM_POINTS) * steps:
    return ("", "") if is_done else ("not done", "half written: it has learned, but was not evaluated")
  what = f"stops at step {reached:,} of {steps:,}" if is_done else f"half written: at step {reached:,} of {steps:,}"
  return f"at {reached / steps:.0%}", what
