"""What a world is: three pure functions on one frozen state.

`reset(key)` draws the start of an episode, `step(state, action)` advances it, and `observe(state)` reads it. Reading is
separate from advancing, so a batch of worlds can first choose between a fresh and a stepped state, and then compute
pixels and kinematics only once. Everything is unbatched. `environments.batch` maps it over worlds and is the only place
where an episode restarts by itself.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

Observation = Mapping[str, jax.Array]
State = Any  # A frozen pytree of arrays, private to its world.
_Made = TypeVar("_Made")

# dm_env's own codes, as int32 data. Resets depend on `step_type`, returns on the discounts.
FIRST = int(dm_env.StepType.FIRST)
MID = int(dm_env.StepType.MID)
LAST = int(dm_env.StepType.LAST)


@struct.dataclass
class TimeStep:
  """What a world shows at one instant. It has the same fields, in the same order, as `dm_env.TimeStep`.

  `reward` and `discount` belong to the transition that led here (0 and 1 at FIRST). A terminated episode ends with
  discount 0. A truncated episode ends with discount 1, and its last observation is the one to bootstrap from.
  """

  step_type: jax.Array  # [] int32: FIRST, MID or LAST.
  reward: jax.Array  # [] float32
  discount: jax.Array  # [] float32 in [0, 1]
  observation: Observation  # name -> array
  privileged: Observation  # name -> array: signals for losses and analysis, never for a policy.


class Environment(Protocol):
  """A world in JAX. Hyper-parameters live in the object. Everything that changes lives in the state.

  Programs are compiled for a world, so it needs a hash and should equal every world made alike (use `ByValue` or a
  frozen dataclass). Three attributes are read if a world has them: `control_dt_s`, the length of a step in seconds, for
  videos; `return_bounds`, the lowest and the highest return of an episode, at which intervals end; `calls_host`,
  whether a step calls Python, which limits a run to one device.
  """

  def observation_spec(self) -> Mapping[str, specs.Array]:
    """Shape, dtype and bounds of every observation this world offers."""

  def privileged_spec(self) -> Mapping[str, specs.Array]:
    """Shape, dtype and bounds of the signals that no policy may read."""

  def action_spec(self) -> specs.BoundedArray:
    """int32 `[A]`: one categorical choice per entry, from 0 to `maximum[a]` inclusive."""

  def reset(self, key: jax.Array) -> State:
    """Draws the state at the start of an episode. Cheap: batches call it every step."""

  def step(self, state: State, action: jax.Array) -> State:
    """Advances one control step with `action`, int32 `[A]`."""

  def observe(self, state: State) -> TimeStep:
    """What the world shows in `state`."""


def num_choices(action_spec: specs.BoundedArray) -> tuple[int, ...]:
  """Number of values of each entry of a factored categorical action.

  Raises:
    ValueError: if the action has another form. Agents only play int `[A]` with minimum 0.
  """
  is_ours = isinstance(action_spec, specs.BoundedArray) and np.issubdtype(action_spec.dtype, np.integer)
  if not is_ours or len(action_spec.shape) != 1 or np.any(action_spec.minimum):
    raise ValueError(
      f"the world's action is {action_spec}; an agent chooses among integers: make it a BoundedArray of int32, [A], "
      f"with minimum 0, one entry a choice"
    )
  return tuple(int(most) + 1 for most in np.broadcast_to(action_spec.maximum, action_spec.shape))


def step_type(elapsed: jax.Array, is_last: jax.Array) -> jax.Array:
  """FIRST if no step has `elapsed`, else LAST or MID; int32 `[]`."""
  return jnp.where(elapsed == 0, FIRST, jnp.where(is_last, LAST, MID)).astype(jnp.int32)


class ByValue:
  """A world that equals every world made alike, so that they all share one compiled program.

  A subclass sets `_made_of` to what it was made of; all of it must be hashable.
  """

  _made_of: tuple[Any, ...]

  def __eq__(self, other: object) -> bool:
    return type(self) is type(other) and self._made_of == cast("ByValue", other)._made_of

  def __hash__(self) -> int:
    return hash((type(self), self._made_of))


def in_float32(function: Callable[..., _Made]) -> Callable[..., _Made]:
  """Wraps `function` so that it multiplies float32 matrices in float32 on every device.

  Accelerators round the factors to 8 or 11 bits (bfloat16 on a TPU, TF32 on an H100). Policies tolerate that; physics
  and geometry do not.
  """

  @functools.wraps(function)
  def exact(*args: Any) -> _Made:
    with jax.default_matmul_precision("float32"):
      return function(*args)

  return exact


def unrolled() -> bool:
  """Whether to write out the steps of a short loop, for `unroll` of `jax.lax.scan`.

  A GPU launches each kernel of each step, 6 microseconds apart, and copies what a loop carries. A few steps written out
  become one kernel. XLA:CPU computes unrolled code again wherever its result is read.
  """
  return jax.default_backend() != "cpu"
