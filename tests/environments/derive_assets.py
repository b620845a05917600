"""Makes the committed textures from DeepMind Lab's own, which the labmaze wheel contains (Apache-2.0).

    python -m tests.environments.derive_assets

The wheel's pictures are 1024 pixels wide, 4 MB in all. Here each is averaged down to 64 pixels a cell, and the four
sides of a sky are unrolled to a band of 256 azimuths by 64 heights. Committing 0.3 MB keeps training free of labmaze,
which has to be compiled where it has no wheel.
"""

import pathlib
import warnings

import imageio.v3 as iio
import labmaze.assets
import numpy as np

from environments.maze import appearance

_FOLDER = pathlib.Path(labmaze.assets.ROOT_DIR)


def strip(style: str) -> np.ndarray:
  """Floor and walls of a style side by side, `[64, 64 * N, 3]` uint8."""
  look = appearance.STYLES[style]
  names = [f"floor_{look.floor}_d", *(f"wall_{wall}_d" for wall in look.walls)]
  return np.concatenate([_shrink(_read(f"{style}/{name}.png"), appearance.TEXELS) for name in names], axis=1)


def band(sky: str) -> np.ndarray:
  """A sky as it stands above the horizon, `[64, 256, 3]` uint8: azimuths to the right, tangents of height 1 to 0 down.

  A side of the sky's cube shows height h over its middle where the tangent of a direction's height is
  h / sqrt(1 + x^2), with x across the side. Directions beyond the side's upper edge take the edge's colour.
  """
  height, width = appearance.SKY_SHAPE
  tangent = 1.0 - (np.arange(height) + 0.5) / height
  across = np.tan(((np.arange(width // 4) + 0.5) / (width // 4) - 0.5) * np.pi / 2.0)
  up = np.minimum(tangent[:, None] * np.sqrt(1.0 + across[None] ** 2), 1.0 - 1e-6)
  rows = ((1.0 - up) * 0.5 * 128).astype(int)
  columns = np.broadcast_to(((across + 1.0) * 0.5 * 128).astype(int)[None], rows.shape)
  sides = [_shrink(_read(f"{sky}/{side}.png"), 128)[rows, columns] for side in ("ft", "rt", "bk", "lf")]
  return np.concatenate(sides, axis=1)


def _read(path: str) -> np.ndarray:
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Palette images")  # Their transparency is for signs; walls are opaque.
    return iio.imread(_FOLDER / path, mode="RGB")


def _shrink(picture: np.ndarray, size: int) -> np.ndarray:
  ratio = picture.shape[0] // size
  means = picture.reshape(size, ratio, size, ratio, 3).mean((1, 3))
  return (means + 0.5).astype(np.uint8)


def main() -> None:
  """Writes the files."""
  for style in appearance.STYLES:
    iio.imwrite(appearance.FOLDER / f"{style}.png", strip(style))
  for sky in sorted({look.sky for look in appearance.STYLES.values()}):
    iio.imwrite(appearance.FOLDER / f"{sky}.png", band(sky))


if __name__ == "__main__":
  main()
