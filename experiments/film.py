"""A camera on any world behind `dm_env`: it plays as before, and the pixels it shows are kept for a video."""

from typing import Any

import dm_env
import numpy as np


class Filmed(dm_env.Environment):
  """`environment`, with every `pixels` observation kept in `frames`, up to `max_frames`."""

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
      self.frames.append(np.array(timestep.observation["pixels"]))
    return timestep
