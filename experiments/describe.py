"""Prints what a network is made of: layers, laterals and parameters of each column, with totals.

    python -m experiments.describe --source=experiments/released/jaco_corl2017
    python -m experiments.describe --config=experiments/configs/jaco_corl2017.py

With a config: the columns of `train` and of `transfer`, as the progressive method would join them.
"""

from collections.abc import Sequence

import numpy as np
from absl import flags
from ml_collections import config_dict

from environments import core
from experiments import binary, configuration, network_file, released
from progressive import column, network, partition

_SOURCE = flags.DEFINE_string("source", None, "Run directory or released network; empty: the config's.")


def table(spec: network.NetworkSpec) -> str:
  """Layers, what they read, laterals and parameters, as text."""
  rows = [("column", "layer", "reads", "shape", "laterals from", "own", "lateral")]
  params = network_file.params_like(spec)
  totals = []
  for k, (one, wiring) in enumerate(zip(spec.columns, network.wiring(spec), strict=True)):
    shapes = column.shapes(one)
    connections = dict(wiring)
    for layer in one.layers:
      own, lateral = _count(params[k][layer.name])
      names = [f"{c.source[0]}.{c.source[1]} ({c.kind})" for c in connections[layer.name]]
      shape = "x".join(map(str, shapes[layer.name]))
      kind = type(layer).__name__
      rows.append((str(k), f"{layer.name} ({kind})", ", ".join(layer.inputs), shape, ", ".join(names) or "-",
                   f"{own:,}", f"{lateral:,}"))  # fmt: skip
    totals.append((k, partition.count(params[k]), partition.count(params[k], include_alpha=True)))
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
  lines.insert(1, "  ".join("-" * width for width in widths))
  lines += ["", *(f"column {k}: {count:,} parameters, {with_alpha - count} alphas" for k, count, with_alpha in totals)]
  lines.append(f"total: {sum(count for _, count, _ in totals):,} parameters")
  return "\n".join(lines)


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
  if _SOURCE.value:
    print(table(released.load_source(_SOURCE.value).spec))
  else:
    print(table(from_config(binary.config())))


def _count(layer: dict) -> tuple[int, int]:
  """Parameters of a layer's own and of its laterals, alphas not counted."""
  own = sum(int(np.prod(leaf.shape)) for name, leaf in layer.items() if name != "laterals")
  return own, partition.count({"laterals": layer.get("laterals", {})})


if __name__ == "__main__":
  binary.run(main)
