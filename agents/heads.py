"""From a network's output layer to policy and value.

One linear layer carries both (papers.md 2.1-2.3: 9 x 3 logits + 1 value = 28 outputs), so that lateral connections
and output initialisation treat policy and value alike. This module cuts the layer's output into the logits of each
action entry, in order, and then the value.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents import distributions
from progressive import column, network


def output_size(num_choices: tuple[int, ...]) -> int:
  """Width of the output layer: all logits and one value."""
  return sum(num_choices) + 1


def scale_value(params: network.Params, factor: float) -> network.Params:
  """`params` with a value that is `factor` times the old one, and with the same logits, to the bit.

  It scales the last unit of everything that the newest column's output sums up: its kernel, its bias, and every
  lateral's U.
  """

  def scaled(path: tuple[jax.tree_util.DictKey, ...], array: jax.Array) -> jax.Array:
    return array.at[..., -1].multiply(factor) if path[-1].key in ("kernel", "bias", "U") else array

  newest = params[-1]
  output = jax.tree_util.tree_map_with_path(scaled, newest[column.OUTPUT])
  return (*params[:-1], {**newest, column.OUTPUT: output})


def split(output: jax.Array, num_choices: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
  """Cuts `[..., sum(num_choices) + 1]` into logits `[..., A, max(num_choices)]` and value `[...]`."""
  chex.assert_axis_dimension(output, -1, output_size(num_choices))
  flat, value = output[..., :-1], output[..., -1]
  most = max(num_choices)
  if min(num_choices) == most:
    return flat.reshape(*flat.shape[:-1], len(num_choices), most), value
  starts = np.cumsum((0, *num_choices[:-1]))
  choice = np.arange(most)
  is_possible = choice < np.array(num_choices)[:, None]  # [A, N]
  index = np.where(is_possible, starts[:, None] + choice, 0)
  mask = jnp.broadcast_to(is_possible, (*flat.shape[:-1], *is_possible.shape))
  return jnp.where(mask, flat[..., index], jnp.float32(distributions.IMPOSSIBLE)), value
