"""All figures by name, and how each is made: what reads the folders in `--runs`, and what draws them."""

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from analysis import records
from experiments.report import drawing
from experiments.store import run_directory
from experiments.studies import continual, learning
from experiments.studies.corl2017 import figures as corl2017_figures
from experiments.studies.corl2017 import ladder
from experiments.studies.navigation import episode_figures, folder
from experiments.studies.navigation import figures as navigation_figures
from experiments.studies.pnn import figures as pnn_figures
from experiments.studies.pnn import matrix_folder, sensitivity_figures


class Figure(NamedTuple):
  """How a figure is made."""

  read: Callable[[Sequence[str]], Any]  # --runs -> run directories, a matrix, or navigators.
  draw: Callable[[Any], drawing.Drawn]


def _read_runs(patterns: Sequence[str]) -> tuple[records.Run, ...]:
  """All runs but those that failed, which are named on stderr: their curves would cut the others short."""
  runs, failed = list[records.Run](), list[str]()
  for path in records.find(patterns):
    if reason := run_directory.failure(path):
      failed.append(reason)
      print(f"warning: {path} is left out, since it failed: {reason}", file=sys.stderr)
    else:
      runs.append(records.read(path))
  if not runs and failed:
    raise ValueError(f"all runs in --runs={','.join(patterns)} failed: {failed[0]}")
  return tuple(runs)


FIGURES: Mapping[str, Figure] = {
  "continual": Figure(_read_runs, continual.draw),
  "corl2017_fig4": Figure(_read_runs, corl2017_figures.fig4),
  "corl2017_fig5": Figure(_read_runs, corl2017_figures.fig5),
  "corl2017_fig6": Figure(_read_runs, corl2017_figures.fig6),
  "corl2017_fig7": Figure(_read_runs, corl2017_figures.fig7),
  "corl2017_gap": Figure(_read_runs, corl2017_figures.gap),
  "learning": Figure(_read_runs, learning.learning),
  "talk_ladder": Figure(ladder.read, ladder.draw),
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
  """The figure `name` from what was read for it: run directories, a matrix, or navigators.

  Raises:
    ValueError: for an unknown figure (the nearest is named), or runs that lack what the figure shows.
  """
  if name not in FIGURES:
    raise _unknown(name)
  if not read:
    raise ValueError(f"--figure={name} needs run directories: give --runs")
  return drawing.mark_gaps(FIGURES[name].draw(read))


def names(name: str) -> list[str]:
  """The figures that `name` means: one, or all whose names begin with it."""
  chosen = [name] if name in FIGURES else [one for one in FIGURES if name and one.startswith(name)]
  if not chosen:
    raise _unknown(name)
  return chosen


def runs_of(read: Any) -> Sequence[records.Run]:
  """The run directories behind the result of a figure's `read`."""
  return read.runs if isinstance(read, matrix_folder.Matrix | folder.Navigation) else read


def _unknown(name: str) -> ValueError:
  if not name:
    return ValueError(f"--figure is missing; name one of {', '.join(FIGURES)}, or the beginning of some")
  nearest = difflib.get_close_matches(name, FIGURES, n=1, cutoff=0.0)[0]
  return ValueError(f"--figure={name} is not one of {', '.join(FIGURES)}; nearest is {nearest}")
