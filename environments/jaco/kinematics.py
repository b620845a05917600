"""The pose of every link of the arm, from the joint angles.

Body k stands at p_k = p_j + R_j o_k and is rotated by R_k = R_j F_k Rz(q_k), where j is its parent and o_k and F_k are
fixed. The six links are one `lax.scan`, since XLA:CPU fuses an unrolled chain into exponentially many copies of itself.
The fingers all hang on the last link and take one more product. The same function serves reward, endings, pictures and
the twin.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.jaco import constants


class Poses(NamedTuple):
  """Poses in the base frame of the bodies in `constants.BODY_NAMES`."""

  position: jax.Array  # [10, 3] metres
  rotation: jax.Array  # [10, 3, 3] columns are the body's axes


def _matrices(quaternion: np.ndarray) -> np.ndarray:
  """Rotation matrices `[N, 3, 3]` of unit quaternions `[N, 4]`, w x y z."""
  w, x, y, z = (quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)).T
  rows = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ]
  return np.moveaxis(np.array(rows), -1, 0).astype(np.float32)


_OFFSET = constants.BODY_OFFSET_M.astype(np.float32)
_FIXED = _matrices(constants.BODY_QUATERNION)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  """`a @ b` for `[..., 3, 3]`, as sums: exact float32 on every backend, and fused."""
  return functools.reduce(jnp.add, [a[..., :, i, None] * b[..., None, i, :] for i in range(3)])


def transform(rotation: jax.Array, vector: jax.Array) -> jax.Array:
  """`rotation @ vector` for `[..., 3, 3]` and `[..., 3]`, as sums."""
  return functools.reduce(jnp.add, [rotation[..., i] * vector[..., i, None] for i in range(3)])


def _about_z(angle: jax.Array) -> jax.Array:
  """Rotations `[..., 3, 3]` by `angle` `[...]` about z."""
  c, s, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
  return jnp.stack([jnp.stack([c, -s, zero], -1), jnp.stack([s, c, zero], -1), jnp.stack([zero, zero, one], -1)], -2)


def forward(qpos: jax.Array) -> Poses:
  """Poses of all ten bodies from joint angles, radians, float32 `[9]`."""
  chex.assert_shape(qpos, (constants.NUM_JOINTS,))
  local = _product(jnp.asarray(_FIXED[1:]), _about_z(jnp.asarray(qpos)))  # [9, 3, 3] rotation in the parent's frame

  def extend(parent: tuple[jax.Array, jax.Array], link: tuple[jax.Array, jax.Array]) -> tuple[tuple, tuple]:
    position, rotation = parent
    offset, turn = link
    body = (position + transform(rotation, offset), _product(rotation, turn))
    return body, body

  base = (jnp.zeros(3, jnp.float32), jnp.eye(3, dtype=jnp.float32))
  hand, links = jax.lax.scan(extend, base, (jnp.asarray(_OFFSET[1:7]), local[:6]))
  finger_position = hand[0][None] + transform(hand[1][None], jnp.asarray(_OFFSET[7:]))
  finger_rotation = _product(hand[1][None], local[6:])
  return Poses(
    position=jnp.concatenate([base[0][None], links[0], finger_position]),
    rotation=jnp.concatenate([base[1][None], links[1], finger_rotation]),
  )


def palm(poses: Poses) -> jax.Array:
  """The palm in the base frame, metres `[3]`: dm_control's grip site, between the fingers."""
  offset = jnp.asarray(constants.PALM_IN_LINK_6_M, jnp.float32)
  return poses.position[6] + transform(poses.rotation[6], offset)
