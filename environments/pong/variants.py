"""The eight games of the Pong Soup: pure maps of one picture, uint8 `[84, 84]` to uint8 `[84, 84]`.

The game behind the picture stays the same, and so does what each action does. Progressive Neural Networks, section 5.1,
names the variants; what it leaves open is an option here. Luminance is all that tells background from things: the
background is one exact grey, and a pixel's mix of it and something else moves along with it.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.pong import constants as c

NAMES = ("pong", "noisy", "black", "white", "zoom", "h_flip", "v_flip", "hv_flip")
ZOOM = 0.75


class Options(NamedTuple):
  """What the paper does not say.

  noise_sigma: standard deviation of the frozen noise, grey levels of 255. At 25 ball and paddles stay plain to the eye
    while every pixel differs.
  noise_seed: of that noise; all episodes and worlds share one image ("frozen").
  zoom_offset: row and column of the shrunken picture's upper left corner, from 0 to 21. The middle of the range shifts
    nothing; the default pushes it to the lower right corner, so that no pixel keeps its place by symmetry.
  """

  noise_sigma: float = 25.0
  noise_seed: int = 0
  zoom_offset: tuple[int, int] = (21, 21)


def apply(name: str, picture: jax.Array, options: Options) -> jax.Array:
  """`picture` as the variant `name` shows it."""
  chex.assert_shape(picture, (c.IMAGE_SIZE, c.IMAGE_SIZE))
  chex.assert_type(picture, jnp.uint8)
  match name:
    case "pong":
      return picture
    case "noisy":
      noisy = picture.astype(jnp.int32) + jnp.asarray(_noise(options), jnp.int32)
      return jnp.clip(noisy, 0, 255).astype(jnp.uint8)
    case "black":
      return _recolour(picture, 0)
    case "white":
      return _recolour(picture, 255)
    case "zoom":
      return _zoom(picture, options.zoom_offset)
    case "h_flip":
      return picture[:, ::-1]
    case "v_flip":
      return picture[::-1]
    case "hv_flip":
      return picture[::-1, ::-1]
  raise ValueError(f'no variant is called "{name}"; there are {", ".join(NAMES)}')


def _noise(options: Options) -> np.ndarray:
  size = (c.IMAGE_SIZE, c.IMAGE_SIZE)
  return np.rint(options.noise_sigma * np.random.default_rng(options.noise_seed).standard_normal(size))


def _recolour(picture: jax.Array, background: int) -> jax.Array:
  """Moves the background's grey to `background`."""
  table = np.arange(256, dtype=np.uint8)
  table[c.BACKGROUND] = background
  return jnp.asarray(table)[picture]


def _zoom(picture: jax.Array, offset: tuple[int, int]) -> jax.Array:
  """Shrinks to 63 x 63, puts the result at `offset` and fills the rest with the background's grey."""
  size = round(ZOOM * c.IMAGE_SIZE)
  weights = jnp.asarray(_zoom_weights(size), jnp.float32)
  small = jnp.einsum("ri,ij,cj->rc", weights, picture.astype(jnp.float32), weights)
  margins = [(o, c.IMAGE_SIZE - size - o) for o in offset]
  return jnp.pad(jnp.rint(small).astype(jnp.uint8), margins, constant_values=np.uint8(c.BACKGROUND))


def _zoom_weights(size: int) -> np.ndarray:
  """Area averages, `[size, 84]`."""
  fine = np.kron(np.eye(size), np.ones((1, c.IMAGE_SIZE)))  # Each new pixel is 84 parts, each old one `size`.
  return fine.reshape(size, c.IMAGE_SIZE, size).sum(-1) / c.IMAGE_SIZE
