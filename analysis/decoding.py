"""Position decoding: can a linear softmax read the agent's cell off its frozen features?

Mirowski et al. 2017 (section 5) read the maze cell from the LSTM's output (of a feed-forward agent: from its encoder),
without a gradient into the net. Here the readout is fitted after the fact by L-BFGS on recorded features, which is
convex and has no learning rate. Whole episodes are held out: neighbouring steps look alike, and a split by step would
test on what was trained on.
"""

from typing import NamedTuple

import chex
import numpy as np
from scipy import optimize, special

# Small against the loss of a nat or two; it keeps separable data from growing the kernel without end.
L2 = 1e-4


class Decoder(NamedTuple):
  """A linear softmax over C cells on features standardised by the training set."""

  mean: np.ndarray  # [D]
  deviation: np.ndarray  # [D]
  kernel: np.ndarray  # [D, C]
  bias: np.ndarray  # [C]


class Decoding(NamedTuple):
  """How well positions are decoded in episodes that were held out."""

  accuracy: float  # Over all held-out steps.
  majority: float  # What always saying the training set's most common cell gives there.
  per_episode: np.ndarray  # [E] accuracy in each held-out episode.
  decoder: Decoder


def evaluate(
  features: np.ndarray,
  cells: np.ndarray,
  episodes: np.ndarray,
  *,
  num_cells: int,
  test_share: float = 0.25,
  seed: int = 0,
  l2: float = L2,
) -> Decoding:
  """Fits on some episodes, tests on the others.

  Args:
    features: `[N, D]`, frozen.
    cells: `[N]` int in [0, num_cells).
    episodes: `[N]` which episode each step belongs to.
    num_cells: C.
    test_share: of the episodes, held out; at least one.
    seed: of the choice.
    l2: weight of half the squared kernel.
  """
  cells, episodes = np.asarray(cells), np.asarray(episodes)
  chex.assert_equal_shape((cells, episodes))
  is_test = split(episodes, test_share=test_share, seed=seed)
  decoder = fit(features[~is_test], cells[~is_test], num_cells=num_cells, l2=l2)
  is_right = posterior(decoder, features[is_test]).argmax(axis=-1) == cells[is_test]
  commonest = np.bincount(cells[~is_test], minlength=num_cells).argmax()
  return Decoding(
    accuracy=float(is_right.mean()),
    majority=float((cells[is_test] == commonest).mean()),
    per_episode=np.asarray([is_right[episodes[is_test] == e].mean() for e in np.unique(episodes[is_test])]),
    decoder=decoder,
  )


def split(episodes: np.ndarray, *, test_share: float, seed: int) -> np.ndarray:
  """Which steps are held out, bool `[N]`: all of an episode or none."""
  names = np.unique(episodes)
  num_test = max(1, round(test_share * len(names)))
  if num_test >= len(names):
    raise ValueError(f"{len(names)} episodes with test_share={test_share:g} leave none to fit on; record more")
  return np.isin(episodes, np.random.default_rng(seed).permutation(names)[:num_test])


def fit(
  features: np.ndarray, cells: np.ndarray, *, num_cells: int, l2: float = L2, max_iterations: int = 300
) -> Decoder:
  """The readout of least cross-entropy, in nats a step, plus `l2` / 2 times the squared kernel."""
  features, cells = np.asarray(features, np.float64), np.asarray(cells)
  chex.assert_rank((features, cells), (2, 1))
  chex.assert_equal_shape_prefix((features, cells), 1)
  if cells.min() < 0 or cells.max() >= num_cells:
    raise ValueError(f"cells span {cells.min()} to {cells.max()}, num_cells={num_cells}")
  mean, deviation = features.mean(axis=0), features.std(axis=0)
  deviation = np.where(deviation > 0, deviation, 1.0)  # A feature that never changes says nothing and stays at 0.
  inputs = (features - mean) / deviation
  shape = (inputs.shape[1], num_cells)
  rows = np.arange(len(cells))

  def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
    kernel, bias = flat[:-num_cells].reshape(shape), flat[-num_cells:]
    log_probs = special.log_softmax(inputs @ kernel + bias, axis=-1)
    loss = -log_probs[rows, cells].mean() + 0.5 * l2 * np.square(kernel).sum()
    error = np.exp(log_probs)
    error[rows, cells] -= 1.0
    error /= len(cells)
    return float(loss), np.concatenate([(inputs.T @ error + l2 * kernel).ravel(), error.sum(axis=0)])

  start = np.zeros(shape[0] * num_cells + num_cells)
  found = optimize.minimize(
    loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iterations, "maxfun": 10**6}
  ).x
  return Decoder(mean, deviation, found[:-num_cells].reshape(shape), found[-num_cells:])


def posterior(decoder: Decoder, features: np.ndarray) -> np.ndarray:
  """Probability of each cell, `[N, D]` -> `[N, C]`."""
  inputs = (np.asarray(features, np.float64) - decoder.mean) / decoder.deviation
  return special.softmax(inputs @ decoder.kernel + decoder.bias, axis=-1)
