"""The eight games of the Pong Soup: pure maps from one picture, uint8 `[84, 84]`, to another, uint8 `[84, 84]`.

The game behind the picture stays the same, and so does the effect of each action. Progressive Neural Networks, section
5.1, names the variants. What the paper leaves open is an option here. The background is one exact grey. "black" and
"white" replace this grey and leave every other pixel as it was. The ball itself is nearly white, so on white mostly its
darker edge shows.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.pong import constants as c

NAMES = ("pong", "noisy", "black", "white", "zoom", "h_flip", "v_flip", "hv_flip")
_ZOOMED = c.IMAGE_SIZE * 3 // 4  # 75 %.
MAX_OFFSET = c.IMAGE_SIZE - _ZOOMED


class Options(NamedTuple):
  """The options that the paper leaves open.

  noise_sigma: standard deviation of the frozen noise, in grey levels of 255. At 15, a quarter of a paddle's contrast of
    60, everything can still be seen, and hardly a background pixel equals its neighbour.
  noise_seed: the seed of the frozen noise. All episodes and worlds share one image.
  zoom_offset: row and column of the smaller picture's upper left corner, each from 0 to 21. The default puts the
    picture into the lower right corner, the farthest from its original place; the rest is background.
  """

  noise_sigma: float = 15.0
  noise_seed: int = 0
  zoom_offset: tuple[int, ...] = (MAX_OFFSET, MAX_OFFSET)


DEFAULTS = Options()


def check(name: str, options: Options) -> None:
  """Refuses invalid variants and options.

  Raises:
    ValueError: names the variant or the option, its value and the valid ones.
  """
  if name not in NAMES:
    raise ValueError(f'no variant is called "{name}"; there are {", ".join(NAMES)}')
  if not 0.0 <= options.noise_sigma < math.inf:
    raise ValueError(f"noise_sigma={options.noise_sigma} must be finite and not below 0")
  if options.noise_seed < 0:
    raise ValueError(f"noise_seed={options.noise_seed} must not be below 0")
  offset = options.zoom_offset
  if len(offset) != 2 or not all(isinstance(each, int) and 0 <= each <= MAX_OFFSET for each in offset):
    raise ValueError(f"zoom_offset={options.zoom_offset} must be a row and a column from 0 to {MAX_OFFSET}")


def apply(name: str, picture: jax.Array, options: Options) -> jax.Array:
  """`picture` as it looks in the variant `name`."""
  chex.assert_shape(picture, (c.IMAGE_SIZE, c.IMAGE_SIZE))
  chex.assert_type(picture, jnp.uint8)
  match name:
    case "noisy":
      noisy = picture.astype(jnp.int16) + jnp.asarray(noise(options))
      return jnp.clip(noisy, 0, 255).astype(jnp.uint8)
    case "black":
      return jnp.where(picture == c.BACKGROUND, jnp.uint8(0), picture)
    case "white":
      return jnp.where(picture == c.BACKGROUND, jnp.uint8(255), picture)
    case "zoom":
      return _zoom(picture, options.zoom_offset)
    case "h_flip":
      return picture[:, ::-1]
    case "v_flip":
      return picture[::-1]
    case "hv_flip":
      return picture[::-1, ::-1]
    case _:
      return picture


def noise(options: Options) -> np.ndarray:
  """The frozen noise image, int16 `[84, 84]`."""
  normal = np.random.default_rng(options.noise_seed).standard_normal((c.IMAGE_SIZE, c.IMAGE_SIZE))
  return np.rint(np.clip(options.noise_sigma * normal, -255, 255)).astype(np.int16)


def _zoom(picture: jax.Array, offset: tuple[int, ...]) -> jax.Array:
  """Shrinks to 63 x 63 by area averages, puts the result at `offset` and fills the rest with the background."""
  sums = _shrink_rows(_shrink_rows(picture.astype(jnp.int16)).T).T  # 16 times the averages.
  small = ((sums + 8) // 16).astype(jnp.uint8)
  margins = [(before, MAX_OFFSET - before) for before in offset]
  return jnp.pad(small, margins, constant_values=np.uint8(c.BACKGROUND))


def _shrink_rows(rows: jax.Array) -> jax.Array:
  """4 times the area averages that turn 4 rows into 3, `[84, N]` -> `[63, N]`."""
  a, b, c_, d = (rows[i::4] for i in range(4))
  thirds = jnp.stack([3 * a + b, 2 * (b + c_), c_ + 3 * d], axis=1)  # [21, 3, N]
  return thirds.reshape(_ZOOMED, rows.shape[1])
