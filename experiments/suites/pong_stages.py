"""The benchmark of Pong: worlds beside the emulator's own, learning beside Stable-Baselines3's, runs side by side."""

import contextlib
import functools
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from environments import batch as batch_lib
from environments import registry
from environments.atari import vector
from experiments.configs import pong_soup
from experiments.running import actors, devices, loop
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.setup import sweep as sweep_lib
from experiments.suites import a2c_peer, stages
from progressive import partition

_PEER_ENVS = 16
_NUM_RUNS = 3  # Of the sweep.
_NEVER = 10**9  # Steps.


def _worlds(settings: stages.Settings) -> Iterator[stages.Row]:
  """Game, picture and stack of frames with random actions; the peer is ale-py's vector environment with all threads."""
  batch = batch_lib.Batch(registry.make("pong/pong"), settings.num_worlds, ("pixels",))
  ours = stages.random_play(batch, stages.WORLD_STEPS)
  num = settings.num_worlds * stages.WORLD_STEPS
  theirs = _peer() if settings.is_cpu else None
  seconds = stages.blocks([ours, theirs] if theirs else [ours], settings)
  yield stages.Row("worlds + pixels", stages.rate([block[0] for block in seconds], num), "steps/s", "")
  if theirs:
    share = num / (_PEER_ENVS * stages.WORLD_STEPS)  # Our block has this many times the peer's steps.
    note = f"{_PEER_ENVS} games, {_threads()} threads, the same picture and stack"
    peer_rate = stages.rate([block[1] for block in seconds], _PEER_ENVS * stages.WORLD_STEPS)
    yield stages.Row("  ale-py's vector environment", peer_rate, "steps/s", "", note)
    yield stages.Row("  ours / ale-py's", stages.ratio([(a, share * b) for a, b in seconds]), "x", ">= 30")


def _peer() -> Callable[[], None] | None:
  """Random actions in ale-py's vector environment; without ale-py, None and a message."""
  try:
    peer = vector.Vector("pong", _PEER_ENVS, seed=0, num_threads=_threads())
  except ModuleNotFoundError as error:
    print(error, file=sys.stderr)
    return None
  actions = np.random.default_rng(0).integers(0, peer.num_actions, (stages.WORLD_STEPS, _PEER_ENVS))

  def play() -> None:
    for action in actions:
      peer.step(action)

  return play


def _beside_a2c(settings: stages.Settings) -> Iterator[stages.Row]:
  """Training end to end, and A2C of Stable-Baselines3 with its own defaults: with its network, then with ours."""
  column = _config().train.column
  networks: dict[str, dict[str, Any]] = {"its": {}, "our": {"conv": column.conv, "dense": column.dense}}
  try:
    peers = [a2c_peer.training(_PEER_ENVS, stages.WORLD_STEPS, **network) for network in networks.values()]
  except ModuleNotFoundError as error:
    print(error, file=sys.stderr)
    return
  seconds = stages.blocks([stages.training(_LEARNER, settings), *peers], settings)
  num, num_peer = settings.num_worlds * stages.NUM_STEPS, _PEER_ENVS * stages.WORLD_STEPS
  yield stages.Row("train, in turn with A2C", stages.rate([block[0] for block in seconds], num), "steps/s", "")
  for i, whose in enumerate(networks, start=1):
    note = f"Stable-Baselines3, {_PEER_ENVS} games in ale-py"
    yield stages.Row(
      f"  A2C, {whose} network", stages.rate([block[i] for block in seconds], num_peer), "steps/s", "", note
    )
    times = stages.ratio([(block[0], num / num_peer * block[i]) for block in seconds])
    yield stages.Row(f"  ours / A2C, {whose} network", times, "x", "")


def _behind_dm_env(settings: stages.Settings) -> Iterator[stages.Row]:
  """Training in emulated games without a lag and with one, and A2C of Stable-Baselines3 with our network there.

  They run one after the other, since an actor with a lag goes on playing between two updates.
  """
  config = _config()
  config.world, config.world_options = "atari/pong", config_dict.ConfigDict({"num_actions": 3})
  config.train.num_worlds = _PEER_ENVS
  num, note = _PEER_ENVS * stages.NUM_STEPS, f"{_PEER_ENVS} games in ale-py"
  rates = []
  for lag, correction in ((0, "none"), (1, "vtrace")):
    config.train.lag, config.train.hyper.correction = lag, correction
    with _learning(config) as (update, shares):
      seconds = [block for (block,) in stages.blocks([update], settings)]
    rates.append(stages.rate(seconds, num))
    learns = f"{note}; learning takes {100 * statistics.median(shares):.0f} % of the time"
    yield stages.Row(f"train in the emulator, lag {lag}", rates[-1], "steps/s", "", learns)
  yield stages.Row("  lag 1 / lag 0", rates[1] / rates[0], "x", ">= 0.9")
  column = config.train.column
  try:
    peer = a2c_peer.training(_PEER_ENVS, stages.WORLD_STEPS, conv=column.conv, dense=column.dense)
  except ModuleNotFoundError as error:
    print(error, file=sys.stderr)
    return
  name = "  A2C in the emulator, our network"
  theirs = stages.row(name, peer, _PEER_ENVS * stages.WORLD_STEPS, "steps/s", "", settings, note)
  yield theirs
  yield stages.Row("  lag 0 / A2C", rates[0] / theirs.measured, "x", "")


@contextlib.contextmanager
def _learning(config: config_dict.ConfigDict) -> Iterator[tuple[Callable[[], None], list[float]]]:
  """(a function that makes the next update, the shares of the time that learning took in updates so far)"""
  task, shares = learn.make(config), list[float]()
  sides = partition.split(task.params, task.is_trainable)
  with contextlib.closing(task.place) as place:
    assert isinstance(place, place_lib.Host)
    updates = actors.behind_dm_env(
      loop.init(task.agent, *sides, jax.random.key(0), num_worlds=len(place.worlds)),
      agent=task.agent,
      environments=place.worlds,
      num_steps=stages.NUM_STEPS,
      until_step=_NEVER,
      lag=config.train.lag,
    )

    def update() -> None:
      _, records = next(updates)
      shares.append(records[-1].metrics["learning_share"])

    with contextlib.closing(updates):
      yield update, shares


def _config() -> config_dict.ConfigDict:
  """The laptop scale with one gradient step per unroll, like the peer: passes would repeat work in the timing."""
  config = pong_soup.get_config()
  config.train.hyper.update({"epochs": 1, "minibatches": 1})
  return config


def _threads() -> int:
  return len(os.sched_getaffinity(0))


def _sweep(settings: stages.Settings) -> Iterator[stages.Row]:
  """Updates of one run, of three in sequence, and of three at once: the cost of a run beside others."""
  tasks = [learn.make(sweep_lib.sample(_config(), i)) for i in range(_NUM_RUNS)]
  batch = stages.batch_of(tasks[0], settings.num_worlds)
  states = [stages.start(task, batch, i) for i, task in enumerate(tasks)]
  agents = devices.stack([jax.tree.map(jnp.float32, task.agent) for task in tasks])
  mesh = devices.make_mesh(jax.devices()[:1])

  def alone() -> None:
    states[0], metrics, _ = loop.train_step(states[0], agent=tasks[0].agent, batch=batch, num_steps=stages.NUM_STEPS)
    jax.block_until_ready(metrics)

  def together(carry: list[Any], width: int) -> None:
    carry[0], metrics, _ = devices.train_step(
      carry[0], agent=agents, batch=batch, num_steps=stages.NUM_STEPS, width=width, mesh=mesh
    )
    jax.block_until_ready(metrics)

  calls = [alone] + [functools.partial(together, [devices.stack(states)], width) for width in (1, _NUM_RUNS)]
  for call in calls:
    call()
  seconds = stages.blocks(calls, settings)
  num = settings.num_worlds * stages.NUM_STEPS
  yield stages.Row("one run's update", stages.rate([block[0] for block in seconds], num), "steps/s", "")
  for i, how in enumerate(("one after the other", "at once"), start=1):
    cost = 1.0 / stages.ratio([(block[i], _NUM_RUNS * block[0]) for block in seconds])
    aim = "" if settings.is_cpu or i == 1 else "<= 0.5"
    yield stages.Row(f"  {_NUM_RUNS} runs {how}", cost, "x", aim, "time of a run in company / alone")


# Pong Soup's column, two convolutions and a dense layer, from scratch.
_LEARNER = stages.Learner(lambda: learn.make(_config()), {"train": (">= 1,500", ">= 1,000,000")})
STAGES: Mapping[str, stages.Stage] = {
  "worlds": _worlds,
  **stages.of(_LEARNER),
  "peer": _beside_a2c,
  "emulator": _behind_dm_env,
  "sweep": _sweep,
}
