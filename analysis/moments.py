"""Mean and variance of every feature of a representation, batch by batch.

A representation is the post-activation output of one layer of one column: `[N, D]` neurons or `[N, H, W, D]` maps. A
feature is a neuron or a whole map, so a map's moments are over samples and pixels. Sums of squared deviations are
merged as in Chan, Golub and LeVeque 1979. This loses nothing to cancellation, for any number of batches.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

Place = tuple[int, str]  # Which representation: (column from 0, layer).
Activations = Mapping[Place, jax.Array]  # Each [N, ..., D].
Batch = Any  # A pytree of recorded samples; the caller decides what it holds.


class Moments(NamedTuple):
  """Moments of one representation's features so far."""

  count: Any  # [] values per feature: samples x pixels.
  mean: Any  # [D]
  squares: Any  # [D] sum of squared deviations from the mean.

  @property
  def variance(self) -> Any:
    """Variance of the values seen, `[D]`; 0 for a feature that never changes."""
    return self.squares / self.count


def of(x: jax.Array) -> Moments:
  """The moments of one batch `[N, ..., D]`, float32."""
  chex.assert_type(x, jnp.float32)
  flat = x.reshape(-1, x.shape[-1])
  mean = jnp.mean(flat, axis=0)
  return Moments(jnp.float32(len(flat)), mean, jnp.sum(jnp.square(flat - mean[None]), axis=0))


def merge(first: Moments | None, second: Moments) -> Moments:
  """The moments of both sets together, in float64."""
  second = Moments(*(np.asarray(value, np.float64) for value in second))
  if first is None:
    return second
  count, apart = first.count + second.count, second.mean - first.mean
  mean = first.mean + apart * second.count / count
  return Moments(count, mean, first.squares + second.squares + apart**2 * first.count * second.count / count)


def variances(activations_fn: Callable[[Batch], Activations], batches: Iterable[Batch]) -> dict[Place, np.ndarray]:
  """Every feature's variance over all batches: place -> `[D]` float64; ValueError if there is none. Compiles once."""
  seen: dict[Place, Moments] = {}
  for batch in batches:
    seen = {place: merge(seen.get(place), new) for place, new in _each(activations_fn, batch).items()}
  if not seen:
    raise ValueError("no samples: batches is empty")
  return {place: moments.variance for place, moments in seen.items()}


@functools.partial(jax.jit, static_argnums=0)
def _each(activations_fn: Callable[[Batch], Activations], batch: Batch) -> dict[Place, Moments]:
  return {place: of(x) for place, x in activations_fn(batch).items()}
