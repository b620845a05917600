"""What all suites of the benchmark share: how a number is measured, and the stages of any learner.

The unit is agent steps (one action with all its substeps) or frames per second. A number is the median of blocks that
are timed after a warm-up. Peers and ours are timed in turn, block by block, so that other load on the machine slows
both.
"""

import functools
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, unroll
from environments import batch as batch_lib
from environments import core
from experiments.running import loop
from experiments.setup import learn, place
from progressive import partition

NUM_STEPS = 20  # T, the length of an unroll.
WORLD_STEPS = 50  # Agent steps of every world in one timed call of `random_play`.


class Settings(NamedTuple):
  """Settings that all stages share."""

  num_worlds: int
  seconds: float
  is_cpu: bool


class Row(NamedTuple):
  """One measurement."""

  stage: str
  measured: float
  unit: str
  aim: str  # Such as '>= 8,000'; empty if there is none.
  note: str = ""


Stage = Callable[[Settings], Iterator[Row]]


class Learner(NamedTuple):
  """A learner, and how fast it should be: stage -> aim on two CPU cores, aim on an accelerator."""

  make_task: Callable[[], learn.Task]
  aims: Mapping[str, tuple[str, str]]


def of(learner: Learner) -> dict[str, Stage]:
  """The stages of a learner, by name."""
  timed: dict[str, Stage] = {name: functools.partial(_timed, name, learner) for name in ("act", "learn", "play")}
  return timed | {"train": functools.partial(_train, learner)}


def random_play(batch: batch_lib.Batch, num_steps: int) -> Callable[[], None]:
  """Each call goes on for `num_steps` steps with random actions, including what the batch shows."""
  num_choices = core.num_choices(batch.environment.action_spec())
  shape = (num_steps, batch.num_worlds, len(num_choices))
  actions = jnp.asarray(np.random.default_rng(0).integers(0, num_choices, shape), jnp.int32)

  @functools.partial(jax.jit, donate_argnums=0)
  def play(state: batch_lib.BatchState, actions: jax.Array) -> batch_lib.BatchState:
    return jax.lax.scan(lambda state, action: (batch.step(state, action), None), state, actions)[0]

  carry = [batch_lib.begin(batch, jax.random.key(0))]

  def run() -> None:
    carry[0] = jax.block_until_ready(play(carry[0], actions))

  return run


def blocks(calls: Sequence[Callable[[], Any]], settings: Settings) -> list[tuple[float, ...]]:
  """Seconds of each call, in turn, for `settings.seconds` and at least five rounds, after a round of warm-up."""
  for call in calls:
    call()
  rounds: list[tuple[float, ...]] = []
  started = time.perf_counter()
  while len(rounds) < 5 or time.perf_counter() - started < settings.seconds:
    block = []
    for call in calls:
      before = time.perf_counter()
      call()
      block.append(time.perf_counter() - before)
    rounds.append(tuple(block))
  return rounds


def row(name: str, run: Callable[[], Any], num: int, unit: str, aim: str, settings: Settings, note: str = "") -> Row:
  """The row of how many things per second `run` makes, if one call makes `num` things."""
  return Row(name, rate([seconds for (seconds,) in blocks([run], settings)], num), unit, aim, note)


def batch_of(task: learn.Task, num_worlds: int) -> batch_lib.Batch:
  """Copies of the task's world in JAX that show what the task learns from."""
  assert isinstance(task.place, place.Simulation)
  return task.place.batch(num_worlds, *learn.shown(task))


def start(task: learn.Task, batch: batch_lib.Batch, seed: int) -> loop.TrainState:
  """A run of the task in the worlds of `batch` before its first step."""
  sides = partition.split(task.params, task.is_trainable)
  return loop.init(task.agent, *sides, jax.random.key(seed), num_worlds=batch.num_worlds, batch=batch)


def rate(seconds: Sequence[float], num: int) -> float:
  """Things per second, for blocks of `num` things."""
  return num / statistics.median(seconds)


def ratio(seconds: Sequence[tuple[float, ...]]) -> float:
  """How many times faster the first of each pair is than the second."""
  return statistics.median(theirs / ours for ours, theirs in seconds)


def _timed(name: str, learner: Learner, settings: Settings) -> Iterator[Row]:
  """Choosing actions from pictures (act), world and policy without learning (play), or an update (learn)."""
  agent, trainable, frozen, batch = _pieces(learner, settings)
  sides = agent, trainable, frozen
  start, key = batch_lib.begin(batch, jax.random.key(0)), jax.random.key(1)
  recurrent = actor_critic.initial_state(agent, settings.num_worlds)
  play = functools.partial(unroll.unroll, *sides, batch, start, recurrent, key, NUM_STEPS)
  title, num = name, settings.num_worlds * NUM_STEPS
  match name:
    case "act":
      call, num = functools.partial(actor_critic.act, *sides, recurrent, start.timestep, key), settings.num_worlds
    case "play":
      call, title = play, "play: world + pixels + act"
    case _:
      call = functools.partial(actor_critic.update, *sides, actor_critic.init(agent, trainable), play()[2])
  yield row(title, lambda: jax.block_until_ready(call()), num, "steps/s", _aim(learner, name, settings), settings)


def training(learner: Learner, settings: Settings) -> Callable[[], Any]:
  """Each call goes on training, end to end, by one update of `NUM_STEPS` steps in every world."""
  task = learner.make_task()
  batch = batch_of(task, settings.num_worlds)
  carry = [start(task, batch, 0)]

  def run() -> Any:
    carry[0], metrics, _ = loop.train_step(carry[0], agent=task.agent, batch=batch, num_steps=NUM_STEPS)
    return jax.block_until_ready(metrics)

  return run


def _train(learner: Learner, settings: Settings) -> Iterator[Row]:
  """Training end to end from pixels, and the memory that it gains over time."""
  run = training(learner, settings)
  for _ in range(3):
    run()
  seconds, memory = [], []
  for (block,) in blocks([run], settings._replace(seconds=4 * settings.seconds)):
    seconds.append(block)
    memory.append(_resident_mb())
  num = settings.num_worlds * NUM_STEPS
  yield Row("train end to end, from pixels", rate(seconds, num), "steps/s", _aim(learner, "train", settings))
  note = f"over the last two thirds of {len(seconds) * num:,} steps; {memory[-1]:,.0f} MB"
  yield Row("  memory gained", memory[-1] - memory[len(memory) // 3], "MB", "flat", note)


def _aim(learner: Learner, stage: str, settings: Settings) -> str:
  on_cpu, on_accelerator = learner.aims.get(stage, ("", ""))
  return on_cpu if settings.is_cpu else on_accelerator


def _pieces(learner: Learner, settings: Settings) -> tuple[actor_critic.Agent, Any, Any, batch_lib.Batch]:
  """(agent, trainable, frozen, worlds)"""
  task = learner.make_task()
  trainable, frozen = partition.split(task.params, task.is_trainable)
  batch = batch_of(task, settings.num_worlds)
  return task.agent, trainable, frozen, batch


def _resident_mb() -> float:
  """Memory that this process holds now, MB (Linux)."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
