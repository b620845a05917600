"""From gradients to steps: clipping, scaling, annealing.

A3C's RMSProp keeps one uncentred second moment for all workers: g <- a g + (1 - a) d^2, theta <- theta - lr d /
sqrt(g + eps), with eps inside the root (papers.md 4). That is `optax.rmsprop` with `eps_in_sqrt=True`, from g = 0. In a
batched learner the shared statistics are the only ones. Adam is the alternative. The learning rate falls linearly to 0
over `anneal_updates`, if that is given.

Both optimisers move a weight by about the learning rate, however small its gradient is. The pre-activation of a unit
with n inputs moves by up to n times as much, because features are all positive and the gradients of a unit's weights
have one sign. So, if `fan_in` is given, kernels with n > `fan_in` inputs learn at the rate times fan_in / n (Yang et
al. 2022, "Tensor Programs V", table 3).
"""

import math
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
  fan_in: Scalar = float("inf"),
) -> optax.GradientTransformation:
  """Clipping by global norm, then an optimiser.

  All arguments except the name may be traced: the form of the state depends on the name alone. `decay` is that of the
  second moment's running mean. `epsilon` is added to this mean inside the root (rmsprop), or to its root. `fan_in` is
  the largest number of inputs of a kernel that learns at the full rate.
  """

  def rate(count: jax.Array) -> jax.Array:
    """Linear, and exactly 0 at the end; `optax.linear_schedule` may stay a rounding error below 0, which ascends."""
    left = jnp.maximum(anneal_updates - count.astype(jnp.float32), 0.0) / jnp.maximum(anneal_updates, 1.0)
    return learning_rate * jnp.where(jnp.asarray(anneal_updates) > 0, left, jnp.ones_like(left))

  def by_fan_in(updates: optax.Updates, params: optax.Params) -> optax.Updates:
    del params

    def share(x: jax.Array) -> jax.Array:  # A kernel's last axis is its outputs.
      return x * jnp.minimum(1.0, fan_in / math.prod(x.shape[:-1])) if x.ndim > 1 else x

    return jax.tree.map(share, updates)

  match name:
    case "rmsprop":
      step = optax.rmsprop(rate, decay=decay, eps=epsilon, eps_in_sqrt=True)
    case "adam":
      step = _with_implicit_promotion(optax.adam(rate, b2=decay, eps=epsilon))
    case _:
      raise ValueError(f"optimizer={name!r} is unknown; choose one of {OPTIMIZERS}")
  return optax.chain(optax.clip_by_global_norm(max_gradient_norm), step, optax.stateless(by_fan_in))


def _with_implicit_promotion(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
  """Lets optax's bias correction raise a float to an integer power where dtype promotion is strict."""

  def update(*args: Any) -> tuple[optax.Updates, optax.OptState]:
    with jax.numpy_dtype_promotion("standard"):
      return transformation.update(*args)

  return optax.GradientTransformation(transformation.init, update)
