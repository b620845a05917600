"""Figures 6, 7 and the gap's, from made-up run directories, show the ranks, means and shares that were put in."""

import json
import shutil
import zlib

import numpy as np
import pytest

from analysis import records
from environments.jaco import constants
from experiments.configs import jaco_corl2017
from experiments.report import drawing
from experiments.running import run
from experiments.studies import figures


def make_run(path, config, returns, *, steps=1_000):
  """A run whose episodes return `returns` in turn, in equal parts of `steps`. It has no records of episodes."""
  path.mkdir(parents=True)
  seed = zlib.crc32(str(path).encode())  # A seed of its own.
  (path / "config.json").write_text(json.dumps({"seed": seed, "train": {"steps": 1_000}, **config}))
  (path / "provenance.json").write_text("{}")
  lines = [
    {
      "step": (i + 1) * steps // len(returns),
      "wall_s": 1.0,
      "kind": "train",
      "loss": 0.0,
      "episodes": 2.0,
      "return_mean": value,
    }
    for i, value in enumerate(returns)
  ]
  (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


def make_cell(folder, variant, finals, **options):
  method, change = jaco_corl2017.FIGURE_6[variant]
  config = {"method": method, "world_options": {"change": change}}
  for i, final in enumerate(finals):
    make_run(folder / variant / "runs" / f"{i:02}", config, [25.0] * 9 + [final], **options)


def make(name, folder):
  return figures.make(name, [records.read(path) for path in records.find([str(folder)])])


def test_figure_6_ranks_what_was_put_in(tmp_path):
  make_cell(tmp_path, "finetune_subtle_color", [0.5, 30.0, 9.0, 1.0, 3.0, 0.0])
  make_cell(tmp_path, "progressive_subtle_color", [12.0, 20.0, 16.0])
  drawn = make("corl2017_fig6", tmp_path)
  ours = drawn.statistics["finetune_subtle_color (ours)"]
  np.testing.assert_allclose(ours["mean"], [30.0, 9.0, 3.0, 1.0, 0.5, 0.0])  # Its mean is 7.25.
  assert [float(ours[name].mean) for name in ("max", "at a third", "% above 1")] == [30.0, 3.0, 50.0]
  progressive = drawn.statistics["progressive_subtle_color (ours)"]
  assert [float(progressive[name].mean) for name in ("max", "at a third", "% above 1")] == [20.0, 16.0, 100.0]
  theirs = drawn.statistics["finetune_subtle_color (paper)"]  # papers.md 2.5: 198 of 300 are above 1.
  assert theirs["mean"].mean() == pytest.approx(15.9, abs=0.1)
  numbers = [float(theirs[name].mean) for name in ("max", "at a third", "% above 1")]
  np.testing.assert_allclose(numbers, [38.0, 20.4, 66.0], atol=0.4)
  panels = {axis.get_title(loc="left"): axis for axis in drawn.picture.axes}
  lines = {line.get_label(): line.get_xydata() for line in panels["subtle color"].lines}
  np.testing.assert_allclose(lines["progressive, ours"], [[100 / 6, 20.0], [50, 16.0], [500 / 6, 12.0]])
  assert len(lines["finetune, Rusu et al. 2017"]) == 300 and len(panels) == 4


def test_figure_6_says_what_it_lacks_and_draws_no_zero_for_it(tmp_path):
  make_cell(tmp_path, "progressive_subtle_color", [12.0, 20.0])
  make_cell(tmp_path, "finetune_subtle_color", [12.0, 20.0], steps=800)
  make_cell(tmp_path, "finetune_significant_color", [12.0, float("nan")])
  path = tmp_path / "finetune_significant_color/runs/01/metrics.jsonl"
  path.write_text(path.read_text().replace('"loss": 0.0', '"loss": null'))
  drawn = make("corl2017_fig6", tmp_path)
  assert drawn.gaps.pop("finetune_subtle_color") == "at step 800 of 1,000"
  assert set(drawn.gaps.values()) == {"not run"} and len(drawn.gaps) == 5
  assert drawn.statistics["finetune_subtle_perspective (ours)"] == {"mean": "not run"}
  labels = [[line.get_label() for line in axis.lines] for axis in drawn.picture.axes]
  assert [sum("ours" in label for label in each) for each in labels] == [0, 0, 1, 1]
  # A run that ended in NaN counts as failed.
  np.testing.assert_allclose(drawn.statistics["finetune_significant_color (ours)"]["mean"], [12.0, 0.0])


def test_figure_6_refuses_other_runs(tmp_path):
  make_run(tmp_path / "own", {"method": "scratch", "world_options": {"change": "subtle_color"}}, [1.0] * 10)
  with pytest.raises(ValueError, match="own: change 'subtle_color' and method 'scratch' in config.json are none"):
    make("corl2017_fig6", tmp_path)


def test_figure_7_has_what_was_put_in_and_leaves_the_second_column_out(tmp_path):
  for variant, level in (("fig7_two", 9.0), ("fig7_static", 40.0), ("fig7_three", 20.0)):
    config = {"agent": variant, "world": jaco_corl2017.FIGURE_7[variant][0]}
    make_run(tmp_path / variant, config, [level] * 10, steps=10_000)
  drawn = make("corl2017_fig7", tmp_path)
  assert list(drawn.statistics) == [
    f"{label} columns ({who})" for label in ("three", "two") for who in ("ours", "paper")
  ]
  np.testing.assert_allclose(drawn.statistics["three columns (ours)"]["raw mean to 10k"], [20.0])
  np.testing.assert_allclose(drawn.statistics["two columns (ours)"]["raw @1k"], [9.0])
  paper = [drawn.statistics[f"{label} columns (paper)"]["@60k"][0] for label in ("three", "two")]
  np.testing.assert_allclose(paper, [27.7, 27.3], atol=0.1)  # papers.md 2.5
  ours = drawn.picture.axes[0]
  assert ours.get_title(loc="left") == "ours, in simulation" and not drawn.gaps
  assert [line.get_ydata().max() for line in ours.lines] == [20.0, 20.0, 9.0, 9.0]


@pytest.mark.parametrize("steps,expected", ((1_000, np.nan), (5_000, np.nan), (6_000, 20.0)))
def test_a_young_run_has_no_number_at_1k(tmp_path, steps, expected):
  """The median sees four zeros and the zero at the start before 1k, and needs as many points after it."""
  config = {"agent": "fig7_two", "world": "jaco/conveyor"}
  make_run(tmp_path / "two", config, [20.0] * (steps // 1_000), steps=steps)
  drawn = make("corl2017_fig7", tmp_path)
  np.testing.assert_array_equal(drawn.statistics["two columns (ours)"]["@1k"], [expected])
  tables = drawing.cells(drawn.statistics)
  assert tables["two columns (ours)"]["runs"] == "1" and "runs" not in tables["two columns (paper)"]


def test_figure_7_says_what_it_lacks(tmp_path):
  make_run(tmp_path / "static", {"agent": "fig7_static", "world": "jaco/reach/random"}, [1.0] * 10, steps=10_000)
  with pytest.raises(ValueError, match="all runs are of fig7_static; give --runs those of fig7_three, fig7_two"):
    make("corl2017_fig7", tmp_path)
  make_run(tmp_path / "two", {"agent": "fig7_two", "world": "arm://localhost:5005"}, [1.0] * 10, steps=10_000)
  drawn = make("corl2017_fig7", tmp_path)
  assert drawn.gaps == {"three columns": "not run"}
  assert drawn.picture.axes[0].get_title(loc="left") == "ours, on an arm or its twin"
  path = make_run(tmp_path / "three", {"agent": "fig7_three", "world": "jaco/conveyor"}, [1.0] * 10, steps=10_000)
  with pytest.raises(
    ValueError, match="two: world in config.json is 'arm://', but 'jaco/conveyor' in .*three; give --runs"
  ):
    make("corl2017_fig7", tmp_path)
  (path / "config.json").write_text('{"world": "jaco/conveyor"}')
  path.rename(tmp_path / "other")
  with pytest.raises(ValueError, match="other: agent None in config.json is not one of fig7_three, fig7_two"):
    make("corl2017_fig7", tmp_path)


def make_on_twin(path, size, method, rate, returns, num_planned=60_000, **options):
  config = {"method": method, "world": "twin/reach/random", "world_options": {"gap": size}}
  config["train"] = {"steps": num_planned, "hyper": {"learning_rate": rate}}
  make_run(path, config, returns, **options)
  layers = [{"type": "Conv", "features": 8 if method == "progressive" else 16}]
  (path / "network.json").write_text(json.dumps({"columns": [{"layers": layers}]}))


def test_the_gap_s_figure_has_what_was_put_in(tmp_path):
  short = {"steps": 10_000, "num_planned": 10_000}
  for size, level in (("none", 36.0), ("full", 20.0), ("shadow:full", 23.0)):
    make_on_twin(tmp_path / f"u_{size[:4]}", size, "finetune_head", 1e-12, [level - 1.0, level + 1.0] * 5, **short)
  for seed, (early, late) in enumerate(((21.0, 25.0), (19.0, 29.0))):
    make_on_twin(tmp_path / f"p_{seed}", "full", "progressive", 5e-4, [early] * 30 + [late] * 30, steps=60_000)
  drawn = make("corl2017_gap", tmp_path)
  assert list(drawn.statistics) == [
    "none: unchanged, wide", "full: progressive, narrow", "full: unchanged, wide", "shadow:full: unchanged, wide"
  ]  # fmt: skip
  cell = drawn.statistics["shadow:full: unchanged, wide"]["all episodes"]  # 20 episodes: ten of 22, ten of 24.
  reach = 2.093 * np.sqrt(20 / 19) / np.sqrt(20)  # Student's t of 19 degrees of freedom at 97.5 %.
  np.testing.assert_allclose(cell, (23.0, 23.0 - reach, 23.0 + reach), atol=1e-3)
  learned = drawn.statistics["full: progressive, narrow"]
  np.testing.assert_allclose(learned["to 10k"], [21.0, 19.0])
  np.testing.assert_allclose(learned["30k to 60k"], [25.0, 29.0])
  lines = {line.get_label(): line.get_xydata() for line in drawn.picture.axes[0].lines}
  np.testing.assert_allclose(lines["unchanged, wide: all episodes"], [[0.0, 36.0], [100.0, 20.0]])
  np.testing.assert_allclose(lines["finetune @1k (paper)"][:, 1], 29.7, atol=0.1)  # papers.md 2.4
  assert not drawn.gaps
  config = json.loads((tmp_path / "u_full/config.json").read_text())
  del config["world_options"]["gap"]  # Its default is "full".
  (tmp_path / "u_full/config.json").write_text(json.dumps(config))
  assert make("corl2017_gap", tmp_path).statistics.keys() == drawn.statistics.keys()


def test_where_runs_are_unequal_in_number_the_gap_s_line_is_of_all_of_them(tmp_path):
  for size, levels in (("subtle", (30.0, 31.0, 35.0)), ("full", (20.0, 24.0))):
    for i, level in enumerate(levels):
      make_on_twin(tmp_path / f"{size}_{i}", size, "progressive", 5e-4, [level] * 60, steps=60_000)
  make_on_twin(tmp_path / "short", "significant", "progressive", 5e-4, [9.0] * 12, steps=12_000)
  drawn = make("corl2017_gap", tmp_path)
  lines = {line.get_label(): line.get_xydata() for line in drawn.picture.axes[0].lines}
  np.testing.assert_allclose(lines["progressive, narrow: to 10k"][:, 1], [32.0, 9.0, 22.0])
  assert drawn.gaps == {
    str(tmp_path / "short"): "stops at step 12,000 of 60,000; so does significant: progressive, narrow"
  }


def test_a_run_that_is_there_twice_is_refused_and_narrows_no_interval(tmp_path):
  make_on_twin(tmp_path / "a", "full", "progressive", 5e-4, [20.0] * 60, steps=60_000)
  shutil.copytree(tmp_path / "a", tmp_path / "copy")
  with pytest.raises(ValueError, match="copy and .*a are one run: config and seed are the same"):
    make("corl2017_fig5", tmp_path)


def test_figure_4_draws_no_line_of_runs_that_learned_otherwise(tmp_path):
  for name, rate in (("a", 1e-3), ("b", 1e-3), ("c", 1e-6)):
    config = {"method": "scratch", "world": "jaco/reach/random", "train": {"steps": 1_000, "hyper": {"rate": rate}}}
    make_run(tmp_path / name, config, [40.0] * 10)
    layers = [{"type": "Conv", "features": 16}, {"type": "LSTM"}]
    (tmp_path / name / "network.json").write_text(json.dumps({"columns": [{"layers": layers}]}))
  with pytest.raises(ValueError, match="c: LSTM, wide has learned otherwise than in .*a, train.hyper.rate"):
    make("corl2017_fig4", tmp_path)
  (tmp_path / "c").rename(tmp_path.parent / "elsewhere")
  np.testing.assert_allclose(make("corl2017_fig4", tmp_path).statistics["LSTM, wide (ours)"]["end"], [40.0, 40.0])


def test_the_gap_s_figure_pools_one_task_at_a_time(tmp_path):
  for name, size, world in (("a", "none", "twin/reach/random"), ("b", "full", "twin/conveyor")):
    make_on_twin(tmp_path / name, size, "finetune", 1e-3, [1.0] * 10)
    config = json.loads((tmp_path / name / "config.json").read_text())
    (tmp_path / name / "config.json").write_text(json.dumps(config | {"world": world}))
  with pytest.raises(ValueError, match="b: world in config.json is 'twin/conveyor', but 'twin/reach/random' in .*a"):
    make("corl2017_gap", tmp_path)


def test_the_gap_s_figure_refuses_runs_without_one(tmp_path):
  make_run(tmp_path / "own", {"method": "scratch", "world": "jaco/reach/random"}, [1.0] * 10)
  with pytest.raises(ValueError, match="own: config.json has no world_options.gap"):
    make("corl2017_gap", tmp_path)


def test_a_tiny_sweep_of_figure_6_is_learned_and_drawn(tmp_path):
  """Two runs with episodes of two steps, which differ only in their drawn values."""
  config = jaco_corl2017.get_config("progressive_significant_color")
  config.world_options.num_steps = 2
  config.sweep.num_runs = 2
  config.train.update({"steps": 40, "num_worlds": 2, "num_steps": 2, "save_every": 0, "updates_per_record": 1})
  members = run.run(config, tmp_path).members
  rates, costs = (
    {getattr(member.config.train.hyper, name) for member in members} for name in ("learning_rate", "entropy_cost")
  )
  assert len(rates) == len(costs) == 2
  assert {member.task.place.world for member in members} == {members[0].task.place.world}
  drawn = make("corl2017_fig6", tmp_path)
  assert len(drawn.statistics["progressive_significant_color (ours)"]["mean"]) == 2
  assert len(drawn.gaps) == 2 * len(constants.CHANGES) - 1
