"""Videos: what a world shows as `pixels`, kept while it plays, and frames as an mp4."""

import pathlib
import subprocess
from collections.abc import Iterable
from typing import Any

import dm_env
import imageio_ffmpeg
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


def write(path: pathlib.Path, frames: Iterable[np.ndarray], *, frames_per_s: float, scale: int = 4) -> None:
  """Writes `[H, W, 3]` uint8 frames as an mp4, every pixel `scale` times as large.

  ffmpeg is started directly. imageio's writer starts it with a hook between fork and exec, and that child, a copy of a
  process with gRPC's and JAX's threads, sometimes crashes.

  Raises:
    ValueError: frames of another form.
    OSError: ffmpeg could not write; the message is its own.
  """
  frames = [np.asarray(frame) for frame in frames]
  wrong = [list(frame.shape) for frame in frames if frame.ndim != 3 or frame.shape[-1] != 3]
  if wrong:
    raise ValueError(f"{path}: a frame is {wrong[0]}, not [H, W, 3]; make it red, green and blue (`rgb`)")
  path.parent.mkdir(parents=True, exist_ok=True)
  large = [frame.repeat(scale, axis=0).repeat(scale, axis=1) for frame in frames]
  height, width, _ = large[0].shape
  raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(frames_per_s), "-i", "-"]
  coded = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path)]
  command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *coded]
  done = subprocess.run(command, input=b"".join(frame.tobytes() for frame in large), capture_output=True)
  if done.returncode:
    raise OSError(f"{path}: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}")
