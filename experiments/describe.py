"""Prints what a network is made of: layers, laterals and parameters of each column, with totals.

    python -m experiments.describe --source=experiments/released/jaco_corl2017
    python -m experiments.describe --config=experiments/configs/jaco_corl2017.py

With a config: the columns of `train` and of `transfer`, as the progressive method would join them.
"""

from collections.abc import Sequence

from ml_collections import config_dict

from environments import core
from experiments import binary
from experiments.report import network_table
from experiments.setup import configuration
from experiments.store import released
from progressive import network


def from_config(config: config_dict.ConfigDict) -> network.NetworkSpec:
  """The columns of `train` and `transfer` of a config; the first alone if it has no second."""
  columns = []
  for phase, world, options in (("train", "world", "world_options"), ("transfer", "target", "target_options")):
    if phase in config:
      name = config[world] if not config[world].startswith("arm://") else config.world
      place = configuration.make_world(name, config[options])
      num_choices = core.num_choices(place.action_spec())
      columns.append(configuration.make_column(config[phase].column, place.observation_spec(), num_choices))
  return network.NetworkSpec(tuple(columns))


def main(argv: Sequence[str]) -> None:
  """Entry point."""
  del argv
  if binary.SOURCE.value and binary.CONFIG.present:
    raise ValueError(f"--source={binary.SOURCE.value} and --config are two networks; give one of them")
  if binary.SOURCE.value:
    print(network_table.table(released.load_source(binary.SOURCE.value).spec))
  else:
    print(network_table.table(from_config(binary.config())))


if __name__ == "__main__":
  binary.run(main, reads=(binary.CONFIG, binary.SOURCE))
