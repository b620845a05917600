"""Runs trained side by side equal the same runs trained alone."""

import json

import jax
import numpy as np
import pytest

from analysis import records
from experiments.configs import base, jaco_auxiliary, navigation, pong_soup
from experiments.running import devices, run
from experiments.setup import learn
from experiments.setup import sweep as sweep_lib
from experiments.store import checkpoint, network_file, released, sweep_folder
from progressive import partition
from tests.agents import worlds
from tests.experiments.running import run_test

ONE_DEVICE = devices.make_mesh(jax.devices()[:1])
SAMPLED = (
  ("train.hyper.learning_rate", "choice", (1e-2, 1e-3, 1e-4)),
  ("train.hyper.entropy_cost", "log_uniform", (1e-4, 1e-2)),
)


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  worlds.serve(monkeypatch, lambda name, **options: worlds.CueRecall())


def make_config(**fields):
  config = run_test.make_config(**fields)
  config.sweep = base.sweep(num_runs=3, top=2, sampled=SAMPLED)
  config.train.steps, config.train.evaluate_every, config.train.evaluation_episodes = 200, 0, 0
  return config


def test_a_member_is_the_run_that_its_config_describes(tmp_path):
  everyone = run.run(make_config(), tmp_path / "sweep").members
  rates = {member.config.train.hyper.learning_rate for member in everyone}
  assert rates == {1e-2, 1e-3, 1e-4}
  assert len({member.config.train.hyper.entropy_cost for member in everyone}) == 3
  for i in (0, 2):
    alone = run.run(everyone[i].config, tmp_path / f"alone{i}").state
    together = sweep_folder.trained(tmp_path / "sweep", i).params
    jax.tree.map(lambda a, t: np.testing.assert_allclose(t, a, atol=1e-5), alone.trainable, together)
    curves = [
      records.series(records.read(path), kind="train", name="return_mean")
      for path in (tmp_path / f"alone{i}", tmp_path / "sweep" / "runs" / f"0{i}")
    ]
    np.testing.assert_array_equal(curves[0], curves[1])
  hashes = {partition.content_hash(sweep_folder.trained(tmp_path / "sweep", i).params) for i in range(3)}
  assert len(hashes) == 3


def test_parameters_come_with_their_auxiliary_heads_where_asked_for(tmp_path):
  config = make_config()
  config.train.auxiliary.cue = base.head("cue", "lstm1", 1.0, hidden=3)
  configs = [sweep_lib.sample(config, i) for i in range(2)]
  everyone = [run.Member(one, tmp_path, learn.make(one)) for one in configs]
  batch = run._batch(everyone[0].task, 2)
  state = devices.stack([run._init(member, batch) for member in everyone])
  checkpoint.save(tmp_path / "checkpoints", 10, state)
  network_file.write_spec(tmp_path, everyone[0].task.agent.spec)
  (tmp_path / "config.json").write_text(config.to_json())
  own = everyone[1].task.params
  like = jax.tree.map(np.zeros_like, own)
  whole, network_alone = sweep_folder.trained(tmp_path, 1, like=like).params, sweep_folder.trained(tmp_path, 1).params
  assert "auxiliary" in whole[-1] and partition.content_hash(whole) == partition.content_hash(own)
  without_heads = {layer: params for layer, params in own[-1].items() if layer != "auxiliary"}
  assert partition.content_hash(network_alone) == partition.content_hash((without_heads,))
  with pytest.raises(ValueError, match="holds 0/auxiliary/cue_from_lstm1"):
    sweep_folder.trained(tmp_path, 1, like=network_alone)


def test_an_interrupted_sweep_ends_the_same(tmp_path):
  config = make_config()
  run.run(config, tmp_path / "whole")
  run.run(config, tmp_path / "broken")
  (newest,) = checkpoint.steps(tmp_path / "broken" / "checkpoints")[-1:]
  checkpoint.file_of(tmp_path / "broken" / "checkpoints", newest).rename(tmp_path / "taken")
  assert checkpoint.steps(tmp_path / "broken" / "checkpoints")
  run.run(config, tmp_path / "broken")
  for i in range(3):
    whole, broken = (sweep_folder.trained(tmp_path / name, i).params for name in ("whole", "broken"))
    assert partition.content_hash(whole) == partition.content_hash(broken)
    lines = [
      (tmp_path / name / "runs" / f"0{i}" / "metrics.jsonl").read_text().splitlines() for name in ("whole", "broken")
    ]
    assert [json.loads(x)["return_mean"] for x in lines[0]] == [json.loads(x)["return_mean"] for x in lines[1]]


def several(config, num):
  """The four worlds of a sweep of `num` members, their stacked agents, and what makes their states."""
  everyone = [run.Member(one, None, learn.make(one)) for one in (sweep_lib.sample(config, i) for i in range(num))]
  batch = run._batch(everyone[0].task, 4)
  agents = devices.stack([jax.tree.map(np.float32, member.task.agent) for member in everyone])
  return batch, agents, lambda: devices.stack([run._init(member, batch) for member in everyone])


def test_training_members_at_once_equals_one_after_the_other():
  batch, agents, init = several(make_config(), 3)
  alike = {"agent": agents, "batch": batch, "num_steps": 5, "mesh": ONE_DEVICE}
  ends = [devices.train_step(init(), **alike, width=width)[0].trainable for width in (1, 3)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends)


def test_devices_share_a_sweep_out_and_change_nothing():
  """Of three members one device trains two, and the other device one, plus a second to fill its share."""
  batch, agents, init = several(make_config(), 3)
  ends = []
  for layout in devices.Layout(ONE_DEVICE, 3), devices.lay_out(3, 4):
    states, own = devices.place(init(), layout), devices.place_agents(agents, layout)
    assert len(states.step) == layout.mesh.size * layout.share
    state, _, _ = devices.train_step(states, agent=own, batch=batch, num_steps=5, mesh=layout.mesh)
    assert len(state.step.sharding.device_set) == layout.mesh.size
    ends.append(jax.tree.map(lambda leaf: np.asarray(leaf)[:3], state.trainable))
  jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.parametrize(
  "config",
  (
    navigation.get_config("paper,nav_d1d2l,static_1"),
    pong_soup.get_config("paper"),
    jaco_auxiliary.get_config("reacher_d1d2l"),
  ),
  ids=("maze", "pong", "jaco"),
)
def test_a_gpu_trains_all_members_at_once_and_never_asks_the_host(config, monkeypatch, as_if_on):
  # Lowered for a GPU, without having one. There is no callback, which physics on a CPU needs, and no convolution of
  # kernels that differ.
  monkeypatch.undo()  # The real worlds.
  as_if_on("gpu")
  batch, agents, init = several(config, 2)
  traced = devices.train_step.trace(
    jax.eval_shape(init), agent=agents, batch=batch, num_steps=config.train.num_steps, width=2, mesh=ONE_DEVICE
  )
  program = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert "stablehlo.dot_general" in program
  assert "stablehlo.convolution" not in program and "callback" not in program


def test_sweeps_of_transfers_keep_the_source(tmp_path):
  config = make_config()
  run.run(run_test.make_config(), tmp_path / "source")
  config.method, config.source = "progressive", str(tmp_path / "source")
  config.sweep.sampled = (("alpha", "choice", (1.0, 0.1)), ("train.hyper.reward_scale", "choice", (0.5, 2.0, 4.0)))
  run.run(config, tmp_path / "sweep")
  source = checkpoint.load_run(tmp_path / "source")[1]
  for i in range(3):
    kept = sweep_folder.trained(tmp_path / "sweep", i).params[0]
    assert partition.content_hash(kept) == partition.content_hash(source[0])
  returns = [sweep_folder.score(tmp_path / "sweep/runs" / f"{i:02}") for i in range(3)]
  best = released.load_source(tmp_path / "sweep/best")
  own = sweep_folder.trained(tmp_path / "sweep", int(np.argmax(returns)))
  assert partition.content_hash(best.params) == partition.content_hash(own.params)
  member = json.loads((tmp_path / f"sweep/runs/{np.argmax(returns):02}/config.json").read_text())
  assert best.reward_scale == own.reward_scale == member["train"]["hyper"]["reward_scale"]
  told = json.loads((tmp_path / "sweep/best/evaluation.json").read_text())
  assert (told["late_return"], told["world"]) == (max(returns), config.world)


def test_what_is_refused_leaves_the_workdir_to_the_next_try(tmp_path):
  config = make_config()
  config.train.column.inputs = ("nonsense",)
  with pytest.raises(ValueError, match="nonsense"):
    run.run(config, tmp_path / "sweep")
  run.run(make_config(), tmp_path / "sweep")


def test_the_best_network_lists_its_whole_lineage(tmp_path):
  config = make_config()
  run.run(config, tmp_path / "first")
  config = make_config()
  config.method, config.source = "progressive", str(tmp_path / "first/best")
  config.sweep.sampled = ()
  run.run(config, tmp_path / "second")
  first, second = released.lineage(tmp_path / "second/best")
  assert first["steps"] == second["steps"]
  assert first["steps"] == checkpoint.steps(tmp_path / "first/checkpoints")[-1]
