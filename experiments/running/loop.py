"""The state that training changes, one step of training, and what happens to the results.

The whole training state is one pytree, so saving it allows an exact resume. It may be that of one run or of many; then
every leaf is `[N, ...]` (`devices`). `actors` makes trajectories and states. `consume` decides what happens to a record
(console, file, TensorBoard) and to a state (evaluation, checkpoint, video), in an order that survives a kill at any
moment. A checkpoint follows the records that it supersedes, and everything after the newest checkpoint is forgotten on
resume. Only the last evaluation comes after its checkpoint.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from agents import actor_critic, auxiliary, trajectory, unroll
from environments import batch as batch_lib
from experiments.running import hosts, stop
from progressive import column, network, partition


@struct.dataclass
class TrainState:
  """Everything that training changes, and the frozen parameters beside it."""

  trainable: actor_critic.Params
  frozen: actor_critic.Params
  optimizer_state: Any
  batch_state: Any  # batch.BatchState; None behind dm_env.
  recurrent_state: Any  # Every leaf [B, ...].
  progress: trajectory.EpisodeProgress  # Of the episodes that the B worlds are in.
  key: jax.Array
  step: jax.Array  # [] int32, agent steps so far.


class Record(NamedTuple):
  """One line of metrics.jsonl, except for its wall time."""

  step: int  # Agent steps so far.
  kind: str  # 'train', 'eval' or 'episode'.
  metrics: dict[str, float]
  member: int | None = None  # Which of many runs side by side; None if there is only one.


def init(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  key: jax.Array,
  *,
  num_worlds: int,
  batch: batch_lib.Batch | None = None,
) -> TrainState:
  """The state before the first step; worlds behind `dm_env` keep their own state, and have no `batch`."""
  key, world_key = jax.random.split(key)
  state = TrainState(
    trainable=trainable,
    frozen=frozen,
    optimizer_state=actor_critic.init(agent, trainable),
    batch_state=batch_lib.begin(batch, world_key) if batch else None,
    recurrent_state=actor_critic.initial_state(agent, num_worlds),
    progress=trajectory.init_progress(num_worlds),
    key=key,
    step=jnp.int32(0),
  )
  return jax.tree.map(jnp.array, state)  # No two leaves share a buffer: the state is donated to each update.


@functools.partial(jax.jit, static_argnames=("batch", "num_steps"), donate_argnames="state")
def train_step(
  state: TrainState, *, agent: actor_critic.Agent, batch: batch_lib.Batch, num_steps: int
) -> tuple[TrainState, actor_critic.Metrics, trajectory.EpisodeStatistics]:
  """`num_steps` steps in every world of a batch and one update."""
  key, act_key = jax.random.split(state.key)
  batch_state, recurrent_state, played = unroll.unroll(
    agent,
    state.trainable,
    state.frozen,
    batch,
    state.batch_state,
    state.recurrent_state,
    act_key,
    num_steps,
    keeps_activations=True,
  )
  state = dataclasses.replace(state, key=key, batch_state=batch_state, recurrent_state=recurrent_state)
  state, metrics, ends = learn(state, played, agent=agent)
  return state, metrics, trajectory.statistics(ends)


@jax.jit
def learn(
  state: TrainState, played: trajectory.Trajectory, *, agent: actor_critic.Agent
) -> tuple[TrainState, actor_critic.Metrics, trajectory.EpisodeEnds]:
  """One update from `played` `[T+1, B, ...]`, whose steps and episodes are counted."""
  state, metrics = learn_again(state, played, agent=agent)
  state, ends = count(state, played)
  return state, metrics, ends


@jax.jit
def learn_again(
  state: TrainState, played: trajectory.Trajectory, *, agent: actor_critic.Agent
) -> tuple[TrainState, actor_critic.Metrics]:
  """One update from `played` `[T+1, B, ...]`, whose steps were counted when they were new."""
  trainable, optimizer_state, metrics = actor_critic.update(
    agent, state.trainable, state.frozen, state.optimizer_state, played
  )
  return dataclasses.replace(state, trainable=trainable, optimizer_state=optimizer_state), metrics


def count(state: TrainState, played: trajectory.Trajectory) -> tuple[TrainState, trajectory.EpisodeEnds]:
  """The state after the steps and episodes of `played`, whatever was learned from them."""
  progress, ends = trajectory.track_episodes(state.progress, played.timesteps)
  step = state.step + jnp.int32(played.behaviour_log_prob.size)
  return dataclasses.replace(state, progress=progress, step=step), ends


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
  film: Callable[[TrainState, int], None] = lambda state, step: None,
) -> TrainState:
  """Feeds records to `sinks`; evaluates and saves whenever a multiple of the given steps is passed, and at the end.

  Returns the last state; there must be at least one. A state of `first_step` was saved before, so it is only evaluated.

  The last evaluation comes once everything learned is safe, since behind `dm_env` it can take long and fail. A state
  that was evaluated is filmed after all else. If the program is asked to stop, the state is saved at once, and an
  evaluation that is due just then is left out. If a world ends the run by an error, its last state is saved first.

  Raises:
    SystemExit: if it was asked to stop (`stop.deferred`).
  """
  previous = saved = first_step

  def rescue(error: Exception) -> None:
    if saved < previous and not isinstance(error, FloatingPointError) and _is_there(state):
      try:
        save(state, previous)
        error.add_note(f"step {previous:,} is saved, and the same command goes on from there")
      except (OSError, ValueError, FloatingPointError) as failure:
        error.add_note(f"step {previous:,} could not be saved: {failure}")

  with stop.deferred():
    for state, records in _rescued(updates, rescue):
      step = step_of(state)
      is_over, is_asked = step >= until_step, hosts.asked_to_stop()
      is_evaluated = (is_over or _is_due(previous, step, evaluate_every)) and not is_asked
      if is_evaluated and not is_over:
        records = [*records, *evaluate(state, step)]
      _write(records, sinks)
      if step > first_step and (is_over or is_asked or _is_due(previous, step, save_every)):
        save(state, step)
        saved = step
      if is_evaluated and is_over:
        _write(evaluate(state, step), sinks)
      if is_evaluated:
        film(state, step)
      if is_asked:
        break
      previous = step
    hosts.asked_to_stop(is_over=True)  # For a signal during the last evaluation, too.
  return state


def _rescued(updates: Iterable[Any], rescue: Callable[[Exception], None]) -> Iterator[Any]:
  """The updates; their error is raised after `rescue` has been called with it."""
  try:
    yield from updates
  except Exception as error:
    rescue(error)
    raise


def _is_there(state: TrainState) -> bool:
  """Whether no leaf was donated to the next update."""
  return not any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state))


def _write(records: Sequence[Record], sinks: Sequence[Callable[[Record], None]]) -> None:
  for record in records:
    for sink in sinks:
      sink(record)


def step_of(state: TrainState) -> int:
  """Agent steps so far; runs side by side have the same number."""
  return int(np.max(state.step))


_LOWER = (
  "lower the learning rate (train.hyper.learning_rate) and start in another workdir; of a world of your own, see too "
  "that all it shows is finite (environments.conformance)"
)


def refuse_nan(records: Sequence[Record]) -> None:
  """Raises FloatingPointError if no run's last update is finite: nothing after that is worth saving.

  The loss is that of the parameters before its update; the gradient's norm says whether those after it are finite.
  """
  last = [(one.metrics["loss"], one.metrics["gradient_norm"]) for one in records if one.kind == "train"]
  if last and not np.isfinite(last).all(axis=1).any():
    loss, norm = last[0]
    raise FloatingPointError(f"the loss is {loss}, its gradient's norm {norm} at step {records[-1].step}; {_LOWER}")


def refuse_overflow(state: TrainState, spec: network.Network) -> None:
  """Raises FloatingPointError if no run's network gives finite outputs: large parameters may still be finite.

  It is checked only before saving, since it costs a step of the network, on inputs of ones (white pixels).
  """
  answers = _answers if not state.step.ndim else jax.vmap(_answers, in_axes=(0, 0, None))
  if not np.any(answers(state.trainable, state.frozen, spec)):
    raise FloatingPointError(f"the parameters of step {step_of(state)} are too large to compute with; {_LOWER}")


@functools.partial(jax.jit, static_argnums=2)
def _answers(trainable: actor_critic.Params, frozen: actor_critic.Params, spec: network.Network) -> jax.Array:
  """Whether the outputs and their squares, which a loss has, are finite: [] bool."""
  params = auxiliary.without(partition.merge(trainable, frozen))
  inputs = {name: jnp.ones((1, *shape), jnp.float32) for one in spec.columns for name, shape in one.inputs}
  activations, _ = network.apply(params, spec, inputs=inputs, state=network.initial_state(spec))
  return jnp.isfinite(jnp.square(activations[-1][column.OUTPUT])).all()


def _is_due(previous: int, step: int, every: int) -> bool:
  """Whether a multiple of `every` lies in (previous, step]; never if `every` is 0."""
  return every > 0 and previous // every != step // every
