"""The runs of the demo: a column learned in simulation goes to work on a twin arm behind a bridge, by each method.

Every part is an ordinary run of the project's own binaries in a folder of its own, so a second call continues what was
stopped and repeats nothing that is done. The column as it came is evaluated too, in `<workdir>/unchanged`: what it
scores there is what learning has to beat.
"""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

from experiments.store import checkpoint

METHODS = ("progressive", "finetune", "scratch")
UNCHANGED = "unchanged"
_NUM_AT_ONCE = 2  # A learner and a twin each: two of these pairs keep two cores busy.
_children: set[subprocess.Popen] = set()  # That run.
_CONFIG = "experiments/configs/jaco_corl2017.py"


def run(workdir: pathlib.Path, *, task: str, source: str, steps: int, episodes: int) -> None:
  """Evaluates the column at `source` on a twin that plays `task`, and learns there by each of `METHODS`."""
  common: dict[str, Any] = {"task": task, "source": source, "episodes": episodes}
  with futures.ThreadPoolExecutor(_NUM_AT_ONCE) as pool:
    started = [pool.submit(evaluate, workdir, **common)]
    started += [pool.submit(transfer, workdir, method, steps=steps, **common) for method in METHODS]
    try:
      for one in started:
        one.result()
    except (KeyboardInterrupt, SystemExit):  # A signal, which may have come to this process alone.
      pool.shutdown(wait=False, cancel_futures=True)
      _stop(started)
      raise


def evaluate(workdir: pathlib.Path, *, task: str, source: str, episodes: int) -> None:
  """Plays the column at `source` as it is on a twin of its own, into `workdir`/unchanged; not again if done."""
  path = workdir / UNCHANGED
  file = path / "evaluation.json"
  if file.exists() and json.loads(file.read_text())["episodes"] == episodes:
    print(f"{path} is finished")
    return
  flags = {"source": source, "target": f"twin/{task}", "episodes": episodes, "release": path}
  _run("experiments.evaluate", path, flags | {"video": path / "videos" / "evaluation.mp4"})


def transfer(workdir: pathlib.Path, method: str, *, task: str, source: str, steps: int, episodes: int) -> None:
  """Learns `task` on a twin of its own by `method`, in `workdir`/`method`; what is done already is not done again."""
  path = workdir / method
  if is_finished(path, steps):
    print(f"{path} is finished")
    return
  fields = {"world": f"twin/{task}", "train.steps": steps, "train.evaluation_episodes": episodes}
  _learn(f":{method}", path, fields | ({} if method == "scratch" else {"source": source}))


def train(workdir: pathlib.Path, *, task: str, steps: int) -> pathlib.Path:
  """A column that learned `task` in simulation, in `workdir`/column."""
  path = workdir / "column"
  if not is_finished(path, steps):
    _learn("", path, {"world": f"jaco/{task}", "train.steps": steps})
  return path


def is_finished(path: pathlib.Path, steps: int) -> bool:
  """Whether the run at `path` has its last checkpoint, which is written after everything else."""
  return any(step >= steps for step in checkpoint.steps(path / "checkpoints"))


def _learn(variant: str, path: pathlib.Path, fields: Mapping[str, Any]) -> None:
  """Learns by a variant of the config, with these fields, in the run directory `path`."""
  flags = {"config": _CONFIG + variant, "workdir": path}
  _run("experiments.train", path, flags | {f"config.{name}": value for name, value in fields.items()})


def _run(module: str, path: pathlib.Path, flags: Mapping[str, Any]) -> None:
  """Runs one of our binaries; its progress and its errors go where ours go."""
  command = [sys.executable, "-m", module, *(f"--{name}={value}" for name, value in flags.items())]
  child = subprocess.Popen(command)
  _children.add(child)
  code = child.wait()
  _children.discard(child)
  if code:
    raise ValueError(f"{path} did not finish: its error stands above; the same command continues it")


def _stop(started: Sequence[futures.Future]) -> None:
  """Asks every run to save and end, once, until none is left."""
  asked: set[subprocess.Popen] = set()
  while not all(one.done() for one in started):
    for child in set(_children) - asked:
      child.terminate()
      asked.add(child)
    time.sleep(0.1)
