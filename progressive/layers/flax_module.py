"""Any `flax.linen` module as a layer: `Flax("body", ("x",), MyModule(features=64))`.

The module maps `[N, *read]` to `[N, *shape]` and treats each of the N rows independently. It may have parameters and
nothing else: no running statistics, no noise. Laterals add to its output before `activation`; a module that outputs
maps can have no laterals.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from progressive.layers import layer


@dataclasses.dataclass(frozen=True)
class Flax(layer.Activated):
  """activation(module(x)); several inputs are joined along channels if all are maps, and flattened otherwise."""

  module: nn.Module
  activation: str | Callable[[jax.Array], jax.Array] | None = dataclasses.field(default=None, kw_only=True)

  joins = "either"

  def shape(self, read: layer.Shape) -> layer.Shape:
    """Shape of the module's output for an input of shape `read`."""
    x = jax.ShapeDtypeStruct((2, *read), jnp.float32)
    try:
      variables = jax.eval_shape(self.module.init, jax.random.key(0), x)
      made = None if set(variables) - {"params"} else jax.eval_shape(self.module.apply, variables, x)
    except (flax.errors.FlaxError, TypeError, ValueError) as error:
      raise ValueError(f"Layer {self.name!r}: its module cannot read {read}: {str(error).splitlines()[0]}") from error
    if set(variables) - {"params"}:
      raise ValueError(f"Layer {self.name!r}: its module keeps {sorted(variables)}; a layer has 'params' alone.")
    shape = getattr(made, "shape", ())
    if not shape:
      raise ValueError(f"Layer {self.name!r}: its module makes {type(made).__name__}, not one array [N, ...].")
    if shape[0] != 2 or len(shape) not in (2, 4):
      raise ValueError(f"Layer {self.name!r}: its module makes {shape} of {x.shape}, not [N, D] or [N, H, W, C].")
    return shape[1:]

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    """module: the module's own parameters"""
    return {"module": self.module.init(key, jnp.zeros((1, *read), jnp.float32)).get("params", {})}

  def pre_activation(self, params: layer.Params, x: jax.Array) -> jax.Array:
    """`[N, *read]` -> `[N, *shape]`"""
    return self.module.apply({"params": params["module"]}, x)

  def flops(self, params: layer.Params, read: layer.Shape) -> int:
    """XLA's own count, which includes biases and activations."""
    x = jax.ShapeDtypeStruct((1, *read), jnp.float32)
    lowered = jax.jit(self.module.apply).lower({"params": params["module"]}, x)
    return int(lowered.cost_analysis().get("flops", 0))  # Without arithmetic, XLA gives none.

  def check(self) -> None:
    """Refuses a module that is not hashable; everything in a column must be."""
    super().check()
    try:
      hash(self.module)
    except TypeError as error:
      raise ValueError(f"Layer {self.name!r}: its module cannot be hashed; give its fields as tuples.") from error
