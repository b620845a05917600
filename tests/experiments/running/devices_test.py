"""One run with its worlds on many devices learns what one device learns. Here there are two, see `conftest`."""

import chex
import jax
import numpy as np
import pytest

from agents import unroll
from environments import batch as batch_lib
from environments import registry
from experiments.configs import base, pong_soup
from experiments.running import devices, loop, run
from experiments.setup import learn
from experiments.store import checkpoint
from tests.agents import agents_for_tests, worlds
from tests.experiments.running import run_test

ONE_DEVICE = devices.Layout(devices.make_mesh(jax.devices()[:1]), 1)


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  worlds.serve(monkeypatch, lambda name, **options: worlds.CueRecall())


def learned(layout, num_updates, **hyper):
  """A run's state after `num_updates` updates, and its last metrics and episodes."""
  config = run_test.make_config()
  config.train.hyper.update(hyper)
  member = run.Member(config, None, learn.make(config))
  batch = run._batch(member.task, 4)
  state = devices.place(run._init(member, batch), layout)
  for _ in range(num_updates):
    state, *results = devices.train_step(state, agent=member.task.agent, batch=batch, num_steps=5, mesh=layout.mesh)
  return state, results


@pytest.mark.parametrize(
  ("num_runs", "num_worlds", "num_devices", "shape", "share"),
  [
    (1, 4, 1, (1, 1), 1),
    (1, 4, 2, (1, 2), 1),
    (1, 12, 8, (1, 6), 1),
    (3, 4, 2, (2, 1), 2),
    (3, 4, 8, (4, 2), 1),
    (4, 16, 8, (4, 2), 1),
    (8, 5, 8, (8, 1), 1),
    (10, 5, 8, (8, 1), 2),
    (25, 16, 16, (16, 1), 2),
  ],
)
def test_runs_come_first_and_worlds_take_what_is_left(num_runs, num_worlds, num_devices, shape, share, monkeypatch):
  monkeypatch.setattr(jax, "devices", lambda: [jax.local_devices()[0]] * num_devices)
  layout = devices.lay_out(num_runs, num_worlds)
  assert (layout.mesh.devices.shape, layout.share) == (shape, share)


def test_training_does_not_compute_again_what_acting_has_computed():
  world, num_worlds, num_steps = worlds.CueRecall(), 4, 7
  agent, *params = agents_for_tests.make(world, memory=False)
  batch = batch_lib.Batch(world, num_worlds, ("signal",))
  state = loop.init(agent, *params, jax.random.key(0), num_worlds=num_worlds, batch=batch)
  begun = batch, state.batch_state, state.recurrent_state, state.key, num_steps
  played = unroll.unroll(agent, *params, *begun)[2]
  apart = [
    unroll.unroll.lower(agent, *params, *begun),
    loop.learn.lower(state, played, agent=agent),
  ]
  whole = loop.train_step.lower(state, agent=agent, batch=batch, num_steps=num_steps)
  flops, *parts = (one.compile().cost_analysis()["flops"] for one in (whole, *apart))
  num_weights = sum(x.size for x in jax.tree.leaves(params[0]) if x.ndim == 2)
  # A scan's flops are counted once. Acting at the last step is added, and the update's forward pass is spared.
  spared = 2 * num_worlds * (num_steps + 1) * num_weights
  added = 2 * num_worlds * num_weights
  assert sum(parts) + added - flops > 0.8 * spared


def test_devices_do_not_gather_each_others_pictures(monkeypatch):
  monkeypatch.undo()  # Pong itself.
  config = pong_soup.get_config("laptop")
  config.train.update({"num_worlds": 20, "num_steps": 20})  # More than one convolution takes at once.
  config.train.hyper.update({"epochs": 1, "minibatches": 1})
  member = run.Member(config, None, learn.make(config))
  batch, layout = run._batch(member.task, 20), devices.lay_out(1, 20)
  state = devices.place(run._init(member, batch), layout)
  options = {"agent": member.task.agent, "batch": batch, "num_steps": 20, "mesh": layout.mesh}
  program = devices.train_step.lower(state, **options).compile().as_text()
  assert layout.mesh.size == 2 and "all-reduce(" in program
  assert "all-gather(" not in program and "all-to-all(" not in program


def test_idle_devices_are_said_and_an_idle_process_is_refused(monkeypatch, capsys):
  devices.lay_out(1, 3)
  line = "1 of 2 devices can share out a run of train.num_worlds=3; a multiple of 2 would occupy all"
  assert capsys.readouterr().err == f"warning: {line}\n"
  assert devices.lay_out(1, 4, is_split=False).mesh.size == 1
  assert "its worlds call the host, from one device alone" in capsys.readouterr().err
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(ValueError, match=f"^{line}, and every process must have something to do"):
    devices.lay_out(1, 3)


class CallsHost(worlds.CueRecall):
  """Its rewards come from Python, as physics on a CPU does."""

  calls_host = True

  def reward(self, state, action):
    own = super().reward(state, action)
    return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct((), np.float32), own, vmap_method="expand_dims")


@pytest.mark.parametrize("num_runs", [0, 2, 3])
def test_worlds_that_call_the_host_learn_what_others_do(tmp_path, monkeypatch, num_runs):
  """Alone and in sweeps, with and without a device left over."""
  config = run_test.make_config()
  config.train.update({"steps": 60, "evaluate_every": 0, "evaluation_episodes": 0})
  if num_runs:
    config.sweep = base.sweep(num_runs=num_runs, top=1, sampled=())
  expected = run.run(config, tmp_path / "expected").state.trainable
  monkeypatch.setattr(registry, "make", lambda name, **options: CallsHost())
  found = run.run(config, tmp_path / "found").state.trainable
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), expected, found)


@pytest.mark.parametrize(
  "hyper",
  [{}, {"reduction": "sum", "optimizer": "rmsprop", "epsilon": 0.1}, {"epochs": 3, "minibatches": 2}],
  ids=["mean", "sum", "passes"],
)
def test_two_devices_learn_what_one_does(hyper):
  both = devices.lay_out(1, 4)
  (alone, one), (shared, two) = (learned(layout, 1, **hyper) for layout in (ONE_DEVICE, both))
  held = [[shard.data.shape[0] for shard in leaf.addressable_shards] for leaf in jax.tree.leaves(shared.batch_state)]
  assert held == [[2, 2]] * len(held) and len(held) > 3
  assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves((shared.trainable, two)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone.trainable, shared.trainable)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), one, two)
  later = [learned(layout, 20, **hyper) for layout in (ONE_DEVICE, both)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), *(state.trainable for state, _ in later))
  assert later[0][0].progress.episode_length.tolist() == later[1][0].progress.episode_length.tolist()


def test_the_same_devices_give_the_same_bits_twice():
  both = devices.lay_out(1, 4)
  first, second = (learned(both, 10)[0].trainable for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_run_resumes_on_another_number_of_devices(tmp_path, monkeypatch):
  config = run_test.make_config()
  expected = run.run(config, tmp_path / "whole").state
  config.train.steps = 300
  run.run(config, tmp_path / "broken")
  config.train.steps = 600
  monkeypatch.setattr(devices, "lay_out", lambda *arguments, **options: ONE_DEVICE)
  found = run.run(config, tmp_path / "broken").state
  assert len(found.step.sharding.device_set) == 1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), expected.trainable, found.trainable)


def test_padding_runs_are_removed_on_the_host():
  """A slice on the devices is a gather for every leaf, and such gathers have blocked each other."""
  member = run.Member(run_test.make_config(), None, None)
  members = [member._replace(task=learn.make(member.config)) for _ in range(3)]
  batch = run._batch(members[0].task, 4)
  stacked = devices.stack([run._init(one, batch) for one in members])
  placed = devices.place(stacked, devices.Layout(devices.make_mesh(jax.devices()[:2], along_runs=2), 2))
  assert {len(leaf) for leaf in jax.tree.leaves(placed)} == {4}
  cut = devices.unfilled(placed, 3)
  arrays = [leaf for leaf in jax.tree.leaves(cut) if not checkpoint.is_key(leaf)]
  assert arrays and all(type(leaf) is np.ndarray for leaf in arrays)
  chex.assert_trees_all_equal(*(checkpoint.flatten(state) for state in (cut, stacked)))
