"""A3C's three terms over one world's unroll.

policy: -(G_t - V_t) log pi(a_t), the advantage taken as a constant; value: 1/2 (G_t - V_t)^2; entropy: H(pi) to be
kept up (papers.md 4). Each is a mean over the transitions that count, so a loss keeps its scale when episodes, unrolls
or batches change size. Leading axes `[...]` are whatever the caller averages over, `[T, B]` in `actor_critic`.
"""

import chex
import jax
import jax.numpy as jnp

from agents import distributions


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
  """Mean of `values` `[...]` under `weights` `[...]`; 0 where no weight is."""
  chex.assert_equal_shape([values, weights])
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def policy_loss(logits: jax.Array, actions: jax.Array, advantages: jax.Array, weights: jax.Array) -> jax.Array:
  """Policy gradient loss of `actions` `[..., A]` under `logits` `[..., A, N]`; `advantages` `[...]` are constants."""
  chex.assert_equal_shape([advantages, weights])
  log_prob = distributions.log_prob(logits, actions)
  return -weighted_mean(log_prob * jax.lax.stop_gradient(advantages), weights)


def value_loss(values: jax.Array, returns: jax.Array, weights: jax.Array) -> jax.Array:
  """Half the squared error of `values` `[...]` against `returns` `[...]`, taken as constants."""
  chex.assert_equal_shape([values, returns, weights])
  return 0.5 * weighted_mean(jnp.square(jax.lax.stop_gradient(returns) - values), weights)


def divergence(teacher: jax.Array, logits: jax.Array, weights: jax.Array) -> jax.Array:
  """Mean KL(teacher || policy) in nats of logits `[..., A, N]`, summed over action entries; the teacher is fixed."""
  chex.assert_equal_shape([teacher, logits])
  log_teacher = jax.nn.log_softmax(jax.lax.stop_gradient(teacher))
  each = jnp.exp(log_teacher) * (log_teacher - jax.nn.log_softmax(logits))
  return weighted_mean(jnp.sum(each, axis=(-2, -1)), weights)


def mean_entropy(logits: jax.Array, weights: jax.Array) -> jax.Array:
  """Mean entropy in nats of `logits` `[..., A, N]`, summed over action entries."""
  return weighted_mean(distributions.entropy(logits), weights)
