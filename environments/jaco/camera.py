"""What the fixed camera sees: the arm, the red ball and the table, as 64x64 RGB and a z-buffer.

Segments are ray cast (`environments.raycast`). Table, floor and the shadows on the table have closed forms at the point
where a ray meets a plane. A link casts the shadow of its segment along the light. Lambert shading:
colour * (ambient + (1 - ambient) * max(n.l, 0)).
"""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from environments import raycast
from environments.jaco import constants, kinematics, shape

_PARTS = shape.LINKS + shape.RINGS
_CAPSULES = shape.segments(tuple(part for part in _PARTS if not part.is_flat))
_CYLINDERS = shape.segments(tuple(part for part in _PARTS if part.is_flat))
# Materials, after those of `shape`: rows of `constants.COLORS`.
PLANK, OTHER_PLANK, BORDER, FLOOR = range(3, 7)
_FLOOR_HEIGHT_M = -0.7
_PLANK_WIDTH_M = 0.11
_BORDER_WIDTH_M = 0.03
_NOWHERE_M = 1e3
MAX_DEPTH_M = 4.0
DEPTH_GRID = (8, 8)  # The depth heads' target: 64 places, as many as Mirowski et al. 2017 use in a maze.
DEPTH_EDGES_M = (0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.2)  # Edges of 8 bands, dense where the arm moves, 0.8 to 1.6 m away.


@struct.dataclass
class Appearance:
  """How the scene looks; colours are RGB in [0, 1]."""

  camera: raycast.Camera
  light: jax.Array  # [3] towards the light, any length
  ambient: jax.Array  # []
  shadow: jax.Array  # [] share of the direct light that shadows on the table block
  colors: jax.Array  # [7, 3] by material


def nominal() -> Appearance:
  """The appearance with no randomisation and no change."""
  return Appearance(
    camera=raycast.Camera(
      position=jnp.asarray(constants.CAMERA_POSITION_M, jnp.float32),
      look_at=jnp.asarray(constants.CAMERA_LOOK_AT_M, jnp.float32),
      fov_y_rad=jnp.float32(np.deg2rad(constants.CAMERA_FOV_Y_DEG)),
    ),
    light=jnp.asarray(constants.LIGHT_DIRECTION, jnp.float32),
    ambient=jnp.float32(constants.AMBIENT),
    shadow=jnp.float32(1.0),
    colors=jnp.asarray(constants.COLORS, jnp.float32),
  )


def changed(change: constants.Change) -> Appearance:
  """The nominal appearance with a change applied; colours outside [0, 1] are clipped."""
  appearance, axis = nominal(), np.ones(3) / np.sqrt(3.0)
  look_at = constants.CAMERA_LOOK_AT_M
  position = look_at + _turn(np.array([0.0, 0.0, 1.0]), change.camera_deg) @ (constants.CAMERA_POSITION_M - look_at)
  colors = np.clip(constants.COLORS @ _turn(axis, change.hue_deg).T, 0.0, 1.0)
  return dataclasses.replace(
    appearance,
    camera=dataclasses.replace(appearance.camera, position=jnp.asarray(position, jnp.float32)),
    colors=jnp.asarray(colors, jnp.float32),
  )


def _turn(axis: np.ndarray, angle_deg: float) -> np.ndarray:
  """The matrix `[3, 3]` of a turn about a unit axis `[3]`, by Rodrigues' formula."""
  x, y, z = axis
  cross, angle = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]), np.deg2rad(angle_deg)
  return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


@struct.dataclass
class View:
  """What depends on the appearance, but not on arm and ball. Make it once if the appearance never changes."""

  appearance: Appearance  # Its light has length one.
  beams: raycast.Rays
  ground: raycast.Hits  # The table or, beyond its edges, the floor; without shadows.
  table: jax.Array  # [2, T, S] x y of the visible point of the table, metres; far off where there is none


@functools.partial(jax.jit, static_argnames="size")
def view(appearance: Appearance, *, size: int = constants.IMAGE_SIZE) -> View:
  """The view of `size * size` pixels of a scene with this appearance."""
  light = appearance.light / jnp.linalg.norm(appearance.light)
  beams = raycast.rays(appearance.camera, height=size, width=size)

  def meet(height: float) -> jax.Array:
    return jnp.where(beams.z < 0.0, (height - beams.origin[2]) / raycast.at_most(beams.z, -1e-6), raycast.FAR_M)

  to_table = meet(constants.TABLE_HEIGHT_M)
  x, y = beams.origin[0] + to_table * beams.x, beams.origin[1] + to_table * beams.y
  (low_x, low_y), (high_x, high_y) = constants.TABLE_LOW_M.tolist(), constants.TABLE_HIGH_M.tolist()
  inset_x, inset_y = raycast.at_most(x - low_x, high_x - x), raycast.at_most(y - low_y, high_y - y)
  inset = raycast.at_most(inset_x, inset_y)
  is_table = inset >= 0.0
  plank = jnp.where(jnp.floor(y / _PLANK_WIDTH_M).astype(jnp.int32) % 2 == 0, PLANK, OTHER_PLANK)
  ground = raycast.Hits(
    distance=jnp.where(is_table, to_table, meet(_FLOOR_HEIGHT_M)),
    facing=jnp.full_like(x, light[2]),
    material=jnp.where(is_table, jnp.where(inset < _BORDER_WIDTH_M, BORDER, plank), FLOOR).astype(jnp.int32),
  )
  table = jnp.where(is_table[None], jnp.stack([x, y]), _NOWHERE_M)
  return View(dataclasses.replace(appearance, light=light), beams, ground, table)


def render(view: View, poses: kinematics.Poses, target: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The picture, uint8 `[size, size, 3]`, and the depth along the camera's axis, metres, float32 `[size, size]`.

  `target` is the centre of the ball in the base frame, metres `[3]`.
  """
  chex.assert_shape(target, (3,))
  appearance, size = view.appearance, math.isqrt(view.beams.x.size)
  facing = view.ground.facing * (1.0 - appearance.shadow * _shadow(view.table, poses, target, appearance.light))
  hits = raycast.cast(view.beams, scene(poses, target), appearance.light, view.ground._replace(facing=facing))
  shade = appearance.ambient + (1.0 - appearance.ambient) * hits.facing
  colors = [_choose(hits.material, channel) * shade for channel in appearance.colors.T]
  levels = [(raycast.between(color, 0.0, 1.0) * 255.0 + 0.5).astype(jnp.uint8) for color in colors]
  pixels = jnp.stack(levels, axis=-1)  # [T, S, 3]
  depth = raycast.at_most(hits.distance * view.beams.forward, MAX_DEPTH_M)
  return raycast.picture(pixels, height=size, width=size), raycast.picture(depth, height=size, width=size)


@jax.jit
def picture(view: View, qpos: jax.Array, target: jax.Array) -> jax.Array:
  """The picture of joint angles `[9]` and a target `[3]`, as in `render`."""
  return render(view, kinematics.forward(qpos), target)[0]


def depth_grid(depth: jax.Array) -> jax.Array:
  """The depth in the middles of 8 x 8 boxes of a picture: `[64, 64]` -> `[8, 8]`."""
  down, across = (size // number for size, number in zip(depth.shape, DEPTH_GRID, strict=True))
  return depth[down // 2 :: down, across // 2 :: across]


def depth_bands(depth: jax.Array) -> jax.Array:
  """Bands, 0 (near) to 7, of a picture's depth in metres: `[64, 64]` -> int32 `[8, 8]`; an edge is in the far band."""
  edges = jnp.asarray(DEPTH_EDGES_M, jnp.float32)
  return jnp.sum(depth_grid(depth)[..., None] >= edges[None, None], axis=-1, dtype=jnp.int32)


def scene(poses: kinematics.Poses, target: jax.Array) -> raycast.Scene:
  """The arm's segments, the ball and its post, in the base frame."""
  arm = (_placed(_CAPSULES, poses), _placed(_CYLINDERS, poses))
  foot = target.at[2].set(constants.TABLE_HEIGHT_M)
  ball_and_post = raycast.Primitives(
    start=jnp.stack([target, foot]),
    end=jnp.stack([target, target]),
    radius=jnp.asarray([constants.TARGET_RADIUS_M, constants.POST_RADIUS_M], jnp.float32),
    material=jnp.asarray([shape.TARGET, BORDER], jnp.int32),
  )
  return raycast.Scene(
    capsules=jax.tree.map(lambda a, b: jnp.concatenate([a, b]), arm[0], ball_and_post), cylinders=arm[1]
  )


def _placed(parts: shape.Segments, poses: kinematics.Poses) -> raycast.Primitives:
  position, rotation = poses.position[parts.body], poses.rotation[parts.body]
  return raycast.Primitives(
    start=position + kinematics.transform(rotation, jnp.asarray(parts.start)),
    end=position + kinematics.transform(rotation, jnp.asarray(parts.end)),
    radius=jnp.asarray(parts.radius),
    material=jnp.asarray(parts.material),
  )


def _shadow(table: jax.Array, poses: kinematics.Poses, target: jax.Array, light: jax.Array) -> jax.Array:
  """The share of the light that is blocked at points of the table, `[2, T, S]`: `[T, S]` in [0, 1]."""
  x, y = table
  palm = kinematics.palm(poses)
  starts = jnp.stack([poses.position[a] for a, _, _ in shape.SHADOWS] + [target])
  ends = jnp.stack([palm if b is None else poses.position[b] for _, b, _ in shape.SHADOWS] + [target])
  radius = jnp.asarray([r for _, _, r in shape.SHADOWS] + [constants.TARGET_RADIUS_M], jnp.float32)

  def on_table(points: jax.Array) -> jax.Array:
    return points[:, :2] - light[None, :2] * ((points[:, 2:] - constants.TABLE_HEIGHT_M) / light[2])

  a = on_table(starts)
  way = on_table(ends) - a
  inverse_square = 1.0 / jnp.maximum(jnp.sum(way * way, -1), 1e-9)

  def darker(shadow: jax.Array, one: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
    a, way, inverse_square, radius = one
    px, py = x - a[0], y - a[1]
    along = raycast.between((px * way[0] + py * way[1]) * inverse_square, 0.0, 1.0)
    square = (px - along * way[0]) ** 2 + (py - along * way[1]) ** 2
    here = raycast.between(1.5 - square / radius**2, 0.0, 1.0)  # Soft at the edge.
    return raycast.at_least(shadow, here), None

  return jax.lax.scan(darker, jnp.zeros_like(x), (a, way, inverse_square, radius), unroll=True)[0]


def _choose(index: jax.Array, values: jax.Array) -> jax.Array:
  """`values[index]` for a few values, with selects, because gathers are slow on a CPU."""
  chosen = jnp.full_like(index, values[0], values.dtype)
  for i in range(1, values.size):
    chosen = jnp.where(index == i, values[i], chosen)
  return chosen
