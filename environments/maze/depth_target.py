"""What the depth heads of Mirowski et al. 2017 predict: depth in 4 x 16 places, in 8 bands.

Lab shows its z-buffer, a depth in [0, 1]: 1 - near / z if the far end of the z-buffer is far away. Raised to the 10th
power and cut at the paper's bands (papers.md 3.2), it distinguishes 0.15 from 0.25 and 1.0 from 1.8 cells, and
everything beyond 1.8 cells is one band. With even cuts of the z-buffer, everything beyond a third of a cell would be
one band.
"""

import numbers
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.maze import constants

SHAPE = (4, 16)
POWER = 10
BANDS = np.array([0.05, 0.175, 0.3, 0.425, 0.55, 0.675, 0.8], np.float32)  # Inner edges; the outer ones are 0 and 1.
NUM_BANDS = len(BANDS) + 1


def places(crop: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """The rows `[4]` and columns `[16]` of the picture that the target reads: the middles of 4 x 16 boxes of a crop.

  A crop is first row, row after the last, first column, column after the last.

  Raises:
    ValueError: if the entries are not whole, or the crop is not within the picture, or it is smaller than the grid.
  """
  size = constants.IMAGE_SIZE
  is_whole = len(crop) == 4 and all(isinstance(edge, numbers.Integral) for edge in crop)
  top, bottom, left, right = crop if is_whole else (0, 0, 0, 0)
  if not (0 <= top and top + SHAPE[0] <= bottom <= size and 0 <= left and left + SHAPE[1] <= right <= size):
    raise ValueError(
      f"depth_crop={tuple(crop)} must be whole top, bottom, left, right within {size} pixels, at least 4 by 16 large"
    )
  rows = top + (np.arange(SHAPE[0]) + 0.5) * (bottom - top) / SHAPE[0]
  columns = left + (np.arange(SHAPE[1]) + 0.5) * (right - left) / SHAPE[1]
  return rows.astype(np.int32), columns.astype(np.int32)


def z_buffer(depth: jax.Array, near: float) -> jax.Array:
  """Depths in cells, `[...]`, as z-buffer values: 0 at the near plane, 1 infinitely far away."""
  return jnp.clip(1.0 - jnp.float32(near) / depth, 0.0, 1.0)


def bands(buffer: jax.Array) -> jax.Array:
  """Band, 0 to 7, of depths in [0, 1], `[...]` float32 -> int32; an edge belongs to the band above it."""
  chex.assert_type(buffer, jnp.float32)
  powered = buffer**POWER
  return sum((powered >= edge).astype(jnp.int32) for edge in BANDS)
