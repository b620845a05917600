"""Kinova's Jaco (Gen2) over its own SDK, through ctypes: six joints and three fingers, by velocities at 100 Hz.

The arm's controller takes a velocity every 10 ms from a queue of 2,000. If velocities come less often, the arm is slow.
If they come more often, they pile up, and the arm goes on after the sender has stopped. If the queue is empty, the arm
rests. A command is therefore one point of the queue, and a stop empties the queue. The SDK uses degrees and, for
fingers, units of their motors. It is not said to be thread-safe, so calls take turns: a `read` that hangs ends the
process that owns the arm (`environments.arm.driver`), and the queue is soon empty. Layouts and codes are those of
Kinova's headers (kinova-ros, KinovaTypes.h). Nobody has tried this on an arm.
"""

import ctypes
import dataclasses
import threading
import time
from typing import Any

import numpy as np

from environments.arm import protocol, safety, webcam
from environments.jaco import constants

_OK = 1
_ERRORS = {1015: "no device found", 1022: "no answer in time", 2101: "not initialised", 9999: "refused by the arm"}
_ANGULAR_VELOCITY, _HAND_VELOCITY = 8, 2  # POSITION_TYPE, HAND_MODE
_NUM_ACTUATORS, _MAX_DEVICES = 7, 20
_FINGER_UNITS_PER_RAD = 6800.0 / np.deg2rad(80.0)  # From kinova-ros, for positions. The same for speeds is a guess.


class _Device(ctypes.Structure):
  _fields_ = [
    ("serial", ctypes.c_char * 20),
    ("model", ctypes.c_char * 20),
    ("version", ctypes.c_int * 3),
    ("type", ctypes.c_int),
    ("id", ctypes.c_int),
  ]


class _Angles(ctypes.Structure):
  _fields_ = [("actuators", ctypes.c_float * _NUM_ACTUATORS), ("fingers", ctypes.c_float * 3)]


class _Point(ctypes.Structure):
  """An entry of the queue. The fields from `limits` on stay zero."""

  _fields_ = [
    ("type", ctypes.c_int),
    ("delay", ctypes.c_float),
    ("cartesian", ctypes.c_float * 6),
    ("actuators", ctypes.c_float * _NUM_ACTUATORS),
    ("hand_mode", ctypes.c_int),
    ("fingers", ctypes.c_float * 3),
    ("has_limits", ctypes.c_int),
    ("synchro", ctypes.c_int),
    ("limits", ctypes.c_float * 9),
  ]


@dataclasses.dataclass(frozen=True)
class KinovaConfig:
  """Which arm, and its surroundings. One process of a machine holds Kinova's arms, whichever of them it drives.

  Attributes:
    library: path of Kinova.API.USBCommandLayerUbuntu.so, with USBCommLayerUbuntu.so beside it.
    serial: the arm's serial number; if empty, the first arm found.
    camera: as `webcam.Webcam` opens it.
    target_in_base_m: where the target was put, x y z. A task that draws targets is played as if each were there.
    reaction_s: how late the arm does what it is told, see `protocol.Limits`; `--mode=identify` tells if an arm is
      slower.
  """

  library: str
  serial: str = ""
  camera: str = "/dev/video0"
  target_in_base_m: tuple[float, float, float] = (0.45, 0.0, constants.TARGET_HEIGHT_M)
  reaction_s: float = protocol.Limits.reaction_s
  is_real_time = True
  lock = "kinova"  # Without a serial number it may be any of them.

  def limits(self) -> protocol.Limits:
    """The Jaco's limits. Readings are rare, since each makes the motion jerky (kinova-ros, issue 85)."""
    return dataclasses.replace(safety.jaco_limits(poll_s=0.01, reaction_s=self.reaction_s), read_s=0.05, max_age_s=0.15)

  def make(self) -> "Kinova":
    return Kinova(self)

  def make_camera(self) -> webcam.Webcam:
    return webcam.Webcam(self.camera, constants.IMAGE_SIZE)


class Kinova:
  """A `protocol.Driver` with the nine joints of `environments.jaco.constants`."""

  def __init__(self, config: KinovaConfig):
    self._config = config
    self._lock = threading.Lock()
    try:
      self._library = ctypes.CDLL(config.library)
    except OSError as error:
      message = f"Kinova's library cannot be loaded ({error}); install the SDK, or correct the path"
      raise protocol.BridgeError(message) from None
    self._library.SendAdvanceTrajectory.argtypes = [_Point]
    self._previous: tuple[float, np.ndarray] | None = None
    self._call("InitAPI")
    self._choose(config.serial)
    self._call("StartControlAPI")
    self._call("SetAngularControl")
    self._call("EraseAllTrajectories")
    self._num_errors = self._count_errors()

  def now_s(self) -> float:
    return time.monotonic()

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    self._call("EraseAllTrajectories")
    return False

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    pass  # It stands where a person put it.

  def command(self, velocity_rad_s: np.ndarray) -> None:
    """Sends one point of the queue: `[9]`, for the next 10 ms."""
    arm, fingers = np.split(np.asarray(velocity_rad_s, np.float64), [constants.NUM_ARM_JOINTS])
    point = _Point(type=_ANGULAR_VELOCITY, hand_mode=_HAND_VELOCITY)
    point.actuators[: constants.NUM_ARM_JOINTS] = np.rad2deg(arm).tolist()
    point.fingers[:] = (fingers * _FINGER_UNITS_PER_RAD).tolist()
    self._call("SendAdvanceTrajectory", point)

  def stop(self) -> None:
    self._call("EraseAllTrajectories")

  def read(self) -> protocol.Reading:
    """Reads the joints. Velocities are differences of angles, as some firmwares' own are wrong (kinova-ros).

    Raises:
      RuntimeError: if the SDK failed, or the arm has logged an error since it was taken.
    """
    angles = _Angles()
    self._call("GetAngularPosition", ctypes.byref(angles))
    now_s = time.monotonic()
    num_errors = self._count_errors()
    if num_errors > self._num_errors:
      raise RuntimeError(f"the arm logged {num_errors - self._num_errors} errors; read them with Kinova's own program")
    arm, fingers = np.array(angles.actuators)[: constants.NUM_ARM_JOINTS], np.array(angles.fingers)
    qpos = np.concatenate([np.deg2rad(arm), fingers / _FINGER_UNITS_PER_RAD]).astype(np.float64)
    before_s, before = self._previous or (now_s - 1.0, qpos)
    self._previous = (now_s, qpos)
    return protocol.Reading(now_s, qpos, (qpos - before) / (now_s - before_s), np.array(self._config.target_in_base_m))

  def close(self) -> None:
    self._call("StopControlAPI")
    self._call("CloseAPI")

  def _choose(self, serial: str) -> None:
    """Makes the arm with this serial number the active one."""
    devices, result = (_Device * _MAX_DEVICES)(), ctypes.c_int()
    num_devices = self._library.GetDevices(devices, ctypes.byref(result))
    found = [device for device in devices[: max(0, num_devices)] if serial in ("", device.serial.decode())]
    if not found:
      seen = ", ".join(device.serial.decode() for device in devices[: max(0, num_devices)]) or "none"
      raise protocol.BridgeError(f"there is no Kinova arm {serial or 'on this machine'}; found: {seen}")
    self._library.SetActiveDevice.argtypes = [_Device]
    self._call("SetActiveDevice", found[0])

  def _count_errors(self) -> int:
    count = ctypes.c_uint()
    self._call("GetSystemErrorCount", ctypes.byref(count))
    return count.value

  def _call(self, name: str, *arguments: Any) -> None:
    with self._lock:
      code = getattr(self._library, name)(*arguments)
    if code != _OK:
      raise RuntimeError(f"{name}: Kinova's error {code}, {_ERRORS.get(code, 'see its headers')}")
