"""The reader of run directories reads valid files, and names what is wrong by file and line."""

import json
import os
import tracemalloc

import numpy as np
import pytest

from analysis import records

GOOD = {"step": 7, "wall_s": 0.5, "kind": "episode", "return": 3.0, "length": 5.0}


def write(path, lines, tail=""):
  path.mkdir(parents=True, exist_ok=True)
  (path / "config.json").write_text(json.dumps({"method": "scratch", "agent": {"discount": 0.97}}))
  (path / "provenance.json").write_text(json.dumps({"seed": 1}))
  text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
  (path / "metrics.jsonl").write_text(text + tail)
  return path


def test_reads_what_was_written(tmp_path):
  train = {"step": 20, "wall_s": 1, "kind": "train", "loss": 0.25}
  run = records.read(write(tmp_path / "run", [GOOD, GOOD | {"step": 19, "return": 1}, train]))
  assert run.config["agent"]["discount"] == 0.97 and run.provenance["seed"] == 1
  assert records.last(run) == {"step": 20, "wall_s": 1.0, "loss": 0.25}
  assert records.last(run, kind="episode") == {"step": 19, "wall_s": 0.5, "return": 1.0, "length": 5.0}
  assert records.last(run, kind="eval") == {}
  ends, returns = records.episodes(run)
  np.testing.assert_array_equal(ends, [7, 19])
  np.testing.assert_array_equal(returns, [3.0, 1.0])
  assert records.num_steps(run) == 20


def test_episodes_of_a_simulation_are_those_that_its_records_average(tmp_path):
  train = {"wall_s": 1, "kind": "train", "episodes": 2, "return_mean": 3.5}
  lines = [
    train | {"step": 10},
    train | {"step": 20, "episodes": 0, "return_mean": None},
    train | {"step": 30, "episodes": 1},
  ]
  ends, returns = records.episodes(records.read(write(tmp_path / "run", lines)))
  np.testing.assert_array_equal(ends, [10, 10, 30])
  np.testing.assert_array_equal(returns, [3.5, 3.5, 3.5])
  arm = records.read(write(tmp_path / "arm", [*lines[:1], GOOD | {"step": 9}]))  # An arm has a line for each episode.
  np.testing.assert_array_equal(records.episodes(arm), [[9], [3.0]])
  with pytest.raises(ValueError, match="none: no 'episode' record has 'return'; there are train/episodes, train/ret"):
    records.episodes(records.read(write(tmp_path / "none", lines[1:2])))


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("{", "not JSON"),
    ("[1]", "want an object, not list"),
    ("7", "want an object, not int"),
    (json.dumps(GOOD)[:20], "not JSON"),
    ("NaN", "want an object, not float"),
    ({"step": 7, "kind": "train"}, "'wall_s' is missing"),
    ({"step": 7, "wall_s": 0.0}, "'kind' is missing"),
    (GOOD | {"wall_s": None}, "'wall_s' is None"),
    (GOOD | {"step": 10**400}, "'step' is inf"),
    ({"wall_s": 0.0, "kind": "train"}, "'step' is missing"),
    (GOOD | {"step": 1.5}, "'step' is 1.5"),
    (GOOD | {"step": True}, "'step' is True"),
    (GOOD | {"step": -1}, "'step' is -1"),
    (GOOD | {"kind": "test"}, "'kind' is 'test'"),
    (GOOD | {"length": "5"}, "metric 'length' is '5'"),
    (GOOD | {"return": float("nan")}, "finite 'return'"),
    (GOOD | {"return": None}, "finite 'return'"),
    (GOOD | {"step": None}, "'step' is None"),
    (GOOD | {"step": 6}, "'step' falls from 7 to 6"),
    ("", "not JSON"),
  ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
  path = write(tmp_path / "run", [GOOD, line, GOOD])
  with pytest.raises(ValueError, match=f"metrics.jsonl:2: .*{message}") as error:
    records.read(path)
  assert "\n" not in str(error.value)


def test_steps_of_different_kinds_may_interleave(tmp_path):
  eval_record = {"step": 20, "wall_s": 1.0, "kind": "eval", "return_mean": 1.0}
  run = records.read(write(tmp_path, [eval_record, GOOD]))
  assert records.episodes(run)[0].tolist() == [7] and records.series(run, kind="eval", name="return_mean")[0] == [20]


def test_a_line_still_being_written_is_left_out(tmp_path):
  assert records.num_steps(records.read(write(tmp_path, [GOOD], tail='{"step": 9, "wal'))) == 7
  assert records.num_steps(records.read(write(tmp_path, [GOOD], tail="\0" * 40))) == 7


def test_invalid_utf8_is_named(tmp_path):
  path = write(tmp_path, [GOOD])
  with (path / "metrics.jsonl").open("ab") as file:
    file.write(b'{"step": 8, "\xff": 1}\n' + json.dumps(GOOD).encode() + b"\n")
  with pytest.raises(ValueError, match="metrics.jsonl:2: not UTF-8 .*at byte 13") as error:
    records.read(path)
  assert "\n" not in str(error.value)
  (path / "config.json").write_bytes(b"\xff")
  with pytest.raises(ValueError, match="config.json: not UTF-8"):
    records.read(path)
  (path / "config.json").write_bytes(b"")
  with pytest.raises(ValueError, match="config.json:1: not JSON"):
    records.read(path)


def test_lines_of_one_kind_with_other_metrics_stay_in_order(tmp_path):
  lines = [
    {"step": 1, "wall_s": 0.1, "kind": "train", "loss": 1.0},
    {"step": 2, "wall_s": 0.2, "kind": "train", "loss": 2.0, "return": 5.0},
    {"wall_s": 0.3, "kind": "train", "step": 3, "loss": float("nan")},  # As older versions wrote it.
    {"wall_s": 0.3, "kind": "train", "step": 3, "loss": None},
    {"step": 4, "wall_s": 0.4, "kind": "train", "loss": -1, "return": float("inf")},
  ]
  run = records.read(write(tmp_path, lines))
  steps, losses = records.series(run, kind="train", name="loss")
  np.testing.assert_array_equal(steps, [1, 2, 3, 3, 4])
  np.testing.assert_array_equal(losses, [1.0, 2.0, np.nan, np.nan, -1.0])
  assert steps.dtype == np.int64 and losses.dtype == np.float64
  together = records.columns(run, kind="train", names=("wall_s", "return", "loss"))
  assert {name: values.tolist() for name, values in together.items()} == {
    "wall_s": [0.2, 0.4], "return": [5.0, np.inf], "loss": [2.0, -1.0]
  }  # fmt: skip
  assert records.columns(run, kind="eval", names=("loss",))["loss"].size == 0


def lines_at(*steps):
  return [GOOD | {"step": step, "wall_s": step / 10} for step in steps]


@pytest.mark.parametrize(
  ("step", "num_kept", "wall_s"), [(30, 4, 3.0), (20, 3, 2.0), (25, 3, 2.0), (5, 0, 0.0), (99, 5, 4.0)]
)
def test_a_resumed_run_keeps_records_up_to_its_checkpoint(tmp_path, step, num_kept, wall_s):
  file = write(tmp_path, lines_at(10, 20, 20, 30, 40), tail='{"step": 41, "wal') / "metrics.jsonl"
  lines = file.read_bytes().splitlines(keepends=True)
  kept = records.kept_until(file, step)
  assert kept == records.Kept(num_bytes=sum(map(len, lines[:num_kept])), wall_s=wall_s)
  os.truncate(file, kept.num_bytes)
  assert file.read_bytes() == b"".join(lines[:num_kept])


@pytest.mark.parametrize("step", [15, 25, 99])
def test_nothing_is_dropped_for_a_damaged_line(tmp_path, step):
  file = write(tmp_path, [*lines_at(10, 20), '{"step": 2', *lines_at(30)]) / "metrics.jsonl"
  with pytest.raises(ValueError, match="metrics.jsonl:3: not JSON"):
    records.kept_until(file, step)


def test_a_line_that_would_be_lost_out_of_order_is_named(tmp_path):
  file = write(tmp_path, lines_at(10, 30, 20, 40)) / "metrics.jsonl"
  with pytest.raises(ValueError, match="metrics.jsonl:3: step 20 stands behind step 30 of line 2"):
    records.kept_until(file, 25)
  assert records.kept_until(file, 30).wall_s == 2.0  # Both lines stay; nothing is lost.


def test_missing_files_and_metrics_are_named(tmp_path):
  with pytest.raises(ValueError, match="config.json: missing"):
    records.read(tmp_path)
  run = records.read(write(tmp_path, [GOOD]))
  with pytest.raises(ValueError, match="no 'eval' record has 'return_mean'; there are episode/length, episode/return"):
    records.series(run, kind="eval", name="return_mean")


def test_finds_runs_in_folders_and_globs(tmp_path):
  for name in ("a/0", "a/1", "b/0"):
    write(tmp_path / name, [GOOD])
  assert [p.parts[-2:] for p in records.find([str(tmp_path)])] == [("a", "0"), ("a", "1"), ("b", "0")]
  assert [p.parts[-2:] for p in records.find([f"{tmp_path}/*/0"])] == [("a", "0"), ("b", "0")]
  assert records.find([f"{tmp_path}/a/1", f"{tmp_path}/a"]) == (tmp_path / "a/0", tmp_path / "a/1")
  with pytest.raises(ValueError, match="no run directory"):
    records.find([f"{tmp_path}/c*"])


def test_a_path_that_exists_is_no_pattern(tmp_path, monkeypatch):
  for name in ("a[1]", "a1", "b?"):
    write(tmp_path / name, [GOOD])
  assert records.find([f"{tmp_path}/a[1]"]) == (tmp_path / "a[1]",)
  assert records.find([f"{tmp_path}/b?"]) == (tmp_path / "b?",)
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  assert records.find(["~/a1"]) == (tmp_path / "a1",)
  assert [path.name for path in records.find(["a*"])] == ["a1", "a[1]"] and len(records.find(["."])) == 3


def test_a_long_file_takes_memory_for_its_numbers_alone(tmp_path):
  path = write(tmp_path, [])
  line = json.dumps(GOOD) + "\n"
  (path / "metrics.jsonl").write_text(line * 50_000)  # 4 MB of text; 5 numbers per line take 2 MB.
  tracemalloc.start()
  run = records.read(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert len(records.episodes(run)[0]) == 50_000 and peak < 4e6
