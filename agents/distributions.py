"""Factored categorical policies: one softmax per entry of the action.

The arm's 9 joints choose among -v, 0, +v independently (papers.md 2.1): log pi(a) = sum_j log pi_j(a_j), and the
entropy is the sum of the joints' entropies. Logits are `[..., A, N]`, where N is the largest number of choices of any
entry. Entries with fewer choices are padded with `IMPOSSIBLE` (see `agents.heads`), which has probability exactly 0.
Leading axes are arbitrary.
"""

import chex
import jax
import jax.numpy as jnp

# Finite, so that 0 * log 0 is 0 in the entropy and its gradient; exp of it underflows to exactly 0.
IMPOSSIBLE = -1e9


def log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
  """Log-probability of `action` int32 `[..., A]` under `logits` `[..., A, N]` -> `[...]`."""
  chex.assert_type([logits, action], [jnp.float32, jnp.int32])
  chex.assert_equal_shape_prefix([logits, action], logits.ndim - 1)
  log_probs = jax.nn.log_softmax(logits)
  return jnp.sum(jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0], axis=-1)


def entropy(logits: jax.Array) -> jax.Array:
  """Entropy in nats, summed over entries: `[..., A, N]` -> `[...]`."""
  chex.assert_type(logits, jnp.float32)
  log_probs = jax.nn.log_softmax(logits)
  return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=(-2, -1))


def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
  """Draws an action: `[..., A, N]` -> int32 `[..., A]`."""
  chex.assert_type(logits, jnp.float32)
  return jax.random.categorical(key, logits).astype(jnp.int32)


def mode(logits: jax.Array) -> jax.Array:
  """The most probable action, the first one in a tie: `[..., A, N]` -> int32 `[..., A]`."""
  chex.assert_type(logits, jnp.float32)
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)
