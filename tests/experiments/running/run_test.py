"""Runs end, resume exactly after a kill, and forget nothing that was saved. On small worlds, in seconds."""

import dataclasses
import itertools
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import unroll
from environments import dm_env_adapter, registry
from experiments.configs import base
from experiments.running import actors, devices, loop, rehearsal, run
from experiments.setup import checks, learn, sweep
from experiments.store import checkpoint, released, run_directory, sweep_folder
from experiments.store import lock as lock_lib
from progressive import network, partition
from tests.agents import agents_for_tests, worlds

SIGNAL = worlds.CueRecall().observation_spec()["signal"]
ROOT = pathlib.Path(__file__).resolve().parents[3]


def make_config(*, lstm=(4,), **fields):
  """A few updates on a small world."""
  config = base.experiment(
    world="recall",
    train=base.phase(
      column=base.column(inputs=("signal",), conv=(), dense=(8,), lstm=lstm),
      steps=600,
      num_worlds=4,
      num_steps=5,
      evaluate_every=200,
      evaluation_episodes=4,
      save_every=100,
      updates_per_record=2,
    ),
  )
  config.seed = 1
  config.update(fields)
  return config


def next_config(method, source="", **fields):
  """A next task, with a few more updates."""
  config = make_config(method=method, source=str(source), **fields)
  config.train.update({"steps": 80, "evaluate_every": 0, "evaluation_episodes": 0})
  return config


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  worlds.serve(monkeypatch, make_world)


def make_world(name, **options):
  """The world in JAX, or the same behind dm_env."""
  is_host = name in ("host", "environments.arm.replay:Replay")
  return dm_env_adapter.DmEnv(worlds.CueRecall(), seed=0) if is_host else worlds.CueRecall()


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(state):
  return partition.content_hash(checkpoint.flatten(state))


def test_a_run_leaves_its_directory(tmp_path):
  state = run.run(make_config(), tmp_path).state
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
  hashes = [parameters(run.run(make_config(seed=seed), tmp_path / name).state) for name, seed in runs.items()]
  assert hashes[0] == hashes[1] != hashes[2]


def test_a_finetuned_run_keeps_its_heads_and_what_else_starts_from_it_does_not(tmp_path):
  """It keeps heads of the same name and shapes. A release has none."""
  config = make_config()
  config.train.auxiliary = {"cue": base.head("cue", "lstm1", 1.0, hidden=3), "deep": base.head("cue", "dense1", 1.0)}
  state = run.run(config, tmp_path / "first").state
  source = released.load_source(tmp_path / "first")
  assert not any("auxiliary" in path for path in partition.paths(source.params))
  config.method, config.source = "finetune", str(tmp_path / "first")
  config.train.auxiliary.deep.hidden = 2
  config.train.auxiliary.seen = base.head("signal", "lstm1", 1.0)
  task = learn.make(config)
  own = ({name: layer for name, layer in task.params[0].items() if name != "auxiliary"},)
  assert partition.content_hash(own) == partition.content_hash(source.params)
  trained, heads = state.trainable[0]["auxiliary"], task.params[0]["auxiliary"]
  assert partition.content_hash(heads["cue_from_lstm1"]) == partition.content_hash(trained["cue_from_lstm1"])
  assert [layer["kernel"].shape for layer in heads["cue_from_dense1"]] == [(8, 2), (2, 2)] and len(heads) == 3
  config.method = "progressive"
  new = learn.make(config).params[1]["auxiliary"]
  assert partition.content_hash(new["cue_from_lstm1"]) != partition.content_hash(trained["cue_from_lstm1"])
  released.save(tmp_path / "out", source.spec, source.params, evaluation={}, provenance={"reward_scale": 1.0})
  config.method, config.source = "finetune", str(tmp_path / "out")
  new = learn.make(config).params[0]["auxiliary"]
  assert partition.content_hash(new["cue_from_lstm1"]) != partition.content_hash(trained["cue_from_lstm1"])


def test_training_changes_every_parameter(tmp_path):
  task = learn.make(make_config())
  state = run.run(make_config(), tmp_path).state
  before, after = checkpoint.flatten(task.params), checkpoint.flatten(state.trainable)
  assert all(not np.array_equal(before[name], after[name]) for name in before)


_KILLED = """
import sys
sys.path.insert(0, {root!r})
from environments import registry
from tests.agents import agents_for_tests, worlds
registry.make = lambda name, **options: worlds.CueRecall()
registry.resolve = lambda name, options: options
from tests.experiments.running import run_test
from experiments.running import loop, run
print(run_test.parameters(run.run(run_test.long_config(), sys.argv[1]).state))
"""


def long_config(**fields):
  config = make_config()
  config.train.update({"steps": 20_000, "save_every": 1_000, "evaluate_every": 5_000} | fields)
  return config


def start(script, workdir):
  return subprocess.Popen([sys.executable, str(script), str(workdir)], stdout=subprocess.PIPE, text=True)


def test_killed_at_any_moment_it_ends_the_same(tmp_path, monkeypatch):
  script = tmp_path / "run.py"
  script.write_text(_KILLED.format(root=str(ROOT)))
  killed = start(script, tmp_path / "killed")
  moments = random.Random(0)
  for _ in range(2):
    deadline = time.monotonic() + 300
    had = checkpoint.steps(tmp_path / "killed" / "checkpoints")
    while checkpoint.steps(tmp_path / "killed" / "checkpoints") == had and killed.poll() is None:
      assert time.monotonic() < deadline, "no checkpoint in five minutes"
      time.sleep(0.01)
    time.sleep(moments.uniform(0.0, 0.3))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed = start(script, tmp_path / "killed")
  monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])  # As in the killed processes.
  expected = parameters(run.run(long_config(), tmp_path / "unbroken").state)
  found = killed.communicate(timeout=300)[0].splitlines()
  assert found[-1] == expected
  assert any("continues from step" in line for line in found)
  pairs = zip(lines(tmp_path / "unbroken"), lines(tmp_path / "killed"), strict=True)
  for a, b in pairs:  # The same history without duplicates, except for clocks.
    for record in (a, b):
      record.pop("wall_s"), record.pop("steps_per_s", None)
    assert a == b


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(tmp_path, capsys):
  config = make_config()
  expected = parameters(run.run(config, tmp_path).state)
  folder = tmp_path / "checkpoints"
  newest = checkpoint.steps(folder)[-1]
  file = checkpoint.file_of(folder, newest)
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  before = checkpoint.steps(folder)[-2]
  assert parameters(run.run(config, tmp_path).state) == expected
  assert f"{newest}.safetensors is damaged" in capsys.readouterr().err
  assert [one["step"] for one in run_directory.read_provenance(tmp_path)["resumed"]] == [before]


def test_invalid_epochs_and_minibatches_are_refused():
  config = make_config()
  config.train.hyper.minibatches = 3
  with pytest.raises(ValueError, match="minibatches=3: 4 worlds cannot be dealt out .* a divisor of train.num_worlds"):
    checks.check(config)
  for name, value in {"reduction": "sum", "correction": "vtrace"}.items():
    config = make_config()
    config.train.hyper.update({"epochs": 2, name: value})
    with pytest.raises(ValueError, match=f"epochs=2 and minibatches=1 go with .* not with .*'{value}'"):
      checks.check(config)


def test_a_directory_that_is_at_work_is_refused(tmp_path):
  with lock_lib.alone(tmp_path), pytest.raises(ValueError, match="another process"):
    run.run(make_config(), tmp_path)


def test_a_learning_rate_that_falls_to_0_before_the_end_is_refused(tmp_path):
  config = make_config()  # 600 steps: 30 updates of 4 worlds with 5 steps, or 120 of one world behind dm_env.
  config.train.evaluate_every = 0
  config.train.hyper.anneal_updates = 29
  with pytest.raises(ValueError, match="anneal_updates=29: .* of 30 updates .* set train.hyper.anneal_updates=30, or"):
    run.run(config, tmp_path)
  config.train.steps = 601
  config.train.hyper.anneal_updates = 30
  with pytest.raises(ValueError, match="anneal_updates=30: .* of 31 updates"):
    checks.check_annealing(config.train)
  config.train.steps = 600
  checks.check_annealing(config.train)
  config.train.hyper.update(epochs=3, minibatches=2)
  with pytest.raises(ValueError, match="anneal_updates=30: .* of 180 updates"):
    checks.check_annealing(config.train)
  config.train.hyper.update(epochs=1, minibatches=1)
  config.world, config.train.num_worlds = "host", 1
  with pytest.raises(
    ValueError, match=r"of 120 updates \(steps=600, 1 worlds, num_steps=5, reduction='mean', epochs=1,"
  ):
    run.run(config, tmp_path)
  assert not (tmp_path / "config.json").exists()


def test_a_config_of_another_network_is_refused_with_the_difference(tmp_path):
  run.run(make_config(), tmp_path)
  with pytest.raises(ValueError, match=r"another config \(train.column.lstm: \[.*\] there, \[6\] here\); use another"):
    run.run(make_config(lstm=(6,)), tmp_path)


def test_another_config_is_refused_before_what_it_asks_for_is_made(tmp_path):
  run.run(make_config(), tmp_path)
  other = make_config()
  other.world = "no/such_world"
  with pytest.raises(ValueError, match="another config .world: .* there, 'no/such_world' here"):
    run.run(other, tmp_path)


def test_another_config_is_refused_with_the_difference(tmp_path):
  run.run(make_config(), tmp_path)
  other = make_config()
  other.train.hyper.learning_rate = 0.5
  with pytest.raises(ValueError, match=r"another config \(train.hyper.learning_rate: 0.0007 there, 0.5 here\)"):
    run.run(other, tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
  run.run(make_config(), tmp_path)
  config = make_config(lstm=(6,))
  (tmp_path / "config.json").unlink()
  with pytest.raises(
    ValueError, match="learned with another network than train.column describes .it differs in .*; use"
  ):
    run.run(config, tmp_path)


def test_a_source_or_a_column_that_is_not_read_is_said(tmp_path, capsys):
  run.run(make_config(), tmp_path / "source")
  with pytest.raises(ValueError, match=r"source='\S*/source' is not read by method='scratch'; set source=''"):
    run.run(next_config("scratch", tmp_path / "source"), tmp_path / "scratch")
  config = next_config("finetune", tmp_path / "source")
  run.run(config, tmp_path / "finetune")
  assert not capsys.readouterr().err
  config.train.column.dense = (9,)
  run.run(config, tmp_path / "other")
  said = (
    "warning: train.column describes another column than the source's newest, and method='finetune' keeps the source's"
  )
  assert capsys.readouterr().err == said + "\n"


@pytest.mark.parametrize("method", ["progressive", "finetune", "finetune_head", "scratch", "random_column"])
def test_a_method_changes_what_it_says(tmp_path, method):
  source = tmp_path / "source"
  run.run(make_config(), source)
  config = next_config(method, source if method != "scratch" else "")
  task = learn.make(config)
  _, frozen = partition.split(task.params, task.is_trainable)
  state = run.run(config, tmp_path / "next").state
  assert partition.content_hash(state.frozen) == partition.content_hash(frozen)
  num_frozen = len(jax.tree.leaves(state.frozen))
  assert (num_frozen == 0) == (method in ("finetune", "scratch"))
  learned = released.load_source(tmp_path / "next").params
  original = released.load_source(source).params
  is_kept = partition.content_hash(learned[0]) == partition.content_hash(original[0])
  assert is_kept == (method == "progressive")


@pytest.mark.parametrize("method", ["finetune", "finetune_head", "progressive"])
def test_a_copied_value_is_rescaled_to_the_new_reward_scale(tmp_path, method):
  """The source has two columns, and its output a lateral. The factor is a power of two, so the result is exact."""
  run.run(make_config(), tmp_path / "first")
  second = next_config("progressive", tmp_path / "first")
  second.train.hyper.reward_scale = 0.25
  run.run(second, tmp_path / "second")
  source, config = released.load_source(tmp_path / "second"), next_config(method, tmp_path / "second")
  config.train.hyper.reward_scale = 0.5
  task = learn.make(config)
  before, after = (
    network.apply(
      params,
      spec,
      inputs={"signal": np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)},
      state=network.initial_state(spec),
    )[0][-1]["output"]
    for spec, params in ((source.spec, source.params), (task.agent.spec, task.params))
  )
  np.testing.assert_allclose(after, np.asarray(before) * [1, 1, 2], rtol=1e-5)
  config.train.hyper.reward_scale = 0.25
  same = learn.make(config).params
  output, plain = (checkpoint.flatten(params[-1]["output"]) for params in (task.params, same))
  np.testing.assert_array_equal(output["kernel"], plain["kernel"] * np.array([1, 1, 2]))
  np.testing.assert_array_equal(output["bias"], plain["bias"] * np.array([1, 1, 2]))
  assert np.abs(plain["bias"][-1]) > 0 and any("laterals" in name for name in output)
  kept = 2 if method == "progressive" else 1
  assert partition.content_hash(task.params[:kept]) == partition.content_hash(source.params[:kept])


@pytest.mark.parametrize(
  ("method", "output_init", "expected"),
  [
    ("scratch", "copy", True),
    ("progressive", "copy", False),
    ("progressive", "random", True),
    ("finetune", "random", False),
  ],
)
def test_a_new_column_is_fitted_to_data_and_a_copy_is_not(method, output_init, expected):
  config = make_config()
  config.method, config.output_init, config.train.column.start = method, output_init, "data"
  assert learn.is_fitted(config) == expected


def test_a_column_that_starts_as_a_copy_learns_from_there_and_not_from_data(tmp_path):
  config = make_config()
  config.train.column.start = "data"
  run.run(config, tmp_path / "source")
  source, config = released.load_source(tmp_path / "source"), next_config("progressive", tmp_path / "source")
  config.output_init, config.train.column.start = "copy", "data"
  config.train.hyper.learning_rate = base.LEAST_RATE
  learned = run.run(config, tmp_path / "next")
  new, old = (checkpoint.flatten(params) for params in (learned.state.trainable[-1], source.params[0]))
  for name, value in old.items():
    np.testing.assert_allclose(new[name], value, rtol=1e-5, atol=1e-6)


def test_a_source_without_a_scale_of_rewards_is_refused_where_its_value_is_copied(tmp_path):
  source = learn.make(make_config())
  released.save(tmp_path, source.agent.spec, source.params, evaluation={}, provenance={})
  learn.make(next_config("progressive", tmp_path, output_init="random"))
  with pytest.raises(ValueError, match='does not say in what scale .* as "reward_scale": 1.0'):
    learn.make(next_config("progressive", tmp_path))


@pytest.mark.parametrize(("world", "signal"), [("recall", "cue"), ("recall", "signal"), ("host", "signal")])
def test_a_new_column_has_auxiliary_heads_of_its_own_wherever_it_learns(tmp_path, world, signal):
  """A head on what no policy may read, and on observations. Behind dm_env there are only observations."""
  run.run(make_config(), tmp_path / "source")
  config = next_config("progressive", tmp_path / "source", world=world)
  config.train.num_worlds = 1 if world == "host" else 4
  config.train.auxiliary = {"head": base.head(signal, "dense1", 1.0)}
  task = learn.make(config)
  state = run.run(config, tmp_path / "next").state
  name = f"{signal}_from_dense1"
  before, after = (params[-1]["auxiliary"][name][0]["kernel"] for params in (task.params, state.trainable))
  assert not np.array_equal(before, after)
  assert f"auxiliary_{name}" in lines(tmp_path / "next")[-1]
  assert len(released.load_source(tmp_path / "next").spec.columns) == 2


def test_what_cannot_be_learned_is_refused(tmp_path):
  with pytest.raises(ValueError, match="does not exist; train a column"):
    learn.make(next_config("progressive", tmp_path / "nowhere"))
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="network.json is missing"):
    learn.make(next_config("progressive", tmp_path / "empty"))
  with pytest.raises(
    ValueError, match="method='progresive' is not one of progressive, finetune, .*; nearest is progressive"
  ):
    run.run(next_config("progresive"), tmp_path / "misspelt")
  run.run(make_config(), tmp_path / "source")
  config = next_config("finetune_head", tmp_path / "source")
  config.train.auxiliary = {"head": base.head("signal", "dense1", 1.0)}
  with pytest.raises(ValueError, match="learns the output alone, and heads teach features"):
    learn.make(config)
  config = make_config(world="host")
  config.train.num_worlds = 1
  config.train.auxiliary = {"head": base.head("cue", "dense1", 1.0)}
  with pytest.raises(ValueError, match="'cue' is not known here; the world has .*signal"):
    learn.make(config)


@pytest.mark.parametrize("method", ["progressive", "finetune", "finetune_head"])
def test_a_run_goes_on_without_the_network_that_it_started_from(tmp_path, method):
  run.run(make_config(), tmp_path / "source")
  config = next_config(method, tmp_path / "source")
  expected = parameters(run.run(config, tmp_path / "whole").state)
  config.train.save_every = 40
  run.run(config, tmp_path / "broken")
  checkpoint.file_of(tmp_path / "broken" / "checkpoints", 80).unlink()
  (tmp_path / "source").rename(tmp_path / "gone")
  assert parameters(run.run(config, tmp_path / "broken").state) == expected


def test_behind_dm_env_all_runs_of_a_sweep_start_from_one_network(tmp_path):
  run.run(make_config(), tmp_path / "source")
  config = next_config("finetune", tmp_path / "source")
  config.world, config.sweep = "host", base.sweep(num_runs=2, top=1, sampled=())
  config.train.update({"steps": 60, "num_worlds": 2, "evaluate_every": 0, "evaluation_episodes": 0})
  expected = parameters(run.run(config, tmp_path / "sweep").state)
  shutil.rmtree(tmp_path / "sweep/runs/01")
  (tmp_path / "source").rename(tmp_path / "kept")
  run.run(make_config(seed=9), tmp_path / "source")
  with pytest.raises(
    ValueError, match="source has changed since .*/runs/00 started from it, and .*/runs/01 has yet to"
  ):
    run.run(config, tmp_path / "sweep")
  shutil.rmtree(tmp_path / "source")
  (tmp_path / "kept").rename(tmp_path / "source")
  assert parameters(run.run(config, tmp_path / "sweep").state) == expected
  (tmp_path / "source").rename(tmp_path / "gone")
  assert parameters(run.run(config, tmp_path / "sweep").state) == expected  # All have begun: the source is not needed.


def test_behind_dm_env_a_sweep_whose_only_run_has_begun_goes_on(tmp_path):
  config = make_config(world="host")
  config.sweep = base.sweep(num_runs=1, top=1, sampled=())
  config.train.update({"steps": 60, "num_worlds": 2, "evaluate_every": 0, "evaluation_episodes": 0})
  expected = parameters(run.run(config, tmp_path).state)
  for file in "config.json", "network.json":  # The sweep's own are written once its first run has ended.
    (tmp_path / file).unlink()
  assert parameters(run.run(config, tmp_path).state) == expected
  assert (tmp_path / "network.json").exists()


def test_more_steps_go_on_from_the_same_directory(tmp_path):
  config = make_config()
  run.run(config, tmp_path / "few")
  config.train.steps = 700
  expected = parameters(run.run(config, tmp_path / "many").state)
  assert parameters(run.run(config, tmp_path / "few").state) == expected


def test_behind_dm_env_each_episode_is_a_record_and_resume_begins_a_new_one(tmp_path, capsys):
  config = make_config(world="host")
  config.train.evaluate_every, config.train.num_worlds = 0, 2
  config.train.lag, config.train.hyper.correction = 1, "vtrace"
  run.run(config, tmp_path)
  assert "warning: 1 of 2 devices is used: behind dm_env a run learns on one" in capsys.readouterr().err
  episodes = [record for record in lines(tmp_path) if record["kind"] == "episode"]
  length = worlds.CueRecall().length  # One step of each period is the reset.
  assert [e["step"] for e in episodes] == [2 * step for step in range(length, 301, length + 1) for _ in range(2)]
  assert {e["length"] for e in episodes} == {float(length)}

  for step in checkpoint.steps(tmp_path / "checkpoints")[1:]:
    checkpoint.file_of(tmp_path / "checkpoints", step).unlink()
  kept = checkpoint.steps(tmp_path / "checkpoints")[0]
  state = run.run(config, tmp_path).state
  assert int(state.step) == 600
  assert [e for e in lines(tmp_path) if e["step"] <= kept and e["kind"] == "episode"]
  assert {e["length"] for e in lines(tmp_path) if e["kind"] == "episode"} == {float(length)}
  steps = [e["step"] for e in lines(tmp_path) if e["kind"] == "train"]
  assert steps == list(range(10, 601, 10))


def test_behind_dm_env_a_resumed_run_has_other_episodes(tmp_path, monkeypatch):
  seeds, make = [], learn.place_lib.make

  def seen(*args, seed, first_step, **rest):
    seeds.append((seed, first_step))
    return make(*args, **rest)

  monkeypatch.setattr(learn.place_lib, "make", seen)
  config = make_config(world="host")
  config.seed = 3
  config.train.update({"steps": 20, "save_every": 20, "num_worlds": 1, "evaluate_every": 0})
  for steps in (20, 40, 60):
    config.train.steps = steps
    run.run(config, tmp_path)
  assert seeds == [(3, 0), (3, 20), (3, 40)]
  config.train.steps, config.sweep = 20, base.sweep(num_runs=2, top=1, sampled=())
  for steps in (20, 40):
    config.train.steps = steps
    run.run(config, tmp_path / "sweep")
  assert seeds[3:] == [(3, 0), (4, 0), (3, 20), (4, 20)]


@pytest.mark.parametrize("mode", [{}, {"lag": 1}, {"free_running": True}])
def test_what_was_learned_before_a_world_fails_is_saved(tmp_path, monkeypatch, mode):
  """As when an arm's server cannot end a step. Nothing else would be saved before the end."""
  step, num_steps, learn_once, updates = dm_env_adapter.DmEnv.step, itertools.count(1), loop.learn, []

  def learn(state, played, **rest):
    updates.append(played)
    return learn_once(state, played, **rest)

  def failing(world, action):
    if next(num_steps) >= 38 and len(updates) > 3:  # A world that runs free is not in step with them.
      raise ValueError("the camera gives no picture")
    return step(world, action)

  config = make_config(world="host")
  config.train.update({"evaluate_every": 0, "evaluation_episodes": 0, "num_worlds": 1, "save_every": 0, "steps": 60})
  config.train.update(mode)
  config.train.hyper.correction = "vtrace"
  with monkeypatch.context() as patch:
    patch.setattr(dm_env_adapter.DmEnv, "step", failing)
    patch.setattr(loop, "learn", learn)
    with pytest.raises(ValueError, match="no picture") as raised:
      run.run(config, tmp_path)
  (saved,) = checkpoint.steps(tmp_path / "checkpoints")
  learned = [r["step"] for r in lines(tmp_path) if r["kind"] == "train"]
  assert learned[-1] == saved and (saved == 35 or "free_running" in mode)
  assert raised.value.__notes__ == [f"step {saved} is saved, and the same command goes on from there"]
  assert int(run.run(config, tmp_path).state.step) == 60
  assert [r["step"] for r in lines(tmp_path) if r["kind"] == "train"] == list(range(5, 61, 5))


def test_the_error_of_a_world_is_said_even_if_nothing_can_be_saved(tmp_path, monkeypatch):
  def full(*_, **__):
    raise OSError("no space left")

  def updates():
    state = loop.init(*agents_for_tests.make(worlds.CueRecall()), jax.random.key(0), num_worlds=1)
    yield dataclasses.replace(state, step=jnp.int32(5)), []
    raise ValueError("the camera gives no picture")

  with pytest.raises(ValueError, match="no picture") as raised:
    loop.consume(
      updates(), first_step=0, until_step=9, sinks=(), evaluate=full, evaluate_every=0, save=full, save_every=0
    )
  assert raised.value.__notes__ == ["step 5 could not be saved: no space left"]


def test_a_state_that_the_next_update_was_given_is_not_saved(tmp_path, monkeypatch):
  step, num_updates = devices.train_step, itertools.count(1)

  def failing(*arguments, **named):
    result = step(*arguments, **named)
    if next(num_updates) == 4:
      raise RuntimeError("out of memory")
    return result

  monkeypatch.setattr(devices, "train_step", failing)
  with pytest.raises(RuntimeError, match="out of memory") as raised:
    run.run(make_config(), tmp_path)
  assert not getattr(raised.value, "__notes__", None) and not checkpoint.steps(tmp_path / "checkpoints")


def test_free_running_worlds_are_learned_in_to_the_last_step_and_on_resume(tmp_path, monkeypatch):
  monkeypatch.setattr(learn, "FRAMES_TO_FIT", 30)
  config = make_config(world="host")
  config.train.column.start = "data"
  config.train.update({"evaluate_every": 0, "num_worlds": 2, "save_every": 30, "steps": 60, "free_running": True})
  with pytest.raises(
    ValueError, match="free_running=True: an older policy played those steps; set .*correction=vtrace"
  ):
    run.run(config, tmp_path)
  config.train.hyper.correction = "vtrace"
  states = [run.run(config, tmp_path).state]
  config.train.steps = 120
  states.append(run.run(config, tmp_path).state)
  assert [int(one.step) for one in states] == [60, 120]
  assert len({str(jax.random.key_data(one.key)) for one in states}) == 2
  train = [r for r in lines(tmp_path) if r["kind"] == "train"]
  assert [r["step"] for r in train] == list(range(40, 121, 10))  # The column is fitted to the first 30 steps.
  assert {"staleness", "dropped_steps", "learning_share"} <= train[0].keys()
  assert [r["step"] for r in lines(tmp_path) if r["kind"] == "eval"] == [60, 120]  # In a world where no actor plays.
  config.train.lag = 1
  with pytest.raises(ValueError, match="lag=1: with train.free_running no lag is kept"):
    run.run(config, tmp_path / "lag")


def test_behind_dm_env_a_column_is_fitted_to_its_first_steps_which_count(tmp_path, monkeypatch, capsys):
  seen, fitted_to = [], learn.fitted_to
  monkeypatch.setattr(learn, "FRAMES_TO_FIT", 30)
  monkeypatch.setattr(learn, "fitted_to", lambda task, played: seen.append(played) or fitted_to(task, played))
  config = make_config(world="host")
  config.train.column.start = "data"
  config.train.update({"evaluate_every": 0, "evaluation_episodes": 0, "num_worlds": 1, "steps": 30})
  state = run.run(config, tmp_path).state  # Nothing was learned from the first steps.
  length = worlds.CueRecall().length
  assert [(r["kind"], r["step"]) for r in lines(tmp_path)] == [("episode", s) for s in range(length, 31, length + 1)]
  (played,) = seen
  dense = partition.merge(state.trainable, state.frozen)[0]["dense1"]
  x = played.timesteps.observation["signal"].reshape(-1, 3) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
  np.testing.assert_allclose([x.mean(axis=0), x.std(axis=0)], np.stack([np.zeros(8), np.ones(8)]), atol=1e-4)
  config.train.steps = 45
  run.run(config, tmp_path)  # It continues and is not fitted again.
  assert [r["step"] for r in lines(tmp_path) if r["kind"] == "train"] == [35, 40, 45] and len(seen) == 1
  monkeypatch.setattr(learn, "FRAMES_TO_FIT", 33)
  run.run(config, tmp_path / "uneven")
  (last,) = [line for line in capsys.readouterr().out.splitlines() if "step 48 of 48" in line]
  assert "0:00:00 left" in last


def test_recorded_steps_come_before_the_first_and_only_there(tmp_path, monkeypatch):
  """The new column is fitted to them, and not to the first steps. The zeros that they give here stay zeros."""
  calls = []

  def rehearsed(task, recorded, key, **options):
    calls.append(options)
    return task._replace(params=jax.tree.map(np.zeros_like, task.params))

  monkeypatch.setattr(rehearsal, "rehearsed", rehearsed)
  config = make_config(world="host")
  config.train.update({"evaluate_every": 0, "evaluation_episodes": 0, "num_worlds": 1, "steps": 10})
  config.train.update({"recording": "runs/recordings", "recording_updates": 2})
  config.train.column.start = "data"
  state = run.run(config, tmp_path).state
  assert calls == [{"num_updates": 2, "num_steps": 5, "is_fitted": True}]
  assert [r["step"] for r in lines(tmp_path) if r["kind"] == "train"] == [5, 10]
  assert not np.any(state.trainable[0]["dense1"]["kernel"])
  config.train.steps = 15
  run.run(config, tmp_path)
  assert len(calls) == 1


def test_behind_dm_env_the_newest_steps_are_learned_from_again(tmp_path, monkeypatch):
  config = make_config(world="host")
  config.train.update(
    {"evaluate_every": 0, "evaluation_episodes": 0, "num_worlds": 1, "steps": 60, "replay_updates": 2}
  )
  config.train.replay_size = 3
  with pytest.raises(ValueError, match="replay_updates=2: an older policy played those steps; set .*correction=vtrace"):
    run.run(config, tmp_path / "refused")
  config.train.hyper.correction = "vtrace"
  played, drawn = [], []
  host_unroll, learn_again = unroll.host_unroll, loop.learn_again

  def spy_unroll(*arguments, **how):
    played.append(host_unroll(*arguments, **how))
    return played[-1]

  def spy_again(state, one, *, agent):
    drawn.extend(
      ago for ago, new in enumerate(reversed(played)) if new[2].actions is one.actions
    )  # None while `learn` is being compiled.
    return learn_again(state, one, agent=agent)

  monkeypatch.setattr(unroll, "host_unroll", spy_unroll)
  monkeypatch.setattr(loop, "learn_again", spy_again)
  state = run.run(config, tmp_path / "replayed").state
  assert int(state.step) == 60 and len(played) == 12 and len(drawn) == 24 and set(drawn) == {0, 1, 2}
  num_updates = next(x for name, x in checkpoint.flatten(state.optimizer_state).items() if name.endswith("count"))
  assert num_updates == 36
  assert [r["step"] for r in lines(tmp_path / "replayed") if r["kind"] == "train"] == list(range(5, 61, 5))


def test_vtrace_learns_from_new_steps_what_lambda_returns_do(tmp_path):
  states = []
  for correction in ("none", "vtrace"):
    config = make_config()
    config.train.update({"evaluate_every": 0, "evaluation_episodes": 0, "steps": 200})
    config.train.hyper.correction = correction
    states.append(run.run(config, tmp_path / correction).state.trainable)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *states)


@pytest.mark.parametrize("field", checks.OF_OLDER_POLICIES)
def test_what_an_older_policy_played_is_learned_from_only_where_steps_are_dear(tmp_path, field):
  config = make_config()
  config.train[field], config.train.hyper.correction = type(config.train[field])(1), "vtrace"
  with pytest.raises(ValueError, match=f"train.{field}=(1|True): in recall, a world in JAX, new steps cost less"):
    run.run(config, tmp_path)


def test_a_world_whose_task_is_refused_is_closed(tmp_path, monkeypatch):
  """An arm has one client at a time."""
  closed = []
  monkeypatch.setattr(dm_env_adapter.DmEnv, "close", lambda self: closed.append(self))
  config = make_config(world="host")
  config.train.num_worlds = 3
  with pytest.raises(ValueError, match="evaluate_every=200: in host"):
    run.run(config, tmp_path)
  config.train.column.inputs = ("touch",)
  with pytest.raises(ValueError, match="touch"):
    learn.make(config)
  assert len(set(closed)) == len(closed) == 2 * 3


def test_behind_dm_env_evaluation_during_training_is_refused(tmp_path):
  config = make_config(world="host")
  with pytest.raises(ValueError, match="evaluate_every=200: in host an evaluation would break into the episode"):
    run.run(config, tmp_path)
  assert not (tmp_path / "config.json").exists()


def test_a_sweep_behind_dm_env_is_its_runs_one_after_the_other(tmp_path, monkeypatch):
  events = []

  def make(name, **options):
    events.append("made")
    return make_world(name)

  monkeypatch.setattr(registry, "make", make)
  monkeypatch.setattr(dm_env_adapter.DmEnv, "close", lambda self: events.append("closed"))
  config = make_config(world="host")
  config.train.update({"steps": 60, "num_worlds": 2, "evaluate_every": 0, "save_every": 0})
  rates = (("train.hyper.learning_rate", "choice", (1e-2, 1e-3)),)
  config.sweep = base.sweep(num_runs=2, top=1, sampled=rates)
  learned = run.run(config, tmp_path)
  assert events == ["made", "made", "closed", "closed"] * 2  # An arm is joined once per run, left before the next.
  assert [member.config.seed for member in learned.members] == [config.seed, config.seed + 1]
  own = [jax.tree.map(lambda leaf, i=i: leaf[i], learned.state) for i in range(2)]
  for i, state in enumerate(own):
    saved, reached = sweep_folder.trained(tmp_path, i).params, partition.merge(state.trainable, state.frozen)
    assert partition.content_hash(saved) == partition.content_hash(reached)
    assert lines(learned.members[i].path)[-1]["step"] == 60
  scores = [sweep_folder.score(member.path) for member in learned.members]
  best = sweep_folder.trained(tmp_path, int(np.argmax(scores))).params
  assert partition.content_hash(released.load_source(tmp_path / "best").params) == partition.content_hash(best)
  alone = run.run(learned.members[1].config, tmp_path / "alone").state  # A member's config alone reproduces it.
  assert partition.content_hash(alone.trainable) == partition.content_hash(own[1].trainable)
  assert partition.content_hash(own[0].trainable) != partition.content_hash(own[1].trainable)
  with pytest.raises(ValueError, match="use another --workdir"):
    run.run(learned.members[0].config, tmp_path)
  with pytest.raises(ValueError, match="another config .*sweep: None there, .* here.*; use another --workdir"):
    run.run(config, tmp_path / "alone")
  again = run.run(config, tmp_path).state  # Nothing finished is repeated.
  assert partition.content_hash(again.trainable) == partition.content_hash(learned.state.trainable)


def test_behind_dm_env_a_run_that_diverges_is_the_worst_of_its_sweep(tmp_path, monkeypatch, capsys):
  closed = []
  monkeypatch.setattr(dm_env_adapter.DmEnv, "close", lambda self: closed.append("closed"))
  config = make_config(world="host", seed=4)
  config.train.update({"steps": 60, "num_worlds": 2, "evaluate_every": 0, "save_every": 0})
  rates = (("train.hyper.learning_rate", "choice", (1e-2, 1e38)),)
  config.sweep = base.sweep(num_runs=3, top=1, sampled=rates)
  is_bad = [sweep.sample(config, i).train.hyper.learning_rate > 1.0 for i in range(3)]
  assert is_bad == [True, False, True]
  learned = run.run(config, tmp_path)
  assert len(closed) == 6  # Two worlds for each.
  assert [member.path.name for member in learned.members] == ["01"]
  assert partition.content_hash(released.load_source(tmp_path / "best").params) == partition.content_hash(
    sweep_folder.trained(tmp_path, 1).params
  )
  paths = sweep_folder.run_paths(tmp_path, 3)
  assert sweep_folder.best(paths)[0] == 1 and sweep_folder.best(paths)[1][::2] == [-np.inf, -np.inf]
  members = sweep_folder.read_members(tmp_path, 3)
  assert members.lacking == "1 of 3 runs have ended episodes, not 00 (failed), 02 (failed)" and len(members.runs) == 1
  capsys.readouterr()
  monkeypatch.setattr(actors, "behind_dm_env", None)  # Nothing is learned again.
  again = run.run(config, tmp_path)
  assert partition.content_hash(again.state.trainable) == partition.content_hash(learned.state.trainable)
  assert "00 failed (to try again, remove this folder): the loss is" in capsys.readouterr().out
  assert len(closed) == 10  # Those of 00 and 01: of 02 nothing was made.


def test_a_failure_is_of_one_config_and_needs_no_source(tmp_path, monkeypatch):
  run.run(make_config(), tmp_path / "source")
  config = next_config("finetune", tmp_path / "source")
  config.world, config.sweep = "host", base.sweep(num_runs=2, top=1, sampled=())
  config.train.update({"steps": 60, "num_worlds": 2, "evaluate_every": 0, "evaluation_episodes": 0})
  refuse, sweep_path = loop.refuse_nan, tmp_path / "sweep"

  def refuse_all(records):
    raise FloatingPointError("made up")

  def fail_first(records):
    monkeypatch.setattr(loop, "refuse_nan", refuse)
    refuse_all(records)

  monkeypatch.setattr(loop, "refuse_nan", fail_first)
  expected = parameters(run.run(config, sweep_path).state)
  monkeypatch.setattr(loop, "refuse_nan", refuse_all)  # Nothing more may be learned.
  (tmp_path / "source").rename(tmp_path / "gone")
  assert parameters(run.run(config, sweep_path).state) == expected
  (tmp_path / "gone").rename(tmp_path / "source")
  first = sweep.sample(config, 0)
  first.train.evaluation_episodes = 0
  first.source = str(tmp_path / "sweep/../source")  # The same place.
  first.train.steps = 90
  assert run_directory.failure(sweep_path / "runs/00", first) == "made up"
  config.train.hyper.learning_rate *= 0.5
  with pytest.raises(ValueError, match="runs/01 was made with another config"):
    run.run(config, sweep_path)
  assert run_directory.failure(sweep_path / "runs/00") == "made up"
  first.train.hyper.learning_rate *= 0.5
  assert not run_directory.failure(sweep_path / "runs/00", first)
  run_directory.claim(sweep_path / "runs/00", first)
  assert not run_directory.failure(sweep_path / "runs/00")


def test_behind_dm_env_a_sweep_whose_runs_all_diverge_fails_and_can_be_tried_again(tmp_path):
  config = make_config(world="host")
  config.train.update({"steps": 60, "num_worlds": 2, "evaluate_every": 0, "save_every": 0})
  config.train.hyper.learning_rate = 1e38
  config.sweep = base.sweep(num_runs=2, top=1, sampled=())
  for _ in range(2):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
      run.run(config, tmp_path)
    assert not list(tmp_path.rglob("failure.json"))


@pytest.mark.parametrize("what", ["loss", "gradient_norm"])
def test_parameters_that_are_no_numbers_are_never_saved(tmp_path, monkeypatch, what):
  train_step = devices.train_step

  def break_late(state, **options):
    state, metrics, episodes = train_step(state, **options)
    is_late = state.step >= 240
    return state, metrics | {what: jax.numpy.where(is_late, jax.numpy.nan, metrics[what])}, episodes

  monkeypatch.setattr(devices, "train_step", break_late)
  with pytest.raises(FloatingPointError, match="at step 240; lower the learning rate"):
    run.run(make_config(), tmp_path)
  assert checkpoint.steps(tmp_path / "checkpoints")[-1] == 200


@pytest.mark.parametrize("world", ["recall", "host"])
def test_parameters_that_are_too_large_to_compute_with_are_never_saved(tmp_path, world):
  """One update at an absurd learning rate. Its loss, its gradient and the new parameters are still numbers."""
  config = make_config(world=world)
  config.train.update({"steps": 5, "num_worlds": 1, "evaluate_every": 0, "evaluation_episodes": 0})
  config.train.hyper.learning_rate = 1e30
  with pytest.raises(FloatingPointError, match="the parameters of step 5 are too large to compute with; lower the"):
    run.run(config, tmp_path)
  assert not checkpoint.steps(tmp_path / "checkpoints")


def test_a_run_of_a_sweep_is_continued_by_the_sweep_alone(tmp_path):
  config = make_config()
  config.train.evaluate_every, config.sweep = 0, base.sweep(num_runs=2, top=1, sampled=())
  run.run(config, tmp_path)
  before = (tmp_path / "runs/01/metrics.jsonl").read_bytes()
  with pytest.raises(ValueError, match="01 is a run of the sweep in .*, which continues it; use another --workdir"):
    run.run(make_config(), tmp_path / "runs/01")
  assert (tmp_path / "runs/01/metrics.jsonl").read_bytes() == before
  shutil.rmtree(tmp_path / "checkpoints")  # As before the first save.
  with pytest.raises(ValueError, match="01 is a run of the sweep in"):
    run.run(make_config(), tmp_path / "runs/01")


def test_a_run_where_a_sweep_was_begun_before_can_be_read(tmp_path):
  (tmp_path / "runs/00").mkdir(parents=True)
  learned = run.run(make_config(), tmp_path)
  assert partition.content_hash(released.load_source(tmp_path).params) == partition.content_hash(
    partition.merge(learned.state.trainable, learned.state.frozen)
  )


def test_an_unreadable_member_is_an_error(tmp_path):
  config = make_config()
  config.train.evaluate_every, config.sweep = 0, base.sweep(num_runs=2, top=1, sampled=())
  run.run(config, tmp_path)
  file = tmp_path / "runs/01/metrics.jsonl"
  file.write_text("no json\n" + file.read_text())
  with pytest.raises(ValueError, match="runs/01/metrics.jsonl"):
    run.run(config, tmp_path)


def test_a_film_comes_after_the_checkpoint_and_its_failure_stops_nothing(tmp_path, monkeypatch, capsys):
  saved = []

  def fail(path, frames, **options):
    saved.append(checkpoint.steps(tmp_path / "checkpoints")[-1])
    raise OSError("no ffmpeg")

  monkeypatch.setattr(run.video, "write", fail)
  monkeypatch.setattr(run.play, "_film", lambda *args: ([np.zeros((2, 2, 3), np.uint8)], ["episode 1"]))
  monkeypatch.setattr(worlds.CueRecall, "observation_spec", lambda self: {"signal": SIGNAL, "pixels": SIGNAL})
  assert int(run.run(make_config(), tmp_path).state.step) == 600
  assert saved == [200, 400, 600]
  assert "warning: no video (no ffmpeg); everything else goes on" in capsys.readouterr().err


def evaluations(workdir):
  return [{**record, "wall_s": 0.0} for record in lines(workdir) if record["kind"] == "eval"]


def test_a_last_evaluation_that_fails_costs_nothing_and_is_made_up_for(tmp_path, monkeypatch, capsys):
  config, play = make_config(), run.play.play
  config.train.evaluate_every = config.train.save_every = 0
  run.run(config, tmp_path / "unbroken")

  def fail(*args, **options):
    raise ConnectionError("the arm is off")

  monkeypatch.setattr(run.play, "play", fail)
  with pytest.raises(ConnectionError, match="the arm is off"):
    run.run(config, tmp_path / "run")
  assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [600] and not evaluations(tmp_path / "run")
  monkeypatch.setattr(run.play, "play", play)
  capsys.readouterr()
  run.run(config, tmp_path / "run")
  assert "its last evaluation is missing, and comes now" in capsys.readouterr().out
  assert len(evaluations(tmp_path / "run")) == 1
  assert evaluations(tmp_path / "run") == evaluations(tmp_path / "unbroken")
  monkeypatch.setattr(run.play, "play", fail)
  run.run(config, tmp_path / "run")  # The evaluation is not repeated.


def test_who_is_asked_to_stop_at_the_end_saves_and_evaluates_next_time(tmp_path, monkeypatch):
  config = make_config()
  config.train.update({"steps": 20, "evaluate_every": 0})
  monkeypatch.setattr(run.hosts, "asked_to_stop", lambda is_over=False: True)
  run.run(config, tmp_path)
  assert checkpoint.steps(tmp_path / "checkpoints") == [20] and not evaluations(tmp_path)
  monkeypatch.setattr(run.hosts, "asked_to_stop", lambda is_over=False: False)
  run.run(config, tmp_path)
  assert [record["step"] for record in evaluations(tmp_path)] == [20]


_STOPPED = _KILLED.replace("print(", "from experiments.running import stop\nstop.install()\nprint(", 1)


def test_a_run_that_is_asked_to_stop_saves_first(tmp_path):
  """One signal stands for the others, see `stop_test`."""
  script, workdir = tmp_path / "run.py", tmp_path / "run"
  script.write_text(_STOPPED.format(root=str(ROOT)).replace("long_config()", "long_config(save_every=20_000)"))
  stopped = start(script, workdir)
  deadline = time.monotonic() + 300
  while not (workdir / "metrics.jsonl").exists() or not lines(workdir):
    assert time.monotonic() < deadline, "no record in five minutes"
    time.sleep(0.01)
  stopped.send_signal(signal.SIGTERM)
  assert stopped.wait(timeout=300) == 143
  (step,) = checkpoint.steps(workdir / "checkpoints")
  assert lines(workdir)[-1]["step"] == step < 20_000


def test_a_workdir_that_is_moved_away_stops_the_run(tmp_path, monkeypatch):
  def move(path, step, state, *, keep):
    save(path, step, state, keep=keep)
    (tmp_path / "run").rename(tmp_path / "moved")

  save = checkpoint.save
  monkeypatch.setattr(checkpoint, "save", move)
  with pytest.raises(OSError, match="run was moved or deleted while it was at work"):
    run.run(make_config(), tmp_path / "run")
  monkeypatch.undo()
  worlds.serve(monkeypatch, make_world)
  assert checkpoint.steps(tmp_path / "moved" / "checkpoints") == [120]
  assert int(run.run(make_config(), tmp_path / "moved").state.step) == 600  # It continues in the new place.


def test_a_run_whose_units_die_is_warned_of(tmp_path, capsys):
  config = make_config(lstm=())
  config.train.update({"steps": 16_000, "num_worlds": 16, "num_steps": 20, "evaluate_every": 0, "save_every": 0})
  config.train.hyper.update({"learning_rate": 30.0, "optimizer": "rmsprop"})
  run.run(config, tmp_path / "run")
  assert "more than half of dense1 is dead" in capsys.readouterr().err


def test_lineage_has_the_source_steps_at_start_and_skips_empty_starts(tmp_path):
  source, child = make_config(), next_config("progressive", tmp_path / "source")
  source.train.steps = 120
  run.run(source, tmp_path / "source")
  run.run(child, tmp_path / "child")
  began = (tmp_path / "child/provenance.json").read_text()
  source.train.steps = 200
  run.run(source, tmp_path / "source")  # The source continues.
  run.run(source, tmp_path / "source")  # Nothing is left to learn.
  run.run(child, tmp_path / "child")
  assert [one["steps"] for one in released.lineage(tmp_path / "child")] == [120, 80]
  assert [one["steps"] for one in released.lineage(tmp_path / "source")] == [200]
  assert (tmp_path / "child/provenance.json").read_text() == began
  assert len(json.loads((tmp_path / "source/provenance.json").read_text())["resumed"]) == 1
  shutil.rmtree(tmp_path / "source")
  source.seed, source.train.steps = 9, 120
  run.run(source, tmp_path / "source")  # Another network with as many steps.
  assert [one["steps"] for one in released.lineage(tmp_path / "child")] == [None, 80]
