"""Who plays: worlds in JAX inside the jit, environments behind `dm_env` step by step on the host.

Each is a generator of `(state, records)` for `loop.consume`, around the same act and the same `loop.learn`. On the
host, threads may play the next unrolls while the learner learns from the last. They play either with a lag that is
always the same, so that a run can be repeated to the bit, or free-running, so that no world ever waits.
"""

import collections
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import dm_env
import jax
import numpy as np

from agents import actor_critic, trajectory, unroll
from environments import core
from experiments.running import hosts, loop, stop

TrainStep = Callable[[loop.TrainState], tuple[loop.TrainState, actor_critic.Metrics, trajectory.EpisodeStatistics]]
Updates = Generator[tuple[loop.TrainState, list[loop.Record]], None, None]


def in_batch(
  state: loop.TrainState, train: TrainStep, *, steps_per_update: int, until_step: int, updates_per_record: int
) -> Updates:
  """Trains in worlds in JAX: one 'train' record per run and `updates_per_record` updates. Yielded states are donated.

  A program of one process that is asked to stop yields a record of fewer updates.

  Args:
    state: of one run, or of N runs side by side.
    train: `loop.train_step` of the same.
    steps_per_update: agent steps of one run in one update.
    until_step: of each run.
    updates_per_record: updates of one record: it has their episodes and share of clipped gradients, and all else of the
      last one.
  """
  while (step := loop.step_of(state)) < until_step:
    started = time.monotonic()
    results: list[tuple[actor_critic.Metrics, trajectory.EpisodeStatistics]] = []
    for _ in range(min(updates_per_record, -(-(until_step - step) // steps_per_update))):
      if results and hosts.is_alone() and stop.asked():
        break
      state, metrics, episodes = train(state)
      jax.block_until_ready(results[-1:])  # Otherwise JAX would take in all updates at once, and then do all.
      results.append((metrics, episodes))
    step += len(results) * steps_per_update
    metrics, episodes = jax.device_get(results[-1][0]), jax.device_get([episodes for _, episodes in results])
    metrics["clipped"] = np.mean(jax.device_get([each["clipped"] for each, _ in results]), axis=0)
    rate = {"steps_per_s": len(results) * steps_per_update / (time.monotonic() - started)}
    members = range(len(state.step)) if state.step.ndim else (None,)
    records = []
    for member in members:
      own = [jax.tree.map(lambda x, m=member: x if m is None else x[m], one) for one in (metrics, *episodes)]
      means = {name: float(value) for name, value in own[0].items()} | _episode_means(own[1:])
      records.append(loop.Record(step, "train", means | rate, member))
    loop.refuse_nan(records)
    yield state, records


def behind_dm_env(
  state: loop.TrainState,
  *,
  agent: actor_critic.Agent,
  environments: Sequence[dm_env.Environment],
  num_steps: int,
  until_step: int,
  lag: int = 0,
  free_running: bool = False,
  fit: Callable[[loop.TrainState, trajectory.Trajectory], loop.TrainState] | None = None,
  num_to_fit: int = 0,
  replay_updates: int = 0,
  replay_size: int = 1,
) -> Updates:
  """Trains in B worlds behind `dm_env`: an 'episode' record for each that ends, a 'train' record for each update.

  It begins new episodes, since the worlds' own state is not ours to save. With a `fit`, a run's first `num_to_fit`
  steps of each world are played by the policy that it starts with, and `fit` changes the state by what was seen. After
  each update there are `replay_updates` more, from unrolls drawn at random from the newest `replay_size`.

  With a `lag`, an actor plays in its own thread while the learner learns. It plays unroll k, counted from 0, with the
  parameters after max(0, k - lag) updates, however long anything takes (Cleanba's rule, Huang et al. 2023, is a lag of
  1). Without a lag both take turns in the caller's thread. `free_running` worlds have a thread each and never wait
  (`_FreeRunning`). An error in a world is raised here when its unroll is due or between two replays; if the world runs
  free, after the current update. Nobody plays any more when the last state is yielded.
  """
  kept = collections.deque[trajectory.Trajectory](maxlen=replay_size if replay_updates else 0)
  num_worlds = len(environments)
  recurrent_state = actor_critic.initial_state(agent, num_worlds)
  state = dataclasses.replace(state, recurrent_state=recurrent_state, progress=trajectory.init_progress(num_worlds))
  first_step = loop.step_of(state)
  with contextlib.ExitStack() as stack:
    turns = _InTurns(agent, environments, state, num_steps=num_steps, until_step=until_step, lag=lag)
    if free_running and first_step < until_step:
      _compile(agent, state, *turns.now, num_steps, has_replay=replay_updates > 0)
    actor: _InTurns | _FreeRunning = stack.enter_context(contextlib.closing(turns))
    if fit is not None and first_step == 0:
      taken = turns.play(state, num_to_fit)
      state, ends = loop.count(fit(taken.state, taken.played), taken.played)
      yield state, _episode_records(jax.device_get(ends), first_step)
    if free_running and loop.step_of(state) < until_step:
      free = _FreeRunning(agent, environments, state, turns.now, num_steps=num_steps)
      actor = stack.enter_context(contextlib.closing(free))
    while (first_step := loop.step_of(state)) < until_step:
      started = time.monotonic()
      state, act_key, played, metrics = actor.take(state)
      taken_s = time.monotonic() - started
      state, losses, ends = loop.learn(state, played, agent=agent)
      actor.offer(state, losses)
      kept.append(dataclasses.replace(played, activations=()))  # They are of parameters that keep learning.
      last = losses
      for i in range(replay_updates):
        draw_key = jax.random.fold_in(act_key, num_steps + i)  # The unroll's steps use smaller numbers.
        drawn = kept[int(jax.random.randint(draw_key, (), 0, len(kept)))]
        state, last = loop.learn_again(state, drawn, agent=agent)
        actor.offer(state, last)
        actor.raise_what_ended()
      records = _episode_records(jax.device_get(ends), first_step)
      metrics |= {name: float(value) for name, value in jax.device_get(losses).items()}
      jax.block_until_ready(state)
      update_s = time.monotonic() - started
      metrics["steps_per_s"] = num_steps * num_worlds / update_s
      metrics["learning_share"] = 1.0 - taken_s / update_s
      records.append(loop.Record(first_step + num_steps * num_worlds, "train", metrics))
      loop.refuse_nan([loop.Record(records[-1].step, "train", jax.device_get(last))])  # Before they are played.
      if loop.step_of(state) >= until_step:
        actor.close()
      yield state, records


class _Taken(NamedTuple):
  """What the next update learns from."""

  state: loop.TrainState  # Including what playing changed in it.
  act_key: jax.Array  # The key of the unroll's draws; each step folds its number in.
  played: trajectory.Trajectory
  metrics: dict[str, float]


class _InTurns:
  """Plays unroll after unroll in all worlds, in the order of asking, with parameters that are `lag` updates old."""

  def __init__(
    self,
    agent: actor_critic.Agent,
    environments: Sequence[dm_env.Environment],
    state: loop.TrainState,
    *,
    num_steps: int,
    until_step: int,
    lag: int,
  ):
    """Begins an episode in each environment; without a lag, whoever takes an unroll plays it."""
    self.now = unroll.host_init(agent, environments), actor_critic.initial_state(agent, len(environments))
    self._agent = agent
    self._environments = environments
    self._num_steps, self._until_step, self._lag = num_steps, until_step, lag
    self._key = state.key
    self._asked_until = loop.step_of(state)
    # Each ends with its unroll, or with the error that ended it.
    self._asked = collections.deque[futures.Future[tuple[jax.Array, jax.Array, Any, trajectory.Trajectory]]]()
    self._thread = futures.ThreadPoolExecutor(1, "actor") if lag else None

  def play(self, state: loop.TrainState, num_steps: int) -> _Taken:
    """Plays an unroll with the parameters of `state`, while no other is asked for."""
    self._ask(state, num_steps, keeps_activations=False)
    return self._next(state)

  def take(self, state: loop.TrainState) -> _Taken:
    """The next unroll; unrolls that may be played meanwhile have the parameters of `state`."""
    lasts = not self._lag or bool(jax.tree.leaves(state.frozen))  # If all layers learn, none outlasts a lag.
    while self._asked_until < self._until_step and len(self._asked) <= self._lag:
      self._ask(state, self._num_steps, keeps_activations=lasts)
    return self._next(state)

  def offer(self, state: loop.TrainState, losses: actor_critic.Metrics) -> None:
    """Does nothing: parameters come with each unroll that is asked for."""

  def raise_what_ended(self) -> None:
    """Raises the error that ended an unroll before the unroll is due: a replay may take long."""
    for asked in self._asked:
      if asked.done():
        asked.result()

  def close(self) -> None:
    """Ends the thread, after the unroll that it is playing."""
    if self._thread:
      self._thread.shutdown(cancel_futures=True)

  def _ask(self, state: loop.TrainState, num_steps: int, *, keeps_activations: bool) -> None:
    self._asked_until += num_steps * len(self._environments)
    self._key, act_key = jax.random.split(self._key)
    play = functools.partial(
      self._play, state.trainable, state.frozen, act_key, self._key, num_steps, keeps_activations=keeps_activations
    )
    if self._thread:
      self._asked.append(self._thread.submit(play))
    else:
      self._asked.append(futures.Future())
      self._asked[-1].set_result(play())

  def _next(self, state: loop.TrainState) -> _Taken:
    act_key, key, recurrent_state, played = self._asked.popleft().result()
    return _Taken(dataclasses.replace(state, key=key, recurrent_state=recurrent_state), act_key, played, {})

  def _play(
    self,
    trainable: actor_critic.Params,
    frozen: actor_critic.Params,
    act_key: jax.Array,
    key: jax.Array,
    num_steps: int,
    *,
    keeps_activations: bool,
  ) -> tuple[jax.Array, jax.Array, actor_critic.RecurrentState, trajectory.Trajectory]:
    timestep, recurrent_state, played = unroll.host_unroll(
      self._agent,
      trainable,
      frozen,
      self._environments,
      *self.now,
      act_key,
      num_steps,
      keeps_activations=keeps_activations,
    )
    self.now = timestep, recurrent_state
    if self._lag:  # By then the learner has learned more.
      activations = actor_critic.lasting(self._agent, played.activations, trainable)
      played = dataclasses.replace(played, activations=activations)
    return act_key, key, recurrent_state, played


class _Unroll(NamedTuple):
  """One unroll of one world."""

  played: trajectory.Trajectory  # [T+1, 1, ...]
  recurrent_state: actor_critic.RecurrentState  # After the unroll.
  progress: trajectory.EpisodeProgress  # Of the episode that the unroll begins in.
  updates: list[int]  # For each step, how many updates its parameters had had.


class _FreeRunning:
  """Each world has a thread that never stops playing, takes each step with the newest parameters, and waits for nobody.

  An update uses the B unrolls that were complete first, whichever worlds they are from. A slow world thus has a smaller
  share of them, and does not delay the others. If more than 2 B unrolls wait for a slow learner, the oldest is dropped.
  What is learned therefore depends on timing. V-trace corrects for parameters that changed within an unroll or since.
  """

  def __init__(
    self,
    agent: actor_critic.Agent,
    environments: Sequence[dm_env.Environment],
    state: loop.TrainState,
    now: tuple[core.TimeStep, actor_critic.RecurrentState],
    *,
    num_steps: int,
  ):
    """Continues from `now`, the timestep and recurrent state `[B, ...]`."""
    self._agent, self._environments, self._num_steps = agent, environments, num_steps
    self._newest = state.trainable, state.frozen, 0
    self._key, key = jax.random.split(state.key)
    self._waiting = collections.deque[_Unroll](maxlen=2 * len(environments))
    self._num_dropped = 0
    self._changed = threading.Condition()  # Guards the two above; notifies of a new unroll or an ended thread.
    self._is_over = False
    self._threads = futures.ThreadPoolExecutor(len(environments), "actor")
    self._actors = []
    for world, world_key in enumerate(jax.random.split(key, len(environments))):
      timestep, recurrent_state = jax.tree.map(lambda x, world=world: x[world : world + 1], now)
      progress = jax.tree.map(lambda x, world=world: x[world : world + 1], state.progress)
      self._actors.append(self._threads.submit(self._play, world, timestep, recurrent_state, progress, world_key))
      self._actors[-1].add_done_callback(self._say_that_it_ended)

  def take(self, state: loop.TrainState) -> _Taken:
    """B unrolls, the oldest first; raises the error that ended a world."""
    num_worlds = len(self._environments)
    with self._changed:
      self._changed.wait_for(lambda: self._ended() or len(self._waiting) >= num_worlds)
      self.raise_what_ended()
      taken = [self._waiting.popleft() for _ in range(num_worlds)]
      num_dropped, self._num_dropped = self._num_dropped, 0
    played, recurrent_state, progress, updates = zip(*taken, strict=True)
    metrics = {"staleness": float(self._newest[2] - np.mean(updates)), "dropped_steps": float(num_dropped)}
    self._key, act_key = jax.random.split(self._key)
    recurrent_state, progress = _concatenate(recurrent_state), _concatenate(progress)
    state = dataclasses.replace(state, key=self._key, recurrent_state=recurrent_state, progress=progress)
    initial_state = _concatenate([one.initial_state for one in played])
    joined = _concatenate([dataclasses.replace(one, initial_state=()) for one in played], axis=1)
    return _Taken(state, act_key, dataclasses.replace(joined, initial_state=initial_state), metrics)

  def offer(self, state: loop.TrainState, losses: actor_critic.Metrics) -> None:
    """Gives all worlds the parameters after one more update, once computed; raises the error that ended a world.

    No world plays with parameters that are not finite: they end the run as soon as they are recorded.
    """
    self.raise_what_ended()
    if np.isfinite(losses["gradient_norm"]):
      self._newest = jax.block_until_ready(state.trainable), state.frozen, self._newest[2] + 1

  def close(self) -> None:
    """Ends all threads, each after the step that it is in."""
    self._is_over = True
    self._threads.shutdown()

  def _ended(self) -> list[futures.Future]:
    return [actor for actor in self._actors if actor.done()]

  def raise_what_ended(self) -> None:
    """Raises the error that ended a world."""
    for actor in self._ended():
      actor.result()

  def _say_that_it_ended(self, actor: futures.Future) -> None:
    with self._changed:
      self._changed.notify()

  def _play(
    self,
    world: int,
    timestep: core.TimeStep,
    recurrent_state: actor_critic.RecurrentState,
    progress: trajectory.EpisodeProgress,
    key: jax.Array,
  ) -> None:
    while True:
      key, act_key = jax.random.split(key)
      steps, updates = [], []
      for step_key in jax.random.split(act_key, self._num_steps):
        if self._is_over:
          return
        trainable, frozen, num_updates = self._newest
        try:
          timestep, recurrent_state, step = unroll.host_unroll(
            self._agent,
            trainable,
            frozen,
            self._environments[world : world + 1],
            timestep,
            recurrent_state,
            step_key,
            1,
          )
        except Exception as error:
          if len(self._environments) > 1:
            error.add_note(f"raised by world {world} of 0 to {len(self._environments) - 1}")
          raise
        steps.append(step)
        updates.append(num_updates)
      before = _concatenate([jax.tree.map(lambda x: x[:1], step.timesteps) for step in steps])
      played = trajectory.Trajectory(
        timesteps=_concatenate([before, jax.tree.map(lambda x: x[None], timestep)]),
        actions=_concatenate([step.actions for step in steps]),
        behaviour_log_prob=_concatenate([step.behaviour_log_prob for step in steps]),
        initial_state=steps[0].initial_state,
      )
      with self._changed:
        self._num_dropped += self._num_steps * (len(self._waiting) == self._waiting.maxlen)
        self._waiting.append(_Unroll(played, recurrent_state, progress, updates))
        self._changed.notify()
      progress, _ = _track_episodes(progress, played.timesteps)


_track_episodes = jax.jit(trajectory.track_episodes)


def _compile(
  agent: actor_critic.Agent,
  state: loop.TrainState,
  timestep: core.TimeStep,
  recurrent_state: actor_critic.RecurrentState,
  num_steps: int,
  *,
  has_replay: bool,
) -> None:
  """Acts once in one world and learns once in all, from nothing, so that neither is compiled while time runs."""
  num_worlds = len(timestep.step_type)
  one = jax.tree.map(lambda x: x[:1], (recurrent_state, timestep))
  chosen = actor_critic.act(agent, state.trainable, state.frozen, *one, jax.random.key(0), False)
  played = trajectory.Trajectory(
    timesteps=jax.tree.map(lambda x: np.stack([x] * (num_steps + 1)), timestep),
    actions=np.zeros((num_steps, num_worlds, *chosen.action.shape[1:]), chosen.action.dtype),
    behaviour_log_prob=np.zeros((num_steps, num_worlds), chosen.log_prob.dtype),
    initial_state=recurrent_state,
  )
  _track_episodes(trajectory.init_progress(1), jax.tree.map(lambda x: x[:, :1], played.timesteps))
  jax.block_until_ready(loop.learn(state, played, agent=agent))
  if has_replay:
    jax.block_until_ready(loop.learn_again(state, played, agent=agent))


def _concatenate(trees: Sequence[Any], *, axis: int = 0) -> Any:
  """Trees of arrays as one tree of numpy arrays."""
  return jax.tree.map(lambda *x: np.concatenate(x, axis), *trees)


def _episode_records(ends: trajectory.EpisodeEnds, first_step: int) -> list[loop.Record]:
  """One record for each episode that ended in an unroll `[T, B]` after `first_step`."""
  num_worlds = ends.is_last.shape[1]
  return [
    loop.Record(
      first_step + (int(t) + 1) * num_worlds,
      "episode",
      {"return": float(ends.returns[t, world]), "length": float(ends.lengths[t, world])},
    )
    for t, world in np.argwhere(ends.is_last)
  ]


def _episode_means(episodes: Sequence[trajectory.EpisodeStatistics]) -> dict[str, float]:
  """How many episodes ended, and their mean return and length if any did."""
  count = sum(int(e.num_episodes) for e in episodes)
  if not count:
    return {"episodes": 0.0}
  return {
    "episodes": float(count),
    "return_mean": float(sum(e.return_sum for e in episodes)) / count,
    "length_mean": float(sum(e.length_sum for e in episodes)) / count,
  }
