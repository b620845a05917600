"""What Mirowski et al. 2017 (table 1) give for a navigating agent beside its score.

AUC is the mean of the learning curve. Goals are the episodes that find a goal at all. Latency is the time to the first
goal of an episode, and the time from one goal (which teleports) to the next. An agent that remembers where the goal was
needs less time for the later goals. Loop closures are predicted once per step and scored by F1.
"""

from typing import NamedTuple

import chex
import numpy as np

from analysis import curves


class Latency(NamedTuple):
  """Times to goals over E episodes; NaN if there was no such goal."""

  first_s: float  # Mean over episodes with a goal.
  later_s: float  # Mean over all goals after an episode's first, without searches that the episode's end cut off.
  goal_percent: float  # Share of episodes with at least one goal.
  num_goals: int


class Detection(NamedTuple):
  """How well rare events were detected; NaN if a denominator is 0."""

  precision: float
  recall: float
  f1: float


def auc(curve: curves.Curve, horizon: float) -> np.ndarray:
  """Each run's mean score from the curve's first point to `horizon`, `[S]`."""
  return curves.mean_height(curves.between(curve, float(curve.steps[0]), horizon))


def latency(is_goal: np.ndarray, *, step_s: float) -> Latency:
  """Times to goals, from `is_goal` `[E, T]` bool: whether a step of `step_s` seconds of the world reached one."""
  chex.assert_rank(is_goal, 2)
  episode, step = np.nonzero(is_goal)
  is_first = np.diff(episode, prepend=-1) != 0
  since_last = np.diff(step + 1.0, prepend=0.0)
  return Latency(
    first_s=step_s * _mean(step[is_first] + 1.0),
    later_s=step_s * _mean(since_last[~is_first]),
    goal_percent=100.0 * is_first.sum() / len(is_goal) if len(is_goal) else np.nan,
    num_goals=len(step),
  )


def detection(labels: np.ndarray, probabilities: np.ndarray) -> Detection:
  """Precision, recall and F1 of saying yes from a probability of a half on; arrays of equal shape, labels bool."""
  labels, said = np.asarray(labels, bool), np.asarray(probabilities) >= 0.5
  chex.assert_equal_shape((labels, said))
  hits = float((labels & said).sum())
  num_said, num_true = float(said.sum()), float(labels.sum())
  return Detection(
    precision=hits / num_said if num_said else np.nan,
    recall=hits / num_true if num_true else np.nan,
    f1=2.0 * hits / (num_said + num_true) if num_said + num_true else np.nan,
  )


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else np.nan
