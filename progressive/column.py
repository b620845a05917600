"""One column: a small graph of named layers, h_i = f(W_i h_{i-1} + b_i), from named inputs to the linear `output`.

A layer names what it reads: inputs of the column or layers listed before it. Several names are concatenated: maps of
equal height and width along their channels for a `Conv`; for a `Dense` or an `LSTM` everything is flattened first.
Raw inputs pass through no activation; intermediate layers are ReLU; `output` (policy logits of all heads, then the
value) is linear. What other columns contribute arrives as `laterals`: terms added to a layer before its activation.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from progressive import convolution

Shape = tuple[int, ...]  # Of one time step: [D] or [H, W, C].
Params = Mapping[str, Any]  # layer -> {"kernel", "bias", ...}; laterals live beside them, see `network`.
Source = tuple[int, str]  # (earlier column, name of its layer)

OUTPUT = "output"
ACTIVATIONS = ("relu", None)
KERNEL_INITS = ("lecun", "contrast")
LATERALS = ("adapter", "linear", None)


@dataclasses.dataclass(frozen=True)
class Layer:
  """What all layers have: a name, what they read, and how they read earlier columns (`lateral`, `network`).

  `sources` replaces the layers of earlier columns that `network.sources` would find: ((column, layer name), ...).
  """

  name: str
  inputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
  """activation(W x + b) with `size` features."""

  size: int
  activation: str | None = "relu"
  laterals: str | None = "adapter"
  sources: tuple[Source, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
  """activation(W * x + b), VALID, with `features` maps; `kernel` is one size or (height, width).

  `kernel_init` "contrast" is for pictures that are mostly plain: every kernel sums to zero, so that a background of any
  brightness means nothing at first, and is four times LeCun's, as what pixels in [0, 1] differ by is a quarter or so.
  """

  features: int
  kernel: int | tuple[int, int]
  stride: int
  activation: str | None = "relu"
  laterals: str | None = "adapter"
  sources: tuple[Source, ...] | None = None
  kernel_init: str = "lecun"

  @property
  def kernel_size(self) -> tuple[int, int]:
    """(height, width)"""
    return (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel


@dataclasses.dataclass(frozen=True)
class LSTM(Layer):
  """Long short-term memory with one bias vector; gates in the order input, forget, cell, output."""

  size: int
  laterals: str | None = "linear"
  sources: tuple[Source, ...] | None = None


class LSTMState(NamedTuple):
  """What an LSTM carries from one step to the next."""

  cell: jax.Array  # [D] float32
  hidden: jax.Array  # [D] float32


AnyLayer = Dense | Conv | LSTM
State = Mapping[str, LSTMState]  # LSTM layer -> its state, unbatched.


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
  """`inputs`: ((name, shape of one step), ...); `layers` in an order in which each reads only earlier ones."""

  inputs: tuple[tuple[str, Shape], ...]
  layers: tuple[AnyLayer, ...]

  def __post_init__(self) -> None:
    """Refuses a graph that cannot be built; the message names the layer, the shapes and the fix."""
    _check_graph(self)
    shapes(self)

  @property
  def input_shapes(self) -> dict[str, Shape]:
    """name -> shape of one step"""
    return dict(self.inputs)

  def layer(self, name: str) -> AnyLayer:
    """The layer called `name`; KeyError where there is none."""
    return {layer.name: layer for layer in self.layers}[name]


@functools.cache
def _shapes(spec: ColumnSpec) -> tuple[tuple[str, Shape], ...]:
  known = dict(spec.inputs)
  for layer in spec.layers:
    known[layer.name] = _layer_shape(layer, known)
  return tuple(known.items())


def shapes(spec: ColumnSpec) -> dict[str, Shape]:
  """name -> shape of one step, of every input and every layer."""
  return dict(_shapes(spec))


def input_shape(spec: ColumnSpec, layer: AnyLayer) -> Shape:
  """Shape of what `layer` reads, concatenated: `[H, W, C]` for a `Conv`, `[D]` (flattened) for the others."""
  return _joined_shape(layer, [shapes(spec)[name] for name in layer.inputs])


def flat_size(shape: Shape) -> int:
  """Number of features of `shape`, flattened."""
  size = 1
  for dimension in shape:
    size *= dimension
  return size


def flatten(x: jax.Array) -> jax.Array:
  """`[T, ...]` -> `[T, D]`."""
  return x.reshape(x.shape[0], -1)


def convolve(x: jax.Array, kernel: jax.Array, layer: Conv) -> jax.Array:
  """`x` `[T, H, W, C]` under `kernel` with the stride of `layer`."""
  return convolution.conv(x, kernel, layer.stride)


def init(key: jax.Array, spec: ColumnSpec) -> dict[str, dict[str, jax.Array]]:
  """The column's own weights: LeCun-normal kernels and zero biases.

  Exceptions: a `Conv` may say otherwise; the output's kernel is ten times smaller (the first policy is nearly
  uniform); an LSTM's recurrent kernel is orthogonal per gate and its forget gate's bias 1 (Jozefowicz et al. 2015: it
  remembers at first).
  """
  keys = jax.random.split(key, len(spec.layers))
  return {
    layer.name: _init_layer(k, layer, input_shape(spec, layer)) for k, layer in zip(keys, spec.layers, strict=True)
  }


def output_scale(layer: AnyLayer) -> jax.Array:
  """What kernels into `layer` are multiplied by at first: 0.1 for the output, 1 for all others."""
  return jnp.float32(0.1 if layer.name == OUTPUT else 1.0)


def initial_state(spec: ColumnSpec) -> dict[str, LSTMState]:
  """Zeros for every LSTM."""
  zeros = {layer.name: jnp.zeros((layer.size,), jnp.float32) for layer in spec.layers if isinstance(layer, LSTM)}
  return {name: LSTMState(cell=z, hidden=z) for name, z in zeros.items()}


def apply(
  spec: ColumnSpec,
  params: Params,
  inputs: Mapping[str, jax.Array],
  state: State,
  is_first: jax.Array,
  *,
  laterals: Mapping[str, Sequence[jax.Array]],
  additions: Mapping[str, jax.Array],
) -> tuple[dict[str, jax.Array], dict[str, LSTMState]]:
  """Runs T steps: (name -> activations `[T, ...]` of every layer, state after the last step).

  `inputs`: name -> `[T, ...]`, uint8 pixels (scaled by 1/255) or numbers.
  `is_first` bool `[T]`: the state is zeroed before such a step is consumed.
  `laterals`: layer -> terms of its pre-activation's shape (4 D gates for an LSTM), added in the order given.
  `additions`: layer -> a term of its activation's shape, added to what all others see of it (not to an LSTM's carry).
  """
  chex.assert_rank(is_first, 1)
  known = {name: inputs[name] for name in spec.input_shapes}
  next_state = {}
  for layer in spec.layers:
    own, terms = params[layer.name], laterals.get(layer.name, ())
    x = _join(layer, [known[name] for name in layer.inputs])
    if isinstance(layer, LSTM):
      gates = _add(x @ own["input_kernel"], own["bias"], terms)
      known[layer.name], next_state[layer.name] = _unroll_lstm(
        own["recurrent_kernel"], gates, state[layer.name], is_first
      )
    else:
      y = convolve(x, own["kernel"], layer) if isinstance(layer, Conv) else x @ own["kernel"]
      y = _add(y, own["bias"], terms)
      known[layer.name] = jax.nn.relu(y) if layer.activation == "relu" else y
    if layer.name in additions:
      chex.assert_equal_shape([known[layer.name], additions[layer.name]])
      known[layer.name] = known[layer.name] + additions[layer.name]
  return {layer.name: known[layer.name] for layer in spec.layers}, next_state


def _add(y: jax.Array, bias: jax.Array, terms: Sequence[jax.Array]) -> jax.Array:
  y = y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
  for term in terms:
    chex.assert_equal_shape([y, term])
    y = y + term
  return y


def _join(layer: AnyLayer, xs: Sequence[jax.Array]) -> jax.Array:
  """What the layer reads as one array: float32, or uint8 where a convolution reads nothing but pixels."""
  if not (isinstance(layer, Conv) and all(x.dtype == jnp.uint8 for x in xs)):
    xs = [convolution.from_pixels(x) for x in xs]
  if not isinstance(layer, Conv):
    xs = [flatten(x) for x in xs]
  return xs[0] if len(xs) == 1 else jnp.concatenate(xs, axis=-1)


def _unroll_lstm(
  recurrent_kernel: jax.Array, gates: jax.Array, state: LSTMState, is_first: jax.Array
) -> tuple[jax.Array, LSTMState]:
  """Scans `[T, 4 D]` pre-activations that miss only the recurrent term -> (hidden `[T, D]`, last state)."""

  def step(carry: LSTMState, x: tuple[jax.Array, jax.Array]) -> tuple[LSTMState, jax.Array]:
    gates_t, is_first_t = x
    cell, hidden = (jnp.where(is_first_t, jnp.zeros_like(s), s) for s in carry)
    i, f, g, o = jnp.split(gates_t + hidden @ recurrent_kernel, 4)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return LSTMState(cell=cell, hidden=hidden), hidden

  last, hiddens = jax.lax.scan(step, state, (gates, is_first))
  return hiddens, last


def _init_layer(key: jax.Array, layer: AnyLayer, read: Shape) -> dict[str, jax.Array]:
  lecun = jax.nn.initializers.lecun_normal()
  if isinstance(layer, Conv):
    kernel = lecun(key, (*layer.kernel_size, read[-1], layer.features), jnp.float32)
    if layer.kernel_init == "contrast":
      kernel = 4.0 * (kernel - jnp.mean(kernel, axis=(0, 1, 2), keepdims=True))
    return {"kernel": kernel, "bias": jnp.zeros((layer.features,), jnp.float32)}
  if isinstance(layer, LSTM):
    input_key, recurrent_key = jax.random.split(key)
    orthogonal = jax.nn.initializers.orthogonal()
    gates = [orthogonal(k, (layer.size, layer.size), jnp.float32) for k in jax.random.split(recurrent_key, 4)]
    return {
      "input_kernel": lecun(input_key, (*read, 4 * layer.size), jnp.float32),
      "recurrent_kernel": jnp.concatenate(gates, axis=-1),
      "bias": jnp.zeros((4, layer.size), jnp.float32).at[1].set(1.0).reshape(-1),
    }
  return {
    "kernel": output_scale(layer) * lecun(key, (*read, layer.size), jnp.float32),
    "bias": jnp.zeros((layer.size,), jnp.float32),
  }


def _joined_shape(layer: AnyLayer, read: Sequence[Shape]) -> Shape:
  if not isinstance(layer, Conv):
    return (sum(flat_size(shape) for shape in read),)
  for name, shape in zip(layer.inputs, read, strict=True):
    if len(shape) != 3:
      raise ValueError(
        f"Layer {layer.name!r} is a convolution and cannot read {name!r} of shape {shape}: it needs [H, W, C]; "
        f"join {name!r} at a Dense or LSTM layer instead."
      )
    if shape[:2] != read[0][:2]:
      raise ValueError(
        f"Layer {layer.name!r} cannot join {layer.inputs[0]!r} {read[0]} and {name!r} {shape}: heights and widths "
        f"differ; join them at a Dense layer or match their strides."
      )
  return (*read[0][:2], sum(shape[2] for shape in read))


def _layer_shape(layer: AnyLayer, known: Mapping[str, Shape]) -> Shape:
  read = _joined_shape(layer, [known[name] for name in layer.inputs])
  if not isinstance(layer, Conv):
    return (layer.size,)
  shape = convolution.output_shape(read, layer.kernel_size, layer.stride, layer.features)
  if min(shape) < 1:
    raise ValueError(
      f"Layer {layer.name!r}: its kernel {layer.kernel_size} does not fit into its input {read}; "
      f"use a kernel of at most {read[:2]}."
    )
  return shape


def _check_graph(spec: ColumnSpec) -> None:
  names = [name for name, _ in spec.inputs]
  for name, shape in spec.inputs:
    if len(shape) not in (1, 3) or min(shape) < 1:
      raise ValueError(f"Input {name!r} has shape {shape}; give [D] or [H, W, C] with sizes of at least 1.")
  for layer in spec.layers:
    _check_layer(layer)
    for name in layer.inputs:
      if name not in names:
        raise ValueError(f"Layer {layer.name!r} reads {name!r}, which is none of the inputs or earlier layers {names}.")
    names.append(layer.name)
  if len(set(names)) != len(names):
    repeated = sorted({name for name in names if names.count(name) > 1})
    raise ValueError(f"Names {repeated} are used twice among inputs and layers {names}; names must differ.")
  last = spec.layers[-1] if spec.layers else None
  if not isinstance(last, Dense) or last.name != OUTPUT or last.activation is not None:
    raise ValueError(f"The last layer must be Dense({OUTPUT!r}, ..., activation=None), not {last}.")
  read = {name for layer in spec.layers for name in layer.inputs}
  unread = [name for name in names if name not in read and name != OUTPUT]
  if unread:
    raise ValueError(f"Nothing reads {unread}; let a layer read them or leave them out.")


def _check_layer(layer: AnyLayer) -> None:
  sizes = (
    {"size": layer.size}
    if not isinstance(layer, Conv)
    else {"features": layer.features, "stride": layer.stride, "kernel": min(layer.kernel_size)}
  )
  for field, value in sizes.items():
    if value < 1:
      raise ValueError(f"Layer {layer.name!r}: {field}={value} must be at least 1.")
  if not layer.inputs or isinstance(layer.inputs, str):
    raise ValueError(f"Layer {layer.name!r}: inputs={layer.inputs!r} must be a tuple of at least one name.")
  if layer.laterals not in LATERALS:
    raise ValueError(f"Layer {layer.name!r}: laterals={layer.laterals!r} is not one of {LATERALS}.")
  if isinstance(layer, Conv) and layer.kernel_init not in KERNEL_INITS:
    raise ValueError(f"Layer {layer.name!r}: kernel_init={layer.kernel_init!r} is not one of {KERNEL_INITS}.")
  if not isinstance(layer, LSTM) and layer.activation not in ACTIVATIONS:
    raise ValueError(f"Layer {layer.name!r}: activation={layer.activation!r} is not one of {ACTIVATIONS}.")
