"""Multi-step returns that end where the episode ends.

G_t = r_{t+1} + gamma_{t+1} [(1 - lambda_{t+1}) v_{t+1} + lambda_{t+1} G_{t+1}], with G_T = v_T. lambda = 1 gives A3C's
n-step return (papers.md 4: the return of every step reaches to the end of the unroll), lambda = 0 gives TD(0). Where
t+1 is LAST, lambda is set to 0. A truncated episode (discount 1) then bootstraps from its last observation, a
terminated one (discount 0) from nothing, and neither reads the next episode. V-trace does the same for steps that an
older policy has played. The functions are unbatched, `[T]`; the caller applies vmap.
"""

import chex
import jax
import jax.numpy as jnp

from environments import core


def lambda_returns(timesteps: core.TimeStep, values: jax.Array, *, discount: float, lambda_: float) -> jax.Array:
  """Lambda returns of one world's unroll.

  Args:
    timesteps: `[T+1]`; step types, rewards and discounts are read.
    values: `[T+1]` float32, the value of every observation, including the last one of each episode.
    discount: gamma of the agent, multiplied with the world's own discounts.
    lambda_: mixing of bootstrapped returns, in [0, 1].

  Returns:
    `[T]` float32; no gradient flows through them. Returns of LAST -> FIRST transitions are meaningless: weight them 0.
  """
  chex.assert_rank([timesteps.step_type, timesteps.reward, timesteps.discount, values], 1)
  chex.assert_equal_shape([timesteps.step_type, timesteps.reward, timesteps.discount, values])
  chex.assert_type([timesteps.reward, timesteps.discount, values], jnp.float32)

  values_t = jax.lax.stop_gradient(values[1:])
  discounts_t = jnp.float32(discount) * timesteps.discount[1:]
  lambdas_t = jnp.where(timesteps.step_type[1:] == core.LAST, jnp.float32(0), jnp.float32(lambda_))

  def step(return_t: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    reward, discount_t, value, mixing = inputs
    return_tm1 = reward + discount_t * ((1 - mixing) * value + mixing * return_t)
    return return_tm1, return_tm1

  inputs = (timesteps.reward[1:], discounts_t, values_t, lambdas_t)
  return jax.lax.scan(step, values_t[-1], inputs, reverse=True)[1]


def vtrace(
  timesteps: core.TimeStep, values: jax.Array, log_ratios: jax.Array, *, discount: float, lambda_: float
) -> jax.Array:
  """V-trace targets of one world's unroll (Espeholt et al. 2018, equation 1, both clips at 1, with lambda).

  With rho_t = min(1, pi(a_t) / mu(a_t)) and delta_t = r_{t+1} + gamma_{t+1} v_{t+1} - v_t:

      target_t - v_t = rho_t [delta_t + gamma_{t+1} lambda_{t+1} (target_{t+1} - v_{t+1})]

  For lambda = 1, target_t - v_t is also the paper's advantage, which has the whole target_{t+1} in place of v_{t+1} for
  every lambda. Where the policy has not changed, the targets are `lambda_returns`.

  Args:
    timesteps, values, discount, lambda_: as in `lambda_returns`.
    log_ratios: `[T]` float32, log pi(a_t) - log mu(a_t), where pi is the policy that learns and mu the one that played.

  Returns:
    As `lambda_returns`.
  """
  chex.assert_rank([timesteps.step_type, timesteps.reward, timesteps.discount, values, log_ratios], 1)
  chex.assert_equal_shape([timesteps.step_type, timesteps.reward, timesteps.discount, values])
  chex.assert_equal_shape([values[1:], log_ratios])
  chex.assert_type([timesteps.reward, timesteps.discount, values, log_ratios], jnp.float32)

  values, log_ratios = jax.lax.stop_gradient((values, log_ratios))
  rhos = jnp.exp(jnp.minimum(log_ratios, 0.0))
  discounts_t = jnp.float32(discount) * timesteps.discount[1:]
  deltas = timesteps.reward[1:] + discounts_t * values[1:] - values[:-1]
  lambdas_t = jnp.where(timesteps.step_type[1:] == core.LAST, jnp.float32(0), jnp.float32(lambda_))

  def step(above_t: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    rho, delta, decay = inputs
    above_tm1 = rho * (delta + decay * above_t)
    return above_tm1, above_tm1

  inputs = (rhos, deltas, discounts_t * lambdas_t)
  return values[:-1] + jax.lax.scan(step, jnp.zeros_like(values[0]), inputs, reverse=True)[1]
