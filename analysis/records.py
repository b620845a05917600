"""The one reader of a run directory, checked on reading.

A run directory holds `config.json` (every field of the experiment), `provenance.json` (command, commit, versions,
seed), `network.json` (the columns) and `metrics.jsonl`: one object a line, `step` (int), `wall_s` (float), `kind`
('train', 'eval' or 'episode') and then named numbers. On an arm every finished episode is a line of kind 'episode'
with its `return`, and `step` counts arm steps so far. Steps of one kind never fall: a resumed run forgets what it
wrote after its checkpoint.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

KINDS = ("train", "eval", "episode")


class Record(NamedTuple):
  """One line of `metrics.jsonl`."""

  step: int  # Agent steps so far, over all worlds.
  wall_s: float  # Seconds of this run's wall clock.
  kind: str  # One of `KINDS`.
  metrics: Mapping[str, float]


class Run(NamedTuple):
  """A run directory, read."""

  path: pathlib.Path
  config: Mapping[str, Any]
  provenance: Mapping[str, Any]
  network: Mapping[str, Any]  # What network.json says of the columns; empty where the run has none.
  records: tuple[Record, ...]


def read(path: str | pathlib.Path) -> Run:
  """Reads the run directory `path`.

  Raises:
    ValueError: a file is missing or a line is not what the schema says; the message names file, line and fault.
  """
  path = pathlib.Path(path)
  config, provenance = (_read_object(path / name) for name in ("config.json", "provenance.json"))
  network = _read_object(path / "network.json") if (path / "network.json").exists() else {}
  lines = _read_records(path / "metrics.jsonl")
  return Run(path=path, config=config, provenance=provenance, network=network, records=lines)


def series(run: Run, *, kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
  """The metric `name` over time: steps int64 `[N]` and values float64 `[N]` of the records of `kind` that have it.

  Raises:
    ValueError: no record of that kind has it; the message lists what there is.
  """
  having = [record for record in run.records if record.kind == kind and name in record.metrics]
  if not having:
    there = sorted({f"{record.kind}/{key}" for record in run.records for key in record.metrics})
    raise ValueError(f"{run.path}: no '{kind}' record has '{name}'; there are {', '.join(there) or 'no records'}")
  steps = np.asarray([record.step for record in having], np.int64)
  return steps, np.asarray([record.metrics[name] for record in having], np.float64)


def episodes(run: Run) -> tuple[np.ndarray, np.ndarray]:
  """The finished episodes of a run: the step each ended at, int64 `[N]`, and its return, float64 `[N]`."""
  return series(run, kind="episode", name="return")


def num_steps(run: Run) -> int:
  """How far the run has come, in agent steps."""
  return max((record.step for record in run.records), default=0)


def field(config: Mapping[str, Any], name: str, default: Any = None) -> Any:
  """A field of a nested config by its dotted name, or `default` where there is none."""
  value: Any = config
  for key in name.split("."):
    if not isinstance(value, Mapping) or key not in value:
      return default
    value = value[key]
  return value


def find(patterns: Iterable[str]) -> tuple[pathlib.Path, ...]:
  """Run directories that `patterns` name, sorted: a run, a folder of runs at any depth, or a glob of either.

  Raises:
    ValueError: a pattern names no run directory.
  """
  found: set[pathlib.Path] = set()
  for pattern in patterns:
    pure = pathlib.Path(pattern)
    anchor = pathlib.Path(pure.anchor or ".")
    roots = anchor.glob(str(pure.relative_to(pure.anchor))) if pure.parts else iter((anchor,))
    runs = {metrics.parent for root in roots if root.is_dir() for metrics in root.rglob("metrics.jsonl")}
    if not runs:
      raise ValueError(f"--runs={pattern}: no run directory there (a folder with metrics.jsonl)")
    found |= runs
  return tuple(sorted(found))


def _read_object(path: pathlib.Path) -> Mapping[str, Any]:
  try:
    value = json.loads(path.read_text())
  except FileNotFoundError:
    raise ValueError(f"{path}: missing; is {path.parent} a run directory?") from None
  except json.JSONDecodeError as error:
    raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
  if not isinstance(value, dict):
    raise ValueError(f"{path}:1: want an object, not {type(value).__name__}")
  return value


def _read_records(path: pathlib.Path) -> tuple[Record, ...]:
  """Every record that holds, in order. A last line without its newline is still being written and is left out."""
  try:
    text = path.read_text()
  except FileNotFoundError:
    raise ValueError(f"{path}: missing; is {path.parent} a run directory?") from None
  complete = text[: text.rfind("\n") + 1]
  records = []
  latest = dict.fromkeys(KINDS, 0)  # kind -> its last step.
  for number, line in enumerate(complete.splitlines(), start=1):
    try:
      record = _parse(line)
      if record.step < latest[record.kind]:
        raise ValueError(f"'step' falls from {latest[record.kind]} to {record.step}")
    except ValueError as error:
      raise ValueError(f"{path}:{number}: {error}") from None
    latest[record.kind] = record.step
    records.append(record)
  return tuple(records)


def _parse(line: str) -> Record:
  try:
    value = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f"not JSON ({error.msg})") from None
  if not isinstance(value, dict):
    raise ValueError(f"want an object, not {type(value).__name__}")
  for name, kinds in (("step", int), ("wall_s", int | float), ("kind", str)):
    if name not in value:
      raise ValueError(f"'{name}' is missing")
    if not isinstance(value[name], kinds) or isinstance(value[name], bool):
      raise ValueError(f"'{name}' is {value[name]!r}")
  step, wall_s, kind = value.pop("step"), float(value.pop("wall_s")), value.pop("kind")
  if step < 0:
    raise ValueError(f"'step' is {step}")
  if kind not in KINDS:
    raise ValueError(f"'kind' is '{kind}', want one of {', '.join(KINDS)}")
  for name, metric in value.items():
    if not isinstance(metric, int | float) or isinstance(metric, bool):
      raise ValueError(f"metric '{name}' is {metric!r}, want a number")
  if kind == "episode" and not math.isfinite(value.get("return", math.nan)):
    raise ValueError(f"an episode needs a finite 'return', not {value.get('return')!r}")
  return Record(step=step, wall_s=wall_s, kind=kind, metrics={name: float(m) for name, m in value.items()})
