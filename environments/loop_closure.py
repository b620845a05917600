"""Whether the agent is back where it was: the label of the loop-closure head of Mirowski et al. 2017 (papers.md 3.3).

l_t = 1 iff there is t' < t with |p_t - p_t'| <= near, and t'' between them with |p_t'' - p_t| >= far. It suffices to
compare the earliest such t' with the latest such t''. One pass over the episode so far finds both, and the label is 1
iff that t' comes first. All positions of the episode are kept, so the label is exact. The paper integrates velocity to
get the positions. That gives the same positions up to the first goal, but ignores the new start after it.
"""

import chex
import jax
import jax.numpy as jnp


def label(path: jax.Array, last: jax.Array, *, near: float, far: float) -> jax.Array:
  """The label at the end of a path, int32 `[]`, 0 or 1.

  `path` holds the episode's positions, `[D, N]`. `last` is the index of the present position, int32 `[]`; later
  positions do not count. `near` is eta_1, `far` eta_2.
  """
  chex.assert_rank([path, last], [2, 0])
  times = jnp.arange(path.shape[1], dtype=jnp.int32)
  present = jax.lax.dynamic_slice_in_dim(path, last, 1, axis=1)
  square = jnp.sum(jnp.square(path - present), axis=0)
  is_past = times <= last
  first_near = jnp.min(jnp.where(is_past & (square <= near * near), times, path.shape[1]))
  last_far = jnp.max(jnp.where(is_past & (square >= far * far), times, -1))
  return (first_near < last_far).astype(jnp.int32)


def append(path: jax.Array, index: jax.Array, position: jax.Array) -> jax.Array:
  """`path` `[D, N]` with `position` `[D]` written at `index`."""
  times = jnp.arange(path.shape[1], dtype=jnp.int32)
  return jnp.where((times == index)[None], position[:, None], path)
