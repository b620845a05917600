"""The papers' numbers against each other: what two places of a paper say must agree."""

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
  assert np.nanmax(matrix.values) == 2.0  # Figure 4a shows no more.


def test_scores_of_navigation_agree_between_figure_and_table():
  scores, rows = paper.navigation_scores(), paper.navigation_table1()
  assert set(scores) == {"static_1", "static_2", "i_maze", "random_goal_1", "random_goal_2"}
  assert scores["random_goal_2"]["Nav A3C+D2"] == 103
  assert (scores["random_goal_2"]["Nav A3C+D1MSE"], scores["random_goal_2"]["Nav A3C*+D1"]) == (70, 102)
  assert {len(scores[maze]) for maze in scores if maze != "random_goal_2"} == {8}  # No cell where nothing is given.
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
    elif (row.version, row.maze, row.agent) != ("v1", "static_2", "LSTM A3C"):  # The paper's own slip; see the file.
      assert row.human_percent == pytest.approx(100 * row.score / paper.NAVIGATION_HUMAN[row.maze], abs=1.2)


def test_the_table_can_be_read_by_name():
  (row,) = [r for r in paper.navigation_table1() if (r.version, r.maze, r.agent) == ("v1", "i_maze", "LSTM A3C")]
  assert (row.auc, row.score, row.goals, row.position_percent) == (112.4, 244, 100, 87.8)
  assert (row.first_s, row.later_s, row.test_score) == (15.3, 3.2, 203)
