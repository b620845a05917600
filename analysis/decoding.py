"""Position decoding: can a linear softmax read the agent's cell off its frozen features?

Mirowski et al. 2017 (section 5) read the maze cell from the LSTM's output (for a feed-forward agent, from its encoder),
without a gradient into the net. Here scikit-learn fits the readout afterwards on recorded features. The fit is convex
and has no learning rate. Whole episodes are held out: neighbouring steps look alike, so a split by step would test on
the training data.
"""

from typing import Any, NamedTuple

import chex
import numpy as np

# Small compared with a loss of a nat or two; without it the kernel grows without limit on separable data.
L2 = 1e-4
_TEST_SHARE = 0.25  # Of episodes.


class Decoding(NamedTuple):
  """How well positions are decoded in held-out episodes."""

  accuracy: float  # Over all held-out steps.
  majority: float  # Accuracy there of always saying the training set's most common cell.
  decoder: Any  # From scikit-learn; its `predict`: features [N, D] -> cells [N].


def evaluate(features: np.ndarray, cells: np.ndarray, episodes: np.ndarray, *, seed: int = 0) -> Decoding:
  """Fits on some episodes and tests on the others: a quarter, at least one, chosen by `seed`.

  Features are `[N, D]`, cells int `[N]`, and `episodes` `[N]` names the episode of each step.
  """
  features, cells, episodes = np.asarray(features, np.float64), np.asarray(cells), np.asarray(episodes)
  chex.assert_equal_shape((cells, episodes))
  is_test = split(episodes, seed=seed)
  decoder = fit(features[~is_test], cells[~is_test])
  is_right = decoder.predict(features[is_test]) == cells[is_test]
  commonest = np.bincount(cells[~is_test]).argmax()
  return Decoding(
    accuracy=float(is_right.mean()),
    majority=float((cells[is_test] == commonest).mean()),
    decoder=decoder,
  )


def split(episodes: np.ndarray, *, seed: int) -> np.ndarray:
  """Which steps are held out, bool `[N]`: all steps of an episode or none."""
  names = np.unique(episodes)
  num_test = max(1, round(_TEST_SHARE * len(names)))
  if num_test >= len(names):
    raise ValueError(f"{len(names)} episodes, of which {num_test} is held out, leave none to fit on; record more")
  return np.isin(episodes, np.random.default_rng(seed).permutation(names)[:num_test])


def fit(features: np.ndarray, cells: np.ndarray, *, l2: float = L2) -> Any:
  """The readout that minimises cross-entropy, in nats per step, plus `l2` / 2 times the squared kernel.

  Features `[N, D]` are standardised. The decoder is a pipeline of scikit-learn. If all cells, int `[N]`, are the same,
  it always says this cell.
  """
  # Imported here, since it takes seconds, and most readers of this module's results never fit.
  from sklearn import dummy, linear_model, pipeline, preprocessing

  features, cells = np.asarray(features, np.float64), np.asarray(cells)
  chex.assert_rank((features, cells), (2, 1))
  chex.assert_equal_shape_prefix((features, cells), 1)
  # scikit-learn weights the summed loss by C against half of the squared kernel.
  softmax = linear_model.LogisticRegression(C=1.0 / (l2 * len(cells)), tol=1e-5, max_iter=1000)
  readout = softmax if len(np.unique(cells)) > 1 else dummy.DummyClassifier()
  return pipeline.make_pipeline(preprocessing.StandardScaler(), readout).fit(features, cells)
