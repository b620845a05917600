"""Code that a user may bring: their own activation and their own layer."""

import dataclasses

import jax.numpy as jnp

from progressive import layers


def cube(x):
  return x**3


@dataclasses.dataclass(frozen=True)
class Highway(layers.Layer):
  """gate x + (1 - gate) candidate (Srivastava et al. 2015), both from the input. Without activations: bilinear."""

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
