"""Measures of tasks learned in sequence, by hand."""

import numpy as np

from analysis import continual, curves

ENDS = np.arange(10, 101, 10)  # Ten episodes of ten steps.
RETURNS = np.array([0.0, 3.0, 0.0, 9.9, 0.0, 10.0, 12.0, 10.0, 30.0, 10.0])


def _curve(returns):
  return continual.success_curve(ENDS, returns, score=10.0, num_steps=100, num_points=10)


def test_an_episode_succeeds_from_the_score_on():
  curve = _curve(RETURNS)
  np.testing.assert_array_equal(curve.steps, [0, *ENDS])
  np.testing.assert_array_equal(curve.values, [[0] * 6 + [1] * 5])
  # The curve rises from 50 to 60: 5 of 10. Then it has 40 of 40.
  np.testing.assert_allclose(curves.mean_height(curve), [0.45])


def test_two_episodes_of_a_bin_count_by_half():
  curve = continual.success_curve(ENDS, RETURNS, score=10.0, num_steps=100, num_points=5)
  np.testing.assert_array_equal(curve.values, [[0, 0, 0, 0.5, 1, 1]])


def test_success_before_the_first_episode_end_is_that_of_the_first_episodes():
  ends, score = np.array([40, 45, 70, 100]), {"score": 10.0, "num_steps": 100, "num_points": 10}
  always = continual.success_curve(ends, np.full(4, 10.0), **score)
  np.testing.assert_array_equal(always.values, [[1.0] * 11])
  half = continual.success_curve(ends, np.array([10.0, 0.0, 10.0, 10.0]), **score)
  np.testing.assert_array_equal(half.values, [[1.0] * 5 + [0.0, 0.0] + [1.0] * 4])


def test_transfer_is_the_share_of_what_scratch_leaves_to_gain():
  areas = np.array([[0.45, 0.725, 0.175], [0.45, 1.0, 0.0]])
  expected = [[0, 0.275 / 0.55, -0.5], [0, 1.0, -0.45 / 0.55]]
  np.testing.assert_allclose(continual.forward_transfer(areas, np.array([0.45] * 3)), expected)


def test_where_scratch_never_fails_there_is_no_transfer():
  transfer = continual.forward_transfer(np.array([1.0, 0.5]), np.array([1.0, 0.0]))
  np.testing.assert_array_equal(transfer, [np.nan, 0.5])


def test_performance_is_the_mean_over_tasks_for_each_run():
  in_the_end = np.array([[1.0, 0.2], [0.5, 0.2], [0.0, 0.2]])  # Three tasks, two runs.
  np.testing.assert_allclose(continual.average_performance(in_the_end), [0.5, 0.2])
