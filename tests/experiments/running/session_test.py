"""Runs end, resume exactly after a kill, and forget nothing that was saved. On small worlds, in seconds."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from ml_collections import config_dict

from environments import dm_env_adapter, registry
from experiments import train, transfer
from experiments.running import session
from experiments.setup import configuration
from experiments.store import checkpoint, released, run_directory
from progressive import partition
from tests.agents import worlds

ROOT = pathlib.Path(__file__).resolve().parents[3]


def make_config(*, lstm=(4,), **fields):
  """Two phases on a small world: a few updates each."""
  section = configuration.column_section(inputs=("signal",), conv=(), dense=(8,), lstm=lstm)
  common = dict(num_worlds=4, num_steps=5, evaluate_every=200, evaluation_episodes=4, save_every=100)
  no_evaluation = dict(evaluation_episodes=0)
  config = config_dict.ConfigDict(
    {
      "seed": 1,
      "world": "recall",
      "world_options": {},
      "train": configuration.first_column(column=section, steps=600, updates_per_record=2, **common),
      "method": "progressive",
      "source": "",
      "target": "recall",
      "target_options": {},
      "output_init": "previous",
      "alpha": 1.0,
      "transfer": configuration.phase(column=section, steps=80, updates_per_record=2, **common | no_evaluation),
    }
  )
  config.update(fields)
  return config


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  monkeypatch.setattr(registry, "make", lambda name, **options: worlds.CueRecall())


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(state):
  return partition.content_hash(checkpoint.flatten(state))


def test_a_run_leaves_its_directory(tmp_path):
  state = train.run(make_config(), str(tmp_path))
  assert int(state.step) == 600
  assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1
  assert {"command", "commit", "packages", "device", "seed"} <= set(
    json.loads((tmp_path / "provenance.json").read_text())
  )
  records = lines(tmp_path)
  assert [r["step"] for r in records if r["kind"] == "eval"] == [200, 400, 600]
  assert [r["step"] for r in records if r["kind"] == "train"] == list(range(40, 601, 40))
  assert all(a["wall_s"] <= b["wall_s"] for a, b in zip(records, records[1:], strict=False))
  assert checkpoint.steps(tmp_path / "checkpoints")[-1] == 600


def test_the_same_seed_gives_the_same_parameters_and_another_seed_others(tmp_path):
  runs = {"a": 1, "b": 1, "c": 2}
  hashes = [parameters(train.run(make_config(seed=seed), str(tmp_path / name))) for name, seed in runs.items()]
  assert hashes[0] == hashes[1] != hashes[2]


def test_training_starts_from_a_column_and_leaves_auxiliary_heads_behind(tmp_path):
  config = make_config()
  config.train.auxiliary.cue = configuration.head("cue", "lstm1", 1.0)
  train.run(config, str(tmp_path / "first"))
  source = released.load_source(tmp_path / "first")
  assert not any("auxiliary" in path for path in partition.paths(source.params))
  config.train.start_from = str(tmp_path / "first")
  task = train.make_task(config)
  own = ({name: layer for name, layer in task.params[0].items() if name != "auxiliary"},)
  assert partition.content_hash(own) == partition.content_hash(source.params)
  other = make_config(lstm=(5,))
  other.train.start_from = str(tmp_path / "first")
  with pytest.raises(ValueError, match="another network"):
    train.make_task(other)


def test_parameters_learn(tmp_path):
  task = train.make_task(make_config())
  state = train.run(make_config(), str(tmp_path))
  before, after = checkpoint.flatten(task.params), checkpoint.flatten(state.trainable)
  assert all(not np.array_equal(before[name], after[name]) for name in before)


_KILLED = """
import sys
sys.path.insert(0, {root!r})
from environments import registry
from tests.agents import worlds
registry.make = lambda name, **options: worlds.CueRecall()
from tests.experiments.running import session_test
from experiments import train
from experiments.store import checkpoint
config = session_test.make_config()
config.train.steps = 20_000
config.train.save_every = 1_000
config.train.evaluate_every = 5_000
print(session_test.parameters(train.run(config, sys.argv[1])))
"""


def start(script, workdir):
  environ = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax")}
  return subprocess.Popen([sys.executable, str(script), str(workdir)], stdout=subprocess.PIPE, text=True, env=environ)


def test_killed_at_any_moment_it_ends_the_same(tmp_path):
  script = tmp_path / "run.py"
  script.write_text(_KILLED.format(root=str(ROOT)))
  unbroken = start(script, tmp_path / "unbroken")
  killed = start(script, tmp_path / "killed")
  moments = random.Random(0)
  for _ in range(3):
    deadline = time.monotonic() + 60
    had = checkpoint.steps(tmp_path / "killed" / "checkpoints")
    while checkpoint.steps(tmp_path / "killed" / "checkpoints") == had and killed.poll() is None:
      assert time.monotonic() < deadline, "no checkpoint within a minute"
      time.sleep(0.01)
    time.sleep(moments.uniform(0.0, 0.3))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed = start(script, tmp_path / "killed")
  expected = unbroken.communicate(timeout=120)[0].splitlines()[-1]
  found = killed.communicate(timeout=120)[0].splitlines()
  assert found[-1] == expected
  assert any("continues from step" in line for line in found)
  pairs = zip(lines(tmp_path / "unbroken"), lines(tmp_path / "killed"), strict=True)
  for a, b in pairs:  # The same history, with no duplicates, but for clocks.
    for record in (a, b):
      record.pop("wall_s"), record.pop("steps_per_s", None)
    assert a == b


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(tmp_path, capsys):
  config = make_config()
  expected = parameters(train.run(config, str(tmp_path)))
  folder = tmp_path / "checkpoints"
  newest = checkpoint.steps(folder)[-1]
  file = checkpoint.file_of(folder, newest)
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  assert parameters(train.run(config, str(tmp_path))) == expected
  assert f"{newest}.safetensors is damaged" in capsys.readouterr().err


def test_a_directory_that_is_at_work_is_refused(tmp_path):
  with run_directory.alone(tmp_path), pytest.raises(ValueError, match="another process"):
    train.run(make_config(), str(tmp_path))


def test_a_learning_rate_that_falls_to_0_before_the_end_is_refused(tmp_path):
  config = make_config()  # 600 steps: 30 updates of 4 worlds' 5 steps, or 120 of one behind dm_env.
  config.train.evaluate_every = 0
  task = train.make_task(config)
  behind = task._replace(world=None, environment=dm_env_adapter.DmEnv(task.world, seed=0))
  config.train.hyper.anneal_updates = 29
  with pytest.raises(ValueError, match="anneal_updates=29: .* of 30 updates .* set hyper.anneal_updates=30, or 0"):
    session.run(task, config, "train", tmp_path)
  config.train.steps = 601
  config.train.hyper.anneal_updates = 30
  with pytest.raises(ValueError, match="anneal_updates=30: .* of 31 updates"):
    session.check_annealing(config.train, config.train.num_worlds)
  config.train.steps = 600
  session.check_annealing(config.train, config.train.num_worlds)
  with pytest.raises(ValueError, match=r"of 120 updates \(steps=600 / \(1 worlds"):
    session.run(behind, config, "train", tmp_path)
  assert not (tmp_path / "config.json").exists()


def test_another_config_is_refused_with_the_difference(tmp_path):
  train.run(make_config(), str(tmp_path))
  other = make_config()
  other.train.hyper.learning_rate = 0.5
  with pytest.raises(ValueError, match=r"another config \(train.hyper.learning_rate: 0.0007 there, 0.5 here\)"):
    train.run(other, str(tmp_path))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
  train.run(make_config(), str(tmp_path))
  config = make_config(lstm=(6,))
  (tmp_path / "config.json").unlink()
  with pytest.raises(ValueError, match=r"trainable/0/lstm1.*\[.*this config's network needs"):
    train.run(config, str(tmp_path))


@pytest.mark.parametrize("method", ["progressive", "finetune", "finetune_head", "scratch", "random_column"])
def test_transfer_changes_what_the_method_says(tmp_path, method):
  source = tmp_path / "source"
  config = make_config()
  train.run(config, str(source))
  config.source, config.method = str(source), method
  task = transfer.make_task(config)
  _, frozen = partition.split(task.params, task.is_trainable)
  state = transfer.run(config, str(tmp_path / "transfer"))
  assert partition.content_hash(state.frozen) == partition.content_hash(frozen)
  num_frozen = len(jax.tree.leaves(state.frozen))
  assert (num_frozen == 0) == (method in ("finetune", "scratch"))
  learned = released.load_source(tmp_path / "transfer").params
  original = released.load_source(source).params
  is_kept = partition.content_hash(learned[0]) == partition.content_hash(original[0])
  assert is_kept == (method == "progressive")


def test_transfer_without_a_source_is_refused(tmp_path):
  with pytest.raises(ValueError, match="does not exist; train a column"):
    transfer.make_task(make_config(source=str(tmp_path / "nowhere")))
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="network.json is missing"):
    transfer.make_task(make_config(source=str(tmp_path / "empty")))
  with pytest.raises(ValueError, match="method='progresive' is none of progressive, finetune"):
    transfer.make_task(make_config(method="progresive"))


def test_behind_dm_env_each_episode_is_a_record_and_resume_begins_a_new_one(tmp_path):
  config = make_config()
  config.train.evaluate_every = 0

  def run(workdir):
    task = train.make_task(config)
    environment = dm_env_adapter.DmEnv(task.world, seed=0)
    return session.run(task._replace(world=None, environment=environment), config, "train", workdir)

  run(tmp_path / "whole")
  episodes = [record for record in lines(tmp_path / "whole") if record["kind"] == "episode"]
  length = worlds.CueRecall().length
  assert [e["step"] for e in episodes] == list(range(length, 601, length + 1))  # One step of each period is the reset.
  assert {e["length"] for e in episodes} == {float(length)}

  for step in checkpoint.steps(tmp_path / "whole" / "checkpoints")[1:]:
    checkpoint.file_of(tmp_path / "whole" / "checkpoints", step).unlink()
  kept = checkpoint.steps(tmp_path / "whole" / "checkpoints")[0]
  state = run(tmp_path / "whole")
  assert int(state.step) == 600
  assert [e for e in lines(tmp_path / "whole") if e["step"] <= kept and e["kind"] == "episode"]
  steps = [e["step"] for e in lines(tmp_path / "whole") if e["kind"] == "train"]
  assert steps == list(range(5, 601, 5))


def test_an_arm_is_not_evaluated_in_the_middle_of_an_episode(tmp_path):
  config = make_config()
  task = train.make_task(config)
  task = task._replace(world=None, environment=dm_env_adapter.DmEnv(task.world, seed=0))
  with pytest.raises(ValueError, match="evaluate_every=200: behind a bridge"):
    session.run(task, config, "train", tmp_path)
