"""Auxiliary losses: heads read, from the features, signals that the world knows, so that features come to hold them.

A head reads one layer of the newest column, linearly or through a hidden layer of ReLUs. It is trained beside the
actor-critic's own loss, by 1/2 (readout - signal)^2, or by one softmax's cross-entropy for each entry of an integer
signal. Both are means over the entries (Mirowski et al. 2017, section 3: depth from the encoder, D1, or the LSTM, D2,
in 64 x 8 classes; loop closure, L). The policy never reads a head. The head's parameters are stored with the column's,
under `NAME`, which the network itself does not read. They are left out when a column is released. A finetuned run keeps
those that its config still has.
"""

import math
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

from progressive import column, network

NAME = "auxiliary"


@struct.dataclass
class Head:
  """One readout; a pytree whose only leaf is the cost."""

  signal: str = struct.field(pytree_node=False)  # Name of a privileged signal, any shape.
  layer: str = struct.field(pytree_node=False)  # Layer of the newest column that it is read from.
  cost: jax.Array | float  # Weight of its loss, a mean over the signal's entries, in rewards.
  hidden: int = struct.field(pytree_node=False, default=0)  # Units of the hidden layer; 0: none.
  num_classes: int = struct.field(pytree_node=False, default=0)  # Of each entry of the signal; 0: regression.

  @property
  def name(self) -> str:
    """Name of its parameters and of its loss among the metrics: two heads may read one signal from two layers."""
    return f"{self.signal}_from_{self.layer}"


def init(
  key: jax.Array,
  spec: network.Network,
  params: network.Params,
  heads: tuple[Head, ...],
  privileged_spec: Mapping[str, specs.Array],
  *,
  trained: Mapping[str, Any] | None = None,
) -> network.Params:
  """`params` with the heads' own in the newest column: `trained` ones if name and shapes match, others at random.

  Raises:
    ValueError: if the world lacks such a signal or its classes, if the column lacks such a layer, or if two heads are
      alike.
  """
  if not heads:
    return params
  if len({head.name for head in heads}) != len(heads):
    raise ValueError(f"auxiliary heads {[head.name for head in heads]} must differ in signal or layer")
  shapes, known_layers = column.shapes(spec.columns[-1]), column.by_name(spec.columns[-1])
  readouts: dict[str, Any] = {}
  for head, head_key in zip(heads, jax.random.split(key, len(heads)), strict=True):
    if head.signal not in privileged_spec:
      raise ValueError(f"auxiliary signal {head.signal!r} is not known here; the world has {sorted(privileged_spec)}")
    if head.layer not in known_layers:
      raise ValueError(f"auxiliary layer {head.layer!r} is none of the column's {sorted(known_layers)}")
    _check_classes(head, privileged_spec[head.signal])
    outputs = math.prod(privileged_spec[head.signal].shape) * max(head.num_classes, 1)
    sizes = [math.prod(shapes[head.layer]), *([head.hidden] if head.hidden else []), outputs]
    keys = jax.random.split(head_key, len(sizes) - 1)
    made = [_init_layer(k, *pair) for k, pair in zip(keys, zip(sizes, sizes[1:], strict=False), strict=True)]
    known = (trained or {}).get(head.name)
    readouts[head.name] = known if jax.tree.map(jnp.shape, known) == jax.tree.map(jnp.shape, made) else made
  return (*params[:-1], {**params[-1], NAME: readouts})


def without(params: network.Params) -> network.Params:
  """The network's own parameters, without those of the heads."""
  return (*params[:-1], {name: layer for name, layer in params[-1].items() if name != NAME})


def read(params: network.Params, head: Head, features: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """A head's readout of its signal: `[..., *shape]`, or the logits of its classes, `[..., *shape, num_classes]`.

  `features` are the activations of its layer, `[T, B, ...]`, and `shape` is the signal's shape at one step.
  """
  x = features.reshape(*features.shape[:2], -1)
  *hidden, last = params[-1][NAME][head.name]
  for layer in hidden:
    x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None, None])
  x = x @ last["kernel"] + last["bias"][None, None]
  return x.reshape(*x.shape[:2], *shape, *([head.num_classes] if head.num_classes else []))


def loss(params: network.Params, head: Head, features: jax.Array, signal: jax.Array) -> jax.Array:
  """Half the mean squared error of one head, or the mean cross-entropy in nats, over the signal's entries.

  Arguments are as in `read`; `signal` is what the head should read, `[T, B, ...]`, int32 classes or numbers.
  """
  chex.assert_equal_shape_prefix([features, signal], 2)
  readout = read(params, head, features, signal.shape[2:])
  if head.num_classes:
    log_probs = jax.nn.log_softmax(readout)
    errors = -jnp.take_along_axis(log_probs, signal[..., None].astype(jnp.int32), axis=-1)
  else:
    errors = 0.5 * jnp.square(readout - signal.astype(jnp.float32))
  return jnp.mean(errors)


def _init_layer(key: jax.Array, size: int, outputs: int) -> dict[str, jax.Array]:
  kernel = jax.nn.initializers.lecun_normal()(key, (size, outputs), jnp.float32)
  return {"kernel": kernel, "bias": jnp.zeros(outputs, jnp.float32)}


def _check_classes(head: Head, spec: specs.Array) -> None:
  """Refuses a signal in classes unless it holds integers from 0 to num_classes - 1."""
  if not head.num_classes:
    return
  is_classes = isinstance(spec, specs.BoundedArray) and np.issubdtype(spec.dtype, np.integer)
  if not is_classes or np.min(spec.minimum) != 0 or np.max(spec.maximum) != head.num_classes - 1:
    raise ValueError(
      f"auxiliary signal {head.signal!r} cannot be told in num_classes={head.num_classes} classes: it is {spec}; "
      f"give 0 (regression), or as many classes as it has"
    )
