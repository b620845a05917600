"""A progressive network: each task adds a column, which reads every earlier column (Rusu et al. 2016).

    h_i^(k) = f(W_i^(k) h_{i-1}^(k) + sum_{j<k} lateral_i^(k:j)(h_{i-1}^(j)))

`wiring` is the rule by which layers read earlier columns.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from progressive import column, lateral, layers, partition, wiring

ColumnParams = dict[str, dict[str, Any]]  # layer -> {"kernel", ..., "laterals": {"column_0": {source: {...}}}}
Params = tuple[ColumnParams, ...]
State = tuple[column.State, ...]
Activations = tuple[dict[str, jax.Array], ...]

OUTPUT_INITS = ("previous", "random", "copy")


@dataclasses.dataclass(frozen=True)
class Network:
  """Columns in the order in which they were learned; the last one gives the outputs."""

  columns: tuple[column.Column, ...]

  def __post_init__(self) -> None:
    """Refuses laterals that cannot be built; the message names the layer, the shapes and the fix."""
    if not self.columns:
      raise ValueError("A network needs at least one column.")
    if not isinstance(self.columns, tuple):
      raise ValueError(f"columns must be a tuple, of one column (column,), not a {type(self.columns).__name__}.")
    input_shapes: dict[str, layers.Shape] = {}
    for k, column_spec in enumerate(self.columns):
      for name, shape in column_spec.inputs:
        if input_shapes.setdefault(name, shape) != shape:
          raise ValueError(
            f"Column {k} reads input {name!r} as {shape}, an earlier one as {input_shapes[name]}; all columns see "
            f"the same inputs: grow on a network that reads it so, or call it otherwise."
          )
    wiring.connections(self.columns)


def input_names(spec: Network) -> tuple[str, ...]:
  """Every observation that some column reads, in order of first use."""
  return tuple(dict.fromkeys(name for column_spec in spec.columns for name, _ in column_spec.inputs))


def layer_names(spec: Network) -> tuple[layers.Source, ...]:
  """(column, layer name) of every layer, in the order in which they are computed."""
  return tuple((k, layer.name) for k, column_spec in enumerate(spec.columns) for layer in column_spec.layers)


def init(key: jax.Array, spec: Network, *, alpha: float = 1.0) -> Params:
  """Initialises all columns and laterals at random; adapters' scales start at `alpha` (see `lateral.init`)."""
  keys = jax.random.split(key, len(spec.columns))
  return tuple(_init_column(k, spec, index, alpha=alpha) for index, k in enumerate(keys))


def grow(key: jax.Array, params: Params, *, spec: Network, output_init: str = "previous", alpha: float = 1.0) -> Params:
  """Adds the last column of `spec` to `params`, which has all the other columns and is passed on unchanged.

  With `output_init="previous"` (Rusu et al. 2017, section 4), the new network starts with exactly the outputs of the
  old one, policy and value (up to rounding, if the output layer reads several layers). The new `output` must have
  `laterals="linear"` and read what the old one reads. The new column's own output kernel is zero; bias, output kernel
  and output laterals of the previous column are copied. All else is random. With `output_init="random"` the output is
  random too. With `output_init="copy"`, which no paper has, the network also starts with exactly the old outputs, but
  by the new column's own path. The new column is a copy of the previous one, which must have the same layers and read
  no earlier column. The U of every lateral is zero. The new column goes on learning to see from what has been learned,
  as in finetuning, and the old column stays.

  The new column shares no buffer with the old ones, so its parameters may be donated to a step that learns it.
  """
  if len(params) + 1 != len(spec.columns):
    raise ValueError(f"params has {len(params)} columns and spec {len(spec.columns)}; grow adds exactly one.")
  check_params(params, Network(spec.columns[:-1]))
  if output_init not in OUTPUT_INITS:
    raise ValueError(f"output_init={output_init!r} is not one of {OUTPUT_INITS}.")
  new = _init_column(key, spec, len(params), alpha=alpha)
  if output_init == "previous":
    new[column.OUTPUT] = _previous_output(params[-1][column.OUTPUT], new[column.OUTPUT], spec)
  elif output_init == "copy":
    new = _copy(params[-1], new, spec)
  return (*params, jax.tree.map(jnp.array, new))


def initial_state(spec: Network, *, batch_shape: tuple[int, ...] = ()) -> State:
  """The recurrent state before the first step, every leaf `[*batch_shape, ...]`."""
  state = tuple(column.initial_state(column_spec) for column_spec in spec.columns)
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch_shape, *x.shape)), state)


def apply(
  params: Params,
  spec: Network,
  *,
  inputs: Mapping[str, jax.Array],
  state: State | None = None,
  is_first: jax.Array | None = None,
  additions: Mapping[layers.Source, jax.Array] | None = None,
  known: Activations | None = None,
) -> tuple[Activations, State]:
  """Runs all columns on examples or, if a `state` is given, on sequences.

  Without a state, every axis before an input's own shape is an axis of examples: `[...]`, `[B, ...]`, `[A, B, ...]`.
  With a state, the first axis is time and all others are examples: `[T, ...]`, `[T, B, ...]`. Recurrent layers need a
  state. The function has reverse-mode gradients, `jax.grad` and `jax.vjp`; `jax.jvp` does not go through convolutions
  and recurrent layers.

  Args:
    params, spec: of the network.
    inputs: name -> pixels, uint8 (scaled by 1/255), or numbers (cast to float32); may hold more than is read.
    state: the recurrent state before the first step, leaves `[...]` or `[B, ...]`: see `initial_state`.
    is_first: bool `[T]` or `[T, B]`, True where the state is reset before that step; None means nowhere.
    additions: (column, layer) -> a term added to that layer's activations, for every layer and column that reads them:
      noise, to see what depends on them (Rusu et al. 2016, appendix A), or zeros, to differentiate by these terms.
    known: activations that this function returned for the same parameters and inputs, of all layers or some. Only what
      gradients need is computed again. Outputs and gradients stay the same, but second derivatives do not. It cannot be
      combined with `additions`.

  Returns:
    For each column {layer: activations}, with the axes of `inputs`, and the state after the last step. The network's
    output is `[-1]["output"]` of the activations.

  Raises:
    ValueError: if parameters or state belong to another network (it names the layer and both shapes), or if inputs are
      missing or have other shapes.
  """
  check_params(params, spec)
  inputs, leading = _check_inputs(spec, inputs)
  additions, known = dict(additions or {}), tuple(known or ({},) * len(spec.columns))
  _check_additions(spec, additions, leading)
  if additions and any(known):
    raise ValueError("known activations are without additions; give one of both.")
  _check_known(spec, known, leading)
  run = functools.partial(_run, params, spec)
  if state is None:
    state = _no_state(spec, is_first)
    inputs, additions, known = jax.tree.map(
      lambda x: x.reshape(math.prod(leading), *x.shape[len(leading) :]), (inputs, additions, known)
    )
    activations, state = run(inputs, state, None, additions, known)
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), activations), state
  is_first = _check_time(spec, state, is_first, leading)
  num = math.prod(leading[1:])  # Examples in one axis, as recurrent layers require.
  inputs, is_first, additions, known = jax.tree.map(
    lambda x: x.reshape(leading[0], num, *x.shape[len(leading) :]), (inputs, is_first, additions, known)
  )
  state = jax.tree.map(lambda x: x.reshape(num, *x.shape[len(leading) - 1 :]), state)
  run = jax.vmap(run, in_axes=(1, 0, 1, 1, 1), out_axes=(1, 0))
  activations, state = run(inputs, state, is_first, additions, known)
  return (
    jax.tree.map(lambda x: x.reshape(*leading, *x.shape[2:]), activations),
    jax.tree.map(lambda x: x.reshape(*leading[1:], *x.shape[1:]), state),
  )


def check_params(params: Params, spec: Network) -> None:
  """Refuses parameters of another network; under `jit` this costs nothing at run time, because shapes are static.

  Raises:
    ValueError: naming the first array that differs, and both shapes.
  """
  if len(params) != len(spec.columns):
    raise ValueError(
      f"params has {len(params)} columns and spec {len(spec.columns)}; give the parameters of this spec."
    )
  _check_shapes("params", params, params_like(spec))


def _run(
  params: Params,
  spec: Network,
  inputs: Mapping[str, jax.Array],
  state: State,
  is_first: jax.Array | None,
  additions: Mapping[layers.Source, jax.Array],
  known: Activations,
) -> tuple[Activations, State]:
  """`apply` with one leading axis: T steps, or T examples."""
  activations: list[dict[str, jax.Array]] = []
  next_state = []
  for k, (column_spec, connections) in enumerate(zip(spec.columns, wiring.connections(spec.columns), strict=True)):
    is_blind = any(connection.reads_itself for _, into in connections for connection in into)
    alone = column.alone(params[k], column_spec, inputs=inputs) if is_blind else {}
    here, after = column.apply(
      params[k],
      column_spec,
      inputs=inputs,
      state=state[k],
      is_first=is_first,
      laterals={name: _terms(into, params[k][name], activations, alone) for name, into in connections},
      additions={name: term for (j, name), term in additions.items() if j == k},
      known=known[k],
    )
    activations.append(here)
    next_state.append(after)
  return tuple(activations), tuple(next_state)


def _check_inputs(spec: Network, inputs: Mapping[str, jax.Array]) -> tuple[dict[str, jax.Array], tuple[int, ...]]:
  """(the inputs that are read, the axes before their own shapes)."""
  missing = [name for name in input_names(spec) if name not in inputs]
  if missing:
    raise ValueError(f"inputs lack {missing}, which the columns read; given: {sorted(inputs)}.")
  shapes = {name: shape for column_spec in spec.columns for name, shape in column_spec.inputs}
  first = next(iter(shapes))
  leading = jnp.shape(inputs[first])[: jnp.ndim(inputs[first]) - len(shapes[first])]
  for name, shape in shapes.items():
    if jnp.shape(inputs[name]) != (*leading, *shape):
      raise ValueError(
        f"Input {name!r} has shape {jnp.shape(inputs[name])}, not {(*leading, *shape)}: the column reads {shape}"
        f"{f', and the axes before it are those of {first!r}' if name != first else ''}."
      )
  return {name: jnp.asarray(inputs[name]) for name in shapes}, leading


def _check_additions(spec: Network, additions: Mapping[layers.Source, jax.Array], leading: tuple[int, ...]) -> None:
  unknown = [place for place in additions if place not in layer_names(spec)]
  if unknown:
    raise ValueError(f"additions names {unknown}, which are no (column, layer) of this network: {layer_names(spec)}.")
  for (k, name), x in additions.items():
    if jnp.shape(x) != (shape := (*leading, *column.shapes(spec.columns[k])[name])):
      raise ValueError(f"The addition to column {k}, {name!r} has shape {jnp.shape(x)}, its activations {shape}.")


def _check_known(spec: Network, known: Activations, leading: tuple[int, ...]) -> None:
  """Refuses activations of another network or of other steps."""
  if len(known) != len(spec.columns):
    raise ValueError(f"known is of {len(known)} columns and the network has {len(spec.columns)}; give {{}} for others.")
  for k, of_column in enumerate(known):
    for name, x in of_column.items():
      shape = column.shapes(spec.columns[k]).get(name) if (k, name) in layer_names(spec) else None
      if shape is None or jnp.shape(x) != (*leading, *shape):
        expected = "no layer of it" if shape is None else f"{(*leading, *shape)} there"
        raise ValueError(f"known of another network: column {k}, {name!r} is {jnp.shape(x)} and {expected}.")


def _no_state(spec: Network, is_first: jax.Array | None) -> State:
  recurrent = [place for place in layer_names(spec) if spec.columns[place[0]].layer(place[1]).is_recurrent]
  if recurrent or is_first is not None:
    why = f"{recurrent} carry a state" if recurrent else "is_first speaks of time"
    raise ValueError(f"{why}: give apply a state, initial_state(spec, batch_shape=...), and inputs [T, ...].")
  return initial_state(spec)


def _check_time(spec: Network, state: State, is_first: jax.Array | None, leading: tuple[int, ...]) -> jax.Array:
  if not leading:
    raise ValueError("A state is given, but the inputs have no axis of time; give inputs [T, ...] or no state.")
  like = jax.eval_shape(lambda: initial_state(spec, batch_shape=leading[1:]))
  has, needs = (jax.tree.map(jnp.shape, one) for one in (state, like))
  if has != needs and has == jax.tree.map(jnp.shape, initial_state(spec)):
    raise ValueError(
      f"The state is of one sequence, the inputs of {leading[1:]} after their axis of time; give "
      f"initial_state(spec, batch_shape={leading[1:]})."
    )
  _check_shapes("state", state, like)
  is_first = jnp.zeros(leading, bool) if is_first is None else is_first
  if jnp.shape(is_first) != leading:
    raise ValueError(f"is_first has shape {jnp.shape(is_first)} and the inputs' axes of time and examples {leading}.")
  if not jnp.issubdtype(jnp.result_type(is_first), bool):
    raise ValueError(f"is_first is {jnp.result_type(is_first)}, not bool; give step_type == FIRST.")
  return is_first


def _check_shapes(what: str, given: Any, like: Any) -> None:
  """Both trees must have the same arrays."""
  shapes = [dict(zip(partition.paths(x), map(jnp.shape, jax.tree.leaves(x)), strict=True)) for x in (given, like)]
  for path in {**shapes[1], **shapes[0]}:
    have, want = (x[path] if path in x else "nothing" for x in shapes)
    if have != want:
      k, *names = path
      raise ValueError(
        f"{what} of another network: column {k}, {'/'.join(map(str, names))} is {have} and in spec {want}; give the "
        f"{what} of this spec."
      )


@functools.cache
def params_like(spec: Network) -> Params:
  """Shapes and dtypes of the network's parameters, without making any."""
  return jax.eval_shape(lambda: init(jax.random.key(0), spec))


def _terms(
  connections: tuple[lateral.Connection, ...],
  layer_params: Mapping[str, Any],
  activations: list[dict[str, jax.Array]],
  alone: Mapping[str, jax.Array],
) -> tuple[jax.Array, ...]:
  terms = []
  for connection in connections:
    j, name = connection.source
    own = layer_params["laterals"][f"column_{j}"][name]
    terms.append(lateral.apply(own, connection, h=(alone if connection.reads_itself else activations[j])[name]))
  return tuple(terms)


def _init_column(key: jax.Array, spec: Network, k: int, *, alpha: float) -> ColumnParams:
  if not isinstance(alpha, jax.core.Tracer) and not 0 < alpha < math.inf:
    raise ValueError(f"alpha={alpha} must be a finite number > 0; an adapter that starts at 0 never learns.")
  own_key, lateral_key = jax.random.split(key)
  params: ColumnParams = {name: dict(layer) for name, layer in column.init(own_key, spec.columns[k]).items()}
  connections = [connection for _, into in wiring.connections(spec.columns)[k] for connection in into]
  keys = jax.random.split(lateral_key, max(len(connections), 1))
  for connection, connection_key in zip(connections, keys, strict=False):
    j, name = connection.source
    by_column = params[connection.layer.name].setdefault("laterals", {})
    by_column.setdefault(f"column_{j}", {})[name] = lateral.init(connection_key, connection, alpha=alpha)
  return params


def _copy(previous: ColumnParams, new: ColumnParams, spec: Network) -> ColumnParams:
  """The new column with parameters such that each of its layers gives what the previous column's layer gives."""
  k = len(spec.columns) - 1
  to_copy, fix = f"Column {k} is to start as a copy of column {k - 1}", "give grow output_init='previous' or 'random'."
  before, after = (
    (dict(one.inputs), tuple(dataclasses.replace(layer, laterals=None, sources=None) for layer in one.layers))
    for one in spec.columns[-2:]
  )
  if before != after:
    theirs, own = ({layer.name: layer for layer in one[1]} for one in (before, after))
    other = [name for name in {**theirs, **own} if theirs.get(name) != own.get(name)] or ["inputs"]
    raise ValueError(f"{to_copy}, but differs in {', '.join(other)}; make it of the same layers, or {fix}")
  if reads := [name for name, layer in previous.items() if "laterals" in layer]:
    raise ValueError(f"{to_copy}, which reads earlier columns in {', '.join(reads)}; {fix}")
  copied: ColumnParams = {}
  for name, layer in new.items():
    copied[name] = dict(previous[name])
    if "laterals" in layer:
      copied[name]["laterals"] = {
        source: {read: {**each, "U": jnp.zeros_like(each["U"])} for read, each in by_name.items()}
        for source, by_name in layer["laterals"].items()
      }
  return copied


def _previous_output(previous: Mapping[str, Any], new: Mapping[str, Any], spec: Network) -> dict[str, Any]:
  """The new output layer with parameters such that it gives what the previous column's output layer gives."""
  k = len(spec.columns) - 1
  before, after = (spec.columns[i].layer(column.OUTPUT) for i in (k - 1, k))
  random = "; give grow output_init='random'"
  fix = f"{random}, or change the layer."
  if previous["bias"].shape != new["bias"].shape:
    raise ValueError(
      f"Column {k}'s 'output' has {new['bias'].shape[0]} outputs and column {k - 1}'s {previous['bias'].shape[0]}: "
      f"it cannot start as the previous policy{fix}"
    )
  if after.laterals != "linear":
    linear = f"{random}, or the layer laterals='linear'."
    raise ValueError(f"Column {k}'s 'output' has laterals={after.laterals!r}, but only linear ones can copy{linear}")
  read = {name: math.prod(column.shapes(spec.columns[k - 1])[name]) for name in before.inputs}
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
  if before.laterals == "blind" and "laterals" in previous:
    raise ValueError(f"Column {k - 1}'s 'output' has blind laterals, but only linear ones can be copied{fix}")
  if any("alpha" in params for by_name in copied.values() for params in by_name.values()):
    raise ValueError(f"Column {k - 1}'s 'output' has adapters, but only linear laterals can be copied{fix}")
  laterals = {source: {**by_name, **copied.get(source, {})} for source, by_name in zeros.items()}
  return {"kernel": jnp.zeros_like(new["kernel"]), "bias": previous["bias"], "laterals": laterals}
