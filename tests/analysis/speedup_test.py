"""Speed-ups by hand: known ones, ones bounded on either side, and intervals that include what is not known."""

import numpy as np
import pytest

from analysis import curves, speedup

STEPS = np.array([0.0, 10.0, 20.0, 30.0, 40.0])


def curve(*runs):
  return curves.Curve(STEPS, np.asarray(runs, np.float64))


def reaching(*at):
  """Runs that rise in a line from 0 and reach 1 at these steps, or never if infinite."""
  return curve(*[STEPS / (100 * at_step if np.isinf(at_step) else at_step) for at_step in at])


def test_the_first_step_at_a_score():
  runs = curve([0, 4, 8, 0, 9], [0, 0, 0, 6, 6], [0, 1, 2, 3, 3], [7, 0, 0, 0, 0])
  np.testing.assert_allclose(speedup.steps_to(runs, 6.0), [15.0, 30.0, np.inf, 0.0])


def test_a_ratio_of_medians_by_hand():
  found = speedup.speedup(reaching(20, 40, 25), reaching(5, 10, 8), 1.0)
  assert found.is_known and found.at_least == pytest.approx(25 / 8)
  assert (found.num_reached, found.num_runs, found.num_baseline_reached, found.num_baseline_runs) == (3, 3, 3, 3)
  # Any of three resampled runs can be the median, so the extremes are 20/10 and 40/5.
  assert found.low == pytest.approx(20 / 10) and found.high == pytest.approx(40 / 5)
  assert speedup.describe(found) == "3.1x [2.0, 8.0] (3 of 3 runs reach it, 3 of 3 of the baseline)"


def test_a_baseline_that_never_arrives_gives_a_bound_below():
  found = speedup.speedup(reaching(np.inf, np.inf, 30), reaching(10, 10, 10), 1.0)
  # The baseline has 40 steps; its median run needs more.
  assert not found.is_known and (found.at_least, found.at_most) == (pytest.approx(4.0), np.inf)
  assert found.low == pytest.approx(3.0) and found.high == np.inf
  assert speedup.describe(found).startswith("> 4.0x [3.0, inf] (3 of 3 runs reach it, 1 of 3")


def test_a_method_that_never_arrives_gives_a_bound_above():
  found = speedup.speedup(reaching(10, 10, 10), reaching(np.inf, np.inf, 30), 1.0)
  assert (found.at_least, found.at_most) == (0.0, pytest.approx(0.25))
  assert found.low == 0.0 and found.high == pytest.approx(1 / 3)
  assert speedup.describe(found).startswith("< 0.2x")


def test_nothing_is_known_where_nobody_arrives():
  found = speedup.speedup(reaching(np.inf, np.inf), reaching(np.inf, np.inf), 1.0)
  assert (found.at_least, found.at_most, found.low, found.high) == (0.0, np.inf, 0.0, np.inf)
  assert speedup.describe(found).startswith("unknown [0.0, inf]")


def test_a_median_between_a_known_and_an_unknown_run():
  # The middle pair is 20 and more than 40, so the median is more than 30. Nothing more is known.
  found = speedup.speedup(reaching(10, 20, np.inf, np.inf), reaching(10, 10), 1.0)
  assert (found.at_least, found.at_most) == (pytest.approx(3.0), np.inf)


def test_dropping_censored_runs_would_flatter():
  """One slow run arrives and two others do not. Leaving those two out would make the slow method look faster."""
  honest = speedup.speedup(reaching(20, np.inf, np.inf), reaching(10, 10, 10), 1.0)
  naive = speedup.speedup(reaching(20), reaching(10, 10, 10), 1.0)
  assert honest.at_least == pytest.approx(4.0) and naive.at_least == pytest.approx(2.0)
  assert np.isnan([naive.low, naive.high]).all()


def test_a_score_that_needs_no_learning_is_refused():
  with pytest.raises(ValueError, match="score=0 is reached at the first point"):
    speedup.speedup(reaching(10), reaching(10), 0.0)
