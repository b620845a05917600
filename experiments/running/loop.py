"""Act, learn, report, again: a generator of `(state, records)` over worlds in JAX or behind `dm_env`.

The whole training state is one pytree, so saving it is exact resume; over worlds in JAX it may be that of one run or of
many, every leaf then `[N, ...]` (`population`). Both generators run the same `act` and `update`; worlds in JAX are
stepped inside the jit, worlds behind `dm_env` by the host. What becomes of a record (console, file, TensorBoard) and of
a state (evaluation, checkpoint) is decided by `consume`, in an order that survives a kill at any moment: a checkpoint
is written last, and everything after the newest one is forgotten on resume.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from agents import actor_critic, trajectory, unroll
from environments import batch as batch_lib
from environments import core


@struct.dataclass
class TrainState:
  """Everything that training changes, and the frozen parameters beside it."""

  trainable: actor_critic.Params
  frozen: actor_critic.Params
  optimizer_state: Any
  batch_state: Any  # batch.BatchState; None behind dm_env.
  recurrent_state: Any  # Every leaf [B, ...].
  progress: Any  # trajectory.EpisodeProgress of B worlds; None behind dm_env.
  key: jax.Array
  step: jax.Array  # [] int32, agent steps so far.


class Record(NamedTuple):
  """One line of metrics.jsonl but for its wall time."""

  step: int  # Agent steps so far.
  kind: str  # 'train', 'eval' or 'episode'.
  metrics: dict[str, float]
  member: int | None = None  # Which of many runs side by side; None where there is one.


TrainStep = Callable[[TrainState], tuple[TrainState, dict[str, jax.Array], trajectory.EpisodeStatistics]]


def init(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  key: jax.Array,
  *,
  batch: batch_lib.Batch | None = None,
) -> TrainState:
  """The state before the first step: in `batch`, or in one world behind `dm_env` where there is none."""
  key, world_key = jax.random.split(key)
  num_worlds = batch.num_worlds if batch else 1
  state = TrainState(
    trainable=trainable,
    frozen=frozen,
    optimizer_state=actor_critic.init(agent, trainable),
    batch_state=_begin(batch, world_key) if batch else None,
    recurrent_state=actor_critic.initial_state(agent, num_worlds),
    progress=trajectory.init_progress(num_worlds) if batch else None,
    key=key,
    step=jnp.int32(0),
  )
  return jax.tree.map(jnp.array, state)  # No two leaves share a buffer: the state is donated to each update.


@functools.partial(jax.jit, static_argnames="batch")
def _begin(batch: batch_lib.Batch, key: jax.Array) -> batch_lib.BatchState:
  """`batch.init`, compiled once for all runs in it."""
  return batch.init(key)


@functools.partial(jax.jit, static_argnames=("batch", "num_steps"), donate_argnames="state")
def train_step(
  state: TrainState, *, agent: actor_critic.Agent, batch: batch_lib.Batch, num_steps: int
) -> tuple[TrainState, dict[str, jax.Array], trajectory.EpisodeStatistics]:
  """`num_steps` steps in every world and one update."""
  key, act_key = jax.random.split(state.key)
  batch_state, recurrent_state, played = unroll.unroll(
    agent, state.trainable, state.frozen, batch, state.batch_state, state.recurrent_state, act_key, num_steps
  )
  trainable, optimizer_state, metrics = actor_critic.update(
    agent, state.trainable, state.frozen, state.optimizer_state, played
  )
  progress, episodes = trajectory.track_episodes(state.progress, played.timesteps)
  state = dataclasses.replace(
    state,
    trainable=trainable,
    optimizer_state=optimizer_state,
    batch_state=batch_state,
    recurrent_state=recurrent_state,
    progress=progress,
    key=key,
    step=state.step + jnp.int32(num_steps * batch.num_worlds),
  )
  return state, metrics, episodes


def in_batch(
  state: TrainState, train: TrainStep, *, steps_per_update: int, until_step: int, updates_per_record: int
) -> Iterator[tuple[TrainState, list[Record]]]:
  """Trains in worlds in JAX; one 'train' record a run every `updates_per_record` updates. Yielded states are donated.

  Args:
    state: of one run, or of N runs side by side.
    train: `train_step` of the same.
    steps_per_update: agent steps of one run in one update.
    until_step: of each run.
    updates_per_record: updates that one record sums up.
  """
  while (step := step_of(state)) < until_step:
    started = time.monotonic()
    results = []
    for _ in range(min(updates_per_record, -(-(until_step - step) // steps_per_update))):
      state, metrics, episodes = train(state)
      results.append((metrics, episodes))
    step += len(results) * steps_per_update
    metrics, episodes = jax.device_get(results[-1][0]), jax.device_get([episodes for _, episodes in results])
    rate = {"steps_per_s": len(results) * steps_per_update / (time.monotonic() - started)}
    members = range(len(state.step)) if state.step.ndim else (None,)
    records = []
    for member in members:
      own = [jax.tree.map(lambda x, m=member: x if m is None else x[m], one) for one in (metrics, *episodes)]
      means = {name: float(value) for name, value in own[0].items()} | _episode_means(own[1:])
      records.append(Record(step, "train", means | rate, member))
    refuse_nan(records)
    yield state, records


def behind_dm_env(
  state: TrainState,
  *,
  agent: actor_critic.Agent,
  environment: dm_env.Environment,
  num_steps: int,
  until_step: int,
) -> Iterator[tuple[TrainState, list[Record]]]:
  """Trains in one world behind `dm_env`: an 'episode' record for each that ends, a 'train' record for each update.

  Begins a new episode: the world's own state is not ours to save.
  """
  timestep = unroll.host_init(agent, [environment])
  recurrent_state = actor_critic.initial_state(agent, 1)
  episode_return, episode_length = 0.0, 0
  while (first_step := step_of(state)) < until_step:
    started = time.monotonic()
    key, act_key = jax.random.split(state.key)
    timestep, recurrent_state, played = unroll.host_unroll(
      agent, state.trainable, state.frozen, [environment], timestep, recurrent_state, act_key, num_steps
    )
    trainable, optimizer_state, metrics = actor_critic.update(
      agent, state.trainable, state.frozen, state.optimizer_state, played
    )
    records = []
    for t in range(1, num_steps + 1):
      if played.timesteps.step_type[t, 0] == core.FIRST:
        episode_return, episode_length = 0.0, 0
        continue
      episode_return += float(played.timesteps.reward[t, 0])
      episode_length += 1
      if played.timesteps.step_type[t, 0] == core.LAST:
        outcome = {"return": episode_return, "length": float(episode_length)}
        records.append(Record(first_step + t, "episode", outcome))
    state = dataclasses.replace(
      state,
      trainable=trainable,
      optimizer_state=optimizer_state,
      recurrent_state=recurrent_state,
      key=key,
      step=state.step + jnp.int32(num_steps),
    )
    step = first_step + num_steps
    record = {name: float(value) for name, value in jax.device_get(metrics).items()}
    record["steps_per_s"] = num_steps / (time.monotonic() - started)
    records.append(Record(step, "train", record))
    refuse_nan(records)
    yield state, records


def consume(
  updates: Iterable[tuple[TrainState, list[Record]]],
  *,
  first_step: int,
  until_step: int,
  sinks: Sequence[Callable[[Record], None]],
  evaluate: Callable[[TrainState, int], list[Record]],
  evaluate_every: int,
  save: Callable[[TrainState, int], None],
  save_every: int,
) -> None:
  """Feeds records to `sinks`; evaluates and saves whenever a multiple of the given steps is passed, and at the end."""
  previous = first_step
  for state, records in updates:
    step = step_of(state)
    is_over = step >= until_step
    if is_over or _is_due(previous, step, evaluate_every):
      records = [*records, *evaluate(state, step)]
    for record in records:
      for sink in sinks:
        sink(record)
    if is_over or _is_due(previous, step, save_every):
      save(state, step)
    previous = step


def step_of(state: TrainState) -> int:
  """Agent steps so far; runs side by side have the same."""
  return int(np.max(state.step))


def refuse_nan(records: Sequence[Record]) -> None:
  """Raises FloatingPointError if the loss of no run is a number any more: nothing after that is worth saving."""
  losses = [record.metrics["loss"] for record in records if record.kind == "train"]
  if losses and not np.isfinite(losses).any():
    step = records[-1].step
    raise FloatingPointError(f"the loss is {losses[0]} at step {step}; lower the learning rate and start again")


def _is_due(previous: int, step: int, every: int) -> bool:
  """Whether a multiple of `every` lies in (previous, step]; never for `every` 0."""
  return every > 0 and previous // every != step // every


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
