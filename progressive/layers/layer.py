"""What a column asks of a layer. A user's own layer is a frozen dataclass that defines three methods:

    shape(read) -> shape of one step     init(key, read) -> params     apply(params, x, terms=...) -> activations

A layer inherits everything else: how it joins its inputs, the kernel of a lateral into it, and the term that the
lateral adds to its pre-activation. A layer with a state between steps extends `recurrent.Recurrent`.
"""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from progressive.layers import convolution, naming

Shape = tuple[int, ...]  # Of one step of one example: [D] or [H, W, C].
Params = Mapping[str, Any]  # Name -> array, or a tree of them.
Source = tuple[int, str]  # (earlier column, name of its layer)

LATERALS = ("adapter", "linear", "blind", None)


@dataclasses.dataclass(frozen=True)
class Layer:
  """A name, what it reads, and how it reads earlier columns.

  `laterals` is "adapter", "linear", "blind" or None (see `lateral`). `sources`, ((column, layer name), ...), replaces
  the layers of earlier columns that the network's rule would choose.
  """

  name: str
  inputs: tuple[str, ...]
  laterals: str | None = dataclasses.field(default="adapter", kw_only=True)
  sources: tuple[Source, ...] | None = dataclasses.field(default=None, kw_only=True)

  joins: ClassVar[str] = "features"  # "features": [D], flattened; "maps": [H, W, C]; "either": maps if all inputs are.
  takes_pixels: ClassVar[bool] = False  # Reads uint8 unconverted, if all its inputs are uint8.

  def shape(self, read: Shape) -> Shape:
    """Shape of its activations at one step if it reads the shape `read`; ValueError if this does not fit."""
    raise NotImplementedError(f"{type(self).__name__} says no shape(read)")

  def init(self, key: jax.Array, read: Shape) -> dict[str, Any]:
    """Its parameters, float32."""
    raise NotImplementedError(f"{type(self).__name__} says no init(key, read)")

  def apply(self, params: Params, x: jax.Array, *, terms: Sequence[jax.Array]) -> jax.Array:
    """Activations `[N, ...]` for inputs `[N, ...]`; `terms` `[N, ...]` are added before the activation."""
    raise NotImplementedError(f"{type(self).__name__} says no apply(params, x, *, terms)")

  def unroll(
    self, params: Params, x: jax.Array, *, terms: Sequence[jax.Array], state: Any, is_first: jax.Array | None
  ) -> tuple[jax.Array, Any]:
    """Activations of T steps, and the state after the last step; without a state, steps are treated as examples."""
    del state, is_first
    return self.apply(params, x, terms=terms), None

  def recall(
    self, known: jax.Array, params: Params, x: jax.Array, *, terms: Sequence[jax.Array], **state: Any
  ) -> tuple[jax.Array, Any]:
    """`unroll` for activations that are `known` already: it computes only what gradients need."""
    activations, after = self.unroll(params, x, terms=terms, **state)
    return stand_in(activations, known), after

  def initial_state(self) -> Any:
    """The state before the first step, unbatched; None for a layer that carries nothing from step to step."""
    return None

  @property
  def is_linear(self) -> bool:
    """Whether it is `kernel` times features plus `bias` and nothing else, as `output` must be."""
    return False

  @property
  def is_recurrent(self) -> bool:
    """Whether it carries a state from step to step."""
    return self.initial_state() is not None

  def term_shape(self, read: Shape) -> Shape:
    """Shape of the pre-activation at one step, to which laterals add."""
    return self.shape(read)

  def lateral_kernel(self, source: Shape, read: Shape) -> Shape:
    """Shape of U, the kernel of a lateral from `source`; ValueError if no such lateral is possible."""
    shape = self.term_shape(read)
    if len(shape) != 1:
      raise ValueError(f"it gives maps {shape}, and only a Conv says how laterals into maps are read")
    return math.prod(source), shape[0]

  def lateral(self, kernel: jax.Array, h: jax.Array) -> jax.Array:
    """The term `[N, ...]` that a source's activations (or their projection) `[N, ...]` contribute."""
    return flatten(h) @ kernel

  def flops(self, params: Params, read: Shape) -> int:
    """FLOPs of one step forward: two per multiply-add of a kernel at each position of a map; `params` may be shapes."""
    positions = math.prod(self.shape(read)[:-1])
    return sum(2 * positions * x.size for x in jax.tree.leaves(params) if x.ndim > 1)

  def join_shapes(self, shapes: Sequence[Shape]) -> Shape:
    """Shape of its inputs, joined: concatenated along channels, or flattened and concatenated."""
    are_maps = [len(shape) == 3 for shape in shapes]
    if self.joins == "features" or (self.joins == "either" and not all(are_maps)):
      return (sum(math.prod(shape) for shape in shapes),)
    for name, shape in zip(self.inputs, shapes, strict=True):
      if len(shape) != 3:
        raise ValueError(
          f"Layer {self.name!r} is a convolution and cannot read {name!r} of shape {shape}: it needs [H, W, C]; "
          f"join {name!r} at a Dense or LSTM layer instead."
        )
      if shape[:2] != shapes[0][:2]:
        raise ValueError(
          f"Layer {self.name!r} cannot join {self.inputs[0]!r} {shapes[0]} and {name!r} {shape}: heights and widths "
          f"differ; join them at a Dense layer or match their strides."
        )
    return (*shapes[0][:2], sum(shape[2] for shape in shapes))

  def join(self, xs: Sequence[jax.Array]) -> jax.Array:
    """Joins its inputs `[N, ...]` into one array: float32, or uint8 if it takes pixels and reads nothing else."""
    if not (self.takes_pixels and all(x.dtype == jnp.uint8 for x in xs)):
      xs = [convolution.from_pixels(x) for x in xs]
    if self.joins == "features" or (self.joins == "either" and not all(x.ndim == 4 for x in xs)):
      xs = [flatten(x) for x in xs]
    return xs[0] if len(xs) == 1 else jnp.concatenate(xs, axis=-1)

  def check(self) -> None:
    """Refuses fields that make no sense; the error names them."""
    if not self.inputs or isinstance(self.inputs, str):
      raise ValueError(f"Layer {self.name!r}: inputs={self.inputs!r} must be a tuple of at least one name.")
    if self.laterals not in LATERALS:
      raise ValueError(f"Layer {self.name!r}: laterals={self.laterals!r} is not one of {LATERALS}.")

  def check_sizes(self, **sizes: int) -> None:
    for field, value in sizes.items():
      if type(value) is not int or value < 1:
        raise ValueError(f"Layer {self.name!r}: {field}={value!r} must be an int, at least 1.")


@dataclasses.dataclass(frozen=True)
class Activated(Layer):
  """A layer with an activation: the name of a function in `jax.nn`, "module:function", the function itself, or None.

  A function is stored by its name, so that every layer can be saved. Compiled programs keep the function they had.
  """

  activation: str | Callable[[jax.Array], jax.Array] | None = dataclasses.field(default="relu", kw_only=True)

  def __post_init__(self) -> None:
    if callable(self.activation):
      object.__setattr__(self, "activation", naming.name_of(self.activation).removeprefix("jax.nn:"))

  def pre_activation(self, params: Params, x: jax.Array) -> jax.Array:
    """The pre-activation `[N, ...]` of inputs `[N, ...]`, to which `terms` are added."""
    raise NotImplementedError(f"{type(self).__name__} says no pre_activation")

  def apply(self, params: Params, x: jax.Array, *, terms: Sequence[jax.Array]) -> jax.Array:
    return self.activate(add(self.pre_activation(params, x), terms))

  def recall(
    self, known: jax.Array, params: Params, x: jax.Array, *, terms: Sequence[jax.Array], **state: Any
  ) -> tuple[jax.Array, Any]:
    own = type(self)
    is_own = (own.apply, own.unroll, own.activate) != (Activated.apply, Layer.unroll, Activated.activate)
    if is_own or self.activation not in (None, "relu"):
      return super().recall(known, params, x, terms=terms, **state)
    # A ReLU maps its own output to itself, with the same gradient. So the products are not needed again, not even for
    # the gradient of the ReLU.
    return self.activate(stand_in(add(self.pre_activation(params, x), terms), known)), None

  def activate(self, y: jax.Array) -> jax.Array:
    """The activation of `y` `[N, ...]`."""
    return y if self.activation is None else _function(self.activation)(y)

  def check(self) -> None:
    super().check()
    if not isinstance(self.activation, str | None):
      raise ValueError(f"Layer {self.name!r}: activation={self.activation!r} is no function, nor the name of one.")
    try:
      self.activation is None or _function(self.activation)
    except ValueError as error:
      raise ValueError(f"Layer {self.name!r}: activation={self.activation!r}: {error}") from error


def flatten(x: jax.Array) -> jax.Array:
  """`[N, ...]` -> `[N, D]`"""
  return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def add(y: jax.Array, terms: Sequence[jax.Array]) -> jax.Array:
  """`y` plus terms of its shape, in their order."""
  for term in terms:
    chex.assert_equal_shape([y, term])
    y = y + term
  return y


@jax.custom_vjp
def stand_in(y: jax.Array, known: jax.Array) -> jax.Array:
  """`known` with the gradients of `y`; the two are equal."""
  chex.assert_equal_shape([y, known])
  return known


stand_in.defvjp(lambda y, known: (stand_in(y, known), None), lambda _, g: (g, None))


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
  """`y` `[..., D]` plus `bias` `[D]`."""
  return y + over_features(bias, y)


def over_features(x: jax.Array, y: jax.Array) -> jax.Array:
  """`x` `[D]` with as many axes as `y` `[..., D]`, as strict promotion requires: `[1, ..., D]`."""
  return x.reshape((1,) * (y.ndim - 1) + x.shape)


def _function(name: Any) -> Callable[[jax.Array], jax.Array]:
  """The function that has this name now: a notebook may have redefined it."""
  if ":" not in name and not hasattr(jax.nn, name):
    known = [one for one in dir(jax.nn) if callable(getattr(jax.nn, one))]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ValueError(f"jax.nn has no such function; nearest is {nearest}; others are named 'module:function'")
  function = naming.find(name if ":" in name else f"jax.nn:{name}")
  return (_checked if isinstance(function, Hashable) else _checked.__wrapped__)(function)


@functools.cache
def _checked(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
  try:
    shape = jax.eval_shape(function, jax.ShapeDtypeStruct((2, 4), jnp.float32)).shape
  except (TypeError, ValueError, AttributeError) as error:
    raise ValueError("this is no function of one array; name one of jax.nn, or 'module:function'") from error
  if shape != (2, 4):
    raise ValueError("this does not keep the shape of what it is applied to")
  return function
