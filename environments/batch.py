"""Many worlds side by side, with the only auto-reset.

The convention is dm_env's: a step after LAST ignores its action, starts a new episode and returns FIRST. Every
observation is therefore computed once, including the last one of an episode, and worlds in JAX and worlds behind
`dm_env` produce trajectories of the same form. One transition in each episode (LAST to FIRST) carries no information;
`agents.trajectory` gives it weight 0.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from environments import core


@struct.dataclass
class BatchState:
  """B worlds, what they show, and the keys of their next episodes."""

  worlds: core.State  # Every leaf [B, ...].
  timestep: core.TimeStep  # Every leaf [B, ...].
  keys: jax.Array  # [B] keys


class Batch(NamedTuple):
  """`num_worlds` copies of one world, each with its own randomness.

  Only the named observations and signals are computed, so unread ones cost nothing. `privileged` names the signals that
  losses read. It may also name an observation, such as the arm's joint angles.
  """

  environment: core.Environment
  num_worlds: int
  observations: tuple[str, ...]
  privileged: tuple[str, ...] = ()

  def init(self, key: jax.Array) -> BatchState:
    """The first step of `num_worlds` episodes."""
    reset_keys, keys = _split_each(jax.random.split(key, self.num_worlds))
    worlds = _reset(self.environment, reset_keys)
    return BatchState(worlds=worlds, timestep=_observe(self, worlds), keys=keys)

  def step(self, state: BatchState, action: jax.Array) -> BatchState:
    """Advances every world with `action`, int32 `[B, A]`; those at LAST start a new episode instead."""
    reset_keys, keys = _split_each(state.keys)
    is_last = state.timestep.step_type == core.LAST  # [B]
    stepped = _step(self.environment, state.worlds, action)
    fresh = _reset(self.environment, reset_keys)
    worlds = jax.tree.map(lambda f, s: _where(is_last, f, s), fresh, stepped)
    return BatchState(worlds=worlds, timestep=_observe(self, worlds), keys=keys)


@functools.partial(jax.jit, static_argnames="batch")
def begin(batch: Batch, key: jax.Array) -> BatchState:
  """`batch.init`, compiled once for all equal batches."""
  return batch.init(key)


# Each of these is traced once for equal worlds, for all places in all programs.


@functools.partial(jax.jit, static_argnames="environment")
@core.in_float32
def _reset(environment: core.Environment, keys: jax.Array) -> core.State:
  state = jax.vmap(environment.reset)(keys)
  # A weakly typed number would be of full type after a step, and every program compiled for both.
  return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)


@functools.partial(jax.jit, static_argnames="environment")
@core.in_float32
def _step(environment: core.Environment, worlds: core.State, action: jax.Array) -> core.State:
  return jax.vmap(environment.step)(worlds, action)


@functools.partial(jax.jit, static_argnames="batch")
@core.in_float32
def _observe(batch: Batch, worlds: core.State) -> core.TimeStep:
  timestep = jax.vmap(batch.environment.observe)(worlds)
  signals = {**timestep.observation, **timestep.privileged}
  return timestep.replace(
    observation={name: timestep.observation[name] for name in batch.observations},
    privileged={name: signals[name] for name in batch.privileged},
  )


def _split_each(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Splits each of `[B]` keys in two."""
  pairs = jax.vmap(jax.random.split)(keys)
  return pairs[:, 0], pairs[:, 1]


def _where(mask: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
  """Chooses whole worlds by `mask` `[B]`."""
  return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)
