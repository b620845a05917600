"""A run directory has one writer at a time, on all hosts that see it.

Processes of one host keep each other out with `flock`, which the kernel releases when a process dies. Not every shared
file system passes it on to other hosts, so the owner also writes its name into the lock file, with a number that it
counts up. A process that finds the name of another host there watches for a while whether the number grows; no clocks
are compared. A name is erased at the end, and the name that a killed process left is taken over.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from experiments.store import run_directory

_NAME = "lock"
_SIZE = 512  # Bytes of the file.
_BEAT_S = 10.0  # Between two signs of life.
_PATIENCE_S = 45.0  # After so long without one, an owner is gone.


class Lock:
  """A directory that this process has to itself. The lock belongs to the file, not to its name: it moves with the file.

  Attributes:
    path: of the directory.
  """

  def __init__(self, path: pathlib.Path, file: TextIO):
    self.path, self._file = path, file
    self._owner = {"host": socket.gethostname(), "process": os.getpid()}
    self._is_over = threading.Event()
    self._write({**self._owner, "beat": 0})
    self._thread = threading.Thread(target=self._keep_alive, name="lock", daemon=True)
    self._thread.start()

  def check(self) -> None:
    """To be called before anything is saved: in a moved directory, writing by name would make a second one.

    Raises:
      OSError: if the directory is no longer at its path, or another process has taken it over.
    """
    own, there = os.fstat(self._file.fileno()), None
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      there = os.stat(self.path / _NAME)
    if there is None or not os.path.samestat(own, there):
      raise OSError(
        f"{self.path} was moved or deleted while it was at work, and nothing was saved since; start again with its "
        f"--workdir as it is now"
      )
    if taker := self._taker():
      raise OSError(
        f"{taker} took {self.path} over while this process gave no sign of life; nothing was saved from here since"
      )

  def close(self) -> None:
    """Gives the directory back; another process may then continue the work at once."""
    self._is_over.set()
    self._thread.join()
    with contextlib.suppress(OSError):  # A name that stays looks like a killed process's: it is taken over.
      if not self._taker():
        self._write(None)

  def _keep_alive(self) -> None:
    beat = 0
    while not self._is_over.wait(_BEAT_S):
      beat += 1
      with contextlib.suppress(OSError):  # The file system is away; `check` says so before the next save.
        if not self._taker():
          self._write({**self._owner, "beat": beat})

  def _taker(self) -> str:
    """Who has taken the directory over; '' while this process's name is there. A taker that has left leaves no name."""
    owner = _read(self.path / _NAME) or _read(self.path / _NAME)  # The first may have come in the middle of a write.
    if owner is None:
      return "another process, which has left since,"
    return "" if {**self._owner, "beat": owner["beat"]} == owner else _name(owner)

  def _write(self, owner: dict[str, Any] | None) -> None:
    text = json.dumps(owner) if owner else ""
    try:
      os.pwrite(self._file.fileno(), text.ljust(_SIZE).encode(), 0)  # In one write: a reader sees the old or the new.
      os.fsync(self._file.fileno())  # So that other hosts see it.
    except OSError as error:
      raise OSError(error.errno, f"cannot write {self._file.name} ({error.strerror})") from error


@contextlib.contextmanager
def alone(workdir: str | os.PathLike) -> Iterator[Lock]:
  """Makes the directory if there is none and keeps other processes out; the lock ends with the process.

  A new directory in which nothing was written, for example because a config was refused, is removed again.

  Raises:
    ValueError: if another process is at work there, or if the path is a file.
  """
  path = run_directory.local(workdir).absolute()
  if path.exists() and not path.is_dir():
    raise ValueError(f"--workdir={path} is a file; name a directory to make or to continue")
  is_new = not path.exists()
  with os.fdopen(_open(path), "r+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(f"another process is at work in {path}; wait for it, or use another --workdir") from None
    _wait_for_other_hosts(path)
    lock = Lock(path, file)
    try:
      yield lock
    finally:
      lock.close()
      with contextlib.suppress(OSError):  # The refusal, and its reason, count for more.
        there = list(path.glob("*")) if is_new else []
        if there == [path / _NAME] and os.path.samestat(os.fstat(file.fileno()), os.stat(there[0])):
          there[0].unlink()
          path.rmdir()


def _open(path: pathlib.Path) -> int:
  """Opens the lock file of a directory; makes file and directory if they do not exist."""
  while True:
    try:
      path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise OSError(error.errno, f"cannot make the folder {path} ({error.strerror}); name another") from error
    with contextlib.suppress(FileNotFoundError):  # A refused process has just removed it.
      return os.open(path / _NAME, os.O_RDWR | os.O_CREAT, 0o666)


def _wait_for_other_hosts(path: pathlib.Path) -> None:
  """Returns once no process of another host is at work in `path`; raises ValueError if one is."""
  owner = _read(path / _NAME)
  if owner is None or owner["host"] == socket.gethostname():  # On this host `flock` has decided.
    return
  print(f"{path}: {_name(owner)} was at work here; looking for {_PATIENCE_S:.0f} s whether it still is", flush=True)
  until_s = time.monotonic() + _PATIENCE_S
  while time.monotonic() < until_s:
    time.sleep(min(1.0, _BEAT_S))
    now = _read(path / _NAME)
    if now is None:
      return
    if now != owner:
      raise ValueError(f"{_name(now)} is at work in {path}; wait for it, or use another --workdir")


def _read(file: pathlib.Path) -> dict[str, Any] | None:
  """The owner that a lock file names, or None. The file is opened anew, since hosts keep what they have read."""
  try:
    owner = json.loads(file.read_text())
    return {"host": owner["host"], "process": owner["process"], "beat": owner["beat"]}
  except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):  # Between two writes, or older.
    return None


def _name(owner: dict[str, Any]) -> str:
  return f"process {owner['process']} of host {owner['host']}"
