"""Who plays ahead of the learner does so by an exact rule, and its end is the learner's."""

import contextlib
import dataclasses
import random
import threading
import time

import dm_env
import jax
import numpy as np
import pytest

from agents import actor_critic, trajectory, unroll
from experiments.running import actors, loop
from experiments.store import checkpoint
from progressive import partition
from tests.agents import agents_for_tests, worlds

WORLD = worlds.CueRecall()  # What the agent is made for.
NUM_WORLDS, NUM_STEPS, NUM_UPDATES = 2, 3, 5


class Fitful:
  """A world of 4 steps, action 1 worth 1, that now and then takes its time and may break down in step `breaks_at`."""

  def __init__(self, seed, *, breaks_at=None):
    self.luck = np.random.default_rng(seed)
    self.num_steps, self.breaks_at, self.broke_at_s = 0, breaks_at, None

  def reset(self):
    return dm_env.restart(self.observation())

  def step(self, action):
    time.sleep(random.choice([0.0, 0.0, 0.02]))  # Another luck in each process, and in each test.
    self.num_steps += 1
    if self.num_steps == self.breaks_at:
      self.broke_at_s = time.monotonic()
      raise RuntimeError("out of order")
    if self.num_steps % 5 == 0:
      return self.reset()
    end = dm_env.termination if self.num_steps % 5 == 4 else dm_env.transition
    return end(float(action[0]), self.observation())

  def observation(self):
    return {"signal": self.luck.random(WORLD.size, np.float32)}


@pytest.fixture(scope="module")
def learner():
  """An agent whose learning rate is such that every update changes what is played; its first state."""
  agent, *params = agents_for_tests.make(WORLD, correction="vtrace", learning_rate=0.1)
  return agent, loop.init(agent, *params, jax.random.key(0), num_worlds=NUM_WORLDS)


def start(learner, environments, *, lag):
  until_step = NUM_UPDATES * NUM_STEPS * NUM_WORLDS
  agent, state = learner
  return actors.behind_dm_env(
    state, agent=agent, environments=environments, num_steps=NUM_STEPS, until_step=until_step, lag=lag
  )


def by_hand(learner, lag):
  """The last state, without threads: unroll k is played with the parameters after max(0, k - lag) updates."""
  agent, state = learner
  environments = [Fitful(seed) for seed in range(NUM_WORLDS)]
  carry = unroll.host_init(agent, environments), actor_critic.initial_state(agent, NUM_WORLDS)
  state = dataclasses.replace(state, progress=trajectory.init_progress(NUM_WORLDS))
  after = [state]
  for k in range(NUM_UPDATES):
    key, act_key = jax.random.split(after[-1].key)
    plays = after[max(0, k - lag)]
    *carry, played = unroll.host_unroll(agent, plays.trainable, plays.frozen, environments, *carry, act_key, NUM_STEPS)
    state = dataclasses.replace(after[-1], key=key, recurrent_state=carry[1])
    after.append(loop.learn(state, played, agent=agent)[0])
  return content(after[-1])


def content(state):
  return partition.content_hash(checkpoint.flatten(state))


def is_acting():
  return any(thread.name.startswith("actor") for thread in threading.enumerate())


def test_the_lag_is_exact_whatever_takes_how_long(learner):
  expected = [by_hand(learner, lag) for lag in (0, 1, 2)]
  assert len(set(expected)) == 3
  for lag in (0, 1, 1, 2):
    environments = [Fitful(seed) for seed in range(NUM_WORLDS)]
    states = []
    for state, _ in start(learner, environments, lag=lag):
      time.sleep(random.choice([0.0, 0.02]))
      states.append(state)
    assert content(states[-1]) == expected[lag]
    assert [one.num_steps for one in environments] == [NUM_UPDATES * NUM_STEPS] * NUM_WORLDS
    assert not is_acting()


@pytest.mark.parametrize("lag", [0, 1])
def test_a_world_that_breaks_down_is_named_at_once(learner, lag):
  environments = [Fitful(0), Fitful(1, breaks_at=NUM_STEPS + 1)]
  with pytest.raises(RuntimeError, match="out of order") as raised:
    for _ in start(learner, environments, lag=lag):
      pass
  assert time.monotonic() - environments[1].broke_at_s < 5
  assert raised.value.__notes__ == ["raised by world 1 of 0 to 1"]
  assert not is_acting()


def test_who_stops_learning_stops_the_actor(learner):
  environments = [Fitful(seed) for seed in range(NUM_WORLDS)]
  with contextlib.closing(start(learner, environments, lag=1)) as updates:
    next(updates)
    assert is_acting()
  assert not is_acting()
  assert environments[0].num_steps <= 2 * NUM_STEPS
