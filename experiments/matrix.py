"""Runs the transfer matrix of a config, cell by cell (`studies.pnn.matrix`).

    python -m experiments.matrix --config=experiments/configs/pong_soup.py:laptop --workdir=runs/soup
    python -m experiments.matrix --config=... --workdir=runs/soup --cell=progressive_pong_to_white

The same command continues an interrupted matrix where it stopped. On a cluster, each machine runs cells of its own in
one shared folder.
"""

import pathlib

from experiments import binary
from experiments.studies.pnn import matrix

READS = (binary.CONFIG, binary.WORKDIR, binary.CELL)  # Flags that other modules define.


def main() -> None:
  """Runs the cells that are not done."""
  matrix.run_cells(binary.config(is_matrix=True), binary.CELL.value, pathlib.Path(binary.workdir()))


if __name__ == "__main__":
  binary.run(main, reads=READS)
