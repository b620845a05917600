"""Stopping a program without losing what it has learned.

These signals ask for it: SIGTERM and SIGUSR1 of schedulers, Ctrl-C's SIGINT, and SIGHUP of a terminal that is closed.

    stop.install()                    # once, in a binary
    with stop.deferred():             # around a loop that promises to look
      for state in updates:
        if stop.asked(): save(state); break

The first signal ends the program at once (`SystemExit` in the main thread: `with` and `finally` run, no traceback is
printed). Within `deferred` it is only a request that the loop checks for; the program ends when the context does. The
second signal ends the process wherever it is. Python runs a signal handler between two bytecodes, and a program that is
being compiled has none for a minute. A thread of our own therefore counts the signals, from the interpreter's wakeup
pipe.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
# Signals this close together are one: Ctrl-C reaches every process of a terminal, and this one again through its
# parent.
_TOGETHER_S = 1.0
_DEFERRED = "stopping: this update is finished and saved first; once more stops at once"
_AT_ONCE = "stopped; the same command goes on from what is saved, if anything is"

_signal: int | None = None  # The first that came.
_is_importing = False  # Some modules crash when an exception interrupts their import.
_num_deferred = 0  # Contexts that are open.
_ending = threading.Lock()


def install(*, is_importing: bool = False) -> None:
  """Takes these signals over for the rest of the program; does nothing outside of the main thread, or twice.

  With `is_importing`, the first signal ends the process wherever it is, until `install` is called again.
  """
  global _is_importing
  _is_importing = is_importing
  if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is _handle:
    return
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  for kind in SIGNALS:
    if kind != signal.SIGHUP or signal.getsignal(kind) != signal.SIG_IGN:  # As nohup has it.
      signal.signal(kind, _handle)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(reader,), name="stop", daemon=True).start()


def asked() -> int:
  """The first signal that has come, or that `ask` has passed on; 0 if none has."""
  return _signal or 0


def ask(kind: int) -> None:
  """Acts as if the signal `kind` had come, which came to another process of the same run; 0 is none."""
  global _signal
  _signal = _signal or kind or None


@contextlib.contextmanager
def ended() -> Iterator[None]:
  """Around a whole program: if it leaves because a signal has come, the process ends here.

  The interpreter's own end crashes after an exception that a signal raised in the middle of XLA's compilation.
  """
  try:
    yield
  except SystemExit as end:
    if _signal is None:
      raise
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
      with contextlib.suppress(OSError, ValueError):  # The reader has left.
        stream.flush()
    os._exit(end.code if isinstance(end.code, int) else 128 + _signal)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Within this context the first signal only changes what `asked` says.

  Raises:
    SystemExit: on leaving without another exception, if a signal has come: 128 plus its number, 143 for SIGTERM.
  """
  global _num_deferred
  _num_deferred += 1
  try:
    yield
  finally:
    _num_deferred -= 1
  if _signal is not None and not _num_deferred:
    raise SystemExit(128 + _signal)


def _handle(kind: int, _: object) -> None:
  """Runs in the main thread, as soon as it can."""
  global _signal
  if _signal is not None:
    return  # The same signal by another way, or the second one, which `_watch` sees.
  _signal = kind
  if not _num_deferred:
    if _is_importing:
      _end(kind)
    _say(_AT_ONCE)
    raise SystemExit(128 + kind)


def _watch(reader: int) -> None:
  """Says at once that a signal was noticed, even if no handler can run, and ends the process at the second signal."""
  first = None
  while kind := os.read(reader, 1)[0]:
    if kind not in SIGNALS or signal.getsignal(kind) is not _handle:
      continue  # Somebody else's: a server of the arm has its own handlers.
    if first is None:
      first = time.monotonic()
      if _num_deferred:
        _say(_DEFERRED)
      elif _is_importing:  # Code that waits in C runs no handler.
        _end(kind)
    elif time.monotonic() - first > _TOGETHER_S:
      _end(kind)


def _end(kind: int) -> NoReturn:
  """Ends the process wherever it is, with one line, whichever threads call it."""
  with _ending:
    _say(_AT_ONCE)
    os._exit(128 + kind)


def _say(line: str) -> None:
  """Writes past Python's buffers, whose locks the main thread may hold."""
  before = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""
  with contextlib.suppress(OSError):  # The terminal is closed.
    os.write(2, f"{before}{line}\n".encode())
