"""The papers' figures and tables, for comparison with our measurements.

The curves of Rusu et al. 2017 (CoRL; PMLR 78) were read from the paper's vector graphics to the width of a line. The
matrix of Rusu et al. 2016 (arXiv 1606.04671) was read from its colours. Mirowski et al. 2017 (arXiv 1611.03673) give
numbers. The `.csv` files beside this file hold them and say how sure they are. Our tables compute their numbers of a
paper's curve with the same functions as for our curves. The papers' methods and tasks have our names here.
"""

import csv
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from analysis import transfer_matrix

_HERE = pathlib.Path(__file__).parent

# The methods of figure 4a -> our names; baseline 1 is 'scratch'.
_PNN_METHODS = {
  "baseline2": "finetune_head",
  "baseline3": "finetune",
  "baseline4": "random_column",
  "prog2": "progressive2",
  "prog3": "progressive3",
}

# Rusu et al. 2016, table 1: world of a matrix -> method -> (mean, median) of the score in % of baseline 1, not clipped.
PNN_TABLE1: Mapping[str, Mapping[str, tuple[float, float]]] = {
  "pong/": {
    "finetune_head": (35, 7),
    "finetune": (181, 160),
    "random_column": (134, 131),
    "progressive2": (209, 169),
    "progressive3": (222, 183),
  },
  "atari/": {
    "finetune_head": (41, 21),
    "finetune": (133, 110),
    "random_column": (96, 95),
    "progressive2": (132, 112),
    "progressive3": (140, 111),
    "progressive4": (141, 116),
  },
  "maze/seek_": {
    "finetune_head": (88, 85),
    "finetune": (235, 112),
    "random_column": (185, 108),
    "progressive2": (491, 115),
  },
}


class PongCurve(NamedTuple):
  """Numbers read from one learning curve in a picture, Rusu et al. 2016, figure 4b: +-1 point, +-0.05e7 steps."""

  end: float  # Score at 4e7 steps, where the figure ends.
  mean: float  # Over these steps.
  zero_step: float | None  # Where the score crosses 0; None if it does not.


# (source, target) -> method -> curve. The ends on H-flip were read as 18 to 20 for all three methods.
PNN_FIG4B: Mapping[tuple[str, str], Mapping[str, PongCurve]] = {
  ("pong", "white"): {
    "progressive2": PongCurve(end=19.5, mean=11.2, zero_step=0.8e7),
    "finetune": PongCurve(end=-4.0, mean=-9.0, zero_step=None),
    "scratch": PongCurve(end=-9.0, mean=-13.8, zero_step=None),
  },
  ("pong", "h_flip"): {
    "progressive2": PongCurve(end=19.0, mean=17.0, zero_step=0.2e7),
    "finetune": PongCurve(end=19.0, mean=13.6, zero_step=0.45e7),
    "scratch": PongCurve(end=19.0, mean=6.5, zero_step=1.25e7),
  },
}

# Mirowski et al. 2017, figure 3: an expert's score; there is none for the I-maze.
NAVIGATION_HUMAN: Mapping[str, float] = {"static_1": 95, "static_2": 172, "random_goal_1": 106, "random_goal_2": 172}
# F1 of loop closures by (version, maze, agent) of a row of table 1, from the text: 100 episodes of 2,250 agent steps.
NAVIGATION_LOOP_F1: Mapping[tuple[str, str, str], float] = {("v1", "random_goal_2", "Nav A3C+D+L"): 0.83}


class NavigationRow(NamedTuple):
  """A row of Mirowski et al. 2017, table 1; NaN if a number is not given."""

  version: str  # 'v1': read in the text; 'v3': remembered, approximate.
  maze: str
  agent: str
  auc: float  # Mean of the learning curve over 1e8 environment steps.
  score: float
  human_percent: float
  goals: float  # Test episodes of 100 with at least one goal.
  position_percent: float  # Accuracy of the linear decoder.
  first_s: float  # Latency to the first goal.
  later_s: float  # Latency to later goals.
  test_score: float  # Of the single best agent.


def rusu2017(figure: str) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
  """The curves of one figure: series name -> steps `[N]` and returns of an episode `[N]`, both float64.

  Args:
    figure: 'fig4_ff', 'fig4_lstm' (series 'wide', 'narrow'), 'fig5' (series such as 'wide progressive_raw'),
      'fig6_subtle_color' and so on, or 'fig7'.
  """
  series: dict[str, list[tuple[float, float]]] = {}
  figures = set()
  for row in _rows("rusu2017_curves.csv"):
    figures.add(row["figure"])
    if row["figure"] == figure:
      series.setdefault(row["series"], []).append((float(row["x"]), float(row["y"])))
  if not series:
    raise ValueError(f"figure '{figure}' was not digitised; there are {', '.join(sorted(figures))}")
  return {name: (np.asarray(xy)[:, 0], np.asarray(xy)[:, 1]) for name, xy in series.items()}


def pnn_fig4a() -> transfer_matrix.Matrix:
  """The transfer matrix of Pong Soup, figure 4a of Rusu et al. 2016: +-0.01; 2 means 2 or more."""
  lines = _rows("pnn_fig4a.csv")
  targets = [name for name in lines[0] if name not in ("method", "source")]
  rows = [transfer_matrix.Row(_PNN_METHODS[line["method"]], _task(line["source"])) for line in lines]
  values = np.asarray([[_number(line[target]) for target in targets] for line in lines])
  return transfer_matrix.of_values(rows, [_task(target) for target in targets], values)


def navigation_scores() -> Mapping[str, Mapping[str, float]]:
  """maze -> agent -> final score, figure 3 of Mirowski et al. 2017 (v3), without agents that are not in a maze."""
  return {
    row["maze"]: {agent: float(score) for agent, score in row.items() if agent != "maze" and score}
    for row in _rows("mirowski2017_scores.csv")
  }


def navigation_table1() -> tuple[NavigationRow, ...]:
  """Table 1 of Mirowski et al. 2017, with the rows of v1 and of v3."""
  return tuple(
    NavigationRow(
      row["version"], row["maze"], row["agent"], *(_number(row[name]) for name in NavigationRow._fields[3:])
    )
    for row in _rows("mirowski2017_table1.csv")
  )


def _rows(name: str) -> list[dict[str, str]]:
  lines = [line for line in (_HERE / name).read_text().splitlines() if not line.startswith("#")]
  return list(csv.DictReader(lines))


def _task(name: str) -> str:
  """Our name of a game of Pong Soup: H-flip is h_flip."""
  return name.lower().replace("-", "_")


def _number(text: str) -> float:
  return float(text) if text else np.nan
