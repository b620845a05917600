"""Strided VALID convolution, written twice.

Accelerators have a convolution unit; on a CPU, XLA's gradients of strided convolutions are the slowest part of
learning. There the same sum is written as one matrix product: cut the image into stride x stride blocks
(space-to-depth), lay the blocks under each position of the kernel side by side (patches), and multiply by the kernel
in the same order. Both take and give the same arrays (NHWC, kernel HWIO) and agree to float32 rounding.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax

METHODS = ("lax", "patches")


def output_shape(shape: tuple[int, ...], kernel: tuple[int, int], stride: int, features: int) -> tuple[int, ...]:
  """`[H', W', features]` of a VALID convolution over `[H, W, C]`; sizes below 1 mean that the kernel does not fit."""
  height, width = ((size - k) // stride + 1 for size, k in zip(shape[:2], kernel, strict=True))
  return (height, width, features)


def conv(x: jax.Array, kernel: jax.Array, stride: int, *, method: str | None = None) -> jax.Array:
  """VALID cross-correlation of `x` float32 `[T, H, W, C]` with `kernel` `[kh, kw, C, F]` -> `[T, H', W', F]`.

  `method` is "lax" or "patches"; None takes "patches" where the default backend is a CPU, "lax" elsewhere.
  """
  chex.assert_rank([x, kernel], 4)
  chex.assert_equal(x.shape[-1], kernel.shape[2])
  if method is None:
    method = "patches" if jax.default_backend() == "cpu" else "lax"
  if method == "lax":
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  if method != "patches":
    raise ValueError(f"convolution method {method!r} is not one of {METHODS}")
  return _conv_patches(x, kernel, stride)


def _conv_patches(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  kernel_height, kernel_width, channels, features = kernel.shape
  height, width, _ = output_shape(x.shape[1:], (kernel_height, kernel_width), stride, features)
  # The kernel covers rows x columns blocks of stride x stride pixels, filled up with zeros.
  rows, columns = -(-kernel_height // stride), -(-kernel_width // stride)
  x = _fit(x, 1, (height + rows - 1) * stride)
  x = _fit(x, 2, (width + columns - 1) * stride)
  x = x.reshape(-1, height + rows - 1, stride, width + columns - 1, stride, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height + rows - 1, width + columns - 1, stride * stride * channels)
  kernel = _fit(_fit(kernel, 0, rows * stride), 1, columns * stride)
  kernel = kernel.reshape(rows, stride, columns, stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
  patches = [x[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
  return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, features)


def _fit(x: jax.Array, axis: int, size: int) -> jax.Array:
  """Cuts or zero-pads the end of `axis` to `size`."""
  x = lax.slice_in_dim(x, 0, min(size, x.shape[axis]), axis=axis)
  padding = [(0, 0)] * x.ndim
  padding[axis] = (0, size - x.shape[axis])
  return jnp.pad(x, padding)
