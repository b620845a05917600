"""Draws a paper's figures from run directories, the paper's own curves and numbers beside ours.

    python -m experiments.figures --figure=corl2017_fig5 --runs='runs/fig5/*' --out=runs/fig5/figure
    python -m experiments.figures --figure=pnn --runs=runs/soup --out=runs/soup/figures
    python -m experiments.figures --figure=nav --runs=runs/nav --out=runs/nav/figures

One function a figure, all in `FIGURES`; the beginning of their names draws them all. Each writes `<figure>.png`,
`.svg`, `.md` (tables, and what is missing), `.json` (every number) and its part of `provenance.json` (`drawing`).
"""

import difflib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from analysis import records
from experiments import binary
from experiments.report import drawing
from experiments.studies.corl2017 import figures as corl2017_figures
from experiments.studies.navigation import episode_figures, folder
from experiments.studies.navigation import figures as navigation_figures
from experiments.studies.pnn import figures as pnn_figures
from experiments.studies.pnn import matrix_folder, sensitivity_figures

_FIGURE = flags.DEFINE_string("figure", None, "Which figure: a name in FIGURES, or the beginning of some (pnn).")
_OUT = flags.DEFINE_string("out", "runs/figures", "Folder to write to.")


class Figure(NamedTuple):
  """How a figure comes about."""

  read: Callable[[Sequence[str]], Any]  # What --runs says -> run directories, a matrix, or navigators.
  draw: Callable[[Any], drawing.Drawn]


def _read_runs(patterns: Sequence[str]) -> tuple[records.Run, ...]:
  return tuple(records.read(path) for path in records.find(patterns))


FIGURES: Mapping[str, Figure] = {
  "corl2017_fig4": Figure(_read_runs, corl2017_figures.fig4),
  "corl2017_fig5": Figure(_read_runs, corl2017_figures.fig5),
  "nav_fig3": Figure(folder.read_all, navigation_figures.fig3),
  "nav_fig4": Figure(folder.read_all, episode_figures.fig4),
  "nav_fig56": Figure(folder.read_all, episode_figures.fig56),
  "nav_fig7": Figure(folder.read_all, episode_figures.fig7),
  "nav_table1": Figure(folder.read_all, navigation_figures.table1),
  "pnn_fig4a": Figure(matrix_folder.read_one, pnn_figures.fig4a),
  "pnn_fig4b": Figure(matrix_folder.read_one, pnn_figures.fig4b),
  "pnn_fig12": Figure(matrix_folder.read_one, pnn_figures.fig12),
  "pnn_fig5": Figure(matrix_folder.read_one, sensitivity_figures.fig5),
  "pnn_fig7a": Figure(matrix_folder.read_one, sensitivity_figures.fig7a),
  "pnn_fig7b": Figure(matrix_folder.read_one, sensitivity_figures.fig7b),
  "pnn_fig9": Figure(matrix_folder.read_one, sensitivity_figures.fig9),
  "pnn_fig10": Figure(matrix_folder.read_one, sensitivity_figures.fig10),
  "pnn_forgetting": Figure(matrix_folder.read_one, pnn_figures.forgetting),
}


def make(name: str, read: Any) -> drawing.Drawn:
  """The figure `name` of what was read for it: run directories, a matrix, or navigators.

  Raises:
    ValueError: unknown figure (the nearest is named), or runs that lack what the figure shows.
  """
  if name not in FIGURES:
    raise _unknown(name)
  if not read:
    raise ValueError(f"--figure={name} needs run directories: give --runs")
  return FIGURES[name].draw(read)


def _names(name: str) -> list[str]:
  """The figures that --figure names."""
  found = [name] if name in FIGURES else [one for one in FIGURES if name and one.startswith(name)]
  if not found:
    raise _unknown(name)
  return found


def _unknown(name: str) -> ValueError:
  nearest = difflib.get_close_matches(name, FIGURES, n=1, cutoff=0.0)[0]
  return ValueError(f"--figure={name} is not one of {', '.join(FIGURES)}; nearest is {nearest}")


def main(argv: Sequence[str]) -> None:
  """Reads, draws, writes; of several figures, those that can be drawn."""
  del argv
  names, out = _names(_FIGURE.value or ""), pathlib.Path(_OUT.value)
  patterns = binary.RUNS.value or ()
  if not patterns:
    raise ValueError(f"--figure={names[0]} needs run directories: give --runs")
  by_reader = {reader: reader(patterns) for reader in {FIGURES[name].read for name in names}}
  faults = []
  for name in names:
    read = by_reader[FIGURES[name].read]
    try:
      drawn = make(name, read)
    except ValueError as error:
      faults.append(f"{name}: {error}")
      continue
    runs = read.runs if isinstance(read, matrix_folder.Matrix | folder.Navigation) else read
    files = drawing.write(name, drawn, runs, out)
    print(f"{name}\n\n{drawing.markdown(drawn)}")
    print(f"{len(runs)} runs read; wrote {', '.join(files)} to {out}\n")
  if faults:
    raise ValueError("; ".join(faults))


if __name__ == "__main__":
  binary.run(main, reads=(binary.RUNS,))
