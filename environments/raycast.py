"""Pixels and depth from round segments (capsules, cylinders, spheres), in pure JAX.

With a unit axis u from end a, length L and m = o - a, a ray o + t d meets the endless cylinder at the smaller root of
A t^2 + 2 B t + C, A = 1 - (u.d)^2, B = m.d - (u.m)(u.d), C = m.m - (u.m)^2 - r^2; past its ends it meets a sphere or a
flat disc. Shading needs no normals: for light l, n.l = (m.l + t d.l - h u.l) / r is three products on numbers of the
primitive. A `lax.scan` over the primitives keeps the nearest hit. A hit is one int32 with the distance in the highest
bits, so that nearest is `minimum`: with one array to carry, XLA makes each pass one vectorised loop, without
intermediates in memory (several arrays to carry cost four times as much on a CPU).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

FAR_M = 8.0  # Depth where nothing is hit, and the farthest that can be told.
_DISTANCE_BITS, _FACING_BITS, _MATERIAL_BITS = 18, 8, 4  # Steps of 31 micrometres, 1/255, and 16 materials.
_MANTISSA_BITS = 23  # Of a float32.
MAX_MATERIALS = 1 << _MATERIAL_BITS
_PER_METRE = ((1 << _DISTANCE_BITS) - 1) / FAR_M
_FACING_STEPS = (1 << _FACING_BITS) - 1
_MISS = (1 << 31) - 1  # Farther than every hit.


@struct.dataclass
class Primitives:
  """N round segments of one kind in the world's frame: points within `radius` of the line start-end."""

  start: jax.Array  # [N, 3] metres
  end: jax.Array  # [N, 3] metres
  radius: jax.Array  # [N] metres
  material: jax.Array  # [N] int32 below MAX_MATERIALS, handed through to the hits


class Scene(NamedTuple):
  """What is to be seen; each kind has its own pass, free of what the other needs."""

  capsules: Primitives  # Ends are round; a sphere where both are equal.
  cylinders: Primitives  # Ends are flat.


@struct.dataclass
class Camera:
  """A pinhole camera."""

  position: jax.Array  # [3] metres
  look_at: jax.Array  # [3] metres; z is up in the picture
  fov_y_rad: jax.Array  # [] angle of view from the upper to the lower edge


class Rays(NamedTuple):
  """One ray a pixel, row by row from the upper left; `P` pixels."""

  origin: jax.Array  # [3]
  x: jax.Array  # [P] components of the unit directions
  y: jax.Array  # [P]
  z: jax.Array  # [P]
  forward: jax.Array  # [P] cosine to the camera's axis: z-buffer depth = distance * forward


class Hits(NamedTuple):
  """What each ray meets first."""

  distance: jax.Array  # [P] metres along the ray, to 31 micrometres
  facing: jax.Array  # [P] cosine between normal and light, in [0, 1]; 0 where the surface faces away
  material: jax.Array  # [P] int32


def rays(camera: Camera, *, height: int, width: int) -> Rays:
  """The rays through the centres of `height * width` pixels."""
  chex.assert_shape((camera.position, camera.look_at), (3,))
  forward = _unit(camera.look_at - camera.position)
  right = _unit(jnp.cross(forward, jnp.array([0.0, 0.0, 1.0], jnp.float32)))
  up = jnp.cross(right, forward)
  half = jnp.tan(0.5 * camera.fov_y_rad)
  across = (2.0 * (jnp.arange(width, dtype=jnp.float32) + 0.5) / width - 1.0) * half * (width / height)
  down = (1.0 - 2.0 * (jnp.arange(height, dtype=jnp.float32) + 0.5) / height) * half
  a, b = (grid.reshape(-1) for grid in jnp.meshgrid(across, down))
  scale = jax.lax.rsqrt(1.0 + a * a + b * b)
  x, y, z = ((forward[i] + a * right[i] + b * up[i]) * scale for i in range(3))
  return Rays(origin=camera.position, x=x, y=y, z=z, forward=scale)


def cast(beams: Rays, scene: Scene, light: jax.Array, background: Hits) -> Hits:
  """The nearest of `scene` and `background` along each of `P` rays that start outside of every primitive.

  `light` is the unit vector towards the light, `[3]`.
  """
  chex.assert_shape(light, (3,))
  lit = beams.x * light[0] + beams.y * light[1] + beams.z * light[2]  # d.l
  nearest = _pack(background)
  for primitives, is_flat in ((scene.capsules, False), (scene.cylinders, True)):

    def nearer(nearest: jax.Array, one: _Numbers, is_flat: bool = is_flat) -> tuple[jax.Array, None]:
      return jnp.minimum(nearest, _meet(beams, lit, one, is_flat=is_flat)), None

    nearest, _ = jax.lax.scan(nearer, nearest, _numbers(beams.origin, primitives, light))
  return _unpack(nearest)


class _Numbers(NamedTuple):
  """What a ray needs to know of a primitive; names as in the module's text."""

  u: jax.Array
  m: jax.Array
  um: jax.Array
  c: jax.Array
  c_start: jax.Array  # C of the spheres about the ends.
  c_end: jax.Array
  length: jax.Array
  ml: jax.Array
  ul: jax.Array
  inverse_radius: jax.Array
  material: jax.Array


def _numbers(origin: jax.Array, primitives: Primitives, light: jax.Array) -> _Numbers:
  chex.assert_equal_shape((primitives.start, primitives.end))
  m = origin[None] - primitives.start  # [N, 3]
  axis = primitives.end - primitives.start
  length = jnp.sqrt(jnp.sum(axis * axis, -1))
  u = axis / jnp.maximum(length, 1e-9)[:, None]
  mm, um = jnp.sum(m * m, -1), jnp.sum(m * u, -1)
  return _Numbers(
    u=u,
    m=m,
    um=um,
    c=mm - um * um - primitives.radius**2,
    c_start=mm - primitives.radius**2,
    c_end=mm - 2.0 * um * length + length**2 - primitives.radius**2,
    length=length,
    ml=jnp.sum(m * light[None], -1),
    ul=jnp.sum(u * light[None], -1),
    inverse_radius=1.0 / primitives.radius,
    material=primitives.material,
  )


def _meet(beams: Rays, lit: jax.Array, one: _Numbers, *, is_flat: bool) -> jax.Array:
  """Packed hits `[P]` with one primitive."""
  ud = one.u[0] * beams.x + one.u[1] * beams.y + one.u[2] * beams.z
  md = one.m[0] * beams.x + one.m[1] * beams.y + one.m[2] * beams.z
  a = at_least(1.0 - ud * ud, 1e-9)
  b = md - one.um * ud
  square = b * b - a * one.c
  root = jnp.sqrt(at_least(square, 0.0))
  t_side = (-b - root) / a
  along = one.um + t_side * ud  # From the start, where the ray meets the endless cylinder.
  is_before, is_after = along < 0.0, along > one.length
  is_past = is_before | is_after
  h = between(along, 0.0, one.length)
  if is_flat:  # Past an end: a disc across it,
    t_end = (h - one.um) / jnp.where(jnp.abs(ud) < 1e-9, 1e-9, ud)
    meets_end = jnp.abs(b + a * t_end) <= root
  else:  # or a sphere about it.
    b_end = md - h * ud
    square_end = b_end * b_end - jnp.where(is_before, one.c_start, one.c_end)
    t_end = -b_end - jnp.sqrt(at_least(square_end, 0.0))
    meets_end = square_end >= 0.0
  t = jnp.where(is_past, t_end, t_side)
  is_hit = (square >= 0.0) & (meets_end | ~is_past) & (t > 0.0)
  facing = (one.ml + t * lit - h * one.ul) * one.inverse_radius
  if is_flat:
    facing = jnp.where(is_past, jnp.where(is_before, -one.ul, one.ul), facing)
  return jnp.where(is_hit, _pack(Hits(distance=t, facing=facing, material=one.material)), _MISS)


def _pack(hits: Hits) -> jax.Array:
  """One int32 a ray, smaller where nearer."""
  distance = _whole_part(between(hits.distance, 0.0, FAR_M) * _PER_METRE, _DISTANCE_BITS)
  facing = _whole_part(between(hits.facing, 0.0, 1.0) * _FACING_STEPS + 0.5, _FACING_BITS)
  return (distance << (_FACING_BITS + _MATERIAL_BITS)) | (facing << _MATERIAL_BITS) | hits.material


def _whole_part(x: jax.Array, num_bits: int) -> jax.Array:
  """The integer part of `x` in [0, 2^num_bits), read off the float itself: the highest bits after the leading one.

  A cast would do, but XLA guards it against what an int32 cannot hold, and that costs a tenth of the picture.
  """
  bits = jax.lax.bitcast_convert_type(x + 2.0**num_bits, jnp.int32)
  return (bits & ((1 << _MANTISSA_BITS) - 1)) >> (_MANTISSA_BITS - num_bits)


def _unpack(packed: jax.Array) -> Hits:
  return Hits(
    distance=((packed >> (_FACING_BITS + _MATERIAL_BITS)).astype(jnp.float32) + 0.5) / _PER_METRE,
    facing=((packed >> _MATERIAL_BITS) & _FACING_STEPS).astype(jnp.float32) / _FACING_STEPS,
    material=packed & (MAX_MATERIALS - 1),
  )


def at_least(x: jax.Array, low: jax.Array | float) -> jax.Array:
  """The larger of both, as one comparison; `jnp.maximum` also hands NaN through, which a CPU pays for."""
  return jnp.where(x > low, x, low)


def at_most(x: jax.Array, high: jax.Array | float) -> jax.Array:
  """The smaller of both, as `at_least`."""
  return jnp.where(x < high, x, high)


def between(x: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
  """`x` cut off at `low` and at `high`, as `at_least`."""
  return at_most(at_least(x, low), high)


def _unit(vector: jax.Array) -> jax.Array:
  return vector / jnp.linalg.norm(vector)
