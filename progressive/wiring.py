"""Which layers of earlier columns each layer reads.

In every earlier column, a layer reads what lies directly below its namesake, the layer of the same name. If the
namesake is a `LayerNorm` and the reading layer is not, it reads what lies below the layer that the `LayerNorm`
normalises. Without a namesake, the layer reads the counterparts of the layers that it reads in its own column. The
counterpart of a layer is its namesake or, failing that, the layers as many steps away from the output. A recurrent
layer also reads its recurrent counterpart (same time step). Raw inputs are never read. A layer that reads only raw
inputs is the h_1 of its column and has no laterals (`output` excepted). A layer's own `sources` replace this rule;
`laterals=None` switches it off. An adapter is as wide as what its layer reads in its own column: the summed features
(channels of maps) of the layers that it reads, or the layer's own features if it reads only raw inputs.
"""

import functools

from progressive import column, lateral, layers

Columns = tuple[column.Column, ...]  # In the order in which they were learned.


@functools.cache
def connections(columns: Columns) -> tuple[tuple[tuple[str, tuple[lateral.Connection, ...]], ...], ...]:
  """The connections of each column, ((layer name, its connections), ...), newest source column first.

  Raises:
    ValueError: if a lateral cannot be built, naming the layer, the shapes and the fix.
  """
  return tuple(
    tuple(
      (layer.name, tuple(_connection(columns, k, layer, source) for source in _sources(columns, k, layer)))
      for layer in columns[k].layers
    )
    for k in range(len(columns))
  )


def _sources(columns: Columns, k: int, layer: layers.Layer) -> tuple[layers.Source, ...]:
  """The (column, layer name) pairs that `layer` of column `k` reads, newest column first."""
  _check_sources(columns, k, layer)
  own_layers = _layers_read(columns[k], layer)
  if layer.laterals is None:
    return ()
  if layer.sources is not None:
    return tuple(sorted(layer.sources, key=lambda source: -source[0]))
  if not own_layers and layer.name != column.OUTPUT:
    return ()
  read: list[layers.Source] = []
  for j in reversed(range(k)):
    earlier = columns[j]
    namesake = column.by_name(earlier).get(layer.name)
    if isinstance(namesake, layers.LayerNorm) and not isinstance(layer, layers.LayerNorm):
      namesake = column.by_name(earlier).get(namesake.inputs[0], namesake)
    if namesake is not None:
      below = _layers_read(earlier, namesake)
    else:
      below = tuple(name for own in own_layers for name in _counterparts(earlier, columns[k], own))
    if layer.is_recurrent:
      twins = _counterparts(earlier, columns[k], layer.name)
      below += tuple(name for name in twins if earlier.layer(name).is_recurrent)
    read.extend((j, name) for name in below)
  return tuple(dict.fromkeys(read))


def _layers_read(spec: column.Column, layer: layers.Layer) -> tuple[str, ...]:
  """The layers that `layer` reads in its own column, raw inputs excluded."""
  return tuple(name for name in layer.inputs if name not in spec.input_shapes)


def _counterparts(earlier: column.Column, spec: column.Column, name: str) -> tuple[str, ...]:
  """The layer of `earlier` called `name`, or else those at the same distance from the output as `name` in `spec`."""
  if name in column.by_name(earlier):
    return (name,)
  distance = _distances(spec)[name]
  return tuple(other for other, d in _distances(earlier).items() if d == distance)


def _distances(spec: column.Column) -> dict[str, int]:
  """layer -> steps to the output along the longest path."""
  distances = {column.OUTPUT: 0}
  for layer in reversed(spec.layers):
    for name in _layers_read(spec, layer):
      distances[name] = max(distances.get(name, 0), distances[layer.name] + 1)
  return distances


def _connection(columns: Columns, k: int, layer: layers.Layer, source: layers.Source) -> lateral.Connection:
  own, (j, name) = column.shapes(columns[k]), source
  if layer.laterals == "blind" and j == 0:
    _check_blind(columns, k, layer, name)
  connection = lateral.Connection(
    layer=layer,
    read=column.input_shape(columns[k], layer),
    source=source,
    source_shape=column.shapes(columns[j])[name],
    kind=str(layer.laterals),
    width=sum(own[read][-1] for read in _layers_read(columns[k], layer)) or own[layer.name][-1],
  )
  try:
    connection.kernel_shape  # noqa: B018
  except ValueError as error:
    raise ValueError(
      f"Column {k}, layer {layer.name!r} cannot read {name!r} {connection.source_shape} of column {j}: {error}; name "
      f"other layers in its sources, or give it laterals=None."
    ) from error
  return connection


def _check_blind(columns: Columns, k: int, layer: layers.Layer, name: str) -> None:
  """The receiving column must be able to stand in for column 0."""
  own, there = (column.shapes(columns[i]).get(name) for i in (k, 0))
  fix = 'give it laterals="linear"'
  if own != there:
    raise ValueError(
      f"Column {k}, layer {layer.name!r} is blind to column 0, whose {name!r} is {there} and its own {own}; {fix}."
    )
  stateful = [one.name for one in columns[k].layers if one.is_recurrent or not isinstance(one, layers.Activated)]
  if stateful:
    raise ValueError(
      f"Column {k}, layer {layer.name!r} is blind to column 0, but its own {stateful} have no activation that could be "
      f"left out; {fix}."
    )


def _check_sources(columns: Columns, k: int, layer: layers.Layer) -> None:
  if layer.sources and layer.laterals is None:
    raise ValueError(f"Column {k}, layer {layer.name!r}: sources={layer.sources} without laterals; give it some.")
  if len(set(layer.sources or ())) < len(layer.sources or ()):  # Both entries would share one set of parameters.
    raise ValueError(f"Column {k}, layer {layer.name!r}: sources={layer.sources} names a layer twice; name it once.")
  if not all(isinstance(source, tuple) and len(source) == 2 for source in layer.sources or ()):
    raise ValueError(f"Column {k}, layer {layer.name!r}: sources={layer.sources}; give ((column, layer), ...).")
  for j, name in layer.sources or ():
    if not 0 <= j < k:
      raise ValueError(f"Column {k}, layer {layer.name!r}: sources names column {j}; it can read 0 to {k - 1}.")
    if name not in column.by_name(columns[j]):
      raise ValueError(
        f"Column {k}, layer {layer.name!r}: sources names {name!r}, which is no layer of column {j}; "
        f"it has {sorted(column.by_name(columns[j]))}."
      )
