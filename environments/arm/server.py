"""The bridge's server: one arm, one client at a time, over dm_env_rpc.

Requests arrive on gRPC's threads and are answered on the thread that called `serve`. The arm is in other hands
(`environments.arm.driver`): a command that is not followed by another one expires there, so this process may hang or
die. Whatever goes wrong with a request, the arm is held and the client gets one line that says why. A client waits for
each answer: one that writes ahead is cut off, since what it wrote long ago must not move an arm.

    config = server.ServerConfig(driver=twin.TwinConfig(), task="reach/random")  # Or a real arm's.
    with server.launch(config) as address:  # In a process of its own.
      environment = client.connect(address)
"""

import contextlib
import dataclasses
import difflib
import functools
import ipaddress
import math
import pathlib
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import dm_env
import grpc
import jax
import numpy as np
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import dm_env_utils, tensor_utils
from dm_env_rpc.v1.extensions import properties_pb2
from google.protobuf import any_pb2
from google.protobuf import message as protobuf_message
from google.rpc import code_pb2, status_pb2

from environments.arm import credentials, driver, protocol, recording, replay, safety, tracking, world
from environments.jaco import constants, tasks

_POLL_S = 0.02  # How often it is asked whether there is still an arm, while no request comes.
_CAMERA_S = 2.0  # Before a camera is said to hang; the arm stands still long before.
_CAMERA_START_S = 60.0
_MAX_CLIENTS = 32  # Streams that may be open at once; one of them may join the world, the others are told so.
_MOST_BYTES = 4_096  # Of a request; a step takes a hundred.


@dataclasses.dataclass(frozen=True)
class ServerConfig:
  """What is served, and where.

  Attributes:
    driver: which arm: what makes its driver, once, in the process that serves; or a recording of one.
    task: a name of `environments.jaco.tasks.TASKS`.
    num_joints: how many joints a client commands, 6 (the fingers rest) or 9.
    seed: of the episodes, unless a client brings its own.
    host: the address to listen at; other than the loopback's it takes certificates. 0.0.0.0 is every one.
    port: 0 takes any free one.
    certificates: a folder with those of this server (`credentials`), without which no client is heard; '': none.
    watchdog_s: how long a command holds, on the driver's clock; then the arm is braked to rest.
    lease_s: for how long a client may ask for nothing and keep the arm, which is at rest; inf: for ever. On the wall
      clock, also where the arm's time is simulated: that stands still meanwhile.
    home_after_s: for how long, on the driver's clock, an arm that nobody has is held before it is moved home
      (`constants.HOME_RAD`, about which starts are drawn); inf: it is held for good.
    record: a folder that every step is recorded into (`recorder`); '' records nothing.
    tracker: finds the target in the pictures, for an arm without instruments for it; None believes its readings.
  """

  driver: protocol.DriverConfig | replay.ReplayConfig
  task: str = "reach/random"
  num_joints: int = constants.NUM_JOINTS
  seed: int = 0
  host: str = "127.0.0.1"
  port: int = 0
  certificates: str = ""
  watchdog_s: float = 0.15
  lease_s: float = 1800.0
  home_after_s: float = math.inf
  record: str = ""
  tracker: tracking.Tracker | None = None

  def __post_init__(self) -> None:
    if self.task not in tasks.TASKS:
      nearest = difflib.get_close_matches(self.task, tasks.TASKS, n=1, cutoff=0)[0]
      raise ValueError(f"task={self.task!r} is unknown; the nearest is {nearest!r}, all are {', '.join(tasks.TASKS)}")
    if self.num_joints not in (constants.NUM_ARM_JOINTS, constants.NUM_JOINTS):
      raise ValueError(f"num_joints={self.num_joints} must be {constants.NUM_ARM_JOINTS} or {constants.NUM_JOINTS}")
    try:
      is_local = ipaddress.ip_address(self.host).is_loopback
    except ValueError:
      raise ValueError(f"host={self.host!r} is no address; give one of this machine's, as 192.168.1.20") from None
    if not is_local and not self.certificates:
      raise ValueError(
        f"host={self.host} is reached from other machines, and without certificates nobody would be asked who comes; "
        "name a folder of them, certificates=FOLDER (docs/real_arm.md), or listen at 127.0.0.1"
      )
    if self.record and isinstance(self.driver, replay.ReplayConfig):
      raise ValueError(f"record={self.record!r}: what is replayed is recorded already; serve it without")
    if self.tracker and isinstance(self.driver, replay.ReplayConfig):
      raise ValueError("tracker: a recording says where the target was; serve it without")
    if not constants.CONTROL_DT_S < self.watchdog_s < math.inf:
      raise ValueError(f"watchdog_s={self.watchdog_s} must be more than a control step, {constants.CONTROL_DT_S}")
    if not self.lease_s > self.watchdog_s:
      raise ValueError(
        f"lease_s={self.lease_s} must be more than watchdog_s={self.watchdog_s}, for which a command holds; or inf"
      )
    if not self.home_after_s >= 0:
      raise ValueError(f"home_after_s={self.home_after_s} must be 0 or more; inf holds the arm for good")
    if self.home_after_s < math.inf and isinstance(self.driver, replay.ReplayConfig):
      raise ValueError(f"home_after_s={self.home_after_s}: a recording has no arm to move; serve it without")


def serve(
  config: ServerConfig,
  *,
  on_ready: Callable[[str], None] | None = None,
  stop: threading.Event | None = None,
) -> None:
  """Serves until SIGTERM, SIGINT or `stop`, then stops the arm and returns.

  Call it from the main thread of a process of its own: it takes over that thread, the signals, and JAX's platform
  (the CPU; the few operations on joint angles are no work for an accelerator).

  Args:
    on_ready: called once with the address, `host:port`, when clients may connect.
    stop: ends serving when set.

  Raises:
    protocol.BridgeError: the port is busy, the certificates are of no use, the arm or its camera cannot be made,
      nothing can be recorded where it should be, or nobody can stop the arm any more.
  """
  stop = stop or threading.Event()
  jax.config.update("jax_platforms", "cpu")
  own = credentials.read(config.certificates, is_server=True) if config.certificates else None
  grpc_server, address = _listen(config, own)
  try:
    with (
      _signals(stop),
      contextlib.closing(_Mailbox()) as mailbox,
      contextlib.ExitStack() as last,  # What waits for a disk is closed when the arm rests.
      _world(config) as arm_world,
    ):
      record = last.enter_context(_recorder(config, arm_world))
      desk = _Desk(arm_world, config, stop, record, mailbox)
      grpc_server.add_generic_rpc_handlers((_handler(_Servicer(desk, mailbox, own)),))
      grpc_server.start()
      if on_ready and not stop.is_set():
        on_ready(address)
      while not stop.is_set():
        mailbox.serve_one(_POLL_S)
        desk.poll()
        with contextlib.suppress(safety.ArmFaultError):  # The gate has stopped the arm; the next client is told.
          arm_world.poll()
        if config.record:
          for told in arm_world.told():
            record(told)
  except (safety.ArmLostError, safety.ArmFaultError) as error:
    raise protocol.BridgeError(str(error)) from error
  finally:
    grpc_server.stop(grace=0.1).wait()


@contextlib.contextmanager
def launch(config: ServerConfig, *, timeout_s: float = 240.0) -> Iterator[str]:
  """Runs `serve(config)` in a process of its own, which ends with the context or with this process.

  Yields:
    The address of the running server, `host:port`.

  Raises:
    protocol.BridgeError: the server did not start; the message is the server's own.
  """
  process = subprocess.Popen(
    [sys.executable, "-c", "from environments.arm import server; server._run_child()"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env=child_environment(),
    start_new_session=True,  # Ctrl-C is for the learner, which needs the arm until it has saved.
  )
  assert process.stdin is not None and process.stdout is not None
  try:
    with contextlib.suppress(BrokenPipeError):
      pickle.dump(config, process.stdin)
      process.stdin.flush()
    if not select.select([process.stdout], [], [], timeout_s)[0]:
      raise protocol.BridgeError(f"the server was not ready after {timeout_s:g} s; look at its messages on stderr")
    kind, _, text = process.stdout.readline().decode().strip().partition(" ")
    if kind != "ready":
      raise protocol.BridgeError(text or f"the server's process ended with code {process.wait()} before it was ready")
    yield text
  finally:
    with contextlib.suppress(BrokenPipeError):
      process.stdin.close()  # The child takes this for the order to stop.
    try:
      process.wait(timeout=30.0)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
    process.stdout.close()


def child_environment() -> dict[str, str]:
  """This process's, with this checkout to import from and its cache of compiled programs."""
  variables = {**driver.environment_variables(), "JAX_PLATFORMS": "cpu"}
  if jax.config.jax_compilation_cache_dir:
    variables["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  return variables


def _run_child() -> None:
  """The other end of `launch`: configuration from stdin, one line to stdout, stop at stdin's end."""
  config, stop = pickle.load(sys.stdin.buffer), threading.Event()

  def await_end() -> None:
    sys.stdin.buffer.read()
    stop.set()

  threading.Thread(target=await_end, daemon=True).start()
  try:
    serve(config, on_ready=lambda address: print("ready", address, flush=True), stop=stop)
  except protocol.BridgeError as error:
    print("error", error, flush=True)
    sys.exit(1)


class _Mailbox:
  """Carries calls to the thread that makes them."""

  def __init__(self) -> None:
    self._calls: queue.SimpleQueue[tuple[Callable[[], Any], futures.Future[Any]]] = queue.SimpleQueue()
    self._lock = threading.Lock()
    self._is_closed = False

  def put(self, function: Callable[[], Any]) -> futures.Future[Any]:
    """Leaves a call, to be made on the other thread; cancelled where nobody will make it any more."""
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
    """Makes the next call; False where none came in time."""
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
    """Cancels what waits and what comes."""
    with self._lock:
      self._is_closed = True
    while not self._calls.empty():
      self._calls.get()[1].cancel()


@contextlib.contextmanager
def _camera(config: protocol.DriverConfig) -> Iterator[Callable[[protocol.Reading], np.ndarray]]:
  """What makes pictures; on a thread of its own where time passes by itself, so that a camera that hangs ends a step.

  That a step was in vain is a `protocol.BridgeError`.
  """
  if not config.is_real_time:
    with contextlib.closing(config.make_camera()) as camera:
      yield camera.image
    return
  mailbox = _Mailbox()
  threading.Thread(target=mailbox.serve, daemon=True).start()

  def call(function: Callable[[], Any], timeout_s: float = _CAMERA_S) -> Any:
    try:
      return mailbox.put(function).result(timeout_s)
    except futures.TimeoutError:
      raise protocol.BridgeError(f"the camera gave no picture for {timeout_s:g} s; the arm was held") from None

  camera = call(config.make_camera, _CAMERA_START_S)
  try:
    yield lambda reading: call(functools.partial(camera.image, reading))
  finally:
    with contextlib.suppress(protocol.BridgeError):
      call(camera.close)


@contextlib.contextmanager
def _world(config: ServerConfig) -> Iterator[world.ArmWorld | replay.ReplayWorld]:
  """The episodes that are served: an arm's, or those of a recording."""
  if isinstance(config.driver, replay.ReplayConfig):
    yield replay.ReplayWorld(config.driver, task=config.task, num_joints=config.num_joints)
    return
  with _camera(config.driver) as image, contextlib.closing(driver.connect(config.driver)) as gate:
    arm_world = world.ArmWorld(
      gate,
      image,
      tasks.TASKS[config.task],
      num_joints=config.num_joints,
      seed=config.seed,
      valid_for_s=config.watchdog_s,
      track=tracking.Tracked(config.tracker).place if config.tracker else None,
    )
    arm_world.prepare()
    yield arm_world


@contextlib.contextmanager
def _recorder(
  config: ServerConfig, arm_world: world.ArmWorld | replay.ReplayWorld
) -> Iterator[Callable[[recording.Item], None]]:
  """What records, or takes note of nothing."""
  if not config.record:
    yield lambda item: None
    return
  try:
    from environments.arm import recorder  # The extra `arm`.

    about = recording.pack_about(
      task=config.task,
      driver=repr(config.driver),
      control_dt_s=constants.CONTROL_DT_S,
      offered=_offered(arm_world),
    )
    opened = recorder.Recorder(pathlib.Path(config.record), about, now_s=arm_world.now_s)
  except ModuleNotFoundError:
    raise protocol.BridgeError(recording.NEEDS) from None
  except OSError as error:
    raise protocol.BridgeError(f"nothing can be recorded in {config.record} ({error}); name another folder") from None
  with opened:
    yield opened.put


def _offered(arm_world: world.ArmWorld | replay.ReplayWorld) -> rpc.ActionObservationSpecs:
  """What a client may do and see, by number: reward is 1, observations follow in the order of their names."""
  action = arm_world.action_spec().replace(name=protocol.ACTION)
  shown = [spec.replace(name=name) for name, spec in sorted(arm_world.observation_spec().items())]
  observations = enumerate([dm_env.specs.Array((), np.float32, name=protocol.REWARD), *shown], start=1)
  return rpc.ActionObservationSpecs(
    actions={1: dm_env_utils.dm_env_spec_to_tensor_spec(action)},
    observations={uid: dm_env_utils.dm_env_spec_to_tensor_spec(spec) for uid, spec in observations},
  )


class _Servicer:
  """gRPC's threads: carries requests to the thread that serves and answers back."""

  def __init__(self, desk: "_Desk", mailbox: _Mailbox, own: credentials.Credentials | None):
    self._desk, self._mailbox, self._own = desk, mailbox, own

  def Process(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[rpc.EnvironmentResponse]:
    """One client's stream. It ends after a message that is none, or that did not wait for the last one's answer."""
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
      pass  # The client, or the server, is going.
    finally:
      self._mailbox.put(functools.partial(self._desk.leave, client))

  def _refuse(self, client: threading.Event, code: int, message: str) -> rpc.EnvironmentResponse:
    return self._mailbox.put(functools.partial(self._desk.refuse, client, code, message)).result()


class _Inbox:
  """A stream's messages, read as they come, and whether one came before the last was answered.

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
    """The message last taken has its answer; the client may have it from now on."""
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


def _handler(servicer: _Servicer) -> grpc.GenericRpcHandler:
  """The service as gRPC calls it. Messages are parsed here: gRPC's own threads log and leak those that are none."""
  service = rpc.DESCRIPTOR.services_by_name["Environment"]
  process = grpc.stream_stream_rpc_method_handler(
    servicer.Process, response_serializer=rpc.EnvironmentResponse.SerializeToString
  )
  return grpc.method_handlers_generic_handler(service.full_name, {"Process": process})


class _LeaseLostError(Exception):
  """A client that has lost the arm to its silence asks for something."""


class _Desk:
  """Answers requests, on the thread that serves: each kind by the method of its name. A client that is gone is set."""

  def __init__(
    self,
    arm_world: world.ArmWorld | replay.ReplayWorld,
    config: ServerConfig,
    stop: threading.Event,
    record: Callable[[recording.Item], None],
    mailbox: _Mailbox,
  ):
    self._world = arm_world
    self._config = config
    self._stop = stop
    self._record = record
    self._mailbox = mailbox
    self._client: threading.Event | None = None  # Who has joined, and when it had its last answer.
    self._answered_s = time.monotonic()
    self._silent = set[threading.Event]()  # Who had joined, and lost the arm to its silence.
    self._way_home: Iterator[str] = iter(())  # Of an arm that nobody has.
    self._specs = _offered(arm_world)
    self._observations = {uid: spec.name for uid, spec in self._specs.observations.items()}
    self._cheap = set(self._observations.values()) - {protocol.REWARD, recording.PIXELS}  # They are there.

  def answer(self, client: threading.Event, request: rpc.EnvironmentRequest) -> rpc.EnvironmentResponse:
    """The response to a request; an error response, with the arm held, where it cannot be met."""
    kind = request.WhichOneof("payload")
    try:
      handler = getattr(self, f"_{kind}", None)
      if handler is None:
        raise protocol.BridgeError(f"request {kind} is not understood")
      payload = handler(client, getattr(request, kind))
      return rpc.EnvironmentResponse(**{kind: payload})
    except _LeaseLostError as error:
      return self.refuse(client, code_pb2.ABORTED, str(error))
    except (protocol.BridgeError, safety.CommandRefusedError) as error:
      if self._stop.is_set():  # The step was cut short; the stream ends without an answer to it.
        raise futures.CancelledError from None
      return self.refuse(client, code_pb2.INVALID_ARGUMENT, str(error))
    except Exception as error:  # The arm must be held and the client told, whatever it was.
      return self.refuse(client, code_pb2.INTERNAL, f"{type(error).__name__}: {error}")
    finally:
      if client is self._client:
        self._answered_s = time.monotonic()

  def poll(self) -> None:
    """Does what is due though nobody asks: a client that is silent loses the arm, and one that nobody has goes home.

    Raises:
      safety.ArmLostError: the arm was lost on its way.
    """
    if self._client is not None and time.monotonic() - self._answered_s > self._config.lease_s:
      self._silent.add(self._client)
      self._free(f"the client lost the arm: it asked for nothing for {self._config.lease_s:g} s")
    try:
      said = next(self._way_home, "")
    except (protocol.BridgeError, safety.CommandRefusedError, safety.ArmFaultError) as error:  # And there it ends.
      self._say(recording.ERROR, f"on the way home: {error}")
    else:
      if said:
        self._say(recording.INFORMATION, said)

  def leave(self, client: threading.Event, _: rpc.LeaveWorldRequest | None = None) -> rpc.LeaveWorldResponse:
    """Frees the arm, at rest, if `client` has it."""
    self._silent.discard(client)
    if client is self._client:
      self._free("the client left")
    return rpc.LeaveWorldResponse()

  _leave_world = leave

  def _free(self, why: str) -> None:
    """From now on nobody has the arm, which is held, and then goes home if so configured."""
    self._client = None
    self._world.restart()
    self._say(recording.INFORMATION, why)
    if self._config.home_after_s < math.inf:
      self._way_home = self._world.go_home(
        after_s=self._config.home_after_s,
        is_wanted=lambda: self._mailbox.is_empty() and not self._stop.is_set(),  # Who joins waits for nothing.
      )

  def refuse(self, client: threading.Event, code: int, message: str) -> rpc.EnvironmentResponse:
    """An error response, with the arm held if `client` has it."""
    if client is self._client:
      with contextlib.suppress(safety.ArmLostError):  # The server is about to end for it.
        self._world.hold()
    self._say(recording.ERROR if code == code_pb2.INTERNAL else recording.REFUSAL, message)
    return rpc.EnvironmentResponse(error=status_pb2.Status(code=code, message=message))

  def _create_world(self, client: threading.Event, request: rpc.CreateWorldRequest) -> rpc.CreateWorldResponse:
    del client  # The world is the arm; it is always there.
    _refuse_unknown(request.settings, ())
    return rpc.CreateWorldResponse(world_name=protocol.WORLD_NAME)

  def _destroy_world(self, client: threading.Event, request: rpc.DestroyWorldRequest) -> rpc.DestroyWorldResponse:
    self._check_world(client, request.world_name)
    return rpc.DestroyWorldResponse()

  def _join_world(self, client: threading.Event, request: rpc.JoinWorldRequest) -> rpc.JoinWorldResponse:
    self._check_world(client, request.world_name)
    if client is self._client:
      raise protocol.BridgeError("this client has joined already; leave the world first")
    _refuse_unknown(request.settings, (protocol.SEED, protocol.TASK))
    settings = {name: tensor_utils.unpack_tensor(value) for name, value in request.settings.items()}
    task = settings.get(protocol.TASK, self._config.task)
    if task != self._config.task:
      raise protocol.BridgeError(
        f"task: the server plays {self._config.task}, the client expects {task}; serve that task or expect this one"
      )
    seed = settings.get(protocol.SEED, self._config.seed)
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
      raise protocol.BridgeError(f"seed={seed!r} must be a whole number from 0 to 2**32 - 1")
    self._way_home = iter(())
    self._world.seed(int(seed))  # The arm is held.
    self._client = client
    self._silent.discard(client)
    self._say(recording.INFORMATION, f"a client joined, seed={seed}")
    return rpc.JoinWorldResponse(specs=self._specs)

  def _extension(self, client: threading.Event, request: any_pb2.Any) -> any_pb2.Any:
    """The property `protocol.TASK`, which anybody may read."""
    del client  # Nothing moves.
    asked, answer = properties_pb2.PropertyRequest(), any_pb2.Any()
    if not request.Unpack(asked) or asked.WhichOneof("payload") != "read_property":
      raise protocol.BridgeError("of dm_env_rpc's extensions properties are understood, which can be read")
    if asked.read_property.key != protocol.TASK:
      raise protocol.BridgeError(f"property {asked.read_property.key!r} does not exist; there is {protocol.TASK!r}")
    value = properties_pb2.ReadPropertyResponse(value=tensor_utils.pack_tensor(self._config.task))
    answer.Pack(properties_pb2.PropertyResponse(read_property=value))
    return answer

  def _reset(self, client: threading.Event, request: rpc.ResetRequest) -> rpc.ResetResponse:
    self._check_joined(client)
    _refuse_unknown(request.settings, ())
    self._world.restart()
    return rpc.ResetResponse(specs=self._specs)

  def _reset_world(self, client: threading.Event, request: rpc.ResetWorldRequest) -> rpc.ResetWorldResponse:
    self._check_world(client, request.world_name)
    _refuse_unknown(request.settings, ())
    self._world.restart()
    return rpc.ResetWorldResponse()

  def _step(self, client: threading.Event, request: rpc.StepRequest) -> rpc.StepResponse:
    self._check_joined(client)
    for uid in request.requested_observations:  # Before anything moves.
      if uid not in self._observations:
        raise protocol.BridgeError(f"observation {uid} is not one of {sorted(self._observations)}")
    action = None if self._world.is_over else self._action(request)
    try:
      step_type, reward, discount = self._world.step(
        action, is_wanted=lambda: not (client.is_set() or self._stop.is_set())
      )
    except world.CutShortError as cut:
      if cut.reward is not None:  # The arm has moved.
        outcome, observation = (dm_env.StepType.MID, cut.reward, 1.0), self._world.observe(self._cheap)
        self._note(self._world.now_s(), outcome, action, observation, is_cut_short=True)
      raise
    time_s = self._world.now_s()
    names = {uid: self._observations[uid] for uid in request.requested_observations}
    observation = self._world.observe(self._cheap)
    try:
      observation |= self._world.observe(set(names.values()) - {protocol.REWARD, *observation})
    finally:  # The arm has moved, whatever its camera does.
      self._note(time_s, (step_type, reward, discount), action, observation)
    values = {**observation, protocol.REWARD: np.array(reward, np.float32)}
    state = rpc.EnvironmentStateType.RUNNING
    if step_type.last():
      state = rpc.EnvironmentStateType.INTERRUPTED if discount else rpc.EnvironmentStateType.TERMINATED
    return rpc.StepResponse(
      state=state, observations={uid: tensor_utils.pack_tensor(values[name]) for uid, name in names.items()}
    )

  def _note(
    self,
    time_s: float,
    outcome: tuple[dm_env.StepType, float, float],
    action: np.ndarray | None,
    observation: Mapping[str, np.ndarray],
    *,
    is_cut_short: bool = False,
  ) -> None:
    asked_rad_s, reading = self._world.asked_rad_s, self._world.reading
    self._record(recording.Step(time_s, *outcome, action, asked_rad_s, reading, observation, is_cut_short))

  def _say(self, level: int, text: str) -> None:
    self._record(recording.Event(self._world.now_s(), level, text))

  def _action(self, request: rpc.StepRequest) -> np.ndarray | None:
    """The action in a request as it came, or None where there is none."""
    unknown = request.actions.keys() - self._specs.actions.keys()
    if unknown:
      raise protocol.BridgeError(f"action {min(unknown)} is not one of {sorted(self._specs.actions)}")
    if not request.actions:
      return None
    tensor, expected = request.actions[1], list(self._specs.actions[1].shape)
    # Shapes are compared before anything is allocated; -1 stands for any length, one value for all (dm_env_rpc).
    if len(tensor.shape) != len(expected) or any(a not in (b, -1) for a, b in zip(tensor.shape, expected, strict=True)):
      raise protocol.BridgeError(f"action has shape {list(tensor.shape)}, must be {expected}")
    if tensor.WhichOneof("payload") is None:
      raise protocol.BridgeError("action holds no numbers")
    values = tensor_utils.unpack_proto(tensor)
    return np.full(expected, values[0]) if values.shape == (1,) else values

  def _check_world(self, client: threading.Event, name: str) -> None:
    if name != protocol.WORLD_NAME:
      raise protocol.BridgeError(f"world {name!r} does not exist; the one world is {protocol.WORLD_NAME!r}")
    if self._client is not None and client is not self._client:
      raise protocol.BridgeError("the arm is in use by another client; end that one first")

  def _check_joined(self, client: threading.Event) -> None:
    if client in self._silent:
      raise _LeaseLostError(
        f"this client asked for nothing for {self._config.lease_s:g} s, and others may have the arm; reconnect, and if "
        "a client must think for longer, serve with a longer --lease_s"
      )
    if client is not self._client:
      raise protocol.BridgeError("this client has not joined the world")


def _refuse_unknown(settings: "dict[str, rpc.Tensor]", known: tuple[str, ...]) -> None:
  for name in settings:
    if name not in known:
      raise protocol.BridgeError(f"setting {name!r} is unknown; known here: {', '.join(known) or 'none'}")


def _listen(config: ServerConfig, own: credentials.Credentials | None) -> tuple[grpc.Server, str]:
  """A server that holds its port and does not answer yet, and its address."""
  host = f"[{config.host}]" if ":" in config.host else config.host
  grpc_server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=_MAX_CLIENTS),
    maximum_concurrent_rpcs=_MAX_CLIENTS,  # One more is refused; else it would wait.
    options=[
      ("grpc.max_receive_message_length", _MOST_BYTES),
      ("grpc.so_reuseport", 0),  # Without it two servers would share a port in silence.
      *protocol.KEEPALIVE,
      ("grpc.http2.max_ping_strikes", 0),  # By default the third of a quiet client's pings cuts it off.
    ],
  )
  try:
    address = f"{host}:{config.port}"
    port = grpc_server.add_secure_port(address, own.for_server()) if own else grpc_server.add_insecure_port(address)
  except RuntimeError:
    port = 0
  if port == 0:
    raise protocol.BridgeError(
      f"cannot listen on {host}:{config.port}: the port is in use, or one of them is not ours; stop who holds it or "
      "take another"
    )
  return grpc_server, f"{host}:{port}"


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
  """What asks a process to end sets `stop` for as long as the context lasts."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # SIGHUP: its terminal is gone.
  before = [signal.signal(kind, lambda *_: stop.set()) for kind in kinds]
  try:
    yield
  finally:
    for kind, handler in zip(kinds, before, strict=True):
      signal.signal(kind, handler)
