"""The runs of the demo: a column learned in simulation goes to a twin arm behind a bridge, and learns by each method.

Every method has the same number of steps and the same teacher: the column itself, which sees what the simulation would
show (`setup.teacher`). Afterwards each network plays in simulation again, to see what is left of what was learned
there. In a progressive network the first column must be bit-identical to the original, and it plays. The original
column is also evaluated on the arm, in `<workdir>/unchanged`: learning has to beat its score.

Every part is an ordinary run of the project's binaries in a folder of its own. So a second call continues what was
stopped and repeats nothing that is done.
"""

import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

from analysis import records
from experiments.store import arrays_file, checkpoint, released, run_directory
from progressive import partition

METHODS = ("progressive", "finetune", "scratch")
UNCHANGED, IN_SIMULATION = "unchanged", "in_simulation"
_MORE_IN_SIMULATION = 5  # Times the episodes on the arm: in simulation they cost nothing.
_NUM_AT_ONCE = 2  # Each has a learner and a twin: two such pairs keep two cores busy.
_children: set[subprocess.Popen] = set()  # Those that run now.
_CONFIG = "experiments/configs/jaco_corl2017.py"


def run(workdir: pathlib.Path, *, task: str, source: str, steps: int, episodes: int) -> None:
  """Evaluates the column at `source` on a twin that plays `task`, and learns there by each of `METHODS`.

  Raises:
    ValueError: if a part does not finish, or an existing part is of another column or task.
  """
  check_parts(workdir, source=source, task=task)
  with futures.ThreadPoolExecutor(_NUM_AT_ONCE) as pool:
    path = workdir / UNCHANGED
    common: dict[str, Any] = {"source": source, "episodes": episodes}
    started = [pool.submit(evaluate, path, world=f"twin/{task}", video=path / "videos" / "evaluation.mp4", **common)]
    started += [pool.submit(transfer, workdir, method, task=task, steps=steps, **common) for method in METHODS]
    try:
      for one in started:
        one.result()
    except (KeyboardInterrupt, SystemExit):  # The signal may have come only to this process.
      pool.shutdown(wait=False, cancel_futures=True)
      _stop(started)
      raise


def check_parts(workdir: pathlib.Path, *, source: str, task: str) -> None:
  """Refuses a `workdir` with a part of another column than `source`, or of another task, as parts are not done again.

  A run names the network from which it learned; the unchanged column is compared bit by bit.
  """
  here, world, others = run_directory.present(source).resolve(), f"twin/{task}", list[str]()
  for path in (workdir / method for method in METHODS):
    config = run_directory.read_config(path) if _has_learned(path, 1) else {}
    teacher = config.get("train", {}).get("teacher")
    if teacher and run_directory.present(teacher).resolve() != here:
      others.append(f"{path.name} is of {teacher}")
    if config and config["world"] != world:
      others.append(f"{path.name} is in {config['world']}")
  played = run_directory.read_provenance(workdir / UNCHANGED).get(arrays_file.HASH)
  if played and played != partition.content_hash(released.load_source(source).params):
    others.append(f"{UNCHANGED} has other parameters")
  if _is_played(workdir / UNCHANGED) and (played_in := released.read_evaluation(workdir / UNCHANGED).world) != world:
    others.append(f"{UNCHANGED} is in {played_in}")
  if others:
    parts = " ".join(str(workdir / name) for name in (UNCHANGED, *METHODS, IN_SIMULATION) if (workdir / name).exists())
    raise ValueError(
      f"{workdir} is not of {source} in {world} ({', '.join(others)}); remove {parts}, or give another --workdir"
    )


def evaluate(path: pathlib.Path, *, source: str, world: str, episodes: int, video: pathlib.Path | None = None) -> None:
  """Plays the network at `source`, unchanged, in a world, with results in `path`; not again if done."""
  if _is_played(path) and released.read_evaluation(path).episodes == episodes:
    print(f"{path} is finished")
    return
  flags = {"source": source, "target": world, "episodes": episodes, "release": path}
  _run("experiments.evaluate", path, flags | ({"video": video} if video else {}))


def transfer(workdir: pathlib.Path, method: str, *, task: str, source: str, steps: int, episodes: int) -> None:
  """Learns `task` on a twin of its own by `method`, in `workdir`/`method`, and plays the result in simulation again.

  What is done already is not done again.
  """
  path, back = workdir / method, workdir / IN_SIMULATION / method
  if is_finished(path, steps):
    played = int(records.last(records.read(path), kind="eval")["episodes"])
    if played != episodes:
      raise ValueError(
        f"{path} was evaluated in {played} episodes, not {episodes}: give --evaluation_episodes={played}, or remove "
        f"{path}, which learns again"
      )
    print(f"{path} is finished")
  else:
    fields = {"world": f"twin/{task}", "train.steps": steps, "train.evaluation_episodes": episodes}
    fields |= {"train.teacher": source} | ({} if method == "scratch" else {"source": source})
    (back / "evaluation.json").unlink(missing_ok=True)  # From the network before.
    _learn(f":{method}_taught", path, fields)
  after = str(path)
  if method == "progressive":
    check_kept(path, source)
    after = source
  evaluate(back, source=after, world=f"jaco/{task}", episodes=_MORE_IN_SIMULATION * episodes)


def check_kept(path: pathlib.Path, source: str) -> None:
  """Refuses a progressive network at `path` whose older columns are not bit-identical to those of `source`."""
  before = released.load_source(source)
  after = released.load_source(path).first(len(before.spec.columns))
  if partition.content_hash(after.params) != partition.content_hash(before.params):
    raise ValueError(f"{path}: the columns of {source} are not what they were; remove {path}, and learn again")


def train(workdir: pathlib.Path, *, task: str, steps: int) -> pathlib.Path:
  """Trains a column on `task` in simulation, in `workdir`/column."""
  path = workdir / "column"
  if not is_finished(path, steps):
    _learn("", path, {"world": f"jaco/{task}", "train.steps": steps})
  return path


def is_finished(path: pathlib.Path, steps: int) -> bool:
  """Whether the run at `path` has its last checkpoint, and was evaluated after it."""
  return _has_learned(path, steps) and run_directory.is_evaluated(path, steps)


def _is_played(path: pathlib.Path) -> bool:
  return (path / "evaluation.json").exists()


def _has_learned(path: pathlib.Path, steps: int) -> bool:
  return any(step >= steps for step in checkpoint.steps(path / "checkpoints"))


def _learn(variant: str, path: pathlib.Path, fields: Mapping[str, Any]) -> None:
  """Learns with a variant of the config and these fields, in the run directory `path`."""
  flags = {"config": _CONFIG + variant, "workdir": path}
  _run("experiments.train", path, flags | {f"config.{name}": value for name, value in fields.items()})


def _run(module: str, path: pathlib.Path, flags: Mapping[str, Any]) -> None:
  """Runs one of our binaries; its progress and its errors go to the same place as ours."""
  command = [sys.executable, "-m", module, *(f"--{name}={value}" for name, value in flags.items())]
  child = subprocess.Popen(command)
  _children.add(child)
  code = child.wait()
  _children.discard(child)
  if code:
    raise ValueError(f"{path} did not finish: its error stands above; the same command continues it")


def _stop(started: Sequence[futures.Future]) -> None:
  """Asks every run once to save and end, until none is left."""
  asked: set[subprocess.Popen] = set()
  while not all(one.done() for one in started):
    for child in set(_children) - asked:
      child.terminate()
      asked.add(child)
    time.sleep(0.1)
