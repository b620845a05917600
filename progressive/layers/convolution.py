"""Strided VALID convolution that is quick on CPUs and GPUs, and so are its gradients.

XLA:CPU's strided convolutions are the slowest part of learning, and so are cuDNN's where runs side by side have kernels
of their own. There the same sums are written as matrix products over stride x stride blocks (space-to-depth), or over
patches where blocks would be too many; of pixels that stay uint8 until then, a quarter of the memory to move. Examples
go through in parts: on a CPU as large as its cache, on a GPU so large that parts are few, and fit. TPUs keep XLA's own
convolution and gradients. Both agree to float32 rounding. Arrays are NHWC, kernels HWIO.
"""

import functools
import itertools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WAYS = ("lax", "products")
_PER_LEVEL = np.float32(1 / 255)  # Of a uint8 pixel.
_PART, _LARGE_PART = 2**18, 2**26  # Numbers that go through at once, in float32: on a CPU 1 MB, elsewhere 256 MB.


def output_shape(shape: tuple[int, ...], kernel: tuple[int, int], stride: int, features: int) -> tuple[int, ...]:
  """`[H', W', features]` of a VALID convolution over `[H, W, C]`; sizes below 1 mean that the kernel does not fit."""
  height, width = ((size - k) // stride + 1 for size, k in zip(shape[:2], kernel, strict=True))
  return (height, width, features)


def conv(x: jax.Array, kernel: jax.Array, stride: int, *, by: str | None = None) -> jax.Array:
  """VALID cross-correlation of `x` float32 `[T, H, W, C]` with `kernel` `[kh, kw, C, F]` -> `[T, H', W', F]`.

  `x` may be uint8, pixels that stand for 0 to 1. `by` is "lax", XLA's own, or "products" (reverse mode only); None
  takes "products" but on a TPU.
  """
  chex.assert_rank([x, kernel], 4)
  chex.assert_equal(x.shape[-1], kernel.shape[2])
  if by is None:
    by = "lax" if jax.default_backend() == "tpu" else "products"
  if by not in WAYS:
    raise ValueError(f"by={by!r} is not one of {WAYS}.")
  if by == "lax":
    strides = (stride, stride)
    return lax.conv_general_dilated(
      from_pixels(x), kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
  return _jitted(x if x.dtype == jnp.uint8 else x.astype(jnp.float32), kernel, stride)


def from_pixels(x: jax.Array) -> jax.Array:
  """uint8 -> float32 in [0, 1]; any other number -> float32."""
  return x.astype(jnp.float32) * _PER_LEVEL if x.dtype == jnp.uint8 else x.astype(jnp.float32)


# The convolution and its two gradients are bilinear, and each is a gradient of the others: so all have gradients.


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  return _in_parts(lambda x, kernel: _products(x, kernel, stride), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(x: jax.Array, g: jax.Array, kernel: tuple[int, ...], stride: int) -> jax.Array:
  """`[kh, kw, C, F]`, the shape `kernel`, of `x` `[T, H, W, C]` and `g` `[T, H', W', F]`."""
  gradient = _in_parts(lambda x, g: _products_with_gradient(x, g, kernel, stride), x, g, is_sum=True)
  return _PER_LEVEL * gradient if x.dtype == jnp.uint8 else gradient


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _input_gradient(g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int) -> jax.Array:
  """`[T, H, W, C]`, of one example `shape`, of `g` `[T, H', W', F]`."""
  return _in_parts(lambda g, kernel: _products_of_gradient(g, kernel, shape, stride), g, kernel)


def _back_from_conv(stride: int, saved: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array | None, jax.Array]:
  x, kernel = saved  # The compiler drops the input's gradient where x is data.
  of_x = None if x.dtype == jnp.uint8 else _input_gradient(g, kernel, x.shape[1:], stride)
  return of_x, _kernel_gradient(x, g, kernel.shape, stride)


def _back_from_kernel(
  kernel: tuple[int, ...], stride: int, saved: tuple[jax.Array, ...], c: jax.Array
) -> tuple[jax.Array | None, jax.Array]:
  x, g = saved
  return None if x.dtype == jnp.uint8 else _input_gradient(g, c, x.shape[1:], stride), _conv_products(x, c, stride)


def _back_from_input(
  shape: tuple[int, ...], stride: int, saved: tuple[jax.Array, ...], c: jax.Array
) -> tuple[jax.Array, jax.Array]:
  g, kernel = saved
  return _conv_products(c, kernel, stride), _kernel_gradient(c, g, kernel.shape, stride)


_conv_products.defvjp(lambda x, kernel, stride: (_conv_products(x, kernel, stride), (x, kernel)), _back_from_conv)
_kernel_gradient.defvjp(lambda x, g, *how: (_kernel_gradient(x, g, *how), (x, g)), _back_from_kernel)
_input_gradient.defvjp(lambda g, kernel, *how: (_input_gradient(g, kernel, *how), (g, kernel)), _back_from_input)
_jitted = jax.jit(_conv_products, static_argnums=2)  # Whoever has no `jit` of his own compiles its loops once.


def _products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Each block times the kernel's blocks, then their sums, shifted; or patches times the kernel."""
  rows, columns = _num_blocks(kernel.shape, stride)
  height, width, features = output_shape(x.shape[1:], kernel.shape[:2], stride, kernel.shape[3])
  if _is_wasteful(kernel.shape, stride, (height, width)):
    products = _rows(_patches(x, kernel.shape, stride, (height, width))) @ kernel.reshape(-1, features)
    return products.reshape(-1, height, width, features) * (_PER_LEVEL if x.dtype == jnp.uint8 else 1)
  blocks = _blocks(x, (height + rows - 1, width + columns - 1), stride)
  weights = _blocks_of_kernel(kernel, stride) * (_PER_LEVEL if x.dtype == jnp.uint8 else 1)
  products = _rows(blocks.astype(jnp.float32)) @ weights.transpose(3, 1, 2, 0).reshape(weights.shape[-1], -1)
  products = products.reshape(*blocks.shape[:3], rows, columns, features)
  shifted = [products[:, i : i + height, j : j + width, i, j] for i in range(rows) for j in range(columns)]
  return functools.reduce(jnp.add, shifted)


def _products_with_gradient(x: jax.Array, g: jax.Array, kernel: tuple[int, ...], stride: int) -> jax.Array:
  """The blocks of `x` times `g` shifted to each block of the kernel, or patches times `g`."""
  rows, columns = _num_blocks(kernel, stride)
  channels, features = kernel[2:]
  if _is_wasteful(kernel, stride, g.shape[1:3]):
    return (_rows(_patches(x, kernel, stride, g.shape[1:3])).T @ _rows(g)).reshape(kernel)
  blocks = _blocks(x, (g.shape[1] + rows - 1, g.shape[2] + columns - 1), stride).astype(jnp.float32)
  gradient = _rows(blocks).T @ _rows(_shifted(g, rows, columns))
  gradient = gradient.reshape(stride, stride, channels, rows, columns, features).transpose(3, 0, 4, 1, 2, 5)
  return gradient.reshape(rows * stride, columns * stride, channels, features)[: kernel[0], : kernel[1]]


def _products_of_gradient(g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int) -> jax.Array:
  """`g` times the kernel, a patch for each place, then the sums of patches where they lie over each other."""
  rows, columns = _num_blocks(kernel.shape, stride)
  channels, features = kernel.shape[2:]
  missing = [(0, max(stride - kernel.shape[0], 0)), (0, columns * stride - kernel.shape[1])]  # Of whole blocks.
  kernel = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
  patches = _rows(g) @ kernel.reshape(-1, features).T
  patches = patches.reshape(*g.shape[:3], kernel.shape[0], columns, stride * channels)
  of_rows = []
  for first in range(stride):  # A row of a block lies under each row of the kernel that is whole blocks away.
    under = itertools.product(range(first, kernel.shape[0], stride), range(columns))
    pads = {(i, j): ((0, 0), (i // stride, rows - 1 - i // stride), (j, columns - 1 - j), (0, 0)) for i, j in under}
    of_rows.append(functools.reduce(jnp.add, [jnp.pad(patches[:, :, :, i, j], pad) for (i, j), pad in pads.items()]))
  x = jnp.stack(of_rows, axis=2)  # [T, rows of blocks, stride, columns of blocks, stride * C]
  return _fitted(x.reshape(-1, x.shape[1] * stride, x.shape[3] * stride, channels), *shape[:2])


def _is_wasteful(kernel: tuple[int, ...], stride: int, size: tuple[int, ...]) -> bool:
  """Whether whole blocks are over half as many products again as patches are, as for 5x5 of stride 2 or 3x3 of 1.

  Others are quicker by blocks: patches of pixels are runs of few numbers, too short to copy fast.
  """
  blocks = _num_blocks(kernel, stride)
  more = (of * stride / k * (out + of - 1) / out for of, k, out in zip(blocks, kernel[:2], size, strict=True))
  return math.prod(more) > 1.5


def _patches(x: jax.Array, kernel: tuple[int, ...], stride: int, size: tuple[int, ...]) -> jax.Array:
  """`[N, H, W, C]` -> `[N, *size, kh * kw * C]` in float32, what each place of the kernel covers."""
  rows, columns = _num_blocks(kernel, stride)
  height, width = size
  x = _fitted(x, (height + rows - 1) * stride, (width + columns - 1) * stride)
  x = x.reshape(-1, height + rows - 1, stride, width + columns - 1, stride * kernel[2])
  runs = []  # Of a row of a block.
  for i, j in itertools.product(range(kernel[0]), range(columns)):
    block, row = divmod(i, stride)
    num = min(stride, kernel[1] - j * stride) * kernel[2]
    runs.append(x[:, block : block + height, row, j : j + width, :num])
  return jnp.concatenate(runs, axis=-1).astype(jnp.float32)


def _shifted(g: jax.Array, rows: int, columns: int) -> jax.Array:
  """`[T, H', W', F]` -> `[T, H' + rows - 1, W' + columns - 1, rows * columns * F]`."""
  height, width = g.shape[1] + rows - 1, g.shape[2] + columns - 1
  padded = jnp.pad(g, ((0, 0), (rows - 1, rows - 1), (columns - 1, columns - 1), (0, 0)))
  starts = itertools.product(reversed(range(rows)), reversed(range(columns)))  # The later, the less it is shifted.
  return jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in starts], axis=-1)


def _num_blocks(kernel: tuple[int, ...], stride: int) -> tuple[int, int]:
  """Rows and columns of blocks that a kernel covers."""
  return -(-kernel[0] // stride), -(-kernel[1] // stride)


def _blocks_of_kernel(kernel: jax.Array, stride: int) -> jax.Array:
  """`[kh, kw, C, F]` -> `[F, rows, columns, stride * stride * C]`, filled up with zeros to whole blocks."""
  return _blocks(kernel.transpose(3, 0, 1, 2), _num_blocks(kernel.shape, stride), stride)


def _in_parts(
  f: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, y: jax.Array, *, is_sum: bool = False
) -> jax.Array:
  """`f(x, y)` of `x` `[T, ...]`, part after part: `[T, ...]`; or, as a sum over T, with `y` `[T, ...]` in parts too.

  A `vmap` goes through a few of its examples at once, as many from each device's share.
  """
  limit = _PART if jax.default_backend() == "cpu" else _LARGE_PART

  def of_one(x: jax.Array, y: jax.Array) -> jax.Array:
    num = x.shape[0]
    size = _divisor(num, limit // math.prod(x.shape[1:]))
    if size == num:
      return f(x, y)
    parts = x.reshape(-1, size, *x.shape[1:])
    if not is_sum:
      made = lax.map(lambda part: f(part, y), parts)
      return made.reshape(-1, *made.shape[2:])
    shape = jax.eval_shape(f, x, y)
    start, ys = jnp.zeros(shape.shape, shape.dtype), y.reshape(-1, size, *y.shape[1:])
    return lax.scan(lambda total, part: (total + f(*part), None), start, (parts, ys))[0]

  call = jax.custom_batching.custom_vmap(of_one)

  @call.def_vmap
  def of_many(num: int, are_mapped: list[bool], *xs: jax.Array) -> tuple[jax.Array, bool]:
    mapped = jax.vmap(of_one, in_axes=[0 if is_mapped else None for is_mapped in are_mapped])
    num_devices = jax.device_count()
    size = _divisor(num, limit * num // max(xs[0].size, 1), num_devices)
    if xs[0].size <= limit or size == num:
      return mapped(*xs), True
    shares = num_devices, num // size, size // num_devices

    def some(index: jax.Array) -> jax.Array:
      def part(x: jax.Array) -> jax.Array:
        chosen = lax.dynamic_index_in_dim(x.reshape(*shares, *x.shape[1:]), index, 1, keepdims=False)
        return chosen.reshape(size, *x.shape[1:])

      made = mapped(*(part(x) if is_mapped else x for x, is_mapped in zip(xs, are_mapped, strict=True)))
      return made.reshape(num_devices, size // num_devices, *made.shape[1:])

    made = jnp.moveaxis(lax.map(some, jnp.arange(num // size)), 0, 1)
    return made.reshape(num, *made.shape[3:]), True

  return call(x, y)


def _divisor(num: int, most: int, of: int = 1) -> int:
  """The greatest divisor of `num` up to `most` that is a multiple of `of`, at least `of` itself; `num` if none is."""
  if not (isinstance(num, int) and num):  # Of a program that is exported for any number; of none.
    return num
  return max((k for k in range(of, min(max(most, of), num) + 1, of) if num % k == 0), default=num)


def _rows(x: jax.Array) -> jax.Array:
  """`[..., D]` -> `[N, D]`."""
  return x.reshape(-1, x.shape[-1])


def _blocks(x: jax.Array, size: tuple[int, int], stride: int) -> jax.Array:
  """`[N, H, W, C]` -> `[N, *size, stride * stride * C]`: cut or zero-padded at the end, then space-to-depth."""
  x = _fitted(x, size[0] * stride, size[1] * stride)
  channels = x.shape[-1]
  is_bytes = x.dtype == jnp.uint8 and channels % 4 == 0
  if is_bytes:  # Four channels move as one word.
    x = lax.bitcast_convert_type(x.reshape(*x.shape[:3], channels // 4, 4), jnp.uint32)
  x = x.reshape(-1, size[0], stride, size[1], stride, x.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
  return (lax.bitcast_convert_type(x, jnp.uint8) if is_bytes else x).reshape(
    x.shape[0], *size, stride * stride * channels
  )


def _fitted(x: jax.Array, height: int, width: int) -> jax.Array:
  """`[N, H, W, C]` cut or zero-padded at the end to `[N, height, width, C]`."""
  x = x[:, :height, :width]
  return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)))
