"""What is learned from recorded steps before the first step of a run."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest

from agents import actor_critic, auxiliary, unroll
from environments import dm_env_adapter
from environments.arm import replay
from experiments.configs import base
from experiments.running import rehearsal
from experiments.setup import learn, place
from experiments.store import released
from progressive import partition
from tests.agents import worlds
from tests.environments import arm_recordings


def make_config(folder):
  train = base.phase(
    column=base.column(inputs=("target",), conv=(), dense=(8,), lstm=()),
    auxiliary={"where": base.head("target", "dense1", 1.0)},
    steps=100,
    num_worlds=1,
    num_steps=10,
    evaluate_every=0,
    save_every=0,
    evaluation_episodes=0,
    learning_rate=1e-2,
  )
  return base.experiment(world="environments.arm.replay:Replay", world_options={"path": str(folder)}, train=train)


def on(task, folder):
  """Logits and mean losses of the value and the head on a recording, by programs that are compiled already."""
  agent = task.agent.replace(learns_policy=False)
  environment, split = replay.Replay(str(folder), ["target"]), partition.split(task.params, task.is_trainable)
  timestep, state = unroll.host_init(agent, [environment]), actor_critic.initial_state(agent, 1)
  logits, seen = [], []
  for key in jax.random.split(jax.random.key(1), 10):
    logits.append(actor_critic.act(task.agent, *split, state, timestep, key).activations[-1]["output"][0, :-1])
    timestep, state, played = unroll.host_unroll(task.agent, *split, [environment], timestep, state, key, 10)
    metrics = actor_critic.update(agent, *split, actor_critic.init(agent, split[0]), played)[2]
    seen.append((metrics["value_loss"], metrics["auxiliary_target_from_dense1"]))
  return np.array(logits), *np.mean(seen, axis=0)


def test_recorded_steps_teach_value_and_heads_and_leave_the_policy(tmp_path, capsys):
  """Measured on recorded steps that were not learned from, for a new column after an older one."""
  heard, held_out = (
    arm_recordings.write(tmp_path / str(seed), arm_recordings.items(num_episodes=30, seed=seed)) for seed in (0, 1)
  )
  config = make_config(heard)
  first = learn.make(config)
  config.method = "progressive"
  source = released.Source(first.agent.spec, auxiliary.without(first.params), 0, reward_scale=1.0)
  task = learn.make(config, source=source)
  world = rehearsal.recording(task, str(heard))
  # One recorded world cannot be split into minibatches.
  hyper = dataclasses.replace(task.agent.hyper, epochs=2, minibatches=2)
  several = task._replace(agent=dataclasses.replace(task.agent, hyper=hyper))
  after = rehearsal.rehearsed(several, world, jax.random.key(0), num_updates=60, num_steps=10)._replace(
    agent=task.agent
  )
  assert capsys.readouterr().out.count("recorded steps: ") == 2

  (logits, value, head), (logits_after, value_after, head_after) = (on(one, held_out) for one in (task, after))
  assert value_after < 0.8 * value and head_after < 0.5 * head
  np.testing.assert_array_equal(logits_after, logits)
  assert partition.content_hash(after.params[:1]) == partition.content_hash(task.params[:1])
  assert not np.array_equal(after.params[1]["dense1"]["kernel"], task.params[1]["dense1"]["kernel"])


def test_a_policy_learns_from_recorded_steps_what_its_teacher_would_do(tmp_path, monkeypatch):
  """Measured in nats on recorded steps not learned from. A made-up arm's simulation shows what the arm shows."""
  monkeypatch.setattr(replay.Replay, "simulated", lambda self, observation: observation)
  heard, held_out = (
    str(arm_recordings.write(tmp_path / str(seed), arm_recordings.items(num_episodes=30, seed=seed))) for seed in (0, 1)
  )
  config = make_config(heard)
  first, teacher = learn.make(config), str(tmp_path / "teacher")
  kernel = np.random.default_rng(0).normal(size=first.params[0]["output"]["kernel"].shape).astype(np.float32)
  params = ({**auxiliary.without(first.params)[0], "output": {**first.params[0]["output"], "kernel": kernel}},)
  released.save(teacher, first.agent.spec, params, evaluation={}, provenance={"reward_scale": 1.0})
  config.train.update({"teacher": teacher, "auxiliary": {}})
  config.seed = 1
  task = learn.make(config)

  def apart(task):
    world, split = rehearsal.recording(task, held_out, teacher=teacher), partition.split(task.params, task.is_trainable)
    state, begun = actor_critic.initial_state(task.agent, 1), unroll.host_init(task.agent, [world])
    played = unroll.host_unroll(task.agent, *split, [world], begun, state, jax.random.key(1), 100)[2]
    return actor_critic.update(task.agent, *split, actor_critic.init(task.agent, split[0]), played)[2][
      "auxiliary_teacher"
    ]

  world = rehearsal.recording(task, heard, teacher=teacher)
  after = rehearsal.rehearsed(task, world, jax.random.key(0), num_updates=60, num_steps=10)
  assert apart(after) < 0.3 * apart(task)


def test_a_recording_of_another_arm_is_refused(tmp_path):
  folder = arm_recordings.write(tmp_path, arm_recordings.items())
  task = learn.make(make_config(folder))
  fewer = task._replace(agent=task.agent.replace(num_choices=(3, 3)))
  with pytest.raises(ValueError, match=r"is of actions \(3, 3, 3\), .* has \(3, 3\); name a recording of the same"):
    rehearsal.recording(fewer, str(folder))
  with pytest.raises(ValueError, match="there is no recording"):
    rehearsal.recording(task, str(tmp_path / "nowhere"))


def test_a_recording_of_another_task_is_refused(tmp_path):
  """This holds where an arm's task is learned. Steps of another world may be of any task."""
  folder = arm_recordings.write(tmp_path / "random", arm_recordings.items())
  other = arm_recordings.write(tmp_path / "fixed", arm_recordings.items(), task="reach/fixed")
  task = learn.make(make_config(folder))
  with pytest.raises(
    ValueError, match="fixed is of reach/fixed, .*Replay plays reach/random; name a recording of reach"
  ):
    rehearsal.recording(task, str(other))
  for name, is_refused in (("jaco/reach/random", True), ("jaco/reach/fixed", False), ("own", False)):
    elsewhere = task._replace(place=place.Host(name, dm_env_adapter.DmEnv(worlds.CueRecall(), seed=0)))
    with pytest.raises(ValueError, match="plays reach/random") if is_refused else contextlib.nullcontext():
      rehearsal.recording(elsewhere, str(other))
