"""The process that owns an arm, and stays in charge of it when others hang or die.

If time passes by itself (in real time), an arm's driver lives here, behind its gate, away from gRPC, cameras and the
episodes. One thread only takes calls from the server and polls the gate at its own rate. Another thread reads the
instruments, so a hanging `read` leaves an old reading, which the gate treats as a fault. When the server dies, its pipe
ends, and the arm is stopped at once. If this process still hangs, for example in C code that keeps the interpreter's
lock, the kernel ends it after `Limits.hang_s`. Then only the arm's own guard is left. Where time passes only when
asked, nothing can happen in between, and `connect` makes the gate in the caller's own process.
"""

import contextlib
import errno
import multiprocessing.connection
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from environments.arm import protocol, safety

_START_S = 60.0
_ANSWER_S = 1.0  # A call takes a millisecond.
_LAST_READ_S = 0.5  # Part of `_ANSWER_S`, for a `read` under way when the arm is released.
_WANTED_S = 0.002  # How often a wait checks whether it is still wanted.
_AUTOGROUP = pathlib.Path("/proc/self/autogroup")  # Where it exists, Linux first shares time among sessions.
_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def connect(config: protocol.DriverConfig) -> "safety.Gate | RemoteGate":
  """The gate of the arm that `config` describes. Nothing else can reach the arm. The caller must `close` the gate.

  Raises:
    protocol.BridgeError: if the arm cannot be made, or another process holds it.
  """
  if config.is_real_time:
    return RemoteGate(config)
  return safety.Gate(config.make(), config.limits())


def environment_variables() -> dict[str, str]:
  """This process's variables, with imports from this checkout."""
  path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH")]))
  return {**os.environ, "PYTHONPATH": path}


class RemoteGate:
  """A `safety.Gate` in its own process. Its calls may come from any thread, one after the other.

  If a call is not answered, the process is ended. The call and all later ones then raise `safety.ArmLostError`.
  """

  def __init__(self, config: protocol.DriverConfig):
    self.limits = config.limits()
    self._lock = threading.Lock()
    self._lost: str | None = None  # Why the process is gone.
    self._pipe, theirs = multiprocessing.connection.Pipe()
    with theirs:
      self._process = subprocess.Popen(
        [sys.executable, "-c", f"from environments.arm import driver; driver._own({theirs.fileno()})"],
        pass_fds=[theirs.fileno()],
        env=environment_variables(),
        start_new_session=True,  # Ctrl-C is for the server.
      )
    try:
      self._exchange(config, _START_S)
    except Exception as error:
      self._process.kill()
      self._process.wait()
      raise protocol.BridgeError(str(error)) from error

  def now_s(self) -> float:
    return time.monotonic()

  def command(self, velocity_rad_s: np.ndarray, *, expires_s: float) -> None:
    self._call("command", velocity_rad_s, expires_s=expires_s)

  def hold(self) -> None:
    self._call("hold")

  def stop(self) -> None:
    self._call("stop")

  def wait(self, until_s: float, *, is_wanted: Callable[[], bool] = lambda: True) -> None:
    while is_wanted() and (left_s := until_s - time.monotonic()) > 0:
      time.sleep(min(left_s, _WANTED_S))

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    return self._call("reset", qpos_rad, seed=seed)

  def read(self) -> protocol.Reading:
    return self._call("read")

  def told(self) -> list[safety.Told]:
    return self._call("told")

  def late_s(self) -> float:
    return self._call("late_s")

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    self._call("place_target", target_in_base_m)

  def poll(self) -> None:
    """Raises `safety.ArmLostError` if the process is gone, or has said that it cannot stop the arm."""
    with self._lock:
      self._refuse_lost()
      if self._pipe.poll():
        self._receive()

  def close(self) -> None:
    """Stops the arm and ends the process. Only the first call may raise, as `safety.Gate.close` does."""
    if self._pipe.closed:
      return
    try:
      self._call("close")
    finally:
      self._pipe.close()
      with contextlib.suppress(subprocess.TimeoutExpired):
        self._process.wait(_ANSWER_S)
      self._process.kill()
      self._process.wait()

  def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
    with self._lock:
      self._refuse_lost()
      return self._exchange((name, arguments, options), _ANSWER_S)

  def _exchange(self, message: Any, timeout_s: float) -> Any:
    with contextlib.suppress(OSError):  # Its last answer may still be there.
      self._pipe.send(message)
    if not self._pipe.poll(timeout_s):
      self._process.kill()
      raise self._gone(f"did not answer for {timeout_s:g} s, and was killed")
    return self._receive()

  def _receive(self) -> Any:
    try:
      answer = self._pipe.recv()
    except (EOFError, OSError):
      raise self._gone(_ending(self._process.wait())) from None
    if isinstance(answer, safety.ArmLostError):
      self._lost = str(answer)
    if isinstance(answer, Exception):
      raise answer
    return answer

  def _gone(self, how: str) -> safety.ArmLostError:
    self._lost = f"the process that owns the arm {how}; look at the arm, then start the server again"
    return safety.ArmLostError(self._lost)

  def _refuse_lost(self) -> None:
    if self._lost:
      raise safety.ArmLostError(self._lost)


def _ending(code: int) -> str:
  """How a process ended."""
  if code == -signal.SIGALRM:
    return "hung in a call to its driver, and was ended"
  return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def be_on_time(nice: int) -> None:
  """Gives this thread, and those that it starts, this niceness if the system allows it.

  What holds an arm needs little time of a busy machine, but needs it punctually. Its driver's process uses -20, its
  server somewhat less. A process with its own session sets it for the session too.
  """
  with contextlib.suppress(OSError):
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    if os.getsid(0) == os.getpid():
      _AUTOGROUP.write_text(str(nice))


def _own(handle: int) -> None:
  """The other end of `RemoteGate`: first the configuration arrives, then calls, then the pipe ends."""
  is_told = threading.Event()
  for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(kind, lambda *_: is_told.set())
  be_on_time(-20)
  pipe = multiprocessing.connection.Connection(handle)
  try:
    config: protocol.DriverConfig = pipe.recv()
  except (AttributeError, ImportError) as error:
    why = (
      f"the driver's config cannot be had in the arm's own process ({error}); define it in a module, not in a script"
    )
    return pipe.send(protocol.BridgeError(why))
  with contextlib.ExitStack() as held:
    try:
      held.enter_context(_hold(config.lock))
      driver, limits = config.make(), config.limits()
      with contextlib.ExitStack() as unread:  # Releases an arm that cannot be read.
        unread.callback(driver.close)
        reader = _Reader(driver, limits.read_s)
        gate = safety.Gate(driver, limits, read=reader.newest, end_reading=reader.end)
        unread.pop_all()
    except protocol.BridgeError as error:
      return pipe.send(error)
    except Exception as error:
      return pipe.send(protocol.BridgeError(f"the arm cannot be had ({type(error).__name__}: {error})"))
    lateness, farewell = _Lateness(), None
    try:
      pipe.send(None)
      _run(pipe, gate, limits, is_told, lateness)
      if is_told.is_set():
        farewell = safety.ArmLostError("the process that owns the arm was told to end")
    except safety.ArmLostError as error:
      farewell = error
    finally:
      signal.setitimer(signal.ITIMER_REAL, _ANSWER_S)
      try:
        gate.close()
      except Exception as error:
        farewell = farewell or safety.ArmLostError(f"the arm was not let go of ({type(error).__name__}: {error})")
    with contextlib.suppress(OSError):  # The server and its terminal may be gone.
      print(f"{farewell or 'the arm rests'}; {lateness}", file=sys.stderr)
      pipe.send(farewell)


def _run(
  pipe: multiprocessing.connection.Connection,
  gate: safety.Gate,
  limits: protocol.Limits,
  is_told: threading.Event,
  lateness: "_Lateness",
) -> None:
  """Answers calls and polls `gate` until told to end or the pipe ends. SIGALRM ends the process if a round hangs."""
  due_s = time.monotonic()
  while not is_told.is_set():
    signal.setitimer(signal.ITIMER_REAL, limits.hang_s)
    if pipe.poll(max(0.0, due_s - time.monotonic())):
      try:
        name, arguments, options = pipe.recv()
        if name == "close":
          return
        pipe.send(_answer(gate, name, arguments, options))
      except (EOFError, OSError):
        return  # The server is gone.
    now_s = time.monotonic()
    if now_s >= due_s:  # Also after a call: many calls must not starve the polls.
      with contextlib.suppress(safety.ArmFaultError):  # The gate has stopped the arm; the next caller is told.
        gate.poll()
      lateness.add(now_s - due_s)
      due_s = max(due_s + limits.poll_s, now_s)


def _answer(gate: safety.Gate, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
  """The gate's answer to a call, or the exception that it raises."""
  try:
    return getattr(gate, name)(*arguments, **options)
  except (safety.ArmFaultError, safety.CommandRefusedError) as error:
    return error


class _Reader:
  """Reads the instruments on its own thread."""

  def __init__(self, driver: protocol.Driver, period_s: float):
    self._driver, self._period_s = driver, period_s
    self._newest: protocol.Reading | Exception = driver.read()
    self._is_over = threading.Event()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def newest(self) -> protocol.Reading:
    """The newest reading, or the exception that ended the readings."""
    if isinstance(self._newest, Exception):
      raise self._newest
    return self._newest

  def end(self) -> None:
    """Ends reading. Waits for a `read` under way, unless it hangs."""
    self._is_over.set()
    self._thread.join(_LAST_READ_S)

  def _run(self) -> None:
    while not (isinstance(self._newest, Exception) or self._is_over.wait(self._period_s)):
      try:
        self._newest = self._driver.read()
      except Exception as error:
        self._newest = error


class _Lateness:
  """How late the polls came."""

  _BUCKET_S, _NUM_BUCKETS = 1e-4, 10_000

  def __init__(self) -> None:
    self._counts = np.zeros(self._NUM_BUCKETS, np.int64)

  def add(self, late_s: float) -> None:
    self._counts[min(int(late_s / self._BUCKET_S), self._NUM_BUCKETS - 1)] += 1

  def __str__(self) -> str:
    total = self._counts.cumsum()
    p99, most = np.searchsorted(total, [0.99 * total[-1], total[-1]]) * self._BUCKET_S * 1e3
    return f"it got {total[-1]:,} commands, 99 % of them less than {p99 + 0.1:.1f} ms late, all {most + 0.1:.1f} ms"


@contextlib.contextmanager
def _hold(lock: str | None) -> Iterator[None]:
  """Holds the name `lock` on this machine. The kernel releases it when this process ends, however that happens."""
  with socket.socket(socket.AF_UNIX) as holder:
    if lock is not None:
      try:
        holder.bind(f"\0progressive-robots/arm/{lock}")
      except OSError as error:
        if error.errno != errno.EADDRINUSE:  # The name is too long.
          raise protocol.BridgeError(f"the arm {lock} cannot be held by its name ({error})") from None
        raise protocol.BridgeError(
          f"the arm {lock} is held by another server on this machine; end that first"
        ) from None
    yield
