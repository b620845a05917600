"""The bridge's client: the arm behind a server as a `dm_env.Environment`.

dm_env_rpc's own adaptor does the work. This module adds one-line messages for what can go wrong (no server there,
another task or number of joints than expected).
"""

import contextlib
import math
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import dm_env
import grpc
import numpy as np
from dm_env import specs
from dm_env_rpc.v1 import connection, dm_env_adaptor, error, spec_manager, tensor_utils
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1.extensions import properties
from google.rpc import code_pb2

from environments.arm import credentials, protocol
from environments.jaco import constants


def connect(
  address: str,
  *,
  task: str | None = None,
  seed: int | None = None,
  observations: Sequence[str] | None = None,
  num_joints: int | None = None,
  timeout_s: float = 5.0,
) -> "ArmEnvironment":
  """Joins the arm served at `address`.

  Args:
    address: `host:port`, or `host:port?certificates=FOLDER` with this client's folder (`credentials`) for a server that
      uses certificates. Then `host` is a name or an address in the server's certificate.
    task: the task that must be served; None takes any.
    seed: the seed of the episodes, 0 to 2**32 - 1; None for the server's own. The same seed gives the same episodes.
    observations: the observations to ask for; None for `protocol.by_default`. Pixels that no one asks for cost nothing.
    num_joints: how many joints the caller commands; None takes as many as are served.
    timeout_s: how long to wait for the server to be there, and again for its answer.

  Raises:
    protocol.BridgeError: if there is no server; the server does not accept the certificates or the token, or they are
      unusable; the arm is in use; the task or number of joints is another; an observation is unknown; or the seed is
      invalid.
  """
  options = [("grpc.enable_http_proxy", 0), *protocol.KEEPALIVE]
  address, _, question = address.partition("?")
  name, _, folder = question.partition("=")
  if question and not (name == "certificates" and folder):
    raise protocol.BridgeError(f"{address}?{question}: behind an address stands certificates=FOLDER or nothing")
  if not re.fullmatch(r".+:[0-9]+", address):
    raise protocol.BridgeError(f"{address!r} is no HOST:PORT of a server, such as localhost:5005")
  if seed is not None:
    protocol.check_seed(seed)
  own = credentials.read(folder, is_server=False) if folder else None
  channel = grpc.secure_channel(address, own.for_client(), options) if own else grpc.insecure_channel(address, options)
  try:
    grpc.channel_ready_future(channel).result(timeout_s)
  except grpc.FutureTimeoutError:
    channel.close()
    if why := credentials.why_refused(address, own):
      raise protocol.BridgeError(f"the server at {address} cannot be spoken to: {why}") from None
    raise protocol.BridgeError(
      f"no server answers at {address} after {timeout_s:g} s; start one there or correct the address"
    ) from None
  settings = {protocol.TASK: task, protocol.SEED: seed}
  stream = _Stream(channel, address)
  try:
    request = rpc.JoinWorldRequest(
      world_name=protocol.WORLD_NAME,
      settings={name: tensor_utils.pack_tensor(value) for name, value in settings.items() if value is not None},
    )
    response = _within(timeout_s, stream, request)
    environment = ArmEnvironment(stream, response.specs, observations=observations)
    served = environment.action_spec().shape[0]
    if num_joints not in (None, served):
      raise protocol.BridgeError(
        f"the arm at {address} takes commands for {served} joints, num_joints={num_joints} here; serve it with "
        f"--num_joints={num_joints}, or set num_joints={served}"
      )
    return environment
  except error.DmEnvRpcError as refusal:
    stream.close()
    raise protocol.BridgeError(f"the server at {address} refused: {refusal.message}") from None
  except Exception:
    stream.close()
    raise


def _within(timeout_s: float, stream: "_Stream", request: Any) -> Any:
  """The answer to `request`. If none comes in time, closes the stream and raises `protocol.BridgeError`."""
  is_late = threading.Event()

  def give_up() -> None:
    is_late.set()
    stream.close()

  timer = threading.Timer(timeout_s, give_up)
  timer.start()
  try:
    return stream.send(request)
  except protocol.BridgeError:
    if is_late.is_set():
      raise protocol.BridgeError(
        f"the server at {stream.address} is there and has not answered for {timeout_s:g} s: it is busy, as with the "
        "arm of another client; end that one first, or wait"
      ) from None
    raise
  finally:
    timer.cancel()


def connect_to_twin(
  task: str,
  *,
  gap: str = "full",
  seed: int | None = None,
  observations: Sequence[str] | None = None,
  num_joints: int = constants.NUM_JOINTS,
) -> "ArmEnvironment":
  """Serves a twin in its own process, which ends with the environment or with this process, and joins it.

  Args:
    task: a name of `environments.jaco.tasks.TASKS`.
    gap: how much the twin differs from the simulation, see `gap.make_twin`.
    seed, observations: as in `connect`.
    num_joints: how many joints the caller commands, 6 or 9.

  Raises:
    ValueError: for an unknown task, gap or number of joints.
    protocol.BridgeError: if the twin cannot be made, or for an unknown observation.
  """
  from environments.arm import gap as gap_lib  # Imported here: joining a real arm needs neither.
  from environments.arm import server

  config = server.ServerConfig(  # Nobody else wants the twin, however long its learner thinks.
    driver=gap_lib.make_twin(gap), task=task, num_joints=num_joints, lease_s=math.inf
  )
  with contextlib.ExitStack() as stack:
    address = stack.enter_context(server.launch(config))
    environment = connect(address, seed=seed, observations=observations)
    environment.served_by = stack.pop_all()
  environment.is_unique = False  # The next call serves another twin.
  return environment


class ArmEnvironment(dm_env_adaptor.DmEnvAdaptor):
  """The arm. As in the simulation's batches, the step after LAST ignores its action and starts a new episode."""

  control_dt_s = constants.CONTROL_DT_S
  is_unique = True  # There is one arm at an address.
  return_bounds = (0.0, float(constants.NUM_EPISODE_STEPS))  # A step pays 0 or 1.

  def __init__(
    self,
    stream: "_Stream",
    joined: rpc.ActionObservationSpecs,
    *,
    observations: Sequence[str] | None,
  ):
    offered = sorted(spec.name for spec in joined.observations.values())
    for name in observations or ():
      if name not in offered:
        raise protocol.BridgeError(f"observation {name!r} is not offered; the server has {', '.join(offered)}")
    if observations is None:
      observations = protocol.by_default(offered)
    super().__init__(stream, joined, requested_observations=observations, nested_tensors=False)
    self._action_specs = _ActionSpecs(joined.actions)
    self._stream = stream
    self._properties = properties.PropertiesExtension(stream)
    self.served_by = contextlib.ExitStack()  # Ends with the environment: its own server, if any.

  @property
  def task_name(self) -> str:
    """The task that the server plays.

    Raises:
      protocol.BridgeError: if the server does not say; older servers do not.
    """
    try:
      return str(self._properties[protocol.TASK])
    except ValueError as refusal:
      why = getattr(refusal.__cause__, "message", refusal)
      raise protocol.BridgeError(f"the server says no task ({why}); serve by this version") from None

  def action_spec(self) -> specs.BoundedArray:
    """int32 `[A]`: 0, 1, 2 for -v, 0, +v."""
    return super().action_spec()[protocol.ACTION]

  def simulated(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the simulation would show at the arm's position: see `environments.jaco.world.simulated`."""
    from environments.jaco import world  # Imported here: moving an arm needs no JAX.

    return world.simulated(observation)

  def step(self, action: np.ndarray | Mapping[str, Any]) -> dm_env.TimeStep:
    """One control period with `action`, int32 `[A]`; an empty mapping holds the arm still.

    Raises:
      ValueError: if the server refused the action, or could not end the step. It holds the arm, and the message says
        why. After a step that it could not end, the next step begins another episode.
      protocol.BridgeError: if the server is gone, or took the arm from this client because it was silent for too long.
    """
    try:
      return super().step(action if isinstance(action, Mapping) else {protocol.ACTION: action})
    except error.DmEnvRpcError as refusal:
      if refusal.code != code_pb2.INVALID_ARGUMENT:
        self._last_state = rpc.EnvironmentStateType.INTERRUPTED
      raise ValueError(refusal.message) from None

  def close(self) -> None:
    """Leaves the arm at rest and disconnects."""
    try:
      super().close()
    except (protocol.BridgeError, error.DmEnvRpcError):
      pass  # The server is gone, and there is nothing left to leave.
    finally:
      self._stream.close()
      self.served_by.close()


class _Stream(connection.Connection):
  """A connection that reports in one line that it, or the arm, was lost."""

  def __init__(self, channel: grpc.Channel, address: str):
    super().__init__(channel)
    self._channel, self.address = channel, address

  def close(self) -> None:
    """Closes the channel, and ends the sending thread, which dm_env_rpc leaves waiting for another request."""
    self._stream.write(None)
    self._channel.close()

  def send(self, request: Any) -> Any:
    try:
      return super().send(request)
    except error.DmEnvRpcError as refusal:
      if refusal.code != code_pb2.ABORTED:
        raise
      raise protocol.BridgeError(f"lost the arm at {self.address}: {refusal.message}") from None
    except (grpc.RpcError, StopIteration) as failure:  # The stream broke, or the server stopped.
      if isinstance(failure, grpc.RpcError) and failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        raise protocol.BridgeError(
          f"the server at {self.address} refused ({failure.details()}); send one action a step, and close "
          "clients that are not used"
        ) from None
      reason = failure.code().name if isinstance(failure, grpc.RpcError) else "it stopped"
      raise protocol.BridgeError(
        f"lost the server at {self.address}: {reason}; start it again if it has ended, and reconnect"
      ) from None


class _ActionSpecs(spec_manager.SpecManager):
  """Packs an action as it is. The server must refuse a malformed one; a cast must not turn it into a motion."""

  def pack(self, tensors: Mapping[str, Any]) -> dict[int, rpc.Tensor]:
    """Name -> array to uid -> tensor. Only whole numbers that fit are cast to the spec's own dtype."""
    packed = {}
    for name, value in tensors.items():
      array, dtype = np.asarray(value), tensor_utils.data_type_to_np_type(self.name_to_spec(name).dtype)
      if np.issubdtype(array.dtype, np.integer) and np.array_equal(array, array.astype(dtype)):
        array = array.astype(dtype)
      packed[self.name_to_uid(name)] = tensor_utils.pack_tensor(array)
    return packed
