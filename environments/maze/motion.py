"""How the agent walks: Quake III's momentum, friction and sliding along walls, frame by frame.

Each frame the agent turns, loses speed to friction, gains speed in the direction of its push, up to the top speed in
that direction, and moves. Its body is a square along the axes. Where the body would enter a wall, the motion along that
axis ends at the wall and its speed is lost. The other axis goes on, so the agent slides. Before that, the part of the
velocity that would carry a corner of the body into a slanting wall is removed.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from environments import core
from environments.maze import constants
from environments.maze import ground as ground_lib

_SKIN = 1e-4  # Cells: a body flush with a wall is beside it, not in it.
_CORNERS = np.array([(-1, -1, 1, 1), (-1, 1, -1, 1)], np.float32)  # Of the body: east and north.


@struct.dataclass
class Body:
  """Where the agent is and how it moves."""

  position: jax.Array  # [2] x, y, cells
  heading: jax.Array  # [] radians from -pi to pi, anticlockwise from x
  velocity: jax.Array  # [2] along x and y, cells a second


def act(ground: ground_lib.Ground, body: Body, action: jax.Array, actions: np.ndarray = constants.ACTIONS) -> Body:
  """Holds one of eight `actions`, int32 `[]`, for `ACTION_REPEAT` frames."""
  chex.assert_shape((body.position, body.velocity), (2,))
  forward, leftward, turn, _ = jnp.asarray(actions)[action]

  def frame(body: Body, _: None) -> tuple[Body, None]:
    heading = body.heading + turn * jnp.float32(constants.TURN_RAD_S * constants.FRAME_S)
    cosine, sine = jnp.cos(heading), jnp.sin(heading)
    push = jnp.stack([forward * cosine - leftward * sine, forward * sine + leftward * cosine])
    velocity = _accelerate(_brake(body.velocity), push)
    position, velocity = _move(ground, body.position, velocity)
    return Body(position=position, heading=heading, velocity=velocity), None

  after, _ = jax.lax.scan(frame, body, None, length=constants.ACTION_REPEAT, unroll=core.unrolled())
  return after.replace(heading=wrap(after.heading))


def wrap(angle: jax.Array) -> jax.Array:
  """The same angle, from -pi to pi."""
  return angle - 2.0 * jnp.pi * jnp.round(angle / (2.0 * jnp.pi))


def _brake(velocity: jax.Array) -> jax.Array:
  speed = jnp.sqrt(jnp.sum(velocity * velocity))
  loss = jnp.maximum(speed, constants.STOP_SPEED) * (constants.FRICTION * constants.FRAME_S)
  return velocity * (jnp.maximum(speed - loss, 0.0) / jnp.maximum(speed, 1e-6))


def _accelerate(velocity: jax.Array, push: jax.Array) -> jax.Array:
  """`push` is a unit vector, or zero if there is no push."""
  gain = constants.ACCELERATION * constants.FRAME_S * constants.TOP_SPEED
  missing = constants.TOP_SPEED - jnp.sum(velocity * push)
  return velocity + push * jnp.clip(missing, 0.0, gain)


def _move(ground: ground_lib.Ground, position: jax.Array, velocity: jax.Array) -> tuple[jax.Array, jax.Array]:
  if ground.slant is not None:
    velocity = _deflect(ground, position, velocity)
  x, speed_x = _slide(ground, position[0], position[1], velocity[0], is_x=True)
  y, speed_y = _slide(ground, position[1], x, velocity[1], is_x=False)
  moved, speed = jnp.stack([x, y]), jnp.stack([speed_x, speed_y])
  if ground.slant is not None:  # A body that slides into a slant where two walls meet stays where it was.
    is_in = jnp.any(_beyond(ground, moved, moved) > _SKIN)
    moved, speed = jnp.where(is_in, position, moved), jnp.where(is_in, jnp.float32(0.0), speed)
  return moved, speed


def _deflect(ground: ground_lib.Ground, position: jax.Array, velocity: jax.Array) -> jax.Array:
  """The velocity with which the body ends the frame at most flush with the slanting walls."""
  moved = position + velocity * constants.FRAME_S
  # A corner may leave a square through the wall, so the line of the square that it comes from counts as well.
  beyond = jnp.maximum(_beyond(ground, moved, position), _beyond(ground, moved, moved))
  return velocity - jnp.sum(_CORNERS * jnp.maximum(beyond, 0.0)[None], axis=1) / jnp.float32(2.0 * constants.FRAME_S)


def _beyond(ground: ground_lib.Ground, position: jax.Array, seen_from: jax.Array) -> jax.Array:
  """How far a body's corners are beyond slanting walls, `[4]`: east plus north of the line, negative before it.

  The wall of a corner is the one that the same corner of a body at `seen_from` would be in; 0 if there is none.
  """
  out = constants.AGENT_HALF_WIDTH * _CORNERS
  column, row = ground_lib.index(seen_from[:, None] + (constants.AGENT_HALF_WIDTH - _SKIN) * _CORNERS)
  middle = jnp.stack([ground_lib.middle(column), ground_lib.middle(row)])
  is_filled = jnp.all(ground_lib.slant(ground, column, row) == _CORNERS, axis=0)
  return jnp.where(is_filled, jnp.sum(_CORNERS * (position[:, None] + out - middle), axis=0), 0.0)


def _slide(
  ground: ground_lib.Ground, along: jax.Array, across: jax.Array, speed: jax.Array, *, is_x: bool
) -> tuple[jax.Array, jax.Array]:
  """Moves one coordinate by a frame. Returns the coordinate and what is left of `speed`."""
  half = constants.AGENT_HALF_WIDTH
  side = jnp.where(speed < 0.0, jnp.float32(-1.0), jnp.float32(1.0))
  moved = along + speed * constants.FRAME_S
  front = ground_lib.index(moved + side * half)
  low, high = ground_lib.index(across - (half - _SKIN)), ground_lib.index(across + (half - _SKIN))
  beside = jnp.stack([low, (low + high) // 2, high])  # The body is wider than a wall: one may end between its corners.
  fronts = jnp.broadcast_to(front, (3,))
  is_stopped = jnp.any(ground_lib.is_wall(ground, *((fronts, beside) if is_x else (beside, fronts))))
  face = ground_lib.start(front + (speed < 0.0).astype(jnp.int32))  # The near side of the square in front.
  return jnp.where(is_stopped, face - side * half, moved), jnp.where(is_stopped, jnp.float32(0.0), speed)
