"""Recordings of made-up episodes, and of a twin's, for tests of their readers."""

import time

import dm_env
import numpy as np
from dm_env import specs
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import dm_env_utils

from environments.arm import identify, protocol, recorder, recording, safety
from environments.jaco import constants

ACTION = specs.BoundedArray((3,), np.int32, 0, 2, name="action")
OBSERVATIONS = (
  specs.Array((), np.float32, name="reward"),
  specs.BoundedArray((8, 8, 3), np.uint8, 0, 255, name="pixels"),
  specs.Array((2,), np.float32, name="target"),
)
CLOCK_S = 77.0  # The driver's clock when recording begins.


def about(task="reach/random"):
  offered = rpc.ActionObservationSpecs(
    actions={1: dm_env_utils.dm_env_spec_to_tensor_spec(ACTION)},
    observations={i: dm_env_utils.dm_env_spec_to_tensor_spec(spec) for i, spec in enumerate(OBSERVATIONS, start=1)},
  )
  return recording.pack_about(task=task, driver="a made-up arm", control_dt_s=0.1, offered=offered)


def episode(rng, *, start_s=CLOCK_S, num_steps=4, is_cut=False):
  """Steps 0.1 s apart. Every action whose first entry is 2 earns a reward of 1, and the step holds its action."""
  steps = []
  for i in range(num_steps + 1):
    last = dm_env.StepType.MID if is_cut else dm_env.StepType.LAST
    action = rng.integers(0, 3, 3, dtype=np.int32)
    steps.append(
      recording.Step(
        time_s=start_s + 0.1 * i,
        step_type=dm_env.StepType.FIRST if i == 0 else last if i == num_steps else dm_env.StepType.MID,
        reward=float(i > 0 and action[0] == 2),
        discount=0.0 if i == num_steps and not is_cut else 1.0,
        action=None if i == 0 else action,
        asked_rad_s=rng.normal(size=3),
        reading=protocol.Reading(start_s + 0.1 * i - 0.01, *rng.normal(size=(3, 3))),
        observation={
          "pixels": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
          "target": rng.normal(size=2).astype(np.float32),
        },
      )
    )
  return steps


def items(*, num_episodes=3, num_steps=4, seed=0):
  """Episodes, the second of them cut, what the gate told the arm, and what was said."""
  rng, every = np.random.default_rng(seed), []
  for i in range(num_episodes):
    start_s = CLOCK_S + 10.0 * i
    every.append(safety.Told(start_s, np.zeros(3), np.zeros(3), "stop"))
    every += episode(rng, start_s=start_s, num_steps=num_steps, is_cut=i == 1)
    every.append(safety.Told(start_s + 0.05, np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0, 3.0])))
  every.append(recording.Event(CLOCK_S + 60.0, recording.REFUSAL, "no"))
  return every


def driven(config, velocities, *, starts_rad=None, targets_m=None):
  """What a server records of a twin behind its gate. Each of `velocities` `[E, T, J]` holds for a control period.

  There are pictures if targets `[E, 3]` are given. Episodes begin at the starts `[E, J]`, else at home.
  """
  gate, every, has_pictures = safety.Gate(config.make(), config.limits()), [], targets_m is not None
  camera = config.make_camera() if has_pictures else None
  starts_rad = [constants.HOME_RAD] * len(velocities) if starts_rad is None else starts_rad
  for number, episode in enumerate(velocities):
    gate.reset(starts_rad[number], seed=len(every))
    if has_pictures:
      gate.place_target(targets_m[number])
    for i, velocity in enumerate([np.zeros(constants.NUM_JOINTS), *episode]):
      kind = dm_env.StepType.FIRST if i == 0 else dm_env.StepType.LAST if i == len(episode) else dm_env.StepType.MID
      if i > 0:
        gate.command(velocity, expires_s=gate.now_s() + 0.15)
        gate.wait(gate.now_s() + constants.CONTROL_DT_S)
      reading = gate.read()
      observation = {"pixels": camera.image(reading)} if has_pictures else {}
      every.append(recording.Step(gate.now_s(), kind, 0.0, 1.0, None, velocity, reading, observation))
      every += gate.told()
  if has_pictures:
    camera.close()
  return every


def motion(every):
  """Episodes of what was driven, as `identify.episodes` reads them from a file."""
  parts = []
  for item in every:
    if isinstance(item, recording.Step) and item.step_type.first():
      parts.append(([], []))
    parts[-1][isinstance(item, safety.Told)].append(item)
  return [identify._episode(*part) for part in parts]


def write(folder, every, *, task="reach/random", **options):
  with recorder.Recorder(folder, about(task), now_s=lambda: CLOCK_S, **options) as opened:
    for item in every:
      while opened._waiting.full():  # A made-up arm does not wait for the disk by itself.
        time.sleep(0.01)
      opened.put(item)
  return folder
