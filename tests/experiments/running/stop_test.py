"""Real signals to real processes: what is printed, what is saved, and the exit code."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments.running import stop

# A learner: starts, learns in updates that run no bytecode for a while (as a compilation does), and saves.
LEARNER = """
import hashlib, sys, time
from experiments.running import stop
stop.install()
def busy(s):
  until = time.monotonic() + s
  while time.monotonic() < until:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
def busy_without_bytecode():
  hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})
try:
  print("starting", flush=True)
  busy({starting_s})
  with stop.deferred():
    for i in range(1000):
      print("update", flush=True)
      busy_without_bytecode()
      if stop.asked():
        print("saved", flush=True)
        break
  print("not reached")
finally:
  print("cleaned up", flush=True)
"""


def start(*, starting_s=0.0, rounds=600_000):
  text = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # These tests may run under nohup.
  text += LEARNER.format(starting_s=starting_s, rounds=rounds)
  return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process, word):
  while (line := process.stdout.readline()).strip() != word:
    assert line, process.stderr.read()


@pytest.mark.parametrize(
  ("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)]
)
def test_a_signal_finishes_the_update_saves_and_ends(kind, code):
  process = start()
  wait_for(process, "update")
  process.send_signal(kind)
  out, error = process.communicate(timeout=300)
  assert process.returncode == code
  assert out.splitlines()[-2:] == ["saved", "cleaned up"] and "not reached" not in out
  assert error == "stopping: this update is finished and saved first; once more stops at once\n"


def test_under_nohup_a_closed_terminal_stops_nothing():
  text = LEARNER.format(starting_s=0.0, rounds=100)
  process = subprocess.Popen(["nohup", sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
  wait_for(process, "update")
  process.send_signal(signal.SIGHUP)
  assert process.communicate(timeout=300)[0].splitlines()[-2:] == ["not reached", "cleaned up"]
  assert process.returncode == 0


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_while_starting_a_signal_ends_at_once_and_cleans_up(kind, code):
  process = start(starting_s=120)
  wait_for(process, "starting")
  process.send_signal(kind)
  out, error = process.communicate(timeout=300)
  assert process.returncode == code and out == "cleaned up\n"
  assert error == "stopped; the same command goes on from what is saved, if anything is\n"


def test_a_second_signal_ends_a_program_that_holds_no_bytecode():
  process = start(rounds=2_000_000_000)  # Many minutes.
  wait_for(process, "update")
  process.send_signal(signal.SIGINT)
  assert process.stderr.readline().startswith("stopping: ")  # Printed at once, although no handler can run.
  process.send_signal(signal.SIGINT)  # The same Ctrl-C, by another way.
  time.sleep(1.2)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  out, error = process.communicate(timeout=300)
  assert process.returncode == 130 and "saved" not in out
  assert error == "stopped; the same command goes on from what is saved, if anything is\n"


def test_a_duplicate_signal_does_not_interrupt_cleanup():
  text = """
import time
from experiments.running import stop
stop.install()
try:
  with stop.deferred():
    print("update", flush=True)
    while not stop.asked(): time.sleep(0.01)
finally:
  print("closing", flush=True)
  time.sleep(0.5)
  print("closed")
"""
  process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
  wait_for(process, "update")
  process.send_signal(signal.SIGTERM)
  wait_for(process, "closing")
  process.send_signal(signal.SIGTERM)
  assert process.communicate(timeout=300)[0] == "closed\n" and process.returncode == 143


def test_handlers_of_somebody_else_are_left_to_them():
  text = """
import signal, time
from experiments.running import stop
stop.install()
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
signal.raise_signal(signal.SIGINT); time.sleep(1.2); signal.raise_signal(signal.SIGINT); time.sleep(0.3)
print(len(got), stop.asked())
"""
  done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300)
  assert (done.returncode, done.stdout, done.stderr) == (0, "2 0\n", "")


def test_other_threads_may_learn_too():
  before = signal.getsignal(signal.SIGINT)
  seen = []

  def learn():
    stop.install()
    with stop.deferred():
      seen.append(stop.asked())

  thread = threading.Thread(target=learn)
  thread.start()
  thread.join()
  assert seen == [0] and signal.getsignal(signal.SIGINT) is before


def test_a_context_inside_another_leaves_the_end_to_the_outer_one(monkeypatch):
  monkeypatch.setattr(stop, "_signal", int(signal.SIGTERM))
  reached = []
  with pytest.raises(SystemExit) as stopped, stop.deferred():
    with stop.deferred():
      pass
    reached.append(True)
  assert reached and stopped.value.code == 143
