"""Runs the jobs of a plan on this machine, as many at once as it has devices, within a time limit; or through SLURM.

    WORKDIR/NAME/           what the job makes
    WORKDIR/NAME.log        what it prints
    WORKDIR/NAME.job.json   what was run and what came of it: `Record`

Jobs are processes, so one that fails does not harm the others. A job that has not ended when time is up is asked to
stop. It saves, and continues at the next start of the same plan. A job that the same command has done is not done
again, unless its folder is gone, or a job that it needs was done again or will be. What it had learned from the older
result is kept as WORKDIR/NAME.1, and so is what another config has learned. If only `train.steps` has grown, the job
continues (except in a matrix).

Several launchers may work on one folder. Each gives its jobs devices that no job of the folder has.

`submit` leaves order and time to SLURM, which starts `run_on_node` for each job. SLURM is asked what is queued or runs
there.
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
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TextIO

from experiments.report import text_table
from experiments.running import plan as plan_lib
from experiments.running import slurm, stop
from experiments.store import lock as lock_lib
from experiments.store import run_directory

_RECORD = ".job.json"
DONE, QUEUED, RUNNING, STOPPED, FAILED, LEFT = "done", "queued", "running", "stopped", "failed", "left"
_POLL_S = 0.2
_LOOK_S = 10.0  # How often a job that waits for devices looks whether other launchers' jobs have left some.
_MOST_WAITS = 3  # A table names at most so many.
# Fields that may change under a run or a matrix (`matrix.write_plan`), which refuse a change that they cannot take.
_GOES_ON = ("train.steps", "wandb", "matrix.")
_GRACE_S = 120.0  # For a job that was asked to stop: one update, and one save.


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
    is_another = dict(record.job) != _as_json(job)
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
      yield _lock(file, patience_s=_POLL_S)

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
    is_other = bool(record.job) and _learns_other(record.job, _as_json(job))
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


class Device(NamedTuple):
  """A device that a job has to itself or shares."""

  name: str  # A core's number; an NVIDIA card's name in CUDA_VISIBLE_DEVICES.
  is_core: bool
  share: float = 1.0  # Of a card.

  def __str__(self) -> str:
    return f"{'core' if self.is_core else 'card'} {self.name}"


def devices(num_sharing: int = 1) -> list[Device]:
  """This machine's devices: the cards that CUDA_VISIBLE_DEVICES leaves, or else the cores of its CPU.

  CUDA counts the cards of a container from 0, whatever numbers they have in /dev; the variable may name them in words.

  Args:
    num_sharing: jobs that share a card; the card is that many times in the list.

  Raises:
    ValueError: if cores were to be shared.
  """
  num_cards = len(list(pathlib.Path("/dev").glob("nvidia[0-9]*")))
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num_cards))))
  cards = [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")]
  if num_cards and cards and os.environ.get("JAX_PLATFORMS") != "cpu":
    return [Device(card, False, 1.0 / num_sharing) for card in cards] * num_sharing
  if num_sharing > 1:
    raise ValueError(f"--share={num_sharing}: there are cores here, and a core is one job's alone; leave it out")
  return [Device(str(number), True) for number in sorted(os.sched_getaffinity(0))]


def run(
  jobs: Sequence[plan_lib.Job],
  folder: Folder,
  *,
  devices: Sequence[Device],
  num_jobs: int | None = None,
  hours: float = float("inf"),
) -> bool:
  """Runs what is not done on this machine, by priority; True if all is done at the end.

  Args:
    devices: those of this machine, or some of them.
    num_jobs: the most jobs to run at once; None: as many as find a device.
    hours: after which running jobs are stopped, so that they can continue later.

  Raises:
    ValueError: if a job asks for more devices than there are.
  """
  for job in jobs:
    if job.devices > len(devices):
      raise ValueError(f"job {job.name!r} asks for devices={job.devices}, but there are {len(devices)} here")
    if job.devices > 1 and devices[0].share < 1.0:
      raise ValueError(f"job {job.name!r} asks for devices={job.devices}, and those are not shared; leave out --share")
  folder.path.mkdir(parents=True, exist_ok=True)
  until_s = time.monotonic() + 3600.0 * hours
  under_way, has_said = dict[str, _Process](), False
  tried = set[str]()  # Jobs that were started from here.
  with stop.deferred(), _all_stopped(under_way):
    while not stop.asked() and time.monotonic() < until_s:
      is_short = False
      for job in _ready(jobs, folder):
        if job.name in tried or len(under_way) == num_jobs:
          continue
        with folder.choosing() as may_choose:
          free = _free(devices, folder) if may_choose else []
          is_short = job.devices > len(free)
          if is_short:  # Jobs of lower priority wait too, or this one would not find enough.
            break
          try:
            under_way[job.name] = _Process(job, folder, free[: job.devices])
          except BusyError as error:
            print(error, flush=True)
            continue
        tried.add(job.name)
      if not (under_way or is_short):
        break
      if not (under_way or has_said):
        print(f"waiting: jobs that another launcher started in {folder.path} have the devices", flush=True)
        has_said = True
      _wait_for_one(under_way, min(until_s, time.monotonic() + _LOOK_S) if is_short else until_s)
  return all(state == DONE for state in folder.states().values())


def _free(devices: Sequence[Device], folder: Folder) -> list[Device]:
  """The devices that no job in the folder has; of shared cards, those with the most left come first."""
  left = collections.defaultdict[str, float](float)
  for device in devices:
    left[str(device)] += device.share
  for name, share in folder.taken().items():
    left[name] -= share
  free = list[Device]()
  for device in devices:
    if left[str(device)] > device.share - 1e-6:
      left[str(device)] -= device.share
      free.append(device)
  return sorted(free, key=free.count, reverse=True)


def _ready(jobs: Sequence[plan_lib.Job], folder: Folder) -> list[plan_lib.Job]:
  """Jobs that are neither done nor under way, and have all that they need."""
  states = folder.states()
  return [
    job
    for job in jobs
    if states[job.name] not in (DONE, QUEUED, RUNNING) and all(states[name] == DONE for name in job.needs())
  ]


def _wait_for_one(under_way: dict[str, "_Process"], until_s: float) -> None:
  """Waits until jobs end, and removes these; none if time is up or this process is asked to stop."""
  while not (ended := [name for name, process in under_way.items() if process.end()]):
    if stop.asked() or time.monotonic() >= until_s:
      break
    time.sleep(_POLL_S)
  for name in ended:
    del under_way[name]


def left(jobs: Sequence[plan_lib.Job], states: Mapping[str, str]) -> list[plan_lib.Job]:
  """Jobs that are neither done nor at work, by priority, each after those of them that it needs."""
  waiting = [job for job in jobs if states[job.name] not in (DONE, QUEUED, RUNNING)]
  ordered = list[plan_lib.Job]()
  while waiting:
    names = {job.name for job in waiting}
    ordered.append(next(job for job in waiting if not names & set(job.needs())))
    waiting.remove(ordered[-1])
  return ordered


def submit(
  jobs: Sequence[plan_lib.Job],
  folder: Folder,
  *,
  start: Callable[[plan_lib.Job], Sequence[str]],
  options: Sequence[str] = (),
  is_dry: bool = False,
) -> None:
  """Hands the jobs that are neither done nor at work to SLURM, by priority, each after those that it needs.

  Args:
    start: the command that a node runs for a job: `run_on_node`.
    options: sbatch options for all jobs.
    is_dry: print the commands, hand over nothing.

  Raises:
    ValueError: if SLURM refuses a job, with its words (the jobs before it are queued); or if another process hands
      over.
  """
  with contextlib.nullcontext() if is_dry else lock_lib.alone(folder.path):  # Two would both find a job left.
    states = folder.states()
    for job in left(jobs, states):
      waits = [name for name in job.needs() if states[name] != DONE]
      if not all(name in folder.queue for name in waits):
        continue  # It needs a job that runs outside of SLURM.
      after = [folder.queue[name].number for name in waits]
      command = slurm.command(job, folder.path, start=start(job), after=after, options=options, grace_s=_GRACE_S)
      if is_dry:
        print(shlex.join(command))
        number = f"{{{job.name}}}"
      else:
        folder.write(job, dataclasses.replace(folder.stored(job.name), on_slurm=True))
        number = slurm.submit(job.name, command)
      folder.queue[job.name] = slurm.Queued(number, "PENDING", "")


def run_on_node(job: plan_lib.Job, folder: Folder) -> NoReturn:
  """Runs a job with all that SLURM gave this process, and exits: with 0 if the job is done, for which others wait.

  A job that was stopped by its time limit or by a signal goes back into the queue, if it can continue.
  """
  with stop.deferred():
    try:
      process = _Process(job, folder, (), on_slurm=True)
    except BusyError:
      if folder.read()[job.name].state == DONE:  # It was queued twice.
        sys.exit(0)
      raise
    under_way = {job.name: process}
    with _all_stopped(under_way):
      _wait_for_one(under_way, float("inf"))
    if process.state == STOPPED and job.goes_on:
      slurm.requeue()
    elif process.state == STOPPED:
      print(f"{job.name} keeps nothing of what it has begun, and would end so again: give it more hours in the plan")
    sys.exit(0 if process.state == DONE else 1)  # Whatever signal came, what is done is done.


def table(jobs: Sequence[plan_lib.Job], folder: Folder) -> str:
  """Every job with its state, its hours, and what it waits for or said last."""
  rows = [("job", "state", "hours", "expected", "")]
  records = folder.read()
  for job in jobs:
    record = records[job.name]
    waits = [name for name in job.needs() if records[name].state != DONE]
    has_log = record.state in (RUNNING, STOPPED, FAILED) or (record.state == LEFT and record.on_slurm)
    words = _last_line(folder.log(job)) if has_log else ""
    if record.on_slurm and record.state in (QUEUED, RUNNING):
      words = ": ".join(filter(None, (folder.queue[job.name].words(), words)))
    elif waits and record.state == LEFT:
      more = f" and {len(waits) - _MOST_WAITS} more" if len(waits) > _MOST_WAITS else ""
      words = f"waits for {', '.join(waits[:_MOST_WAITS])}{more}"
    rows.append((job.name, record.state, f"{record.hours:.2f}", f"{job.hours:g}", words))
  return "\n".join(text_table.lines(rows))


class _Process:
  """A job that runs.

  Raises:
    BusyError: if another launcher runs it, or has done it meanwhile.
  """

  def __init__(self, job: plan_lib.Job, folder: Folder, devices: Sequence[Device], *, on_slurm: bool = False):
    self.job, self._folder, self._on_slurm = job, folder, on_slurm
    self._devices = dict[str, float]()
    for device in devices:
      self._devices[str(device)] = self._devices.get(str(device), 0.0) + device.share
    command, self._started_s = folder.command(job), time.monotonic()
    cores = {int(device.name) for device in devices if device.is_core}
    with contextlib.ExitStack() as on_error:
      # Open until what came of the job is saved: who sees the log unlocked takes the job for one that was killed.
      self._log = log = on_error.enter_context(folder.log(job).open("a"))
      if not _lock(log, patience_s=_POLL_S):
        raise BusyError(f"job {job.name!r} runs already, by another launcher here")
      if folder.read()[job.name].state == DONE:  # It was not done when it was chosen.
        raise BusyError(f"job {job.name!r} was done meanwhile, by another launcher")
      before = folder.stored(job.name)
      self._hours = before.hours
      self._ended_s = before.ended_s if before.state == DONE else 0.0  # It may have learned since, and failed then.
      self._needs = {name: folder.stored(name).ended_s for name in job.needs()}
      folder.set_aside(job)
      self._newest_ns = folder.newest_network_ns(job)
      print(f"$ {shlex.join(command)}", file=log, flush=True)
      self._save(RUNNING, None)
      self._process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | _on_cards(devices),
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        start_new_session=True,  # Ctrl-C is for the launcher, which asks its jobs to stop.
      )
      on_error.pop_all()
    self._is_killed = False
    print(f"{job.name}: started, log {folder.log(job)}", flush=True)

  def end(self) -> bool:
    """Whether the job has ended; if so, what came of it is saved."""
    code = self._process.poll()
    if code is None:
      return False
    stopped = [128 + kind for kind in stop.SIGNALS] + [-kind for kind in stop.SIGNALS]
    stopped += [-signal.SIGKILL] if self._is_killed else []  # Otherwise the system killed it, out of memory.
    state = DONE if code == 0 else STOPPED if code in stopped else FAILED
    self._save(state, code)
    self._log.close()
    why = f": {_last_line(self._folder.log(self.job))}" if state == FAILED else ""
    print(f"{self.job.name}: {state} after {self._spent():.2f} h{why}", flush=True)
    return True

  def ask_to_stop(self) -> None:
    with contextlib.suppress(ProcessLookupError):
      self._process.send_signal(signal.SIGTERM)

  def kill(self) -> None:
    self._is_killed = True
    self._process.kill()
    self._process.wait()

  def _spent(self) -> float:
    return self._hours + (time.monotonic() - self._started_s) / 3600.0

  def _found_itself_finished(self) -> bool:
    """Whether what it had made before is what there is now."""
    return self._ended_s > 0 and 0 < self._newest_ns == self._folder.newest_network_ns(self.job)

  def _save(self, state: str, code: int | None) -> None:
    self.state = state
    if state == DONE and not self._found_itself_finished():
      self._ended_s = time.time()
    self._folder.write(
      self.job,
      Record(
        state=state,
        job=_as_json(self.job),
        hours=self._spent(),
        code=code,
        on_slurm=self._on_slurm,
        ended_s=self._ended_s,
        needs=self._needs,
        host=socket.gethostname(),
        devices=self._devices,
      ),
    )


def _on_cards(devices: Sequence[Device]) -> dict[str, str]:
  """The environment of a job on these devices; on a shared card JAX may take 0.9 of the job's share of the memory."""
  cards = [device for device in devices if not device.is_core]
  if not cards:
    return {}
  visible = {"CUDA_VISIBLE_DEVICES": ",".join(card.name for card in cards)}
  share = cards[0].share
  return visible if share == 1.0 else visible | {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * share:.3f}"}


@contextlib.contextmanager
def _all_stopped(under_way: Mapping[str, _Process]) -> Iterator[None]:
  """At the end asks all running jobs to stop, waits, kills those that do not, and raises the first error on the way."""
  errors = list[OSError]()

  def has_ended(process: _Process) -> bool:
    try:
      return process.end()
    except OSError as error:
      errors.append(error)
      return True

  try:
    yield
  finally:
    left = list(under_way.values())
    for process in left:
      process.ask_to_stop()
    until_s = time.monotonic() + _GRACE_S
    while left and time.monotonic() < until_s:
      left = [process for process in left if not has_ended(process)]
      time.sleep(_POLL_S)
    for process in left:
      process.kill()
      has_ended(process)
    if errors:
      raise errors[0]


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
    time.sleep(_POLL_S / 20)


def _as_json(job: plan_lib.Job) -> dict[str, Any]:
  """A job as read from a file: what decides whether it is the same job. Name, hours and devices do not."""
  words = {name: list(value) if isinstance(value, tuple) else value for name, value in job.flags.items()}
  fields = {name: str(value) for name, value in job.fields.items()}
  after = {"after": list(job.after)} if job.after else {}
  whole = {"binary": job.binary, "config": job.config, "fields": fields, "flags": words, **after}
  return run_directory.as_read(whole)


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


def _last_line(log: pathlib.Path) -> str:
  lines = log.read_text(errors="replace").splitlines() if log.exists() else []
  return next((line.strip() for line in reversed(lines) if line.strip()), "")
