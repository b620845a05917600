"""A world of one's own: Catch, ten rows of five pixels. A ball falls one row per step; the paddle has to catch it.

    python -m experiments.train --config=examples/own_world_config.py --workdir=runs/own

A world is what `environments.core.Environment` asks for and nothing more: hyper-parameters are in the object,
everything that changes is in the state, and there is no batch and no restart (`environments.batch` adds both). A
config, `--target=` and any other place that names a world use its module, `examples.own_world:Catch`. Nothing is
registered, and the world may live in any package that Python finds. A frozen dataclass is equal to another with the
same fields, so programs are compiled for it once.

A world that already exists as a `dm_env.Environment` needs none of this: name a function that makes it in the same way.
Its actions must be integers. They may be a `DiscreteArray` and begin at any integer (`environments.host`).
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

from environments import core


@struct.dataclass
class State:
  """The state of a game."""

  row: jax.Array  # [] int32, the ball's; 0 is the highest.
  column: jax.Array  # [] int32, the ball's.
  paddle: jax.Array  # [] int32, column.


@dataclasses.dataclass(frozen=True)
class Catch:
  """Actions, int32 `[1]`: left, stay, right. The last step pays 1 if the ball is caught and -1 if not."""

  num_rows: int = 10
  num_columns: int = 5

  def observation_spec(self) -> Mapping[str, specs.Array]:
    """The board, with 255 at the ball and the paddle."""
    return {"pixels": specs.BoundedArray((self.num_rows, self.num_columns, 1), np.uint8, 0, 255, name="pixels")}

  def privileged_spec(self) -> Mapping[str, specs.Array]:
    """The ball's column, for heads that predict it."""
    return {"column": specs.BoundedArray((), np.int32, 0, self.num_columns - 1, name="column")}

  def action_spec(self) -> specs.BoundedArray:
    """One choice of three."""
    return specs.BoundedArray((1,), np.int32, 0, 2, name="action")

  def reset(self, key: jax.Array) -> State:
    """The ball starts at the top in any column; the paddle starts in the middle."""
    column = jax.random.randint(key, (), 0, self.num_columns, jnp.int32)
    return State(row=jnp.int32(0), column=column, paddle=jnp.int32(self.num_columns // 2))

  def step(self, state: State, action: jax.Array) -> State:
    """The paddle moves, the ball falls."""
    paddle = jnp.clip(state.paddle + action[0] - 1, 0, self.num_columns - 1)
    return state.replace(row=state.row + 1, paddle=paddle)

  def observe(self, state: State) -> core.TimeStep:
    """Draws the board, and pays when the ball is down."""
    is_last = state.row == self.num_rows - 1
    board = jnp.zeros((self.num_rows, self.num_columns), jnp.uint8)
    board = board.at[state.row, state.column].set(255).at[self.num_rows - 1, state.paddle].set(255)
    paid = jnp.where(state.column == state.paddle, jnp.float32(1), jnp.float32(-1))
    return core.TimeStep(
      step_type=core.step_type(state.row, is_last),
      reward=jnp.where(is_last, paid, jnp.float32(0)),
      discount=jnp.where(is_last, jnp.float32(0), jnp.float32(1)),
      observation={"pixels": board[..., None]},
      privileged={"column": state.column},
    )
