"""Average Fisher Sensitivity: the features and columns on which the policy's choice depends (Rusu et al. 2016, 3.2).

    F_i^(k)(m, m) = E[(d log pi(a|s) / d h_m)^2],  h_m = activation / its standard deviation
    AFS(i, k, m) = F_i^(k)(m, m) / sum_k F_i^(k)(m, m)

over states and actions of the trained network on its target. The paper does not spell out its normalisation of h. Its
appendix scales noise by each feature's own deviation, and we do the same here. A map has one value, "summed over
pixels": the sum of the Fisher's diagonal over pixels. To second order, this is the cost of independent noise on every
pixel, the paper's other measure.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from analysis import moments

READINGS = ("share", "sum")

# (additions, batch) -> log pi(a_n | s_n) float32 [N], or of all actions [N, ..., A]; additions: place -> [N, ..., D] is
# added to the activations there, and sample n depends only on additions[n].
LogProbFn = Callable[[moments.Activations, moments.Batch], jax.Array]


def diagonals(
  log_prob_fn: LogProbFn,
  activations_fn: Callable[[moments.Batch], moments.Activations],
  batches: Iterable[moments.Batch],
) -> dict[moments.Place, np.ndarray]:
  """The diagonal of the normalised Fisher matrix of every representation: place -> `[D]` float64.

  Batches come one by one and are not kept. Batches of one shape compile once for each pair of functions, so the
  parameters, in which networks of one shape differ, should be part of a batch. An unused feature has exactly 0.

  Args:
    log_prob_fn: log-probabilities of the recorded actions `[N]`; or of all actions `[N, A]`, which makes the
      expectation over actions exact; or `[N, F, A]` for F independent choices.
    activations_fn: batch -> the activations to which the additions are added, each `[N, ..., D]` float32.
    batches: pytrees of recorded samples, from the state distribution of the trained network on its target.

  Raises:
    ValueError: if there is no batch.
  """
  num_samples = 0
  squares: dict[moments.Place, np.ndarray] = {}
  seen: dict[moments.Place, moments.Moments] = {}
  for batch in batches:
    batch_size, batch_squares, batch_moments = _statistics(log_prob_fn, activations_fn, batch)
    num_samples += int(batch_size)
    squares = {place: squares.get(place, np.float64(0)) + np.asarray(new) for place, new in batch_squares.items()}
    seen = {place: moments.merge(seen.get(place), new) for place, new in batch_moments.items()}
  if not num_samples:
    raise ValueError("no samples: batches is empty")
  # The deviation is a constant of the feature, so it can be multiplied in after all samples were seen.
  return {place: seen[place].variance * total / num_samples for place, total in squares.items()}


def per_feature(fisher: Mapping[moments.Place, np.ndarray]) -> dict[moments.Place, np.ndarray]:
  """AFS(i, k, m): each feature's share among the features of the same index in all columns, place -> `[D]`.

  Columns of different widths share as far as both reach. If feature m matters in no column, all have 0.
  """
  shares = {}
  for places in by_layer(fisher).values():
    total = np.zeros(max(len(fisher[place]) for place in places))
    for place in places:
      total[: len(fisher[place])] += fisher[place]
    for place in places:
      mine, all_columns = fisher[place], total[: len(fisher[place])]
      shares[place] = np.divide(mine, all_columns, out=np.zeros_like(mine), where=~(all_columns <= 0))
  return shares


def per_column(fisher: Mapping[moments.Place, np.ndarray], reading: str = "share") -> dict[moments.Place, float]:
  """AFS(i, k): how much of layer i's use falls on column k.

  Args:
    fisher: place -> diagonal `[D]`.
    reading: 'sum' is the paper's formula: the sum of AFS(i, k, m) over m, up to the number of features. In it a feature
      that hardly matters counts as much as any other. 'share' is sum_m F / sum_k sum_m F, in [0, 1] as in the figures,
      and NaN in a layer that matters in no column.
  """
  if reading not in READINGS:
    raise ValueError(f"reading={reading!r} is not one of {READINGS}")
  if reading == "sum":
    return {place: float(values.sum()) for place, values in per_feature(fisher).items()}
  totals = {layer: sum(fisher[place].sum() for place in places) for layer, places in by_layer(fisher).items()}
  return {
    place: float(values.sum() / totals[place[1]]) if totals[place[1]] > 0 else math.nan
    for place, values in fisher.items()
  }


def by_layer(places: Iterable[moments.Place]) -> dict[str, list[moments.Place]]:
  """layer -> its places, sorted by column."""
  layers: dict[str, list[moments.Place]] = {}
  for place in sorted(places):
    layers.setdefault(place[1], []).append(place)
  return layers


@functools.partial(jax.jit, static_argnums=(0, 1))
def _statistics(
  log_prob_fn: LogProbFn,
  activations_fn: Callable[[moments.Batch], moments.Activations],
  batch: moments.Batch,
) -> tuple[int, dict[moments.Place, jax.Array], dict[moments.Place, moments.Moments]]:
  """One batch's (N, place -> sum over samples of the squared gradient `[D]`, place -> moments)."""
  activations = dict(activations_fn(batch))
  chex.assert_type(list(activations.values()), jnp.float32)
  zeros = jax.tree.map(jnp.zeros_like, activations)
  log_probs, pull_back = jax.vjp(lambda additions: log_prob_fn(additions, batch), zeros)
  chex.assert_equal_shape_prefix([log_probs, *activations.values()], 1)
  num_samples = len(log_probs)
  # The score of independent choices is a sum of terms of mean 0, so their squares add up: [N, F, A] acts as [N, F A].
  outputs = log_probs.reshape(num_samples, -1)
  weights = jnp.ones_like(outputs) if log_probs.ndim == 1 else jnp.exp(outputs)

  def add(total: dict, index: jax.Array) -> tuple[dict, None]:
    chosen = jnp.zeros_like(outputs).at[:, index].set(1.0)
    (gradients,) = pull_back(chosen.reshape(log_probs.shape))
    each = {
      place: weights[:, index] @ jnp.sum(jnp.square(g), axis=tuple(range(1, g.ndim - 1)))
      for place, g in gradients.items()
    }
    return {place: total[place] + each[place] for place in total}, None

  nothing = {place: jnp.zeros(x.shape[-1:]) for place, x in activations.items()}
  squares, _ = jax.lax.scan(add, nothing, jnp.arange(outputs.shape[1]))
  return num_samples, squares, {place: moments.of(x) for place, x in activations.items()}
