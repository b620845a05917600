"""All colours of a maze in one table of texels, so that a pixel is one look-up.

Walls, floor and sky have DeepMind Lab's textures (Apache-2.0; `tests/environments/derive_assets.py` made them). Fruit
and goal are painted in `things.py`. The table has every wall texture twice: as lit on faces to the north or south and,
darker, on faces to the east or west. It has each of these in halving sizes. A far wall takes a small one, so that it
does not flicker. The places where a maze's walls change colour are drawn once from its text, so the same maze always
looks the same.
"""

import pathlib
import zlib
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np

from environments.maze import layout, things

FOLDER = pathlib.Path(__file__).parent / "assets"
TEXELS = 64  # Along a texture's side, which is one cell long.
SIZES = (64, 32, 16, 8, 4)  # The sizes of a texture's copies.
SKY_SHAPE = (64, 256)  # Heights (tangent 1 to 0), azimuths (all round).
_SHADE = 0.75  # Light on faces to the east or west.
_ACCENTS = 0.3  # Share of wall faces with another texture than the style's first: landmarks.


class Style(NamedTuple):
  """One of Lab's styles, with the names in labmaze's assets."""

  floor: str
  walls: tuple[str, ...]  # The first one is used most.
  sky: str


STYLES = {
  "style_01": Style("blue_bright", ("red", "yellow", "green", "blue", "cerise", "purple"), "sky_01"),
  "style_02": Style("orange", ("blue", "yellow", "lgreen", "purple", "dblue"), "sky_02"),
  "style_03": Style("green_bright", ("gray_bright", "orange_bright", "blue", "cyan", "purple"), "sky_03"),
  "style_04": Style("orange", ("purple", "green", "red_bright", "cerise", "red"), "sky_01"),
  "style_05": Style("blue_bright", ("yellow", "red", "red_bright", "yellow_bright"), "sky_02"),
}


class Appearance(NamedTuple):
  """The colours and their places; `N` texels, `L` copies of each texture."""

  texels: np.ndarray  # [N, 3] uint8
  walls: np.ndarray  # [H * W * 4] int32: texture of a square's face towards east, west, north, south
  wall_starts: np.ndarray  # [textures * L] int32: first texel of a texture's copy
  floor_starts: np.ndarray  # [L] int32
  sky_start: int
  thing_starts: np.ndarray  # [kinds] int32


def make(maze: layout.Layout, style: str) -> Appearance:
  """The appearance of a maze; ValueError for an unknown style."""
  if style not in STYLES:
    raise ValueError(f'style="{style}" is not known; there are {", ".join(STYLES)}')
  strip = iio.imread(FOLDER / f"{style}.png")
  floor, *walls = np.split(strip, strip.shape[1] // TEXELS, axis=1)
  copies = [copy for wall in walls for light in (1.0, _SHADE) for copy in _copies(wall * light)]
  pictures = [*copies, *_copies(floor), iio.imread(FOLDER / f"{STYLES[style].sky}.png"), *things.pictures()]
  texels = [np.clip(picture, 0, 255).astype(np.uint8).reshape(-1, 3) for picture in pictures]
  starts = np.cumsum([0, *(len(picture) for picture in texels)])[:-1].astype(np.int32)
  wall_starts, floor_starts, (sky_start,), thing_starts = np.split(starts, np.cumsum([len(copies), len(SIZES), 1]))
  return Appearance(
    texels=np.concatenate(texels),
    walls=_hang(maze, len(walls)),
    wall_starts=wall_starts,
    floor_starts=floor_starts,
    sky_start=int(sky_start),
    thing_starts=thing_starts,
  )


def _copies(picture: np.ndarray) -> list[np.ndarray]:
  """The picture in all `SIZES`, each averaged from the full size."""
  return [
    picture.astype(np.float32).reshape(size, TEXELS // size, size, TEXELS // size, 3).mean((1, 3)) for size in SIZES
  ]


def _hang(maze: layout.Layout, num_textures: int) -> np.ndarray:
  """Which texture each face of each square has, with the two lights counted apart: `[H * W * 4]` int32."""
  rng = np.random.default_rng(zlib.crc32(maze.text.encode()))
  is_post = np.zeros_like(maze.is_wall)
  is_post[::2, ::2] = True
  is_accent = (rng.random((maze.is_wall.size, 4)) < _ACCENTS) & ~is_post.reshape(-1, 1)
  texture = np.where(is_accent, rng.integers(1, num_textures, is_accent.shape), 0)
  return (2 * texture + np.array([1, 1, 0, 0])).astype(np.int32).reshape(-1)
