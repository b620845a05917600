"""The server's answers: what a request does to the arm, who may do it, and what is said and recorded about it.

One client at a time has the arm, as long as it keeps asking for something. Whatever goes wrong with a request, the arm
is held and the client gets one line that says why. All of this happens on the serving thread.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures

import dm_env
import numpy as np
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import dm_env_utils, tensor_utils
from dm_env_rpc.v1.extensions import properties_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from environments.arm import mailbox as mailbox_lib
from environments.arm import protocol, recording, replay, safety, world


def offered(arm_world: world.ArmWorld | replay.ReplayWorld) -> rpc.ActionObservationSpecs:
  """What a client may do and see, by number: the reward is 1, and observations follow in the order of their names."""
  action = arm_world.action_spec().replace(name=protocol.ACTION)
  shown = [spec.replace(name=name) for name, spec in sorted(arm_world.observation_spec().items())]
  observations = enumerate([dm_env.specs.Array((), np.float32, name=protocol.REWARD), *shown], start=1)
  return rpc.ActionObservationSpecs(
    actions={1: dm_env_utils.dm_env_spec_to_tensor_spec(action)},
    observations={uid: dm_env_utils.dm_env_spec_to_tensor_spec(spec) for uid, spec in observations},
  )


class _LeaseLostError(Exception):
  """A client that lost the arm because of its silence asks for something."""


class Desk:
  """Answers requests on the serving thread, each kind in the method of its name. The event of a gone client is set."""

  def __init__(
    self,
    arm_world: world.ArmWorld | replay.ReplayWorld,
    mailbox: mailbox_lib.Mailbox,
    stop: threading.Event,
    record: Callable[[recording.Item], None],
    *,
    task: str,
    seed: int,
    lease_s: float,
    home_after_s: float,
  ):
    """Answers for `arm_world` until `stop`; requests wait in `mailbox`. The other arguments are `ServerConfig`'s."""
    self._world, self._mailbox, self._stop, self._record = arm_world, mailbox, stop, record
    self._task, self._seed, self._lease_s, self._home_after_s = task, seed, lease_s, home_after_s
    self._client: threading.Event | None = None  # The client that joined; below, when it got its last answer.
    self._answered_s = time.monotonic()
    self._silent = set[threading.Event]()  # Clients that had joined and lost the arm by silence.
    self._way_home: Iterator[str] = iter(())  # Of an arm that nobody has.
    self._specs = offered(arm_world)
    self._observations = {uid: spec.name for uid, spec in self._specs.observations.items()}
    self._cheap = set(self._observations.values()) - {protocol.REWARD, recording.PIXELS}  # These need no work.

  def answer(self, client: threading.Event, request: rpc.EnvironmentRequest) -> rpc.EnvironmentResponse:
    """The response to a request. If the request cannot be met, the arm is held and the response is an error.

    A request that gets INVALID_ARGUMENT has played no step (on the way to the start of an episode, the arm may have
    moved). After other errors the next step begins an episode.
    """
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
      is_cut_short = isinstance(error, world.CutShortError)
      return self.refuse(client, code_pb2.DATA_LOSS if is_cut_short else code_pb2.INVALID_ARGUMENT, str(error))
    except Exception as error:  # Whatever it was, the arm must be held and the client told.
      return self.refuse(client, code_pb2.INTERNAL, f"{type(error).__name__}: {error}")
    finally:
      if client is self._client:
        self._answered_s = time.monotonic()

  def poll(self) -> None:
    """Does what is due without a request: a silent client loses the arm, and an arm that nobody has goes home.

    Raises:
      safety.ArmLostError: if the arm was lost on its way.
    """
    if self._client is not None and time.monotonic() - self._answered_s > self._lease_s:
      self._silent.add(self._client)
      self._free(f"the client lost the arm: it asked for nothing for {self._lease_s:g} s")
    try:
      said = next(self._way_home, "")
    except (protocol.BridgeError, safety.CommandRefusedError, safety.ArmFaultError) as error:  # The way ends there.
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
    """Takes the arm from its client. The arm is held, and then goes home if so configured."""
    self._client = None
    self._world.restart()
    self._say(recording.INFORMATION, why)
    if self._home_after_s < math.inf:
      self._way_home = self._world.go_home(
        after_s=self._home_after_s,
        is_wanted=lambda: self._mailbox.is_empty() and not self._stop.is_set(),  # A client that joins must not wait.
      )

  def refuse(self, client: threading.Event, code: int, message: str) -> rpc.EnvironmentResponse:
    """An error response. The arm is held if `client` has it."""
    if client is self._client:
      with contextlib.suppress(safety.ArmLostError):  # The server is about to end because of it.
        self._world.hold() if code == code_pb2.INVALID_ARGUMENT else self._world.restart()
    self._say(recording.ERROR if code == code_pb2.INTERNAL else recording.REFUSAL, message)
    return rpc.EnvironmentResponse(error=status_pb2.Status(code=code, message=message))

  def _create_world(self, client: threading.Event, request: rpc.CreateWorldRequest) -> rpc.CreateWorldResponse:
    del client  # The world is the arm, which is always there.
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
    for name, value in request.settings.items():  # Unpacking allocates as much as a shape says.
      if value.shape:
        raise protocol.BridgeError(f"setting {name!r} has the shape {list(value.shape)}; give one value")
    settings = {name: tensor_utils.unpack_tensor(value) for name, value in request.settings.items()}
    task = settings.get(protocol.TASK, self._task)
    if task != self._task:
      raise protocol.BridgeError(
        f"task: the server plays {self._task}, the client expects {task}; serve that task or expect this one"
      )
    seed = settings.get(protocol.SEED, self._seed)
    protocol.check_seed(seed)
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
    value = properties_pb2.ReadPropertyResponse(value=tensor_utils.pack_tensor(self._task))
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
    observation, is_cut_short = self._world.observe(self._cheap), True
    try:
      observation |= self._world.observe(set(names.values()) - {protocol.REWARD, *observation})
      is_cut_short = False
    except protocol.BridgeError as error:
      raise world.CutShortError(str(error)) from None
    finally:  # The arm has moved, whatever its camera does.
      self._note(time_s, (step_type, reward, discount), action, observation, is_cut_short=is_cut_short)
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
    """The action in a request as it came, or None if there is none."""
    unknown = request.actions.keys() - self._specs.actions.keys()
    if unknown:
      raise protocol.BridgeError(f"action {min(unknown)} is not one of {sorted(self._specs.actions)}")
    if not request.actions:
      return None
    tensor, expected = request.actions[1], list(self._specs.actions[1].shape)
    # Shapes are compared before anything is allocated. -1 stands for any length, one value for all (dm_env_rpc).
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
        f"this client asked for nothing for {self._lease_s:g} s, and others may have the arm; reconnect, and if "
        "a client must think for longer, serve with a longer --lease_s"
      )
    if client is not self._client:
      raise protocol.BridgeError("this client has not joined the world")


def _refuse_unknown(settings: "dict[str, rpc.Tensor]", known: tuple[str, ...]) -> None:
  for name in settings:
    if name not in known:
      raise protocol.BridgeError(f"setting {name!r} is unknown; known here: {', '.join(known) or 'none'}")
