"""How a new column starts, given the inputs that it will see.

Pictures of one world look alike. What randomly initialised units read differs more from unit to unit than from frame to
frame, so many units never fire, or always do, and carry no information. Initialisation from data mends that (Krähenbühl
et al. 2016, "Data-dependent Initializations of Convolutional Neural Networks"; Salimans and Kingma 2016, section 3).
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from progressive import layers, network

_LEAST = 0.1  # Share of the layer's root mean square deviation. Units that vary by less are not scaled up any further.


def standardise(
  params: network.Params,
  spec: network.Network,
  *,
  inputs: Mapping[str, jax.Array],
  state: network.State | None = None,
  is_first: jax.Array | None = None,
) -> network.Params:
  """`params` in which the newest column's units have mean 0 and deviation 1 on these inputs, before their activation.

  A unit that hardly varies has less: it is scaled up no more than a unit with a tenth of the layer's deviation.

  The function goes layer by layer, with statistics over examples and, for maps, positions. It divides the kernel and
  all laterals into a unit by its deviation, and subtracts the mean in its bias. Layers with a state, normalisation,
  Flax modules and linear layers, including the output, stay unchanged. A column that began as a copy (`network.grow`)
  is no longer a copy. Arguments are those of `network.apply`.
  """
  newest = len(spec.columns) - 1
  for layer in spec.columns[newest].layers:
    if not isinstance(layer, layers.Dense | layers.Conv) or layer.activation is None:
      continue
    activations, _ = network.apply(
      params, _without_activation(spec, layer), inputs=inputs, state=state, is_first=is_first
    )
    x = activations[newest][layer.name]
    x = x.reshape(-1, x.shape[-1])
    if not len(x):
      raise ValueError("standardise needs at least one example: a deviation of none is no number.")
    deviation = jnp.std(x, axis=0)
    deviation = jnp.maximum(deviation, _LEAST * jnp.sqrt(jnp.mean(jnp.square(deviation))))
    is_more_than_rounding = deviation > 1e-5 * jnp.sqrt(jnp.mean(jnp.square(x)))
    deviation = jnp.where(is_more_than_rounding, deviation, 1.0)
    own = dict(params[newest][layer.name])
    own["kernel"], own["bias"] = _divide(own["kernel"], deviation), (own["bias"] - jnp.mean(x, axis=0)) / deviation
    if "laterals" in own:
      own["laterals"] = {
        column: {source: {**each, "U": _divide(each["U"], deviation)} for source, each in by_source.items()}
        for column, by_source in own["laterals"].items()
      }
    params = (*params[:newest], {**params[newest], layer.name: own})
  return params


def _divide(kernel: jax.Array, deviation: jax.Array) -> jax.Array:
  """Divides a kernel `[..., D]` by the deviation `[D]` of each of its outputs."""
  return kernel / deviation.reshape((1,) * (kernel.ndim - 1) + deviation.shape)


def _without_activation(spec: network.Network, layer: layers.Dense | layers.Conv) -> network.Network:
  """`spec` with one layer of the newest column made linear, so that it returns its pre-activation."""
  newest, linear = spec.columns[-1], dataclasses.replace(layer, activation=None)
  changed = dataclasses.replace(newest, layers=tuple(linear if one is layer else one for one in newest.layers))
  return network.Network((*spec.columns[:-1], changed))
