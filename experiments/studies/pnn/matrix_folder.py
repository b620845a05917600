"""Reads a matrix on disk: the state of every planned cell, and why it has no curve or no score if it has none.

A cell may be missing, empty, half written, unreadable or done. In each case it becomes a `Result` whose `gap` says so
in words, never a zero.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import config_dict

from analysis import curves, records, transfer_matrix
from experiments.store import network_file, run_directory, sweep_folder
from experiments.studies.pnn import matrix, sensitivity_file
from progressive import network


class Result(NamedTuple):
  """One cell."""

  cell: matrix.Cell
  path: pathlib.Path
  runs: tuple[records.Run, ...]  # Those that have finished episodes.
  curve: curves.Curve | None  # Of these runs, up to the end of the shortest; None if there are none.
  outcome: Mapping[str, Any] | None  # None until it is done.
  spec: network.Network | None  # The best network's.
  sensitivity: sensitivity_file.Sensitivity | None
  note: str  # Why it has no score, short enough for a picture's cell: 'not run', 'at 40%'; '' if it is complete.
  gap: str  # The same in full.


class Matrix(NamedTuple):
  """All cells that the newest plan names."""

  path: pathlib.Path
  world: str  # What stands before a target's name: 'pong/'.
  targets: tuple[str, ...]
  floors: tuple[float, ...]  # Scores that count as nothing, the leading one first.
  own_floors: Mapping[str, float]  # Of tasks that have their own.
  steps: int  # Length of every run, in agent steps.
  top: int  # How many of a cell's runs count.
  results: Mapping[matrix.Cell, Result]

  def floor(self, task: str) -> float:
    """The score that counts as nothing on a task."""
    return self.own_floors.get(task, self.floors[0])

  @property
  def runs(self) -> tuple[records.Run, ...]:
    return tuple(run for result in self.results.values() for run in result.runs)

  @property
  def gaps(self) -> dict[str, str]:
    """Every cell that is not complete, and why."""
    return {cell.name: result.gap for cell, result in self.results.items() if result.gap}


def read_one(patterns: Sequence[str]) -> Matrix:
  """The matrix in the one folder that `patterns` name.

  Raises:
    ValueError: if they name none or several, or the folder holds no matrix.
  """
  return read(find_one(patterns))


def find_one(patterns: Sequence[str]) -> pathlib.Path:
  """The one folder that `patterns` name.

  Raises:
    ValueError: if they name none or several.
  """
  paths = records.folders(patterns[0]) if len(patterns) == 1 else tuple(map(pathlib.Path, patterns))
  if len(paths) != 1:
    given = f"--runs={','.join(patterns)} names {len(paths)} folders" if patterns else "--runs is not given"
    raise ValueError(f"{given}; give the folder of one matrix")
  return paths[0]


def read(path: pathlib.Path) -> Matrix:
  """The matrix in `path`.

  Raises:
    ValueError: if there is none, or nothing in it has been learned yet.
  """
  config = matrix.read_plan(path)
  steps, floors = int(config.train.steps), matrix.floors(config)
  on_disk = Matrix(
    path=path,
    world=config.matrix.world,
    targets=tuple(config.matrix.targets),
    floors=floors,
    own_floors=dict(config.matrix.get("own_floors", {})),
    steps=steps,
    top=int(config.sweep.top),
    results={
      cell: _read_cell(path / cell.name, cell, steps, config.sweep, min(matrix.floors(config, cell.target)))
      for cell in matrix.plan(config)
    },
  )
  if not on_disk.runs:
    raise ValueError(f"{path}: no cell has a run with finished episodes; run experiments.matrix first")
  return on_disk


def row_of(cell: matrix.Cell) -> transfer_matrix.Row:
  """The row of the transfer matrix for a cell."""
  if cell.method == "random_column":
    return transfer_matrix.Row(cell.method, "random")
  columns = str(len(cell.sources) + 1) if cell.method == "progressive" else ""
  return transfer_matrix.Row(cell.method + columns, "+".join(cell.sources))


def _read_cell(
  path: pathlib.Path, cell: matrix.Cell, steps: int, sweep: config_dict.ConfigDict, start: float
) -> Result:
  nothing = Result(cell, path, (), None, None, None, None, "", "")
  if not path.is_dir():
    return nothing._replace(note="not run", gap="not run")
  try:
    members = sweep_folder.read_members(path, sweep.num_runs)
    outcome = records.read_object(path / matrix.OUTCOME) if matrix.is_done(path) else None
    failure = run_directory.failure(path)
    spec = network_file.read_spec(path / "best") if outcome is not None else None
    sensitivity = sensitivity_file.read(path)
  except ValueError as error:
    return nothing._replace(note="unreadable", gap=f"unreadable: {error}")
  runs = members.runs
  note, gap = sweep_folder.why_incomplete(runs, steps, is_done=outcome is not None)
  # Failed runs count as the worst: without them the top runs are the same, if there are enough.
  is_incomplete = len(runs) + members.num_failed < sweep.num_runs or len(runs) < sweep.top
  if members.lacking and is_incomplete:
    note, gap = note or f"{len(runs)} of {sweep.num_runs} runs", "; ".join(filter(None, (gap, members.lacking)))
  if failure:
    note, gap = "failed", f"failed: {failure}"
  curve = curves.stack([sweep_folder.points(run, steps, start) for run in runs]) if runs else None
  if curve is not None and (fault := sweep_folder.why_unreadable(runs, curve)):
    return nothing._replace(note="unreadable", gap=fault)
  return Result(cell, path, runs, curve, outcome, spec, sensitivity, note, gap)
