"""Layers without a state: `Dense` activation(W x + b), `Conv` activation(W * x + b), and `LayerNorm`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from progressive.layers import convolution, layer

KERNEL_INITS = ("lecun", "contrast")


@dataclasses.dataclass(frozen=True)
class Dense(layer.Activated):
  """activation(W x + b) with `size` features; LeCun-normal kernel, zero bias."""

  size: int

  @property
  def is_linear(self) -> bool:
    return self.activation is None

  def shape(self, read: layer.Shape) -> layer.Shape:
    return (self.size,)

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    """kernel `[D, size]`, bias `[size]`"""
    kernel = jax.nn.initializers.lecun_normal()(key, (*read, self.size), jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros((self.size,), jnp.float32)}

  def pre_activation(self, params: layer.Params, x: jax.Array) -> jax.Array:
    """`[N, D]` -> `[N, size]`"""
    return layer.add_bias(x @ params["kernel"], params["bias"])

  def check(self) -> None:
    super().check()
    self.check_sizes(size=self.size)


@dataclasses.dataclass(frozen=True)
class Conv(layer.Activated):
  """activation(W * x + b), VALID, with `features` maps; `kernel` is one size or (height, width).

  `kernel_init` "contrast" is for pictures that are mostly plain. Every kernel sums to zero, so a background of any
  brightness has no effect at first. Kernels are four times LeCun's, because pixels in [0, 1] differ by about a quarter.

  The layer has reverse-mode gradients, `jax.grad` and `jax.vjp`; it does not support `jax.jvp` and `jax.hessian`.
  """

  features: int
  kernel: int | tuple[int, int]
  stride: int
  kernel_init: str = "lecun"

  joins = "maps"
  takes_pixels = True

  @property
  def kernel_size(self) -> tuple[int, int]:
    """(height, width)"""
    return (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel

  def shape(self, read: layer.Shape) -> layer.Shape:
    """`[H, W, C]` -> `[H', W', features]`"""
    shape = convolution.output_shape(read, self.kernel_size, self.stride, self.features)
    if min(shape) < 1:
      raise ValueError(
        f"Layer {self.name!r}: its kernel {self.kernel_size} does not fit into its input {read}; "
        f"use a kernel of at most {read[:2]}."
      )
    return shape

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    """kernel `[kh, kw, C, features]`, bias `[features]`"""
    kernel = jax.nn.initializers.lecun_normal()(key, (*self.kernel_size, read[-1], self.features), jnp.float32)
    if self.kernel_init == "contrast":
      kernel = 4.0 * (kernel - jnp.mean(kernel, axis=(0, 1, 2), keepdims=True))
    return {"kernel": kernel, "bias": jnp.zeros((self.features,), jnp.float32)}

  def pre_activation(self, params: layer.Params, x: jax.Array) -> jax.Array:
    """`[N, H, W, C]` -> `[N, H', W', features]`"""
    return layer.add_bias(self.lateral(params["kernel"], x), params["bias"])

  def lateral_kernel(self, source: layer.Shape, read: layer.Shape) -> layer.Shape:
    """Shape of its own kernel over `source`, which must give maps as large as those from its own input."""
    size, stride, shape = self.kernel_size, self.stride, self.shape(read)
    if len(source) != 3 or convolution.output_shape(source, size, stride, self.features) != shape:
      raise ValueError(
        f"its kernel {size} with stride {stride} makes {shape} from its own input {read}, but not from this"
      )
    return (*size, source[-1], self.features)

  def lateral(self, kernel: jax.Array, h: jax.Array) -> jax.Array:
    """Convolves `h` `[N, H, W, C]` with `kernel` at the layer's stride."""
    return convolution.conv(h, kernel, self.stride)

  def check(self) -> None:
    super().check()
    size = self.kernel_size
    if not isinstance(size, Sequence) or len(size) != 2:
      raise ValueError(f"Layer {self.name!r}: kernel={self.kernel!r} must be one int or (height, width).")
    for side in size:
      self.check_sizes(features=self.features, stride=self.stride, kernel=side)
    if self.kernel_init not in KERNEL_INITS:
      raise ValueError(f"Layer {self.name!r}: kernel_init={self.kernel_init!r} is not one of {KERNEL_INITS}.")


@dataclasses.dataclass(frozen=True)
class LayerNorm(layer.Activated):
  """activation(scale (x - mean) / deviation + bias), over the features, or the channels at each position of a map.

  Ba et al. 2016. Put it above a layer without activation. It has no laterals unless it is given some.
  """

  epsilon: float = 1e-6  # Added to the variance.
  laterals: str | None = dataclasses.field(default=None, kw_only=True)

  joins = "either"

  def shape(self, read: layer.Shape) -> layer.Shape:
    return read

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    """scale `[D]` of ones, bias `[D]` of zeros"""
    del key
    return {"scale": jnp.ones((read[-1],), jnp.float32), "bias": jnp.zeros((read[-1],), jnp.float32)}

  def pre_activation(self, params: layer.Params, x: jax.Array) -> jax.Array:
    """`[N, ..., D]` -> `[N, ..., D]`"""
    x = jax.nn.standardize(x, variance=jnp.var(x, axis=-1, keepdims=True), epsilon=self.epsilon)
    return layer.add_bias(layer.over_features(params["scale"], x) * x, params["bias"])
