"""The figures of navigation from made-up sweeps: known lines give known numbers, and gaps are named."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from analysis import curves, intervals, speedup
from experiments import figures as figures_binary
from experiments.report import drawing
from experiments.studies import figures
from experiments.studies.navigation import episode_figures, folder
from tests.experiments.studies.navigation import navigators


@pytest.fixture
def nav(tmp_path):
  """On static_1 nav rises to 40 and nav_d2 to 80. The I-maze has only agents with auxiliary losses."""
  navigators.write_sweep(tmp_path / "one/nav", "nav", "static_1", [(0, 40), (0, 40), (0, 1)])
  navigators.write_sweep(tmp_path / "one/d2", "nav_d2", "static_1", [(0, 80), (0, 80)])
  navigators.write_sweep(tmp_path / "i_d2l", "nav_d2l", "i_maze", [(0, 100), (0, 50)])
  navigators.write_sweep(tmp_path / "late", "lstm_clip", "static_1", [(0, 40), (0, 40)], until=5_000)
  return tmp_path


def read(path):
  return folder.read_all([str(path)])


def test_figure_3_counts_what_was_put_in(nav):
  found = read(nav)
  statistics = figures.make("nav_fig3", found).statistics
  d2 = statistics["static_1/nav_d2"]
  # A line from 0.8 (the first 100 steps, also held at 0) to 80. Its last tenth averages 76.
  np.testing.assert_allclose(d2["AUC"], [40, 40], atol=0.5)
  np.testing.assert_allclose(d2["score"], [76, 76], atol=0.5)
  assert float(d2["paper's score"].mean) == 119
  np.testing.assert_allclose(d2["% of the paper's"], 100 * d2["score"] / 119)
  np.testing.assert_allclose(d2["% of an expert's"], 100 * d2["score"] / 95)
  np.testing.assert_allclose(statistics["static_1/nav"]["score"], [38, 38], atol=0.5)  # The top 2 of 3.
  assert statistics["i_maze/nav_d2l"]["paper's score"] == "not in the paper"
  assert statistics["static_1/nav"]["counted"] == "top 2 of 3"
  assert found.of("static_1")[0].curve.steps[-1] == 20_000  # Environment steps of the LSTM, which stops half way.


def test_a_lucky_bunch_of_episodes_is_not_a_score_that_was_reached(tmp_path):
  """Worlds in lockstep end their episodes together, here every 500 steps. The median is over bunches, not over bins."""
  for name, returns in (("nav", [1.0] * 20), ("nav_d2", [1.0] * 9 + [90.0] + [1.0] * 5 + [81.0] * 5)):
    path = navigators.write_sweep(tmp_path / name, name, "static_1", [(0, 1)] * 2)
    rows = [
      {"step": 500 * (i + 1), "wall_s": 1.0, "kind": "train", "episodes": 16.0, "return_mean": x}
      for i, x in enumerate(returns)
    ]
    for run in ("00", "01"):
      (path / "runs" / run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  drawn = figures.make("nav_fig3", read(tmp_path))
  np.testing.assert_array_equal(drawn.statistics["static_1/nav_d2"]["score"], [81, 81])  # From bunches 19 and 20.
  half = drawn.more_tables["speedup"]["static_1/nav_d2, score 41.0 (50%)"]
  # Three of the five bunches around agent step 8,000 have 81, so the median rises from 1 to 81 in the bin that ends
  # there.
  assert half["steps with"] == "31,800 (31,800; 31,800)"


def test_half_written_and_missing_are_said_and_never_zero(nav):
  drawn = figures.make("nav_fig3", read(nav))
  assert drawn.statistics["static_1/lstm_clip"]["score"] == drawn.statistics["static_1/lstm_clip"]["AUC"] == "at 50%"
  assert drawn.statistics["static_1/lstm_clip"]["% of the paper's"] == "at 50%"
  assert drawn.gaps["static_1/lstm_clip"] == "stops at step 5,000 of 10,000"
  assert drawn.gaps["speed-up in i_maze"] == "no nav_d2l without its auxiliary losses there to compare with"
  said = " ".join(text.get_text() for text in drawn.picture.texts)
  assert "missing:" in said and "speed-up in i_maze" in said
  assert not [row for row in drawn.more_tables["speedup"] if row.startswith("i_maze")]


def test_a_test_of_an_older_checkpoint_says_so_beside_its_numbers(nav):
  for name, agent in (("one/nav", "nav"), ("late", "lstm_clip")):
    navigators.write_test(nav / name, agent, "static_1")
    summary = json.loads((nav / name / "episodes.json").read_text())
    (nav / name / "episodes.json").write_text(json.dumps(summary | {"trained_steps": 4_000}))
    (nav / name / "checkpoints").mkdir()
  (nav / "one/nav/checkpoints/10000.safetensors").touch()
  (nav / "late/checkpoints/4000.safetensors").touch()  # Its newest checkpoint: figures read what can be tested.
  stale = "tested at step 4,000 of 10,000: run experiments.navigate"
  drawn = figures.make("nav_table1", read(nav))
  assert drawn.gaps["static_1/nav"] == stale and drawn.gaps["static_1/lstm_clip"] == "stops at step 5,000 of 10,000"
  assert set(drawn.statistics) >= {"static_1/nav", "static_1/lstm_clip"}
  assert figures.make("nav_fig56", read(nav)).gaps["static_1/nav"] == stale
  (nav / "late/checkpoints/5000.safetensors").touch()
  both = "stops at step 5,000 of 10,000; tested at step 4,000 of 5,000: run experiments.navigate"
  assert figures.make("nav_table1", read(nav)).gaps["static_1/lstm_clip"] == both


def test_a_test_that_cannot_be_read_takes_no_learning_curve_away(nav):
  navigators.write_test(nav / "one/nav", "nav", "static_1")
  found = folder.read(nav / "one/nav")
  (nav / "one/nav/episodes.npz").unlink()
  again = folder.read(nav / "one/nav")
  np.testing.assert_array_equal(again.curve.values, found.curve.values)
  assert found.tested and again.tested is None and "its test is unreadable: " in again.gap


def test_runs_that_are_missing_are_said_and_the_numbers_shown(tmp_path):
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40)] * 3, num_runs=64)
  navigators.write_sweep(tmp_path / "lstm", "lstm", "static_1", [(0, 40)], num_runs=64, until=5_000)
  drawn = figures.make("nav_fig3", read(tmp_path))
  numbers = drawn.statistics["static_1/nav"]
  assert numbers["counted"] == "top 2 of 3 (64 planned)"
  np.testing.assert_allclose(numbers["score"], [38, 38], atol=0.5)
  assert drawn.gaps == {
    "static_1/nav": "3 of 64 runs have ended episodes, not 03, 04, 05 and 58 more",
    "static_1/lstm": "stops at step 5,000 of 10,000; 1 of 64 runs have ended episodes, not 01, 02, 03 and 60 more",
  }


def test_scores_below_0_have_their_best_runs_and_their_own_bounds(tmp_path):
  """As in worlds with mushrooms. The top two of -5, -9 and -7 are -5 and -7."""
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(-5, -5), (-9, -9), (-7, -7)])
  drawn = figures.make("nav_fig3", read(tmp_path))
  np.testing.assert_allclose(drawn.statistics["static_1/nav"]["score"], [-5, -7])
  assert drawn.bounds.low == -np.inf


def test_a_speed_up_over_fewer_runs_than_planned_is_said(tmp_path):
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40)] * 4)
  navigators.write_sweep(tmp_path / "d2", "nav_d2", "static_1", [(0, 50)], num_runs=4)
  drawn = figures.make("nav_fig3", read(tmp_path))
  assert drawn.gaps["speed-up of static_1/nav_d2"] == "top 1 of 1 runs against top 2 of 4 runs without"


def test_starred_agents_stand_beside_the_paper_s_starred_ones(tmp_path):
  theirs = {"nav": None, "nav_clip": 56, "nav_d1": 80, "nav_d1_clip": 102, "nav_d1mse": 70, "ff_clip": 69}
  for agent in (*theirs, "nav_d2mse"):
    navigators.write_sweep(tmp_path / agent, agent, "random_goal_2", [(0, 40), (0, 40)])
  drawn = figures.make("nav_fig3", read(tmp_path))
  for agent, score in theirs.items():
    cell = drawn.statistics[f"random_goal_2/{agent}"]["paper's score"]
    assert cell == "not in the paper" if score is None else float(cell.mean) == score
  lines = {line.get_label(): line for line in drawn.picture.axes[0].lines}
  styles = {agent: (lines[agent].get_color(), lines[agent].get_linestyle()) for agent in (*theirs, "nav_d2mse")}
  assert styles["nav_clip"] == ("#d9661f", "--") and styles["nav"] == ("#d9661f", "-")
  # Agents without a colour of their own get the first two others, by name.
  assert [styles[agent][0] for agent in ("nav_d1mse", "nav_d2mse")] == ["#000000", "#e377c2"]
  assert len(set(styles.values())) == len(styles)


def test_colours_are_those_of_the_figure_not_of_a_panel(tmp_path):
  """In its maze only nav_d2mse has no colour of its own, yet it does not get nav_d1mse's from the other maze."""
  for agent, maze in (("nav_d1mse", "static_1"), ("nav_d2mse", "static_2"), ("nav_d2mse_clip", "static_1")):
    navigators.write_sweep(tmp_path / f"{agent}_{maze}", agent, maze, [(0, 40)])
  axes = figures.make("nav_fig3", read(tmp_path)).picture.axes
  drawn = {line.get_label(): line.get_color() for axis in axes for line in axis.lines}
  assert drawn["nav_d2mse"] == drawn["nav_d2mse_clip"] != drawn["nav_d1mse"]


def test_what_an_agent_is_stands_in_its_config_not_in_its_name(tmp_path):
  """Agents with other names keep their losses, clip and baseline. One name sounds like losses."""
  names = {"nav": "plain", "nav_d2": "mine", "nav_d2_clip": "cut", "ff": "nav_dark"}
  for agent, name in names.items():
    navigators.write_sweep(tmp_path / name, agent, "static_1", [(0, 40), (0, 40)], name=name)
  drawn = figures.make("nav_fig3", read(tmp_path))
  assert {row.partition(",")[0] for row in drawn.more_tables["speedup"]} == {"static_1/mine"}
  assert drawn.gaps == {"speed-up in static_1": "no cut without its auxiliary losses there to compare with"}
  lines = {line.get_label(): line for line in drawn.picture.axes[0].lines}
  assert [lines[name].get_linestyle() for name in names.values()] == ["-", "-", "--", "-"]
  colors = [lines[name].get_color() for name in names.values()]
  assert colors[1] == colors[2] and len(set(colors)) == 3


@pytest.mark.parametrize(
  ("options", "is_as_published"),
  [
    ({}, True),
    ({"layout": None, "num_steps": None, "style": "style_02", "fruit_returns": True}, True),
    ({"layout": "hall.txt"}, False),
    ({"num_steps": 300}, False),
    ({"fruit_returns": False}, False),
  ],
)
def test_a_maze_that_was_changed_is_not_the_paper_s(tmp_path, options, is_as_published):
  navigators.write_sweep(tmp_path / "d2", "nav_d2", "static_1", [(0, 80)], options=options)
  navigators.write_test(tmp_path / "d2", "nav_d2", "static_1")
  found = read(tmp_path)
  assert found.sweeps[0].is_as_published == is_as_published
  cells = figures.make("nav_fig3", found).statistics["static_1/nav_d2"]
  beside = [cells[name] for name in ("paper's score", "% of the paper's", "% of an expert's")]
  assert [isinstance(cell, str) for cell in beside] == [not is_as_published] * 3
  rows = figures.make("nav_table1", found).statistics
  assert ("static_1/Nav A3C+D2 (paper, v3, remembered)" in rows) == is_as_published


def test_the_speed_up_is_the_ratio_of_slopes(nav):
  table = figures.make("nav_fig3", read(nav)).more_tables["speedup"]
  rows = {row.partition("(")[2].rstrip(")"): numbers for row, numbers in table.items()}
  assert set(rows) == {"50%", "25%", "75%"}
  # Untrained play averages 8/15, and the best ends at 76.4. A quarter of the way is 19.5, three quarters 57.43.
  quarter = rows["25%"]
  assert float(quarter["ratio"].mean) == pytest.approx(2.0, abs=0.05)
  assert quarter["steps without"] == "19,500 (19,500; 19,500)"  # 40,000 environment steps x 19.5 / 40,
  assert quarter["steps with"] == "9,750 (9,750; 9,750)"  # or / 80.
  assert quarter["speed-up"].startswith("2.0x [") and "2 of 2 runs reach it" in quarter["speed-up"]
  # nav ends at 40 and never reaches three quarters of the way, so there is only a bound.
  assert "ratio" not in rows["75%"] and rows["75%"]["speed-up"].startswith("> 1.")
  assert rows["75%"]["steps without"] == "> 40,000 (never; never)" and rows["75%"]["steps with"].startswith("28,717 (")
  assert "0 of 2 of the baseline" in rows["75%"]["speed-up"]


@pytest.mark.parametrize(
  ("ends", "words"),
  [
    ([100.0], "150 (150)"),
    ([50.0, 100.0, 10.0], "300 (150; 300; never)"),
    ([100.0, 200.0], "112 (75; 150)"),
    ([10.0, 100.0, 20.0], "> 300 (150; never; never)"),
    ([100.0, 10.0], "> 225 (150; never)"),  # Above (150 + 300) / 2: the censored run needs more than 300.
  ],
)
def test_steps_are_medians_with_each_run_s_beside(ends, words):
  """Straight lines from 0 to `ends` at step 300. The score to reach is 50."""
  steps = np.linspace(0.0, 300.0, 4)
  curve = curves.Curve(steps, np.asarray(ends)[:, None] * steps / 300.0)
  assert speedup.steps_in_words(curve, 50.0) == words


def test_a_baseline_selected_from_another_number_of_runs_is_reported(nav):
  gaps = figures.make("nav_fig3", read(nav)).gaps
  assert gaps["speed-up of static_1/nav_d2"] == "top 2 of 2 runs against top 2 of 3 runs without"


def test_a_baseline_that_learned_otherwise_is_said(tmp_path):
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40), (0, 40)])
  navigators.write_sweep(tmp_path / "d2", "nav_d2", "static_1", [(0, 80), (0, 80)])
  config = json.loads((tmp_path / "nav/config.json").read_text())
  config["train"]["hyper"]["epochs"] = 4
  (tmp_path / "nav/config.json").write_text(json.dumps(config))
  said = figures.make("nav_fig3", read(tmp_path)).gaps["speed-up of static_1/nav_d2"]
  assert said == "other settings without its losses: train.hyper.epochs: 4 there, 1 here"


@pytest.mark.parametrize("newer", ["nav", "d2"])
def test_a_field_that_an_older_sweep_lacks_makes_no_other_baseline(tmp_path, newer):
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40), (0, 40)])
  navigators.write_sweep(tmp_path / "d2", "nav_d2", "static_1", [(0, 80), (0, 80)])
  config = json.loads((tmp_path / newer / "config.json").read_text())
  config["train"]["column"]["output_laterals"] = "linear"
  config["train"]["hyper"]["clip_ratio"] = 0.2
  (tmp_path / newer / "config.json").write_text(json.dumps(config))
  assert config["train"]["hyper"]["fan_in"] == "Infinity"
  older = tmp_path / ("d2" if newer == "nav" else "nav") / "config.json"
  lacking = json.loads(older.read_text())
  del lacking["train"]["hyper"]["fan_in"]
  older.write_text(json.dumps(lacking))
  drawn = figures.make("nav_fig3", read(tmp_path))
  assert len(drawn.more_tables["speedup"]) == 3 and not drawn.gaps


def test_a_speed_up_waits_for_runs_that_are_not_complete(tmp_path):
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40), (0, 40)])
  path = navigators.write_sweep(tmp_path / "d2", "nav_d2", "static_1", [(0, 80), (0, 80)])
  file = path / "runs/01/metrics.jsonl"
  file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines()[:20]))
  rows = figures.make("nav_fig3", read(tmp_path)).more_tables["speedup"]
  assert len(rows) == 3 and all(row == {"speed-up": "nav_d2 at 20%"} for row in rows.values())


def test_a_config_that_lacks_a_field_is_named(tmp_path):
  path = navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40), (0, 40)])
  config = json.loads((path / "config.json").read_text())
  del config["train"]["auxiliary"]
  (path / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match="nav/config.json lacks 'auxiliary'; it is no sweep of this version's"):
    read(tmp_path)


def test_counting_all_runs_is_not_reported_as_a_selection(tmp_path):
  navigators.write_sweep(tmp_path / "nav", "nav", "static_1", [(0, 40), (0, 40), (0, 40)], top=3)
  navigators.write_sweep(tmp_path / "d2", "nav_d2", "static_1", [(0, 80), (0, 80)])
  assert not figures.make("nav_fig3", read(tmp_path)).gaps


def test_reachers_are_compared_with_the_reacher(tmp_path):
  """They count their own steps, one each, beside no numbers of the paper. Navigators do not matter."""
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
  assert figures.make("nav_fig3", folder.Navigation(found.of("jaco/reach/fixed"))).bounds.high == 50.0
  assert set(found.untested) == {"static_1/nav"}  # An arm has no test episodes of a maze.


def test_table_1_stands_beside_the_paper_s(nav):
  navigators.write_test(nav / "one/d2", "nav_d2", "static_1")
  navigators.write_test(nav / "i_d2l", "nav_d2l", "i_maze", heads=())
  navigators.write_test(nav / "late", "lstm_clip", "static_1", heads=())  # Tested half way.
  drawn = figures.make("nav_table1", read(nav))
  ours, theirs = drawn.statistics["static_1/nav_d2"], drawn.statistics["static_1/Nav A3C+D2 (paper, v3, remembered)"]
  assert float(ours["test score"].mean) == 3.0 and float(theirs["test score"].mean) == 122
  assert float(ours["goals %"].mean) == 80.0 and float(theirs["goals %"].mean) == 100
  assert float(ours["first goal, s"].mean) == pytest.approx(1.0) and float(theirs["first goal, s"].mean) == 5.9
  assert float(ours["position %"].mean) == 100.0 and float(theirs["position %"].mean) == 95.4
  assert float(ours["loop F1 %"].mean) == pytest.approx(200 / 3)
  assert float(ours["loop F1 % of always yes"].mean) == pytest.approx(40.0)  # A loop every 4th step: 2 x 25 / 1.25.
  assert ours["depth % from lstm2 (prior)"] == "87.5 (87.5)"
  assert "loop F1 %" not in drawn.statistics["i_maze/nav_d2l"]
  assert drawn.gaps["static_1/nav"] == "not tested: run experiments.navigate"
  assert drawn.gaps["static_1/lstm_clip"] == "stops at step 5,000 of 10,000"
  assert "| static_1/Nav A3C+D2 (paper, v3, remembered) |" in drawing.markdown(drawn)
  points = drawn.picture.axes[0].lines[-1]
  np.testing.assert_array_equal(points.get_xdata(), [np.nan, 110.0, 122.0])  # The I-maze comes first, without a point.


def test_table_1_shows_v1_s_rows_and_what_is_known_of_loops(tmp_path):
  for maze in ("random_goal_2", "random_goal_1"):
    navigators.write_sweep(tmp_path / maze, "nav_d1msel_clip", maze, [(0, 80), (0, 80)])
    navigators.write_test(tmp_path / maze, "nav_d1msel_clip", maze)
  rows = figures.make("nav_table1", read(tmp_path)).statistics
  theirs = rows["random_goal_2/Nav A3C+D+L (paper, v1)"]
  assert float(theirs["AUC"].mean) == 62.5 and float(theirs["loop F1 %"].mean) == pytest.approx(83.0)
  assert "loop F1 %" not in rows["random_goal_1/Nav A3C+D+L (paper, v1)"]


def test_places_in_the_i_maze_are_not_compared(tmp_path):
  navigators.write_sweep(tmp_path / "d2", "nav_d2", "i_maze", [(0, 80), (0, 80)])
  navigators.write_test(tmp_path / "d2", "nav_d2", "i_maze")
  drawn = figures.make("nav_table1", read(tmp_path))
  theirs = drawn.statistics["i_maze/Nav A3C+D2 (paper, v3, remembered)"]
  assert float(theirs["test score"].mean) == 269 and float(theirs["goals %"].mean) == 100
  for name in ("position %", "first goal, s", "later goals, s"):
    assert theirs[name] == "another maze"
    assert isinstance(drawn.statistics["i_maze/nav_d2"][name], intervals.Interval)
  score, goals, *of_places = drawn.picture.axes
  assert [len(axis.lines) for axis in of_places] == [len(score.lines) - 1] * 3 and len(goals.lines) == len(score.lines)


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
  assert float(fig7.statistics["static_1/nav"]["goal north-east"].mean) == 122.0  # Of 305 steps, episodes 2 and 4.
  assert float(fig7.statistics["static_1/nav"]["goal south-west"].mean) == 183.0


def test_figure_7_prefers_the_i_maze(nav):
  navigators.write_test(nav / "one/d2", "nav_d2", "static_1")
  navigators.write_test(nav / "i_d2l", "nav_d2l", "i_maze")
  assert set(figures.make("nav_fig7", read(nav)).statistics) == {"i_maze/nav_d2l"}


def test_the_map_s_coordinates_are_the_world_s():
  found = episode_figures.maze_map(navigators.LAYOUT)
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
    figures_binary.main()
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
