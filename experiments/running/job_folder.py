"""The folder of a plan's jobs, and what is known of each job.

    WORKDIR/NAME/           what the job makes
    WORKDIR/NAME.log        what it prints; whoever has it locked runs the job
    WORKDIR/NAME.job.json   what was run and what came of it: `Record`

A job that the same command has done is not done again, unless its folder is gone, or a job that it needs was done again
or will be. What it had learned from the older result is kept as WORKDIR/NAME.1, and so is what another config has
learned. If only `train.steps` has grown, the job continues (except in a matrix).
"""

import ast
import collections
import contextlib
import dataclasses
import fcntl
import functools
import graphlib
import itertools
import os
import pathlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from analysis import records
from experiments.report import text_table
from experiments.running import plan as plan_lib
from experiments.running import slurm
from experiments.store import lock as lock_lib
from experiments.store import run_directory

DONE, QUEUED, RUNNING, STOPPED, FAILED, LEFT = "done", "queued", "running", "stopped", "failed", "left"
_RECORD = ".job.json"
_PATIENCE_S = 0.2  # A process that only looks has a log locked for an instant.
_MOST_WAITS = 3  # A table names at most so many.
# Fields that may change under a run or a matrix (`matrix.write_plan`), which refuse a change that they cannot take.
_GOES_ON = ("train.steps", "wandb", "matrix.")


class BusyError(ValueError):
  """Another process is at work on a job, or has done it meanwhile."""


@dataclasses.dataclass
class Record:
  """What is known of a job, as stored in its file."""

  state: str = LEFT
  job: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # The job as it was when it ran.
  hours: float = 0.0  # Over all its starts.
  code: int | None = None  # The process's last exit code, for readers of the file.
  on_slurm: bool = False  # SLURM had it last, and knows whether it is queued or runs.
  ended_s: float = 0.0  # When its result was done, in seconds since the epoch; 0: unknown.
  needs: Mapping[str, float] = dataclasses.field(default_factory=dict)  # `ended_s` of the needed jobs when it started.
  host: str = ""  # The machine on which it ran last.
  # The devices that it had there, and how much of each.
  devices: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Folder:
  """The folder of a plan's jobs."""

  def __init__(self, path: pathlib.Path, jobs: Sequence[plan_lib.Job]):
    self.path = path
    self._jobs = {job.name: job for job in jobs}
    self._folders = plan_lib.folders(jobs, path)

  @functools.cached_property
  def queue(self) -> dict[str, slurm.Queued]:
    """Which of these jobs SLURM had when it was first asked, by name."""
    return slurm.queue(self.path)

  def command(self, job: plan_lib.Job) -> list[str]:
    return job.command(self._folders)

  def log(self, job: plan_lib.Job) -> pathlib.Path:
    return self.path / f"{job.name}.log"

  def lock_log(self, job: plan_lib.Job) -> TextIO:
    """Opens the job's log and locks it until all who have it open have closed it.

    Raises:
      BusyError: if another launcher runs the job.
    """
    log = self.log(job).open("a")
    if not _lock(log, patience_s=_PATIENCE_S):
      log.close()
      raise BusyError(f"job {job.name!r} runs already, by another launcher here")
    return log

  def last_line(self, job: plan_lib.Job) -> str:
    """What the job said last."""
    log = self.log(job)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

  def stored(self, name: str) -> Record:
    """A job's record as it was last written."""
    file = self._file(name)
    if not file.exists():
      return Record()
    try:
      record = Record(**run_directory.read_json(file))
      if not isinstance(record.devices, Mapping):
        raise TypeError(f"its devices are {record.devices}")
      return record
    except TypeError as error:
      raise ValueError(f"{file} is no job's record of this version ({error}); use another --workdir") from error
    except ValueError as error:
      raise ValueError(f"{file} is damaged; remove it: the job then goes on from what its folder holds") from error

  def read(self) -> dict[str, Record]:
    """What came of every job, and whether it is at work, by name in the plan's order.

    A job is `LEFT` if it never ran, if another command ran instead, if its folder is gone, or if what it needs was made
    anew since it was done, or is not done now and so will be.
    """
    needs = {name: job.needs() for name, job in self._jobs.items()}
    records: dict[str, Record] = {}
    for name in graphlib.TopologicalSorter(needs).static_order():
      if name in self._jobs:  # Jobs outside this part of the plan are taken as they are.
        has_needs = all(records[need].state == DONE for need in needs[name] if need in self._jobs)
        records[name] = self._read(self._jobs[name], has_needs=has_needs)
    return {name: records[name] for name in self._jobs}

  def states(self) -> dict[str, str]:
    """What came of every job, by name."""
    return {name: record.state for name, record in self.read().items()}

  def _read(self, job: plan_lib.Job, *, has_needs: bool) -> Record:
    record = self.stored(job.name)
    if record.on_slurm and record.state != DONE and job.name not in self.queue:
      record = self.stored(job.name)  # It may have ended before SLURM was asked.
    is_gone = job.leaves_own_folder and not pathlib.Path(self._folders[job.name]).is_dir()
    is_another = dict(record.job) != as_json(job)
    if record.state == DONE and (is_another or is_gone or self._is_stale(record) or not has_needs):
      record.state = LEFT
    if record.on_slurm and record.state != DONE and job.name in self.queue:
      record.state = QUEUED if self.queue[job.name].state == "PENDING" else RUNNING
    elif record.state == RUNNING and (record.on_slurm or not _is_locked(self.log(job))):
      record.state = STOPPED  # It was killed, and so was its launcher.
    return record

  def _is_stale(self, record: Record) -> bool:
    return any(self.stored(name).ended_s != ended_s for name, ended_s in record.needs.items())

  @contextlib.contextmanager
  def choosing(self) -> Iterator[bool]:
    """Within this context no other launcher takes devices in this folder; False if one is doing so."""
    with (self.path / ".devices").open("a") as file:
      yield _lock(file, patience_s=_PATIENCE_S)

  def taken(self) -> dict[str, float]:
    """How much of each device of this machine the running jobs in this folder have, whoever started them."""
    shares = collections.defaultdict[str, float](float)
    for file in self.path.glob(f"*{_RECORD}"):
      name = file.name.removesuffix(_RECORD)
      record = self.stored(name)
      is_here = record.state == RUNNING and record.host == socket.gethostname()
      if is_here and _is_locked(self.path / f"{name}.log"):
        for device, share in record.devices.items():
          shares[device] += share
    return shares

  def set_aside(self, job: plan_lib.Job) -> None:
    """Renames what a job learned from what was made anew since, or by another config: it would go on from that.

    More steps do not make another config, nor does what else a run or a matrix continues with: `_GOES_ON`.

    Raises:
      BusyError: if another process is at work there.
    """
    path, record = pathlib.Path(self._folders[job.name]), self.stored(job.name)
    is_other = bool(record.job) and _learns_other(record.job, as_json(job))
    if not (job.has_own_folder and path.is_dir() and (is_other or self._is_stale(record))):
      return
    names = (path.with_name(f"{path.name}.{n}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    try:
      with lock_lib.alone(path):
        path.rename(aside)
    except ValueError as error:
      raise BusyError(f"job {job.name!r}: {error}") from None
    why = "the plan says otherwise now" if is_other else "what it needs was made anew"
    print(f"{job.name}: {why}; what it had learned is in {aside}", flush=True)

  def newest_network_ns(self, job: plan_lib.Job) -> int:
    """When a network was last written in the job's own folder; 0 if there is none, or the job has no such folder."""
    files = pathlib.Path(self._folders[job.name]).rglob("*.safetensors") if job.has_own_folder else ()
    learned = (file for file in files if file.parent.name != "best")  # A sweep writes `best` at every start.
    return max((file.stat().st_mtime_ns for file in learned), default=0)

  def write(self, job: plan_lib.Job, record: Record) -> None:
    run_directory.write_json(self._file(job.name), dataclasses.asdict(record))

  def _file(self, name: str) -> pathlib.Path:
    return self.path / f"{name}{_RECORD}"


def left(jobs: Sequence[plan_lib.Job], states: Mapping[str, str]) -> list[plan_lib.Job]:
  """Jobs that are neither done nor at work, by priority, each after those of them that it needs."""
  waiting = [job for job in jobs if states[job.name] not in (DONE, QUEUED, RUNNING)]
  ordered = list[plan_lib.Job]()
  while waiting:
    names = {job.name for job in waiting}
    ordered.append(next(job for job in waiting if not names & set(job.needs())))
    waiting.remove(ordered[-1])
  return ordered


def table(jobs: Sequence[plan_lib.Job], folder: Folder) -> str:
  """Every job with its state, its hours, and what it waits for or said last."""
  rows = [("job", "state", "hours", "expected", "")]
  records = folder.read()
  for job in jobs:
    record = records[job.name]
    waits = [name for name in job.needs() if records[name].state != DONE]
    has_log = record.state in (RUNNING, STOPPED, FAILED) or (record.state == LEFT and record.on_slurm)
    words = folder.last_line(job) if has_log else ""
    if record.on_slurm and record.state in (QUEUED, RUNNING):
      words = ": ".join(filter(None, (folder.queue[job.name].words(), words)))
    elif waits and record.state == LEFT:
      more = f" and {len(waits) - _MOST_WAITS} more" if len(waits) > _MOST_WAITS else ""
      words = f"waits for {', '.join(waits[:_MOST_WAITS])}{more}"
    rows.append((job.name, record.state, f"{record.hours:.2f}", f"{job.hours:g}", words))
  return "\n".join(text_table.lines(rows))


def _is_locked(file: pathlib.Path) -> bool:
  """Whether a job writes this log: it holds the lock while it has the file open, whoever started it."""
  with file.open("a") as log:
    return not _lock(log)


def _lock(log: TextIO, *, patience_s: float = 0.0) -> bool:
  """Locks a job's log until it is closed; False if it is taken. A process that only looks has it for an instant."""
  until_s = time.monotonic() + patience_s
  while True:
    with contextlib.suppress(BlockingIOError):
      fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    if time.monotonic() >= until_s:
      return False
    time.sleep(_PATIENCE_S / 20)


def as_json(job: plan_lib.Job) -> dict[str, Any]:
  """A job as read from a file: what decides whether it is the same job. Name, hours and devices do not."""
  words = {name: list(value) if isinstance(value, tuple) else value for name, value in job.flags.items()}
  fields = {name: str(value) for name, value in job.fields.items()}
  after = {"after": list(job.after)} if job.after else {}
  whole = {"binary": job.binary, "config": job.config, "fields": fields, "flags": words, **after}
  return records.as_read(whole)


def _learns_other(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
  """Whether a job, as files hold it, learns in its folder what it would not have learned when it last ran.

  A job continues with more steps, except in a matrix, whose cells are all of one length.
  """
  learned = []
  for job in (before, now):
    fields = {name: _parsed(text) for name, text in job["fields"].items() if not name.startswith(_GOES_ON)}
    learned.append((job["binary"], os.path.normpath(job["config"]), fields))
  then, steps = (_parsed(job["fields"].get("train.steps", "None")) for job in (before, now))
  has_other_steps = None not in (then, steps) and (steps != then if now["binary"] == "matrix" else steps < then)
  return learned[0] != learned[1] or has_other_steps


def _parsed(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
