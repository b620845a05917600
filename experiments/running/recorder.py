"""Where records go: console, metrics.jsonl, TensorBoard, and Weights & Biases if asked for; and a watch over them.

One line of metrics.jsonl is one JSON object: int `step`, float `wall_s`, str `kind` ('train', 'eval' or 'episode'),
then float metrics, null if not finite. `wall_s` counts the time that this run has been running, over all its resumes.
"""

import contextlib
import itertools
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2, summary_pb2

from analysis import intervals, records
from experiments.running import loop, stop
from experiments.store import run_directory

_FLUSH_S = 30.0  # TensorBoard shows what is on the disk.
# From docs/learning.md: a run is ill if one of these holds in so many records, over so many steps and such a share.
_PATIENCE, _PATIENCE_STEPS, _PATIENCE_SHARE = 10, 10_000, 0.1
_EXPLAINED, _INFORMATION_NATS, _DEAD = 0.05, 1e-3, 0.5


class Recorder:
  """All sinks of a run, or of the members of a sweep. Each member has its own files; the console shows one member."""

  def __init__(
    self, paths: Sequence[pathlib.Path], *, name: str, first_step: int, until_step: int, wandb_project: str = ""
  ):
    """Opens the run directories `paths` for runs that continue from `first_step`."""
    self._files: list[tuple[Metrics | TensorBoard | WeightsAndBiases, ...]] = [
      (
        Metrics(path / "metrics.jsonl", step=first_step),
        TensorBoard(path / "tensorboard", step=first_step),
        *([WeightsAndBiases(path, project=wandb_project)] if wandb_project else []),
      )
      for path in paths
    ]
    self._watches = [Watch(path, until_step=until_step) for path in paths]
    every_s = 10.0 if len(paths) == 1 else 30.0
    self._console = Console(name=name, first_step=first_step, until_step=until_step, every_s=every_s)

  def __call__(self, record: loop.Record) -> None:
    """Writes one record to its run's files; records of runs that only fill a device's share are dropped."""
    index = record.member or 0
    for sink in (*self._files[index], self._watches[index]) if index < len(self._files) else ():
      sink(record)
    if index == 0:
      self._console(record)

  def sync(self) -> None:
    """Returns once every record so far is on the disk."""
    for sink in itertools.chain(*self._files):
      sink.sync()


class Metrics:
  """Appends to metrics.jsonl."""

  def __init__(self, path: pathlib.Path, *, step: int):
    """Opens `path` for a run that continues from a checkpoint at `step`, which supersedes all later lines; 0: all.

    Raises:
      ValueError: if a line is damaged, naming the file and the line's number; then nothing is forgotten.
    """
    kept = records.kept_until(path, step) if step and path.exists() else records.Kept(0, 0.0)
    self._file = path.open("a")
    self._file.truncate(kept.num_bytes)
    self._started = time.monotonic() - kept.wall_s

  def __call__(self, record: loop.Record) -> None:
    """Writes one line."""
    wall_s = round(time.monotonic() - self._started, 3)
    metrics = {name: run_directory.finite(value) for name, value in record.metrics.items()}
    line = {"step": record.step, "wall_s": wall_s, "kind": record.kind, **metrics}
    try:
      self._file.write(json.dumps(line, allow_nan=False) + "\n")
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


class _Optional:
  """A sink that never stops learning: if it cannot write, it warns once on stderr, and learning goes on without it."""

  def __init__(self, what: str, *, errors: type[Exception]):
    self._what, self._errors = what, errors
    self._writer: Any = None  # None: it no longer writes.

  @contextlib.contextmanager
  def _without_errors(self) -> Iterator[None]:
    try:
      yield
    except self._errors as error:
      self._writer = None
      print(f"warning: no more {self._what} ({error}); metrics.jsonl goes on", file=sys.stderr)


class TensorBoard(_Optional):
  """Scalars as `kind/name`; after any kill and resume they are those of metrics.jsonl.

  They are written without tensorboardX's thread, which hides errors and waits for ever if its queue is full.
  """

  def __init__(self, folder: pathlib.Path, *, step: int):
    """Opens `folder` for a run that continues from `step`; events after it are marked as forgotten."""
    super().__init__(f"TensorBoard in {folder}", errors=OSError)
    self._flushed = time.monotonic()
    with self._without_errors():
      folder.mkdir(parents=True, exist_ok=True)
      name = str(folder / "events")
      self._writer = event_file_writer.EventsWriter(name, f".{time.time_ns()}")  # Files of one second differ, in order.
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


class WeightsAndBiases(_Optional):
  """Scalars as `kind/name` over `step` in W&B; each start is a run there. W&B's variables apply: WANDB_MODE=offline."""

  def __init__(self, path: pathlib.Path, *, project: str):
    """Opens a run of `project` with the name and config of the run directory `path`, in which W&B's files lie."""
    super().__init__(f"W&B for {path}", errors=Exception)
    with self._without_errors():
      import wandb  # The extra `wandb`.

      self._writer = wandb.init(
        project=project,
        name=path.name,
        dir=path,
        config=run_directory.read_config(path),
        reinit="create_new",
        settings=wandb.Settings(console="off"),
      )
      self._writer.define_metric("*", step_metric="step")  # W&B's step never falls; a sweep's and an evaluation's may.

  def __call__(self, record: loop.Record) -> None:
    """Writes one record."""
    if self._writer is not None:
      values = {f"{record.kind}/{name}": float(value) for name, value in record.metrics.items()}
      with self._without_errors():
        self._writer.log({"step": record.step, **values})

  def sync(self) -> None:
    """Does nothing: W&B uploads by itself, and ends with the process."""


class Watch:
  """Warns once on stderr about lasting trouble: a useless value, a policy that ignores its inputs, dead layers."""

  def __init__(self, path: pathlib.Path, *, until_step: int):
    """Watches the run in `path`, which goes on to `until_step`."""
    self._path, self._patience = path, max(_PATIENCE_STEPS, _PATIENCE_SHARE * until_step)
    self._since: dict[str, tuple[int, int]] = {}  # What is wrong -> since which step, in how many records.
    self._said: set[str] = set()

  def __call__(self, record: loop.Record) -> None:
    """Looks at one record."""
    if record.kind != "train":
      return
    before = self._since
    self._since = {}
    for what in _wrong(record.metrics):
      since, count = before.get(what, (record.step, 0))
      self._since[what] = since, count + 1
      if what not in self._said and count + 1 >= _PATIENCE and record.step - since >= self._patience:
        self._said.add(what)
        where = f"from step {since:,} to {record.step:,}"
        print(f"warning: {self._path}: {what} {where}; docs/learning.md says what may help", file=sys.stderr)


def _wrong(metrics: Mapping[str, float]) -> list[str]:
  """What is wrong with a learner, in words; nothing if its record does not say."""
  wrong = [
    f"more than half of {name.partition('/')[2]} is dead"
    for name, share in metrics.items()
    if name.startswith("dead/") and share > _DEAD
  ]
  if metrics.get("explained_variance", 1.0) < _EXPLAINED:
    wrong.append(f"the value explains nothing of the returns (explained_variance < {_EXPLAINED})")
  if metrics.get("information", 1.0) < _INFORMATION_NATS:
    wrong.append(f"actions tell nothing of observations (information < {_INFORMATION_NATS} nats)")
  return wrong


class Console:
  """A live line: steps, steps/s, time left, return. Overwrites itself on a terminal; elsewhere one each `every_s`."""

  def __init__(self, *, name: str, first_step: int, until_step: int, every_s: float):
    """A line for a run from `first_step` to `until_step`."""
    self._name, self._first_step, self._until_step = name, first_step, until_step
    self._stream = sys.stdout
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
    steps_left = max(0, self._until_step - record.step)
    left = steps_left / rate if rate else math.inf if steps_left else 0.0
    line = f"{self._name}  step {record.step:,} of {self._until_step:,}  {rate:,.0f} steps/s  "
    line += f"{_clock(left)} left  return {'-' if math.isnan(self._return) else f'{self._return:.1f}'}"
    if is_eval:
      m = record.metrics
      line += f"  | evaluation {intervals.words(m['return_mean'], m.get('return_ci_low'), m.get('return_ci_high'))}"
    is_last_word = is_eval or not self._is_live or record.step >= self._until_step
    try:
      self._stream.write(("\r\x1b[K" if self._is_live else "") + line + ("\n" if is_last_word else ""))
      self._stream.flush()
    except OSError:
      if not stop.asked():  # Otherwise the terminal may be closed, and what has been learned is still to be saved.
        raise


def _clock(seconds: float) -> str:
  if not math.isfinite(seconds):
    return "?"
  minutes, s = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{s:02}"
