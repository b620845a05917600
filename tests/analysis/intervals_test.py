"""Intervals against Student's t by hand and by scipy, and how often they contain the true value."""

import numpy as np
import pytest
from scipy import stats

from analysis import intervals

NUM_DATASETS = 20_000


def share(interval, truth):
  """The share of data sets whose interval contains the truth."""
  return ((interval.low <= truth) & (interval.high >= truth)).mean()


def test_the_interval_by_hand():
  """For two values t is 12.706, and the mean's deviation is half their distance. For three t is 4.303."""
  two = intervals.of_mean(np.array([0.0, 2.0]))
  np.testing.assert_allclose(two, [1.0, 1.0 - 12.706, 1.0 + 12.706], rtol=1e-4)
  three = intervals.of_mean(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
  np.testing.assert_allclose(three, [[2.0, 5.0], [2.0 - 4.3027 / 3**0.5, 5.0], [2.0 + 4.3027 / 3**0.5, 5.0]], rtol=1e-4)


def test_the_interval_against_scipy_s():
  values = np.random.default_rng(1).normal(3.0, 2.0, size=(20, 4))
  theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
  np.testing.assert_allclose(intervals.of_mean(values)[1:], theirs)


def test_it_ends_at_known_bounds_and_one_value_has_none():
  np.testing.assert_array_equal(intervals.of_mean(np.array([0.0, 17.0]), bounds=(0.0, 50.0)), [8.5, 0.0, 50.0])
  one = intervals.of_mean(np.ones((1, 3)))
  np.testing.assert_array_equal(one.mean, [1, 1, 1])
  assert np.isnan(one.low).all() and np.isnan(one.high).all()


@pytest.mark.parametrize("num", [*range(2, 11), 30])
def test_interval_of_normal_values_has_95_percent_coverage(num):
  values = np.random.default_rng(num).normal(size=(num, NUM_DATASETS))
  assert 0.94 < share(intervals.of_mean(values), 0.0) < 0.96


@pytest.mark.parametrize(
  ("a", "b", "num", "said"),
  [(5, 1, 3, 0.90), (5, 1, 6, 0.91), (5, 1, 30, 0.94), (0.5, 2, 3, 0.86), (0.5, 2, 10, 0.92), (0.5, 2, 30, 0.94)],
)
def test_interval_of_skewed_returns_has_the_documented_coverage(a, b, num, said):
  returns = 50.0 * np.random.default_rng(num).beta(a, b, size=(num, NUM_DATASETS))
  assert share(intervals.of_mean(returns, bounds=(0.0, 50.0)), 50.0 * a / (a + b)) == pytest.approx(said, abs=0.012)


@pytest.mark.parametrize(("statistic", "num", "said"), [
  (np.mean, 2, 0.67), (np.mean, 4, 0.85), (np.mean, 10, 0.92), (np.median, 3, 0.89), (np.median, 6, 0.97)
])  # fmt: skip
def test_how_often_percentiles_hold_a_ratio(statistic, num, said):
  """Both sides are normal, 10 +- 3, so the true ratio of means, and of medians, is 1."""
  rng = np.random.default_rng(num)
  above, below = rng.normal(10.0, 3.0, size=(2, num, 2000))
  indices = [intervals.resamples(rng, 400, num) for _ in range(2)]
  ratios = statistic(above[indices[0]], axis=1) / statistic(below[indices[1]], axis=1)
  low, high = intervals.percentiles(ratios)
  assert ((low <= 1.0) & (high >= 1.0)).mean() == pytest.approx(said, abs=0.025)


def test_intervals_are_written_in_words():
  assert intervals.name((3, 1, 2)) == "thin: each of them" and intervals.name((1, 1)) == ""
  assert intervals.name((4, 9)) == "shaded: 95 % interval of the mean"
  assert intervals.name((3, 6)) == "shaded: 95 % interval of the mean; thin: each of them where there are fewer than 4"
  assert intervals.words(8.51, 2.0, 15.04) == "8.5 [2.0, 15.0]"
  assert intervals.words(1234.5, np.nan, np.nan, places=0) == "1,234"
  assert intervals.words(8.51, None, None, places=2) == "8.51"
