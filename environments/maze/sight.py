"""Which wall each column of the picture sees, and how far it is: one ray per column, walked square by square.

A ray is position + z * (forward + a * rightward), where a is the column's tangent. Then z is the depth along the
agent's heading, as a z-buffer holds it. At each step the ray enters the neighbour whose line it meets first. The point
on the line is computed from that line alone, so no error builds up. The number of steps is the longest line of sight of
the layout, found when the world is built. No ray therefore ends early, and no ray leaves the maze, because its border
is closed.

A slanting wall fills half of a square, between two walls. A ray that comes to one of these walls from that square has
met the slant on its way.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments import core
from environments.maze import ground as ground_lib

EAST, WEST, NORTH, SOUTH = range(4)
_LEAST = 1e-6  # Least size of a direction's component: a ray along an axis meets lines across the other far away.


class Hits(NamedTuple):
  """What each of `K` rays meets."""

  depth: jax.Array  # [K] cells along the heading
  square: jax.Array  # [K] int32: row * W + column of the wall's square
  face: jax.Array  # [K] int32: its visible side, EAST, WEST, NORTH or SOUTH; for a slanting wall, one of the last two
  along: jax.Array  # [K] the place on the side, cells: y on EAST and WEST, x on NORTH and SOUTH; on a slant, along it


def look(
  ground: ground_lib.Ground, position: jax.Array, heading: jax.Array, tangents: jax.Array, *, num_steps: int
) -> Hits:
  """Casts rays from `position`, x, y of the eye outside of walls, cells `[2]`, looking along `heading`, radians `[]`.

  `tangents`, `[K]`, are those of each column's angle to the right of the heading. `num_steps` is at least the number of
  squares that any line of sight enters, `Layout.most_crossings`.
  """
  chex.assert_shape(position, (2,))
  chex.assert_rank([heading, tangents], [0, 1])
  cosine, sine = jnp.cos(heading), jnp.sin(heading)
  directions = (cosine + tangents * sine, sine - tangents * cosine)
  x, y = (_axis(position[i], directions[i]) for i in range(2))

  def step(state: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
    column, row, depth, was_x, is_hit = state
    to_x, to_y = _depth_of_line(x, column), _depth_of_line(y, row)
    is_x = to_x < to_y
    new = (
      jnp.where(is_x, column + x.step, column),
      jnp.where(is_x, row, row + y.step),
      jnp.minimum(to_x, to_y),
      is_x,
    )
    column, row, depth, was_x = (jnp.where(is_hit, a, b) for a, b in zip((column, row, depth, was_x), new, strict=True))
    return (column, row, depth, was_x, ground_lib.is_wall(ground, column, row)), None

  nowhere = jnp.zeros(tangents.shape, bool)
  start = (x.square, y.square, jnp.zeros(tangents.shape, jnp.float32), nowhere, nowhere)
  (column, row, depth, is_x, _), _ = jax.lax.scan(step, start, None, length=num_steps, unroll=core.unrolled())
  along = jnp.where(is_x, y.origin + depth * y.direction, x.origin + depth * x.direction)
  face = jnp.where(is_x, EAST + x.is_up, NORTH + y.is_up)  # A ray to the east meets a west side.
  hits = Hits(depth=depth, square=row * ground.width + column, face=face, along=along)
  if ground.slant is None:
    return hits
  return _on_slants(ground, hits, x, y, jnp.where(is_x, column - x.step, column), jnp.where(is_x, row, row - y.step))


def _on_slants(
  ground: ground_lib.Ground, hits: Hits, x: "_Axis", y: "_Axis", column: jax.Array, row: jax.Array
) -> Hits:
  """The hits of rays that met a slanting wall in the square from which they took their last step."""
  east, north = ground_lib.slant(ground, column, row)
  away = east * (ground_lib.middle(column) - x.origin) + north * (ground_lib.middle(row) - y.origin)
  toward = jnp.maximum(east * x.direction + north * y.direction, _LEAST)
  depth = jnp.minimum(away / toward, hits.depth)  # Rounding may have led a ray past the end of a slant.
  along = (x.origin + depth * x.direction) * np.float32(2.0**0.5)
  slanted = Hits(depth, row * ground.width + column, jnp.where(north > 0.0, SOUTH, NORTH), along)
  return jax.tree.map(lambda a, b: jnp.where(north == 0.0, a, b), hits, slanted)


class _Axis(NamedTuple):
  """One coordinate of all rays."""

  origin: jax.Array  # []
  direction: jax.Array  # [K], never zero
  inverse: jax.Array  # [K]
  is_up: jax.Array  # [K] int32, 1 if the coordinate grows
  step: jax.Array  # [K] int32, 1 or -1
  square: jax.Array  # [K] int32, the square where the rays begin


def _axis(origin: jax.Array, direction: jax.Array) -> _Axis:
  direction = jnp.where(jnp.abs(direction) < _LEAST, jnp.float32(_LEAST), direction)
  is_up = (direction > 0.0).astype(jnp.int32)
  square = jnp.broadcast_to(ground_lib.index(origin), direction.shape)
  return _Axis(origin, direction, 1.0 / direction, is_up, 2 * is_up - 1, square)


def _depth_of_line(axis: _Axis, square: jax.Array) -> jax.Array:
  """Depth at which rays leave a square along one axis."""
  return (ground_lib.start(square + axis.is_up) - axis.origin) * axis.inverse
