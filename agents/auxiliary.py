"""Auxiliary losses: signals that the world knows are read out of the features, so that the features come to hold them.

A head is a linear readout of one layer of the newest column, trained by 1/2 |readout - signal|^2 beside the
actor-critic's own loss (Mirowski et al. 2017: depth; here any privileged signal). The policy never reads a head; its
parameters stand in the column's, under `NAME`, which the network itself does not read, and are left behind when a
column is released.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from dm_env import specs

from agents import losses
from progressive import column, network

NAME = "auxiliary"


class Head(NamedTuple):
  """One readout. Hashable: part of a static `Agent`."""

  signal: str  # Name of a privileged signal, any shape.
  layer: str  # Layer of the newest column that it is read from.
  cost: float  # Weight of its loss, a mean over the signal's entries.


def init(
  key: jax.Array,
  spec: network.NetworkSpec,
  params: network.Params,
  heads: tuple[Head, ...],
  privileged_spec: Mapping[str, specs.Array],
) -> network.Params:
  """`params` with the heads' own in the newest column.

  Raises:
    ValueError: if the world has no such signal, or the column no such layer.
  """
  if not heads:
    return params
  shapes = column.shapes(spec.columns[-1])
  readouts: dict[str, Any] = {}
  for head, head_key in zip(heads, jax.random.split(key, len(heads)), strict=True):
    if head.signal not in privileged_spec:
      raise ValueError(f"auxiliary signal {head.signal!r} is not known here; the world has {sorted(privileged_spec)}")
    if head.layer not in shapes:
      raise ValueError(f"auxiliary layer {head.layer!r} is none of the column's {sorted(shapes)}")
    size = column.flat_size(shapes[head.layer]), math.prod(privileged_spec[head.signal].shape)
    kernel = jax.nn.initializers.lecun_normal()(head_key, size, jnp.float32)
    readouts[head.signal] = {"kernel": kernel, "bias": jnp.zeros(size[1], jnp.float32)}
  return (*params[:-1], {**params[-1], NAME: readouts})


def loss(
  params: network.Params,
  head: Head,
  features: jax.Array,
  signal: jax.Array,
  weights: jax.Array,
) -> jax.Array:
  """Half the mean squared error of one head.

  Args:
    params: of the whole network.
    head: which one.
    features: activations of its layer, `[T, B, ...]`.
    signal: what it should read, `[T, B, ...]`.
    weights: `[T, B]` float32.
  """
  chex.assert_equal_shape_prefix([features, signal, weights], 2)
  own = params[-1][NAME][head.signal]
  flat = features.reshape(*weights.shape, -1)
  error = flat @ own["kernel"] + own["bias"][None, None] - signal.reshape(*weights.shape, -1).astype(jnp.float32)
  return 0.5 * losses.weighted_mean(jnp.mean(jnp.square(error), axis=-1), weights)
