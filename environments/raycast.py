"""Pixels and depth from round segments (capsules, cylinders, spheres), in pure JAX.

With a unit axis u from end a, length L and m = o - a, a ray o + t d meets the endless cylinder at the smaller root of
A t^2 + 2 B t + C, A = 1 - (u.d)^2, B = m.d - (u.m)(u.d), C = m.m - (u.m)^2 - r^2; past its ends it meets a sphere or a
flat disc. Shading needs no normals: for light l, n.l = (m.l + t d.l - h u.l) / r is three products on numbers of the
primitive. A hit is one int32 with the distance in the highest bits, so `minimum` gives the nearest hit. Since a pass
carries only one array, XLA makes it one vectorised loop (carrying several arrays costs four times as much on a CPU).

Accelerators try every primitive with every ray. A primitive covers few of the 8 x 8 pixel tiles. On a CPU, a tile
therefore tries only the primitives that its cone of rays may meet. For a Jaco this takes a seventeenth of the tests and
a quarter of the time.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

FAR_M = 8.0  # Depth where nothing is hit, and the greatest depth that can be represented.
_DISTANCE_BITS, _FACING_BITS, _MATERIAL_BITS = 18, 8, 4  # Steps of 31 micrometres, 1/255, and 16 materials.
_MANTISSA_BITS = 23  # Of a float32.
MAX_MATERIALS = 1 << _MATERIAL_BITS
_PER_METRE = ((1 << _DISTANCE_BITS) - 1) / FAR_M
_FACING_STEPS = (1 << _FACING_BITS) - 1
_MISS = (1 << 31) - 1  # Farther than every hit.
_TILE = 8  # Pixels, both ways.
_CHUNK = 256  # Tiles that are processed at once: their rays and hits fit into a core's cache.
_SLACK = 1e-3  # A tile's cone is widened by this sine, to allow for rounding.


@struct.dataclass
class Primitives:
  """N round segments of one kind in the world's frame: all points within `radius` of the line from start to end."""

  start: jax.Array  # [N, 3] metres
  end: jax.Array  # [N, 3] metres
  radius: jax.Array  # [N] metres
  material: jax.Array  # [N] int32 below MAX_MATERIALS, copied to the hits


class Scene(NamedTuple):
  """What can be seen. Each kind has its own pass, which skips the computations of the other."""

  capsules: Primitives  # Round ends; a sphere where start and end are equal.
  cylinders: Primitives  # Flat ends.


@struct.dataclass
class Camera:
  """A pinhole camera."""

  position: jax.Array  # [3] metres
  look_at: jax.Array  # [3] metres; z is up in the picture
  fov_y_rad: jax.Array  # [] angle of view from the upper to the lower edge


class Rays(NamedTuple):
  """One ray per pixel: `T` tiles, row by row from the upper left, of `S` pixels, also row by row."""

  origin: jax.Array  # [3]
  x: jax.Array  # [T, S] components of the unit directions
  y: jax.Array  # [T, S]
  z: jax.Array  # [T, S]
  forward: jax.Array  # [T, S] cosine to the camera's axis: z-buffer depth = distance * forward


class Hits(NamedTuple):
  """What each ray meets first."""

  distance: jax.Array  # [T, S] metres along the ray, to 31 micrometres
  facing: jax.Array  # [T, S] cosine between normal and light, in [0, 1]; 0 where the surface faces away
  material: jax.Array  # [T, S] int32


def rays(camera: Camera, *, height: int, width: int) -> Rays:
  """The rays through the centres of `height * width` pixels, in tiles of 8 x 8 where both are multiples of 8."""
  chex.assert_shape((camera.position, camera.look_at), (3,))
  forward = _unit(camera.look_at - camera.position)
  right = _unit(jnp.cross(forward, jnp.array([0.0, 0.0, 1.0], jnp.float32)))
  up = jnp.cross(right, forward)
  half = jnp.tan(0.5 * camera.fov_y_rad)
  across = (2.0 * (np.arange(width, dtype=np.float32) + 0.5) / width - 1.0) * (width / height)
  down = 1.0 - 2.0 * (np.arange(height, dtype=np.float32) + 0.5) / height
  a, b = (_tiles(grid.astype(np.float32)) * half for grid in np.meshgrid(across, down))
  scale = jax.lax.rsqrt(1.0 + a * a + b * b)
  x, y, z = ((forward[i] + a * right[i] + b * up[i]) * scale for i in range(3))
  return Rays(origin=camera.position, x=x, y=y, z=z, forward=scale)


def picture(x: jax.Array, *, height: int, width: int) -> jax.Array:
  """Turns what the `rays` of a picture met, `[T, S, ...]`, into the picture `[H, W, ...]`."""
  high, wide = _tile(height, width)
  x = x.reshape(height // high, width // wide, high, wide, *x.shape[2:])
  return x.swapaxes(1, 2).reshape(height, width, *x.shape[4:])


def _tile(height: int, width: int) -> tuple[int, int]:
  return math.gcd(height, _TILE), math.gcd(width, _TILE)


def _tiles(x: np.ndarray) -> np.ndarray:
  """`[H, W]` -> `[T, S]`."""
  high, wide = _tile(*x.shape)
  x = x.reshape(x.shape[0] // high, high, x.shape[1] // wide, wide)
  return x.swapaxes(1, 2).reshape(-1, high * wide)


def cast(beams: Rays, scene: Scene, light: jax.Array, background: Hits, *, is_tiled: bool | None = None) -> Hits:
  """The nearest of `scene` and `background` along each of the rays, which start outside all primitives.

  `light` is the unit vector towards the light, `[3]`. With `is_tiled`, a ray tries only the primitives that rays of its
  tile may meet, instead of all of them. None does so where the default backend is a CPU.
  """
  chex.assert_shape(light, (3,))
  if is_tiled is None:
    is_tiled = jax.default_backend() == "cpu"
  return _unpack((_meet_seen if is_tiled else _meet_all)(beams, scene, light, _pack(background)))


def _meet_all(beams: Rays, scene: Scene, light: jax.Array, nearest: jax.Array) -> jax.Array:
  """The nearer of `nearest` and the packed hits `[T, S]`, where every ray tries every primitive."""
  for primitives, is_flat in ((scene.capsules, False), (scene.cylinders, True)):

    def nearer(nearest: jax.Array, one: jax.Array, is_flat: bool = is_flat) -> tuple[jax.Array, None]:
      return jnp.minimum(nearest, _meet((beams.x, beams.y, beams.z), one, is_flat=is_flat)), None

    numbers = jax.vmap(_numbers, (None, 0, None))(beams.origin, primitives, light)
    nearest, _ = jax.lax.scan(nearer, nearest, numbers)
  return nearest


def _meet_seen(beams: Rays, scene: Scene, light: jax.Array, nearest: jax.Array) -> jax.Array:
  """The same as `_meet_all`, but every ray tries only the primitives seen in its tile."""
  directions = jnp.stack([beams.x, beams.y, beams.z], axis=1)  # [T, 3, S]
  primitives = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *scene)
  numbers = jax.vmap(_numbers, (None, 0, None))(beams.origin, primitives, light)
  meet = _tile_by_tile(scene.capsules.radius.size)
  return meet(directions[None], seen(beams, primitives)[None], numbers[None], nearest[None])[0]


def seen(beams: Rays, primitives: Primitives) -> jax.Array:
  """Which of at most 32 primitives a cone around each tile's rays may meet: bit n for primitive n, uint32 `[T]`."""
  num = primitives.radius.size
  assert num <= 32, f"{num} primitives need more bits than a uint32 has"
  directions = jnp.stack([beams.x, beams.y, beams.z])
  axis = jnp.mean(directions, axis=-1)  # [3, T]
  axis = axis / jnp.sqrt(_dot(axis, axis))[None]
  cosine = jnp.min(_dot(directions, axis[:, :, None]), axis=-1)
  sine = jnp.sqrt(jnp.maximum(1.0 - cosine**2, 0.0)) + _SLACK

  def add(bits: jax.Array, one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    planes, bit = one
    is_seen = functools.reduce(jnp.logical_and, [_dot(plane, axis) >= -sine for plane in planes])
    return bits | jnp.where(is_seen, bit, jnp.uint32(0)), None

  each = jax.vmap(_outline, (None, 0))(beams.origin, primitives), jnp.uint32(1) << jnp.arange(num, dtype=jnp.uint32)
  return jax.lax.scan(add, jnp.zeros(sine.shape, jnp.uint32), each)[0]


def _outline(origin: jax.Array, one: Primitives) -> jax.Array:
  """Four planes through `origin` that enclose a primitive, as unit normals towards it, `[4, 3]`.

  Two planes touch its sides. Two touch its ends, which are taken as round. Where no such plane exists, the normal is 0.
  """
  start, end = one.start - origin, one.end - origin
  axis = end - start
  length = jnp.sqrt(_dot(axis, axis))
  u = jnp.where(length > 1e-6, axis / jnp.maximum(length, 1e-6), jnp.float32([0.0, 0.0, 1.0]))
  foot = start - _dot(start, u) * u  # The point nearest to the origin on the endless axis.
  side = jnp.cross(u, foot)

  def plane(center: jax.Array, across: jax.Array, onward: jax.Array) -> jax.Array:
    """The plane touching the sphere about `center` opposite to `across`; 0 if the other end lies behind it."""
    square = _dot(center, center)
    across = across - _dot(across, center) / square * center
    tangent = jnp.sqrt(jnp.maximum(square - one.radius**2, 0.0) / (square * jnp.maximum(_dot(across, across), 1e-12)))
    normal = one.radius / square * center + tangent * across
    return jnp.where((square > one.radius**2) & (_dot(normal, onward) > -1e-6), normal, 0.0)

  across, onward = jnp.stack([side, -side, u, -u]), jnp.stack([axis, -axis, axis, -axis])
  return jax.vmap(plane)(jnp.stack([foot, foot, start, end]), across, onward)


@functools.cache
def _tile_by_tile(num_capsules: int) -> Callable[..., jax.Array]:
  """`meet(directions, seen, numbers, nearest)`: the nearer of `nearest` and the packed hits `[B, T, S]` of B worlds.

  Directions are `[B or 1, T, 3, S]`, bits of what is seen `[B, T]`, numbers `[B, N, 18]`. The tiles of all worlds are
  sorted by how many primitives they see, so that the tiles of a chunk try about equally many.
  """

  @jax.custom_batching.custom_vmap
  def meet(directions: jax.Array, seen: jax.Array, numbers: jax.Array, nearest: jax.Array) -> jax.Array:
    shape, num_primitives = nearest.shape, numbers.shape[1]
    directions, seen, numbers = directions.reshape(-1, 3, shape[-1]), seen.reshape(-1), numbers.reshape(-1, 18)
    chunk = math.gcd(seen.size, _CHUNK)
    count = jax.lax.population_count(seen).astype(jnp.int32)
    order = jnp.sort((32 - count) * seen.size + jnp.arange(seen.size, dtype=jnp.int32)) % seen.size

    def meet_chunk(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      i, nearest = state
      tile = jax.lax.dynamic_slice(order, (i * chunk,), (chunk,))
      first = tile // shape[1] * num_primitives  # Of the tile's world.
      beams = directions[tile % directions.shape[0]].swapaxes(0, 1)  # [3, chunk, S]
      hits = jnp.full((chunk, shape[-1]), _MISS, jnp.int32)
      capsules = jnp.uint32((1 << num_capsules) - 1)
      for kind, is_flat in ((capsules, False), (~capsules, True)):

        def meet_next(state: tuple[jax.Array, jax.Array], is_flat: bool = is_flat) -> tuple[jax.Array, jax.Array]:
          left, hits = state
          lowest = 31 - jax.lax.clz(left & -left).astype(jnp.int32)  # -1 if none is left.
          one = numbers[first + jnp.maximum(lowest, 0)].T
          hit = _meet((beams[0], beams[1], beams[2]), one[..., None], is_flat=is_flat)
          return left & (left - 1), jnp.where((left != 0)[:, None], jnp.minimum(hits, hit), hits)

        _, hits = jax.lax.while_loop(lambda state: jnp.any(state[0] != 0), meet_next, (seen[tile] & kind, hits))
      return i + 1, nearest.at[tile].min(hits, unique_indices=True, mode="promise_in_bounds")

    num_chunks = -(-jnp.sum(count > 0, dtype=jnp.int32) // chunk)
    start = jnp.int32(0), nearest.reshape(-1, shape[-1])
    return jax.lax.while_loop(lambda state: state[0] < num_chunks, meet_chunk, start)[1].reshape(shape)

  @meet.def_vmap
  def meet_batches(size: int, is_batched: list[bool], *arrays: jax.Array) -> tuple[jax.Array, bool]:
    """Flattens a batch of batches into one batch."""
    directions, *rest = (
      x if batched else jnp.broadcast_to(x[None], (size, *x.shape))
      for x, batched in zip(arrays, is_batched, strict=True)
    )
    if is_batched[0] or directions.shape[1] > 1:
      directions = jnp.broadcast_to(directions, (*rest[0].shape[:2], *directions.shape[2:]))
    else:
      directions = directions[:1]
    joined = meet(*(x.reshape(-1, *x.shape[2:]) for x in (directions, *rest)))
    return joined.reshape(size, -1, *joined.shape[1:]), True

  return meet


def _numbers(origin: jax.Array, one: Primitives, light: jax.Array) -> jax.Array:
  """The numbers of a primitive that a ray needs, `[18]`, with the names in the module's docstring."""
  chex.assert_shape((one.start, one.end), (3,))
  m, axis = origin - one.start, one.end - one.start
  length = jnp.sqrt(_dot(axis, axis))
  u = axis / jnp.maximum(length, 1e-9)
  mm, um = _dot(m, m), _dot(m, u)
  c = mm - um**2 - one.radius**2
  c_start = mm - one.radius**2  # C of the spheres at the ends.
  c_end = mm - 2.0 * um * length + length**2 - one.radius**2
  material = one.material.astype(jnp.float32)
  rest = um, c, c_start, c_end, length, _dot(m, light), _dot(u, light), 1.0 / one.radius, material
  return jnp.concatenate([u, m, light, jnp.stack(rest)])


def _meet(beams: tuple[jax.Array, ...], numbers: jax.Array, *, is_flat: bool) -> jax.Array:
  """Packed hits of rays with directions (x, y, z), `[...]`, on one primitive with its numbers, `[18, ...]`."""
  um, c, c_start, c_end, length, ml, ul, inverse_radius, material = numbers[9:]
  ud, md, lit = (_dot(numbers[i : i + 3], beams) for i in (0, 3, 6))
  a = at_least(1.0 - ud * ud, 1e-9)
  b = md - um * ud
  square = b * b - a * c
  root = jnp.sqrt(at_least(square, 0.0))
  t_side = (-b - root) / a
  along = um + t_side * ud  # From the start, where the ray meets the endless cylinder.
  is_before, is_after = along < 0.0, along > length
  is_past = is_before | is_after
  h = between(along, 0.0, length)
  if is_flat:  # Past an end: a disc across it,
    t_end = (h - um) / jnp.where(jnp.abs(ud) < 1e-9, 1e-9, ud)
    meets_end = jnp.abs(b + a * t_end) <= root
  else:  # or a sphere about it.
    b_end = md - h * ud
    square_end = b_end * b_end - jnp.where(is_before, c_start, c_end)
    t_end = -b_end - jnp.sqrt(at_least(square_end, 0.0))
    meets_end = square_end >= 0.0
  t = jnp.where(is_past, t_end, t_side)
  is_hit = (square >= 0.0) & (meets_end | ~is_past) & (t > 0.0)
  facing = (ml + t * lit - h * ul) * inverse_radius
  if is_flat:
    facing = jnp.where(is_past, jnp.where(is_before, -ul, ul), facing)
  return jnp.where(is_hit, _pack(Hits(distance=t, facing=facing, material=material.astype(jnp.int32))), _MISS)


def _pack(hits: Hits) -> jax.Array:
  """Packs each hit into one int32; a smaller value is nearer."""
  distance = _whole_part(between(hits.distance, 0.0, FAR_M) * _PER_METRE, _DISTANCE_BITS)
  facing = _whole_part(between(hits.facing, 0.0, 1.0) * _FACING_STEPS + 0.5, _FACING_BITS)
  return (distance << (_FACING_BITS + _MATERIAL_BITS)) | (facing << _MATERIAL_BITS) | hits.material


def _whole_part(x: jax.Array, num_bits: int) -> jax.Array:
  """The integer part of `x` in [0, 2^num_bits), read from the float's bits: the highest ones after the leading one.

  A cast gives the same. However, XLA guards it against values that an int32 cannot hold, which costs a tenth of the
  picture's time.
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
  """The larger of the two, as one comparison; `jnp.maximum` also propagates NaN, which costs time on a CPU."""
  return jnp.where(x > low, x, low)


def at_most(x: jax.Array, high: jax.Array | float) -> jax.Array:
  """The smaller of the two, computed as in `at_least`."""
  return jnp.where(x < high, x, high)


def between(x: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
  """`x` clipped to `low` and `high`, computed as in `at_least`."""
  return at_most(at_least(x, low), high)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """The product of vectors `[3, ...]`, as a sum: XLA's reductions over three numbers cost more on a CPU."""
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vector: jax.Array) -> jax.Array:
  return vector / jnp.linalg.norm(vector)
