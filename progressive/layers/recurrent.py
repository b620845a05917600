"""Layers with a state: one product over time gives the inputs' part of all gates, then a scan adds the recurrent part.

Laterals add to the gates. The state is reset to the initial one before the first step of an episode.

The gradient of the recurrent kernel is also one product, over all steps of all sequences. A scan's own gradient would
add up one matrix per step. On a CPU the single product is up to twice as fast.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from progressive.layers import layer

_COMMON = ("input_kernel", "recurrent_kernel", "bias", "laterals")
_AT_ONCE = 8  # Steps of a scan to unroll on a GPU, which launches every kernel of every step, with copies in between.


@dataclasses.dataclass(frozen=True)
class Recurrent(layer.Layer):
  """`size` features from `num_gates` gates: LeCun-normal input kernel, orthogonal recurrent kernels, zero bias.

  A user's own layer defines `num_gates`, `initial_state`, `hidden` and `step`.
  """

  size: int
  laterals: str | None = dataclasses.field(default="linear", kw_only=True)

  num_gates: ClassVar[int]

  def hidden(self, state: Any) -> jax.Array:
    """The part `[D]` of a state that goes through the recurrent kernel."""
    raise NotImplementedError(f"{type(self).__name__} says no hidden(state)")

  def step(self, params: layer.Params, state: Any, gates: jax.Array, recurrent: jax.Array) -> tuple[Any, jax.Array]:
    """(state, activations `[D]`) after one step, from the parts of the gates, `[num_gates * D]` each.

    `gates` is the part by inputs, `recurrent` the part by `hidden`. `params` are those that the layer has besides the
    kernels and the bias.
    """
    raise NotImplementedError(f"{type(self).__name__} says no step(params, state, gates, recurrent)")

  def shape(self, read: layer.Shape) -> layer.Shape:
    return (self.size,)

  def term_shape(self, read: layer.Shape) -> layer.Shape:
    return (self.num_gates * self.size,)

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    """input_kernel `[D, num_gates * size]`, recurrent_kernel `[size, num_gates * size]`, bias `[num_gates * size]`"""
    input_key, recurrent_key = jax.random.split(key)
    orthogonal, width = jax.nn.initializers.orthogonal(), self.num_gates * self.size
    keys = jax.random.split(recurrent_key, self.num_gates)
    return {
      "input_kernel": jax.nn.initializers.lecun_normal()(input_key, (*read, width), jnp.float32),
      "recurrent_kernel": jnp.concatenate([orthogonal(k, (self.size, self.size), jnp.float32) for k in keys], axis=-1),
      "bias": jnp.zeros((width,), jnp.float32),
    }

  def unroll(
    self, params: layer.Params, x: jax.Array, *, terms: Sequence[jax.Array], state: Any, is_first: jax.Array | None
  ) -> tuple[jax.Array, Any]:
    """(activations `[T, size]`, last state) of `x` `[T, D]` from `state`; `is_first` bool `[T]`.

    It has reverse-mode gradients where a `vmap` is applied to it, as in `network.apply`.
    """
    gates = layer.add(layer.add_bias(x @ params["input_kernel"], params["bias"]), terms)
    own = {name: one for name, one in params.items() if name not in _COMMON}
    return _one(self)(params["recurrent_kernel"], own, gates, state, is_first)

  def check(self) -> None:
    super().check()
    self.check_sizes(size=self.size)
    if not hasattr(self, "num_gates") or not self.is_recurrent:
      raise NotImplementedError(f"{type(self).__name__} says no num_gates, or no initial_state()")
    if strange := [x.dtype for x in jax.tree.leaves(self.initial_state()) if not jnp.issubdtype(x.dtype, jnp.floating)]:
      raise ValueError(f"Layer {self.name!r}: its state is {strange[0]}, which has no gradient; keep float32.")


class LSTMState(NamedTuple):
  """What an LSTM carries from one step to the next."""

  cell: jax.Array  # [D] float32
  hidden: jax.Array  # [D] float32


@dataclasses.dataclass(frozen=True)
class LSTM(Recurrent):
  """Long short-term memory with one bias vector; gates in the order input, forget, cell, output.

  The forget gate's bias starts at 1, so that it remembers at first (Jozefowicz et al. 2015).
  """

  num_gates = 4

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    params = super().init(key, read)
    return params | {"bias": params["bias"].reshape(4, self.size).at[1].set(1.0).reshape(-1)}

  def initial_state(self) -> LSTMState:
    zeros = jnp.zeros((self.size,), jnp.float32)
    return LSTMState(cell=zeros, hidden=zeros)

  def hidden(self, state: LSTMState) -> jax.Array:
    return state.hidden

  def step(
    self, params: layer.Params, state: LSTMState, gates: jax.Array, recurrent: jax.Array
  ) -> tuple[LSTMState, jax.Array]:
    i, f, g, o = jnp.split(gates + recurrent, 4)
    cell = jax.nn.sigmoid(f) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return LSTMState(cell=cell, hidden=hidden), hidden


@dataclasses.dataclass(frozen=True)
class GRU(Recurrent):
  """Gated recurrent unit (Cho et al. 2014); gates in the order reset, update, new.

  The reset gate acts on the product with the hidden state and its bias, `recurrent_bias`, as in cuDNN and flax.
  """

  num_gates = 3

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    return super().init(key, read) | {"recurrent_bias": jnp.zeros((self.size,), jnp.float32)}

  def initial_state(self) -> jax.Array:
    """Zeros: the hidden state `[D]`."""
    return jnp.zeros((self.size,), jnp.float32)

  def hidden(self, state: jax.Array) -> jax.Array:
    return state

  def step(
    self, params: layer.Params, state: jax.Array, gates: jax.Array, recurrent: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    reset, update, new = jnp.split(gates, 3)
    from_reset, from_update, from_new = jnp.split(recurrent, 3)
    new = jnp.tanh(new + jax.nn.sigmoid(reset + from_reset) * (from_new + params["recurrent_bias"]))
    update = jax.nn.sigmoid(update + from_update)
    state = (1.0 - update) * new + update * state
    return state, state


@functools.cache
def _one(cell: Recurrent) -> Callable[..., tuple[jax.Array, Any]]:
  """`_many` for one sequence, `[T, ...]`, and a state `[...]`; `vmap` turns it into `_many` itself."""

  def one(kernel: jax.Array, own: layer.Params, gates: jax.Array, state: Any, is_first: jax.Array) -> Any:
    begin = jax.tree.map(lambda x: x[None], state)
    activations, last = _many(cell, kernel, own, gates[:, None], begin, is_first[:, None])
    return activations[:, 0], jax.tree.map(lambda x: x[0], last)

  call = jax.custom_batching.custom_vmap(one)

  @call.def_vmap
  def mapped(num: int, are_mapped: list[Any], *args: Any) -> tuple[Any, Any]:
    del num
    kernel, own, gates, state, is_first = args
    if any(jax.tree.leaves(are_mapped[:2])) or not all(jax.tree.leaves(are_mapped[2:])):
      axes = jax.tree.map(lambda is_mapped: 0 if is_mapped else None, are_mapped)
      out = jax.vmap(one, axes)(*args)
    else:
      activations, last = _many(cell, kernel, own, gates.swapaxes(0, 1), state, is_first.swapaxes(0, 1))
      out = activations.swapaxes(0, 1), last
    return out, jax.tree.map(lambda _: True, out)

  return call


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _many(
  cell: Recurrent, kernel: jax.Array, own: layer.Params, gates: jax.Array, state: Any, is_first: jax.Array
) -> tuple[jax.Array, Any]:
  """(activations `[T, N, D]`, states `[N, ...]` after the last step) of N sequences, from the gates' input parts."""
  return _forward(cell, kernel, own, gates, state, is_first)[0]


def _forward(
  cell: Recurrent, kernel: jax.Array, own: layer.Params, gates: jax.Array, state: Any, is_first: jax.Array
) -> tuple[tuple[jax.Array, Any], Any]:
  fresh = cell.initial_state()

  def step(before: Any, now: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
    gates_t, is_first_t = now
    before = jax.tree.map(lambda x, y: jnp.where(_like(is_first_t, y), x[None], y), fresh, before)
    recurrent = jax.vmap(cell.hidden)(before) @ kernel
    after, activations = _step(cell, own, before, gates_t, recurrent)
    return after, (activations, before, recurrent)

  last, (activations, before, recurrent) = jax.lax.scan(step, state, (gates, is_first), unroll=_at_once())
  return (activations, last), (kernel, own, before, gates, recurrent, is_first)


def _backward(cell: Recurrent, saved: Any, gradients: tuple[jax.Array, Any]) -> tuple[Any, ...]:
  kernel, own, before, gates, recurrent, is_first = saved
  transposed = kernel.T  # Transposed once, not at each step.

  def step(after: tuple[Any, Any], now: Any) -> tuple[tuple[Any, Any], Any]:
    of_state, of_own = after
    of_activations, before_t, gates_t, recurrent_t, is_first_t = now
    _, back = jax.vjp(functools.partial(_step, cell), own, before_t, gates_t, recurrent_t)
    of_own_t, of_state, of_gates, of_recurrent = back((of_state, of_activations))
    _, back = jax.vjp(jax.vmap(cell.hidden), before_t)
    of_state = jax.tree.map(jnp.add, of_state, back(of_recurrent @ transposed)[0])
    of_state = jax.tree.map(lambda x: jnp.where(_like(is_first_t, x), jnp.zeros_like(x), x), of_state)
    is_sum = of_gates is of_recurrent  # As in an LSTM: then it is kept only once.
    return (of_state, jax.tree.map(jnp.add, of_own, of_own_t)), (None if is_sum else of_gates, of_recurrent)

  of_activations, of_last = gradients
  (of_state, of_own), (of_gates, of_recurrent) = jax.lax.scan(
    step,
    (of_last, jax.tree.map(jnp.zeros_like, own)),
    (of_activations, before, gates, recurrent, is_first),
    reverse=True,
    unroll=_at_once(),
  )
  of_gates = of_recurrent if of_gates is None else of_gates
  of_kernel = jnp.tensordot(jax.vmap(jax.vmap(cell.hidden))(before), of_recurrent, axes=((0, 1), (0, 1)))
  return of_kernel, of_own, of_gates, of_state, None


_many.defvjp(_forward, _backward)


def _step(cell: Recurrent, own: layer.Params, state: Any, gates: jax.Array, recurrent: jax.Array) -> Any:
  """`step` of N sequences."""
  return jax.vmap(cell.step, in_axes=(None, 0, 0, 0))(own, state, gates, recurrent)


def _like(x: jax.Array, y: jax.Array) -> jax.Array:
  """`x` `[N]` with as many axes as `y` `[N, ...]`."""
  return x.reshape(x.shape + (1,) * (y.ndim - 1))


def _at_once() -> int:
  return 1 if jax.default_backend() == "cpu" else _AT_ONCE
