"""What a user may bring along: an activation and a layer of their own."""

import dataclasses

import jax.numpy as jnp

from progressive import layers


def cube(x):
  return x**3


@dataclasses.dataclass(frozen=True)
class Highway(layers.Layer):
  """gate x + (1 - gate) candidate, both from what it reads (Srivastava et al. 2015), without activations: bilinear."""

  scale: float = 1.0

  def shape(self, read):
    return read

  def init(self, key, read):
    return {"kernel": jnp.eye(read[0]) * self.scale, "gate": jnp.full(read, 0.25)}

  def apply(self, params, x, *, terms):
    candidate = x @ params["kernel"]
    for term in terms:
      candidate = candidate + term
    gate = params["gate"][None]
    return gate * x + (1.0 - gate) * candidate
