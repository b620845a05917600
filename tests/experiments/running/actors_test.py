"""Actors play ahead of the learner by an exact rule, and end when the learner ends."""

import contextlib
import dataclasses
import functools
import random
import threading
import time

import dm_env
import jax
import numpy as np
import pytest

from agents import actor_critic, distributions, heads, trajectory, unroll
from experiments.running import actors, loop, stop
from experiments.store import checkpoint
from progressive import partition
from tests.agents import agents_for_tests, worlds

WORLD = worlds.CueRecall()  # The agent's world.
NUM_WORLDS, NUM_STEPS, NUM_UPDATES = 2, 3, 5


class Fitful:
  """A world of 4 steps, where action 1 earns 1. It is sometimes slow, and may break down in step `breaks_at`."""

  def __init__(self, seed, *, breaks_at=None):
    self.luck = np.random.default_rng(seed)
    self.num_steps, self.breaks_at, self.broke_at_s = 0, breaks_at, None

  def reset(self):
    return dm_env.restart(self.observation())

  def step(self, action):
    time.sleep(random.choice([0.0, 0.0, 0.02]))  # Different in each process, and in each test.
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
  """An agent whose learning rate lets every update change what is played, and its first state."""
  agent, *params = agents_for_tests.make(WORLD, correction="vtrace", learning_rate=0.1)
  return agent, loop.init(agent, *params, jax.random.key(0), num_worlds=NUM_WORLDS)


def test_a_long_record_is_cut_short_where_the_program_is_asked_to_stop(learner, monkeypatch):
  """The signal comes while the third update of twenty is under way."""
  _, first = learner
  begun = []

  def train(state):
    begun.append(1)
    metrics = {"loss": np.float32(0), "gradient_norm": np.float32(1), "clipped": np.float32(0)}
    episodes = trajectory.EpisodeStatistics(*[np.float32(0) for _ in trajectory.EpisodeStatistics._fields])
    return dataclasses.replace(state, step=state.step + 6), metrics, episodes

  monkeypatch.setattr(stop, "asked", lambda: len(begun) >= 3)
  updates = actors.in_batch(first, train, steps_per_update=6, until_step=600, updates_per_record=20)
  state, records = next(updates)
  assert (len(begun), loop.step_of(state), records[0].step) == (3, 18, 18)


class Gated(Fitful):
  """A world whose steps wait for `gate`. It keeps its actions."""

  def __init__(self, seed):
    super().__init__(seed)
    self.gate, self.actions = threading.Semaphore(0), []

  def until_due(self, step):
    """Returns when step `step`, counted from 1, waits for `gate`."""
    wait_for(lambda: len(self.actions) == step)

  def step(self, action):
    self.actions.append(int(action[0]))
    self.gate.acquire()
    return super().step(action)


def start(learner, environments, *, num_updates=NUM_UPDATES, **mode):
  agent, state = learner
  until_step = num_updates * NUM_STEPS * len(environments)
  return actors.behind_dm_env(
    state, agent=agent, environments=environments, num_steps=NUM_STEPS, until_step=until_step, **mode
  )


def wait_for(is_so):
  """Fails if `is_so` is not true within 30 s."""
  until_s = time.monotonic() + 30
  while not is_so():
    assert time.monotonic() < until_s
    time.sleep(0.01)


def by_hand(learner, lag):
  """The last state, computed without threads: the parameters after max(0, k - lag) updates play unroll k."""
  agent, state = learner
  environments = [Fitful(seed) for seed in range(NUM_WORLDS)]
  carry = unroll.host_init(agent, environments), actor_critic.initial_state(agent, NUM_WORLDS)
  state = dataclasses.replace(state, progress=trajectory.init_progress(NUM_WORLDS))
  after = [state]
  for k in range(NUM_UPDATES):
    key, act_key = jax.random.split(after[-1].key)
    plays = after[max(0, k - lag)]
    *carry, played = unroll.host_unroll(
      agent, plays.trainable, plays.frozen, environments, *carry, act_key, NUM_STEPS, keeps_activations=True
    )
    if lag:  # The whole network is trainable.
      played = dataclasses.replace(played, activations=())
    state = dataclasses.replace(after[-1], key=key, recurrent_state=carry[1])
    after.append(loop.learn(state, played, agent=agent)[0])
  return content(after[-1])


def content(state):
  return partition.content_hash(checkpoint.flatten(state))


def is_acting():
  return any(thread.name.startswith("actor") for thread in threading.enumerate())


def test_the_lag_is_exact_for_any_timing(learner):
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


@pytest.mark.parametrize("mode", [{"lag": 0}, {"lag": 1}, {"free_running": True}])
def test_the_learner_reuses_activations_of_acting_that_are_still_valid(mode, monkeypatch):
  """It gets all activations without a lag, only the frozen column's with one, and none in a replay."""
  agent, *params = agents_for_tests.make_progressive(WORLD, correction="vtrace", learning_rate=0.1)
  first = loop.init(agent, *params, jax.random.key(0), num_worlds=NUM_WORLDS)
  learn, learn_again, learned = loop.learn, loop.learn_again, {False: [], True: []}

  def spy(learn, is_replay, state, played, **rest):
    if isinstance(state.step, jax.core.Tracer):  # `learn` is being compiled.
      return learn(state, played, **rest)
    names = [set(one) for one in played.activations]
    learned[is_replay].append(names)
    if names:
      params = partition.merge(state.trainable, state.frozen)
      activations, _ = actor_critic.apply(agent, params, played.timesteps, played.initial_state)
      for own, expected in zip(played.activations, activations, strict=True):
        for name, x in own.items():
          np.testing.assert_allclose(x, expected[name], atol=1e-6, err_msg=name)
    return learn(state, played, **rest)

  monkeypatch.setattr(loop, "learn", functools.partial(spy, learn, False))
  monkeypatch.setattr(loop, "learn_again", functools.partial(spy, learn_again, True))
  list(start((agent, first), [Fitful(0), Fitful(1)], replay_updates=1, replay_size=2, **mode))
  every = {"hidden", "memory", "output"}
  expected = [] if "free_running" in mode else [every, set() if mode["lag"] else every]
  assert learned[False][-NUM_UPDATES:] == [expected] * NUM_UPDATES
  assert learned[True][-NUM_UPDATES:] == [[]] * NUM_UPDATES


@pytest.mark.parametrize(
  "mode",
  [
    {"lag": 0},
    {"lag": 1},
    {"lag": 1, "replay_updates": 10**9},
    {"free_running": True},
    {"free_running": True, "replay_updates": 10**9},
  ],
)
def test_a_world_that_breaks_down_is_named_at_once(learner, mode):
  environments = [Fitful(0), Fitful(1, breaks_at=NUM_STEPS + 1)]
  with pytest.raises(RuntimeError, match="out of order") as raised:
    for _ in start(learner, environments, num_updates=1000, **mode):
      pass
  assert time.monotonic() - environments[1].broke_at_s < 5
  assert raised.value.__notes__ == ["raised by world 1 of 0 to 1"]
  assert not is_acting()


@pytest.mark.parametrize("mode", [{"lag": 1}, {"free_running": True}])
def test_stopping_the_learner_stops_the_actors(learner, mode):
  environments = [Fitful(seed) for seed in range(NUM_WORLDS)]
  with contextlib.closing(start(learner, environments, **mode)) as updates:
    next(updates)
    assert is_acting()
  assert not is_acting()
  assert "lag" not in mode or environments[0].num_steps <= 2 * NUM_STEPS
  before = [one.num_steps for one in environments]
  time.sleep(0.1)
  assert [one.num_steps for one in environments] == before


def test_a_free_running_world_never_waits_for_the_learner(learner):
  environments = [Fitful(seed) for seed in range(NUM_WORLDS)]
  for _ in start(learner, environments, free_running=True):
    before = [one.num_steps for one in environments]
    if is_acting():  # No actor plays any more when the last state is yielded.
      wait_for(lambda before=before: all(now.num_steps > b + 20 for now, b in zip(environments, before, strict=True)))
  assert not is_acting()


def test_a_slow_world_stops_no_free_running_one(learner):
  slow = Gated(0)
  updates = start(learner, [slow, Fitful(1)], free_running=True)
  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.closing(updates))
    stack.callback(slow.gate.release, 1000)  # Closing waits for the step under way.
    states = [next(updates)[0] for _ in range(NUM_UPDATES - 1)]
  assert int(states[-1].step) == (NUM_UPDATES - 1) * NUM_STEPS * NUM_WORLDS


@pytest.mark.parametrize("replay_updates", [0, 2])
def test_free_running_by_hand(learner, replay_updates, monkeypatch):
  """One world's unrolls of 3 steps, of which two may wait. Episodes end in steps 4, 9, 14; action 1 earns 1."""
  agent, state = learner
  world, seen, learn = Gated(0), [], loop.learn
  monkeypatch.setattr(loop, "learn", lambda state, played, **rest: seen.append(played) or learn(state, played, **rest))
  modes = {"free_running": True, "replay_updates": replay_updates, "replay_size": 10}
  updates = start((agent, state), [world], **modes)
  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.closing(updates))
    stack.callback(world.gate.release, 1000)
    world.gate.release(3)
    after = [next(updates)]  # From unroll 0, with the first parameters.
    world.until_due(4)  # Chance decides with which parameters step 4 was chosen.
    world.gate.release(15)
    world.until_due(19)  # Unrolls 4 and 5 wait, 1 to 3 are dropped.
    after += [next(updates), next(updates)]  # From unroll 4, with the newest parameters, then from 5, with the same.
    world.gate.release(3)
    after += [next(updates)]  # From 6: the same parameters chose its first step, the newest chose the others.
  num_each = 1 + replay_updates
  metrics = [one.metrics for _, records in after for one in records if one.kind == "train"]
  assert [one["staleness"] for one in metrics] == pytest.approx([0, 0, num_each, 2 * num_each / 3])
  assert [one["dropped_steps"] for one in metrics] == [0, 9, 0, 0]
  assert [int(one.step) for one, _ in after] == [3, 6, 9, 12]  # Steps that were learned from.

  # The episode of steps 11 to 14 began in a dropped unroll. 14 is the second step of the second unroll learned from.
  episodes = [(one.step, one.metrics) for _, records in after for one in records if one.kind == "episode"]
  expected = [(5, sum(world.actions[10:14])), (10, sum(world.actions[15:19]))]
  assert episodes == [(step, {"return": returned, "length": 4}) for step, returned in expected]

  # The first update's policy chose each action of unrolls 4 and 5.
  _, unroll_0, *later, _ = seen  # Before the first step an update on zeros compiles everything.
  assert [one.actions.ravel().tolist() for one in (unroll_0, *later)] == [
    world.actions[begin : begin + 3] for begin in (0, 12, 15)
  ]
  for played in later:
    params = partition.merge(after[0][0].trainable, state.frozen)
    (*_, activations), _ = actor_critic.apply(agent, params, played.timesteps, played.initial_state)
    logits, _ = heads.split(activations["output"][:-1], agent.num_choices)
    expected = distributions.log_prob(logits, played.actions)
    np.testing.assert_allclose(played.behaviour_log_prob, expected, rtol=1e-5)
  np.testing.assert_array_equal(
    later[0].timesteps.observation["signal"][-1], later[1].timesteps.observation["signal"][0]
  )


def test_no_world_is_played_with_nan_parameters(learner, monkeypatch):
  learn, host_unroll, played_with = loop.learn, unroll.host_unroll, []

  def spoil(state, played, **rest):
    state, metrics, ends = learn(state, played, **rest)
    nan = jax.tree.map(lambda x: x * np.float32(np.nan), (state.trainable, metrics["gradient_norm"]))
    return dataclasses.replace(state, trainable=nan[0]), {**metrics, "gradient_norm": nan[1]}, ends

  def spy(agent, trainable, *rest, **how):
    played_with.append(jax.tree.leaves(trainable))
    return host_unroll(agent, trainable, *rest, **how)

  def go_on(ends):
    before = len(played_with)
    wait_for(lambda: len(played_with) > before + 10)
    return device_get(ends)

  device_get = jax.device_get
  monkeypatch.setattr(loop, "learn", spoil)
  monkeypatch.setattr(unroll, "host_unroll", spy)
  monkeypatch.setattr(jax, "device_get", go_on)  # Called after the parameters were offered.
  with pytest.raises(FloatingPointError):
    next(start(learner, [Fitful(0)], free_running=True))
  assert all(np.isfinite(leaf).all() for leaves in played_with for leaf in leaves)


@pytest.mark.parametrize("lag", [0, 1])
def test_no_unroll_is_requested_after_replay_gives_nan(learner, lag, monkeypatch):
  learn_again, host_unroll, played_with = loop.learn_again, unroll.host_unroll, []

  def spoil(state, played, **rest):
    state, metrics = learn_again(state, played, **rest)
    if isinstance(state.step, jax.core.Tracer):  # Leaves what `learn` compiles unchanged for other tests.
      return state, metrics
    nan = jax.tree.map(lambda x: x * np.float32(np.nan), (state.trainable, metrics["gradient_norm"]))
    return dataclasses.replace(state, trainable=nan[0]), {**metrics, "gradient_norm": nan[1]}

  def spy(agent, trainable, *rest, **how):
    played_with.append(jax.tree.leaves(trainable))
    return host_unroll(agent, trainable, *rest, **how)

  monkeypatch.setattr(loop, "learn_again", spoil)
  monkeypatch.setattr(unroll, "host_unroll", spy)
  with pytest.raises(FloatingPointError, match=f"at step {NUM_STEPS}; lower the learning rate"):
    list(start(learner, [Fitful(0)], lag=lag, replay_updates=2, replay_size=10))
  assert len(played_with) == lag + 1 and all(np.isfinite(leaf).all() for leaves in played_with for leaf in leaves)


def test_an_episode_that_a_column_was_fitted_in_counts_whole(learner):
  fitted = {"fit": lambda state, played: state, "num_to_fit": 3}
  for mode in ({"lag": 0}, {"free_running": True}):
    records = [record for _, records in start(learner, [Fitful(0)], **fitted, **mode) for record in records]
    lengths = [record.metrics["length"] for record in records if record.kind == "episode"]
    assert len(lengths) > 1 and set(lengths) == {4.0}
