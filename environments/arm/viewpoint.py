"""Where a camera stands, and at which pixel it shows a point of the base frame: a pinhole, for square pictures.

    column, row = size / 2 + f * (right, -up) / -back        f = size / 2 / tan(fov / 2)

The camera is the simulation's, moved in the base frame and rotated in its own axes (right, up, back). Pixels are
continuous numbers from the upper left corner, so the first pixel's middle is at (0.5, 0.5).
"""

import dataclasses
import functools

import mujoco
import numpy as np

from environments.jaco import constants

Triple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Viewpoint:
  """How a camera differs from the simulation's; the fields are those of `twin.TwinConfig`."""

  camera_shift_m: Triple = (0.0, 0.0, 0.0)
  camera_rotation_deg: Triple = (0.0, 0.0, 0.0)
  camera_fov_shift_deg: float = 0.0

  @property
  def position_m(self) -> np.ndarray:
    """Position in the base frame, `[3]`."""
    return constants.CAMERA_POSITION_M + np.array(self.camera_shift_m)

  @property
  def quaternion(self) -> np.ndarray:
    """Orientation in the base frame, w x y z: the simulation's, turned about its own axes."""
    turned, turn = np.empty(4), np.empty(4)
    mujoco.mju_euler2Quat(turn, np.deg2rad(self.camera_rotation_deg), "xyz")
    mujoco.mju_mulQuat(turned, _simulated_quaternion(), turn)
    return turned

  @property
  def fov_y_deg(self) -> float:
    return constants.CAMERA_FOV_Y_DEG + self.camera_fov_shift_deg

  def project(self, points_m: np.ndarray, *, size: int = constants.IMAGE_SIZE) -> np.ndarray:
    """The pixels `[..., 2]`, column and row, of points `[..., 3]` in the base frame, in front of the camera."""
    axes = self._axes()
    right, up, back = np.moveaxis((points_m - self.position_m) @ axes, -1, 0)
    return size / 2 + self.focal(size) * np.stack([right, -up], axis=-1) / -back[..., None]

  def rays(self, pixels: np.ndarray, *, size: int = constants.IMAGE_SIZE) -> np.ndarray:
    """Vectors `[..., 3]` in the base frame from the camera through pixels `[..., 2]`, one metre long along its axis."""
    across = (pixels - size / 2) / self.focal(size)
    return np.stack([across[..., 0], -across[..., 1], -np.ones_like(across[..., 0])], axis=-1) @ self._axes().T

  def _axes(self) -> np.ndarray:
    """The axes right, up, back as columns `[3, 3]`."""
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, self.quaternion)
    return axes.reshape(3, 3)

  def focal(self, size: int) -> float:
    """Number of pixels, in a picture of this size, that a metre fills a metre away."""
    return size / 2 / np.tan(np.deg2rad(self.fov_y_deg) / 2)


@functools.cache
def _simulated_quaternion() -> np.ndarray:
  back = constants.CAMERA_POSITION_M - constants.CAMERA_LOOK_AT_M
  back = back / np.linalg.norm(back)
  right = np.cross((0.0, 0.0, 1.0), back)
  right = right / np.linalg.norm(right)
  quaternion = np.empty(4)
  mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
  return quaternion
