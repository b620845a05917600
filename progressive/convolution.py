"""Strided VALID convolution with gradients that are quick on a CPU.

XLA:CPU convolves forwards fast; its gradients of strided convolutions are the slowest part of learning. There the
same sums are written otherwise: the kernel's gradient as one matrix product of patches, the input's gradient as a
convolution of stride 1 over stride x stride blocks (space-to-depth). Accelerators have a convolution unit and keep
XLA's own gradients. Both agree to float32 rounding. Arrays are NHWC, kernels HWIO.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax

GRADIENTS = ("lax", "products")
_FEW_CHANNELS = 8  # Below, patches of single pixels are runs too short to copy fast; measured at 3 and 16 channels.


def output_shape(shape: tuple[int, ...], kernel: tuple[int, int], stride: int, features: int) -> tuple[int, ...]:
  """`[H', W', features]` of a VALID convolution over `[H, W, C]`; sizes below 1 mean that the kernel does not fit."""
  height, width = ((size - k) // stride + 1 for size, k in zip(shape[:2], kernel, strict=True))
  return (height, width, features)


def conv(x: jax.Array, kernel: jax.Array, stride: int, *, gradient: str | None = None) -> jax.Array:
  """VALID cross-correlation of `x` float32 `[T, H, W, C]` with `kernel` `[kh, kw, C, F]` -> `[T, H', W', F]`.

  `gradient` is "lax" or "products" (reverse mode only); None takes "products" where the default backend is a CPU.
  """
  chex.assert_rank([x, kernel], 4)
  chex.assert_equal(x.shape[-1], kernel.shape[2])
  if gradient is None:
    gradient = "products" if jax.default_backend() == "cpu" else "lax"
  if gradient not in GRADIENTS:
    raise ValueError(f"gradient={gradient!r} is not one of {GRADIENTS}.")
  return _conv_products(x, kernel, stride) if gradient == "products" else _conv(x, kernel, stride)


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
  kernel_gradient = _gradient_of_blocks if x.shape[-1] < _FEW_CHANNELS else _gradient_of_pixels
  return *input_vjp(g), kernel_gradient(x, g, kernel.shape[:2], stride)


_conv_products.defvjp(_forward, _backward)


def _conv_blocks(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The same convolution with stride 1 over blocks; the kernel is filled up with zeros to whole blocks."""
  rows, columns = (-(-size // stride) for size in kernel.shape[:2])
  height, width, features = output_shape(x.shape[1:], kernel.shape[:2], stride, kernel.shape[3])
  blocks = _blocks(x, (height + rows - 1, width + columns - 1), stride)
  kernel = _blocks(kernel.transpose(3, 0, 1, 2), (rows, columns), stride).transpose(1, 2, 3, 0)
  return _conv(blocks, kernel, 1)


def _gradient_of_pixels(x: jax.Array, g: jax.Array, kernel: tuple[int, int], stride: int) -> jax.Array:
  """Kernel gradient `[kh, kw, C, F]`: the pixels under each position of the kernel, times `g` `[T, H', W', F]`."""
  height, width, features = g.shape[1:]
  rows = [slice(i, i + (height - 1) * stride + 1, stride) for i in range(kernel[0])]
  columns = [slice(j, j + (width - 1) * stride + 1, stride) for j in range(kernel[1])]
  patches = jnp.concatenate([x[:, row, column] for row in rows for column in columns], axis=-1)
  gradient = patches.reshape(-1, patches.shape[-1]).T @ g.reshape(-1, features)
  return gradient.reshape(*kernel, x.shape[-1], features)


def _gradient_of_blocks(x: jax.Array, g: jax.Array, kernel: tuple[int, int], stride: int) -> jax.Array:
  """The same from blocks of pixels, times `g` shifted to each block of the kernel: fewer, longer runs."""
  rows, columns = (-(-size // stride) for size in kernel)
  height, width, features = g.shape[1:]
  blocks = _blocks(x, (height + rows - 1, width + columns - 1), stride)
  shifts = [(i, j) for i in range(rows) for j in range(columns)]
  shifted = [jnp.pad(g, ((0, 0), (i, rows - 1 - i), (j, columns - 1 - j), (0, 0))) for i, j in shifts]
  shifted = jnp.concatenate(shifted, axis=-1)
  gradient = blocks.reshape(-1, blocks.shape[-1]).T @ shifted.reshape(-1, shifted.shape[-1])
  gradient = gradient.reshape(stride, stride, x.shape[-1], rows, columns, features).transpose(3, 0, 4, 1, 2, 5)
  return gradient.reshape(rows * stride, columns * stride, x.shape[-1], features)[: kernel[0], : kernel[1]]


def _blocks(x: jax.Array, size: tuple[int, int], stride: int) -> jax.Array:
  """`[N, H, W, C]` -> `[N, *size, stride * stride * C]`: cut or zero-padded at the end, then space-to-depth."""
  rows, columns = size[0] * stride, size[1] * stride
  x = x[:, :rows, :columns]
  x = jnp.pad(x, ((0, 0), (0, rows - x.shape[1]), (0, columns - x.shape[2]), (0, 0)))
  x = x.reshape(-1, size[0], stride, size[1], stride, x.shape[-1])
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, *size, stride * stride * x.shape[-1])
