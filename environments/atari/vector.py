"""Many copies of a game in ale-py's own vector environment, whose throughput is compared with that of worlds in JAX.

It does its own preprocessing in C++ with OpenCV. The pictures are those of `environments.atari.world`, four a step as
uint8 `[B, 4, 84, 84]`. This module uses ale-py's compiled interface, since its Python wrapper needs gymnasium and adds
nothing here.
"""

from typing import NamedTuple

import numpy as np

from environments.atari import emulator


class Transition(NamedTuple):
  """What B games show after a step."""

  pixels: np.ndarray  # [B, 4, 84, 84] uint8, newest last
  reward: np.ndarray  # [B] points
  is_terminated: np.ndarray  # [B] bool; the next step restarts these.


class Vector:
  """`num_envs` copies of one game, stepped by `num_threads` threads."""

  def __init__(self, game: str, num_envs: int, *, seed: int, num_threads: int, max_start_frames: int = 30):
    """Loads and resets all games. `max_start_frames` is ale-py's `noop_max`. ValueError for an unknown game."""
    path = emulator.rom_path(game)
    self._interface = emulator.vector_interface(
      rom_path=path,
      num_envs=num_envs,
      frame_skip=4,
      stack_num=4,
      img_height=emulator.IMAGE_SIZE,
      img_width=emulator.IMAGE_SIZE,
      grayscale=True,
      maxpool=True,
      noop_max=max_start_frames,
      use_fire_reset=False,
      episodic_life=False,
      life_loss_info=False,
      reward_clipping=False,
      max_episode_steps=108_000,
      repeat_action_probability=0.0,
      full_action_space=False,
      batch_size=num_envs,
      num_threads=num_threads,
      thread_affinity_offset=-1,
      autoreset_mode="NextStep",
    )
    self._strength = np.ones(num_envs, np.float32)  # The joystick is pushed fully.
    self.num_actions = len(self._interface.get_action_set())
    indices = np.arange(num_envs)
    self.first_pixels: np.ndarray = self._interface.reset(indices, indices + seed)[0]

  def step(self, action: np.ndarray) -> Transition:
    """Plays four frames of every game with `action`, int `[B]` below `num_actions`."""
    self._interface.send(np.asarray(action), self._strength)
    pixels, reward, is_terminated, _, _ = self._interface.recv()
    return Transition(pixels=pixels, reward=reward, is_terminated=is_terminated)
