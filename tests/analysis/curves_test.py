"""Curves against hand-worked numbers, numpy loops, and the paper's own filter."""

import numpy as np
import pytest
from scipy import signal

from analysis import curves, paper


def test_points_by_hand():
  ends, returns = [4, 10, 11, 25, 30, 41], [1, 3, 5, 7, 8, 100]
  steps, values = curves.points(np.array(ends), np.array(returns), bin_steps=10, num_steps=40)
  np.testing.assert_array_equal(steps, [0, 10, 20, 30, 40])
  # Bin (0, 10]: 1 and 3. (10, 20]: 5. (20, 30]: 7 and 8. (30, 40] is empty and keeps the last value. 41 lies outside.
  np.testing.assert_array_equal(values, [0, 2, 5, 7.5, 7.5])


def test_a_last_bin_counts_from_half():
  ends, returns = np.array([5, 14]), np.array([1.0, 2.0])
  assert len(curves.points(ends, returns, bin_steps=10, num_steps=14)[0]) == 2
  assert len(curves.points(ends, returns, bin_steps=10, num_steps=16)[0]) == 3
  assert len(curves.points(ends, returns, bin_steps=100, num_steps=14)[0]) == 2


def test_points_are_smoothed_over_the_bins_that_have_episodes():
  """Worlds that start together leave most bins empty. One lucky bunch among bunches of 1 is still an outlier."""
  ends, returns = np.array([30, 60, 60, 90, 120]), np.array([1.0, 8, 10, 1, 1])
  _, raw = curves.points(ends, returns, bin_steps=10, num_steps=120)
  _, smooth = curves.points(ends, returns, bin_steps=10, num_steps=120, median_points=3)
  np.testing.assert_array_equal(raw, [0, 0, 0, 1, 1, 1, 9, 9, 9, 1, 1, 1, 1])
  np.testing.assert_array_equal(smooth, [0.5] * 3 + [1] * 10)
  _, below = curves.points(ends, -returns, bin_steps=10, num_steps=120, start=-9, median_points=3)
  np.testing.assert_array_equal(below, [-5] * 3 + [-9] * 3 + [-1] * 7)  # No zero is padded before the start.


def test_median_filter_against_scipy_and_by_hand():
  values = np.random.default_rng(0).normal(size=(3, 40)) + 5
  # scipy pads with zeros at both ends, we pad only in front.
  expected = np.stack([signal.medfilt(row, 11) for row in values])
  np.testing.assert_allclose(curves.median_filter(values, 11)[:, :-5], expected[:, :-5])
  np.testing.assert_array_equal(curves.median_filter(np.array([1.0, 5, 2, 9]), 3), [1, 2, 5, 5.5])
  with pytest.raises(ValueError, match="num_points=4 is not odd; nearest are 3 and 5"):
    curves.median_filter(values, 4)


@pytest.mark.parametrize("series", ["wide progressive", "narrow progressive", "wide finetuned"])
def test_the_papers_solid_line_is_its_dotted_line_filtered(series):
  drawn = paper.rusu2017("fig5")
  raw, solid = drawn[f"{series}_raw"][1], drawn[f"{series}_median"][1]
  # The paper filtered a longer run than it drew, so the last five points differ.
  np.testing.assert_allclose(curves.median_filter(raw)[:-5], solid[:-5], atol=0.02)


def test_the_papers_points_lie_where_its_figures_have_them():
  for figure in ("fig5", "fig7"):
    for steps, _ in paper.rusu2017(figure).values():
      np.testing.assert_array_equal(steps[:-1], 1000.0 * np.arange(69))
  read = {  # docs/papers.md 2.5
    ("fig4_ff", "wide"): [21.3, 30.6, 34.5],
    ("fig4_ff", "narrow"): [1.0, 6.2, 24.8],
    ("fig4_lstm", "wide"): [3.9, 20.5, 34.4],
    ("fig4_lstm", "narrow"): [1.3, 11.7, 29.7],
  }
  for (figure, series), expected in read.items():
    np.testing.assert_allclose(np.interp([5e6, 1e7, 2e7], *paper.rusu2017(figure)[series]), expected, atol=0.06)


def test_the_papers_numbers():
  progressive = paper.rusu2017("fig5")["wide progressive_median"]
  np.testing.assert_allclose(np.interp([1000, 10000, 60000], *progressive), [24, 33.4, 34.7], atol=0.3)
  end = paper.rusu2017("fig4_lstm")["wide"]
  np.testing.assert_allclose(end[1][-1], 38.0, atol=0.3)
  with pytest.raises(ValueError, match="fig5"):
    paper.rusu2017("fig9")


def test_stack_ends_with_the_shortest_run():
  curve = curves.stack([(np.array([0.0, 10, 20]), np.array([0.0, 2, 4])), (np.array([0.0, 10]), np.array([0.0, 6]))])
  np.testing.assert_array_equal(curve.steps, [0, 10])
  np.testing.assert_array_equal(curve.mean, [0, 4])
  with pytest.raises(AssertionError, match="different grids"):
    curves.stack([(np.array([0.0, 10]), np.zeros(2)), (np.array([0.0, 20]), np.zeros(2))])


def test_values_and_means_at_steps():
  curve = curves.Curve(steps=np.array([0.0, 10, 20, 30]), values=np.array([[0.0, 1, 3, 8], [0, 2, 2, 2]]))
  np.testing.assert_array_equal(curves.at(curve, 15), [2, 2])
  np.testing.assert_array_equal(curves.mean_within(curve, 0, 20), [2, 2])
  np.testing.assert_array_equal(curves.mean_within(curve, 10, np.inf), [5.5, 2])
  assert np.isnan(curves.at(curve, 40)).all() and np.isnan(curves.mean_within(curve, 0, 40)).all()


def test_table():
  text = curves.table({"ours": {"@1k": "1.0"}, "paper": {"@1k": "24.2", "end": "34.7"}})
  assert text.splitlines() == [
    "|  | @1k | end |",
    "| --- | --- | --- |",
    "| ours | 1.0 |  |",
    "| paper | 24.2 | 34.7 |",
  ]


def test_a_game_with_negative_scores_starts_from_its_floor():
  steps, values = curves.points(np.array([15]), np.array([-10.0]), bin_steps=10, num_steps=20, start=-21.0)
  np.testing.assert_array_equal(values, [-21, -21, -10])


def test_a_piece_and_its_mean_height_by_hand():
  curve = curves.Curve(steps=np.array([0.0, 10, 30]), values=np.array([[0.0, 10, 10], [4, 4, 0]]))
  piece = curves.between(curve, 5, 20)
  np.testing.assert_array_equal(piece.steps, [5, 10, 20])
  np.testing.assert_array_equal(piece.values, [[5, 10, 10], [4, 4, 2]])
  np.testing.assert_allclose(curves.mean_height(piece), [(5 * 7.5 + 10 * 10) / 15, (5 * 4 + 10 * 3) / 15])
  # Half a grid step beyond the end is allowed, and the curve is held flat there. More is refused.
  np.testing.assert_array_equal(curves.between(curve, 10, 40).values, [[10, 10, 10], [4, 0, 0]])
  with pytest.raises(ValueError, match="spans steps 0 to 30, not 0 to 41"):
    curves.between(curve, 0, 41)
  with pytest.raises(ValueError, match="first_step=7 is not before last_step=7"):
    curves.between(curve, 7, 7)
