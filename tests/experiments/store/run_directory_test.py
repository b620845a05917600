"""A directory that has learned with a config belongs to it, wherever it lies, and says truly what was run."""

import contextlib
import errno
import hashlib
import json
import math
import os
import shlex
import subprocess
import sys

import pytest
from ml_collections import config_dict

from experiments.store import lock, run_directory


def make_config(**fields):
  train = {"steps": 1000, "hyper": {"reward_clip": math.inf, "learning_rate": 0.1}}
  return config_dict.ConfigDict({"seed": 3, "source": "", "world_options": {"layout": ""}, "train": train} | fields)


def claim(path, config=None, **options):
  return run_directory.claim(path, config or make_config(), **options)


def learn(path, step):
  """Leaves an empty checkpoint. Its content is not this module's concern."""
  (path / "checkpoints").mkdir(exist_ok=True)
  (path / f"checkpoints/{step}.safetensors").touch()


def read(file):
  def refuse(name):
    raise AssertionError(f"{name} is no JSON")

  return json.loads(file.read_text(), parse_constant=refuse)


def test_infinity_is_written_as_json_and_read_as_a_number(tmp_path):
  value = {"a": math.inf, "b": [-math.inf, {"c": math.nan}], "d": "x", "e": None, "f": 1.5, "g": True}
  run_directory.write_json(tmp_path / "x.json", value)
  assert read(tmp_path / "x.json") == value | {"a": "Infinity", "b": ["-Infinity", {"c": "NaN"}]}
  again = run_directory.read_json(tmp_path / "x.json")
  assert again["a"] == math.inf and again["b"][0] == -math.inf and math.isnan(again["b"][1]["c"])
  assert {name: again[name] for name in "defg"} == {name: value[name] for name in "defg"}


def test_a_config_with_infinity_is_json_and_equal_to_one_of_before(tmp_path):
  assert read(claim(tmp_path) / "config.json")["train"]["hyper"]["reward_clip"] == "Infinity"
  learn(tmp_path, 100)
  claim(tmp_path)
  (tmp_path / "config.json").write_text(make_config().to_json())  # As earlier versions wrote it.
  assert "Infinity," in (tmp_path / "config.json").read_text()
  claim(tmp_path)


def test_a_field_that_an_older_config_lacks_is_what_was_done_without_it(tmp_path):
  claim(tmp_path, make_config(train={"steps": 9, "column": {"lstm": [8]}}))
  learn(tmp_path, 5)
  new = {"lstm": [8], "memory": "lstm", "norm": "none", "embed": ()}
  claim(tmp_path, make_config(train={"steps": 9, "column": new}, wandb="robots"))
  (tmp_path / "config.json").write_text(json.dumps({"seed": 3, "train": {"steps": 9, "column": {"lstm": [8]}}}))
  with pytest.raises(ValueError, match="train.column.memory: 'lstm' there, 'gru' here"):
    claim(tmp_path, make_config(train={"steps": 9, "column": {"lstm": [8], "memory": "gru"}}))
  older, newer = {"lstm": [8], "norm": "none"}, {"lstm": [8], "memory": "lstm"}  # Each lacks a field of the other.
  assert run_directory.difference(older, newer, "train.column.") == []
  assert run_directory.difference(newer, {"lstm": [8], "memory": "gru"}, "train.column.") == [
    "train.column.memory: 'lstm' there, 'gru' here"
  ]


def test_a_file_that_cannot_be_written_is_named_and_stays_what_it_was(tmp_path, monkeypatch):
  run_directory.write_json(tmp_path / "x.json", {"a": 1})

  def full(file):  # By then the file exists and is empty.
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match=r"cannot write \S*/x.json \(No space left on device\)"):
    run_directory.write_json(tmp_path / "x.json", {"a": 2})
  assert read(tmp_path / "x.json") == {"a": 1} and [one.name for one in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["config.json", "provenance.json"])
@pytest.mark.parametrize("text", [b"", b'{"a": ', b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, name, text):
  claim(tmp_path)
  learn(tmp_path, 100)
  (tmp_path / name).write_bytes(text)
  with pytest.raises(ValueError, match=rf"^\S*/{name} (is damaged|holds list)[^\n]*; copy it again$"):
    claim(tmp_path)


def test_until_the_first_checkpoint_another_config_takes_the_place(tmp_path):
  claim(tmp_path, make_config(seed=4))
  claim(tmp_path)
  assert read(tmp_path / "config.json")["seed"] == read(tmp_path / "provenance.json")["seed"] == 3
  learn(tmp_path, 100)
  with pytest.raises(ValueError, match=r"was made with another config \(seed: 3 there, 4 here\)"):
    claim(tmp_path, make_config(seed=4))
  assert read(tmp_path / "config.json")["seed"] == 3


@pytest.mark.parametrize(
  ("there", "what"),
  [
    ("params.safetensors", "a released network"),
    ("best/params.safetensors", "what a run has learned"),
    ("runs/00/checkpoints/100.safetensors", "a sweep whose runs have checkpoints of their own"),
  ],
)
def test_a_start_does_not_overwrite_learned_networks(tmp_path, there, what):
  (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
  (tmp_path / there).touch()
  with pytest.raises(ValueError, match=f"holds {what}.*; use another --workdir"):
    claim(tmp_path)
  assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
  ("step", "is_lost"),
  [
    (40, False),
    (140, False),
    (141, True),
    (990, True),
  ],  # It saves at 100. A record has 2 updates of 2 worlds, 5 steps.
)
def test_records_whose_checkpoints_are_missing_are_not_overwritten(tmp_path, step, is_lost):
  """As when a result came home without its checkpoints. A start, with any config, would empty the file."""
  config = make_config()
  config.train.update({"save_every": 100, "updates_per_record": 2, "num_worlds": 2, "num_steps": 5})
  claim(tmp_path, config)
  metrics = tmp_path / "metrics.jsonl"
  metrics.write_text(json.dumps({"step": step, "wall_s": 1.0, "kind": "episode", "return": 1.0, "length": 5.0}) + "\n")
  before = (tmp_path / "config.json").read_text()
  if is_lost:
    config.seed = 4
    with pytest.raises(ValueError, match="holds the records of a run, without its checkpoints; use another --workdir"):
      claim(tmp_path, config)
    assert (tmp_path / "config.json").read_text() == before
  else:
    claim(tmp_path, config)


@pytest.mark.parametrize("save_every", [0, 5000])
@pytest.mark.parametrize(("step", "is_lost"), [(0, False), (999, False), (1000, True), (1010, True)])
def test_a_run_that_saves_at_its_end_alone_begins_again_until_then(tmp_path, step, is_lost, save_every):
  config = make_config()
  config.train.update({"save_every": save_every, "updates_per_record": 2, "num_worlds": 2, "num_steps": 5})
  claim(tmp_path, config)
  line = json.dumps({"step": step, "wall_s": 1.0, "kind": "train"}) + "\n"
  (tmp_path / "metrics.jsonl").write_text(line if step else "")
  with pytest.raises(ValueError, match="holds the records of a run") if is_lost else contextlib.nullcontext():
    claim(tmp_path, config)


def test_a_member_s_config_is_fixed_by_its_sweep_s_checkpoint(tmp_path):
  claim(tmp_path)
  claim(tmp_path / "runs/00", sweep=tmp_path)
  learn(tmp_path, 100)
  with pytest.raises(ValueError, match="another config"):
    claim(tmp_path / "runs/00", make_config(seed=4), sweep=tmp_path)


@pytest.mark.parametrize(("steps", "is_allowed"), [(2000, True), (700, True), (600, True), (599, False)])
def test_a_run_goes_on_to_any_number_of_steps_that_it_has_not_passed(tmp_path, steps, is_allowed):
  claim(tmp_path)
  learn(tmp_path, 600)
  config = make_config()
  config.train.steps = steps
  if is_allowed:
    claim(tmp_path, config)
  else:
    with pytest.raises(ValueError, match="train.steps: 1000 there, 599 here"):
      claim(tmp_path, config)
  assert read(tmp_path / "config.json")["train"]["steps"] == (steps if is_allowed else 1000)
  config.train.hyper.learning_rate = 0.2
  with pytest.raises(ValueError, match=r"learning_rate: 0.1 there, 0.2 here"):
    claim(tmp_path, config)


def test_a_source_is_the_same_by_any_name_from_any_folder_and_after_a_move(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  for name in ("soup/a/best", "soup/b/best", "elsewhere"):
    (tmp_path / name).mkdir(parents=True)
  claim("soup/cell", make_config(source="soup/a/best"))
  learn(tmp_path / "soup/cell", 100)
  names = ["soup/a/best", "./soup/../soup/a/best", str(tmp_path / "soup/a/best"), "~/soup/a/best"]
  for name in names:
    claim("soup/cell", make_config(source=name))
  with pytest.raises(ValueError, match="source: '~/soup/a/best' there, 'soup/b/best' here"):
    claim("soup/cell", make_config(source="soup/b/best"))
  monkeypatch.chdir("elsewhere")
  claim("../soup/cell", make_config(source="../soup/a/best"))
  (tmp_path / "soup").rename(tmp_path / "stew")
  claim("../stew/cell", make_config(source=str(tmp_path / "stew/a/best")))
  with pytest.raises(ValueError, match="source: .*/stew/a/best' there, '../stew/b/best' here"):
    claim("../stew/cell", make_config(source="../stew/b/best"))
  (tmp_path / "stew/cell").rename(tmp_path / "alone")  # The same path still names the same network.
  claim(tmp_path / "alone", make_config(source=str(tmp_path / "stew/a/best")))


@pytest.mark.parametrize("name", ["teacher", "recording"])
def test_a_teacher_and_a_recording_may_move_and_that_is_said(tmp_path, capsys, monkeypatch, name):
  claim(tmp_path, make_config(train={"steps": 200}))
  learn(tmp_path, 100)
  claim(tmp_path, make_config(train={"steps": 200, name: ""}))
  with pytest.raises(ValueError, match=f"train.{name}: '' there, 'a' here"):
    claim(tmp_path, make_config(train={"steps": 200, name: "a"}))
  claim(tmp_path / "with", make_config(train={"steps": 200, name: "a"}))
  learn(tmp_path / "with", 100)
  assert capsys.readouterr().err == ""
  claim(tmp_path / "with", make_config(train={"steps": 200, name: "b/a"}))
  assert f"goes on with the {name} b/a, a before" in capsys.readouterr().err
  with pytest.raises(ValueError, match=f"train.{name}: 'b/a' there, '' here"):
    claim(tmp_path / "with", make_config(train={"steps": 200, name: ""}))
  monkeypatch.chdir(tmp_path)
  (tmp_path / "b/a").mkdir(parents=True)
  claim(tmp_path / "with", make_config(train={"steps": 200, name: "./b/../b/a"}))  # The same place.
  assert "goes on" not in capsys.readouterr().err
  with pytest.raises(ValueError, match=f"train.{name}: './b/../b/a' there, 'another' here"):  # It has not moved.
    claim(tmp_path / "with", make_config(train={"steps": 200, name: "another"}))


def test_other_code_is_said_and_recorded(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(run_directory, "commit", lambda: "abc")
  monkeypatch.setattr(run_directory, "code_hash", lambda: "1")
  claim(tmp_path)
  learn(tmp_path, 100)
  claim(tmp_path)
  assert capsys.readouterr().err == ""
  monkeypatch.setattr(run_directory, "commit", lambda: "abc+changes")
  monkeypatch.setattr(run_directory, "code_hash", lambda: "2")
  claim(tmp_path)
  assert (
    "goes on with other code than it has learned with (commit abc before, abc+changes now)" in capsys.readouterr().err
  )
  about = read(tmp_path / "provenance.json")
  assert [one["code_sha256"] for one in (about, *about["resumed"])] == ["1", "1", "2"]
  before = run_directory._version
  monkeypatch.setattr(run_directory, "_version", lambda package: "9.9" if package == "jax" else before(package))
  claim(tmp_path)
  line = f"goes on with other versions (jax: '{before('jax')}' there, '9.9' here); provenance.json says so\n"
  error = capsys.readouterr().err
  assert error.endswith(line) and error.count("\n") == 1
  claim(tmp_path)
  assert capsys.readouterr().err == ""


def test_the_code_s_hash_sees_names_and_bytes_of_python_files_and_mazes(tmp_path, monkeypatch):
  monkeypatch.setattr(run_directory, "_ROOT", tmp_path)
  for name, text in (("agents/b.py", "x"), ("environments/maze/levels/a.txt", "y"), ("agents/notes.md", "z")):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  expected = hashlib.sha256(b"agents/b.py 1 xenvironments/maze/levels/a.txt 1 y").hexdigest()
  assert run_directory.code_hash() == expected


def test_a_recorded_command_can_be_typed_again(monkeypatch):
  arguments = ["--config.sweep.sampled=()", "--runs=runs/*", "--workdir=my runs/it's"]
  monkeypatch.setattr(sys, "argv", ["train", *arguments])
  command = run_directory.provenance()["command"]
  words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True).stdout
  assert words.splitlines()[-3:] == arguments and shlex.split(command)[:2] == ["python", "-m"]


def test_the_commit_is_that_of_the_code_and_of_no_checkout_around_it(tmp_path, monkeypatch):
  """As for a wheel that is installed into an environment inside another project."""

  def git(*arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()

  site = tmp_path / "site-packages"
  site.mkdir()
  (site / "ours.py").write_text("1")
  (tmp_path / "theirs.py").write_text("1")
  git("init")
  git("add", "theirs.py")
  git("commit", "-m", "theirs")
  monkeypatch.setattr(run_directory, "_ROOT", site)
  monkeypatch.setattr(run_directory, "__file__", str(site / "ours.py"))
  assert run_directory.commit() == "unknown"
  git("add", ".")
  git("commit", "-m", "ours")
  assert run_directory.commit() == git("rev-parse", "HEAD")
  (site / "agents").mkdir()
  (site / "agents/new.py").touch()
  assert run_directory.commit() == git("rev-parse", "HEAD") + "+changes"
  (site / "agents/new.py").unlink()
  (site / "ours.py").write_text("2")
  assert run_directory.commit() == git("rev-parse", "HEAD") + "+changes"


@pytest.mark.parametrize("place", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run", "gs:/bucket/run"])
def test_a_place_on_no_disk_of_this_machine_s_is_refused_and_nothing_made(tmp_path, monkeypatch, place):
  monkeypatch.chdir(tmp_path)
  for use in (claim, lambda path: lock.alone(path).__enter__()):
    with pytest.raises(ValueError, match=rf"^{place} is no path of this machine; name a folder"):
      use(place)
  assert not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  with lock.alone("~/run") as own:
    assert own.path == tmp_path / "run" == claim("~/run")
