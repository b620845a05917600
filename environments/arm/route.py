"""Ways for the arm that stay clear of itself and its workspace: to the start of an episode, and home.

The gate stops what comes too near, but it looks no farther than to where the arm can rest. What moves the arm over a
longer way asks here first where to go. Nearly all ways are straight in joint space; the others go by home, which is
farthest from everything, and start with steps away from what is near.
"""

import dataclasses

import numpy as np

from environments.arm import protocol
from environments.jaco import constants

# Choices of ours.
_SLACK_M = 0.01  # More than the gate's margin, since the arm comes to a pose and follows a line within an angle.
_LOOK_RAD = 0.05  # Between two poses of a line that are looked at, of the joint that goes farthest.
_STEPS_RAD = (0.1, 0.03, 0.3)  # Away from what is near: lengths that are tried, one after the other,
_NUM_DIRECTIONS = 256  # each in so many directions.
_MOST_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Routes:
  """Ways of the first `num_joints` joints of an arm with these limits; the others rest where they are."""

  limits: protocol.Limits
  num_joints: int = constants.NUM_JOINTS

  def __post_init__(self) -> None:
    """Raises `protocol.BridgeError` where home, to and from which ways lead, is not clear itself."""
    home_m = self._clearance_m(constants.HOME_RAD)
    if home_m < self._needed_m:
      raise protocol.BridgeError(
        f"the arm's home is {home_m:.2f} m from itself or a side of its workspace, must be {self._needed_m:.2f} m; "
        "enlarge the workspace of the driver's limits"
      )

  def gap(self, here_rad: np.ndarray, there_rad: np.ndarray) -> np.ndarray:
    """From pose to pose, radians `[9]`: joints without limits go the short way, those that rest no way."""
    gap = there_rad - here_rad
    gap = np.where(constants.IS_LIMITED, gap, np.remainder(gap + np.pi, 2 * np.pi) - np.pi)
    gap[self.num_joints :] = 0.0
    return gap

  def clear_part(self, here_rad: np.ndarray, there_rad: np.ndarray) -> np.ndarray:
    """Of the line from home to `there_rad` the farthest pose up to which it is clear; home, if nothing of it is.

    Joints that rest are as they are at `here_rad`.
    """
    clear = self._home(here_rad)
    for pose in self._line(clear, there_rad):
      if self._clearance_m(pose) < self._needed_m:
        break
      clear = pose
    return clear

  def way(self, here_rad: np.ndarray, there_rad: np.ndarray) -> list[np.ndarray]:
    """Poses to go to, each in a straight line, the last one `there_rad`; it alone where no clear way is found.

    `there_rad` must be clear straight from home.
    """
    rng = np.random.default_rng(0)  # The same way every time.
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
    """Poses on the way from `here_rad`, which is none of them, to `there_rad`, `[N, 9]`."""
    gap = self.gap(here_rad, there_rad)
    num_poses = 1 + int(np.abs(gap).max() / _LOOK_RAD)
    return here_rad + np.arange(1, num_poses + 1)[:, None] / num_poses * gap

  def _is_clear(self, here_rad: np.ndarray, there_rad: np.ndarray) -> bool:
    """Whether the line is; as long as it is too near something, it must lead away from that."""
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
