"""Paths on which the arm stays clear of itself and its workspace: to the start of an episode, and home.

The gate stops an arm that comes too near, but it looks no farther than to where the arm can rest. Code that moves the
arm over a longer way first asks here where to go. Nearly all paths are straight in joint space. The others go through
home, which is farthest from everything, and start with steps away from what is near.
"""

import dataclasses

import numpy as np

from environments.arm import protocol
from environments.jaco import constants

# Our choices.
_SLACK_M = 0.01  # Added to the gate's margin, since the arm reaches poses and lines only within an angle.
_LOOK_RAD = 0.05  # Between two poses at which a line is checked, of the joint that moves farthest.
_STEPS_RAD = (0.1, 0.03, 0.3)  # Lengths of steps away from what is near, tried one after the other.
_NUM_DIRECTIONS = 256  # Directions of steps per length.
_MOST_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Routes:
  """Paths of the first `num_joints` joints of an arm with these limits; the other joints rest where they are."""

  limits: protocol.Limits
  num_joints: int = constants.NUM_JOINTS

  def __post_init__(self) -> None:
    """Raises `protocol.BridgeError` if home, to and from which paths lead, is not clear itself."""
    home_m = self._clearance_m(constants.HOME_RAD)
    if home_m < self._needed_m:
      raise protocol.BridgeError(
        f"the arm's home is {home_m:.2f} m from itself or a side of its workspace, must be {self._needed_m:.2f} m; "
        "enlarge the workspace of the driver's limits"
      )

  def gap(self, here_rad: np.ndarray, there_rad: np.ndarray) -> np.ndarray:
    """From pose to pose, radians `[9]`. Joints without limits go the short way, and resting joints do not move."""
    gap = there_rad - here_rad
    gap = np.where(constants.IS_LIMITED, gap, np.remainder(gap + np.pi, 2 * np.pi) - np.pi)
    gap[self.num_joints :] = 0.0
    return gap

  def clear_part(self, here_rad: np.ndarray, there_rad: np.ndarray) -> np.ndarray:
    """The farthest pose on the line from home to `there_rad` up to which the line is clear; home, if none of it is.

    Resting joints stay as they are at `here_rad`.
    """
    clear = self._home(here_rad)
    for pose in self._line(clear, there_rad):
      if self._clearance_m(pose) < self._needed_m:
        break
      clear = pose
    return clear

  def way(self, here_rad: np.ndarray, there_rad: np.ndarray) -> list[np.ndarray]:
    """Poses to go to, each in a straight line. The last one is `there_rad`, and the only one if no clear path is found.

    The straight line from home to `there_rad` must be clear.
    """
    rng = np.random.default_rng(0)  # For the same path every time.
    way = [here_rad]
    while len(way) <= _MOST_STEPS:
      here, home = way[-1], self._home(way[-1])
      for rest in ([there_rad], [home, there_rad]):
        if self._is_clear(here, rest[0]):
          return [*way[1:], *rest]
      away = self._step_away(here, rng)
      if away is None:
        break
      way.append(away)
    return [there_rad]

  def _home(self, here_rad: np.ndarray) -> np.ndarray:
    return here_rad + self.gap(here_rad, constants.HOME_RAD)

  def _line(self, here_rad: np.ndarray, there_rad: np.ndarray) -> np.ndarray:
    """Poses on the way from `here_rad`, which is not among them, to `there_rad`, `[N, 9]`."""
    gap = self.gap(here_rad, there_rad)
    num_poses = 1 + int(np.abs(gap).max() / _LOOK_RAD)
    return here_rad + np.arange(1, num_poses + 1)[:, None] / num_poses * gap

  def _is_clear(self, here_rad: np.ndarray, there_rad: np.ndarray) -> bool:
    """Whether the line is clear. While the line is too near something, it must lead away from that."""
    before_m = self._clearance_m(here_rad)
    for pose in self._line(here_rad, there_rad):
      clearance_m = self._clearance_m(pose)
      if clearance_m < min(self._needed_m, before_m):
        return False
      before_m = clearance_m
    return True

  def _step_away(self, here_rad: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """The best of some steps that lead away from what is near, or None."""
    before_m = self._clearance_m(here_rad)
    for length_rad in _STEPS_RAD:
      directions = rng.normal(size=(_NUM_DIRECTIONS, self.num_joints))
      steps = np.zeros((_NUM_DIRECTIONS, here_rad.size))
      steps[:, : self.num_joints] = length_rad * directions / np.linalg.norm(directions, axis=1, keepdims=True)
      poses = np.clip(here_rad + steps, self.limits.low_rad, self.limits.high_rad)
      clearances_m = [self._clearance_m(pose) for pose in poses]
      if max(clearances_m) > before_m:
        return poses[int(np.argmax(clearances_m))]
    return None

  @property
  def _needed_m(self) -> float:
    return self.limits.margin_m + _SLACK_M

  def _clearance_m(self, qpos_rad: np.ndarray) -> float:
    return np.inf if self.limits.clearance_m is None else self.limits.clearance_m(qpos_rad)
