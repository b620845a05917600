"""One run from start or resume to end, the same for training and transfer, in JAX worlds and behind a bridge.

    claim the directory -> restore or init -> loop -> console, metrics, TensorBoard, evaluation, video, checkpoint

The binaries differ only in the agent and the world that they hand over.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import dm_env
import jax
import numpy as np
from dm_env import specs
from ml_collections import config_dict

from agents import actor_critic, evaluation, unroll
from environments import batch as batch_lib
from environments import core
from environments.arm import client
from experiments import configuration, film, loop, sinks
from experiments.disk import checkpoint, network_file, run_directory
from progressive import network, partition

FRAMES_PER_S = 10.0  # The arm's control rate: videos run in real time.
_VIDEO_STEPS = 100
_BRIDGE, _EMULATOR = "arm://", "atari/"


class Task(NamedTuple):
  """What is learned, and by whom."""

  agent: actor_critic.Agent
  params: Any
  is_trainable: Callable[[tuple[Any, ...]], bool]
  world: core.Environment | None = None  # One of the two: a world in JAX,
  environment: dm_env.Environment | None = None  # or one behind dm_env.


def run(task: Task, config: config_dict.ConfigDict, phase_name: str, workdir: str | os.PathLike) -> loop.TrainState:
  """Learns `task` as `config[phase_name]` says, from where `workdir` stands, to the end; returns the last state.

  Raises:
    ValueError: if `workdir` belongs to another config or another process is at work there, its checkpoints do not fit,
      an arm shall be evaluated midway, or the learning rate falls to 0 before the end.
    FloatingPointError: if the loss stops being a number.
  """
  with run_directory.alone(workdir):
    return _run(task, config, phase_name, workdir)


def _run(task: Task, config: config_dict.ConfigDict, phase_name: str, workdir: str | os.PathLike) -> loop.TrainState:
  phase = config[phase_name]
  if task.environment is not None and phase.evaluate_every:
    raise ValueError(
      f"evaluate_every={phase.evaluate_every}: behind a bridge an evaluation would break into the episode that is "
      f"being learned from; set it to 0, which evaluates at the end"
    )
  check_annealing(phase, phase.num_worlds if task.environment is None else 1)
  path = run_directory.claim(workdir, config, phase_name)
  network_file.write_spec(path, task.agent.spec)
  batch = make_batch(task, phase.num_worlds)
  trainable, frozen = partition.split(task.params, task.is_trainable)
  key = configuration.make_key(config.seed, "learning")
  state = loop.init(task.agent, trainable, frozen, key, batch=batch)
  state, first_step = restore(path, state, phase.steps)
  if first_step >= phase.steps:
    return state

  metrics = sinks.Metrics(path / "metrics.jsonl", step=first_step)
  tensorboard = sinks.TensorBoard(path / "tensorboard", step=first_step)
  console = sinks.Console(name=path.name, first_step=first_step, until_step=phase.steps, every_s=10.0)
  last: list[loop.TrainState] = [state]

  def save(state: loop.TrainState, step: int) -> None:
    metrics.sync()
    checkpoint.save(path / "checkpoints", step, state, keep=phase.keep_checkpoints)
    last[0] = state

  film_folder = path / "videos" if phase.video else None
  evaluation_key = configuration.make_key(config.seed, "evaluation")
  loop.consume(
    _updates(task, phase, batch, state),
    first_step=first_step,
    until_step=phase.steps,
    sinks=(metrics, tensorboard, console),
    evaluate=functools.partial(evaluate_state, task, phase, evaluation_key, film_folder),
    evaluate_every=phase.evaluate_every,
    save=save,
    save_every=phase.save_every,
  )
  return last[0]


def check_annealing(phase: config_dict.ConfigDict, num_worlds: int) -> None:
  """Refuses a phase that goes on after its learning rate has fallen to 0, when nothing is learned any more.

  Args:
    phase: of the config.
    num_worlds: B, the phase's own, or 1 behind a bridge.

  Raises:
    ValueError: naming both numbers of updates, and the field to set.
  """
  num_updates = -(-phase.steps // (num_worlds * phase.num_steps))
  if 0 < phase.hyper.anneal_updates < num_updates:
    raise ValueError(
      f"hyper.anneal_updates={phase.hyper.anneal_updates:g}: the learning rate would be 0 from there to the last of "
      f"{num_updates} updates (steps={phase.steps} / ({num_worlds} worlds * num_steps={phase.num_steps})); set "
      f"hyper.anneal_updates={num_updates}, or 0 to keep the rate"
    )


def restore(path: pathlib.Path, state: loop.TrainState, until_step: int) -> tuple[loop.TrainState, int]:
  """The newest saved state of the run in `path` and its step; `state` and 0 where none was saved. Says which."""
  saved = checkpoint.load_newest(path / "checkpoints")
  if saved is None:
    return state, 0
  step, arrays = saved
  state = checkpoint.unflatten(arrays, state, source=str(path / "checkpoints" / str(step)))
  word = f"is finished: {step:,} of {until_step:,} steps" if step >= until_step else f"continues from step {step:,}"
  print(f"{path} {word}", flush=True)
  return state, step


def open_target(
  target: str, options: config_dict.ConfigDict, *, observations: Iterable[str], seed: int
) -> tuple[core.Environment | None, dm_env.Environment | None]:
  """The world in JAX called `target`, or one behind `dm_env`; None in place of the other.

  Behind `dm_env` are the arm at `arm://host:port`, of which `observations` are asked for, and the emulator's games as
  `atari/pong`; `seed` starts their episodes. `options` are of a world in JAX or a game.
  """
  if target.startswith(_EMULATOR):
    from environments.atari import world as atari  # The emulator need not be installed for anything else.

    return None, atari.make(target.removeprefix(_EMULATOR), seed=seed, **options.to_dict())
  if target.startswith(_BRIDGE):
    return None, client.connect(target.removeprefix(_BRIDGE), seed=seed, observations=sorted(set(observations)))
  return configuration.make_world(target, options), None


def check_inputs(spec: network.Network, observation_spec: Mapping[str, specs.Array], place: str) -> None:
  """Refuses a place that does not show what the network reads.

  Raises:
    ValueError: naming the observation and both shapes.
  """
  offered = {name: tuple(one.shape) for name, one in observation_spec.items()}
  for name, shape in ((name, shape) for column in spec.columns for name, shape in column.inputs):
    if offered.get(name) != shape:
      raise ValueError(f"the network reads {name} {list(shape)}, but {place} offers {offered}; name another target")


def make_batch(task: Task, num_worlds: int) -> batch_lib.Batch | None:
  """`num_worlds` copies of the task's world that show what its network reads; None behind a bridge."""
  if task.world is None:
    return None
  signals = tuple(head.signal for head in task.agent.auxiliary_heads)
  return batch_lib.Batch(task.world, num_worlds, network.input_names(task.agent.spec), signals)


def evaluate_state(
  task: Task,
  phase: config_dict.ConfigDict,
  key: jax.Array,
  film_folder: pathlib.Path | None,
  state: loop.TrainState,
  step: int,
) -> list[loop.Record]:
  """An 'eval' record of whole episodes, none if `phase.evaluation_episodes` is 0; a video in `film_folder`."""
  if not phase.evaluation_episodes:
    return []
  video = film_folder / f"step_{step}.mp4" if film_folder else None
  episodes = play(
    task,
    state.trainable,
    state.frozen,
    jax.random.fold_in(key, step),
    num_episodes=phase.evaluation_episodes,
    is_greedy=phase.evaluation_is_greedy,
    video=video,
  )
  return [loop.Record(step, "eval", summarise(episodes))]


def play(
  task: Task,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  key: jax.Array,
  *,
  num_episodes: int,
  is_greedy: bool,
  video: pathlib.Path | None = None,
) -> evaluation.Episodes:
  """Plays `num_episodes` whole episodes, and films some into `video` where the world has pixels."""
  play_key, film_key = jax.random.split(key)
  if task.environment is not None:
    filmed = film.Filmed(task.environment)
    episodes = evaluation.host_evaluate(
      task.agent, trainable, frozen, filmed, play_key, num_episodes=num_episodes, greedy=is_greedy
    )
    if video and filmed.frames:
      sinks.write_video(video, filmed.frames, frames_per_s=FRAMES_PER_S)
    return episodes
  batch = make_batch(task, num_episodes)
  assert batch is not None
  episodes = evaluation.evaluate(task.agent, trainable, frozen, batch, play_key, greedy=is_greedy)
  if video and "pixels" in batch.environment.observation_spec():
    frames = _film(task.agent, trainable, frozen, batch, film_key, is_greedy)
    sinks.write_video(video, frames, frames_per_s=FRAMES_PER_S)
  return episodes


def summarise(episodes: evaluation.Episodes) -> dict[str, float]:
  """Mean return with its 95 % confidence interval, episodes, mean length."""
  mean, low, high = sinks.confidence_interval(episodes.returns)
  return {
    "return_mean": mean,
    "return_ci_low": low,
    "return_ci_high": high,
    "episodes": float(len(episodes.returns)),
    "length_mean": float(np.mean(episodes.lengths)),
  }


def _updates(task: Task, phase: config_dict.ConfigDict, batch: batch_lib.Batch | None, state: loop.TrainState) -> Any:
  if batch is None:
    common = {"num_steps": phase.num_steps, "until_step": phase.steps}
    return loop.behind_dm_env(state, agent=task.agent, environment=task.environment, **common)
  train = functools.partial(loop.train_step, agent=task.agent, batch=batch, num_steps=phase.num_steps)
  return loop.in_batch(
    state,
    train,
    steps_per_update=phase.num_steps * phase.num_worlds,
    until_step=phase.steps,
    updates_per_record=phase.updates_per_record,
  )


def _film(
  agent: actor_critic.Agent,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  batch: batch_lib.Batch,
  key: jax.Array,
  is_greedy: bool,
) -> np.ndarray:
  """`[T, H, W, 3]` frames of one world."""
  names = tuple(sorted({*batch.observations, "pixels"}))
  one = batch._replace(num_worlds=1, observations=names)
  init_key, act_key = jax.random.split(key)
  recurrent_state = actor_critic.initial_state(agent, 1)
  start = jax.jit(one.init)(init_key)
  _, _, played = unroll.unroll(agent, trainable, frozen, one, start, recurrent_state, act_key, _VIDEO_STEPS, is_greedy)
  return film.rgb(np.asarray(played.timesteps.observation["pixels"][:, 0]))
