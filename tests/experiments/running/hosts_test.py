"""One run in two processes, each with devices of its own, as on two hosts."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.running import hosts, run
from experiments.store import checkpoint
from tests.agents import worlds
from tests.experiments.running import run_test

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Runs the binary on a small world: WORKDIR, steps, and flags of `binary`.
_PROGRAM = """
import os, sys
sys.path.insert(0, {root!r})
from absl import flags
from environments import registry
from experiments import binary
from experiments.running import run
from tests.agents import worlds
from tests.experiments.running import run_test
registry.make = lambda name, **options: worlds.CueRecall()
registry.resolve = lambda name, options: options
config = run_test.make_config()
config.train.steps, config.train.evaluate_every = int(sys.argv.pop(1)), 0
config.train.hyper.learning_rate = float(os.environ.get("RATE", 1e-3))
binary.run(lambda: run.run(config, binary.workdir()), reads=(binary.WORKDIR, *binary.HOSTS))
"""


def start(workdir, *flags_of_each, steps, rates=(1e-3, 1e-3)):
  """Starts the processes of a run, with their flags and learning rates."""
  script = workdir.with_name("program.py")
  script.write_text(_PROGRAM.format(root=str(ROOT)))
  commands = [[sys.executable, str(script), str(steps), f"--workdir={workdir}", *flags] for flags in flags_of_each]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  return [
    subprocess.Popen(command, env=os.environ | {"RATE": str(rate)}, cwd=ROOT, **pipes)
    for command, rate in zip(commands, rates, strict=False)
  ]


def start_two(workdir, **options):
  port = free_port()
  flags = [[f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}"] for i in range(2)]
  return start(workdir, *flags, **options)


def free_port():
  with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    return one.getsockname()[1]


def end(processes):
  """(exit code, stdout, stderr) of each process, without the backend's own messages."""
  ends = []
  for process in processes:
    out, error = process.communicate(timeout=300)
    words = ("".join(line for line in text.splitlines(True) if "[Gloo]" not in line) for text in (out, error))
    ends.append((process.returncode, *words))
  return ends


def wait_for_checkpoint(workdir, processes, *, after=0):
  deadline = time.monotonic() + 300
  while checkpoint.steps(workdir / "checkpoints")[-1:] <= [after]:
    assert time.monotonic() < deadline and not any(map(subprocess.Popen.poll, processes)), end(processes)
    time.sleep(0.05)


def alone(workdir, *, steps):
  """The run in this process alone."""
  config = run_test.make_config()
  config.train.update({"steps": steps, "evaluate_every": 0})
  config.train.hyper.learning_rate = 1e-3
  return run.run(config, workdir)


def check_said(killed, ending):
  """Checks that the process beside a `killed` one has ended with one line."""
  code, _, error = ending
  line = f"error: process {killed} of 2 has ended before its time; start all of them again with the same commands"
  assert code == 1 and error.count(line) == 1, error


def test_two_processes_learn_what_one_does_and_the_first_alone_writes(tmp_path, monkeypatch, capsys):
  worlds.serve(monkeypatch, lambda name, **options: worlds.CueRecall())
  together = end(start_two(tmp_path / "together", steps=200))
  assert [code for code, *_ in together] == [0, 0], together
  assert "step 200 of 200" in together[0][1] and not together[1][1]
  alone(tmp_path / "alone", steps=200)
  (step, two), (same, one) = (checkpoint.load_newest(tmp_path / name / "checkpoints") for name in ("together", "alone"))
  assert step == same == 200
  for name in one:
    np.testing.assert_allclose(two[name], one[name], atol=1e-4)
  records = [run_test.lines(tmp_path / name) for name in ("together", "alone")]
  for a, b in zip(*records, strict=True):  # Each record once.
    assert (a["step"], a["kind"], a["episodes"]) == (b["step"], b["kind"], b["episodes"])
    np.testing.assert_allclose(a["return_mean"], b["return_mean"], atol=1e-6)
  kept = [json.dumps(record) for record in records[0] if record["kind"] != "eval"]
  (tmp_path / "together" / "metrics.jsonl").write_text("\n".join([*kept, ""]))
  again = end(start_two(tmp_path / "together", steps=200))  # Both make the missing evaluation, and one writes it.
  assert [code for code, *_ in again] == [0, 0], again
  made = [record for record in run_test.lines(tmp_path / "together") if record["kind"] == "eval"]
  assert [record["return_mean"] for record in made] == [
    pytest.approx(record["return_mean"]) for record in records[0] if record["kind"] == "eval"
  ]
  alone(tmp_path / "together", steps=400)  # One continues where two stopped.
  assert "continues from step 200" in capsys.readouterr().out


def test_the_second_ends_with_one_line_where_the_first_is_killed(tmp_path):
  processes = start_two(tmp_path / "run", steps=10_000_000)
  wait_for_checkpoint(tmp_path / "run", processes)
  processes[0].kill()
  check_said(0, end(processes)[1])


def test_a_stop_signal_to_one_process_makes_all_save_and_they_resume(tmp_path):
  processes = start_two(tmp_path / "run", steps=10_000_000)
  wait_for_checkpoint(tmp_path / "run", processes)
  processes[1].send_signal(signal.SIGTERM)
  ends = end(processes)
  assert [code for code, *_ in ends] == [143, 143], ends
  newest = checkpoint.steps(tmp_path / "run" / "checkpoints")[-1]
  processes = start_two(tmp_path / "run", steps=10_000_000)
  wait_for_checkpoint(tmp_path / "run", processes, after=newest)
  processes[1].kill()
  first, _ = end(processes)
  assert f"continues from step {newest:,}" in first[1]
  check_said(1, first)


def test_a_refusal_by_process_0_ends_all_processes(tmp_path):
  (tmp_path / "run").write_text("a file")
  ends = end(start_two(tmp_path / "run", steps=100))
  assert (
    [code for code, *_ in ends] == [1, 1] and "error: " in ends[0][2] and "is a file; name a directory" in ends[0][2]
  ), ends


def test_processes_with_different_configs_are_refused(tmp_path):
  ends = end(start_two(tmp_path / "run", steps=100, rates=(1e-3, 0.1)))
  assert [code for code, *_ in ends] == [1, 1]
  lines = [error.splitlines()[0] for *_, error in ends]
  assert all("error: " in line for line in lines) and any("differ in --workdir, code or config" in x for x in lines)
  assert not checkpoint.steps(tmp_path / "run" / "checkpoints")


def test_a_run_whose_processes_are_not_said_is_refused(tmp_path):
  ((code, _, error),) = end(start(tmp_path / "run", ["--coordinator=127.0.0.1:9"], steps=100))
  line = "error: the processes of this run do not come together at 127.0.0.1:9 ("
  assert code == 1 and error.startswith(line) and error.count("\n") == 1, error
  with pytest.raises(ValueError, match="--coordinator=localhost is not HOST:PORT of process 0"):
    hosts.joined("localhost", None, None).__enter__()
