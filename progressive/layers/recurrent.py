"""Layers with a state: the input's part of all gates is one product over time, then a scan adds the recurrent part.

Laterals add to the gates. The state goes back to the initial one before a step that is an episode's first.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from progressive.layers import layer

_AT_ONCE = 8  # Steps that are written out where every kernel of every step is launched, with the copies between them.


@dataclasses.dataclass(frozen=True)
class Recurrent(layer.Layer):
  """`size` features from `num_gates` gates: LeCun-normal input kernel, orthogonal recurrent kernels, zero bias.

  One's own says `initial_state`, and `step`, which adds the recurrent part.
  """

  size: int
  laterals: str | None = dataclasses.field(default="linear", kw_only=True)

  num_gates: ClassVar[int]

  def step(self, params: layer.Params, state: Any, gates: jax.Array) -> tuple[Any, jax.Array]:
    """(state, activations `[D]`) after one step, from the gates' input parts `[num_gates * D]`."""
    raise NotImplementedError

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
    """(activations `[T, size]`, last state) of `x` `[T, D]` from `state`; `is_first` bool `[T]`."""
    gates = layer.add(layer.add_bias(x @ params["input_kernel"], params["bias"]), terms)
    initial = self.initial_state()

    def step(before: Any, now: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
      gates_t, is_first_t = now
      before = jax.tree.map(lambda fresh, s: jnp.where(is_first_t, fresh, s), initial, before)
      return self.step(params, before, gates_t)

    at_once = 1 if jax.default_backend() == "cpu" else _AT_ONCE
    last, activations = jax.lax.scan(step, state, (gates, is_first), unroll=at_once)
    return activations, last

  def check(self) -> None:
    super().check()
    self.check_sizes(size=self.size)


class LSTMState(NamedTuple):
  """What an LSTM carries from one step to the next."""

  cell: jax.Array  # [D] float32
  hidden: jax.Array  # [D] float32


@dataclasses.dataclass(frozen=True)
class LSTM(Recurrent):
  """Long short-term memory with one bias vector; gates in the order input, forget, cell, output.

  The forget gate's bias starts at 1 (Jozefowicz et al. 2015: it remembers at first).
  """

  num_gates = 4

  def init(self, key: jax.Array, read: layer.Shape) -> dict[str, Any]:
    params = super().init(key, read)
    return params | {"bias": params["bias"].reshape(4, self.size).at[1].set(1.0).reshape(-1)}

  def initial_state(self) -> LSTMState:
    zeros = jnp.zeros((self.size,), jnp.float32)
    return LSTMState(cell=zeros, hidden=zeros)

  def step(self, params: layer.Params, state: LSTMState, gates: jax.Array) -> tuple[LSTMState, jax.Array]:
    cell, hidden = state
    i, f, g, o = jnp.split(gates + hidden @ params["recurrent_kernel"], 4)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
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

  def step(self, params: layer.Params, state: jax.Array, gates: jax.Array) -> tuple[jax.Array, jax.Array]:
    reset, update, new = jnp.split(gates, 3)
    from_reset, from_update, from_new = jnp.split(state @ params["recurrent_kernel"], 3)
    new = jnp.tanh(new + jax.nn.sigmoid(reset + from_reset) * (from_new + params["recurrent_bias"]))
    update = jax.nn.sigmoid(update + from_update)
    state = (1.0 - update) * new + update * state
    return state, state
