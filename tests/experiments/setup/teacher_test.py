"""A teacher that sees what the simulation shows."""

import json

import dm_env
import numpy as np
import pytest

from agents import actor_critic
from environments import dm_env_adapter
from experiments.configs import base
from experiments.running import run
from experiments.setup import place, teacher
from experiments.store import released
from progressive import network
from tests.agents import agents_for_tests, worlds


class Odd(dm_env_adapter.DmEnv):
  """A world that shows its signals backwards, while its simulation shows them as they are."""

  def __init__(self, seed=0):
    super().__init__(worlds.CueRecall(), seed=seed)

  def _odd(self, timestep):
    return timestep._replace(observation={"signal": timestep.observation["signal"][::-1]})

  def reset(self) -> dm_env.TimeStep:
    return self._odd(super().reset())

  def step(self, action) -> dm_env.TimeStep:
    return self._odd(super().step(action))

  def simulated(self, observation):
    return {"signal": observation["signal"][::-1]}


@pytest.fixture(scope="module")
def source():
  agent, params, _ = agents_for_tests.make(worlds.CueRecall(), memory=True)
  return released.Source(agent.spec, params, 0, reward_scale=1.0)


def test_a_teacher_says_what_its_network_would_say_of_the_simulated_observation(source):
  odd, plain = Odd(seed=5), dm_env_adapter.DmEnv(worlds.CueRecall(), seed=5)
  (world,) = teacher.taught(place.Host("odd", odd), source).worlds
  timestep, seen = plain.reset(), []
  said = [world.reset().observation[actor_critic.TEACHER]]
  for _ in range(25):
    seen.append(timestep)
    timestep = plain.step(np.zeros(1, np.int32))
    said.append(world.step(np.zeros(1, np.int32)).observation[actor_critic.TEACHER])
  is_first = np.array([t.first() for t in seen])
  assert is_first.sum() > 2
  activations, _ = network.apply(
    source.params,
    source.spec,
    inputs={"signal": np.stack([t.observation["signal"] for t in seen])},
    state=network.initial_state(source.spec),
    is_first=is_first,
  )
  expected = activations[-1]["output"][:, :-1]
  np.testing.assert_allclose(np.stack(said[:-1])[:, 0], expected, atol=1e-5)
  assert np.ptp(expected, axis=0).max() > 1e-3
  assert world.observation_spec()[actor_critic.TEACHER].shape == said[0].shape


def test_a_place_that_knows_no_simulation_is_refused(source):
  for world in (
    place.make("jaco/reach/fixed", {}),
    place.Host("own", dm_env_adapter.DmEnv(worlds.CueRecall(), seed=0)),
  ):
    with pytest.raises(ValueError, match=f"train.teacher: {world.name} cannot say what its simulation shows; learn on"):
      teacher.taught(world, source)


def test_a_teacher_of_another_action_is_refused(source):
  agent, params, _ = agents_for_tests.make(worlds.Bandit(), memory=False)
  with pytest.raises(ValueError, match="train.teacher: .* other inputs or joints than odd has: the network reads"):
    teacher.taught(place.Host("odd", Odd()), released.Source(agent.spec, params, 0))
  with pytest.raises(ValueError, match="train.teacher: nowhere does not exist"):
    teacher.load("nowhere")


def test_a_run_learns_what_its_teacher_does(source, tmp_path, monkeypatch):
  """Measured in nats between both policies. Without a cost the run stays as far from the teacher as it began."""
  worlds.serve(monkeypatch, lambda name, *, seed=0, **_: Odd(seed or 0))
  *rest, last = source.params
  kernel = np.random.default_rng(0).normal(0.0, 3.0, last["output"]["kernel"].shape).astype(np.float32)
  sure = {**last, "output": {**last["output"], "kernel": kernel}}
  released.save(tmp_path / "teacher", source.spec, (*rest, sure), evaluation={}, provenance={"reward_scale": 1.0})
  train = base.phase(
    column=base.column(inputs=("signal",), conv=(), dense=(16,), lstm=(16,)),
    steps=4_000,
    num_worlds=1,
    num_steps=20,
    evaluate_every=0,
    save_every=0,
    evaluation_episodes=0,
    teacher=str(tmp_path / "teacher"),
    learning_rate=3e-3,
  )
  apart = {}
  for cost in (0.0, 10.0):
    config = base.experiment(world="odd", train=train)
    config.train.hyper.teacher_cost = cost
    run.run(config, tmp_path / str(cost))
    records = map(json.loads, (tmp_path / str(cost) / "metrics.jsonl").read_text().splitlines())
    seen = [record["auxiliary_teacher"] for record in records if record["kind"] == "train"]
    apart[cost] = np.mean(seen[:10]), np.mean(seen[-10:])
  assert apart[10.0][1] < 0.2 * apart[10.0][0] and apart[0.0][1] > 0.5 * apart[0.0][0]
