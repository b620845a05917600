"""Tasks learned one after the other: how well all are played at the end, and how much the earlier ones help.

    P = 1/N sum_i p_i(T)        F = 1/N sum_i (A_i - A_i^b) / (1 - A_i^b)        A_i = 1/D integral of p_i over task i

p_i in [0, 1] is the share of successful episodes of task i, D is the number of steps of a task, T is the end of the
last task, and b stands for learning the task from scratch (Malagón et al. 2024, CompoNet, after Wołczyk et al. 2021;
docs/papers.md 9). An episode of a game succeeds if its return is at least the task's score.
"""

import numpy as np

from analysis import curves


def successes(returns: np.ndarray, score: float) -> np.ndarray:
  """1 for each return `[N]` that reaches the score, 0 for others."""
  return (np.asarray(returns) >= score).astype(np.float64)


def success_curve(
  ends: np.ndarray, returns: np.ndarray, *, score: float, num_steps: int, num_points: int
) -> curves.Curve:
  """p of one run over its steps (see `curves.points`). Before the first episodes end, it has their value."""
  ends = np.minimum(ends, num_steps)  # The last update may go beyond `num_steps`.
  bin_steps = max(1, round(num_steps / num_points))
  steps, values = curves.points(ends, successes(returns, score), bin_steps=bin_steps, num_steps=num_steps, start=None)
  return curves.Curve(steps, values[None])


def average_performance(in_the_end: np.ndarray) -> np.ndarray:
  """P of p(T) `[N, S]`, tasks by runs -> `[S]`."""
  return np.asarray(in_the_end).mean(axis=0)


def forward_transfer(areas: np.ndarray, baselines: np.ndarray) -> np.ndarray:
  """Each task's term of F, from areas in [0, 1]; NaN if the baseline always succeeds and nothing can be gained."""
  areas, baselines = np.broadcast_arrays(np.asarray(areas, np.float64), np.asarray(baselines, np.float64))
  left = 1.0 - baselines
  return np.divide(areas - baselines, left, out=np.full(left.shape, np.nan), where=left > 0)
