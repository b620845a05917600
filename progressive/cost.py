"""What a network is made of and what each column costs, as data: the table of Rusu et al. 2017, section 4, and more.

Parameters are counted on the shapes that `network.init` makes, so the report cannot drift from the network. FLOPs are
for one step forward, two for each multiply-add of a matrix product or convolution. They leave out biases, activations,
and what a column with blind laterals computes twice. FLOPs of a `Flax` layer are XLA's own count, which includes biases
and activations. The number of parameters grows with the square of the number of columns, because every column reads
every earlier one; the number of units grows linearly.
"""

import math
from typing import Any, NamedTuple

from progressive import column, lateral, layers, network, partition, wiring


class LateralReport(NamedTuple):
  """One lateral connection."""

  source: layers.Source  # (earlier column, its layer)
  kind: str  # "linear", "adapter" or "blind"
  width: int | None  # Of the adapter's projection; None if linear.
  num_parameters: int  # Without the adapter's scale.
  num_alphas: int  # 1 for an adapter, 0 for a linear connection.
  flops: int


class LayerReport(NamedTuple):
  """One layer: parameters and FLOPs are its own; `laterals` reports those of its laterals."""

  name: str
  kind: str  # The name of its class.
  inputs: tuple[str, ...]
  shape: layers.Shape  # Of its activations at one step.
  num_parameters: int
  flops: int
  laterals: tuple[LateralReport, ...]


class ColumnReport(NamedTuple):
  """One column with everything that arrived with it; the last three fields are its totals, laterals included."""

  inputs: tuple[tuple[str, layers.Shape], ...]
  layers: tuple[LayerReport, ...]
  num_parameters: int  # Without the adapters' scales: what the papers count.
  num_alphas: int
  flops: int  # Forward, one step. Earlier columns' outputs are counted, though a compiled network leaves them out.


def report(spec: network.Network) -> tuple[ColumnReport, ...]:
  """A report for each column."""
  every = zip(spec.columns, wiring.connections(spec.columns), network.params_like(spec), strict=True)
  return tuple(_column(column_spec, dict(connections), params) for column_spec, connections, params in every)


def _column(
  spec: column.Column, connections: dict[str, tuple[lateral.Connection, ...]], params: dict[str, Any]
) -> ColumnReport:
  reports = tuple(_layer(spec, layer, connections[layer.name], params[layer.name]) for layer in spec.layers)
  laterals = [connection for one in reports for connection in one.laterals]
  parts: tuple[LayerReport | LateralReport, ...] = (*reports, *laterals)
  return ColumnReport(
    inputs=spec.inputs,
    layers=reports,
    num_parameters=sum(part.num_parameters for part in parts),
    num_alphas=sum(connection.num_alphas for connection in laterals),
    flops=sum(part.flops for part in parts),
  )


def _layer(
  spec: column.Column, layer: layers.Layer, connections: tuple[lateral.Connection, ...], params: dict[str, Any]
) -> LayerReport:
  own = {name: array for name, array in params.items() if name != "laterals"}
  shape = column.shapes(spec)[layer.name]
  positions = math.prod(shape[:-1])  # A lateral's U is applied at each position of the map.
  laterals = tuple(
    _lateral(connection, params["laterals"][f"column_{connection.source[0]}"][connection.source[1]], positions)
    for connection in connections
  )
  flops = layer.flops(own, column.input_shape(spec, layer))
  return LayerReport(layer.name, type(layer).__name__, layer.inputs, shape, partition.count(own), flops, laterals)


def _lateral(connection: lateral.Connection, params: dict[str, Any], positions: int) -> LateralReport:
  flops = 2 * positions * params["U"].size
  if "V" in params:
    flops += 2 * math.prod(connection.source_shape[:-1]) * params["V"].size
  num_alphas = int("alpha" in params)
  return LateralReport(
    source=connection.source,
    kind=connection.kind,
    width=connection.width if connection.kind == "adapter" else None,
    num_parameters=partition.count(params) - num_alphas,
    num_alphas=num_alphas,
    flops=flops,
  )
