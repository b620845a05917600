"""The first-person picture and its depth: walls by column, floor by row, sky by direction, discs in front.

The eye is half a cell above the floor and looks level. It is a pinhole with square pixels. The ray of column tangent a
and row tangent s meets the wall of its column at depth z where -eye <= s z <= top - eye. Otherwise it meets the floor
at depth eye / -s, or the sky. A pixel's colour is then one look-up in the table of texels. An agent that looks up or
down sees other rows of a taller picture (`Rows`), so all that depends on a row is tabulated.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments import core
from environments.maze import appearance as appearance_lib
from environments.maze import constants, sight, things
from environments.maze import ground as ground_lib

_SIZES = np.array(appearance_lib.SIZES, np.int32)


class Scene(NamedTuple):
  """What stays fixed while a world exists."""

  ground: ground_lib.Ground
  appearance: appearance_lib.Appearance
  num_steps: int  # Steps of a ray: `Layout.most_crossings`.
  wall_height: float = constants.WALL_HEIGHT  # Cells.


class Rows(NamedTuple):
  """The rows of a picture, from the top: it could show `N` and does show `R`."""

  up: np.ndarray  # [N] tangents of the rows' upward angles
  size: int  # R
  first: jax.Array | None = None  # [] int32: the first row that is shown; None: all are

  def shown(self, table: np.ndarray) -> np.ndarray | jax.Array:
    """The part of a table over all rows, `[N, ...]`, that belongs to the rows shown, `[R, ...]`."""
    return table if self.first is None else jax.lax.dynamic_slice_in_dim(jnp.asarray(table), self.first, self.size)


class View(NamedTuple):
  """All that the columns of one picture need to know: `K` columns, `M` layers of things."""

  eye: jax.Array  # [2, K] x and y of the eye, the same for all columns
  ray: jax.Array  # [2, K] x and y of the way along the ray per cell of depth
  sky_column: jax.Array  # [K] int32 texels
  wall_depth: jax.Array  # [K] cells along the heading
  wall_start: jax.Array  # [K] int32: texel at the top of the wall in this column
  wall_size: jax.Array  # [K] int32: texels from one row of the wall's texture to the next
  thing_depth: jax.Array  # [M, K] cells along the heading, infinite if there is no thing
  thing_scale: jax.Array  # [M, K]: the height on a disc is v = s * scale - shift, where s is the row's tangent
  thing_shift: jax.Array  # [M, K]
  thing_square: jax.Array  # [M, K]: the largest v^2 on the disc
  thing_start: jax.Array  # [M, K] int32: texel at the top of the disc's picture in this column


def tangents(size: int, *, beyond: int = 0) -> np.ndarray:
  """Tangents of the columns' angles to the right or, reversed, of the rows' angles upwards: `[size]` float32.

  `beyond` is the number of further ones on either side.
  """
  pixel = np.arange(-beyond, size + beyond)
  return ((pixel + 0.5) / size * 2.0 - 1.0).astype(np.float32) * np.float32(constants.HALF_VIEW)


def rows(size: int, pitch: jax.Array | None = None) -> Rows:
  """The rows of a picture of this size. It looks level, or its middle has the tangent `pitch` `[]`."""
  if pitch is None:
    return Rows(tangents(size)[::-1], size)
  beyond = round(constants.MAX_PITCH * size / 2)
  first = beyond - jnp.round(pitch * jnp.float32(size / 2)).astype(jnp.int32)
  return Rows(tangents(size, beyond=beyond)[::-1], size, first)


def view(scene: Scene, position: jax.Array, heading: jax.Array, objects: things.Things, columns: np.ndarray) -> View:
  """Casts the rays of an even number of columns with given tangents `[K]`.

  A loop casts first the left half and then the right half. What a loop returns is stored. XLA:CPU would compute
  anything else about a column again for each of its pixels.
  """
  chex.assert_shape(position, (2,))
  width = columns.size // 2

  def add_half(seen: View, half: tuple[jax.Array, jax.Array]) -> tuple[View, None]:
    first, across = half
    part = _columns(scene, position, heading, objects, across, pixel=2.0 * constants.HALF_VIEW / columns.size)
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, first, axis=-1), seen, part), None

  halves = jnp.array([0, width], jnp.int32), jnp.asarray(columns).reshape(2, width)
  part = jax.eval_shape(lambda across: _columns(scene, position, heading, objects, across, pixel=1.0), halves[1][0])
  empty = jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], columns.size), x.dtype), part)
  seen, _ = jax.lax.scan(add_half, empty, halves, unroll=core.unrolled())
  return seen


def depth(scene: Scene, seen: View, rows: Rows) -> jax.Array:
  """Depth along the heading of the pixels in the given rows: `[R, K]` cells, infinite for the sky."""
  up, floor = (jnp.asarray(rows.shown(table))[:, None] for table in (rows.up, _floor_depth(rows.up)))
  nearest = jnp.where(_is_wall(scene, seen, up), seen.wall_depth[None], floor)
  for layer in reversed(range(seen.thing_depth.shape[0])):
    is_thing, _ = _disc(seen, layer, up)
    nearest = jnp.where(is_thing, seen.thing_depth[layer][None], nearest)
  return nearest


def picture(scene: Scene, seen: View, rows: Rows, columns: np.ndarray) -> jax.Array:
  """The picture of a view, in the given rows and all columns, with tangents `[K]`: `[R, K, 3]` uint8."""
  look, up = scene.appearance, jnp.asarray(rows.shown(rows.up))[:, None]
  texel = jnp.where(
    _is_wall(scene, seen, up),
    _wall_texels(scene, seen, up),
    jnp.where(up < 0.0, _floor_texels(look, seen, rows), _sky_texels(look, seen, rows, columns)),
  )
  for layer in reversed(range(seen.thing_depth.shape[0])):
    is_thing, v = _disc(seen, layer, up)
    row = _texel(0.5 * (1.0 - v), things.PICTURE_SIZE)
    texel = jnp.where(is_thing, seen.thing_start[layer][None] + row * things.PICTURE_SIZE, texel)
  return jnp.asarray(look.texels).at[texel].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _texel(share: jax.Array, size: jax.Array | int) -> jax.Array:
  """Which of `size` texels in a line lies at a given share, 0 to 1, of its length."""
  return jnp.clip((share * jnp.asarray(size, jnp.float32)).astype(jnp.int32), 0, size - 1)


def _columns(
  scene: Scene, position: jax.Array, heading: jax.Array, objects: things.Things, across: jax.Array, *, pixel: float
) -> View:
  """The view of columns with tangents `across` `[K]`; `pixel` is the height of a pixel at depth 1."""
  look, cosine, sine = scene.appearance, jnp.cos(heading), jnp.sin(heading)
  walls = sight.look(scene.ground, position, heading, across, num_steps=scene.num_steps)
  layers = things.layers(objects, position, heading, across, walls.depth)
  wall_start, wall_size = _wall_column(look, walls, pixel)
  turn = (jnp.arctan(across) - heading) / np.float32(2.0 * np.pi)  # To the right, as the sky is rolled out.
  thing_column = _texel(0.5 * (1.0 + layers.u), things.PICTURE_SIZE)
  return View(
    eye=jnp.broadcast_to(position[:, None], (2, across.size)),
    ray=jnp.stack([cosine + across * sine, sine - across * cosine]),
    sky_column=_texel(turn - jnp.floor(turn), appearance_lib.SKY_SHAPE[1]),
    wall_depth=walls.depth,
    wall_start=wall_start,
    wall_size=wall_size,
    thing_depth=layers.depth,
    thing_scale=layers.scale,
    thing_shift=layers.shift,
    thing_square=jnp.where(jnp.isfinite(layers.depth), 1.0 - jnp.square(layers.u), -1.0),
    thing_start=jnp.asarray(look.thing_starts)[layers.kind] + thing_column,
  )


def _is_wall(scene: Scene, seen: View, up: jax.Array) -> jax.Array:
  height = up * seen.wall_depth[None]
  return (height >= -constants.EYE_HEIGHT) & (height <= scene.wall_height - constants.EYE_HEIGHT)


def _disc(seen: View, layer: int, up: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Whether pixels lie on a layer's discs, `[R, K]`, and at which height on them, v in [-1, 1]."""
  v = up * seen.thing_scale[layer][None] - seen.thing_shift[layer][None]
  return v * v <= seen.thing_square[layer][None], v


def _floor_depth(up: np.ndarray) -> np.ndarray:
  """Depth of the floor (infinite for the sky) in rows of tangents `[N]`."""
  with np.errstate(divide="ignore"):
    return np.where(up < 0.0, constants.EYE_HEIGHT / np.maximum(-up, 0.0), np.inf).astype(np.float32)


def _copy(texels_per_pixel: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
  """Which of a texture's copies has about one texel per pixel."""
  return sum((texels_per_pixel > 1.5 * 2.0**k).astype(np.int32) for k in range(len(_SIZES) - 1))


def _wall_column(look: appearance_lib.Appearance, walls: sight.Hits, pixel: float) -> tuple[jax.Array, jax.Array]:
  """Texel at the wall's top and row size of its texture, int32 `[K]` each; `pixel` is a pixel's height at depth 1."""
  copy = _copy(walls.depth * np.float32(appearance_lib.TEXELS * pixel))
  texture = jnp.asarray(look.walls)[walls.square * 4 + walls.face]
  start = jnp.asarray(look.wall_starts)[texture * len(_SIZES) + copy]
  size = jnp.asarray(_SIZES)[copy]
  return start + _texel(walls.along - jnp.floor(walls.along), size), size


def _wall_texels(scene: Scene, seen: View, up: jax.Array) -> jax.Array:
  """Texel of the wall in every pixel, `[R, K]`; meaningless where no wall is seen. A texture covers a wall's height."""
  top = scene.wall_height - constants.EYE_HEIGHT
  down = (top - up * seen.wall_depth[None]) * np.float32(1.0 / scene.wall_height)
  return seen.wall_start[None] + _texel(down, seen.wall_size[None]) * seen.wall_size[None]


def _floor_texels(look: appearance_lib.Appearance, seen: View, rows: Rows) -> jax.Array:
  """Texel of the floor in every pixel, `[R, K]`; meaningless above the horizon."""
  ahead = np.where(rows.up < 0.0, _floor_depth(rows.up), 1.0).astype(np.float32)
  copy = _copy(
    appearance_lib.TEXELS * (2.0 * constants.HALF_VIEW / rows.size) * ahead * np.sqrt(ahead / constants.EYE_HEIGHT)
  )
  size, start, ahead = (jnp.asarray(rows.shown(t))[:, None] for t in (_SIZES[copy], look.floor_starts[copy], ahead))
  x, y = (seen.eye[axis][None] + ahead * seen.ray[axis][None] for axis in range(2))
  column, row = (_texel(part - jnp.floor(part), size) for part in (x, y))
  return start + row * size + column


def _sky_texels(look: appearance_lib.Appearance, seen: View, rows: Rows, columns: np.ndarray) -> jax.Array:
  """Texel of the sky in every pixel, `[R, K]`; meaningless below the horizon."""
  height, width = appearance_lib.SKY_SHAPE
  tangent = np.clip(rows.up, 0.0, 1.0)[:, None] / np.sqrt(1.0 + columns**2)[None]
  row = np.minimum(((1.0 - tangent) * height).astype(np.int32), height - 1)
  return jnp.asarray(rows.shown(look.sky_start + row * width)) + seen.sky_column[None]
