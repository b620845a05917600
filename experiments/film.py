"""A camera on any world: what it shows as `pixels`, as pictures of a video. One behind `dm_env` plays as before."""

from typing import Any

import dm_env
import numpy as np


def rgb(pixels: np.ndarray) -> np.ndarray:
  """`[..., H, W, C]` pixels as `[..., H, W, 3]`: colours as they are, of a stack of greys its newest, the last."""
  return pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., -1:], 3, axis=-1)


class Filmed(dm_env.Environment):
  """`environment`, with every `pixels` observation kept in `frames` as `[H, W, 3]`, up to `max_frames`."""

  def __init__(self, environment: dm_env.Environment, *, max_frames: int = 500):
    """Films `environment`; a world without `pixels` leaves `frames` empty."""
    self._environment = environment
    self._max_frames = max_frames
    self.frames: list[np.ndarray] = []

  def reset(self) -> dm_env.TimeStep:
    """As the environment's."""
    return self._keep(self._environment.reset())

  def step(self, action: Any) -> dm_env.TimeStep:
    """As the environment's."""
    return self._keep(self._environment.step(action))

  def observation_spec(self) -> Any:
    """As the environment's."""
    return self._environment.observation_spec()

  def action_spec(self) -> Any:
    """As the environment's."""
    return self._environment.action_spec()

  def _keep(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    if "pixels" in timestep.observation and len(self.frames) < self._max_frames:
      self.frames.append(rgb(np.array(timestep.observation["pixels"])))
    return timestep
