"""Transfer scores against areas worked by hand, a plain bootstrap in numpy, and the paper's own figure."""

import numpy as np
import pytest

from analysis import curves, paper, transfer, transfer_matrix

STEPS = np.array([0.0, 10.0, 20.0])
PLAIN = transfer.Definition(floor=0.0, horizon=20.0, top_k=None)


def curve(*runs):
  return curves.Curve(STEPS, np.asarray(runs, np.float64))


def noisy(seed, num_runs, level):
  rng = np.random.default_rng(seed)
  return curves.Curve(np.arange(6.0), level + rng.normal(0.0, 1.0, (num_runs, 6)))


def score(method, baseline, definition, *, num_resamples=2000):
  """(score, low, high) of a matrix with one cell."""
  row = transfer_matrix.Row("method", "source")
  scored = transfer_matrix.build(
    {(row, "task"): method}, {"task": baseline}, rows=[row], targets=["task"], definition=definition,
    num_resamples=num_resamples,
  )  # fmt: skip
  return tuple(float(x[0, 0]) for x in (scored.values, scored.low, scored.high))


def test_areas_by_hand():
  # The triangle 0, 2, 4 has mean height 2. For 0, 4, 4 it is (2 + 4) / 2 = 3.
  np.testing.assert_allclose(transfer.areas(curve([0, 2, 4]), PLAIN), [2.0])
  np.testing.assert_allclose(transfer.areas(curve([0, 2, 4], [0, 4, 4]), PLAIN), [2.5])
  assert score(curve([0, 4, 4]), curve([0, 2, 4]), PLAIN)[0] == pytest.approx(1.5)


def test_the_horizon_cuts_between_two_points():
  # Up to step 15, 0, 2, 4 is a triangle up to 3 with mean height 1.5. For 0, 4, 4 it is (10 * 2 + 5 * 4) / 15.
  definition = transfer.Definition(floor=0.0, horizon=15.0, top_k=None)
  np.testing.assert_allclose(transfer.areas(curve([0, 2, 4]), definition), [1.5])
  assert score(curve([0, 4, 4]), curve([0, 2, 4]), definition)[0] == pytest.approx((40 / 15) / 1.5)


def test_what_lies_below_the_floor_counts_as_nothing():
  # From -2 to 2 only the second half is above 0, a triangle of height 2: mean height (1/2)(2/2). Then it is flat at 2.
  np.testing.assert_allclose(transfer.areas(curve([-2, 2, 2]), PLAIN), [(0.5 + 2.0) / 2])
  np.testing.assert_allclose(transfer.areas(curve([2, -2, -9]), PLAIN), [0.25])
  np.testing.assert_allclose(transfer.areas(curve([-3, -2, -1]), PLAIN), [0.0])
  # The same curve and floor, shifted: Pong's scores are negative.
  shifted = transfer.Definition(floor=-21.0, horizon=20.0, top_k=None)
  np.testing.assert_allclose(transfer.areas(curve([-23, -19, -19]), shifted), [(0.5 + 2.0) / 2])


def test_the_top_is_ranked_by_area_or_by_the_final_score():
  early, late, poor = [0, 6, 6], [0, 0, 8], [0, 1, 1]  # Areas 4.5, 2, 0.75.
  by_area = transfer.Definition(floor=0.0, horizon=20.0, top_k=1)
  by_final = transfer.Definition(floor=0.0, horizon=20.0, top_k=1, rank_by="final")
  np.testing.assert_allclose(transfer.areas(curve(poor, early, late), by_area), [4.5])
  np.testing.assert_allclose(transfer.areas(curve(poor, early, late), by_final), [2.0])
  # The last tenth of 0, 0, 8 is 18 to 20, where the curve rises from 6.4 to 8.
  np.testing.assert_allclose(transfer.final_scores(curve(early, late), 20.0), [6.0, 7.2])


def test_averaging_runs_or_their_curve_differs_only_below_the_floor():
  high, low = [4, 4, 4], [-4, -4, -4]
  of_curve = transfer.Definition(floor=0.0, horizon=20.0, top_k=2, average="curve")
  of_runs = transfer.Definition(floor=0.0, horizon=20.0, top_k=2)
  np.testing.assert_allclose(transfer.areas(curve(high, low), of_runs), [2.0])
  np.testing.assert_allclose(transfer.areas(curve(high, low), of_curve), [0.0])
  np.testing.assert_allclose(
    transfer.areas(curve(high, [0, 1, 5]), of_runs), transfer.areas(curve(high, [0, 1, 5]), of_curve)
  )


@pytest.mark.parametrize("rank_by", transfer.RANKINGS)
@pytest.mark.parametrize("average", transfer.AVERAGES)
def test_the_interval_against_a_plain_bootstrap(rank_by, average):
  definition = transfer.Definition(floor=0.5, horizon=5.0, top_k=3, rank_by=rank_by, average=average)
  method, baseline = noisy(0, 10, 6.0), noisy(1, 8, 4.0)
  value, low, high = score(method, baseline, definition, num_resamples=4000)

  def area(values):  # All points lie above the floor, so the plain trapezoid is the area.
    assert (values > 0.5).all()
    rank = (values - 0.5).mean(axis=1) * 5 if rank_by == "final" else np.trapezoid(values, axis=1)
    if rank_by == "final":  # The last tenth: 4.5 to 5.
      rank = (values[:, 4:].mean(axis=1) + values[:, 5]) / 2
    top = values[np.argsort(-rank)[:3]].mean(axis=0)
    return np.trapezoid(top - 0.5)

  rng = np.random.default_rng(9)
  resampled = [
    area(method.values[rng.integers(10, size=10)]) / area(baseline.values[rng.integers(8, size=8)]) for _ in range(4000)
  ]
  assert value == pytest.approx(area(method.values) / area(baseline.values))
  np.testing.assert_allclose([low, high], np.percentile(resampled, [2.5, 97.5]), atol=0.02)
  assert low < value < high


def test_the_interval_sees_both_sides():
  """If one side's runs are equal, the width comes only from the other side. If both sides' are, there is none."""
  flat, definition = curve([0, 2, 2], [0, 2, 2]), PLAIN
  spread = curve([0, 2, 2], [0, 8, 8])
  assert score(flat, flat, definition) == (1.0, 1.0, 1.0)
  # The areas are 1.5 and 6, their mean is 3.75. The extremes are two equal draws of either run.
  assert score(spread, flat, definition) == pytest.approx((2.5, 1.0, 4.0))
  assert score(flat, spread, definition) == pytest.approx((0.4, 0.25, 1.0))


def test_what_has_no_score_is_nan_and_never_zero():
  dead, alive = curve([-1, -1, -1], [-1, -1, -1]), curve([0, 2, 2], [0, 2, 2])
  assert np.isnan(score(alive, dead, PLAIN)[0])
  assert score(dead, alive, PLAIN)[0] == 0.0  # Nothing was learned: this is a true zero.
  value, *ends = score(curve([0, 2, 2]), alive, PLAIN)
  assert value == 1.0 and np.isnan(ends).all()
  # If many resamples of a baseline hold no run that leaves the floor, nothing bounds the score from above.
  assert score(alive, curve([-1, -1, -1], [0, 2, 2]), PLAIN)[2] == np.inf


def test_all_readings_are_there_and_differ():
  definition = transfer.Definition(floor=0.0, horizon=20.0, top_k=1)
  runs = curve([0, 6, 6], [0, 0, 8], [-8, 1, 1])
  readings = transfer.readings(definition, horizons=(10.0,))
  assert len(readings) == 8 and {r.horizon for r in readings.values()} == {10.0, 20.0}
  scores = {label: transfer.areas(runs, reading)[0] for label, reading in readings.items()}
  assert scores["top by area, area of each run, to 20"] == pytest.approx(4.5)
  assert scores["top by final, area of the mean curve, to 20"] == pytest.approx(2.0)
  assert scores["top by area, area of each run, to 10"] == pytest.approx(3.0)


def test_the_paper_s_curves_give_about_its_scores():
  """With a floor of -20 and all steps, figure 4b gives 1.40, 1.27 and 1.76. Figure 4a says 1.58, 1.36, 1.89."""
  definition = transfer.Definition(floor=-20.0, horizon=4e7, top_k=None)

  def of_pair(pair, method):
    flat = [
      curves.Curve(np.array([0.0, 4e7]), np.full((1, 2), paper.PNN_FIG4B[pair][name].mean))
      for name in (method, "scratch")
    ]
    return score(*flat, definition)[0]

  assert of_pair(("pong", "h_flip"), "progressive2") == pytest.approx(1.40, abs=0.01)
  assert of_pair(("pong", "h_flip"), "finetune") == pytest.approx(1.27, abs=0.01)
  assert of_pair(("pong", "white"), "finetune") == pytest.approx(1.76, abs=0.02)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"rank_by": "best"}, "rank_by='best' is not one of"),
    ({"average": "all"}, "average='all' is not one of"),
    ({"top_k": 0}, "top_k=0 keeps no run"),
    ({"horizon": 0.0}, "horizon=0.0 must be finite"),
    ({"floor": np.nan}, "floor=nan"),
  ],
)
def test_a_bad_definition_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    transfer.Definition(**({"floor": 0.0, "horizon": 1.0} | fields))


def test_bad_curves_are_refused():
  with pytest.raises(ValueError, match="top_k=3 of 2 runs"):
    transfer.areas(curve([0, 1, 2], [0, 1, 2]), transfer.Definition(floor=0.0, horizon=20.0))
  with pytest.raises(ValueError, match="spans steps 0 to 20, not 0 to 40"):
    transfer.areas(curve([0, 1, 2]), transfer.Definition(floor=0.0, horizon=40.0, top_k=1))
  with pytest.raises(ValueError, match="1 of 2 runs have a point that is NaN"):
    transfer.areas(curve([0, np.nan, 2], [0, 1, 2]), PLAIN)
