"""Gradients to steps: clip, scale, anneal.

A3C's RMSProp keeps one uncentred second moment for all workers: g <- a g + (1 - a) d^2, theta <- theta - lr d /
sqrt(g + eps), with eps inside the root (papers.md 4). That is `optax.rmsprop` with `eps_in_sqrt=True`, from g = 0;
in a batched learner the shared statistics are the only ones there are. Adam is the alternative. The learning rate
falls linearly to 0 over `anneal_updates`, where given.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ("rmsprop", "adam")
Scalar = Any  # A float or a [] float32 array.


def make(
  name: str,
  *,
  learning_rate: Scalar,
  anneal_updates: Scalar,
  max_gradient_norm: Scalar,
  decay: Scalar,
  epsilon: Scalar,
) -> optax.GradientTransformation:
  """Clipping by global norm, then an optimiser. All but the name may be traced: the state's form depends on it alone.

  `decay` is of the second moment's running mean; `epsilon` is added to it inside the root (rmsprop), or to its root.
  """

  def rate(count: jax.Array) -> jax.Array:
    """Linear, and exactly 0 at the end: `optax.linear_schedule` may stay a rounding error below it, which ascends."""
    left = jnp.maximum(anneal_updates - count.astype(jnp.float32), 0.0) / jnp.maximum(anneal_updates, 1.0)
    return learning_rate * jnp.where(jnp.asarray(anneal_updates) > 0, left, jnp.ones_like(left))

  match name:
    case "rmsprop":
      step = optax.rmsprop(rate, decay=decay, eps=epsilon, eps_in_sqrt=True)
    case "adam":
      step = _with_implicit_promotion(optax.adam(rate, b2=decay, eps=epsilon))
    case _:
      raise ValueError(f"optimizer={name!r} is unknown; choose one of {OPTIMIZERS}")
  return optax.chain(optax.clip_by_global_norm(max_gradient_norm), step)


def _with_implicit_promotion(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
  """Lets optax's bias correction raise a float to an integer power where dtype promotion is strict."""

  def update(*args: Any) -> tuple[optax.Updates, optax.OptState]:
    with jax.numpy_dtype_promotion("standard"):
      return transformation.update(*args)

  return optax.GradientTransformation(transformation.init, update)
