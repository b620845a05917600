"""The layout on the ground: squares of two widths, found without a table.

Walls are `WALL_THICKNESS` t thick and stand on the lines between cells, so cell k reaches from k + t/2 to k + 1 - t/2.
Squares are numbered along each axis: 2k is the strip around the line at k, and 2k + 1 is cell k between two strips.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.maze import constants, layout

_HALF = constants.WALL_THICKNESS / 2.0


class Ground(NamedTuple):
  """Walls by square, flat, so that a wall is found with one look-up; `H` and `W` squares."""

  is_wall: np.ndarray  # [H * W] bool
  width: int  # W
  slant: np.ndarray | None  # [2, H * W] float32, as `Layout.slant`; None if no wall slants


def ground(maze: layout.Layout) -> Ground:
  """The ground of a layout."""
  slant = maze.slant.reshape(-1, 2).T.astype(np.float32) if maze.slant.any() else None
  return Ground(is_wall=np.ascontiguousarray(maze.is_wall).reshape(-1), width=maze.is_wall.shape[1], slant=slant)


def index(coordinate: jax.Array) -> jax.Array:
  """Number along its axis of the square that contains a coordinate, cells -> int32."""
  shifted = coordinate + _HALF
  line = jnp.floor(shifted)
  return 2 * line.astype(jnp.int32) + (shifted - line >= 2.0 * _HALF).astype(jnp.int32)


def start(index: jax.Array) -> jax.Array:
  """Where square `index` begins along its axis, cells. It ends where the next one begins."""
  return (index >> 1).astype(jnp.float32) + jnp.where((index & 1) == 1, jnp.float32(_HALF), jnp.float32(-_HALF))


def middle(index: jax.Array) -> jax.Array:
  """The middle of square `index` along its axis, cells."""
  return 0.5 * index.astype(jnp.float32)


def is_wall(ground: Ground, column: jax.Array, row: jax.Array) -> jax.Array:
  """Whether squares within the maze are walls."""
  chex.assert_equal_shape((column, row))
  return jnp.asarray(ground.is_wall).at[row * ground.width + column].get(mode="promise_in_bounds")


def slant(ground: Ground, column: jax.Array, row: jax.Array) -> jax.Array:
  """East and north, 1 or -1, of the corner that a slanting wall fills in squares within the maze, or 0: `[2, ...]`."""
  chex.assert_equal_shape((column, row))
  return jnp.asarray(ground.slant).at[:, row * ground.width + column].get(mode="promise_in_bounds")
