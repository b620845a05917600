"""Strided VALID convolution with gradients that are quick on a CPU.

XLA:CPU convolves forwards fast; its gradients of strided convolutions are the slowest part of learning. There the
same sums are written otherwise, over stride x stride blocks (space-to-depth): the kernel's gradient as one matrix
product, the input's gradient as a convolution of stride 1. Pictures stay uint8 until they lie in blocks, a
quarter of the memory to move, and are convolved as one matrix product as well. Accelerators have a convolution unit
and keep XLA's own convolution and gradients. All agree to float32 rounding. Arrays are NHWC, kernels HWIO.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

GRADIENTS = ("lax", "products")
_PER_LEVEL = np.float32(1 / 255)  # Of a uint8 pixel.


def output_shape(shape: tuple[int, ...], kernel: tuple[int, int], stride: int, features: int) -> tuple[int, ...]:
  """`[H', W', features]` of a VALID convolution over `[H, W, C]`; sizes below 1 mean that the kernel does not fit."""
  height, width = ((size - k) // stride + 1 for size, k in zip(shape[:2], kernel, strict=True))
  return (height, width, features)


def conv(x: jax.Array, kernel: jax.Array, stride: int, *, gradient: str | None = None) -> jax.Array:
  """VALID cross-correlation of `x` float32 `[T, H, W, C]` with `kernel` `[kh, kw, C, F]` -> `[T, H', W', F]`.

  `x` may be uint8, pixels that stand for 0 to 1. `gradient` is "lax" or "products" (reverse mode only); None takes
  "products" where the default backend is a CPU.
  """
  chex.assert_rank([x, kernel], 4)
  chex.assert_equal(x.shape[-1], kernel.shape[2])
  if gradient is None:
    gradient = "products" if jax.default_backend() == "cpu" else "lax"
  if gradient not in GRADIENTS:
    raise ValueError(f"gradient={gradient!r} is not one of {GRADIENTS}.")
  if gradient == "lax":
    return _conv(from_pixels(x), kernel, stride)
  return _conv_pixels(x, kernel, stride) if x.dtype == jnp.uint8 else _conv_products(x, kernel, stride)


def from_pixels(x: jax.Array) -> jax.Array:
  """uint8 -> float32 in [0, 1]; any other number -> float32."""
  return x.astype(jnp.float32) * _PER_LEVEL if x.dtype == jnp.uint8 else x.astype(jnp.float32)


def _conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  return _conv(x, kernel, stride)


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _conv(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  _, input_vjp = jax.vjp(lambda x: _conv_blocks(x, kernel, stride), x)  # Dropped by the compiler where x is data.
  rows, columns = (-(-size // stride) for size in kernel.shape[:2])
  blocks = _blocks(x, (g.shape[1] + rows - 1, g.shape[2] + columns - 1), stride)
  return *input_vjp(g), _gradient_of_blocks(blocks, g, kernel.shape, stride)


_conv_products.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_pixels(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  return _forward_pixels(x, kernel, stride)[0]


def _forward_pixels(
  x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, tuple[int, int, int]]]:
  """Each block times the kernel's blocks, then their sums, shifted."""
  rows, columns = (-(-size // stride) for size in kernel.shape[:2])
  height, width, features = output_shape(x.shape[1:], kernel.shape[:2], stride, kernel.shape[3])
  blocks = _blocks(x, (height + rows - 1, width + columns - 1), stride)  # uint8
  weights = _blocks(kernel.transpose(3, 0, 1, 2), (rows, columns), stride) * _PER_LEVEL  # [F, rows, columns, D]
  products = _rows(blocks.astype(jnp.float32)) @ weights.transpose(3, 1, 2, 0).reshape(weights.shape[-1], -1)
  products = products.reshape(*blocks.shape[:3], rows, columns, features)
  shifted = [products[:, i : i + height, j : j + width, i, j] for i in range(rows) for j in range(columns)]
  return functools.reduce(jnp.add, shifted), (blocks, kernel)


def _backward_pixels(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[None, jax.Array]:
  blocks, kernel = saved
  return None, _PER_LEVEL * _gradient_of_blocks(blocks.astype(jnp.float32), g, kernel.shape, stride)


_conv_pixels.defvjp(_forward_pixels, _backward_pixels)


def _conv_blocks(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The same convolution with stride 1 over blocks; the kernel is filled up with zeros to whole blocks."""
  rows, columns = (-(-size // stride) for size in kernel.shape[:2])
  height, width, features = output_shape(x.shape[1:], kernel.shape[:2], stride, kernel.shape[3])
  blocks = _blocks(x, (height + rows - 1, width + columns - 1), stride)
  kernel = _blocks(kernel.transpose(3, 0, 1, 2), (rows, columns), stride).transpose(1, 2, 3, 0)
  return _conv(blocks, kernel, 1)


def _gradient_of_blocks(blocks: jax.Array, g: jax.Array, kernel: tuple[int, ...], stride: int) -> jax.Array:
  """Kernel gradient `[kh, kw, C, F]`: the blocks, times `g` `[T, H', W', F]` shifted to each block of the kernel.

  Patches of pixels would be fewer products, but runs of C numbers, too short to copy fast.
  """
  rows, columns = (-(-size // stride) for size in kernel[:2])
  channels, features = kernel[2:]
  shifts = [(i, j) for i in range(rows) for j in range(columns)]
  shifted = [jnp.pad(g, ((0, 0), (i, rows - 1 - i), (j, columns - 1 - j), (0, 0))) for i, j in shifts]
  gradient = _rows(blocks).T @ _rows(jnp.concatenate(shifted, axis=-1))
  gradient = gradient.reshape(stride, stride, channels, rows, columns, features).transpose(3, 0, 4, 1, 2, 5)
  return gradient.reshape(rows * stride, columns * stride, channels, features)[: kernel[0], : kernel[1]]


def _rows(x: jax.Array) -> jax.Array:
  """`[..., D]` -> `[N, D]`."""
  return x.reshape(-1, x.shape[-1])


def _blocks(x: jax.Array, size: tuple[int, int], stride: int) -> jax.Array:
  """`[N, H, W, C]` -> `[N, *size, stride * stride * C]`: cut or zero-padded at the end, then space-to-depth."""
  rows, columns = size[0] * stride, size[1] * stride
  x = x[:, :rows, :columns]
  x = jnp.pad(x, ((0, 0), (0, rows - x.shape[1]), (0, columns - x.shape[2]), (0, 0)))
  is_bytes = x.dtype == jnp.uint8 and x.shape[-1] % 4 == 0
  if is_bytes:  # Four channels move as one word.
    x = lax.bitcast_convert_type(x.reshape(*x.shape[:3], -1, 4), jnp.uint32)
  x = x.reshape(-1, size[0], stride, size[1], stride, x.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
  return (lax.bitcast_convert_type(x, jnp.uint8) if is_bytes else x).reshape(x.shape[0], *size, -1)
