"""What a world is: three pure functions on one frozen state.

`reset(key)` draws the start of an episode, `step(state, action)` advances it, `observe(state)` reads it. Reading is
apart from advancing so that a batch of worlds can choose between a fresh and a stepped state first and pay for
pixels and kinematics once. Everything is unbatched; `environments.batch` maps it over worlds and is the only place
where an episode restarts by itself.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import dm_env
import jax
import jax.numpy as jnp
from dm_env import specs
from flax import struct

Observation = Mapping[str, jax.Array]
State = Any  # A frozen pytree of arrays, private to its world.

# dm_env's own codes, as int32 data: `step_type` is for resets, discounts are for returns.
FIRST = int(dm_env.StepType.FIRST)
MID = int(dm_env.StepType.MID)
LAST = int(dm_env.StepType.LAST)


@struct.dataclass
class TimeStep:
  """What a world shows at one instant; the same fields, in the same order, as `dm_env.TimeStep`.

  `reward` and `discount` belong to the transition that led here (0 and 1 at FIRST). A terminated episode ends with
  discount 0, a truncated one with discount 1: its last observation is the one to bootstrap from.
  """

  step_type: jax.Array  # [] int32: FIRST, MID or LAST.
  reward: jax.Array  # [] float32
  discount: jax.Array  # [] float32 in [0, 1]
  observation: Observation  # name -> array
  privileged: Observation  # name -> array: signals for losses and analysis, never for a policy.


class Environment(Protocol):
  """A world in JAX. Hyper-parameters live in the object, everything that changes lives in the state."""

  def observation_spec(self) -> Mapping[str, specs.Array]:
    """Shape, dtype and bounds of every observation this world offers."""

  def privileged_spec(self) -> Mapping[str, specs.Array]:
    """The same for the signals that no policy may read."""

  def action_spec(self) -> specs.BoundedArray:
    """int32 `[A]`: one categorical choice per entry, from 0 to `maximum[a]` inclusive."""

  def reset(self, key: jax.Array) -> State:
    """Draws the state at the start of an episode. Cheap: batches call it every step."""

  def step(self, state: State, action: jax.Array) -> State:
    """Advances one control step with `action`, int32 `[A]`."""

  def observe(self, state: State) -> TimeStep:
    """What the world shows in `state`."""


def num_choices(action_spec: specs.BoundedArray) -> tuple[int, ...]:
  """Number of values of each entry of a factored categorical action."""
  maximum = jnp.broadcast_to(jnp.asarray(action_spec.maximum), action_spec.shape)
  return tuple(int(m) + 1 for m in maximum)
