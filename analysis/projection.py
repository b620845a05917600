"""Principal components: a linear map to the plane in which features vary most.

Figure 7 of Mirowski et al. 2017 shows the policy LSTM's cells on the I-maze by t-SNE: clusters of what the agent holds
in mind of the goal. Principal components show the same when it is what varies most, have no setting to tune, and the
same map can be laid on other episodes.
"""

from typing import NamedTuple

import chex
import numpy as np


class Components(NamedTuple):
  """The first P principal components of D features."""

  mean: np.ndarray  # [D]
  directions: np.ndarray  # [P, D] orthonormal, by falling variance; the largest entry of each is positive.
  explained: np.ndarray  # [P] share of the whole variance.


def fit(features: np.ndarray, *, num_components: int = 2) -> Components:
  """The principal components of `[N, D]`."""
  features = np.asarray(features, np.float64)
  chex.assert_rank(features, 2)
  if not 0 < num_components <= min(features.shape):
    raise ValueError(f"num_components={num_components} of {features.shape[0]} samples of {features.shape[1]} features")
  mean = features.mean(axis=0)
  _, singular, directions = np.linalg.svd(features - mean, full_matrices=False)
  directions = directions[:num_components]
  largest = np.abs(directions).argmax(axis=1)
  directions = directions * np.sign(directions[np.arange(num_components), largest])[:, None]
  variance = np.square(singular)
  total = variance.sum()
  explained = variance[:num_components] / total if total > 0 else np.zeros(num_components)
  return Components(mean, directions, explained)


def apply(components: Components, features: np.ndarray) -> np.ndarray:
  """Coordinates along the components, `[N, D]` -> `[N, P]`."""
  return (np.asarray(features, np.float64) - components.mean) @ components.directions.T
