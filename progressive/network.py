"""A progressive network: columns that grow one a task, each reading every earlier one (Rusu et al. 2016).

    h_i^(k) = f(W_i^(k) h_{i-1}^(k) + sum_{j<k} lateral_i^(k:j)(h_{i-1}^(j)))

The wiring, found by `sources` and by nothing else. A layer reads, in every earlier column, what lies directly below
its namesake there. Without a namesake it reads the counterparts of the layers that it reads in its own column: the
namesake of each or, failing that, the layers as many steps away from the output. An LSTM also reads its counterpart
LSTM (same time step). Raw inputs are never read, and a layer that reads nothing but raw inputs is the h_1 of its
column and has no laterals (`output` excepted). A layer's own `sources` replace all this; `laterals=None` switches it
off. An adapter is as wide as what its layer reads in its own column: the features (channels of maps) of the layers
it reads, summed; the layer's own features where it reads raw inputs alone.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from progressive import column, lateral

ColumnParams = dict[str, dict[str, Any]]  # layer -> {"kernel", ..., "laterals": {"column_0": {source: {...}}}}
Params = tuple[ColumnParams, ...]
State = tuple[column.State, ...]
Activations = tuple[dict[str, jax.Array], ...]

OUTPUT_INITS = ("previous", "random")


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
  """Columns in the order in which they were learned; the last one answers."""

  columns: tuple[column.ColumnSpec, ...]

  def __post_init__(self) -> None:
    """Refuses laterals that cannot be built; the message names the layer, the shapes and the fix."""
    if not self.columns:
      raise ValueError("A network needs at least one column.")
    input_shapes: dict[str, column.Shape] = {}
    for k, column_spec in enumerate(self.columns):
      for name, shape in column_spec.inputs:
        if input_shapes.setdefault(name, shape) != shape:
          raise ValueError(f"Column {k} reads input {name!r} as {shape}, an earlier one as {input_shapes[name]}.")
      for layer in column_spec.layers:
        _check_sources(self, k, layer)
    wiring(self)


def input_names(spec: NetworkSpec) -> tuple[str, ...]:
  """Every observation that some column reads, in order of first use."""
  return tuple(dict.fromkeys(name for column_spec in spec.columns for name, _ in column_spec.inputs))


def layers(spec: NetworkSpec) -> tuple[column.Source, ...]:
  """(column, layer name) of every layer, in the order in which they are computed."""
  return tuple((k, layer.name) for k, column_spec in enumerate(spec.columns) for layer in column_spec.layers)


def sources(spec: NetworkSpec, k: int, layer: column.AnyLayer) -> tuple[column.Source, ...]:
  """The (column, layer name) pairs that `layer` of column `k` reads, newest column first, by the rule above."""
  own_layers = _layers_read(spec.columns[k], layer)
  if layer.laterals is None:
    return ()
  if layer.sources is not None:
    return tuple(sorted(layer.sources, key=lambda source: -source[0]))
  if not own_layers and layer.name != column.OUTPUT:
    return ()
  found: list[column.Source] = []
  for j in reversed(range(k)):
    earlier = spec.columns[j]
    namesake = _by_name(earlier).get(layer.name)
    if namesake is not None:
      below = _layers_read(earlier, namesake)
    else:
      below = tuple(name for own in own_layers for name in _counterparts(earlier, spec.columns[k], own))
    if isinstance(layer, column.LSTM):
      twins = _counterparts(earlier, spec.columns[k], layer.name)
      below += tuple(name for name in twins if isinstance(earlier.layer(name), column.LSTM))
    found.extend((j, name) for name in below)
  return tuple(dict.fromkeys(found))


@functools.cache
def wiring(spec: NetworkSpec) -> tuple[tuple[tuple[str, tuple[lateral.Connection, ...]], ...], ...]:
  """For each column ((layer name, its connections), ...), newest source column first."""
  return tuple(
    tuple(
      (layer.name, tuple(_connection(spec, k, layer, source) for source in sources(spec, k, layer)))
      for layer in column_spec.layers
    )
    for k, column_spec in enumerate(spec.columns)
  )


def init(key: jax.Array, spec: NetworkSpec, *, alpha: float = 1.0) -> Params:
  """All columns and laterals at random."""
  keys = jax.random.split(key, len(spec.columns))
  return tuple(_init_column(k, spec, index, alpha=alpha) for index, k in enumerate(keys))


def grow(
  key: jax.Array, params: Params, spec: NetworkSpec, *, output_init: str = "previous", alpha: float = 1.0
) -> Params:
  """Adds the last column of `spec` to `params`, which has all the others and is passed on untouched.

  `output_init="previous"` (Rusu et al. 2017, section 4): the new network starts with exactly the outputs of the old
  one, policy and value. The own output kernel is zero; bias, output kernel and output laterals of the previous column
  are copied. All else is random. `output_init="random"` leaves the output random too.
  """
  if len(params) + 1 != len(spec.columns):
    raise ValueError(f"params has {len(params)} columns and spec {len(spec.columns)}; grow adds exactly one.")
  if output_init not in OUTPUT_INITS:
    raise ValueError(f"output_init={output_init!r} is not one of {OUTPUT_INITS}.")
  new = _init_column(key, spec, len(params), alpha=alpha)
  if output_init == "previous":
    new[column.OUTPUT] = _previous_output(params[-1][column.OUTPUT], new[column.OUTPUT], spec)
  return (*params, new)


def initial_state(spec: NetworkSpec) -> State:
  """The recurrent state before the first step, unbatched."""
  return tuple(column.initial_state(column_spec) for column_spec in spec.columns)


def apply(
  spec: NetworkSpec,
  params: Params,
  inputs: Mapping[str, jax.Array],
  state: State,
  is_first: jax.Array,
  *,
  additions: Mapping[column.Source, jax.Array] | None = None,
) -> tuple[Activations, State]:
  """Runs T steps of all columns.

  `inputs`: name -> `[T, ...]`, uint8 pixels (scaled by 1/255) or numbers (cast to float32); may hold more than is read.
  `state`: the recurrent state before the first step; zeroed wherever `is_first` (bool `[T]`) before that step.
  `additions`: (column, layer) -> a term `[T, ...]` added to that layer's activations, for every layer and column that
  reads them: noise, to see what depends on them (Rusu et al. 2016, appendix A), or zeros, to differentiate by them.
  Returns for each column {layer: activations `[T, ...]`}, the network's output being `[-1]["output"]`, and the state
  after the last step.
  """
  missing = [name for name in input_names(spec) if name not in inputs]
  if missing:
    raise ValueError(f"inputs lack {missing}, which the columns read; given: {sorted(inputs)}.")
  for column_spec in spec.columns:
    for name, shape in column_spec.inputs:
      chex.assert_shape(inputs[name], (is_first.shape[0], *shape))
  additions = additions or {}
  unknown = [place for place in additions if place not in layers(spec)]
  if unknown:
    raise ValueError(f"additions names {unknown}, which are no (column, layer) of this network: {layers(spec)}.")
  activations: list[dict[str, jax.Array]] = []
  next_state = []
  columns = zip(spec.columns, wiring(spec), params, state, strict=True)
  for k, (column_spec, connections, own, before) in enumerate(columns):
    laterals = {name: _terms(into, own[name], activations) for name, into in connections}
    added = {name: term for (j, name), term in additions.items() if j == k}
    here, after = column.apply(column_spec, own, inputs, before, is_first, laterals=laterals, additions=added)
    activations.append(here)
    next_state.append(after)
  return tuple(activations), tuple(next_state)


def _terms(
  connections: tuple[lateral.Connection, ...], layer_params: Mapping[str, Any], activations: list[dict[str, jax.Array]]
) -> tuple[jax.Array, ...]:
  terms = []
  for connection in connections:
    j, name = connection.source
    terms.append(lateral.apply(connection, layer_params["laterals"][f"column_{j}"][name], activations[j][name]))
  return tuple(terms)


def _init_column(key: jax.Array, spec: NetworkSpec, k: int, *, alpha: float) -> ColumnParams:
  own_key, lateral_key = jax.random.split(key)
  params: ColumnParams = {name: dict(layer) for name, layer in column.init(own_key, spec.columns[k]).items()}
  connections = [connection for _, into in wiring(spec)[k] for connection in into]
  keys = jax.random.split(lateral_key, max(len(connections), 1))
  for connection, connection_key in zip(connections, keys, strict=False):
    j, name = connection.source
    by_column = params[connection.layer.name].setdefault("laterals", {})
    by_column.setdefault(f"column_{j}", {})[name] = lateral.init(connection_key, connection, alpha=alpha)
  return params


def _previous_output(previous: Mapping[str, Any], new: Mapping[str, Any], spec: NetworkSpec) -> dict[str, Any]:
  """The new output layer such that it gives what the previous column's output layer gives."""
  k = len(spec.columns) - 1
  before, after = (spec.columns[i].layer(column.OUTPUT) for i in (k - 1, k))
  fix = "; give grow output_init='random', or change the layer."
  if previous["bias"].shape != new["bias"].shape:
    raise ValueError(
      f"Column {k}'s 'output' has {new['bias'].shape[0]} outputs and column {k - 1}'s {previous['bias'].shape[0]}: "
      f"it cannot start as the previous policy{fix}"
    )
  if after.laterals != "linear":
    raise ValueError(f"Column {k}'s 'output' has laterals={after.laterals!r}, but only linear ones can copy{fix}")
  read = {name: column.flat_size(column.shapes(spec.columns[k - 1])[name]) for name in before.inputs}
  copied: dict[str, dict[str, Any]] = {f"column_{k - 1}": {}}
  offset = 0
  for name, size in read.items():
    copied[f"column_{k - 1}"][name] = {"U": previous["kernel"][offset : offset + size]}
    offset += size
  copied |= previous.get("laterals", {})
  zeros = jax.tree.map(jnp.zeros_like, new.get("laterals", {}))
  unread = [
    (source, name) for source, by_name in copied.items() for name in by_name if name not in zeros.get(source, {})
  ]
  if unread:
    raise ValueError(f"Column {k}'s 'output' does not read {unread}, which column {k - 1}'s 'output' reads{fix}")
  if any("alpha" in params for by_name in copied.values() for params in by_name.values()):
    raise ValueError(f"Column {k - 1}'s 'output' has adapters, but only linear laterals can be copied{fix}")
  laterals = {source: {**by_name, **copied.get(source, {})} for source, by_name in zeros.items()}
  return {"kernel": jnp.zeros_like(new["kernel"]), "bias": previous["bias"], "laterals": laterals}


def _by_name(spec: column.ColumnSpec) -> dict[str, column.AnyLayer]:
  return {layer.name: layer for layer in spec.layers}


def _layers_read(spec: column.ColumnSpec, layer: column.AnyLayer) -> tuple[str, ...]:
  """What `layer` reads, raw inputs excluded."""
  return tuple(name for name in layer.inputs if name not in spec.input_shapes)


def _counterparts(earlier: column.ColumnSpec, spec: column.ColumnSpec, name: str) -> tuple[str, ...]:
  """The layer of `earlier` with the same name, or else those as many steps from the output as `name` is in `spec`."""
  if name in _by_name(earlier):
    return (name,)
  distance = _distances(spec)[name]
  return tuple(other for other, d in _distances(earlier).items() if d == distance)


def _distances(spec: column.ColumnSpec) -> dict[str, int]:
  """layer -> steps to the output along the longest path."""
  distances = {column.OUTPUT: 0}
  for layer in reversed(spec.layers):
    for name in _layers_read(spec, layer):
      distances[name] = max(distances.get(name, 0), distances[layer.name] + 1)
  return distances


def _connection(spec: NetworkSpec, k: int, layer: column.AnyLayer, source: column.Source) -> lateral.Connection:
  own = column.shapes(spec.columns[k])
  j, name = source
  width = sum(own[read][-1] for read in _layers_read(spec.columns[k], layer)) or own[layer.name][-1]
  connection = lateral.Connection(
    layer=layer, source=source, source_shape=column.shapes(spec.columns[j])[name], kind=str(layer.laterals), width=width
  )
  _check_map(connection, k, column.input_shape(spec.columns[k], layer), own[layer.name])
  return connection


def _check_map(connection: lateral.Connection, k: int, read: column.Shape, shape: column.Shape) -> None:
  """A convolution can only read maps, and U must give maps as large as the layer's own."""
  layer, source_shape = connection.layer, connection.source_shape
  if not isinstance(layer, column.Conv):
    return
  fits = len(source_shape) == 3 and shape == column.convolution.output_shape(
    source_shape, layer.kernel_size, layer.stride, layer.features
  )
  if not fits:
    j, name = connection.source
    raise ValueError(
      f"Column {k}, layer {layer.name!r}: its kernel {layer.kernel_size} with stride {layer.stride} makes {shape} from "
      f"its own input {read}, but not from {name!r} {source_shape} of column {j}; name other layers in its sources, "
      f"or give it laterals=None."
    )


def _check_sources(spec: NetworkSpec, k: int, layer: column.AnyLayer) -> None:
  for j, name in layer.sources or ():
    if not 0 <= j < k:
      raise ValueError(f"Column {k}, layer {layer.name!r}: sources names column {j}; it can read 0 to {k - 1}.")
    if name not in _by_name(spec.columns[j]):
      raise ValueError(
        f"Column {k}, layer {layer.name!r}: sources names {name!r}, which is no layer of column {j}; "
        f"it has {sorted(_by_name(spec.columns[j]))}."
      )
