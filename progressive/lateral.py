"""One lateral connection: the term that layer i of column k receives from one layer h of an earlier column j.

A linear connection is U h. An adapter is U relu(V (alpha h) + b): a learned scale (one per connection), a projection to
the receiving layer's own input width, a ReLU, and U without bias (Rusu et al. 2016, section 2; the published parameter
counts of Rusu et al. 2017 imply the bias b). For maps V is a 1x1 convolution. The receiving layer determines U: a
`Conv` gives it its own kernel size and stride; in all other layers U reads the flattened projection. Each source has
its own adapter. The paper writes U and V with indices (k:j), but applies V to the concatenated sources; with two
columns both are the same.

A blind connection is linear but never reads column 0, a fault of published comparisons (docs/papers.md 9). In place of
column 0 it reads what the receiving column itself computes without laterals, before the activation. Later columns are
read.
"""

from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from progressive import column, layers

Params = Mapping[str, jax.Array]  # {"U"} or {"alpha", "V", "b", "U"}


class Connection(NamedTuple):
  """A connection of one `kind` from `source`, of `source_shape`, into `layer`, which reads `read`."""

  layer: layers.Layer
  read: layers.Shape  # What the layer reads in its own column, joined.
  source: layers.Source
  source_shape: layers.Shape
  kind: str  # "linear", "adapter" or "blind"
  width: int  # Of the adapter's projection: features, or channels of a map.

  @property
  def reads_itself(self) -> bool:
    """Whether the receiving column stands in for the source."""
    return self.kind == "blind" and self.source[0] == 0

  @property
  def kernel_shape(self) -> layers.Shape:
    """Shape of U; ValueError if the layer cannot read the source."""
    shape = (*self.source_shape[:-1], self.width) if self.kind == "adapter" else self.source_shape
    return self.layer.lateral_kernel(shape, self.read)


def init(key: jax.Array, connection: Connection, *, alpha: float) -> dict[str, jax.Array]:
  """LeCun-normal V and U, zero b, and the scale `alpha` (the paper draws it from 1, 0.1, 0.01 for each run).

  For the output, U is ten times smaller, as the output's own kernel is, so that the first policy is nearly uniform.
  """
  lecun = jax.nn.initializers.lecun_normal()
  v_key, u_key = jax.random.split(key)
  params = {}
  if connection.kind == "adapter":
    params["alpha"] = jnp.float32(alpha)
    params["V"] = lecun(v_key, (connection.source_shape[-1], connection.width), jnp.float32)
    params["b"] = jnp.zeros((connection.width,), jnp.float32)
  params["U"] = column.output_scale(connection.layer) * lecun(u_key, connection.kernel_shape, jnp.float32)
  return params


def apply(params: Params, connection: Connection, *, h: jax.Array) -> jax.Array:
  """The term `[T, ...]` that the source's activations `h` `[T, ...]` add to the receiving layer's pre-activation."""
  chex.assert_shape(h, (None, *connection.source_shape))
  if connection.kind == "adapter":
    h = jax.nn.relu(layers.layer.add_bias((params["alpha"] * h) @ params["V"], params["b"]))
  return connection.layer.lateral(params["U"], h)
