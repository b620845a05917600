"""How a learner does, apart from its score: diagnostics of its units, its policy and its steps.

`docs/learning.md` says what healthy numbers are.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from agents import losses

_CONSTANT = 0.01  # A unit that varies less than this, relative to its layer's root mean square, is uninformative.


def of_update(
  before: Any, after: Any, activations: Mapping[str, jax.Array], logits: jax.Array, weights: jax.Array
) -> dict[str, jax.Array]:
  """All diagnostics below, for an update that was made from an unroll: name -> []."""
  return of_units(activations) | {"information": information(logits, weights)} | of_step(before, after)


def of_units(activations: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Shares of each layer's units (of its maps) that are of no use, from activations `[T, B, ..., D]`.

  `dead/<layer>`: units that are 0 at every step of every world. `silent/<layer>`: units that hardly vary, including the
  dead ones.
  """
  shares = {}
  for layer, x in activations.items():
    x = jnp.swapaxes(x, 0, 1)  # Worlds first, as the network lays them out: in another order XLA:CPU copies them first.
    over = tuple(range(x.ndim - 1))
    deviation, size = jnp.std(x, axis=over), jnp.sqrt(jnp.mean(jnp.square(x)))
    shares[f"dead/{layer}"] = jnp.mean((jnp.max(jnp.abs(x), axis=over) == 0).astype(jnp.float32))
    shares[f"silent/{layer}"] = jnp.mean((deviation <= _CONSTANT * size).astype(jnp.float32))
  return shares


def information(logits: jax.Array, weights: jax.Array) -> jax.Array:
  """Mutual information of observation and action in nats, from `logits` `[T, B, A, N]` under `weights` `[T, B]`.

  H(mean policy) - mean H(policy), summed over the entries of an action: 0 for a policy that ignores observations.
  """
  log_probs = jax.nn.log_softmax(logits)
  probs = jnp.exp(log_probs)
  share = (weights / jnp.maximum(jnp.sum(weights), 1.0))[..., None, None]
  mean = jnp.sum(share * probs, axis=(0, 1))
  of_mean = -jnp.sum(jax.scipy.special.xlogy(mean, mean))
  return of_mean - losses.weighted_mean(-jnp.sum(probs * log_probs, axis=(-2, -1)), weights)


def of_step(before: Any, after: Any) -> dict[str, jax.Array]:
  """`step/<layer>`: norm of an update relative to the norm of the parameters, for each layer that learns.

  `before` and `after` are the trainable side of parameters: a tuple of columns, each {layer: arrays}. Layers with the
  same name in several columns count as one.
  """
  layers: dict[str, list[tuple[Any, Any]]] = {}
  for old, new in zip(before, after, strict=True):
    for layer in old:
      if jax.tree.leaves(old[layer]):
        layers.setdefault(layer, []).append((jax.tree.map(jnp.subtract, new[layer], old[layer]), old[layer]))
  norms = {layer: [optax.global_norm(each) for each in zip(*pairs, strict=True)] for layer, pairs in layers.items()}
  return {f"step/{layer}": step / (size + 1e-8) for layer, (step, size) in norms.items()}
