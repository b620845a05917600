"""A3C's three terms over one world's unroll.

policy: -(G_t - V_t) log pi(a_t), with the advantage as a constant; value: 1/2 (G_t - V_t)^2; entropy: H(pi), which is
to be kept up (papers.md 4). Each is a mean over the transitions that count, so a loss keeps its scale when episodes,
unrolls or batches change size. Leading axes `[...]` are those that the caller averages over, `[T, B]` in
`actor_critic`.
"""

import chex
import jax
import jax.numpy as jnp

from agents import distributions

_MOST_LOG_RATIO = 20.0  # Far beyond any clip bound.


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
  """Mean of `values` `[...]` under `weights` `[...]`; 0 if all weights are 0."""
  chex.assert_equal_shape([values, weights])
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def variance(values: jax.Array, weights: jax.Array) -> jax.Array:
  """Variance of `values` `[...]` under `weights` `[...]`; 0 if they vary only by rounding."""
  found = weighted_mean(jnp.square(values - weighted_mean(values, weights)), weights)
  return jnp.where(found > 1e-8 * weighted_mean(jnp.square(values), weights), found, 0.0)


def standardised(values: jax.Array, weights: jax.Array) -> jax.Array:
  """`values` `[...]` minus their mean, divided by their deviation, under `weights` `[...]`; 0 if all are alike."""
  spread = variance(values, weights)
  centred = values - weighted_mean(values, weights)
  return jnp.where(spread > 0, centred * jax.lax.rsqrt(jnp.where(spread > 0, spread, 1.0)), 0.0)


def policy_loss(logits: jax.Array, actions: jax.Array, advantages: jax.Array, weights: jax.Array) -> jax.Array:
  """Policy gradient loss of `actions` `[..., A]` under `logits` `[..., A, N]`; `advantages` `[...]` are constants."""
  chex.assert_equal_shape([advantages, weights])
  log_prob = distributions.log_prob(logits, actions)
  return -weighted_mean(log_prob * jax.lax.stop_gradient(advantages), weights)


def clipped_policy_loss(
  log_ratios: jax.Array, advantages: jax.Array, weights: jax.Array, *, clip_ratio: jax.Array | float
) -> jax.Array:
  """PPO's clipped surrogate (Schulman et al. 2017, equation 7) for actions that the policy of a few steps ago chose.

  `log_ratios` `[...]` are log pi(a) - log mu(a); advantages `[...]` are constants. At a log ratio of 0 the gradient is
  that of `policy_loss`. A ratio pi / mu that has moved beyond 1 +- `clip_ratio` in the direction that its advantage
  asks for gives none.
  """
  chex.assert_equal_shape([log_ratios, advantages, weights])
  advantages = jax.lax.stop_gradient(advantages)
  # Neither entries of weight 0 nor clipped ratios may overflow: 0 x inf is NaN.
  ratios = jnp.exp(jnp.minimum(jnp.where(weights > 0, log_ratios, 0.0), _MOST_LOG_RATIO))
  clipped = jnp.clip(ratios, 1 - clip_ratio, 1 + clip_ratio)
  return -weighted_mean(jnp.minimum(ratios * advantages, clipped * advantages), weights)


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
