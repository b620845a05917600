"""What Mirowski et al. 2017 (table 1) tabulate of a navigating agent beside its score.

AUC is the mean of the learning curve. Goals are the episodes that find one at all. Latency is the time to the first
goal of an episode, and from one goal (which teleports) to the next: an agent that remembers where the goal was needs
less for the later ones. Loop closures, predicted one a step, are scored by F1.
"""

from typing import NamedTuple

import chex
import numpy as np

from analysis import curves


class Latency(NamedTuple):
  """Times to goals over E episodes; NaN where there was no such goal."""

  first_s: float  # Mean over episodes with a goal.
  later_s: float  # Mean over all goals after an episode's first. Searches that the episode's end cut off are left out.
  goal_percent: float  # Of episodes with at least one goal.
  num_episodes: int
  num_goals: int


class Detection(NamedTuple):
  """How well rare events were detected; NaN where nothing is there to divide by."""

  precision: float
  recall: float
  f1: float


def auc(curve: curves.Curve, horizon: float) -> np.ndarray:
  """Each run's mean score from the curve's first point to `horizon`, `[S]`."""
  return curves.mean_height(curves.between(curve, float(curve.steps[0]), horizon))


def latency(episode: np.ndarray, step: np.ndarray, is_goal: np.ndarray, *, step_s: float) -> Latency:
  """Time to the first goal and to later ones.

  Args:
    episode: `[N]` which episode each record belongs to. Every episode must have a record, even one without a goal.
    step: `[N]` agent steps since that episode began.
    is_goal: `[N]` bool: whether a goal was reached with that step.
    step_s: seconds of the world an agent step takes (4 frames at 60 Hz: 1/15).
  """
  episode, step, is_goal = np.asarray(episode), np.asarray(step), np.asarray(is_goal, bool)
  chex.assert_rank((episode, step, is_goal), 1)
  chex.assert_equal_shape((episode, step, is_goal))
  order = np.lexsort((step, episode))
  episode, step, is_goal = episode[order], step[order], is_goal[order]
  twice = (np.diff(episode) == 0) & (np.diff(step) == 0)
  if twice.any():
    at = int(np.argmax(twice))
    raise ValueError(f"episode {episode[at]} has step {step[at]} twice: number the episodes of all worlds apart")
  goal_episode, goal_step = episode[is_goal], step[is_goal].astype(np.float64)
  is_first = np.r_[True, np.diff(goal_episode) != 0][: len(goal_episode)]
  since_last = np.diff(goal_step, prepend=0.0)
  num_episodes = len(np.unique(episode))
  return Latency(
    first_s=step_s * _mean(goal_step[is_first]),
    later_s=step_s * _mean(since_last[~is_first]),
    goal_percent=100.0 * is_first.sum() / num_episodes if num_episodes else np.nan,
    num_episodes=num_episodes,
    num_goals=len(goal_step),
  )


def detection(labels: np.ndarray, probabilities: np.ndarray, *, threshold: float = 0.5) -> Detection:
  """Precision, recall and F1 of saying yes from `threshold` on; both arrays of equal shape, labels bool."""
  labels, said = np.asarray(labels, bool), np.asarray(probabilities) >= threshold
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
