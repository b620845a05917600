"""Where records go: the console, metrics.jsonl, TensorBoard.

One line of metrics.jsonl is one JSON object: int `step`, float `wall_s`, str `kind` ('train', 'eval' or 'episode'),
then float metrics. `wall_s` counts the time that this run has been running, over all its resumes.
"""

import json
import math
import os
import pathlib
import sys
import time
from typing import TextIO

import tensorboardX

from analysis import intervals
from experiments.running import loop


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
  """Scalars as `kind/name`."""

  def __init__(self, folder: pathlib.Path, *, step: int):
    """Opens `folder`; events after `step` are marked as forgotten."""
    self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=step + 1 if step else None)

  def __call__(self, record: loop.Record) -> None:
    """Writes one record."""
    for name, value in record.metrics.items():
      self._writer.add_scalar(f"{record.kind}/{name}", value, record.step)


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
      line += f"  | evaluation {intervals.words(m['return_mean'], m.get('return_ci_low'), m.get('return_ci_high'))}"
    is_last_word = is_eval or not self._is_live or record.step >= self._until_step
    self._stream.write(("\r\x1b[K" if self._is_live else "") + line + ("\n" if is_last_word else ""))
    self._stream.flush()


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
