"""How much of a policy gradient is signal.

For n independent gradients g_i with mean G and covariance S, two unbiased estimates are
|G|^2 = (|sum g_i|^2 - sum |g_i|^2) / (n (n - 1)) and tr S = mean |g_i|^2 - |G|^2. Then tr S / |G|^2 is the number of
gradients whose mean has as much signal as noise in its length: the simple noise scale (McCandlish et al. 2018, "An
Empirical Model of Large-Batch Training", equation 2.9), in units of one g_i.
"""

from typing import NamedTuple

import numpy as np


class Gradient(NamedTuple):
  """The mean of many gradients."""

  mean: np.ndarray  # [P]
  noise_scale: float  # How many of them hold as much signal as noise; inf if no signal is found.


def of_samples(gradients: np.ndarray) -> Gradient:
  """The mean of `[n, P]` gradients, one from each unroll, and their noise scale.

  Raises:
    ValueError: if there are fewer than two.
  """
  n = len(gradients)
  if n < 2:
    raise ValueError(f"{n} gradients have no spread; give two or more")
  mean: np.ndarray = np.asarray(np.mean(gradients, axis=0, dtype=np.float64))
  mean_square = float(np.mean(np.einsum("np,np->n", gradients, gradients, dtype=np.float64)))
  signal = (n * float(np.sum(np.square(mean))) - mean_square) / (n - 1)
  return Gradient(mean, (mean_square - signal) / signal if signal > 0 else float("inf"))
