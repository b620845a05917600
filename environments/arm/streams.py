"""The clients' side of the server, on gRPC's threads: each client's requests, one at a time, to the desk and back.

A stream ends after an invalid message, or one that did not wait for the previous answer: what was written long ago must
not move an arm. The server knows at once if a client no longer waits, so nothing moves for a client that is gone.
"""

import contextlib
import functools
import queue
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from google.protobuf import message as protobuf_message
from google.rpc import code_pb2

from environments.arm import credentials
from environments.arm import desk as desk_lib
from environments.arm import mailbox as mailbox_lib


class Servicer:
  """Runs on gRPC's threads: carries requests to the serving thread, and answers back."""

  def __init__(self, desk: desk_lib.Desk, mailbox: mailbox_lib.Mailbox, own: credentials.Credentials | None):
    self._desk, self._mailbox, self._own = desk, mailbox, own

  def Process(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[rpc.EnvironmentResponse]:
    """One client's stream. It ends after an invalid message, or one that did not wait for the previous answer."""
    client = threading.Event()
    stranger = self._own and self._own.refusal({one.key: one.value for one in context.invocation_metadata()})
    try:
      if stranger:
        yield self._refuse(client, code_pb2.UNAUTHENTICATED, stranger)
        return
      inbox = _Inbox(messages, client)
      if not context.add_callback(client.set):
        client.set()
      for message in inbox:
        fault, request = inbox.fault, rpc.EnvironmentRequest()
        if not fault:
          try:
            request.ParseFromString(message)
          except protobuf_message.DecodeError:
            fault = "what came is no dm_env_rpc request"
        if fault:
          yield self._refuse(client, code_pb2.INVALID_ARGUMENT, fault)
          return
        response = self._mailbox.put(functools.partial(self._desk.answer, client, request)).result()
        inbox.answered()
        yield response
    except (grpc.RpcError, futures.CancelledError):
      pass  # The client or the server is about to go.
    finally:
      self._mailbox.put(functools.partial(self._desk.leave, client))

  def _refuse(self, client: threading.Event, code: int, message: str) -> rpc.EnvironmentResponse:
    return self._mailbox.put(functools.partial(self._desk.refuse, client, code, message)).result()


class _Inbox:
  """A stream's messages, read as they come, and whether one came before the previous one was answered.

  `client` is set as soon as the client no longer waits: it wrote ahead, says no more, or is gone.
  """

  def __init__(self, messages: Iterator[bytes], client: threading.Event):
    self._client = client
    self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    self._lock = threading.Lock()
    self._num_unanswered = 0
    self.fault: str | None = None
    threading.Thread(target=self._read, args=(messages,), daemon=True).start()

  def __iter__(self) -> Iterator[bytes]:
    return iter(self._waiting.get, None)

  def answered(self) -> None:
    """The message last taken has its answer, which the client may have from now on."""
    with self._lock:
      self._num_unanswered -= 1

  def _read(self, messages: Iterator[bytes]) -> None:
    with contextlib.suppress(grpc.RpcError):  # The client is gone.
      for message in messages:
        with self._lock:
          self._num_unanswered += 1
          if self._num_unanswered > 1:
            self.fault = "a request came before the last one was answered; wait for each answer"
        self._waiting.put(message)
        if self.fault:
          break
    self._client.set()
    self._waiting.put(None)


def handler(servicer: Servicer) -> grpc.GenericRpcHandler:
  """The service as gRPC calls it. Messages are parsed here: gRPC's own threads log and leak invalid ones."""
  service = rpc.DESCRIPTOR.services_by_name["Environment"]
  process = grpc.stream_stream_rpc_method_handler(
    servicer.Process, response_serializer=rpc.EnvironmentResponse.SerializeToString
  )
  return grpc.method_handlers_generic_handler(service.full_name, {"Process": process})
