"""Trains a first column from scratch, or a next task from a trained network, progressively or with a baseline.

    python -m experiments.train --config=experiments/configs/jaco_corl2017.py --workdir=runs/column
    python -m experiments.train --config=experiments/configs/jaco_corl2017.py:progressive --workdir=runs/arm \\
      --config.source=runs/column --config.world=arm://localhost:5005

Any method can learn in any world, with any auxiliary heads. A config with a sweep is many runs side by side. Runs and
worlds are distributed over all devices, and over hosts (`running.hosts`). The same command continues a stopped run
exactly.
"""

from experiments import binary
from experiments.running import run

READS = (binary.CONFIG, binary.WORKDIR, *binary.HOSTS)  # Flags that other modules define.


def main() -> None:
  """Entry point."""
  run.run(binary.config(is_matrix=False), binary.workdir())


if __name__ == "__main__":
  binary.run(main, reads=READS)
