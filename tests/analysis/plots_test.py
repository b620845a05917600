"""Figures show what they were given: texts, heights, colours and gaps are read back from the drawing."""

import math

import numpy as np
import pytest
from matplotlib import patches

from analysis import (
  curves,
  forgetting_plots,
  intervals,
  matrix_plots,
  measure_plots,
  paper,
  perturbation,
  plots,
  projection_plots,
  spectra,
)
from analysis import sensitivity_plots as sp
from analysis import transfer_matrix as tm

ROWS = (tm.Row("finetune", "a"), tm.Row("progressive2", "b"))
MATRIX = tm.of_values(ROWS, ["a", "b", "c"], np.array([[np.nan, 0.0, 2.4], [1.0, np.nan, np.nan]]))
STEPS = np.linspace(0.0, 4e6, 5)


def texts(axis):
  return [text.get_text() for text in axis.texts if text.get_text()]


def bars(axis):
  return [patch for patch in axis.patches if isinstance(patch, patches.Rectangle)]


def line(label, runs=1, end=1.0):
  return plots.Line(
    label, "#1f4e9c", curves.Curve(STEPS, np.linspace(0.0, end, 5)[None] * np.arange(1, runs + 1)[:, None])
  )


def test_the_matrix_shows_numbers_and_marks_gaps():
  fig = matrix_plots.heat_maps([matrix_plots.Panel("ours", MATRIX)])
  axis = fig.axes[0]
  assert texts(axis) == ["–", "0.00", "2.40", "1.00", "–", "not run"]
  colours = axis.images[0].cmap(axis.images[0].norm(MATRIX.values))
  np.testing.assert_allclose(colours[1, 0, :3], 1.0, atol=0.01)  # 1 is white.
  blue, green = colours[0, 1], colours[0, 2]
  assert blue[2] > 1.5 * blue[0] and blue[2] > blue[1] and green[1] > 1.5 * green[0] and green[1] > green[2]
  gaps = bars(axis)
  assert [(gap.get_x(), gap.get_y(), bool(gap.get_hatch())) for gap in gaps] == [
    (-0.5, -0.5, False),
    (0.5, 0.5, False),
    (1.5, 0.5, True),
  ]
  assert axis.images[0].get_array().mask.tolist() == np.isnan(MATRIX.values).tolist()


def test_the_paper_s_clipped_scores_say_so():
  fig = matrix_plots.heat_maps(
    [
      matrix_plots.Panel("ours", paper.pnn_fig4a()),
      matrix_plots.Panel("paper", paper.pnn_fig4a(), is_clipped=True),
    ]
  )
  ours, theirs = (texts(axis) for axis in fig.axes[:2])
  assert "≥2" not in ours and ours.count("2.00") == theirs.count("≥2") == 12
  assert [label.get_text() for label in fig.axes[1].get_yticklabels()].count("") == 11  # Named once, at the left.
  plots.png(fig)
  with pytest.raises(ValueError, match="no matrix"):
    matrix_plots.heat_maps([])


def test_learning_curves_wrap_and_share_a_legend():
  panels = [plots.Panel(name, [line("x", 3), line("y", 3, end=float(i + 1))]) for i, name in enumerate("abcde")]
  fig = plots.learning_curves(panels, x_label="steps", y_label="score", panels_per_row=3, has_shared_legend=True)
  assert [axis.get_title(loc="left") for axis in fig.axes if axis.get_visible()] == list("abcde")
  assert len(fig.legends) == 1 and not any(axis.get_legend() for axis in fig.axes)
  assert [text.get_text() for text in fig.legends[0].get_texts()] == ["x", "y"]
  tops = [axis.get_ylim()[1] for axis in fig.axes[:5]]
  assert tops[4] > tops[0]  # Each panel has its own limits.
  plain = plots.learning_curves(panels[:2], x_label="steps", y_label="score", y_limits=(0.0, 9.0))
  assert [axis.get_ylim() for axis in plain.axes] == [(0.0, 9.0)] * 2
  assert all(axis.get_legend() for axis in plain.axes)


@pytest.mark.parametrize(
  ("runs", "said"),
  [
    ((1, 1), ""),
    ((3, 2), "lines: mean over runs; thin: each of them"),
    ((8, 1), "lines: mean over runs; shaded: 95 % interval of the mean"),
    ((2,) * 7, "lines: mean over runs; the mean alone where there are more than 6 lines"),
  ],
)
def test_a_figure_says_what_its_lines_and_bands_are(runs, said):
  lines = [line(str(i), num) for i, num in enumerate(runs)]
  fig = plots.learning_curves([plots.Panel("a", lines)], x_label="steps", y_label="score")
  assert " ".join(fig.get_suptitle().split()) == said
  dotted = lines[0]._replace(dotted=lines[0].solid)
  fig = plots.learning_curves([plots.Panel("a", [dotted])], x_label="steps", y_label="score", note="and this")
  assert " ".join(fig.get_suptitle().split()).endswith("dotted: before smoothing; and this")


def test_what_stands_above_a_narrow_figure_is_not_cut_off():
  note = "level dashed line: half of the way from untrained play to the best score"
  fig = plots.learning_curves([plots.Panel("a", [line("m", 5)])], x_label="x", y_label="y", note=note)
  fig.draw_without_rendering()
  box = fig._suptitle.get_window_extent().transformed(fig.transFigure.inverted())
  assert box.x0 >= 0.0 and box.x1 <= 1.0 and note in " ".join(fig.get_suptitle().split())


def test_few_runs_are_drawn_each_and_more_have_a_band():
  few, more = (plots.learning_curves([plots.Panel("a", [line("x", num)])], x_label="", y_label="") for num in (3, 4))
  drawn = [one.get_ydata()[-1] for one in few.axes[0].lines]
  assert drawn == [2.0, 1.0, 2.0, 3.0] and not few.axes[0].collections  # The mean and each run.
  ((band,), (mean,)) = more.axes[0].collections, more.axes[0].lines
  assert mean.get_ydata()[-1] == 2.5
  corners = band.get_paths()[0].vertices
  ends = corners[corners[:, 0] == STEPS[-1], 1]
  half = 3.18245 * np.std([1, 2, 3, 4], ddof=1) / 2  # Student's t of three degrees of freedom.
  np.testing.assert_allclose((ends.min(), ends.max()), (2.5 - half, 2.5 + half), rtol=1e-4)
  cut = plots.learning_curves([plots.Panel("a", [line("x", 4)])], x_label="", y_label="", bounds=(1.0, 4.0))
  corners = cut.axes[0].collections[0].get_paths()[0].vertices
  ends = corners[corners[:, 0] == STEPS[-1], 1]
  np.testing.assert_allclose((ends.min(), ends.max()), (1.0, 4.0))


def test_a_dashed_line_is_dashed_in_the_legend_too():
  lines = [line("x", 4), line("y", 4)._replace(style="--")]
  fig = plots.learning_curves([plots.Panel("a", lines)], x_label="steps", y_label="score")
  assert [one.get_linestyle() for one in fig.axes[0].lines] == ["-", "--"]
  assert [one.get_linestyle() for one in fig.axes[0].get_legend().get_lines()] == ["-", "--"]


def test_a_line_of_one_point_is_a_dot():
  one = plots.Line("x", "#1f4e9c", curves.Curve(STEPS[:1], np.ones((1, 1))))
  fig = plots.learning_curves([plots.Panel("a", [one, line("y")])], x_label="steps", y_label="score")
  assert [drawn.get_marker() for drawn in fig.axes[0].lines] == ["o", "None"]


@pytest.mark.parametrize("means,left", (((5.0, 20.0), 0.0), ((-5.0, 20.0), -6.0), ((-5.0, -3.0), -6.0)))
def test_a_measure_below_zero_is_in_the_picture(means, left):
  cells = [intervals.Interval(*(np.asarray(m + d) for d in (0.0, -1.0, 1.0))) for m in means]
  (axis,) = measure_plots.dots(["a", "b"], {"score": cells}, {}).axes
  low, high = axis.get_xlim()
  assert low <= left and high >= max(means) + 1.0 and (low == 0.0) == (left == 0.0)


def test_a_score_below_the_floor_is_in_the_picture():
  change = forgetting_plots.Change("finetune", np.array([5.0]), np.array([-20.5, -20.8]))
  (axis,) = forgetting_plots.bars([change], y_label="score", floor=-20.0).axes
  assert axis.get_ylim()[0] == -20.8


def test_shares_are_stacked_and_undetermined_ones_have_no_bar():
  net = sp.Net("net", {(0, "conv1"): 0.7, (1, "conv1"): 0.3, (0, "fc"): math.nan, (1, "fc"): math.nan})
  axis = sp.shares_by_layer([net], layers=("conv1", "fc")).axes[0]
  old, new = bars(axis)
  assert (old.get_y(), old.get_height()) == (0.0, 0.7) and new.get_y() == 0.7
  assert new.get_height() == pytest.approx(0.3)
  assert texts(axis) == ["0.70", "0.30", "n/a"]
  with pytest.raises(ValueError, match="net: no column has a layer 'conv9'"):
    sp.shares_by_layer([net], layers=("conv9",))


def test_networks_of_two_and_three_columns_have_one_legend_that_fits_both():
  two = sp.Net("two", {(k, "fc"): 0.5 for k in range(2)})
  three = sp.Net("three", {(k, "fc"): 1 / 3 for k in range(3)})
  fig = sp.shares_by_layer([two, three], layers=("fc",))
  (legend,) = fig.legends
  names = {
    words.get_text(): patch.get_facecolor()
    for words, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
  }
  of_two, of_three = ([bar.get_facecolor() for bar in bars(axis)] for axis in fig.axes)
  assert of_two == [names["column 0"], names["newest column"]]
  assert of_three == [names["column 0"], names["column 1"], names["newest column"]]


def test_feature_use_draws_each_column():
  fig = sp.feature_use(
    {(0, "conv1"): np.array([0.9, 0.0]), (1, "conv1"): np.array([0.1, 1.0])}, layer="conv1", title="a"
  )
  assert [[bar.get_height() for bar in bars(axis)] for axis in fig.axes] == [[0.9, 0.0], [0.1, 1.0]]


def test_a_panel_without_bars_says_why():
  shares = {(0, "conv1"): np.array([0.999, 0.0]), (1, "conv1"): np.array([0.0, 0.001]), (2, "conv1"): np.zeros(2)}
  fig = sp.feature_use(shares, layer="conv1", title="a")
  assert [texts(axis) for axis in fig.axes] == [
    [], ["nearly dead: the largest\nshare is 0.001"], ["dead: the policy\nuses none"]
  ]  # fmt: skip


def test_every_dot_is_drawn():
  dots = [sp.Dot(0.1, 1.5, "p2"), sp.Dot(0.9, 0.5, "p3"), sp.Dot(0.5, 2.0, "p2")]
  axis = sp.score_against_new_column(dots, colors={"p2": "b", "p3": "r"}).axes[0]
  offsets = np.concatenate([collection.get_offsets() for collection in axis.collections])
  assert sorted(map(tuple, offsets.tolist())) == [(0.1, 1.5), (0.5, 2.0), (0.9, 0.5)]
  assert [line.get_label() for line in axis.lines] == ["as from scratch"]


def test_aps_stands_beside_afs():
  aps, afs = sp.Net("n", {(0, "a"): 0.4, (1, "a"): 0.6}), sp.Net("n", {(0, "a"): 0.3, (1, "a"): 0.7})
  undetermined = sp.Net("n", {(0, "a"): math.nan, (1, "a"): math.nan})
  fig = sp.aps_against_afs([(aps, afs), (undetermined, afs)], layers=("a",))
  assert [bar.get_height() for bar in bars(fig.axes[0])] == [0.6, 0.7]
  assert [bar.get_height() for bar in bars(fig.axes[1])] == [0.7] and texts(fig.axes[1]) == ["n/a"]


def test_noise_curves_name_where_half_is_lost():
  scales = np.array([1.0, 10.0, 100.0])
  found = {
    (0, "a"): perturbation.Critical(31.0, "inside", scales, np.array([19.0, 10.0, -15.0])),
    (1, "a"): perturbation.Critical(math.inf, "above", scales, np.array([19.0, 19.0, 18.0])),
  }
  fig = sp.noise_curves(found, clean_score=19.0, floor=-21.0, layer="a")
  assert [text.get_text() for text in fig.legends[0].get_texts()] == [
    "column 0: half lost at 31",
    "column 1 (newest): never half lost",
  ]
  np.testing.assert_array_equal(fig.axes[0].lines[0].get_ydata(), [19, 10, -15])


def test_spectra_are_means_over_nets():
  curve = spectra.spectrum([np.array([1.0, 0.0]), np.array([0.5, 0.5])], num_points=3)
  fig = sp.spectra({"source columns": {"2 columns": curve}, "newest column": {"2 columns": curve}})
  np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), [0.75, 0.5, 0.25])


def test_forgetting_begins_at_the_floor():
  changes = [
    forgetting_plots.Change("progressive", np.array([18.0, 19.0]), np.array([18.0, 19.0])),
    forgetting_plots.Change("finetune", np.array([18.0, 19.0]), np.array([-20.0, -19.0])),
  ]
  axis = forgetting_plots.bars(changes, y_label="score", floor=-21.0).axes[0]
  assert [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in bars(axis)] == [
    (-21.0, 18.5),
    (-21.0, 18.5),
    (-21.0, 18.5),
    (-21.0, -19.5),
  ]
  assert [label.get_text() for label in axis.get_xticklabels()] == ["progressive\nunchanged", "finetune\n−38.0"]


def test_a_map_is_drawn_by_group():
  features = np.random.default_rng(0).normal(size=(30, 4))
  fig = projection_plots.maps([projection_plots.Panel("net", features, ["north"] * 10 + ["south"] * 20)])
  assert [len(collection.get_offsets()) for collection in fig.axes[0].collections] == [10, 20]
  assert [text.get_text() for text in fig.legends[0].get_texts()] == ["north", "south"]
  assert fig.axes[0].get_xlabel() == "t-SNE of 30 steps"


def test_spectra_draw_every_number_of_columns():
  curve = curves.Curve(np.linspace(0.0, 1.0, 3), np.array([[0.9, 0.5, 0.1]]))
  axis = sp.spectra({"conv1": {f"{num} columns": curve for num in range(2, 8)}}).axes[0]
  assert [text.get_text() for text in axis.get_legend().get_texts()] == [
    f"{num} columns (1 nets)" for num in range(2, 8)
  ]


def test_a_name_with_a_dot_is_the_file_s_name_and_a_suffix_is_not(tmp_path):
  picture = plots.learning_curves([plots.Panel("", [line("a")])], x_label="", y_label="")
  for name in ("cost0.1_depth", "cost0.1_loops", "alone.png"):
    plots.save(picture, tmp_path / name)
  expected = {f"{name}.{end}" for name in ("cost0.1_depth", "cost0.1_loops", "alone") for end in ("png", "svg")}
  assert {file.name for file in tmp_path.iterdir()} == expected
