"""TensorBoard shows what metrics.jsonl says, after any kill. Neither TensorBoard nor W&B can stop a run."""

import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from experiments.running import loop, recorder

ROOT = pathlib.Path(recorder.__file__).parents[2]

# Writes records 1 to `until`, saves at `saved` as a run does, and is then killed.
_KILLED = """
import os, pathlib, sys
from experiments.running import loop, recorder
path, first, saved, until = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
metrics, board = recorder.Metrics(path / "metrics.jsonl", step=first), recorder.TensorBoard(path / "tb", step=first)
for step in range(first + 1, until + 1):
  for sink in (metrics, board):
    sink(loop.Record(step, "train", {"loss": step + until / 1000}))
  if step == saved:
    metrics.sync(), board.sync()
os._exit(9)
"""


def run_and_kill(path, first, saved, until):
  command = [sys.executable, "-c", _KILLED, str(path), *(str(x) for x in (first, saved, until))]
  assert subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 9


def events(folder):
  """All events in the order in which TensorBoard reads them: length, checksum, event, checksum (TFRecord)."""
  for file in sorted(folder.iterdir()):
    data, at = file.read_bytes(), 0
    while at + 12 <= len(data):
      (length,) = struct.unpack_from("<Q", data, at)
      if at + 16 + length > len(data):
        break  # A killed process cut it short.
      yield event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
      at += 16 + length


def shown(folder):
  """What TensorBoard draws. A start purges the points at its step or later (event.proto: SessionLog)."""
  points = []
  for event in events(folder):
    if event.session_log.status == event_pb2.SessionLog.START:
      points = [point for point in points if point[0] < event.step]
    points += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
  return points


def test_after_kills_tensorboard_shows_what_metrics_jsonl_says(tmp_path):
  run_and_kill(tmp_path, 0, 0, 30)  # Killed before its first checkpoint.
  run_and_kill(tmp_path, 0, 40, 60)
  metrics, board = recorder.Metrics(tmp_path / "metrics.jsonl", step=40), recorder.TensorBoard(tmp_path / "tb", step=40)
  for step in range(41, 81):
    for sink in (metrics, board):
      sink(loop.Record(step, "train", {"loss": step + 0.08, "entropy": np.float32(0.5)}))
      sink(loop.Record(step, "eval", {"return_mean": -step}))
  metrics.sync()
  board.sync()
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  expected = [
    (line["step"], f"{line['kind']}/{name}", np.float32(value))
    for line in lines
    for name, value in line.items()
    if name not in ("step", "kind", "wall_s")
  ]
  assert shown(tmp_path / "tb") == expected
  assert [point[0] for point in expected if point[1] == "train/loss"] == list(range(1, 81))


def test_every_line_is_json_whatever_is_measured(tmp_path):
  def refuse(name):
    raise AssertionError(f"{name} is no JSON (RFC 8259, section 6)")

  path = tmp_path / "metrics.jsonl"
  recorder.Metrics(path, step=0)(
    loop.Record(1, "train", {"loss": np.float32(np.nan), "a": -np.inf, "b": np.inf, "c": 2})
  )
  line = json.loads(path.read_text(), parse_constant=refuse)
  assert (line["loss"], line["a"], line["b"], line["c"]) == (None, None, None, 2.0)


def test_starts_within_a_second_write_files_of_their_own(tmp_path):
  for step in (0, 10, 20):
    board = recorder.TensorBoard(tmp_path, step=step)
    board(loop.Record(step + 5, "train", {"loss": 0.0}))
    board.sync()
  assert [point[0] for point in shown(tmp_path)] == [5, 15, 25]


def test_a_full_disk_ends_tensorboard_with_one_warning_and_nothing_else(tmp_path, capsys):
  board = recorder.TensorBoard(tmp_path / "tb", step=0)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # The system itself refuses, as with a full disk.
  try:
    for step in range(2000):
      board(loop.Record(step, "train", {"loss": 0.0}))
      board.sync()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert error.startswith(f"warning: no more TensorBoard in {tmp_path}/tb (") and "metrics.jsonl goes on" in error


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path, capsys):
  (tmp_path / "tb").write_text("a file")
  board = recorder.TensorBoard(tmp_path / "tb", step=0)
  board(loop.Record(1, "train", {"loss": 0.0}))
  board.sync()
  assert capsys.readouterr().err.count("warning: no more TensorBoard") == 1


class FakeRun:
  """Keeps what W&B gets, and fails from the third record on."""

  def __init__(self):
    self.logged = []

  def define_metric(self, name, *, step_metric):
    assert (name, step_metric) == ("*", "step")

  def log(self, values):
    if len(self.logged) == 2:
      raise ConnectionError("gone")
    self.logged.append(values)


def test_weights_and_biases_gets_every_record_until_it_fails(tmp_path, capsys, monkeypatch):
  runs = []

  def init(**options):
    assert options["project"] == "robots" and options["name"] == f"{len(runs):02}" and options["config"] == {}
    runs.append(FakeRun())
    return runs[-1]

  fake = types.SimpleNamespace(init=init, Settings=lambda **options: options)
  monkeypatch.setitem(sys.modules, "wandb", fake)
  paths = [tmp_path / name for name in ("00", "01")]
  for path in paths:
    path.mkdir()
  write = recorder.Recorder(paths, name="sweep", first_step=0, until_step=9, wandb_project="robots")
  for step in (1, 2, 3, 4):
    write(loop.Record(step, "train", {"loss": np.float32(step)}, member=1))
    write.sync()
  assert [run.logged for run in runs] == [[], [{"step": step, "train/loss": float(step)} for step in (1, 2)]]
  assert capsys.readouterr().err == f"warning: no more W&B for {tmp_path}/01 (gone); metrics.jsonl goes on\n"
  assert len((tmp_path / "01/metrics.jsonl").read_text().splitlines()) == 4


def test_without_weights_and_biases_a_run_goes_on(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)  # Not installed.
  recorder.WeightsAndBiases(tmp_path, project="robots")(loop.Record(1, "train", {"loss": 0.0}))
  error = capsys.readouterr().err
  assert error.startswith(f"warning: no more W&B for {tmp_path} (") and error.count("\n") == 1


def test_weights_and_biases_offline(tmp_path):
  pytest.importorskip("wandb")
  script = (
    "import pathlib, sys; from experiments.running import loop, recorder;"
    "sink = recorder.WeightsAndBiases(pathlib.Path(sys.argv[1]), project='robots');"
    "sink(loop.Record(1, 'train', {'loss': 0.5}))"
  )
  environ = os.environ | {"WANDB_MODE": "offline"}
  done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=environ, text=True, stderr=-1)
  assert done.returncode == 0 and "warning: no more" not in done.stderr
  assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.parametrize("step", [0, 7])
def test_what_a_resumed_run_has_not_reached_is_marked_as_forgotten(tmp_path, step):
  recorder.TensorBoard(tmp_path, step=step).sync()
  first, second = events(tmp_path)
  assert first.file_version == "brain.Event:2"  # From this version on TensorBoard heeds the mark.
  assert second.step == (8 if step else 0)


def watch(capsys, records, *, until_step):
  """The lines that a watch prints about train records (step, metrics)."""
  watching = recorder.Watch(pathlib.Path("runs/a"), until_step=until_step)
  for step, metrics in records:
    watching(loop.Record(step, "train", metrics))
    watching(loop.Record(step, "episode", {"return": 1.0}))
  return capsys.readouterr().err.splitlines()


HEALTHY = {"explained_variance": 0.6, "information": 0.3, "dead/conv1": 0.0, "dead/dense1": 0.4}


def test_a_healthy_run_is_not_warned_of(capsys):
  assert watch(capsys, [(step, HEALTHY) for step in range(1_500, 45_000, 1_500)], until_step=45_000) == []


@pytest.mark.parametrize(
  ("ill", "words"),
  [
    ({"explained_variance": 0.0}, "the value explains nothing of the returns"),
    ({"information": 1e-4}, "actions tell nothing of observations"),
    ({"dead/dense1": 0.75}, "more than half of dense1 is dead"),
  ],
)
def test_what_is_ill_for_long_is_said_once(capsys, ill, words):
  steps = range(1_500, 45_000, 1_500)
  (line,) = watch(capsys, [(step, HEALTHY | ill) for step in steps], until_step=45_000)
  assert line.startswith(f"warning: runs/a: {words}") and "from step 1,500 to 15,000" in line
  assert watch(capsys, [(step, HEALTHY | (ill if step % 13_500 else {})) for step in steps], until_step=45_000) == []
  assert watch(capsys, [(step, HEALTHY | ill) for step in steps], until_step=1_000_000) == []  # Not yet a tenth of it.
  few = [(step, HEALTHY | ill) for step in range(100, 5_000, 100)]
  assert watch(capsys, few, until_step=5_000) == []  # A run this short has learned nothing yet.
