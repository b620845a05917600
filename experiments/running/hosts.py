"""One run on several hosts: the same program in every process, which JAX joins into one machine of many devices.

    srun python -m experiments.train ... --coordinator=auto                 # SLURM and MPI say who is who
    python -m experiments.train ... --coordinator=HOST:PORT --num_processes=2 --process_id=0     # and 1, by hand

Every process computes the same. Only the first writes; all read the same run directory. When one process ends before
its time, the others cannot go on. Each therefore holds a connection to the first, which closes with the process,
whatever ended it. All processes then end within a second, each with one line. The same commands continue from what is
saved.
"""

import contextlib
import functools
import os
import re
import secrets
import socket
import sys
import textwrap
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.running import stop

_DONE = b"d"  # Sent before a connection is closed in good order.
_CONNECT_S = 300  # Processes of a cluster may start minutes apart.
_NOTICE_S = 2.0
_WORD = 64  # Bytes in which a process says who it is.
_is_ending = False  # All processes have agreed to end.


@contextlib.contextmanager
def joined(coordinator: str, num_processes: int | None, process_id: int | None) -> Iterator[None]:
  """Within this context the process is one of many, and it ends with them.

  Args:
    coordinator: HOST:PORT at which the first process listens; "auto" if a scheduler provides all of this.
    num_processes, process_id: how many there are, and which one this is, from 0; None: as the scheduler says.

  Raises:
    ValueError: if they do not come together.
  """
  if coordinator != "auto" and not re.fullmatch(r".+:\d+", coordinator):
    raise ValueError(f"--coordinator={coordinator} is not HOST:PORT of process 0")
  jax.config.update("jax_enable_preemption_service", False)  # `running.stop` handles signals.
  stop.install(is_importing=True)  # There is nothing to lose yet, and no way to check for a signal while JAX waits.
  try:
    jax.distributed.initialize(
      None if coordinator == "auto" else coordinator, num_processes, process_id, initialization_timeout=_CONNECT_S
    )
  except (RuntimeError, ValueError, TypeError) as error:
    fix = "give --coordinator=HOST:PORT of process 0, --num_processes and --process_id"
    raise ValueError(f"the processes of this run do not come together at {coordinator} ({error}); {fix}") from error
  stop.install()
  peers: list[socket.socket] = []
  try:
    peers += _connect(coordinator)
    yield
  except BaseException as error:
    if not _is_ending:  # The others wait for this process, and it must not wait for them.
      _end_alone(error)
    raise
  finally:
    for peer in peers:
      with contextlib.suppress(OSError):
        peer.send(_DONE)


def is_first() -> bool:
  """Whether this process is the one that writes; true if it is the only process."""
  return jax.process_index() == 0


def is_alone() -> bool:
  """Whether no other process takes part in this run."""
  return jax.process_count() == 1


def asked_to_stop(*, is_over: bool = False) -> bool:
  """Whether any process has received a signal; all processes ask this at the same time.

  `is_over` says that everything has been saved: from then on no process waits for another.
  """
  global _is_ending
  if jax.process_count() > 1:
    stop.ask(int(multihost_utils.process_allgather(np.array(stop.asked())).max()))
    _is_ending = is_over
  return bool(stop.asked())


def check_same(value: str, *, what: str) -> None:
  """Returns once all processes have called it.

  Raises:
    ValueError: if their values differ: they would learn different things, or wait for each other.
  """
  if jax.process_count() > 1:
    number = zlib.crc32(value.encode()) >> 1  # int32
    if len(set(multihost_utils.process_allgather(np.array(number)).tolist())) > 1:
      fix = "give all of them the same flags, code and --workdir, in a folder that all of them see"
      raise ValueError(f"the processes of this run differ in {what} ({textwrap.shorten(value, 80)} here); {fix}")


def local(tree: Any) -> Any:
  """The same arrays on this process's own devices, to work on alone; those held whole are on one of its devices."""
  shardings = (leaf.sharding for leaf in jax.tree.leaves(tree))
  mesh = next((one.mesh for one in shardings if isinstance(one, jax.NamedSharding)), None)
  if jax.process_count() > 1 and mesh is not None:  # A state that was just read is this process's own already.
    tree = _everywhere(mesh)(tree)
  return jax.tree.map(lambda leaf: leaf.addressable_data(0) if leaf.is_fully_replicated else leaf, tree)


@functools.cache
def _everywhere(mesh: jax.sharding.Mesh) -> Callable[[Any], Any]:
  """A program that gives every device of `mesh` whole arrays; compiled once, though it is called at every save."""
  return jax.jit(lambda tree: tree, out_shardings=jax.NamedSharding(mesh, jax.P()))


def _connect(coordinator: str) -> list[socket.socket]:
  """The first process's connections to the others, or another's connection to the first; each is watched."""
  server = socket.create_server(("", 0))
  host = socket.gethostname() if coordinator == "auto" else coordinator.rpartition(":")[0]
  word = f"{host} {server.getsockname()[1]} {secrets.token_hex(16)}".ljust(256).encode()
  host, port, token = bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(word, np.uint8))).decode().split()
  peers: dict[int, socket.socket] = {}
  try:
    if is_first():
      server.settimeout(_CONNECT_S)
      while len(peers) < jax.process_count() - 1:
        index, peer = _accept(server, token)
        peers |= {index: peer} if index else {}
    else:
      peers[0] = socket.create_connection((host, int(port)), timeout=_CONNECT_S)
      peers[0].sendall(f"{token} {jax.process_index()}".ljust(_WORD).encode())
  except OSError as error:
    raise ValueError(f"the processes of this run cannot reach each other at {host}:{port} ({error})") from error
  server.close()
  for index, peer in peers.items():
    peer.settimeout(None)
    threading.Thread(target=_watch, args=(peer, index), name=f"process {index}", daemon=True).start()
  return list(peers.values())


def _accept(server: socket.socket, token: str) -> tuple[int, socket.socket]:
  """The next process that connects, by its index, and its socket; 0 for anybody else, who may have found the port."""
  peer, _ = server.accept()
  peer.settimeout(5.0)
  said = b""
  with contextlib.suppress(TimeoutError, ConnectionError):
    said = peer.recv(_WORD, socket.MSG_WAITALL)
  word, _, index = said.decode(errors="replace").strip().partition(" ")
  return (int(index) if word == token else 0), peer


def _watch(peer: socket.socket, index: int) -> None:
  """Ends this process when another one ends before its time."""
  word = b""
  with contextlib.suppress(OSError):  # Reset, since that process was killed.
    word = peer.recv(1)
  if word != _DONE:
    who = f"process {index} of {jax.process_count()}"
    who += "" if is_first() or jax.process_count() == 2 else ", or another that it watches,"
    line = f"error: {who} has ended before its time; start all of them again"
    with contextlib.suppress(OSError):
      os.write(2, f"{line} with the same commands, which go on from what is saved\n".encode())
    os._exit(1)


def _end_alone(error: BaseException) -> NoReturn:
  """Ends this process at once, and says what went wrong in it."""
  if not isinstance(error, SystemExit):
    time.sleep(_NOTICE_S)  # If the cause is another process's end, `_watch` says so and ends this one.
    if isinstance(error, ValueError):  # A mistake in how it was started; within, errors have become exits.
      print(f"error: {error}", file=sys.stderr)
    else:
      traceback.print_exception(error)
  sys.stdout.flush()
  os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
