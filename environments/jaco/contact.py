"""What the arm touches, from geometry alone: itself by segment-to-segment distances, the table by heights.

The physics has no contacts, because the arm is stopped before it could push. Only this module decides when the arm
touches something, in the same way on every backend and on the twin. The table is taken as an endless plane.
"""

import chex
import jax
import jax.numpy as jnp

from environments.jaco import constants, kinematics, shape

_LINKS = shape.segments(shape.LINKS)


def _ends(poses: kinematics.Poses) -> tuple[jax.Array, jax.Array]:
  """Both ends of every link's segment in the base frame, metres `[N, 3]`."""
  position, rotation = poses.position[_LINKS.body], poses.rotation[_LINKS.body]
  start = position + kinematics.transform(rotation, jnp.asarray(_LINKS.start))
  return start, position + kinematics.transform(rotation, jnp.asarray(_LINKS.end))


def segment_distance(a0: jax.Array, a1: jax.Array, b0: jax.Array, b1: jax.Array) -> jax.Array:
  """Distances between segments a0-a1 and b0-b1, each `[P, 3]`, as `[P]`.

  Closest points as in Ericson, Real-Time Collision Detection (2004), section 5.1.9.
  """
  chex.assert_equal_shape((a0, a1, b0, b1))
  u, v, w = a1 - a0, b1 - b0, a0 - b0
  uu, vv, uv = jnp.sum(u * u, -1), jnp.sum(v * v, -1), jnp.sum(u * v, -1)
  uw, vw = jnp.sum(u * w, -1), jnp.sum(v * w, -1)
  tiny = jnp.float32(1e-12)
  s = jnp.clip((uv * vw - uw * vv) / jnp.maximum(uu * vv - uv * uv, tiny), 0.0, 1.0)
  t = jnp.clip((uv * s + vw) / jnp.maximum(vv, tiny), 0.0, 1.0)
  s = jnp.clip((uv * t - uw) / jnp.maximum(uu, tiny), 0.0, 1.0)
  return jnp.linalg.norm(w + s[:, None] * u - t[:, None] * v, axis=-1)


def self_clearance(poses: kinematics.Poses) -> jax.Array:
  """Smallest gap between links that are not neighbours, metres `[]`; negative if they overlap."""
  start, end = _ends(poses)
  a, b = shape.PAIRS.T
  gap = segment_distance(start[a], end[a], start[b], end[b])
  return jnp.min(gap - jnp.asarray(_LINKS.radius[a] + _LINKS.radius[b]))


def table_clearance(poses: kinematics.Poses) -> jax.Array:
  """Height above the table of the lowest point of links 2 to 6 and the fingers, metres `[]`; negative below it."""
  start, end = _ends(poses)
  lowest = jnp.minimum(start[:, 2], end[:, 2]) - jnp.asarray(_LINKS.radius)
  return jnp.min(lowest[shape.OVER_TABLE]) - jnp.float32(constants.TABLE_HEIGHT_M)


def joint_clearance(qpos: jax.Array) -> jax.Array:
  """Angle from the arm (not the fingers) to its nearest joint limit, radians `[]`."""
  low = jnp.asarray(constants.JOINT_LOW_RAD[1:3], jnp.float32)
  high = jnp.asarray(constants.JOINT_HIGH_RAD[1:3], jnp.float32)
  return jnp.min(jnp.minimum(qpos[1:3] - low, high - qpos[1:3]))
