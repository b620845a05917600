"""Records what a server does, without ever blocking it.

The serving thread puts what happened into a bounded queue and goes on. Another thread turns it into
messages and writes them (`recording` says what they are). Twice a second everything is handed to the operating system,
so a killed server loses at most a second of its recording. If something cannot be written (the disk is full, or hangs),
this is said once on stderr and is missing from the recording: the arm goes on.
"""

import base64
import contextlib
import datetime
import io
import pathlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from mcap import writer
from PIL import Image

from environments.arm import recording, safety

_FLUSH_S = 0.5
_MOST_BYTES = 2**28  # Per file.
_MOST_WAITING = 1_000  # Some 100 s of steps.
_CLOSE_S = 5.0  # For the waiting items, at the end.


class Recorder:
  """Writes what it is given to files in a folder. It is a context, and records why the context ended."""

  def __init__(
    self,
    folder: pathlib.Path,
    about: Mapping[str, str],
    *,
    now_s: Callable[[], float],
    most_bytes: int = _MOST_BYTES,
  ):
    """Begins a file in `folder`, which is created.

    Args:
      folder: the folder of all files.
      about: from `recording.pack_about`.
      now_s: the driver's clock, in which all items have their times.
      most_bytes: size after which the next file begins.

    Raises:
      OSError: if nothing can be written there.
    """
    self._folder, self._about, self._most_bytes = folder, dict(about), most_bytes
    self._last_s = now_s()
    self._began_s = time.time() - self._last_s
    self._name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    self._num_files = 0
    self._has_warned = self._is_cut = False
    self._waiting: queue.Queue[recording.Item | None] = queue.Queue(_MOST_WAITING)
    folder.mkdir(parents=True, exist_ok=True)
    self._begin_file()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def put(self, item: recording.Item) -> None:
    """Queues something to be written. Takes microseconds, whatever the disk does, and never fails."""
    self._last_s = item.time_s
    if isinstance(item, recording.Step):
      self._is_cut = self._is_cut and not item.step_type.first()
      if self._is_cut:
        return  # After a missing step, later steps would seem to follow the one before it.
    try:
      self._waiting.put_nowait(item)
    except queue.Full:
      self._is_cut = True  # At the latest from the next step on.
      self._warn("the disk does not keep up, and steps are missing")

  def __enter__(self) -> "Recorder":
    return self

  def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
    """Writes what still waits, unless that takes long."""
    level, text = (recording.ERROR, str(error)) if error else (recording.INFORMATION, "the server ends")
    self.put(recording.Event(self._last_s, level, text))
    with contextlib.suppress(queue.Full):
      self._waiting.put_nowait(None)
    self._thread.join(_CLOSE_S)
    if self._thread.is_alive():
      self._warn(f"{self._waiting.qsize():,} items were not written within {_CLOSE_S:g} s of its end")

  def _run(self) -> None:
    try:
      self._write_all()
      self._writer.finish()
      self._stream.close()
    except Exception as error:  # Whatever it is, it must not reach the arm.
      self._warn(f"{type(error).__name__}: {error}")

  def _write_all(self) -> None:
    """Writes until None arrives."""
    due_s = time.monotonic() + _FLUSH_S
    while True:
      with contextlib.suppress(queue.Empty):
        item = self._waiting.get(timeout=max(0.0, due_s - time.monotonic()))
        if item is None:
          return
        self._write(item)
      if time.monotonic() >= due_s:
        self._writer.flush()
        if self._stream.tell() >= self._most_bytes:
          self._writer.finish()
          self._stream.close()
          self._begin_file()
        due_s = time.monotonic() + _FLUSH_S

  def _begin_file(self) -> None:
    path = self._folder / f"{self._name}_{self._num_files:04}.mcap"
    self._num_files += 1
    self._stream = path.open("xb")
    self._writer = writer.Writer(self._stream)
    self._writer.start(library="progressive-robots")
    self._channels = {}
    for topic, (name, fields) in _SCHEMAS.items():
      schema = orjson.dumps({"title": name, "type": "object", "properties": {"timestamp": _TIME, **fields}})
      schema_id = self._writer.register_schema(name, "jsonschema", schema)
      self._channels[topic] = self._writer.register_channel(topic, "json", schema_id)
    self._writer.add_metadata(recording.ABOUT, self._about)
    self._writer.flush()

  def _write(self, item: recording.Item) -> None:
    if isinstance(item, recording.Step):
      observation = dict(item.observation)
      pixels = observation.pop(recording.PIXELS, None)
      if pixels is not None:
        picture = io.BytesIO()
        Image.fromarray(pixels).save(picture, "PNG")
        data = base64.b64encode(picture.getvalue()).decode()
        self._add(recording.CAMERA, item.time_s, {"frame_id": "camera", "data": data, "format": "png"})
      reading = item.reading
      fields = {
        **item._asdict(),
        "observation": observation,
        "reading": {
          "time_s": self._began_s + reading.time_s,
          "qpos_rad": reading.qpos_rad,
          "qvel_rad_s": reading.qvel_rad_s,
          "target_in_base_m": reading.target_in_base_m,
        },
      }
      self._add(recording.STEP, item.time_s, fields)
    elif isinstance(item, safety.Told):
      self._add(recording.TOLD, item.time_s, item._asdict())
    else:
      fields = {"level": item.level, "message": item.text, "name": "arm", "file": "", "line": 0}
      self._add(recording.LOG, item.time_s, fields)

  def _add(self, topic: str, time_s: float, fields: Mapping[str, Any]) -> None:
    time_ns = round((self._began_s + time_s) * 1e9)
    seconds, nanoseconds = divmod(time_ns, 10**9)
    message = {**fields, "timestamp": {"sec": seconds, "nsec": nanoseconds}}
    message.pop("time_s", None)  # It is of the driver's clock.
    data = orjson.dumps(message, np.ndarray.tolist, orjson.OPT_SERIALIZE_NUMPY)  # Non-contiguous arrays become lists.
    self._writer.add_message(self._channels[topic], time_ns, data, time_ns)

  def _warn(self, why: str) -> None:
    """Prints one warning."""
    if not self._has_warned:
      self._has_warned = True
      with contextlib.suppress(OSError):  # The terminal may be gone.
        print(f"warning: {self._folder} is no whole recording ({why}); the arm goes on", file=sys.stderr)


_NUMBER, _NUMBERS = {"type": "number"}, {"type": "array", "items": {"type": "number"}}
_WORDS, _WHOLE = {"type": "string"}, {"type": "integer"}
_TIME = {"type": "object", "title": "time", "properties": {"sec": _WHOLE, "nsec": _WHOLE}}
_READING = {"time_s": _NUMBER, "qpos_rad": _NUMBERS, "qvel_rad_s": _NUMBERS, "target_in_base_m": _NUMBERS}
# Topic -> name and fields of its messages. Foxglove knows its own messages by their names.
_SCHEMAS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
  recording.STEP: (
    "progressive_robots.Step",
    {
      "step_type": _WHOLE,
      "reward": _NUMBER,
      "discount": _NUMBER,
      "action": _NUMBERS,
      "asked_rad_s": _NUMBERS,
      "reading": {"type": "object", "properties": _READING},
      "observation": {"type": "object", "additionalProperties": _NUMBERS},
      "is_cut_short": {"type": "boolean"},
    },
  ),
  recording.CAMERA: (
    "foxglove.CompressedImage",
    {"frame_id": _WORDS, "data": {"type": "string", "contentEncoding": "base64"}, "format": _WORDS},
  ),
  recording.TOLD: ("progressive_robots.Told", {"asked_rad_s": _NUMBERS, "allowed_rad_s": _NUMBERS, "why": _WORDS}),
  recording.LOG: (
    "foxglove.Log",
    {"level": _WHOLE, "message": _WORDS, "name": _WORDS, "file": _WORDS, "line": _WHOLE},
  ),
}
