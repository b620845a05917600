"""One column: a small graph of named layers, h_i = f(W_i h_{i-1} + b_i), from named inputs to the linear `output`.

A layer names what it reads: inputs of the column or layers listed before it. The layer determines how several inputs
are joined (`layers`). Raw inputs pass through no activation; `output` (policy logits of all heads, then the value) is
linear. Contributions of other columns arrive as `laterals`: terms added to a layer before its activation.
"""

import dataclasses
import functools
import types
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from progressive import layers as layers_lib

Params = Mapping[str, Any]  # layer -> {"kernel", "bias", ...}; laterals live beside them, see `network`.
State = Mapping[str, Any]  # Recurrent layer -> its state.

OUTPUT = "output"


@dataclasses.dataclass(frozen=True)
class Column:
  """`inputs`: ((name, shape of one step), ...); `layers`: ordered so that each reads only earlier ones."""

  inputs: tuple[tuple[str, layers_lib.Shape], ...]
  layers: tuple[layers_lib.Layer, ...]

  def __post_init__(self) -> None:
    """Refuses a graph that cannot be built; the message names the layer, the shapes and the fix."""
    if not isinstance(self.layers, tuple) or not all(isinstance(layer, layers_lib.Layer) for layer in self.layers):
      raise ValueError(f"layers must be a tuple of layers, of one (layer,), not {self.layers!r}.")
    if not isinstance(self.inputs, tuple) or not all(isinstance(x, tuple) and len(x) == 2 for x in self.inputs):
      raise ValueError(f"inputs must be ((name, shape), ...), of one (('x', (3,)),), not {self.inputs!r}.")
    for layer in self.layers:
      layer.check()
      _check_hash(f"Layer {layer.name!r}", layer)
    _check_hash("Column", self)
    _check_graph(self)
    shapes(self)
    for layer in self.layers:
      if not type(layer).__module__.startswith(layers_lib.__name__):
        _check_own(layer, input_shape(self, layer))

  @property
  def input_shapes(self) -> dict[str, layers_lib.Shape]:
    return dict(self.inputs)

  def layer(self, name: str) -> layers_lib.Layer:
    """The layer called `name`; KeyError where there is none."""
    return by_name(self)[name]


@functools.cache
def by_name(spec: Column) -> Mapping[str, layers_lib.Layer]:
  """name -> layer"""
  return types.MappingProxyType({layer.name: layer for layer in spec.layers})


@functools.cache
def shapes(spec: Column) -> Mapping[str, layers_lib.Shape]:
  """name -> shape of one step, of every input and every layer."""
  known = dict(spec.inputs)
  for layer in spec.layers:
    known[layer.name] = layer.shape(layer.join_shapes([known[name] for name in layer.inputs]))
  return types.MappingProxyType(known)


def input_shape(spec: Column, layer: layers_lib.Layer) -> layers_lib.Shape:
  """Shape of the joined inputs of `layer`."""
  return layer.join_shapes([shapes(spec)[name] for name in layer.inputs])


def init(key: jax.Array, spec: Column) -> dict[str, dict[str, Any]]:
  """The column's own weights, initialised by each layer; the output's kernel is scaled by `output_scale`."""
  keys = jax.random.split(key, len(spec.layers))
  params = {x.name: x.init(k, input_shape(spec, x)) for k, x in zip(keys, spec.layers, strict=True)}
  params[OUTPUT]["kernel"] = output_scale(spec.layer(OUTPUT)) * params[OUTPUT]["kernel"]
  return params


def output_scale(layer: layers_lib.Layer) -> jax.Array:
  """Initial scale of kernels into `layer`: 0.1 for the output, so that the first policy is nearly uniform."""
  return jnp.float32(0.1 if layer.name == OUTPUT else 1.0)


def initial_state(spec: Column) -> dict[str, Any]:
  """Recurrent layer -> its state before the first step, unbatched."""
  return {layer.name: layer.initial_state() for layer in spec.layers if layer.is_recurrent}


def apply(
  params: Params,
  spec: Column,
  *,
  inputs: Mapping[str, jax.Array],
  state: State,
  is_first: jax.Array | None,
  laterals: Mapping[str, Sequence[jax.Array]],
  additions: Mapping[str, jax.Array],
  known: Mapping[str, jax.Array],
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
  """(name -> activations `[T, ...]` of every layer, state after the last step) of T steps, or of T examples.

  Args:
    params, spec, state: of this column.
    inputs: name -> `[T, ...]`, uint8 pixels (scaled by 1/255) or numbers.
    is_first: bool `[T]`, True where the state is reset before that step is consumed; None without recurrent layers.
    laterals: layer -> terms of its pre-activation's shape (an LSTM's 4 D gates), added in the order given.
    additions: layer -> a term of its activations' shape, added to all that others read of it (not to an LSTM's carry).
    known: layer -> its activations (without `additions`), if they were computed before; gradients stay the same.
  """
  read = {name: inputs[name] for name in spec.input_shapes}
  next_state = {}
  for layer in spec.layers:
    name = layer.name
    unroll = functools.partial(layer.recall, known[name]) if name in known else layer.unroll
    read[name], after = unroll(
      params[name],
      layer.join([read[each] for each in layer.inputs]),
      terms=laterals.get(name, ()),
      state=state.get(name),
      is_first=is_first,
    )
    if layer.is_recurrent:
      next_state[name] = after
    if name in additions:
      chex.assert_equal_shape([read[name], additions[name]])
      read[name] = read[name] + additions[name]
  return {layer.name: read[layer.name] for layer in spec.layers}, next_state


def alone(params: Params, spec: Column, *, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Pre-activations `[T, ...]` of every layer of a column without a state, as if it read no other column."""
  known, before = {name: inputs[name] for name in spec.input_shapes}, {}
  for layer in spec.layers:
    assert isinstance(layer, layers_lib.Activated)
    before[layer.name] = layer.pre_activation(params[layer.name], layer.join([known[read] for read in layer.inputs]))
    known[layer.name] = layer.activate(before[layer.name])
  return before


def _check_hash(what: str, spec: Any) -> None:
  """Refuses a list where a tuple belongs: specs are static arguments of compiled functions."""
  try:
    hash(spec)
  except TypeError as error:
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec) if field.compare}
    lists = ", ".join(f"{name}={value!r}" for name, value in values.items() if not isinstance(value, Hashable))
    raise ValueError(f"{what}: {lists or spec} cannot be hashed ({error}); give tuples.") from error


def _check_own(layer: layers_lib.Layer, read: layers_lib.Shape) -> None:
  """Refuses a user's layer that fails on two steps, or returns a shape other than what `shape` says."""

  def play(params: Params, x: jax.Array) -> jax.Array:
    return layer.unroll(params, x, terms=(), state=layer.initial_state(), is_first=jnp.zeros(len(x), bool))[0]

  params = jax.eval_shape(lambda key: layer.init(key, read), jax.random.key(0))
  x = jax.ShapeDtypeStruct((2, *read), jnp.float32)
  call = "step" if layer.is_recurrent else "apply"
  try:
    made = jax.eval_shape(play, params, x)
  except (TypeError, ValueError) as error:
    given = "(params, state, gates, recurrent)" if layer.is_recurrent else "(params, x, terms=())"
    raise ValueError(f"Layer {layer.name!r}: {call}{given} fails for x {x.shape}: {error}") from error
  if jnp.shape(made) != (2, *(shape := layer.shape(read))):
    raise ValueError(
      f"Layer {layer.name!r}: {call} gives {jnp.shape(made)} for x {x.shape}, and shape says {shape} a step; make both "
      f"alike."
    )


def _check_graph(spec: Column) -> None:
  names = [name for name, _ in spec.inputs]
  for name, shape in spec.inputs:
    is_size = isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)
    if not is_size or len(shape) not in (1, 3):  # (3.0,) equals (3,), and would be mistaken for it from then on.
      raise ValueError(f"Input {name!r} has shape {shape}; give (D,) or (H, W, C) with ints of at least 1.")
  for layer in spec.layers:
    for name in layer.inputs:
      if name not in names:
        raise ValueError(f"Layer {layer.name!r} reads {name!r}, which is none of the inputs or earlier layers {names}.")
    if len(set(layer.inputs)) < len(layer.inputs):
      raise ValueError(f"Layer {layer.name!r} reads {layer.inputs}: give each once.")
    names.append(layer.name)
  if strange := [name for name in names if not isinstance(name, str)]:
    raise ValueError(f"Names {strange} are no strings; name inputs and layers by strings.")
  if len(set(names)) != len(names):
    repeated = sorted({name for name in names if names.count(name) > 1})
    raise ValueError(f"Names {repeated} are used twice among inputs and layers {names}; names must differ.")
  last = spec.layers[-1] if spec.layers else None
  if last is None or last.name != OUTPUT or not last.is_linear:
    raise ValueError(f"The last layer must be Dense({OUTPUT!r}, ..., activation=None), not {last}.")
  read = {name for layer in spec.layers for name in layer.inputs}
  unread = [name for name in names if name not in read and name != OUTPUT]
  if unread:
    raise ValueError(f"Nothing reads {unread}; let a layer read them or leave them out.")
