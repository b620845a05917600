"""Prints what a network is made of: layers, laterals and parameters of each column, with totals.

    python -m experiments.describe --source=experiments/released/jaco_corl2017
    python -m experiments.describe --config=experiments/configs/jaco_corl2017.py:progressive

With a config, it prints the network that the config's method starts from.
"""

from experiments import binary
from experiments.report import network_table
from experiments.setup import checks, learn
from experiments.store import released

READS = (binary.CONFIG, binary.SOURCE)  # Flags that other modules define.


def main() -> None:
  """Entry point."""
  if binary.SOURCE.value and binary.CONFIG.present:
    raise ValueError(f"--source={binary.SOURCE.value} and --config are two networks; give one of them")
  if binary.SOURCE.value:
    print(network_table.table(released.load_source(binary.SOURCE.value).spec))
  else:
    config = binary.config()
    checks.check(config)
    task = learn.make(config)
    task.place.close()
    print(network_table.table(task.agent.spec))


if __name__ == "__main__":
  binary.run(main, reads=READS)
