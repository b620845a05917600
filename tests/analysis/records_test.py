"""The reader of run directories reads what is right and names what is wrong by file and line."""

import json

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
  assert run.records[2] == records.Record(step=20, wall_s=1.0, kind="train", metrics={"loss": 0.25})
  ends, returns = records.episodes(run)
  np.testing.assert_array_equal(ends, [7, 19])
  np.testing.assert_array_equal(returns, [3.0, 1.0])
  assert records.num_steps(run) == 20


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("{", "not JSON"),
    ("[1]", "want an object, not list"),
    ({"wall_s": 0.0, "kind": "train"}, "'step' is missing"),
    (GOOD | {"step": 1.5}, "'step' is 1.5"),
    (GOOD | {"step": True}, "'step' is True"),
    (GOOD | {"step": -1}, "'step' is -1"),
    (GOOD | {"kind": "test"}, "'kind' is 'test'"),
    (GOOD | {"length": "5"}, "metric 'length' is '5'"),
    (GOOD | {"return": float("nan")}, "finite 'return'"),
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
  assert len(records.read(write(tmp_path, [eval_record, GOOD])).records) == 2


def test_a_line_still_being_written_is_left_out(tmp_path):
  assert len(records.read(write(tmp_path, [GOOD], tail='{"step": 9, "wal')).records) == 1


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


def test_a_nested_field():
  config = {"agent": {"discount": 0.9}, "method": "scratch"}
  assert records.field(config, "agent.discount") == 0.9
  assert records.field(config, "agent.entropy", 3) == 3
  assert records.field(config, "method.name") is None
