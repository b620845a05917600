"""Runs a plan: many runs in order of priority, side by side; runs that need another's result come after it.

    python -m experiments.launch --plan=experiments/plans/laptop.py --workdir=runs/laptop --hours=2
    python -m experiments.launch --plan=experiments/plans/laptop.py --workdir=runs/laptop --status
    python -m experiments.launch --plan=experiments/plans/paper.py --workdir=runs/paper --on=slurm

The same command continues a plan that was stopped. A plan is a Python file (`running.plan`): PLAN, or PLAN:VARIANT.
"""

import importlib
import math
import os
import pathlib
import shlex
import sys
from collections.abc import Iterable

import jax
from absl import flags

from experiments import binary
from experiments.running import job_folder
from experiments.running import jobs as jobs_lib
from experiments.running import plan as plan_lib
from experiments.store import run_directory

READS = (binary.WORKDIR,)  # Flags that other modules define.
_IS_MATRIX = {"train": False, "matrix": True}  # What binaries learn by a config.

_PLAN = flags.DEFINE_string("plan", None, "Plan to run: FILE or FILE:VARIANT.")
_ON = flags.DEFINE_enum(
  "on",
  "local",
  ["local", "slurm", "node"],
  "Run here; or queue all on a SLURM cluster, which starts `node` for each job.",
)
_SBATCH = flags.DEFINE_multi_string("sbatch", [], "An option of sbatch, NAME=VALUE, for --on=slurm; may be repeated.")
_HOURS = flags.DEFINE_float("hours", None, "Hours after which all jobs are stopped; the same command continues.")
_JOBS = flags.DEFINE_integer("jobs", None, "Jobs to run at once; by default one per device or core.", lower_bound=1)
_SHARE = flags.DEFINE_integer(
  "share", 1, "Jobs that share an accelerator, each with its part of the memory.", lower_bound=1
)
_ONLY = flags.DEFINE_multi_string("only", [], "Only this job, and what it needs; may be repeated.")
_STATUS = flags.DEFINE_bool("status", False, "Show what is done, running, failed and left; run nothing.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands of what is left, in order; run nothing.")


def main() -> None:
  """Entry point."""
  if not _PLAN.value:
    raise ValueError("--plan is missing; give a file of experiments/plans/")
  jobs = chosen(load(_PLAN.value), _ONLY.value)
  folder = job_folder.Folder(pathlib.Path(binary.workdir()), jobs)
  check_flags()
  if _STATUS.value:
    print(job_folder.table(jobs, folder))
  elif _ON.value == "node":
    jobs_lib.run_on_node(next(job for job in jobs if job.name in _ONLY.value), folder)
  elif _ON.value == "slurm":
    check_commands(jobs, folder)
    jobs_lib.submit(jobs, folder, start=on_node, options=_SBATCH.value, is_dry=_DRY_RUN.value)
    if not _DRY_RUN.value:
      print(job_folder.table(jobs, folder))
  elif _DRY_RUN.value:
    check_commands(jobs, folder)
    for job in job_folder.left(jobs, folder.states()):
      print(shlex.join(["python", *folder.command(job)[1:]]))
  else:
    check_commands(jobs, folder)
    devices = jobs_lib.devices(_SHARE.value)
    if _JOBS.value is not None and _JOBS.value > len(devices):
      raise ValueError(f"--jobs={_JOBS.value}: there is room for {len(devices)} at once here; give no more")
    is_done = jobs_lib.run(
      jobs,
      folder,
      devices=devices,
      num_jobs=_JOBS.value,
      hours=float("inf") if _HOURS.value is None else _HOURS.value,
    )
    print(job_folder.table(jobs, folder))
    sys.exit(0 if is_done else 1)


def on_node(job: plan_lib.Job) -> list[str]:
  """The command for one job on the node that SLURM gives it: this one again."""
  words = [f"--plan={_PLAN.value}", f"--workdir={binary.workdir()}", f"--only={job.name}", "--on=node"]
  return [sys.executable, "-m", "experiments.launch", *words]


def check_flags() -> None:
  """Refuses flags that would change nothing, and --on=node outside of SLURM.

  Raises:
    ValueError: naming the flag.
  """
  if _HOURS.value is not None and not 0 < _HOURS.value < math.inf:
    raise ValueError(f"--hours={_HOURS.value:g}: give a number above 0, or leave it out")
  for flag, on in ((_HOURS, "local"), (_JOBS, "local"), (_SHARE, "local"), (_SBATCH, "slurm")):
    if flag.value != flag.default and _ON.value != on:
      raise ValueError(f"--{flag.name} is for --on={on}, not for --on={_ON.value}; leave it out")
  if _ON.value == "node" and (len(_ONLY.value) != 1 or "SLURM_JOB_ID" not in os.environ):
    raise ValueError("--on=node is what SLURM starts, for one --only=NAME; on this machine use --on=local")


def load(file: str) -> list[plan_lib.Job]:
  """The jobs of FILE or FILE:VARIANT.

  Raises:
    ValueError: if there is no such plan, or it cannot be run.
  """
  path, _, variant = file.partition(":")
  path = str(run_directory.present(path))
  if not pathlib.Path(path).is_file():
    raise ValueError(f"plan {path} does not exist; the project's own are in experiments/plans/")
  made = binary.call(path, "get_plan", variant)
  jobs = list(made) if isinstance(made, Iterable) else []
  if not jobs:
    raise ValueError(f"{path}: get_plan() returns no jobs, but {made!r}")
  for job in jobs:
    if not isinstance(job, plan_lib.Job):
      raise ValueError(f"{path}: get_plan() returns {type(job).__name__}, not running.plan.Job")
  plan_lib.check(jobs)
  return jobs


def chosen(jobs: list[plan_lib.Job], names: list[str]) -> list[plan_lib.Job]:
  """The named jobs and those that they need, in order; all jobs if none is named."""
  by_name = {job.name: job for job in jobs}
  wanted, left = set[str](), list(names)
  while left:
    name = left.pop()
    if name not in by_name:
      raise ValueError(f"no job is called {name!r}; the nearest is {binary.nearest(name, list(by_name))!r}")
    wanted.add(name)
    left += by_name[name].needs()
  return [job for job in jobs if job.name in wanted or not names]


def check_commands(jobs: list[plan_lib.Job], folder: job_folder.Folder) -> None:
  """Refuses jobs that would fail at once.

  Raises:
    ValueError: naming the job, and the binary, flag, config or field that does not exist or cannot have its value.
  """
  from experiments.setup import checks  # Here, since --status needs no worlds.

  modules = pathlib.Path(__file__).parent.glob("[!_]*.py")
  ours = sorted(path.stem for path in modules if path.stem not in ("binary", "launch"))
  for job in jobs:
    if job.binary not in ours:
      nearest = binary.nearest(job.binary, ours)
      raise ValueError(f"job {job.name!r}: no binary is called {job.binary!r}; nearest is {nearest}")
    try:
      module = importlib.import_module(f"experiments.{job.binary}")
      config = binary.check_command(module, folder.command(job)[2:], is_matrix=_IS_MATRIX.get(job.binary))
      if config is not None:
        checks.check(config)
    except ValueError as error:
      raise ValueError(f"job {job.name!r}: {error}") from error


if __name__ == "__main__":
  jax.config.update("jax_platforms", "cpu")  # Devices are the jobs', and a login node has none.
  binary.run(main, reads=READS)
