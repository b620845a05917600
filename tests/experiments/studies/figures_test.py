"""Figures from made-up run directories: the table shows the numbers that were put in."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from analysis import intervals, records
from experiments import figures as figures_binary
from experiments.report import drawing
from experiments.store import run_directory
from experiments.studies import figures

ROOT = pathlib.Path(__file__).resolve().parents[3]


def make_run(path, method, *, features, level, num_steps=10_000, seed=0, **config):
  """A run whose episodes of 50 steps all return `level`."""
  path.mkdir(parents=True)
  layers = [{"type": "Conv", "name": "conv1", "features": features}, {"type": "LSTM", "name": "lstm1", "size": 16}]
  (path / "config.json").write_text(
    json.dumps({"method": method, "seed": seed, "world": "twin/reach/random", **config})
  )
  (path / "provenance.json").write_text(json.dumps({"seed": seed, "commit": "abc", "command": "python"}))
  (path / "network.json").write_text(json.dumps({"columns": [{"inputs": {}, "layers": layers}]}))
  with (path / "metrics.jsonl").open("w") as file:
    for step in range(50, num_steps + 1, 50):
      train = {"step": step, "wall_s": step / 100, "kind": "train", "loss": 0.0, "return_mean": level}
      file.write(json.dumps(train | {"kind": "episode", "return": level, "length": 50.0}) + "\n")
      file.write(json.dumps(train) + "\n")
  return path


@pytest.fixture
def runs(tmp_path):
  for seed, level in enumerate((30.0, 34.0, 32.0)):
    make_run(tmp_path / f"runs/p{seed}", "progressive", features=8, level=level, seed=seed)
  make_run(tmp_path / "runs/f", "finetune", features=16, level=20.0)
  make_run(tmp_path / "runs/s", "scratch", features=8, level=0.0)
  return tmp_path / "runs"


def read(folder):
  return [records.read(path) for path in records.find([str(folder)])]


def test_figure_5_counts_what_was_put_in(runs):
  statistics = figures.make("corl2017_fig5", read(runs)).statistics
  ours = statistics["progressive, narrow (ours)"]
  np.testing.assert_allclose(ours["@10k"], [30, 34, 32])
  np.testing.assert_allclose(ours["raw mean to 10k"], [30, 34, 32])
  assert np.isnan(ours["@60k"]).all()
  np.testing.assert_allclose(statistics["finetune, wide (ours)"]["@5k"], [20])
  paper = statistics["finetune, wide (paper)"]
  np.testing.assert_allclose([paper["@1k"][0], paper["@30k"][0], paper["@60k"][0]], [29.7, 22.4, 28.9], atol=0.1)


def test_runs_with_a_teacher_stand_beside_the_paper_s_which_has_none(tmp_path):
  make_run(tmp_path / "a", "finetune", features=16, level=20.0, train={"teacher": "column"})
  assert list(figures.make("corl2017_fig5", read(tmp_path)).statistics) == [
    "finetune, wide, taught (ours)", "finetune, wide (paper)"
  ]  # fmt: skip


def test_how_runs_learn_is_drawn_by_run_and_sweep(tmp_path):
  """Shows late means of the records, with members of a sweep together. A layer without dead units has no panel."""
  for name, explained in (("sweep/runs/00", 0.5), ("sweep/runs/01", 0.7), ("alone", 0.1)):
    path = make_run(tmp_path / name, "scratch", features=8, level=3.0)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
      if line["kind"] == "train":
        is_late = line["step"] > 7_400
        line |= {"explained_variance": explained * is_late, "dead/dense1": 0.25, "dead/lstm1": 0.0}
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  drawn = figures.make("learning", read(tmp_path))
  np.testing.assert_allclose(np.sort(drawn.statistics["sweep"]["explained_variance"]), [0.5, 0.7])
  np.testing.assert_allclose(drawn.statistics["alone"]["explained_variance"], [0.1])
  np.testing.assert_allclose(drawn.statistics["sweep"]["return_mean"], [3.0, 3.0])
  titles = [axis.get_title(loc="left") for axis in drawn.picture.axes if axis.get_visible()]
  assert titles == ["return mean", "explained variance", "dead, dense1"]


def test_more_runs_than_there_are_colours_are_told_apart(tmp_path):
  for i in range(12):
    make_run(tmp_path / f"{i:02}", "scratch", features=8, level=float(i))
  lines = figures.make("learning", read(tmp_path)).picture.axes[0].lines
  assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12


def test_where_each_episode_is_a_record_their_returns_are_drawn(tmp_path):
  path = make_run(tmp_path / "a", "scratch", features=8, level=3.0)
  lines = [json.loads(line) for line in (path / "metrics.jsonl").open()]
  for line in lines:
    line.pop("return_mean", None)
    if line["kind"] == "train":
      line["entropy"] = 1.0
  (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  np.testing.assert_allclose(figures.make("learning", read(tmp_path)).statistics["a"]["return_mean"], [3.0])


def test_runs_that_a_user_has_numbered_are_no_sweep(tmp_path, monkeypatch):
  for name, level in (("runs/0", 1.0), ("runs/1", 5.0)):
    make_run(tmp_path / name, "scratch", features=8, level=level)
  statistics = figures.make("learning", read(tmp_path)).statistics
  assert {name: numbers["return_mean"] for name, numbers in statistics.items()} == {"0": [1.0], "1": [5.0]}
  monkeypatch.chdir(tmp_path)
  assert list(figures.make("learning", [records.read(pathlib.Path("runs/0"))]).statistics) == ["0"]


def test_a_diverged_run_is_left_out_of_measures_it_lacks(tmp_path):
  for name, explained in (("sweep/runs/00", 0.5), ("sweep/runs/01", None)):
    path = make_run(tmp_path / name, "scratch", features=8, level=3.0)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    lines = [line | {"explained_variance": explained} for line in lines]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  drawn = figures.make("learning", read(tmp_path))
  np.testing.assert_allclose(drawn.statistics["sweep"]["explained_variance"], [0.5])
  np.testing.assert_allclose(drawn.statistics["sweep"]["return_mean"], [3.0, 3.0])
  assert drawn.gaps == {str(tmp_path / "sweep/runs/01"): "no number of explained_variance"}


def test_what_one_member_never_recorded_is_a_gap_and_zeros_are_drawn(tmp_path):
  for name, more in (("sweep/runs/00", {"entropy": 0.5}), ("sweep/runs/01", {})):
    path = make_run(tmp_path / name, "scratch", features=8, level=0.0)
    lines = [json.loads(line) | more for line in (path / "metrics.jsonl").open()]
    lines.insert(0, {"step": 0, "wall_s": 0.0, "kind": "train", "return_mean": 9.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  drawn = figures.make("learning", read(tmp_path))
  np.testing.assert_array_equal(drawn.statistics["sweep"]["entropy"], [0.5])
  np.testing.assert_array_equal(drawn.statistics["sweep"]["return_mean"], [0.0, 0.0])
  assert drawn.gaps == {str(tmp_path / "sweep/runs/01"): "no number of entropy"}


def test_a_run_that_is_short_or_empty_is_said_and_takes_no_other_away(tmp_path):
  make_run(tmp_path / "sweep/runs/00", "scratch", features=8, level=3.0)
  short = make_run(tmp_path / "sweep/runs/01", "scratch", features=8, level=3.0, num_steps=5_000)
  empty = make_run(tmp_path / "sweep/runs/02", "scratch", features=8, level=3.0)
  (empty / "metrics.jsonl").write_text("")
  for path, explained in ((tmp_path / "sweep/runs/00", 0.5), (short, None)):
    lines = [json.loads(line) | {"explained_variance": explained} for line in (path / "metrics.jsonl").open()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  drawn = figures.make("learning", read(tmp_path))
  np.testing.assert_allclose(drawn.statistics["sweep"]["return_mean"], [3.0, 3.0])
  assert drawn.gaps == {
    str(short): "stops at step 5,000 of 10,000; so do the others of its line; no number of explained_variance",
    str(empty): "no 'train' record yet",
  }


def test_a_run_that_failed_is_left_out_and_cuts_no_other_short(tmp_path, capsys):
  for name, num_steps in (("00", 10_000), ("01", 1_000)):
    make_run(tmp_path / "sweep/runs" / name, "scratch", features=8, level=3.0, num_steps=num_steps)
  run_directory.write_failure(tmp_path / "sweep/runs/01", FloatingPointError("the loss is nan"))
  runs = figures.FIGURES["learning"].read([str(tmp_path)])
  assert [run.path.name for run in runs] == ["00"]
  assert "sweep/runs/01 is left out, since it failed: the loss is nan" in capsys.readouterr().err
  with pytest.raises(ValueError, match="all runs in --runs=.*01 failed: the loss is nan"):
    figures.FIGURES["learning"].read([str(tmp_path / "sweep/runs/01")])


def test_sweeps_of_one_name_are_not_averaged_together(tmp_path):
  """Each sweep's label is the shortest end of its path that no other has."""
  for i, name in enumerate(("small/nav/runs/00", "random/nav/runs/00", "a/small/nav_d1/runs/00", "b/small/nav_d1/run")):
    make_run(tmp_path / name, "scratch", features=8, level=float(i), num_steps=1_000)
  statistics = figures.make("learning", read(tmp_path)).statistics
  late = {label: cells["return_mean"].tolist() for label, cells in statistics.items()}
  assert late == {"small/nav": [0.0], "random/nav": [1.0], "nav_d1": [2.0], "run": [3.0]}


def test_runs_without_such_records_are_refused(tmp_path):
  path = make_run(tmp_path / "run", "scratch", features=8, level=3.0)
  (path / "metrics.jsonl").write_text('{"step": 50, "wall_s": 1.0, "kind": "train", "loss": 0.0}\n')
  with pytest.raises(ValueError, match="run: no 'train' record has return_mean"):
    figures.make("learning", read(tmp_path))


def test_a_short_run_does_not_change_what_a_complete_one_had(tmp_path):
  """A run of 1,000 steps has two points. The complete run is at its level from its first point on, also filtered."""
  make_run(tmp_path / "long", "progressive", features=8, level=30.0)
  make_run(tmp_path / "short", "progressive", features=8, level=10.0, num_steps=1_000, seed=1)
  drawn = figures.make("corl2017_fig5", read(tmp_path))
  ours = drawn.statistics["progressive, narrow (ours)"]
  # The window of 11 around 1,000 has four zeros before the start, the 0 at step 0 and six points of 30, so the sixth
  # from below is 30. The short run's window ends with that run: five zeros and its one point say nothing.
  np.testing.assert_allclose(ours["@1k"], [30.0, np.nan])
  np.testing.assert_allclose(ours["raw @1k"], [30.0, 10.0])
  assert np.isnan(ours["@5k"]).all()  # No mean silently covers fewer runs.
  assert drawn.gaps == {str(tmp_path / "short"): "stops at step 1,000 of 10,000; so does progressive, narrow"}
  assert any("short" in text.get_text() for text in drawn.picture.texts)


def test_a_column_that_starts_as_a_copy_has_a_line_of_its_own(tmp_path):
  make_run(tmp_path / "p", "progressive", features=16, level=30.0, output_init="previous")
  make_run(tmp_path / "c", "progressive", features=16, level=34.0, output_init="copy")
  drawn = figures.make("corl2017_fig5", read(tmp_path))
  found = {label: cells["@5k"].tolist() for label, cells in drawn.statistics.items() if "(ours)" in label}
  assert found == {"progressive, wide (ours)": [30.0], "progressive, wide, from a copy (ours)": [34.0]}
  lines = {line.get_label(): line.get_linestyle() for line in drawn.picture.axes[0].lines}
  assert (lines["progressive, wide"], lines["progressive, wide, from a copy"]) == ("-", "--")


def test_runs_that_are_not_complete_are_gaps_of_figure_5(tmp_path):
  for seed in range(2):
    make_run(tmp_path / f"p{seed}", "progressive", features=8, level=30.0, seed=seed, train={"steps": 60_000})
  begun = make_run(tmp_path / "begun", "progressive", features=8, level=30.0, seed=2)
  (begun / "metrics.jsonl").write_text("")
  drawn = figures.make("corl2017_fig5", read(tmp_path))
  assert drawn.gaps == {
    str(begun): "no episode has ended yet",
    **{str(tmp_path / f"p{i}"): "stops at step 10,000 of 60,000; so does progressive, narrow" for i in range(2)},
  }
  np.testing.assert_allclose(drawn.statistics["progressive, narrow (ours)"]["raw mean to 10k"], [30.0, 30.0])
  for name in ("p0", "p1"):
    (tmp_path / name / "metrics.jsonl").write_text("")
  with pytest.raises(ValueError, match="begun: no episode has ended yet; train longer"):
    figures.make("corl2017_fig5", read(tmp_path))


def test_figure_5_refuses_two_sources_in_one_line_and_worlds_without_an_arm(tmp_path):
  for name, source in (("a", "one"), ("b", "two")):
    path = make_run(tmp_path / name, "progressive", features=8, level=30.0, source=f"released/{source}")
    (path / "provenance.json").write_text(json.dumps({"source_content_sha256": source}))
  said = "b: progressive, narrow started from released/two, but from another network, released/one, in .*a; give --runs"
  with pytest.raises(ValueError, match=said):
    figures.make("corl2017_fig5", read(tmp_path))
  maze = records.read(make_run(tmp_path / "maze", "scratch", features=8, level=1.0, world="maze/static_1"))
  with pytest.raises(ValueError, match="maze: world 'maze/static_1' in config.json has no arm"):
    figures.make("corl2017_fig5", [maze])


def test_a_column_that_was_not_changed_is_a_line_of_its_own(runs):
  make_run(runs / "u", "progressive", features=8, level=20.0, train={"hyper": {"learning_rate": 1e-12}})
  drawn = figures.make("corl2017_fig5", read(runs))
  np.testing.assert_allclose(drawn.statistics["unchanged, narrow (ours)"]["@10k"], [20.0])
  np.testing.assert_allclose(drawn.statistics["progressive, narrow (ours)"]["@10k"], [30, 34, 32])
  styles = {one.get_label(): one.get_linestyle() for one in drawn.picture.axes[0].lines}
  assert styles["unchanged, narrow"] == "--"


def test_figure_5_pools_runs_that_learned_alike_alone(tmp_path):
  """Steps and saving intervals do not matter. A run from before a field existed has had its default."""
  options = {"features": 8, "level": 20.0, "num_steps": 1_000}
  settings = {"steps": 1_000, "replay_updates": 0, "hyper": {"learning_rate": 1e-4}}
  make_run(tmp_path / "a", "finetune", **options, train=settings)
  make_run(tmp_path / "b", "finetune", **options, train=settings | {"steps": 2_000, "save_every": 50})
  newer = settings | {"hyper": {"learning_rate": 1e-4, "correction": "none"}}
  make_run(tmp_path / "b_newer", "finetune", **options, train=newer)
  figures.make("corl2017_fig5", read(tmp_path))
  make_run(tmp_path / "c", "finetune", **options, train=settings | {"hyper": {"learning_rate": 2e-3}})
  said = "c: finetune, narrow has learned otherwise than in .*a, train.hyper.learning_rate: 0.0001 there, 0.002 here; g"
  with pytest.raises(ValueError, match=said):
    figures.make("corl2017_fig5", read(tmp_path))


def test_figure_5_pools_one_world_at_a_time_and_says_which(tmp_path):
  options = {"features": 8, "level": 20.0, "num_steps": 1_000}
  for name, gap, where in (("less", "shadow:full", "on the twin, gap shadow:full"), ("a", "full", "on the twin")):
    one = records.read(make_run(tmp_path / name, "progressive", **options, world_options={"gap": gap}))
    assert figures.make("corl2017_fig5", [one]).picture.axes[0].get_title(loc="left") == f"ours, {where}"
  for name, config, said in (
    ("task", {"world": "twin/conveyor", "world_options": {"gap": "full"}}, "world in config.json is 'twin/conveyor'"),
    ("gap", {"world_options": {"gap": "subtle"}}, "world_options.gap in config.json is 'subtle', but 'full' in .*a;"),
    ("change", {"world_options": {"gap": "full", "change": "subtle_color"}}, "world_options.change .* 'subtle_color'"),
  ):
    other = make_run(tmp_path / name, "progressive", **options, **config)
    with pytest.raises(ValueError, match=said):
      figures.make("corl2017_fig5", [one, records.read(other)])
  arms = [make_run(tmp_path / f"arm{port}", "scratch", **options, world=f"arm://localhost:{port}") for port in (1, 2)]
  drawn = figures.make("corl2017_fig5", [records.read(path) for path in arms])
  np.testing.assert_allclose(drawn.statistics["scratch, narrow (ours)"]["raw @1k"], [20.0, 20.0])
  simulated = records.read(make_run(tmp_path / "sim", "scratch", **options, world="jaco/reach/random"))
  assert figures.make("corl2017_fig5", [simulated]).picture.axes[0].get_title(loc="left") == "ours, in simulation"


def test_figure_4_counts_what_was_put_in(tmp_path):
  """Records have two episodes, then six. The first half of a hundredth returns 8, the second 24, and both 20."""
  path = make_run(tmp_path / "run", "scratch", features=16, level=0.0, world="jaco/reach/random")
  lines = [
    {"step": 50 * i, "wall_s": 1.0, "kind": "train", "loss": 0.0, "episodes": num, "return_mean": mean}
    for i in range(1, 201)
    for num, mean in [(6, 24.0) if i % 2 == 0 else (2, 8.0)]
  ]
  (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  drawn = figures.make("corl2017_fig4", read(tmp_path))
  np.testing.assert_allclose(drawn.statistics["LSTM, wide (ours)"]["end"], [20])
  np.testing.assert_allclose(drawn.statistics["LSTM, wide (paper)"]["@20M"].mean, 34.4, atol=0.5)
  np.testing.assert_allclose(drawn.picture.axes[0].lines[0].get_ydata()[1:], 20.0)
  drawn.statistics["LSTM, wide (ours)"]["end"] = np.array([50.0, 40.0])
  assert "45.0 [0.0, 50.0]" in drawing.markdown(drawn)  # 12.7 * 5 on either side, cut at the ends of the scale.


def test_figure_4_keeps_columns_apart_that_learned_otherwise(tmp_path):
  for name, options, heads in (
    ("plain", {"randomization": {"camera_m": 0.0}}, {}),
    ("randomized", {"randomization": {"camera_m": 0.1}}, {}),
    ("helped", {}, {"joints": {}}),
    ("both", {"randomization": {"camera_m": 0.1}}, {"joints": {}}),
  ):
    path = make_run(tmp_path / name, "scratch", features=16, level=20.0, world="jaco/reach/random")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"world_options": options, "train": {"auxiliary": heads}}))
  drawn = figures.make("corl2017_fig4", read(tmp_path))
  rows = [row for row in drawn.statistics if row.endswith("(ours)")]
  styles = {(line.get_color(), line.get_linestyle()) for line in drawn.picture.axes[0].lines}
  assert len(styles) == 4
  more = ("", ", randomized", ", randomized, with helper losses", ", with helper losses")
  assert sorted(rows) == sorted(f"LSTM, wide{words} (ours)" for words in more)
  config["world_options"] = {"num_joints": 6}
  (path / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match="world_options.num_joints in config.json is"):
    figures.make("corl2017_fig4", read(tmp_path))


def test_figure_4_is_drawn_behind_dm_env(tmp_path):
  """Behind dm_env each episode has a record, and no 'train' record counts episodes."""
  path = make_run(tmp_path / "run", "scratch", features=16, level=20.0, world="package.module:maker")
  lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
  for line in lines:
    del line["return_mean"]
  (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  statistics = figures.make("corl2017_fig4", read(tmp_path)).statistics
  np.testing.assert_allclose(statistics["LSTM, wide (ours)"]["end"], [20])


def test_figure_4_refuses_what_is_no_first_column_in_simulation(runs):
  with pytest.raises(ValueError, match="f: method 'finetune' and world 'twin/reach/random' in config.json are none of"):
    figures.make("corl2017_fig4", read(runs / "f"))
  with pytest.raises(ValueError, match="s: method 'scratch' and world 'twin/reach/random' in config.json are none of"):
    figures.make("corl2017_fig4", read(runs / "s"))


def test_writes_everything(runs, tmp_path):
  read_runs = read(runs)
  drawn = figures.make("corl2017_fig5", read_runs)
  drawing.write("corl2017_fig5", drawn, read_runs, tmp_path / "out")
  names = {path.name for path in (tmp_path / "out").iterdir()}
  assert names == {f"corl2017_fig5.{end}" for end in ("png", "svg", "md", "json")} | {"provenance.json"}
  table = (tmp_path / "out/corl2017_fig5.md").read_text()
  assert "| progressive, narrow (ours) | 3 |" in table and "32.0 [27.0, 37.0]" in table  # 4.303 * 2 / 3^0.5
  numbers = json.loads((tmp_path / "out/corl2017_fig5.json").read_text())
  assert numbers["progressive, narrow (ours)"]["@10k"]["each"] == [30.0, 34.0, 32.0]
  assert len(json.loads((tmp_path / "out/provenance.json").read_text())["corl2017_fig5"]["runs"]) == 5


def test_an_infinite_end_is_written_and_is_no_missing_one(runs, tmp_path):
  drawn = figures.make("corl2017_fig5", read(runs))
  cells = {"speed-up": intervals.Interval(*map(np.asarray, (2.0, 1.0, np.inf))), "alone": drawing.number(3.0)}
  drawing.write("one", drawn._replace(statistics={"row": cells | {"each": np.array([1.0, np.inf])}}), (), tmp_path)
  row = json.loads((tmp_path / "one.json").read_text())["row"]
  assert row["speed-up"] == {"mean": 2.0, "low": 1.0, "high": "Infinity"}
  assert row["alone"] == {"mean": 3.0, "low": None, "high": None}
  assert row["each"] == {"mean": None, "low": None, "high": None, "each": [1.0, "Infinity"]}


def test_refuses_by_name(runs):
  with pytest.raises(ValueError, match="nearest is corl2017_fig5"):
    figures.make("corl17_fig5", read(runs))
  with pytest.raises(ValueError, match="--figure is missing; name one of continual, corl2017_fig4, "):
    figures.names("")
  with pytest.raises(ValueError, match="give --runs"):
    figures.make("corl2017_fig5", ())
  (runs / "s/config.json").write_text("{}")
  with pytest.raises(ValueError, match="s: method None in config.json is not one of progressive"):
    figures.make("corl2017_fig5", read(runs))


def test_main(runs, tmp_path):
  command = [sys.executable, "-m", "experiments.figures", f"--runs={runs}/*", f"--out={tmp_path}/out"]
  done = subprocess.run([*command, "--figure=corl2017_fig5"], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "out/corl2017_fig5.png").stat().st_size > 10_000
  with pytest.raises(ValueError, match="nearest is corl2017_fig"):
    main(f"{runs}/*", "corl2017_fig8", tmp_path / "out")
  with pytest.raises(ValueError, match="nothing"):
    main(str(tmp_path / "nothing"), "corl2017_fig5", tmp_path / "empty")
  assert not (tmp_path / "empty").exists()


def main(runs, figure, out):
  """The binary in this process."""
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(runs=[runs], figure=figure, out=str(out)):
    figures_binary.main()


def test_a_folder_that_cannot_be_written_in_is_said_and_nothing_is_written(runs, tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "out").mkdir()
  (tmp_path / "out/provenance.json").write_text("{")
  for out, said in (
    ("file/out", r"file/out cannot be written in \(Not a directory\)"),
    ("out", "out/provenance.json is damaged"),
  ):
    with pytest.raises((ValueError, OSError), match=said):
      main(f"{runs}/*", "corl2017", tmp_path / out)
  assert [path.name for path in (tmp_path / "out").iterdir()] == ["provenance.json"]
