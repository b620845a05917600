"""Small columns and the published columns, shared by the tests of this folder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from progressive import column, layers, network


def recurrent(conv1: int = 3, conv2: int = 5, fc: int = 6, lstm: int = 4, outputs: int = 7, size: int = 12):
  """Pixels -> two convolutions -> fc -> LSTM -> output, `size` pixels a side."""
  kernels = ((8, 4), (5, 2)) if size == 64 else ((4, 2), (3, 1))
  return column.Column(
    inputs=(("pixels", (size, size, 3)),),
    layers=(
      layers.Conv("conv1", ("pixels",), conv1, *kernels[0]),
      layers.Conv("conv2", ("conv1",), conv2, *kernels[1]),
      layers.Dense("fc", ("conv2",), fc),
      layers.LSTM("lstm", ("fc",), lstm),
      layers.Dense("output", ("lstm",), outputs, activation=None, laterals="linear"),
    ),
  )


def feed_forward(conv1: int = 3, conv2: int = 5, fc: int = 6, outputs: int = 7, size: int = 12):
  """The same without the LSTM."""
  spec = recurrent(conv1, conv2, fc, 1, outputs, size)
  output = layers.Dense("output", ("fc",), outputs, activation=None, laterals="linear")
  return column.Column(spec.inputs, (*spec.layers[:3], output))


def proprioceptive(outputs: int = 7):
  """Proprioception and target -> fc -> LSTM -> output: the talk's second column."""
  return column.Column(
    inputs=(("proprioception", (5,)), ("target", (3,))),
    layers=(
      layers.Dense("fc", ("proprioception", "target"), 8),
      layers.LSTM("lstm", ("fc",), 5),
      layers.Dense("output", ("lstm",), outputs, activation=None, laterals="linear"),
    ),
  )


def inputs(num_steps: int, size: int = 12, seed: int = 0):
  """Random observations `[T, ...]` for all input names used here."""
  rng = np.random.default_rng(seed)
  return {
    "pixels": jnp.asarray(rng.integers(0, 256, (num_steps, size, size, 3)), jnp.uint8),
    "proprioception": jnp.asarray(rng.normal(size=(num_steps, 5)), jnp.float32),
    "target": jnp.asarray(rng.normal(size=(num_steps, 3)), jnp.float32),
  }


def grown(*column_specs: column.Column, seed: int = 0, output_init: str = "previous"):
  """(spec, parameters) of a network grown column by column. Biases are made nonzero, so that a missing bias shows."""
  spec = network.Network(column_specs[:1])
  params = _noisy_biases(network.init(jax.random.key(seed), spec), seed)
  for k in range(1, len(column_specs)):
    spec = network.Network(column_specs[: k + 1])
    params = network.grow(jax.random.key(seed + k), params, spec=spec, output_init=output_init)
  return spec, params


@functools.partial(jax.jit, static_argnums=0)
def outputs(spec: network.Network, params: network.Params, observations, is_first=None) -> jax.Array:
  """The network's output `[T, n]` from the initial state."""
  is_first = jnp.zeros(observations["pixels"].shape[0], bool) if is_first is None else is_first
  return network.apply(params, spec, inputs=observations, state=network.initial_state(spec), is_first=is_first)[0][-1][
    "output"
  ]


def _noisy_biases(params: network.Params, seed: int) -> network.Params:
  rng = np.random.default_rng(seed)
  return jax.tree_util.tree_map_with_path(
    lambda path, x: jnp.asarray(x + np.asarray(rng.normal(size=x.shape), x.dtype)) if path[-1].key == "bias" else x,
    params,
  )
