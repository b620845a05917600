"""The figures of navigation from made-up sweeps: known lines give known numbers, and what is missing is said."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import figures
from experiments.disk import navigation_folder
from experiments.papers import drawing, navigation_episode_figures
from tests.experiments import navigators


@pytest.fixture
def nav(tmp_path):
  """On static_1 nav rises to 40 and nav_d2 to 80; on the I-maze only agents with losses are there."""
  navigators.write_sweep(tmp_path / "one/nav", "nav", "static_1", [(0, 40), (0, 40), (0, 1)])
  navigators.write_sweep(tmp_path / "one/d2", "nav_d2", "static_1", [(0, 80), (0, 80)])
  navigators.write_sweep(tmp_path / "i_d2l", "nav_d2l", "i_maze", [(0, 100), (0, 50)])
  navigators.write_sweep(tmp_path / "late", "lstm", "static_1", [(0, 40), (0, 40)], until=5_000)
  return tmp_path


def read(path):
  return navigation_folder.read_all([str(path)])


def test_figure_3_counts_what_was_put_in(nav):
  found = read(nav)
  statistics = figures.make("nav_fig3", found).statistics
  d2 = statistics["static_1/nav_d2"]
  # A line from 0.8 (the first 100 steps, also held at 0) to 80; the last tenth has 76 on average.
  np.testing.assert_allclose(d2["AUC"], [40, 40], atol=0.5)
  np.testing.assert_allclose(d2["score"], [76, 76], atol=0.5)
  assert float(d2["paper's score"].mean) == 119
  np.testing.assert_allclose(d2["% of the paper's"], 100 * d2["score"] / 119)
  np.testing.assert_allclose(d2["% of an expert's"], 100 * d2["score"] / 95)
  np.testing.assert_allclose(statistics["static_1/nav"]["score"], [38, 38], atol=0.5)  # The top 2 of 3.
  assert statistics["i_maze/nav_d2l"]["paper's score"] == "not in the paper"
  assert found.of("static_1")[0].curve.steps[-1] == 20_000  # Environment steps of the LSTM, cut at half.


def test_half_written_and_missing_are_said_and_never_zero(nav):
  drawn = figures.make("nav_fig3", read(nav))
  assert drawn.statistics["static_1/lstm"]["score"] == drawn.statistics["static_1/lstm"]["AUC"] == "at 50%"
  assert drawn.statistics["static_1/lstm"]["% of the paper's"] == "at 50%"
  assert drawn.gaps["static_1/lstm"] == "stops at step 5,000 of 10,000"
  assert drawn.gaps["speed-up in i_maze"] == "no nav there to compare with"
  said = " ".join(text.get_text() for text in drawn.picture.texts)
  assert "missing:" in said and "speed-up in i_maze" in said
  assert not [row for row in drawn.more_tables["speedup"] if row.startswith("i_maze")]


def test_the_speed_up_is_the_ratio_of_slopes(nav):
  table = figures.make("nav_fig3", read(nav)).more_tables["speedup"]
  rows = {row.partition("(")[2].rstrip(")"): numbers for row, numbers in table.items()}
  assert set(rows) == {"50%", "25%", "75%"}
  # Untrained play scores 0.5 on average, the best ends at 76: a quarter of the way is 19.5, half 38.5.
  quarter = rows["25%"]
  assert float(quarter["ratio"].mean) == pytest.approx(2.0, abs=0.05)
  np.testing.assert_allclose(quarter["steps without"], 4 * 10_000 * 19.5 / 40, rtol=0.03)
  np.testing.assert_allclose(quarter["steps with"], 4 * 10_000 * 19.5 / 80, rtol=0.03)
  assert quarter["speed-up"].startswith("2.0x [") and "2 of 2 runs reach it" in quarter["speed-up"]
  # nav ends at 40 and never reaches three quarters of the way: a bound, no number.
  assert "ratio" not in rows["75%"] and rows["75%"]["speed-up"].startswith("> 1.")
  assert np.isinf(rows["75%"]["steps without"]).all() and "0 of 2 of the baseline" in rows["75%"]["speed-up"]


def test_reachers_are_compared_with_the_reacher(tmp_path):
  """In their own steps, one each, with nothing of the paper's beside; navigators have no say in it."""
  for agent, best in (("reacher", 20), ("reacher_l", 40)):
    navigators.write_sweep(tmp_path / agent, agent, "jaco/reach/fixed", [(0, best), (0, best)])
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 90), (0, 90)])
  found = read(tmp_path)
  drawn = figures.make("nav_fig3", found)
  assert found.of("jaco/reach/fixed")[0].curve.steps[-1] == 10_000
  numbers = drawn.statistics["jaco/reach/fixed/reacher_l"]
  np.testing.assert_allclose(numbers["score"], [38, 38], atol=0.5)
  assert numbers["paper's score"] == "not in the paper"
  rows = {row.partition("(")[2]: row_numbers for row, row_numbers in drawn.more_tables["speedup"].items()}
  assert set(rows) == {"50%)", "25%)", "75%)"} and not drawn.gaps
  assert float(rows["25%)"]["ratio"].mean) == pytest.approx(2.0, abs=0.05)
  assert set(found.untested) == {"static_1/nav"}  # An arm has no test episodes of a maze.


def test_table_1_stands_beside_the_paper_s(nav):
  navigators.write_test(nav / "one/d2", "nav_d2", "static_1")
  navigators.write_test(nav / "i_d2l", "nav_d2l", "i_maze", heads=())
  navigators.write_test(nav / "late", "lstm", "static_1", heads=())  # Tested half way.
  drawn = figures.make("nav_table1", read(nav))
  ours, theirs = drawn.statistics["static_1/nav_d2"], drawn.statistics["static_1/Nav A3C+D2 (paper, v3)"]
  assert float(ours["test score"].mean) == 3.0 and float(theirs["test score"].mean) == 122
  assert float(ours["goals %"].mean) == 80.0 and float(theirs["goals %"].mean) == 100
  assert float(ours["first goal, s"].mean) == pytest.approx(1.0) and float(theirs["first goal, s"].mean) == 5.9
  assert float(ours["position %"].mean) == 100.0 and float(theirs["position %"].mean) == 95.4
  assert float(ours["loop F1 %"].mean) == pytest.approx(200 / 3)
  assert ours["depth % from lstm2 (prior)"] == "87.5 (87.5)"
  assert "loop F1 %" not in drawn.statistics["i_maze/nav_d2l"]
  assert drawn.gaps["static_1/nav"] == "not tested: run experiments.navigate"
  assert drawn.gaps["static_1/lstm"] == "stops at step 5,000 of 10,000"
  assert "| static_1/Nav A3C+D2 (paper, v3) |" in drawing.markdown(drawn)
  points = drawn.picture.axes[0].lines[-1]
  np.testing.assert_array_equal(points.get_xdata(), [np.nan, 110.0, 122.0])  # The I-maze comes first, without one.


def test_without_goals_the_table_says_so(nav):
  navigators.write_test(nav / "one/d2", "nav_d2", "static_1")
  file = nav / "one/d2/episodes.json"
  told = json.loads(file.read_text()) | {"first_s": None, "later_s": None, "goal_percent": 0.0}
  file.write_text(json.dumps(told))
  numbers = figures.make("nav_table1", read(nav)).statistics["static_1/nav_d2"]
  assert numbers["first goal, s"] == numbers["later goals, s"] == "no goal found"


def test_figures_of_episodes(nav):
  navigators.write_test(nav / "one/d2", "nav_d2", "static_1")
  navigators.write_test(nav / "one/nav", "nav", "static_1", heads=())
  found = read(nav)
  fig4 = figures.make("nav_fig4", found)
  assert set(fig4.more_pictures) == {"static_1_nav_d2_loops"} and set(fig4.statistics) == {"static_1/nav_d2"}
  assert fig4.gaps["static_1/nav"] == "has no auxiliary heads"
  (truth,) = [axis for axis in fig4.picture.axes if axis.get_ylabel() == "depth"]
  shown = found.of("static_1")[2].tested.shown
  np.testing.assert_array_equal(truth.images[0].get_array(), shown.depth[shown.frame_steps[0]])
  legend = [text.get_text() for text in fig4.more_pictures["static_1_nav_d2_loops"].legends[0].get_texts()]
  assert legend == [
    "none, none said (30)",
    "loop closed, and said so (16)",
    "missed (0)",
    "false alarm (15)",
  ]
  fig56 = figures.make("nav_fig56", found)
  numbers = fig56.statistics["static_1/nav_d2"]
  assert float(numbers["decoded right %"].mean) == 100.0 and float(numbers["goals reached"].mean) == 2.0
  assert float(numbers["seconds shown"].mean) == pytest.approx(4.0)
  fig7 = figures.make("nav_fig7", found)
  assert float(fig7.statistics["static_1/nav"]["goal north-east"].mean) == 122.0  # Of 305, episodes 2 and 4.
  assert float(fig7.statistics["static_1/nav"]["goal south-west"].mean) == 183.0


def test_figure_7_prefers_the_i_maze(nav):
  navigators.write_test(nav / "one/d2", "nav_d2", "static_1")
  navigators.write_test(nav / "i_d2l", "nav_d2l", "i_maze")
  assert set(figures.make("nav_fig7", read(nav)).statistics) == {"i_maze/nav_d2l"}


def test_the_map_s_coordinates_are_the_world_s():
  found = navigation_episode_figures.maze_map(navigators.LAYOUT)
  left, right, bottom, top = found.extent
  height, width, _ = found.picture.shape
  assert (right - left) / width == pytest.approx((top - bottom) / height) == pytest.approx(1 / 24)

  def colour(x, y):
    return tuple(found.picture[int((top - y) * 24), int((x - left) * 24)])

  wall, floor = colour(0.0, 1.5), colour(0.5, 0.5)
  assert wall != floor
  rows = [line for line in navigators.LAYOUT.text.splitlines()][::-1]
  for x in range(5):
    for y in range(3):
      assert colour(x + 0.5, y + 0.5) == floor
      assert (colour(x + 1.0, y + 0.5) == wall) == (rows[2 * y + 1][2 * x + 2] == "*")
      assert (colour(x + 0.5, y + 1.0) == wall) == (rows[2 * y + 2][2 * x + 1] == "*")


def test_main_draws_what_it_can(nav, capsys):
  navigators.write_test(nav / "i_d2l", "nav_d2l", "i_maze")
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(runs=[str(nav)], figure="nav", out=str(nav / "out")):
    figures.main(())
  names = {path.name for path in (nav / "out").iterdir()}
  assert {f"nav_{name}.png" for name in ("fig3", "fig4", "fig56", "fig7", "table1")} <= names
  assert "9 runs read; wrote nav_fig3.png" in capsys.readouterr().out
  assert len(json.loads((nav / "out/provenance.json").read_text())["nav_fig3"]["runs"]) == 9
  assert json.loads((nav / "out/nav_fig3_speedup.json").read_text())


def test_mistakes_are_refused_in_one_line(nav):
  for name in ("nav_table1", "nav_fig56", "nav_fig4", "nav_fig7"):
    with pytest.raises(ValueError, match="run experiments.navigate --runs=... first"):
      figures.make(name, read(nav))
  navigators.write_sweep(nav / "again", "nav", "static_1", [(0, 40)])
  with pytest.raises(ValueError, match="again and .*one/nav are both sweeps of nav in static_1; name one of them"):
    read(nav)
  with pytest.raises(ValueError, match="no sweep of a navigator there"):
    read(nav / "one/nav/runs")
