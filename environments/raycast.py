"""Pixels and depth from round segments (capsules, cylinders, spheres), in pure JAX.

A `lax.scan` runs over the primitives and keeps, for every ray, the nearest hit so far. With a unit axis u from end a,
length L and m = o - a, a ray o + t d meets the endless cylinder at the smaller root of A t^2 + 2 B t + C,
A = 1 - (u.d)^2, B = m.d - (u.m)(u.d), C = m.m - (u.m)^2 - r^2; past its ends it meets a sphere or a flat disc.
Shading needs no normals: for light l, n.l = (m.l + t d.l - h u.l) / r is three products on numbers of the primitive.
Rays are flat arrays, one per component: XLA turns each pass into one vectorised loop.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

FAR_M = 1e3  # Depth where nothing is hit.


@struct.dataclass
class Primitives:
  """N round segments in the world's frame: points within `radius` of start-end; a sphere where both ends are equal."""

  start: jax.Array  # [N, 3] metres
  end: jax.Array  # [N, 3] metres
  radius: jax.Array  # [N] metres
  material: jax.Array  # [N] int32, handed through to the hits
  is_flat: jax.Array  # [N] bool: ends are flat (a cylinder) instead of round


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
  """The nearest primitive along each ray."""

  distance: jax.Array  # [P] metres along the ray; FAR_M where nothing is hit
  facing: jax.Array  # [P] cosine between normal and light, in [-1, 1]
  material: jax.Array  # [P] int32; -1 where nothing is hit


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


def cast(beams: Rays, primitives: Primitives, light: jax.Array) -> Hits:
  """The nearest of `primitives` along each ray, and how squarely it faces the light.

  Args:
    beams: `P` rays that start outside of every primitive.
    primitives: `N` primitives.
    light: unit vector towards the light, `[3]`.
  """
  chex.assert_shape(light, (3,))
  chex.assert_equal_shape((primitives.start, primitives.end))
  m = beams.origin[None] - primitives.start  # [N, 3]
  axis = primitives.end - primitives.start
  length = jnp.sqrt(jnp.sum(axis * axis, -1))
  u = axis / jnp.maximum(length, 1e-9)[:, None]
  mm, um = jnp.sum(m * m, -1), jnp.sum(m * u, -1)
  numbers = {
    "u": u,
    "m": m,
    "um": um,
    "c": mm - um * um - primitives.radius**2,
    "c_start": mm - primitives.radius**2,
    "c_end": mm - 2.0 * um * length + length**2 - primitives.radius**2,
    "length": length,
    "ml": jnp.sum(m * light[None], -1),
    "ul": jnp.sum(u * light[None], -1),
    "inverse_radius": 1.0 / primitives.radius,
    "material": primitives.material,
    "is_flat": primitives.is_flat,
  }
  lit = beams.x * light[0] + beams.y * light[1] + beams.z * light[2]  # d.l

  def nearer(best: Hits, one: dict[str, jax.Array]) -> tuple[Hits, None]:
    u, m = one["u"], one["m"]
    ud = u[0] * beams.x + u[1] * beams.y + u[2] * beams.z
    md = m[0] * beams.x + m[1] * beams.y + m[2] * beams.z
    a = jnp.maximum(1.0 - ud * ud, 1e-9)
    b = md - one["um"] * ud
    square = b * b - a * one["c"]
    root = jnp.sqrt(jnp.maximum(square, 0.0))
    t_side = (-b - root) / a
    along = one["um"] + t_side * ud  # From the start, where the ray meets the endless cylinder.
    is_before, is_after = along < 0.0, along > one["length"]
    # Past an end: a sphere about it, or a disc across it.
    b_cap = jnp.where(is_before, md, md - one["length"] * ud)
    square_cap = b_cap * b_cap - jnp.where(is_before, one["c_start"], one["c_end"])
    h_end = jnp.where(is_before, 0.0, one["length"])
    t_round = -b_cap - jnp.sqrt(jnp.maximum(square_cap, 0.0))
    t_disc = (h_end - one["um"]) / jnp.where(jnp.abs(ud) < 1e-9, 1e-9, ud)
    is_flat = one["is_flat"]
    t_cap = jnp.where(is_flat, t_disc, t_round)
    hits_cap = jnp.where(is_flat, jnp.abs(b + a * t_disc) <= root, square_cap >= 0.0)
    is_past = is_before | is_after
    t = jnp.where(is_past, t_cap, t_side)
    is_hit = (square >= 0.0) & (hits_cap | ~is_past) & (t > 0.0) & (t < best.distance)
    h = jnp.where(is_past, h_end, along)
    facing = (one["ml"] + t * lit - h * one["ul"]) * one["inverse_radius"]
    facing = jnp.where(is_flat & is_past, jnp.where(is_before, -one["ul"], one["ul"]), facing)
    return Hits(
      distance=jnp.where(is_hit, t, best.distance),
      facing=jnp.where(is_hit, facing, best.facing),
      material=jnp.where(is_hit, one["material"], best.material),
    ), None

  nothing = Hits(
    distance=jnp.full_like(lit, FAR_M), facing=jnp.zeros_like(lit), material=jnp.full(lit.shape, -1, jnp.int32)
  )
  hits, _ = jax.lax.scan(nearer, nothing, numbers)
  return hits


def _unit(vector: jax.Array) -> jax.Array:
  return vector / jnp.linalg.norm(vector)
