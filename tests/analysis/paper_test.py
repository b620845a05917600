"""The papers' numbers against each other: two places of a paper must agree."""

import numpy as np
import pytest

from analysis import paper, transfer_matrix


def test_the_matrix_has_our_names_and_the_paper_s_gaps():
  matrix = paper.pnn_fig4a()
  assert matrix.targets == ("pong", "black", "h_flip", "hv_flip", "noisy", "v_flip", "white", "zoom")
  row = matrix.rows.index(transfer_matrix.Row("progressive3", "noisy+h_flip"))
  assert matrix.values[row, matrix.targets.index("pong")] == 1.84
  is_gap = np.isnan(matrix.values)
  for m, (_, source) in enumerate(matrix.rows):
    assert [t for t, gap in zip(matrix.targets, is_gap[m], strict=True) if gap] == [
      t for t in matrix.targets if t in source.split("+")
    ]
  assert set(matrix.notes[is_gap]) == {"source"} and set(matrix.notes[~is_gap]) == {""}
  assert np.nanmax(matrix.values) == 2.0  # Figure 4a shows no higher score.


def test_scores_of_navigation_agree_between_figure_and_table():
  scores, rows = paper.navigation_scores(), paper.navigation_table1()
  assert set(scores) == {"static_1", "static_2", "i_maze", "random_goal_1", "random_goal_2"}
  assert scores["random_goal_2"]["Nav A3C+D2"] == 103
  assert (scores["random_goal_2"]["Nav A3C+D1MSE"], scores["random_goal_2"]["Nav A3C*+D1"]) == (70, 102)
  assert {len(scores[maze]) for maze in scores if maze != "random_goal_2"} == {8}  # No cell where the paper gives none.
  assert len(rows) == 25 and len({(row.version, row.maze, row.agent) for row in rows}) == 25
  for row in rows:
    if row.version == "v3" and row.agent == "Nav A3C+D2":
      assert row.score == pytest.approx(scores[row.maze][row.agent], abs=2)
    if (row.version, row.maze, row.agent) in paper.NAVIGATION_LOOP_F1:
      assert row.score == scores[row.maze]["Nav A3C*+D1L"]
    if row.agent == "FF A3C":
      assert row.score == scores[row.maze]["FF A3C*"]


def test_percents_of_an_expert_follow_from_the_scores():
  for row in paper.navigation_table1():
    if row.maze == "i_maze":
      assert np.isnan(row.human_percent)
    elif (row.version, row.maze, row.agent) != ("v1", "static_2", "LSTM A3C"):  # The paper's own mistake; see the file.
      assert row.human_percent == pytest.approx(100 * row.score / paper.NAVIGATION_HUMAN[row.maze], abs=1.2)


def test_the_table_can_be_read_by_name():
  (row,) = [r for r in paper.navigation_table1() if (r.version, r.maze, r.agent) == ("v1", "i_maze", "LSTM A3C")]
  assert (row.auc, row.score, row.goals, row.position_percent) == (112.4, 244, 100, 87.8)
  assert (row.first_s, row.later_s, row.test_score) == (15.3, 3.2, 203)


@pytest.mark.parametrize(
  ("change", "method", "most", "mean", "num_above_1", "at_100"),  # papers.md 2.5
  [
    ("subtle_perspective", "finetuned", 7.9, 2.2, 115, 3.4),
    ("subtle_perspective", "progressive", 29.4, 13.5, 300, 17.7),
    ("significant_perspective", "finetuned", 17.7, 6.2, 126, 14.7),
    ("significant_perspective", "progressive", 22.1, 16.7, 300, 17.8),
    ("subtle_color", "finetuned", 38.0, 15.9, 198, 20.4),
    ("subtle_color", "progressive", 33.3, 21.8, 300, 26.4),
    ("significant_color", "finetuned", 34.9, 5.9, 129, 11.2),
    ("significant_color", "progressive", 28.2, 15.9, 300, 18.7),
  ],
)
def test_figure_6_s_curves_have_the_numbers_of_its_table(change, method, most, mean, num_above_1, at_100):
  ranks, returns = paper.rusu2017(f"fig6_{change}")[method]
  every_rank = np.interp(np.arange(300), ranks, returns)
  assert (ranks[0], ranks[-1]) == (0, 299) and (np.diff(returns) < 0.01).all()
  np.testing.assert_allclose([every_rank[0], every_rank.mean(), every_rank[100]], [most, mean, at_100], atol=0.12)
  assert abs((every_rank > 1).sum() - num_above_1) <= 1


def test_figure_7_s_curves_are_those_that_were_described():
  """See papers.md 2.5. Its means of the first 10,000 steps include the 0 at step 0, but not the point at 10,000."""
  curves = paper.rusu2017("fig7")
  for name, levels, mean in (("3col", [18.5, 26.2, 24.9, 27.7], 20.6), ("2col", [9.4, 11.7, None, 27.3], 10.1)):
    steps, returns = curves[f"{name}_median"]
    for step, level in zip((1_000, 10_000, 40_000, 60_000), levels, strict=True):
      assert level is None or np.interp(step, steps, returns) == pytest.approx(level, abs=0.1)
    steps, raw = curves[f"{name}_raw"]
    assert raw[steps < 10_000].mean() == pytest.approx(mean, abs=0.05)
