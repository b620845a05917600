"""A sweep on disk: its members' networks and learning curves, which members are best, and why some are behind.

Curves are made here, from the returns of finished episodes, so that all figures draw the same curves. Members are
compared by the last tenth of their steps. What a run has not reached is named in words and never drawn as a zero.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis import curves, records, transfer
from experiments.store import checkpoint, network_file, released, run_directory

NUM_POINTS = 100  # Of a learning curve. A point of the paper averages 1/640 of a run 13 times as long as our laptop's.
_MOST_NAMES = 3  # At most so many missing runs are named.


class TooShort(ValueError):
  """No episode ended in the last tenth of a run, so nothing says how well it plays."""


class Members(NamedTuple):
  """The runs of a sweep."""

  runs: tuple[records.Run, ...]  # Those that have finished episodes.
  lacking: str  # How many of how many there are, and which are missing; '' if all are there, or none.
  num_failed: int  # How many of the missing runs failed.


def run_path(path: pathlib.Path, index: int) -> pathlib.Path:
  """The run directory of member `index` of the sweep in `path`."""
  return path / "runs" / f"{index:02}"


def run_paths(path: pathlib.Path, num_runs: int) -> list[pathlib.Path]:
  """The run directories of the sweep in `path`."""
  return [run_path(path, i) for i in range(num_runs)]


def trained(path: pathlib.Path, index: int, *, like: Any = None) -> released.Source:
  """Member `index` of the sweep in `path`, at the newest checkpoint that is whole.

  Args:
    path: of the sweep.
    index: of the member.
    like: parameters of the same structure (arrays or shapes), auxiliary heads included; None: the network's alone.

  Raises:
    ValueError: if there is none, or it does not fit `like`.
  """
  member = run_path(path, index)
  step, arrays, file = checkpoint.load_own(member)
  spec = network_file.read_spec(path)
  if like is None:
    params = checkpoint.network_params(arrays, spec, source=str(file))
  else:
    params = checkpoint.all_params(arrays, like, source=str(file))
  about = run_directory.read_provenance(member)
  return released.Source(
    spec, params, step, reward_scale=released.reward_scale(member), learned_in=about.get("learned_in")
  )


def save_best(path: pathlib.Path, index: int, best: released.Source, *, evaluation: dict[str, Any]) -> None:
  """Writes a sweep's best member to `path/best` as a released network.

  Args:
    path: of the sweep.
    index: of the best member.
    best: the same member, from `trained`.
    evaluation: what is known about it.
  """
  training = released.lineage(run_path(path, index), steps=best.step)
  provenance = {"training": training, **best.about()}
  released.save(path / "best", best.spec, best.params, evaluation=evaluation, provenance=provenance)


def read_members(path: pathlib.Path, num_runs: int) -> Members:
  """Reads the members of the sweep in `path`, which has `num_runs` when it is complete.

  The folder may hold more members, from a config with more runs that was given up before its first checkpoint. These
  are not read, and neither are those that failed.

  Raises:
    ValueError: if one cannot be read.
  """
  own = {run.name: run for run in run_paths(path, num_runs)}
  failed = {name for name, run in own.items() if run_directory.failure(run)}
  there = {
    name: records.read(run) for name, run in own.items() if (run / "metrics.jsonl").exists() and name not in failed
  }
  ended = {name: run for name, run in there.items() if records.has_ended(run)}
  absent = [f"{name} (failed)" if name in failed else name for name in own if name not in ended]
  if not absent or not ended:
    return Members(tuple(ended.values()), "", len(failed))
  more = f" and {len(absent) - _MOST_NAMES} more" if len(absent) > _MOST_NAMES else ""
  names = ", ".join(absent[:_MOST_NAMES]) + more
  lacking = f"{len(ended)} of {num_runs} runs have ended episodes, not {names}"
  return Members(tuple(ended.values()), lacking, len(failed))


def score(path: pathlib.Path) -> float:
  """Mean return of the episodes that a run finished in the last tenth of its steps; minus infinity if it failed.

  Raises:
    TooShort: if none ended there.
    ValueError: if it cannot be read.
  """
  return -np.inf if run_directory.failure(path) else late_return(records.read(path))


def best(paths: Sequence[pathlib.Path]) -> tuple[int, list[float]]:
  """The index of the best run in `paths`, and the `score` of each: minus infinity if it is too short or failed.

  Raises:
    TooShort: if one is, and no other has a score.
    ValueError: if one cannot be read.
  """
  scores, too_short = list[float](), list[TooShort]()
  for path in paths:
    try:
      scores.append(score(path))
    except TooShort as error:
      scores.append(-np.inf)
      too_short.append(error)
  if too_short and not np.isfinite(scores).any():
    raise too_short[0]
  return int(np.argmax(scores)), scores


def late_return(run: records.Run) -> float:
  """`score` of a run that has been read; minus infinity if its last update or a return is not a finite number."""
  last = records.last(run, kind="train")
  if not np.isfinite([last.get(name, 0.0) for name in ("loss", "gradient_norm")]).all():
    return -np.inf
  returns = late_returns(run)
  if not returns.size:
    raise TooShort(f"{run.path}: no episode ended in the last tenth of its steps; train longer")
  mean = float(returns.mean())
  return mean if np.isfinite(mean) else -np.inf


def late_returns(run: records.Run) -> np.ndarray:
  """Returns of the episodes that a run finished in the last tenth of its steps, `[N]`; N is 0 if there were none."""
  if not records.has_ended(run):
    return np.zeros(0)
  ends, returns = records.episodes(run)
  return returns[ends > (1.0 - transfer.FINAL_SHARE) * records.num_steps(run)]


def last_returns(run: records.Run) -> np.ndarray:
  """`late_returns` of a run with finished episodes, or the return of its last one if none ended that late."""
  returns = late_returns(run)
  return returns if returns.size else records.episodes(run)[1][-1:]


def points(run: records.Run, steps: int, start: float | None, median_points: int = 1) -> tuple[np.ndarray, np.ndarray]:
  """A learning curve up to `steps`, from what ended in each of `NUM_POINTS` bins: steps `[G]` and values `[G]`.

  Args:
    run: with finished episodes.
    steps: of the whole sweep, which are divided into the bins.
    start: the value at step 0, scored before anything is learned; None: the return of the first episodes, which were
      played before much was learned.
    median_points: as for `curves.points`.
  """
  ends, returns = records.episodes(run)
  num_steps = min(records.num_steps(run), steps)
  ends = np.minimum(ends, num_steps)  # The last update may go beyond `steps`.
  bin_steps = max(1, round(steps / NUM_POINTS))
  start = float(returns[0]) if start is None else start
  return curves.points(
    ends, returns, bin_steps=bin_steps, num_steps=num_steps, start=start, median_points=median_points
  )


def top_runs(curve: curves.Curve, top: int, floor: float) -> np.ndarray:
  """Indices of the `top` runs (or all, if fewer) with the most area above the floor, as a transfer score counts it."""
  how = transfer.Definition(floor=floor, horizon=float(curve.steps[-1]), top_k=1)
  each = [transfer.areas(curves.Curve(curve.steps, values[None]), how)[0] for values in curve.values]
  return np.argsort(-np.asarray(each), kind="stable")[:top]


def why_unreadable(runs: Sequence[records.Run], curve: curves.Curve) -> str:
  """Names the first of `runs`, one line of the curve each, with a return that is not finite; '' if there is none."""
  bad = [run for run, values in zip(runs, curve.values, strict=True) if not np.isfinite(values).all()]
  return f"unreadable: {bad[0].path} has a return that is no number" if bad else ""


def why_incomplete(runs: Sequence[records.Run], steps: int, *, is_done: bool) -> tuple[str, str]:
  """(note, gap): why a sweep of `steps` is incomplete, in short and in full; '' if it is complete.

  `runs` are those with finished episodes. `is_done` says whether the work after learning was done too.
  """
  if not runs:
    return "empty", "empty: no episode has ended"
  reached = min(records.num_steps(run) for run in runs)
  if reached >= (1 - 0.5 / NUM_POINTS) * steps:
    return ("", "") if is_done else ("not done", "half written: it has learned, but was not evaluated")
  what = f"stops at step {reached:,} of {steps:,}" if is_done else f"half written: at step {reached:,} of {steps:,}"
  return f"at {reached / steps:.0%}", what
