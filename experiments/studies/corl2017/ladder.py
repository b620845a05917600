"""The talks' ladder of columns, read from released networks: each column's return on every task, and its growth.

A network of k columns plays with its newest column, so the row of column k shows the network after k tasks. A hash of
each column's content, over all networks that hold the column, shows that later tasks change no earlier column.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis import curves, intervals, plots, records
from experiments.report import drawing
from experiments.store import released, run_directory
from progressive import cost, network, partition

_BOUNDS = drawing.Bounds(0.0, 50.0)  # Of returns: 50 steps with a reward of 0 or 1.


class Played(NamedTuple):
  """A released network that has played a task."""

  path: pathlib.Path
  provenance: Mapping[str, Any]  # Of the evaluation.
  task: str
  returns: intervals.Interval  # Over episodes.
  spec: network.Network
  hashes: tuple[str, ...]  # Of each column's parameters.


def read(patterns: Sequence[str]) -> tuple[Played, ...]:
  """Reads the folders (or globs) that `experiments.evaluate --release` wrote; ValueError for any other folder."""
  paths = {path: None for pattern in patterns for path in sorted(records.folders(pattern)) or [pathlib.Path(pattern)]}
  return tuple(map(_read, paths))


def draw(played: Sequence[Played]) -> drawing.Drawn:
  """Draws returns on every task by column, and the columns; ValueError for two networks of one size on one task."""
  counts = sorted({len(one.spec.columns) for one in played})
  found: dict[tuple[int, str], Played] = {}
  for one in played:
    other = found.setdefault((len(one.spec.columns), one.task), one)
    if other is not one:
      raise ValueError(
        f"{other.path} and {one.path} are networks of {len(one.spec.columns)} columns each on {one.task}; leave one out"
      )
  names = list(dict.fromkeys(one.task for one in played))
  returns = {
    f"column {k}": {task: found[k, task].returns if (k, task) in found else "not run" for task in names} for k in counts
  }
  lines = []
  for i, task in enumerate(names):
    own = [k for k in counts if (k, task) in found]
    means = np.array([[float(found[k, task].returns.mean) for k in own]])
    lines.append(plots.Line(task, f"C{i % 10}", curves.Curve(np.array(own, np.float64), means)))
  picture = plots.learning_curves(
    [plots.Panel("the newest column on each task", lines)], x_label="columns", y_label="return", y_limits=(-1.0, 50.0)
  )
  gaps = {f"column {k} on {task}": "not run" for k in counts for task in names if (k, task) not in found}
  return drawing.Drawn(picture, returns, more_tables={"growth": _growth(played)}, gaps=gaps, bounds=_BOUNDS)


def _growth(played: Sequence[Played]) -> drawing.Table:
  """Column -> its inputs, its parameters, and its content in all networks that hold it."""
  largest = max(played, key=lambda one: len(one.spec.columns))
  rows: dict[str, dict[str, drawing.Cell]] = {}
  for k, (column, own) in enumerate(zip(cost.report(largest.spec), largest.hashes, strict=True)):
    holders = [one for one in played if len(one.spec.columns) > k]
    num_same = sum(one.hashes[k] == own for one in holders)
    rows[f"column {k + 1}"] = {
      "reads": ", ".join(name for name, _ in column.inputs),
      "parameters": f"{column.num_parameters:,}",
      "of them in laterals": f"{_in_laterals(column):,}",
      "content (SHA-256)": f"{own[:12]}, the same in {num_same} of {len(holders)} networks",
    }
  total = sum(column.num_parameters for column in cost.report(largest.spec))
  return rows | {"together": {"parameters": f"{total:,}"}}


def _in_laterals(column: cost.ColumnReport) -> int:
  return sum(lateral.num_parameters for layer in column.layers for lateral in layer.laterals)


def _read(path: pathlib.Path) -> Played:
  network_, evaluation = released.load(path), released.read_evaluation(path)
  provenance = run_directory.read_provenance(path)
  if "evaluation" not in provenance:
    raise ValueError(f"{path} does not say how it was evaluated; write it by experiments.evaluate --release")
  return Played(
    path,
    provenance["evaluation"],
    evaluation.world,
    evaluation.returns,
    network_.spec,
    tuple(partition.content_hash(column) for column in network_.params),
  )
