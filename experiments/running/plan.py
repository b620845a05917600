"""A plan: jobs in order of priority, each one command of ours, and which of them needs what another leaves.

    def get_plan(variant: str = "") -> list[plan.Job]:
      config = "experiments/configs/jaco_corl2017.py"
      return [
        plan.Job("column", config=config, hours=2.0),
        plan.Job("arm", config=f"{config}:progressive", fields={"source": "{column}"}, hours=0.2),
        plan.Job("figure", "figures", flags={"figure": "corl2017_fig5", "runs": "{arm}", "out": "{figure}"}),
      ]

`{NAME}` is the folder of the job of that name, and that job is done first. The folder is the `--workdir` of `train` and
`matrix`, which may be another job's if it is given among the flags. If a job reads what a second job writes into the
folder of a third, its `after` must name the second.
"""

import dataclasses
import difflib
import graphlib
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WITH_WORKDIR = ("train", "matrix")  # Binaries that make a folder of their own.
_KEEPING = (*_WITH_WORKDIR, "analyse")  # Binaries that keep what they have done when they are stopped.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # No dot: NAME.log and NAME.1 are what a job called NAME leaves.
_FOLDER = re.compile(rf"\{{({_NAME.pattern})\}}")


@dataclasses.dataclass(frozen=True)
class Job:
  """One command of ours.

  Attributes:
    name: of the job and of its folder.
    binary: a module of `experiments` that is run.
    config: its `--config`, with or without a variant; '' for none.
    fields: of the config -> value.
    flags: other flags of the binary -> value; a sequence repeats the flag.
    hours: about how long it takes.
    devices: how many accelerators, or cores of a CPU, it has to itself.
    after: names of jobs that must be done first too, although no word of the command names their folders.
  """

  name: str
  binary: str = "train"
  config: str = ""
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  hours: float = 1.0
  devices: int = 1
  after: Sequence[str] = ()

  @property
  def has_own_folder(self) -> bool:
    """Whether it learns in a folder of its name, and continues what it finds there."""
    return self.binary in _WITH_WORKDIR and "workdir" not in self.flags

  @property
  def leaves_own_folder(self) -> bool:
    """Whether its results are in a folder of its name: where it learns, or where one of its flags (`--out`) points."""
    return self.has_own_folder or f"{{{self.name}}}" in self.flags.values()

  @property
  def goes_on(self) -> bool:
    """Whether it keeps what it has done when it is stopped."""
    return self.binary in _KEEPING

  def needs(self) -> tuple[str, ...]:
    """Names of the jobs that this one waits for."""
    named = [name for word in self._words() for name in _FOLDER.findall(word)]
    return tuple(dict.fromkeys(name for name in (*named, *self.after) if name != self.name))

  def command(self, folders: Mapping[str, str]) -> list[str]:
    """The command, run by this process's Python; `folders`: name of every job -> its folder."""
    words = [_filled(word, folders) for word in self._words()]
    return [sys.executable, "-m", f"experiments.{self.binary}", *words]

  def _words(self) -> Iterator[str]:
    if self.config:
      yield f"--config={self.config}"
    if self.has_own_folder:
      yield f"--workdir={{{self.name}}}"
    for name, value in self.fields.items():
      yield f"--config.{name}={value}"
    for name, value in self.flags.items():
      for one in _each(value):
        yield f"--{name}={one}"


def folders(jobs: Sequence[Job], path: pathlib.Path) -> dict[str, str]:
  """Name of every job of a plan in the folder `path` -> where it writes: a folder of its name, or its `workdir`."""
  own = {job.name: str(path / job.name) for job in jobs}
  return own | {job.name: _filled(str(job.flags["workdir"]), own) for job in jobs if "workdir" in job.flags}


def _each(value: Any) -> Sequence[Any]:
  """The values with which a flag is repeated."""
  return value if isinstance(value, list | tuple) else (value,)


def _filled(word: str, folders: Mapping[str, str]) -> str:
  return _FOLDER.sub(lambda match: folders[match[1]], word)


def figures(name: str, figure: str, of: Sequence[Job], *, after: Sequence[Job] = ()) -> Job:
  """A job that draws `figure`, or all whose names begin so, from these jobs' results, into a folder of its own.

  Args:
    name, figure: of the job, and the value of `--figure`.
    of: jobs whose folders are read.
    after: jobs that measure there what is drawn: `analyse`, `navigate`.
  """
  flags = {"figure": figure, "runs": [f"{{{job.name}}}" for job in of], "out": f"{{{name}}}"}
  return Job(name, "figures", flags=flags, hours=0.1, after=tuple(job.name for job in after))


def of_parts(file: str, variant: str, parts: Mapping[str, Sequence[Job]]) -> list[Job]:
  """The jobs of the part that `variant` names, or of all parts if it is ''; `file` is the plan's own path.

  Raises:
    ValueError: if no part has that name.
  """
  if variant and variant not in parts:
    nearest = difflib.get_close_matches(variant, parts, n=1, cutoff=0.0)[0]
    raise ValueError(f"{pathlib.Path(file).name}:{variant} is not one of {', '.join(parts)}; nearest is {nearest}")
  return [job for name, part in parts.items() if variant in ("", name) for job in part]


def check(jobs: Sequence[Job]) -> None:
  """Refuses a plan that cannot be run.

  Raises:
    ValueError: for a name that cannot be a folder's or is used twice, for a needed job that does not exist, for a
      cycle, for a flag that a record cannot hold.
  """
  names = [job.name for job in jobs]
  for job in jobs:
    if not _NAME.fullmatch(job.name):
      raise ValueError(f"job {job.name!r}: a name is a folder's, of letters, digits, _ and -")
    if names.count(job.name) > 1:
      raise ValueError(f"two jobs are called {job.name!r}; give one another name")
    for field, kind in (("config", str), ("fields", Mapping), ("flags", Mapping), ("hours", float), ("devices", int)):
      value = getattr(job, field)
      if not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"job {job.name!r}: {field}={value!r} is no {kind.__name__.lower()}")
    if job.devices < 1 or not 0 < job.hours < float("inf"):
      raise ValueError(f"job {job.name!r}: devices={job.devices} and hours={job.hours} must be above 0, and finite")
    for name, value in job.flags.items():
      if not all(isinstance(one, str | int | float) for one in _each(value)):
        raise ValueError(f"job {job.name!r}: flag {name}={value!r} is no word and no number; write it as one")
    for name in job.needs():
      if name not in names:
        raise ValueError(f"job {job.name!r} needs {{{name}}}, but no job is called that; all are {', '.join(names)}")
  try:
    graphlib.TopologicalSorter({job.name: job.needs() for job in jobs}).prepare()
  except graphlib.CycleError as error:
    raise ValueError(f"jobs wait for each other in a circle: {' -> '.join(error.args[1])}") from None
