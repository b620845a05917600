"""A camera of this machine as a `protocol.Camera`: ffmpeg reads and shrinks, and a thread keeps the newest frame."""

import subprocess
import threading
import time

import imageio_ffmpeg
import numpy as np

from environments.arm import protocol

_OLDEST_S = 0.5


class Webcam:
  """Square colour pictures: the middle of what a device such as /dev/video0 shows, or of a file at its own speed."""

  def __init__(self, source: str, size: int):
    device = ["-f", "v4l2"] if source.startswith("/dev/") else ["-re"]
    square = f"crop='min(iw,ih)':'min(iw,ih)',scale={size}:{size}:flags=area"
    self._source, self._shape = source, (size, size, 3)
    self._process = subprocess.Popen(
      [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *device, "-i", source, "-vf", square]
      + ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
    )
    self._newest: tuple[float, bytes] | None = None
    self._has_frame = threading.Event()
    threading.Thread(target=self._run, daemon=True).start()
    if not self._has_frame.wait(10.0) or self._newest is None:
      self.close()
      raise protocol.BridgeError(f"the camera {source} shows nothing; connect it or name another one")

  def image(self, reading: protocol.Reading) -> np.ndarray:
    """The newest frame, uint8 `[size, size, 3]`; `protocol.BridgeError` if it is old."""
    assert self._newest is not None
    seen_s, frame = self._newest
    age_s = time.monotonic() - seen_s
    if age_s > _OLDEST_S:
      raise protocol.BridgeError(f"the camera {self._source} has shown nothing new for {age_s:.1f} s")
    return np.frombuffer(frame, np.uint8).reshape(self._shape)

  def close(self) -> None:
    self._process.kill()
    self._process.wait()

  def _run(self) -> None:
    assert self._process.stdout is not None
    num_bytes = int(np.prod(self._shape))
    while len(frame := self._process.stdout.read(num_bytes)) == num_bytes:
      self._newest = (time.monotonic(), frame)
      self._has_frame.set()
    self._has_frame.set()
