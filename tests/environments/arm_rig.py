"""An arm that outlives the code that drives it: joints on a thread of the test, reached through a socket.

It keeps a velocity until it is told another one, as a bad arm does. Only the end of its driver's connection stops it.
The driver and the camera run in the processes of the code under test. They do what `Rig.fault` says: hang, raise, or
show the past.
"""

import contextlib
import ctypes
import dataclasses
import multiprocessing.connection
import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np

from environments.arm import driver, protocol, safety
from environments.jaco import constants

HANG_S = 4.0
SLACK_S = 1.0  # What a busy machine may add.


def made(folder):
  """For a fixture: a rig in a folder, which is closed at the end."""
  with contextlib.closing(Rig(str(folder / "rig"))) as rig:
    yield rig


def connected(config):
  """For a fixture: the gate of an arm, which is closed at the end."""
  gate = driver.connect(config)
  yield gate
  with contextlib.suppress(safety.ArmLostError):  # Tests that lose the arm say so themselves.
    gate.close()


@contextlib.contextmanager
def served(config):
  """(process, address) of a server that a test may harm. It gets every signal, even if the tests run under `nohup`."""
  code = (
    "import pickle, signal, sys\n"
    "from environments.arm import server\n"
    "for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):\n"
    "  signal.signal(kind, signal.SIG_DFL)\n"
    "server.serve(pickle.load(sys.stdin.buffer), on_ready=lambda address: print(address, flush=True))"
  )
  pipe, variables = subprocess.PIPE, driver.environment_variables()
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, env=variables, start_new_session=True
  )
  try:
    pickle.dump(config, process.stdin)
    process.stdin.flush()
    yield process, process.stdout.readline().decode().strip()
  finally:
    process.kill()
    process.communicate()


class Rig:
  """Nine joints that go exactly where they are told, on the wall clock."""

  def __init__(self, path):
    self.path = path
    self.fault = ""
    self.is_placed = True  # Put at an episode's start, as a simulated arm is.
    self.driver_pid = None
    self._is_closed = False
    self.changes = [(time.monotonic(), np.zeros(9))]  # When the velocity changed, and to what.
    self.num_commands = 0
    self.num_late_reads = None  # Since its driver was closed.
    self._qpos = constants.HOME_RAD.copy()
    self._lock = threading.Lock()
    self._listener = multiprocessing.connection.Listener(path, "AF_UNIX")
    threading.Thread(target=self._accept, daemon=True).start()

  @property
  def velocity(self):
    return self.changes[-1][1]

  def qpos(self):
    with self._lock:
      return self._qpos + self.velocity * (time.monotonic() - self.changes[-1][0])

  def turn(self, by_rad):
    """Puts joint 1 elsewhere."""
    with self._lock:
      self._qpos = self._qpos + [by_rad, *np.zeros(8)]

  def stood_after(self, start_s, timeout_s=3.0):
    """Seconds from `start_s` until the arm stood still. It must still stand a while later."""
    while self.velocity.any() and time.monotonic() < start_s + timeout_s:
      time.sleep(0.001)
    time.sleep(0.3)
    assert not self.velocity.any(), "it still moves"
    return max(0.0, self.changes[-1][0] - start_s)

  def close(self):
    """Ends the accepting thread, which would otherwise wait for ever, whether or not the listener is closed."""
    self._is_closed = True
    multiprocessing.connection.Client(self.path, "AF_UNIX").close()
    self._listener.close()

  def _accept(self):
    while True:
      connection = self._listener.accept()
      if self._is_closed:
        return
      threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

  def _serve(self, connection):
    is_driver = False
    with contextlib.suppress(EOFError, OSError):
      while True:
        kind, value = connection.recv()
        if kind == "drive":
          is_driver, self.driver_pid = True, value
        elif kind == "velocity":
          self.num_commands += 1
          self._set(value)
        elif kind == "place" and self.is_placed:
          self._qpos = value
        elif kind == "close":
          self.num_late_reads = 0
        elif kind == "look":
          if self.num_late_reads is not None:
            self.num_late_reads += 1
          connection.send((self.fault, self.qpos(), self.velocity))
    if is_driver:
      self._set(np.zeros(9))

  def _set(self, velocity):
    if np.array_equal(velocity, self.velocity):
      return
    qpos = self.qpos()
    with self._lock:
      self._qpos = qpos
      self.changes.append((time.monotonic(), velocity))


@dataclasses.dataclass(frozen=True)
class RigConfig:
  path: str
  lock: str | None = None
  is_patient: bool = True  # A busy machine is no fault.
  is_real_time = True

  def limits(self):
    limits = dataclasses.replace(
      safety.jaco_limits(poll_s=0.01), clearance_m=None
    )  # The tests of the rig do not check the clearance.
    return dataclasses.replace(limits, hang_s=3.0, max_age_s=2.0, fault_age_s=3.0) if self.is_patient else limits

  def make(self):
    return RigDriver(self.path)

  def make_camera(self):
    return RigCamera(self.path)


def look(connection):
  """The rig's fault, angles and velocities."""
  connection.send(("look", None))
  return connection.recv()


def suffer(fault, what):
  """What `fault` does to a call of the kind `what`."""
  if fault == f"{what} hangs":
    time.sleep(HANG_S)
  elif fault == f"{what} hangs alone":  # In C code that keeps the interpreter's lock.
    ctypes.PyDLL(None).usleep(int(HANG_S * 1e6))
  elif fault == f"{what} raises":
    raise OSError("the cable is out")


class RigDriver:
  """Commands wait for nothing, since a busy test must not look like an arm that hangs."""

  def __init__(self, path):
    self._commands, self._readings = (multiprocessing.connection.Client(path, "AF_UNIX") for _ in range(2))
    self._commands.send(("drive", os.getpid()))
    self._fault, self._frozen = "", None

  def now_s(self):
    return time.monotonic()

  def reset(self, qpos_rad, *, seed):
    self._commands.send(("place", qpos_rad))
    return False

  def place_target(self, target_in_base_m):
    pass

  def command(self, velocity_rad_s):
    suffer(self._fault, "command")
    self._commands.send(("velocity", velocity_rad_s))

  def stop(self):
    suffer(self._fault, "stop")
    self._commands.send(("velocity", np.zeros(9)))

  def read(self):
    self._fault, qpos, velocity = look(self._readings)
    suffer(self._fault, "read")
    qpos = qpos * np.nan if self._fault == "read gives NaN" else qpos
    reading = protocol.Reading(time.monotonic(), qpos, velocity, np.array([0.45, 0.0, constants.TARGET_HEIGHT_M]))
    self._frozen = self._fault == "frozen" and (self._frozen or reading)
    return self._frozen or reading

  def close(self):
    self._commands.send(("close", None))
    suffer(self._fault, "close")


class RigCamera:
  def __init__(self, path):
    self._connection = multiprocessing.connection.Client(path, "AF_UNIX")

  def image(self, reading):
    fault, _, _ = look(self._connection)
    suffer(fault, "image")
    return np.zeros((64, 64, 3), np.uint8)

  def close(self):
    pass
