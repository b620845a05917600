"""Kinova's Jaco (Gen2) over kinova-ros, ROS 1: six joints, by the topics and services of its node.

    <driver>/in/joint_velocity, degrees a second, at 100 Hz exactly      <driver>/out/joint_state, radians
    <driver>/in/stop, in/start: empties the arm's queue and takes its control away; gives it back

Each message is one point of the queue that `environments.arm.kinova` describes. Fingers take no velocities here, so
serve six joints. A node that is gone, or has lost its arm, shows nothing new, and that is a fault. The message
definitions of kinova-ros are written here, since Debian has rospy but not kinova-ros. Nobody has tried this on an arm.
"""

import dataclasses
import importlib
import sys
import threading
import time
from typing import Any

import numpy as np

from environments.arm import protocol, safety, webcam
from environments.jaco import constants

_START_S = 5.0  # Time for the node to be there.
_AHEAD_S = 0.02  # The node's clock may be this far ahead of ours. Beyond that the arm is held.
_ANY = "*"  # The checksum that every service takes.
_VELOCITY = ("kinova_msgs/JointVelocity", "\n".join(f"float32 joint{joint}" for joint in range(1, 8)))


@dataclasses.dataclass(frozen=True)
class RosConfig:
  """Which arm, and its surroundings.

  Attributes:
    robot: the arm's name in kinova-ros; its node is `<robot>_driver`. The master is that of $ROS_MASTER_URI.
    packages: where Python finds rospy: Debian's place.
    camera: as `webcam.Webcam` opens it.
    target_in_base_m: where the target was put, x y z. A task that draws targets is played as if each were there.
    reaction_s: how late the arm does what it is told, see `protocol.Limits`; `--mode=identify` tells if an arm is
      slower.
  """

  robot: str = "j2n6s300"
  packages: str = "/usr/lib/python3/dist-packages"
  camera: str = "/dev/video0"
  target_in_base_m: tuple[float, float, float] = (0.45, 0.0, constants.TARGET_HEIGHT_M)
  reaction_s: float = protocol.Limits.reaction_s
  is_real_time = True

  @property
  def lock(self) -> str:
    return f"ros-{self.robot}"

  def limits(self) -> protocol.Limits:
    """The Jaco's, as with the SDK. Set the node's `status_interval_seconds` to 0.05, or the arm will not move."""
    return dataclasses.replace(safety.jaco_limits(poll_s=0.01, reaction_s=self.reaction_s), max_age_s=0.15)

  def make(self) -> "Ros":
    return Ros(self)

  def make_camera(self) -> webcam.Webcam:
    return webcam.Webcam(self.camera, constants.IMAGE_SIZE)


class Ros:
  """A `protocol.Driver` with the nine joints of `environments.jaco.constants`, of which it moves six."""

  def __init__(self, config: RosConfig):
    rospy, sensors = _import(config.packages)
    self._config, self._rospy = config, rospy
    self._driver = f"/{config.robot}_driver"
    self._names = [f"{config.robot}_joint_{joint}" for joint in range(1, constants.NUM_ARM_JOINTS + 1)]
    num_fingers = constants.NUM_JOINTS - constants.NUM_ARM_JOINTS
    self._names += [f"{config.robot}_joint_finger_{finger}" for finger in range(1, num_fingers + 1)]
    self._newest: tuple[float, np.ndarray, np.ndarray] | None = None  # Time, angles, velocities.
    self._shown: tuple[float, np.ndarray] | None = None  # By the node's clock: time, angles.
    self._has_seen = threading.Event()
    if not importlib.import_module("rosgraph").is_master_online():
      raise protocol.BridgeError("no ROS master answers; start kinova_bringup, and set ROS_MASTER_URI to its machine's")
    rospy.init_node("progressive_robots", anonymous=True, disable_signals=True)
    self._velocity_type = _message(*_VELOCITY)
    self._velocity = rospy.Publisher(f"{self._driver}/in/joint_velocity", self._velocity_type, queue_size=1)
    rospy.Subscriber(f"{self._driver}/out/joint_state", sensors.JointState, self._see, queue_size=1, tcp_nodelay=True)
    give_up_s = time.monotonic() + _START_S
    while not (self._has_seen.is_set() and self._velocity.get_num_connections()):
      if time.monotonic() > give_up_s:
        what = "listens to in/joint_velocity" if self._has_seen.is_set() else f"shows {', '.join(self._names)}"
        raise protocol.BridgeError(f"no node {self._driver} {what}; start kinova_bringup, or correct --set=robot")
      time.sleep(0.01)
    self._stop_arm, self._start_arm = (self._service(name) for name in ("stop", "start"))
    self._stop_arm()

  def now_s(self) -> float:
    return time.monotonic()

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    self._start_arm()
    return False

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    pass  # It stands where a person put it.

  def command(self, velocity_rad_s: np.ndarray) -> None:
    """Sends one message: `[9]`, for the next 10 ms.

    Raises:
      RuntimeError: if nobody listens, or fingers should move.
    """
    arm, fingers = np.split(np.asarray(velocity_rad_s, np.float64), [constants.NUM_ARM_JOINTS])
    if fingers.any():
      raise RuntimeError("kinova-ros takes no velocities of fingers; serve --num_joints=6")
    if not self._velocity.get_num_connections():
      raise RuntimeError(f"{self._driver} no longer listens")
    self._velocity.publish(self._velocity_type(*np.rad2deg(arm).tolist(), 0.0))

  def stop(self) -> None:
    """Stops the arm. Then the node takes no velocity until `reset`."""
    self._velocity.publish(self._velocity_type())  # In case the service does not answer.
    self._stop_arm()

  def read(self) -> protocol.Reading:
    """The joints as last shown. Velocities are differences of angles, as the node's own are doubled on some arms."""
    assert self._newest is not None
    return protocol.Reading(*self._newest, np.array(self._config.target_in_base_m))

  def close(self) -> None:
    self._rospy.signal_shutdown("the arm rests")

  def _see(self, state: Any) -> None:
    """Takes one message, on one of rospy's threads."""
    angles = dict(zip(state.name, state.position, strict=False))
    if not all(name in angles for name in self._names):
      return
    stamp_s = state.header.stamp.to_sec()
    age_s = time.time() - stamp_s
    if age_s < -_AHEAD_S:  # A late message would look new.
      return
    qpos = np.array([angles[name] for name in self._names])
    before_s, before = self._shown or (stamp_s - 1.0, qpos)
    if stamp_s > before_s:
      self._shown = (stamp_s, qpos)
      self._newest = (time.monotonic() - max(0.0, age_s), qpos, (qpos - before) / (stamp_s - before_s))
      self._has_seen.set()

  def _service(self, name: str) -> Any:
    """A service of the node that takes nothing and answers with a string. Its connection is kept."""
    path, empty = f"{self._driver}/in/{name}", _message("kinova_msgs/Empty", "")
    answer = _message(f"kinova_msgs/{name.capitalize()}Response", f"string {name}_result")
    kind = type(name, (), dict(_type=_ANY, _md5sum=_ANY, _request_class=empty, _response_class=answer))
    try:
      self._rospy.wait_for_service(path, _START_S)
    except self._rospy.ROSException:
      raise protocol.BridgeError(f"no service {path}; start kinova_bringup, or correct --set=robot") from None
    return self._rospy.ServiceProxy(path, kind, persistent=True)


def _import(packages: str) -> tuple[Any, Any]:
  """Imports rospy and sensor_msgs.msg. What this project has installed takes precedence over `packages`."""
  if packages not in sys.path:
    sys.path.append(packages)
  try:
    return importlib.import_module("rospy"), importlib.import_module("sensor_msgs.msg")
  except ImportError as error:
    raise protocol.BridgeError(
      f"there is no ROS for Python in {packages} ({error}): apt-get install python3-rospy python3-sensor-msgs, or say "
      "where it is, --set=packages=..."
    ) from None


def _message(name: str, text: str) -> Any:
  """The class of a message, from its name and definition."""
  return importlib.import_module("genpy.dynamic").generate_dynamic(name, text)[name]
