"""Intervals against a bootstrap in numpy, Student's t, and how often they hold what they should."""

import numpy as np
import pytest
from scipy import stats

from analysis import intervals

NUM_DATASETS = 1000


def test_the_interval_against_a_numpy_bootstrap_at_a_level_by_hand():
  """20 values: t is 2.093, times sqrt(20 / 19) is 2.147, which a normal exceeds with probability 1.59 %."""
  values = np.random.default_rng(1).normal(3.0, 2.0, size=(20, 4))
  interval = intervals.of_mean(values)
  rng = np.random.default_rng(2)
  means = np.stack([values[rng.integers(20, size=20)].mean(axis=0) for _ in range(9999)])
  np.testing.assert_allclose(interval.mean, values.mean(axis=0))
  np.testing.assert_allclose(interval.low, np.percentile(means, 1.59, axis=0), atol=0.1)
  np.testing.assert_allclose(interval.high, np.percentile(means, 98.41, axis=0), atol=0.1)


def test_it_is_as_wide_as_student_s_for_many_values():
  values = np.random.default_rng(0).normal(size=400)
  interval = intervals.of_mean(values)
  half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20.0
  np.testing.assert_allclose([interval.low, interval.high], values.mean() + [-half, half], atol=0.1 * half)


def test_few_values_have_their_range_and_one_has_none():
  two = intervals.of_mean(np.array([0.0, 17.0]))
  assert (two.mean, two.low, two.high) == (8.5, 0.0, 17.0)
  three = intervals.of_mean(np.array([[1.0, 5.0], [2.0, 5.0], [9.0, 5.0]]))
  np.testing.assert_array_equal(three, [[4.0, 5.0], [1.0, 5.0], [9.0, 5.0]])
  one = intervals.of_mean(np.ones((1, 3)))
  np.testing.assert_array_equal(one.mean, [1, 1, 1])
  assert np.isnan(one.low).all() and np.isnan(one.high).all()


@pytest.mark.parametrize(("num", "least", "most"), [(2, 0.45, 0.55), (3, 0.7, 0.8), (6, 0.9, 0.98), (20, 0.92, 0.97)])
def test_how_often_it_holds_the_true_mean(num, least, most):
  """From 6 values on nearly as often as it says; of 2 and 3 half and three quarters of the times, as a range does."""
  values = np.random.default_rng(num).normal(size=(num, NUM_DATASETS))
  interval = intervals.of_mean(values, num_resamples=2000)
  holds = (interval.low <= 0.0) & (interval.high >= 0.0)
  assert least < holds.mean() < most
  assert (interval.low >= values.min(axis=0)).all() and (interval.high <= values.max(axis=0)).all()


def test_why_a_plain_percentile_interval_will_not_do():
  """Of 6 values it holds the mean 86 times of 100, and says 95."""
  values = np.random.default_rng(6).normal(size=(6, NUM_DATASETS))
  means = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=2000) / 6 @ values
  low, high = intervals.percentiles(means)
  assert 0.82 < ((low <= 0.0) & (high >= 0.0)).mean() < 0.89


def test_in_words():
  assert intervals.name((3, 1, 2)) == "least to greatest" and intervals.name((1, 1)) == ""
  assert intervals.name((6, 9)) == "95 % interval of the mean"
  assert intervals.name((3, 6)) == "95 % interval of the mean; of fewer than 6, least to greatest"
  assert intervals.words(8.51, 2.0, 15.04) == "8.5 [2.0, 15.0]"
  assert intervals.words(1234.5, np.nan, np.nan, places=0) == "1,234"
  assert intervals.words(8.51, None, None, places=2) == "8.51"
