"""What a plan needs of SLURM: one `sbatch` for each job, what `squeue` says of them, and the way back into the queue.

    sbatch --gpus=1 --time=135 --signal=B:USR1@180 --requeue --dependency=afterok:12 ... --wrap="exec python ..."

A job's name in SLURM is its name in the plan and the plan's folder, so SLURM alone knows what is queued. SIGUSR1 tells
a job that its time is nearly up; the job saves and goes back into the queue. This is not `submitit`, which pickles
functions and requeues them a few times. Our jobs are commands that save and continue by themselves, and `sbatch` is all
they need.
"""

import math
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from experiments.running import plan as plan_lib

_START_MIN = 15  # On top of a job's hours: importing, compiling, saving.
_REQUEUE_S = 60.0  # After the grace: for killing what did not save, and telling SLURM.
_CARDS = {"gpus", "gpus-per-node", "gres"}  # Each asks for cards; SLURM refuses two that differ.
# What the launcher sets or relies on: that the signal comes, that sbatch prints a number, where the job starts.
_OURS = frozenset(
  "array chdir dependency job-name kill-on-invalid-dep no-requeue nodes open-mode output parsable requeue signal "
  "test-only wait wrap".split()
)


class Queued(NamedTuple):
  """A job that SLURM has."""

  number: str  # SLURM's own.
  state: str  # PENDING, RUNNING, COMPLETING and so on.
  reason: str  # Why it waits.

  def words(self) -> str:
    return f"SLURM job {self.number}, {self.state}" + (f" ({self.reason})" if self.reason not in ("", "None") else "")


def queue(folder: pathlib.Path) -> dict[str, Queued]:
  """The jobs of a folder that SLURM has, by name; none, with a warning, if there is no SLURM.

  Raises:
    ValueError: with SLURM's words, if it does not answer.
  """
  if shutil.which("squeue") is None:
    print(f"warning: no squeue here to ask what SLURM has of {folder}; taken as nothing", file=sys.stderr)
    return {}
  found = {}
  for line in _call("squeue", "--me", "--noheader", "--format=%i|%T|%r|%j").splitlines():
    number, state, reason, title = line.split("|", 3)
    name, _, where = title.partition("@")
    if where == str(folder.resolve()):
      found[name] = Queued(number, state, reason)
  return found


def command(
  job: plan_lib.Job,
  folder: pathlib.Path,
  *,
  start: Sequence[str],
  after: Sequence[str],
  options: Sequence[str],
  grace_s: float,
) -> list[str]:
  """The `sbatch` command that queues a job.

  Args:
    start: the command that runs on the node.
    after: SLURM's numbers of the jobs that it needs.
    options: sbatch options, NAME or NAME=VALUE; they take precedence over the job's own time and devices.
    grace_s: how long saving may take before the time limit.

  Raises:
    ValueError: for a word that is not an option, or for an option that is ours.
  """
  given = {option.partition("=")[0]: option for option in options}
  for name, option in given.items():
    if not re.fullmatch(r"[a-z][a-z0-9-]+(=.+)?", option):
      raise ValueError(f"--sbatch={option} is not NAME=VALUE of one of sbatch's options, such as partition=gpu")
    if name in _OURS:
      raise ValueError(f"--sbatch={option}: {name} is set by the launcher; leave it out")
  device = "cpus-per-task" if os.environ.get("JAX_PLATFORMS") == "cpu" else "gpus"
  devices = [] if device == "gpus" and given.keys() & _CARDS else [f"--{device}={job.devices}"]
  path = str(folder.resolve())
  return [
    *("sbatch", "--nodes=1", *devices, f"--time={math.ceil(60 * job.hours) + _START_MIN}"),
    f"--signal=B:USR1@{int(grace_s + _REQUEUE_S)}",
    *(f"--{option}" for option in options),
    *("--parsable", "--requeue", f"--job-name={job.name}@{path}"),
    *("--open-mode=append", f"--output={path.replace('%', '%%')}/{job.name}.log"),
    *((f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes") if after else ()),
    f"--wrap=exec {shlex.join(start)}",
  ]


def submit(name: str, command: Sequence[str]) -> str:
  """Runs a job's `sbatch`, and returns SLURM's number of the job.

  Raises:
    ValueError: with the job's name and SLURM's words, if it refuses the job or is not here.
  """
  try:
    return _call(*command).partition(";")[0]  # A cluster's name may follow.
  except ValueError as error:
    raise ValueError(f"job {name!r}: {error}") from error


def requeue() -> None:
  """Puts this process's job back into the queue, and ends it, unless SLURM is ending it already.

  Thus a job continues if its time limit or somebody's signal stopped it. A cancelled job does not, and a preempted one
  queues by itself: both are in another state by then.
  """
  number = os.environ["SLURM_JOB_ID"]
  if _call("squeue", "--noheader", f"--jobs={number}", "--format=%T") == "RUNNING":
    _call("scontrol", "requeue", number)


def _call(*command: str) -> str:
  """What one of SLURM's commands prints, run without the variables that change what squeue prints."""
  env = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
  try:
    done = subprocess.run(command, capture_output=True, text=True, env=env)
  except FileNotFoundError:
    raise ValueError(f"{command[0]} is not on this machine; start this on a login node of the cluster") from None
  if done.returncode:
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    raise ValueError("; ".join(said) or f"{command[0]} ended with {done.returncode} and without a word")
  return done.stdout.strip()
