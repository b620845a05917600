"""Runs the jobs of a plan on this machine, as many at once as it has devices, within a time limit; or through SLURM.

Jobs are processes, so one that fails does not harm the others. A job that has not ended when time is up is asked to
stop. It saves, and continues at the next start of the same plan. Several launchers may work on one folder
(`job_folder`). Each gives its jobs devices that no job of the folder has.

`submit` leaves order and time to SLURM, which starts `run_on_node` for each job. SLURM is asked what is queued or runs
there.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from experiments.running import job_folder, slurm, stop
from experiments.running import plan as plan_lib
from experiments.store import lock as lock_lib

_POLL_S = 0.2
_LOOK_S = 10.0  # How often a job that waits for devices looks whether other launchers' jobs have left some.
_GRACE_S = 120.0  # For a job that was asked to stop: one update, and one save.


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
  folder: job_folder.Folder,
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
          except job_folder.BusyError as error:
            print(error, flush=True)
            continue
        tried.add(job.name)
      if not (under_way or is_short):
        break
      if not (under_way or has_said):
        print(f"waiting: jobs that another launcher started in {folder.path} have the devices", flush=True)
        has_said = True
      _wait_for_one(under_way, min(until_s, time.monotonic() + _LOOK_S) if is_short else until_s)
  return all(state == job_folder.DONE for state in folder.states().values())


def _free(devices: Sequence[Device], folder: job_folder.Folder) -> list[Device]:
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


def _ready(jobs: Sequence[plan_lib.Job], folder: job_folder.Folder) -> list[plan_lib.Job]:
  """Jobs that are neither done nor under way, and have all that they need."""
  states = folder.states()
  return [
    job
    for job in jobs
    if states[job.name] not in (job_folder.DONE, job_folder.QUEUED, job_folder.RUNNING)
    and all(states[name] == job_folder.DONE for name in job.needs())
  ]


def _wait_for_one(under_way: dict[str, "_Process"], until_s: float) -> None:
  """Waits until jobs end, and removes these; none if time is up or this process is asked to stop."""
  while not (ended := [name for name, process in under_way.items() if process.end()]):
    if stop.asked() or time.monotonic() >= until_s:
      break
    time.sleep(_POLL_S)
  for name in ended:
    del under_way[name]


def submit(
  jobs: Sequence[plan_lib.Job],
  folder: job_folder.Folder,
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
    for job in job_folder.left(jobs, states):
      waits = [name for name in job.needs() if states[name] != job_folder.DONE]
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


def run_on_node(job: plan_lib.Job, folder: job_folder.Folder) -> NoReturn:
  """Runs a job with all that SLURM gave this process, and exits: with 0 if the job is done, for which others wait.

  A job that was stopped by its time limit or by a signal goes back into the queue, if it can continue.
  """
  with stop.deferred():
    try:
      process = _Process(job, folder, (), on_slurm=True)
    except job_folder.BusyError:
      if folder.read()[job.name].state == job_folder.DONE:  # It was queued twice.
        sys.exit(0)
      raise
    under_way = {job.name: process}
    with _all_stopped(under_way):
      _wait_for_one(under_way, float("inf"))
    if process.state == job_folder.STOPPED and job.goes_on:
      slurm.requeue()
    elif process.state == job_folder.STOPPED:
      print(f"{job.name} keeps nothing of what it has begun, and would end so again: give it more hours in the plan")
    sys.exit(0 if process.state == job_folder.DONE else 1)  # Whatever signal came, what is done is done.


class _Process:
  """A job that runs.

  Raises:
    BusyError: if another launcher runs it, or has done it meanwhile.
  """

  def __init__(
    self, job: plan_lib.Job, folder: job_folder.Folder, devices: Sequence[Device], *, on_slurm: bool = False
  ):
    self.job, self._folder, self._on_slurm = job, folder, on_slurm
    self._devices = dict[str, float]()
    for device in devices:
      self._devices[str(device)] = self._devices.get(str(device), 0.0) + device.share
    command, self._started_s = folder.command(job), time.monotonic()
    cores = {int(device.name) for device in devices if device.is_core}
    with contextlib.ExitStack() as on_error:
      # Open until what came of the job is saved: who sees the log unlocked takes the job for one that was killed.
      self._log = on_error.enter_context(folder.lock_log(job))
      if folder.read()[job.name].state == job_folder.DONE:  # It was not done when it was chosen.
        raise job_folder.BusyError(f"job {job.name!r} was done meanwhile, by another launcher")
      before = folder.stored(job.name)
      self._hours = before.hours
      # It may have learned since, and failed then.
      self._ended_s = before.ended_s if before.state == job_folder.DONE else 0.0
      self._needs = {name: folder.stored(name).ended_s for name in job.needs()}
      folder.set_aside(job)
      self._newest_ns = folder.newest_network_ns(job)
      print(f"$ {shlex.join(command)}", file=self._log, flush=True)
      self._save(job_folder.RUNNING, None)
      self._process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=self._log,
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
    state = job_folder.DONE if code == 0 else job_folder.STOPPED if code in stopped else job_folder.FAILED
    self._save(state, code)
    self._log.close()
    why = f": {self._folder.last_line(self.job)}" if state == job_folder.FAILED else ""
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
    if state == job_folder.DONE and not self._found_itself_finished():
      self._ended_s = time.time()
    self._folder.write(
      self.job,
      job_folder.Record(
        state=state,
        job=job_folder.as_json(self.job),
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
