"""One lateral connection: what layer i of column k adds from one layer h of an earlier column j.

Linear: U h. Adapter: U relu(V (alpha h) + b): a learned scale (one a connection), a projection to the receiving
layer's own input width, a ReLU, and U without bias (Rusu et al. 2016, section 2; the bias b is what the published
parameter counts of Rusu et al. 2017 imply). For maps V is a 1x1 convolution. U is what the receiving layer says: it has
the kernel and stride of a `Conv`, and reads the flattened projection in all others. Each source has its own adapter:
the paper writes U and V with indices (k:j), but V over the concatenated sources; with two columns both are the same.

Blind: linear, and column 0 is never read, a fault that published comparisons have (docs/papers.md 9). In its place
stands what the receiving column itself makes without laterals, before the activation; later columns are read.
"""

from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from progressive import column, layers

Params = Mapping[str, jax.Array]  # {"U"} or {"alpha", "V", "b", "U"}


class Connection(NamedTuple):
  """A connection into `layer`, which reads `read`, from `source` of `source_shape`, of one `kind`."""

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
    """Shape of U; ValueError where the layer cannot read the source."""
    shape = (*self.source_shape[:-1], self.width) if self.kind == "adapter" else self.source_shape
    return self.layer.lateral_kernel(shape, self.read)


def init(key: jax.Array, connection: Connection, *, alpha: float) -> dict[str, jax.Array]:
  """LeCun-normal V and U, zero b, and the scale `alpha` (the paper draws it from 1, 0.1, 0.01 for each run).

  Into the output U is ten times smaller, as the output's own kernel is: the first policy is nearly uniform.
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
