"""The one reader of run directories, which checks them on reading.

A run directory holds `config.json` (every field of the experiment), `provenance.json` (command, commit, versions,
seed), `network.json` (the columns) and `metrics.jsonl`. Each line of `metrics.jsonl` is one object with `step` (int),
`wall_s` (float), `kind` ('train', 'eval' or 'episode') and then named numbers. null stands for a number that is not
finite, and is read as nan. On an arm every finished episode is a line of kind 'episode' with its `return`, and `step`
counts arm steps so far. The steps of one kind never fall: a resumed run forgets what it wrote after its checkpoint
(`kept_until`). A last line without a newline is still being written, or was cut off by a kill, and is left out. Any
other fault is an error that names the line.

Lines are read one by one into columns of numbers. A million lines take a few seconds and little more memory than their
numbers.
"""

import array
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

KINDS = ("train", "eval", "episode")
_NOT_FINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}  # What JSON lacks, as protobuf writes it.
_NUMBERS = frozenset((int, float))
_ENDED = ("step", "episodes", "return_mean")  # What a 'train' record says about the episodes that ended before it.


class Block(NamedTuple):
  """All lines of one kind that have the same names."""

  kind: str  # One of `KINDS`.
  names: tuple[str, ...]  # Of the columns of `values`: 'step', 'wall_s' and the metrics, in the order within a line.
  lines: np.ndarray  # [N] int64: line numbers in the file, rising.
  values: np.ndarray  # [N, M] float64. Steps are exact, as they stay below 2^53.


class Run(NamedTuple):
  """The contents of a run directory."""

  path: pathlib.Path
  config: Mapping[str, Any]
  provenance: Mapping[str, Any]
  network: Mapping[str, Any]  # What network.json says about the columns; empty if there is none.
  blocks: tuple[Block, ...]  # Its records; read them with `series`, `columns` and `last`.


class Kept(NamedTuple):
  """The part of a `metrics.jsonl` that a checkpoint does not supersede."""

  num_bytes: int  # Cut the file to this length.
  wall_s: float  # Of the last line that stays; 0 if none does.


def read(path: str | pathlib.Path) -> Run:
  """Reads the run directory `path`.

  Raises:
    ValueError: if a file is missing or a line breaks the schema; the message names file, line and fault.
  """
  path = pathlib.Path(path)
  config, provenance = (read_object(path / name) for name in ("config.json", "provenance.json"))
  network = read_object(path / "network.json") if (path / "network.json").exists() else {}
  return Run(path, config, provenance, network, _read_blocks(path / "metrics.jsonl"))


def kept_until(path: pathlib.Path, step: int) -> Kept:
  """The part of the metrics file `path` that stays when its run goes on from a checkpoint at `step` > 0.

  Every line up to `step` stays. Lines are written in the order of their steps, so a checkpoint supersedes one piece at
  the end of the file.

  Raises:
    ValueError: if a line breaks the schema, or a line up to `step` comes after a later one and would be lost.
  """
  kept, beyond = Kept(0, 0.0), ""
  for number, end, _, value in _lines(path):
    if value["step"] > step:
      beyond = beyond or f"step {value['step']} of line {number}"
    elif beyond:
      raise ValueError(f"{path}:{number}: step {value['step']} stands behind {beyond}; put the lines in order")
    else:
      kept = Kept(end, float(value["wall_s"]))
  return kept


def last_step(path: pathlib.Path, *, kind: str) -> int:
  """The step of the last record of `kind` in the metrics file `path`; -1 if there is no such record or no file.

  Raises:
    ValueError: if a line breaks the schema.
  """
  if not path.exists():
    return -1
  return max((value["step"] for _, _, its_kind, value in _lines(path) if its_kind == kind), default=-1)


def columns(run: Run, *, kind: str, names: Iterable[str]) -> dict[str, np.ndarray]:
  """Metrics side by side, name -> float64 `[N]`, from the records of `kind` that have all of them; N may be 0."""
  names = tuple(names)
  blocks = [block for block in run.blocks if block.kind == kind and set(names) <= set(block.names)]
  order = np.argsort(np.concatenate([block.lines for block in blocks] or [np.zeros(0)]), kind="stable")
  by_name = {}
  for name in names:
    values = [block.values[:, block.names.index(name)] for block in blocks]
    by_name[name] = np.concatenate(values or [np.zeros(0)])[order]
  return by_name


def series(run: Run, *, kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
  """The metric `name` over time: steps int64 `[N]` and values float64 `[N]` of the records of `kind` that have it.

  Raises:
    ValueError: if no record of that kind has it; the message lists the metrics that exist.
  """
  steps, values = columns(run, kind=kind, names=("step", name)).values()
  if not len(steps):
    there = sorted({f"{block.kind}/{key}" for block in run.blocks for key in set(block.names) - {"step", "wall_s"}})
    raise ValueError(f"{run.path}: no '{kind}' record has '{name}'; there are {', '.join(there) or 'no records'}")
  return steps.astype(np.int64), values


def last(run: Run, *, kind: str | None = None) -> dict[str, float]:
  """The last record of `kind`, or of any kind: its step, its wall_s and its metrics; empty if there is none."""
  blocks = [block for block in run.blocks if kind in (None, block.kind)]
  if not blocks:
    return {}
  block = max(blocks, key=lambda block: block.lines[-1])
  return dict(zip(block.names, block.values[-1].tolist(), strict=True))


def episodes(run: Run) -> tuple[np.ndarray, np.ndarray]:
  """The finished episodes of a run: the step at which each ended, int64 `[N]`, and its return, float64 `[N]`.

  In simulation a 'train' record has only a mean over its episodes. Each of them gets this mean and the record's step.

  Raises:
    ValueError: if no episode has ended.
  """
  steps, count, means = columns(run, kind="train", names=_ENDED).values()
  if count.any() and not has_episodes(run):
    num = count.astype(np.int64)
    return np.repeat(steps.astype(np.int64), num), np.repeat(means, num)
  return series(run, kind="episode", name="return")


def has_ended(run: Run) -> bool:
  """Whether an episode of the run has ended, so that `episodes` has some."""
  count = columns(run, kind="train", names=_ENDED)["episodes"]
  return bool(count.any()) or has_episodes(run)


def has_episodes(run: Run) -> bool:
  """Whether its episodes are records of their own, as behind `dm_env`."""
  return any(block.kind == "episode" for block in run.blocks)


def num_steps(run: Run) -> int:
  """How far the run has come, in agent steps."""
  return int(max((block.values[-1, block.names.index("step")] for block in run.blocks), default=0))


def find(patterns: Iterable[str]) -> tuple[pathlib.Path, ...]:
  """Run directories that `patterns` name, sorted: a run, a folder of runs at any depth, or a glob of either.

  Raises:
    ValueError: if a pattern names no run directory.
  """
  runs: set[pathlib.Path] = set()
  for pattern in patterns:
    own = {metrics.parent for root in folders(pattern) for metrics in root.rglob("metrics.jsonl")}
    if not own:
      raise ValueError(f"--runs={pattern}: no run directory there (a folder with metrics.jsonl)")
    runs |= own
  return tuple(sorted(runs))


def folders(pattern: str) -> tuple[pathlib.Path, ...]:
  """The folders that a path or a glob names; a path that exists is that folder, whatever characters it has."""
  path = pathlib.Path(pattern).expanduser()
  if path.is_dir() or path == pathlib.Path(path.anchor):
    return (path,)
  anchor = pathlib.Path(path.anchor or ".")
  return tuple(one for one in anchor.glob(str(path.relative_to(path.anchor))) if one.is_dir())


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in the file `path`, with "Infinity", "-Infinity" and "NaN" read as numbers.

  Raises:
    ValueError: if there is none; the message names file, line and fault.
  """
  try:
    value = json.loads(path.read_bytes())
  except FileNotFoundError:
    raise ValueError(f"{path}: missing; is {path.parent} a run directory?") from None
  except json.JSONDecodeError as error:
    raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
  if not isinstance(value, dict):
    raise ValueError(f"{path}:1: want an object, not {type(value).__name__}")
  return as_read(value)


def as_read(value: Any) -> Any:
  """`value` as it comes back from a JSON file that holds `as_written(value)`, with tuples as lists."""
  return _map(value, lambda one: _NOT_FINITE.get(one, one) if isinstance(one, str) else one)


def as_written(value: Any) -> Any:
  """`value` for a JSON file: numbers that are not finite are the words "Infinity", "-Infinity" and "NaN"."""
  return _map(value, _in_words)


def _in_words(value: Any) -> Any:
  if not isinstance(value, float) or math.isfinite(value):
    return value
  return next(name for name, one in _NOT_FINITE.items() if one == value or math.isnan(one))


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
  """Applies `change` to every value inside lists and dictionaries."""
  if isinstance(value, Mapping):
    return {key: _map(one, change) for key, one in value.items()}
  return [_map(one, change) for one in value] if isinstance(value, list | tuple) else change(value)


def _read_blocks(path: pathlib.Path) -> tuple[Block, ...]:
  rows: dict[tuple[str, tuple[str, ...]], tuple[array.array, array.array]] = {}
  latest = dict.fromkeys(KINDS, 0)  # kind -> its last step.
  for number, _, kind, value in _lines(path):
    step = value["step"]
    if step < latest[kind]:
      raise ValueError(f"{path}:{number}: 'step' falls from {latest[kind]} to {step}")
    latest[kind] = step
    key = kind, tuple(value)
    if key not in rows:
      rows[key] = array.array("q"), array.array("d")
    numbers, values = rows[key]
    numbers.append(number)
    values.extend(value.values())
  return tuple(
    Block(kind, names, np.frombuffer(numbers, np.int64), np.frombuffer(values, np.float64).reshape(-1, len(names)))
    for (kind, names), (numbers, values) in rows.items()
  )


def _lines(path: pathlib.Path) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
  """Every line in order, one in memory at a time: its number, the bytes up to its end, its kind, its other values."""
  try:
    file = path.open("rb")
  except FileNotFoundError:
    raise ValueError(f"{path}: missing; is {path.parent} a run directory?") from None
  end = 0
  with file:
    for number, text in enumerate(file, start=1):
      if text[-1:] != b"\n":
        return
      end += len(text)
      try:
        kind, value = _parse(text)
      except ValueError as error:
        raise ValueError(f"{path}:{number}: {error}") from None
      yield number, end, kind, value


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
  """The kind of one line, and its numbers: step, wall_s and the metrics."""
  value = _object(line)
  if "step" not in value or "wall_s" not in value or "kind" not in value:
    missing = next(name for name in ("step", "wall_s", "kind") if name not in value)
    raise ValueError(f"'{missing}' is missing")
  kind, step = value.pop("kind"), value["step"]
  if kind not in KINDS:
    raise ValueError(f"'kind' is {kind!r}, want one of {', '.join(KINDS)}")
  if not _NUMBERS.issuperset(map(type, value.values())):  # A bool is not a number.
    value |= {name: math.nan for name, x in value.items() if x is None and name not in ("step", "wall_s")}
  if not _NUMBERS.issuperset(map(type, value.values())):
    name, wrong = next((name, x) for name, x in value.items() if type(x) not in _NUMBERS)
    raise ValueError(f"metric '{name}' is {wrong!r}, want a number")
  if type(step) is not int or not 0 <= step < 2**53:
    raise ValueError(f"'step' is {step!r}, want a whole number from 0 on")
  if kind == "episode" and not math.isfinite(value.get("return", math.nan)):
    raise ValueError(f"an episode needs a finite 'return', not {value.get('return')!r}")
  return kind, value


def _object(line: bytes) -> dict[str, Any]:
  try:
    value = orjson.loads(line)
  except orjson.JSONDecodeError:  # Not JSON, or a number outside the standard: json reads NaN and Infinity.
    try:
      value = json.loads(line, parse_int=lambda digits: int(digits) if len(digits) < 18 else float(digits))
    except json.JSONDecodeError as error:
      raise ValueError(f"not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
      raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from None
  if not isinstance(value, dict):
    raise ValueError(f"want an object, not {type(value).__name__}")
  return value
