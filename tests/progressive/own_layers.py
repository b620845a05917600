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


@dataclasses.dataclass(frozen=True)
class Minimal(layers.Recurrent):
  """An Elman network (Elman 1990): its state is its last activations."""

  num_gates = 1

  def initial_state(self):
    return jnp.zeros(self.size)

  def hidden(self, state):
    return state

  def step(self, params, state, gates, recurrent):
    state = jnp.tanh(gates + recurrent)
    return state, state
