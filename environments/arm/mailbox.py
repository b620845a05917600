"""Calls that one thread leaves and another thread makes.

An arm's world and a camera belong to one thread each. Another thread that wants something of them leaves a call and
waits for its future.
"""

import queue
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any


class Mailbox:
  """Carries calls to the thread that makes them."""

  def __init__(self) -> None:
    self._calls: queue.SimpleQueue[tuple[Callable[[], Any], futures.Future[Any]]] = queue.SimpleQueue()
    self._lock = threading.Lock()
    self._is_closed = False

  def put(self, function: Callable[[], Any]) -> futures.Future[Any]:
    """Leaves a call for the other thread to make. The call is cancelled if nobody will make it any more."""
    future: futures.Future[Any] = futures.Future()
    with self._lock:
      if self._is_closed:
        future.cancel()
      else:
        self._calls.put((function, future))
    return future

  def is_empty(self) -> bool:
    """Whether no call waits."""
    return self._calls.empty()

  def serve_one(self, timeout_s: float | None = None) -> bool:
    """Makes the next call; returns False if none came in time."""
    try:
      function, future = self._calls.get(timeout=timeout_s)
    except queue.Empty:
      return False
    try:
      future.set_result(function())
    except Exception as error:
      future.set_exception(error)
    return True

  def serve(self) -> None:
    """Makes all calls, for ever."""
    while True:
      self.serve_one()

  def close(self) -> None:
    """Cancels the waiting calls and all later ones."""
    with self._lock:
      self._is_closed = True
    while not self._calls.empty():
      self._calls.get()[1].cancel()
