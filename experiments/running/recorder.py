"""Where records go: the console, metrics.jsonl, TensorBoard.

One line of metrics.jsonl is one JSON object: int `step`, float `wall_s`, str `kind` ('train', 'eval' or 'episode'),
then float metrics. `wall_s` counts the time that this run has been running, over all its resumes.
"""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

import numpy as np
from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2, summary_pb2

from experiments.running import loop

_FLUSH_S = 30.0  # TensorBoard shows what is on the disk.


class Metrics:
  """Appends to metrics.jsonl; on opening, forgets every line after `step`, a torn last line included."""

  def __init__(self, path: pathlib.Path, *, step: int):
    """Opens `path` for a run that continues from `step` (0: from the start)."""
    lines = _lines_until(path, step)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.replace(temporary, path)
    self._file = path.open("a")
    self._started = time.monotonic() - (lines[-1]["wall_s"] if lines else 0.0)

  def __call__(self, record: loop.Record) -> None:
    """Writes one line."""
    wall_s = round(time.monotonic() - self._started, 3)
    metrics = {name: float(value) for name, value in record.metrics.items()}
    try:
      self._file.write(json.dumps({"step": record.step, "wall_s": wall_s, "kind": record.kind, **metrics}) + "\n")
      self._file.flush()
    except OSError as error:
      raise OSError(
        error.errno,
        f"cannot write {self._file.name} ({error.strerror}); checkpoints up to now are whole: free some space and "
        f"start again with the same command",
      ) from error

  def sync(self) -> None:
    """Returns once every line so far is on the disk."""
    self._file.flush()
    os.fsync(self._file.fileno())


class TensorBoard:
  """Scalars as `kind/name`: after any kill and resume those of metrics.jsonl.

  Written without tensorboardX's thread, behind which an error is not seen and a full queue waits for ever. What cannot
  be written is said once on stderr, and learning goes on without.
  """

  def __init__(self, folder: pathlib.Path, *, step: int):
    """Opens `folder` for a run that continues from `step`; events after it are marked as forgotten."""
    self._folder = folder
    self._writer: event_file_writer.EventsWriter | None = None
    self._flushed = time.monotonic()
    with self._without_errors():
      folder.mkdir(parents=True, exist_ok=True)
      name = str(folder / "events")
      self._writer = event_file_writer.EventsWriter(name, f".{time.time_ns()}")  # A second's files differ, in order.
      forget = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      first_forgotten = step + 1 if step else 0
      self._writer.write_event(event_pb2.Event(step=first_forgotten, session_log=forget, wall_time=time.time()))

  def __call__(self, record: loop.Record) -> None:
    """Writes one record."""
    if self._writer is None:
      return
    values = [(f"{record.kind}/{name}", float(value)) for name, value in record.metrics.items()]
    scalars = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=x) for tag, x in values])
    with self._without_errors():
      self._writer.write_event(event_pb2.Event(step=record.step, summary=scalars, wall_time=time.time()))
      if time.monotonic() - self._flushed > _FLUSH_S:
        self.sync()

  def sync(self) -> None:
    """Returns once every record so far is on the disk: before the checkpoint that supersedes them."""
    if self._writer is None:
      return
    with self._without_errors():
      self._writer.flush()
      self._flushed = time.monotonic()

  @contextlib.contextmanager
  def _without_errors(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      self._writer = None
      print(f"warning: no more TensorBoard in {self._folder} ({error}); metrics.jsonl goes on", file=sys.stderr)


class Console:
  """A live line: steps, steps/s, time left, return. Overwrites itself on a terminal; else one each `every_s`."""

  def __init__(self, *, name: str, first_step: int, until_step: int, every_s: float, stream: TextIO | None = None):
    """A line for a run from `first_step` to `until_step`."""
    self._name, self._first_step, self._until_step = name, first_step, until_step
    self._stream = stream or sys.stdout
    self._is_live = self._stream.isatty()
    self._every_s = 0.5 if self._is_live else every_s
    self._started = self._printed = time.monotonic()
    self._return = math.nan

  def __call__(self, record: loop.Record) -> None:
    """Shows one record, if it is time."""
    if record.kind == "episode":
      old = self._return
      self._return = record.metrics["return"] if math.isnan(old) else 0.95 * old + 0.05 * record.metrics["return"]
    elif record.kind == "train":
      self._return = record.metrics.get("return_mean", self._return)
    now = time.monotonic()
    is_eval = record.kind == "eval"
    if not is_eval and now - self._printed < self._every_s and record.step < self._until_step:
      return
    self._printed = now
    rate = (record.step - self._first_step) / max(now - self._started, 1e-9)
    left = (self._until_step - record.step) / rate if rate else math.inf
    line = f"{self._name}  step {record.step:,} of {self._until_step:,}  {rate:,.0f} steps/s  "
    line += f"{_clock(left)} left  return {'-' if math.isnan(self._return) else f'{self._return:.1f}'}"
    if is_eval:
      m = record.metrics
      line += f"  | evaluation {m['return_mean']:.1f} [{m['return_ci_low']:.1f}, {m['return_ci_high']:.1f}]"
    is_last_word = is_eval or not self._is_live or record.step >= self._until_step
    self._stream.write(("\r\x1b[K" if self._is_live else "") + line + ("\n" if is_last_word else ""))
    self._stream.flush()


def confidence_interval(values: np.ndarray, z: float = 1.96) -> tuple[float, float, float]:
  """Mean and its normal 95 % confidence interval, from `[N]` independent values."""
  values = np.asarray(values, np.float64)
  mean = float(values.mean())
  margin = z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
  return mean, mean - margin, mean + margin


def _lines_until(path: pathlib.Path, step: int) -> list[dict]:
  """The whole lines of a metrics file with a step up to `step`."""
  if not path.exists() or step == 0:
    return []
  lines = []
  for text in path.read_text().splitlines():
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      break  # The last line of a killed process.
    if line["step"] <= step:
      lines.append(line)
  return lines


def _clock(seconds: float) -> str:
  if not math.isfinite(seconds):
    return "?"
  minutes, s = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{s:02}"
