"""Average Perturbation Sensitivity: how little noise in a column's layer breaks the policy (Rusu et al. 2016, app. A).

On every forward pass, fresh Gaussian noise is added to one post-activation representation. The variance of each
feature's noise is `scale` times its own activation variance. At the critical scale the score has lost half of what it
has above a floor. Then Lambda = 1 / critical scale and APS(i, k) = Lambda_i^(k) / sum_k Lambda_i^(k). The paper gives
neither its grid of scales nor the score that counts as zero: both are arguments. Scores between two scales of the grid
are interpolated linearly in the logarithm of the scale.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from analysis import fisher, moments

KEPT = 0.5  # Share of the score above the floor; the paper's 50 %.
INSIDE, BELOW, ABOVE = "inside", "below", "above"


class Critical(NamedTuple):
  """The critical noise of one representation, and the scores from which it follows."""

  scale: float  # In units of the activations' own variance. Below: the grid's first. Above: infinite.
  where: str  # On the grid: 'inside'; 'below': the smallest noise breaks the policy; 'above': none does.
  scales: np.ndarray  # [G]
  scores: np.ndarray  # [G]

  @property
  def sensitivity(self) -> float:
    """Lambda; 0 if no noise of the grid breaks the policy, and too small if all noise does."""
    return 1.0 / self.scale


def noise(key: jax.Array, shape: tuple[int, ...], variance: jax.Array, scale: jax.Array) -> jax.Array:
  """Noise to add to activations of `shape` `(..., D)`: float32, independent in every entry, also in a map's pixels.

  `variance`, `[D]` float32, is the variance of each neuron or map, see `moments.variances`; `scale` is [] float32.
  """
  deviation = jnp.sqrt(scale * variance).reshape((1,) * (len(shape) - 1) + (-1,))
  return deviation * jax.random.normal(key, shape, jnp.float32)


def of_scores(scales: Sequence[float], scores: Sequence[float], *, clean_score: float, floor: float) -> Critical:
  """The scale at which half of the score above `floor` is lost, from scores `[G]` measured at `scales` `[G]`.

  Scores are noisy and may rise again; the first crossing counts. `clean_score` is the score without noise. `floor` is
  the score that counts as nothing (Pong: -21).

  Raises:
    ValueError: for a grid that does not rise, a clean score that is no better than the floor, or a score that is NaN.
  """
  grid, measured = np.asarray(scales, np.float64), np.asarray(scores, np.float64)
  if grid.ndim != 1 or not len(grid) or grid[0] <= 0 or (np.diff(grid) <= 0).any():
    raise ValueError(f"scales={list(scales)} must rise from above 0")
  if not clean_score > floor:
    raise ValueError(f"clean_score={clean_score:g} is not above floor={floor:g}: there is nothing to lose")
  chex.assert_equal_shape([grid, measured])
  if np.isnan(measured).any():
    raise ValueError(f"the score under noise of scale {grid[np.isnan(measured)][0]:g} is NaN")
  half = floor + KEPT * (clean_score - floor)
  is_broken = measured <= half
  if not is_broken.any():
    return Critical(math.inf, ABOVE, grid, measured)
  first = int(np.argmax(is_broken))
  if first == 0:
    return Critical(float(grid[0]), BELOW, grid, measured)
  share = (measured[first - 1] - half) / (measured[first - 1] - measured[first])
  log_scale = (1.0 - share) * math.log(grid[first - 1]) + share * math.log(grid[first])
  return Critical(math.exp(log_scale), INSIDE, grid, measured)


def shares(criticals: Mapping[moments.Place, Critical]) -> dict[moments.Place, float]:
  """APS(i, k): each column's share of its layer's sensitivity, in [0, 1]; an unused column has 0.

  If no noise in any column breaks the policy, the shares are undetermined: NaN.
  """
  result: dict[moments.Place, float] = {}
  for places in fisher.by_layer(criticals).values():
    total = sum(criticals[place].sensitivity for place in places)
    result |= {place: criticals[place].sensitivity / total if total > 0 else math.nan for place in places}
  return result


def describe(criticals: Mapping[moments.Place, Critical]) -> list[str]:
  """A line for every representation whose critical noise lies outside the grid."""
  lines = []
  for (k, layer), one in sorted(criticals.items()):
    if one.where == ABOVE:
      lines.append(f"column {k}, {layer}: noise of scale {one.scales[-1]:g} does not break the policy; taken as unused")
    elif one.where == BELOW:
      lines.append(f"column {k}, {layer}: noise of scale {one.scales[0]:g} already does; its share is too small")
  return lines
