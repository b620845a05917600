"""Who plays: worlds in JAX inside the jit, environments behind `dm_env` step by step on the host.

Either is a generator of `(state, records)` for `loop.consume`, around the same act and the same `loop.learn`. On the
host an actor may play the next unrolls in a thread of its own while the learner learns from the last.
"""

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Sequence
from concurrent import futures
from typing import NamedTuple

import dm_env
import jax
import numpy as np

from agents import actor_critic, trajectory, unroll
from experiments.running import loop

TrainStep = Callable[[loop.TrainState], tuple[loop.TrainState, actor_critic.Metrics, trajectory.EpisodeStatistics]]
Updates = Generator[tuple[loop.TrainState, list[loop.Record]], None, None]


def in_batch(
  state: loop.TrainState, train: TrainStep, *, steps_per_update: int, until_step: int, updates_per_record: int
) -> Updates:
  """Trains in worlds in JAX; one 'train' record a run every `updates_per_record` updates. Yielded states are donated.

  Args:
    state: of one run, or of N runs side by side.
    train: `loop.train_step` of the same.
    steps_per_update: agent steps of one run in one update.
    until_step: of each run.
    updates_per_record: updates of one record: their episodes and share of clipped gradients, all else of the last.
  """
  while (step := loop.step_of(state)) < until_step:
    started = time.monotonic()
    results = []
    for _ in range(min(updates_per_record, -(-(until_step - step) // steps_per_update))):
      state, metrics, episodes = train(state)
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
  fit: Callable[[loop.TrainState, trajectory.Trajectory], loop.TrainState] | None = None,
  num_to_fit: int = 0,
  replay_updates: int = 0,
  replay_size: int = 1,
) -> Updates:
  """Trains in B worlds behind `dm_env`: an 'episode' record for each that ends, a 'train' record for each update.

  Begins new episodes: the worlds' own state is not ours to save. Where there is a `fit`, a run's first `num_to_fit`
  steps of each world are played by the policy that it starts with, and `fit` changes the state by what was seen. After
  each update come `replay_updates` from unrolls drawn at random of the newest `replay_size`.

  With a `lag` an actor plays in a thread of its own while the learner learns: unroll k, from 0, with the parameters
  after max(0, k - lag) updates, however long anything takes (Cleanba's rule, Huang et al. 2023, is 1). Without one both
  take turns in the caller's thread. What a world raises is raised here, when its unroll is due. Nobody plays any more
  when the last state is yielded.
  """
  kept = collections.deque[trajectory.Trajectory](maxlen=replay_size if replay_updates else 0)
  num_worlds = len(environments)
  recurrent_state = actor_critic.initial_state(agent, num_worlds)
  state = dataclasses.replace(state, recurrent_state=recurrent_state, progress=trajectory.init_progress(num_worlds))
  asked_until = loop.step_of(state)
  with contextlib.closing(_Actor(agent, environments, state.key, has_thread=lag > 0)) as actor:
    while (first_step := loop.step_of(state)) < until_step:
      started = time.monotonic()
      is_to_fit = fit is not None and first_step == 0
      length = num_to_fit if is_to_fit else num_steps
      while asked_until < until_step and len(actor.asked) <= (0 if is_to_fit else lag):
        actor.ask(state, length)
        asked_until += length * num_worlds
      act_key, key, recurrent_state, played = actor.asked.popleft()()
      state = dataclasses.replace(state, key=key, recurrent_state=recurrent_state)
      if fit is not None and is_to_fit:
        state, ends = loop.count(fit(state, played), played)
        yield state, _episode_records(jax.device_get(ends), first_step)
        continue
      state, metrics, ends = loop.learn(state, played, agent=agent)
      kept.append(played)
      for i in range(replay_updates):
        drawn = kept[int(jax.random.randint(jax.random.fold_in(act_key, i), (), 0, len(kept)))]
        state, _ = loop.learn_again(state, drawn, agent=agent)
      records = _episode_records(jax.device_get(ends), first_step)
      means = {name: float(value) for name, value in jax.device_get(metrics).items()}
      means["steps_per_s"] = num_steps * num_worlds / (time.monotonic() - started)
      records.append(loop.Record(first_step + num_steps * num_worlds, "train", means))
      loop.refuse_nan(records)
      yield state, records


class _Played(NamedTuple):
  """An unroll of an actor."""

  act_key: jax.Array  # What it was played with.
  key: jax.Array  # The next one's follows from it.
  recurrent_state: actor_critic.RecurrentState  # After it.
  trajectory: trajectory.Trajectory


class _Actor:
  """Plays unroll after unroll in environments behind `dm_env`, in the order in which they are asked for."""

  def __init__(
    self,
    agent: actor_critic.Agent,
    environments: Sequence[dm_env.Environment],
    key: jax.Array,
    *,
    has_thread: bool,
  ):
    """Begins an episode in each environment; without a thread an unroll is played by who takes it."""
    self.asked = collections.deque[Callable[[], _Played]]()  # Each waits for its unroll, and raises what ended it.
    self._agent = agent
    self._environments = environments
    self._key = key
    self._now = unroll.host_init(agent, environments), actor_critic.initial_state(agent, len(environments))
    self._thread = futures.ThreadPoolExecutor(1, "actor") if has_thread else None

  def ask(self, state: loop.TrainState, num_steps: int) -> None:
    """Asks for one more, with the parameters of `state`."""
    self._key, act_key = jax.random.split(self._key)
    play = functools.partial(self._play, state.trainable, state.frozen, act_key, self._key, num_steps)
    self.asked.append(self._thread.submit(play).result if self._thread else play)

  def close(self) -> None:
    """Ends the thread, after the unroll that it is playing."""
    if self._thread:
      self._thread.shutdown(cancel_futures=True)

  def _play(
    self,
    trainable: actor_critic.Params,
    frozen: actor_critic.Params,
    act_key: jax.Array,
    key: jax.Array,
    num_steps: int,
  ) -> _Played:
    timestep, recurrent_state, played = unroll.host_unroll(
      self._agent, trainable, frozen, self._environments, *self._now, act_key, num_steps
    )
    self._now = timestep, recurrent_state
    return _Played(act_key, key, recurrent_state, played)


def _episode_records(ends: trajectory.EpisodeEnds, first_step: int) -> list[loop.Record]:
  """One for each episode that ended in an unroll `[T, B]` after `first_step`."""
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
  """Mean return and length of the episodes that ended; nothing where none did."""
  count = sum(int(e.num_episodes) for e in episodes)
  if not count:
    return {"episodes": 0.0}
  return {
    "episodes": float(count),
    "return_mean": float(sum(e.return_sum for e in episodes)) / count,
    "length_mean": float(sum(e.length_sum for e in episodes)) / count,
  }
