"""The bridge's server: one arm, one client at a time, over dm_env_rpc.

Requests arrive on gRPC's threads (`streams`) and are answered on the thread that called `serve` (`desk`). The arm is in
the charge of `driver`. A command that is not followed by another one expires there, so this process may hang or die.

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
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import jax
import numpy as np

from environments.arm import credentials, driver, protocol, recording, replay, safety, streams, tracking, world
from environments.arm import desk as desk_lib
from environments.arm import mailbox as mailbox_lib
from environments.jaco import constants, tasks

_POLL_S = 0.02  # How often the arm is checked while no request comes.
_CAMERA_S = 2.0  # Time until a camera counts as hanging. The arm stands still long before.
_CAMERA_START_S = 60.0
_MAX_CLIENTS = 32  # Streams that may be open at once. One may join the world; the others are told that it is taken.
_MOST_BYTES = 4_096  # Of a request; a step takes a hundred.


@dataclasses.dataclass(frozen=True)
class ServerConfig:
  """What is served, and where.

  Attributes:
    driver: which arm: makes its driver, once, in the process that owns the arm (`driver`); or a recording of an arm.
    task: a name of `environments.jaco.tasks.TASKS`.
    num_joints: how many joints a client commands, 6 (the fingers rest) or 9.
    seed: the seed of the episodes, unless a client brings its own.
    host: the address to listen at; any other than the loopback's requires certificates. 0.0.0.0 means all addresses.
    port: 0 takes any free one.
    certificates: a folder with this server's certificates (`credentials`); clients without certificates are then not
      heard. '' for none.
    watchdog_s: how long a command holds, on the driver's clock. Then the arm is braked to rest.
    lease_s: how long a client may ask for nothing and keep the arm, which is at rest; inf means for ever. It counts on
      the wall clock, even if the arm's time is simulated, which stands still meanwhile.
    home_after_s: how long, on the driver's clock, an arm that nobody has is held before it is moved home
      (`constants.HOME_RAD`, around which starts are drawn); inf holds it for good.
    record: a folder into which every step is recorded (`recorder`); '' records nothing.
    tracker: finds the target in the pictures, for an arm without instruments for it; None uses the arm's readings.
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
    protocol.check_seed(self.seed)
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

  Call it from the main thread of its own process. It takes over that thread, the signals, and JAX's platform (the CPU,
  since the few operations on joint angles need no accelerator).

  Args:
    on_ready: called once with the address, `host:port`, when clients may connect.
    stop: ends serving when set.

  Raises:
    protocol.BridgeError: if the port is busy, the certificates are unusable, the arm or its camera cannot be made,
      nothing can be recorded in the folder, or nobody can stop the arm any more.
  """
  stop = stop or threading.Event()
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_cpu_enable_async_dispatch", False)  # Another thread costs more than a program this small.
  own = credentials.read(config.certificates, is_server=True) if config.certificates else None
  grpc_server, address = _listen(config, own)
  try:
    with (
      _signals(stop),
      contextlib.closing(mailbox_lib.Mailbox()) as mailbox,
      contextlib.ExitStack() as last,  # What waits for a disk is closed after the arm has stopped.
      _world(config) as arm_world,
    ):
      record = last.enter_context(_recorder(config, arm_world))
      desk = desk_lib.Desk(
        arm_world,
        mailbox,
        stop,
        record,
        task=config.task,
        seed=config.seed,
        lease_s=config.lease_s,
        home_after_s=config.home_after_s,
      )
      grpc_server.add_generic_rpc_handlers((streams.handler(streams.Servicer(desk, mailbox, own)),))
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
  """Runs `serve(config)` in its own process, which ends with the context or with this process.

  Yields:
    The address of the running server, `host:port`.

  Raises:
    protocol.BridgeError: if the server did not start; the message is the server's own.
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
      process.stdin.close()  # The child takes this as the order to stop.
    try:
      process.wait(timeout=30.0)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
    process.stdout.close()


def child_environment() -> dict[str, str]:
  """This process's variables, with imports from this checkout and with its cache of compiled programs."""
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


@contextlib.contextmanager
def _camera(config: protocol.DriverConfig) -> Iterator[Callable[[protocol.Reading], np.ndarray]]:
  """What takes pictures. In real time it has its own thread, so that a hanging camera only ends a step.

  A step without a picture, and a missing camera, raise `protocol.BridgeError`.
  """

  def asked(fault: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
      return function(*arguments)
    except protocol.BridgeError:
      raise
    except Exception as error:
      raise protocol.BridgeError(f"the camera {fault} ({type(error).__name__}: {error})") from error

  make = functools.partial(asked, "cannot be had", config.make_camera)
  if not config.is_real_time:
    with contextlib.closing(make()) as camera:
      yield functools.partial(asked, "gave no picture", camera.image)
    return
  mailbox = mailbox_lib.Mailbox()
  threading.Thread(target=mailbox.serve, daemon=True).start()

  def call(function: Callable[[], Any], timeout_s: float = _CAMERA_S) -> Any:
    try:
      return mailbox.put(function).result(timeout_s)
    except futures.TimeoutError:
      raise protocol.BridgeError(f"the camera gave no picture for {timeout_s:g} s; the arm was held") from None

  camera = call(make, _CAMERA_START_S)
  try:
    yield lambda reading: call(functools.partial(asked, "gave no picture", camera.image, reading))
  finally:
    with contextlib.suppress(protocol.BridgeError):
      call(camera.close)


@contextlib.contextmanager
def _world(config: ServerConfig) -> Iterator[world.ArmWorld | replay.ReplayWorld]:
  """The episodes that are served, from an arm or a recording."""
  if isinstance(config.driver, replay.ReplayConfig):
    yield replay.ReplayWorld(config.driver, task=config.task, num_joints=config.num_joints)
    return
  if config.driver.is_real_time:
    driver.be_on_time(-10)  # The later threads of gRPC and the camera inherit it.
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
  """The function that records an item, or ignores it if nothing is recorded."""
  if not config.record:
    yield lambda item: None
    return
  try:
    from environments.arm import recorder  # Needs the extra `arm`.

    about = recording.pack_about(
      task=config.task,
      driver=repr(config.driver),
      control_dt_s=constants.CONTROL_DT_S,
      offered=desk_lib.offered(arm_world),
    )
    opened = recorder.Recorder(pathlib.Path(config.record), about, now_s=arm_world.now_s)
  except ModuleNotFoundError:
    raise protocol.BridgeError(recording.NEEDS) from None
  except OSError as error:
    raise protocol.BridgeError(f"nothing can be recorded in {config.record} ({error}); name another folder") from None
  with opened:
    yield opened.put


def _listen(config: ServerConfig, own: credentials.Credentials | None) -> tuple[grpc.Server, str]:
  """A server that holds its port but does not answer yet, and its address."""
  host = f"[{config.host}]" if ":" in config.host else config.host
  grpc_server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=_MAX_CLIENTS),
    maximum_concurrent_rpcs=_MAX_CLIENTS,  # One more is refused; otherwise it would wait.
    options=[
      ("grpc.max_receive_message_length", _MOST_BYTES),
      ("grpc.so_reuseport", 0),  # Otherwise two servers would share a port silently.
      *protocol.KEEPALIVE,
      ("grpc.http2.max_ping_strikes", 0),  # By default a quiet client is cut off at its third ping.
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
  """While the context lasts, signals that ask a process to end set `stop`, except those that it was started to ignore.

  Examples of ignored signals are SIGHUP under `nohup`, and SIGINT behind a shell's `&`.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  every = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # SIGHUP: its terminal is gone.
  kinds = [kind for kind in every if signal.getsignal(kind) is not signal.SIG_IGN]
  before = [signal.signal(kind, lambda *_: stop.set()) for kind in kinds]
  try:
    yield
  finally:
    for kind, handler in zip(kinds, before, strict=True):
      signal.signal(kind, handler)
