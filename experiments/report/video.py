"""Videos: keeps what a world shows as `pixels`, and writes frames as an mp4 with a caption below each."""

import contextlib
import errno
import functools
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import dm_env
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_CAPTION_PX = 20  # Height of the caption below a frame.


def rgb(pixels: np.ndarray) -> np.ndarray:
  """`[..., H, W, C]` pixels as `[..., H, W, 3]`: colours unchanged; of a stack of greys the newest frame, the last."""
  return pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., -1:], 3, axis=-1)


def captions(is_first: Sequence[bool], reward: Sequence[float]) -> list[str]:
  """A line for each of `T` time steps: the number of the episode, and its return so far.

  Args:
    is_first: `[T]` bools, whether an episode begins here; an episode that began before is episode 1.
    reward: `[T]` floats, on arriving here; the first reward of an episode does not count.
  """
  lines, episode, total = [], 0 if any(is_first[:1]) else 1, 0.0
  for first, one in zip(is_first, reward, strict=True):
    episode, total = (episode + 1, 0.0) if first else (episode, total + float(one))
    lines.append(f"episode {episode}  return {total:.4g}")
  return lines


class Filmed(dm_env.Environment):
  """`environment` that also keeps every `pixels` observation in `frames` as `[H, W, 3]`, up to `max_frames`.

  For each frame, `captions` gives the episode and its return so far.
  """

  def __init__(self, environment: dm_env.Environment, *, max_frames: int = 500):
    """Films `environment`; if it has no `pixels`, `frames` stays empty."""
    self._environment = environment
    self._max_frames = max_frames
    self.frames: list[np.ndarray] = []
    self._is_first: list[bool] = []
    self._reward: list[float] = []

  @property
  def captions(self) -> list[str]:
    return captions(self._is_first, self._reward)

  def reset(self) -> dm_env.TimeStep:
    return self._keep(self._environment.reset())

  def step(self, action: Any) -> dm_env.TimeStep:
    return self._keep(self._environment.step(action))

  def observation_spec(self) -> Any:
    return self._environment.observation_spec()

  def action_spec(self) -> Any:
    return self._environment.action_spec()

  def _keep(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    if "pixels" in timestep.observation and len(self.frames) < self._max_frames:
      self.frames.append(rgb(np.array(timestep.observation["pixels"])))
      self._is_first.append(timestep.first())
      self._reward.append(timestep.reward or 0.0)
    return timestep


def try_write(path: pathlib.Path, frames: Iterable[np.ndarray], **options: Any) -> None:
  """`write` for a run that learns: prints what is wrong to stderr, each reason once, instead of raising OSError."""
  try:
    write(path, frames, **options)
  except OSError as error:
    _warn(error.strerror or str(error))


def write(
  path: pathlib.Path,
  frames: Iterable[np.ndarray],
  *,
  frames_per_s: float,
  scale: int = 4,
  captions: Sequence[str] | None = None,
) -> None:
  """Writes `[H, W, 3]` uint8 frames as an mp4, with every pixel enlarged `scale` times and a caption below each frame.

  ffmpeg is started directly. imageio's writer starts it with a hook between fork and exec. That child is a copy of a
  process with gRPC's and JAX's threads, and it sometimes crashes.

  Raises:
    ValueError: if there are no frames, frames of another shape, or not one caption for each frame.
    OSError: if ffmpeg could not write; the message is ffmpeg's.
  """
  frames = [np.asarray(frame) for frame in frames]
  wrong = [list(frame.shape) for frame in frames if frame.ndim != 3 or frame.shape[-1] != 3]
  if wrong:
    raise ValueError(f"{path}: a frame is {wrong[0]}, not [H, W, 3]; make it red, green and blue (`rgb`)")
  if not frames or (captions is not None and len(captions) != len(frames)):
    raise ValueError(f"{path}: {len(frames)} frames and {len(captions or [])} captions; give some, and one for each")

  def large(index: int) -> np.ndarray:
    frame = frames[index].repeat(scale, axis=0).repeat(scale, axis=1)
    return frame if captions is None else np.concatenate([frame, _line(captions[index], frame.shape[1])])

  height, width, _ = large(0).shape
  part = path.with_stem(f"{path.stem}.part")  # The file at `path` stays until a whole one replaces it.
  raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(frames_per_s), "-i", "-"]
  coded = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(part.absolute())]
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *coded]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
      assert process.stdin is not None
      with contextlib.suppress(BrokenPipeError):  # ffmpeg ended early; its own message says why.
        for index in range(len(frames)):
          process.stdin.write(large(index).tobytes())
      _, words = process.communicate()
  except (RuntimeError, OSError) as error:  # imageio_ffmpeg finds no ffmpeg, or ffmpeg does not start.
    raise OSError(errno.ENOENT, f"ffmpeg: {str(error).splitlines()[0]}", str(path)) from error
  if process.returncode:
    lines = words.decode(errors="replace").strip().splitlines() or [f"ffmpeg ended with {process.returncode}"]
    part.unlink(missing_ok=True)
    raise OSError(errno.EIO, lines[-1], str(path))
  part.replace(path)


@functools.cache
def _warn(reason: str) -> None:
  print(f"warning: no video ({reason}); everything else goes on", file=sys.stderr)


def _line(words: str, width: int) -> np.ndarray:
  """`words` in white on black, `[20, width, 3]` uint8; words that do not fit are cut off."""
  image = Image.new("RGB", (width, _CAPTION_PX))
  ImageDraw.Draw(image).text((4, 2), words, fill="white", font=ImageFont.load_default(13))
  return np.asarray(image)
