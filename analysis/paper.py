"""What the papers drew, to be laid beside what we measure.

The curves of Rusu et al. 2017 (CoRL; PMLR 78) were read off the paper's vector graphics to the width of a line;
`rusu2017_curves.csv` holds them. The numbers that the tables quote are computed from these curves by the very
functions that read ours.
"""

import csv
import pathlib
from collections.abc import Mapping

import numpy as np

_RUSU2017 = pathlib.Path(__file__).parent / "rusu2017_curves.csv"


def rusu2017(figure: str) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
  """The curves of one figure: series name -> steps `[N]` and returns of an episode `[N]`, both float64.

  Args:
    figure: 'fig4_ff', 'fig4_lstm' (series 'wide', 'narrow') or 'fig5' (series such as 'wide progressive_raw').
  """
  lines = [line for line in _RUSU2017.read_text().splitlines() if not line.startswith("#")]
  found: dict[str, list[tuple[float, float]]] = {}
  figures = set()
  for row in csv.DictReader(lines):
    figures.add(row["figure"])
    if row["figure"] == figure:
      found.setdefault(row["series"], []).append((float(row["x"]), float(row["y"])))
  if not found:
    raise ValueError(f"figure '{figure}' was not digitised; there are {', '.join(sorted(figures))}")
  return {name: (np.asarray(xy)[:, 0], np.asarray(xy)[:, 1]) for name, xy in found.items()}
