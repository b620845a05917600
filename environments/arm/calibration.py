"""Where the camera stands, from pictures of the arm at known joint angles: fits the twin's camera by least squares.

    min over camera, colours, background: sum of |blur(picture - arm(camera) * colours - free(camera) * background)|^2

The twin says which pixels the arm fills and how its surfaces are turned. Nothing is assumed about what stands around
it. Its two materials have free colours in free light, and every pixel has the background that is seen where the arm is
not. Colours and background are linear and are solved for at every step (variable projection, Golub and Pereyra 1973).
Derivatives are the gradient of the drawing times the motion of each surface, because differences of drawings jump at
edges. The sum jumps as well, so steps are Gauss-Newton steps without a line search. The target is left out of the fit
and shows how good the fit is. Intervals are jackknifed over episodes, since pictures of one episode err alike, and
widened by the errors that all pictures share.
"""

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
import scipy

from environments.arm import identify, recording, tracking, twin, viewpoint
from environments.jaco import constants

# Three shifts, three rotations, the angle of view: each step moves the picture by a pixel or so.
_STEP = np.array([0.02, 0.02, 0.02, 0.7, 0.7, 0.7, 1.0])
_FEWEST, _MOST, _FEWEST_EPISODES = 12, 400, 4  # Pictures, and the episodes that they come from.
_LEVELS = ((2.0, 48, 5), (0.5, 96, 5), (0.5, _MOST, 3))  # Blur in pixels, pictures, steps.
_SHARE = 0.6  # Share of a step that is taken: full steps alternate between moving away and a wider angle.
_SETTLED = 0.2  # In `_STEP`, the longest last step.
_FARTHEST = np.array([0.08, 0.08, 0.08, 5.0, 5.0, 5.0, 3.0])  # Beyond this from its start, the search has gone astray.
_FINE = 2  # Rows and columns that are drawn per row and column of a picture.
_OTHERS = ("table", "floor", "target", "post")  # Geoms that are not parts of the arm.
_TARGET_MARGIN = 4  # Pixels left out around the target, which may seem this far from where it is.
_RIDGE = 1e-6
# How much more each number may be wrong than differences between episodes show, metres and degrees. The light is fitted
# only approximately, in the same way in all pictures, and a search may settle beside the best place. Measured on twins
# (docs/results/arm.md).
_BESIDE = np.array([0.003, 0.003, 0.003, 0.15, 0.15, 0.15, 0.1])


class Shot(NamedTuple):
  """A picture, and where the arm and the target were."""

  pixels: np.ndarray  # [H, H, 3] uint8
  qpos_rad: np.ndarray  # [J]
  target_in_base_m: np.ndarray  # [3]
  episode: int  # Its episode.


def shots(path: pathlib.Path) -> list[Shot]:
  """Recorded pictures of a slow arm, since a camera is late: about `_MOST`, from all episodes alike."""
  seen = [[step for step in steps if recording.PIXELS in step.observation] for steps in recording.episodes(path)]
  seen = [steps for steps in seen if steps]
  found = []
  for episode, steps in enumerate(seen):
    num = min(len(steps), math.ceil(_MOST / len(seen)))
    for part in np.array_split(np.arange(len(steps)), num):
      slowest = min((steps[index] for index in part), key=lambda step: np.abs(step.reading.qvel_rad_s).max())
      reading = slowest.reading
      found.append(Shot(slowest.observation[recording.PIXELS], reading.qpos_rad, reading.target_in_base_m, episode))
  return found[:: max(1, math.ceil(len(found) / _MOST))]


def fit(
  config: twin.TwinConfig, found: Sequence[Shot], *, fov_y_deg: float | None = None
) -> dict[str, tuple[identify.Estimate, ...]]:
  """The camera of the twin that took these pictures, field -> its numbers. The search begins at `config`.

  A known angle of view of the lens, `fov_y_deg`, is taken as it is. Without it, nearer and wider look nearly the same.

  Raises:
    ValueError: if there are too few pictures, or they do not determine where the camera is.
  """
  if len(found) < _FEWEST:
    raise ValueError(f"there are {len(found)} pictures of the arm; finding its camera needs {_FEWEST}: drive it longer")
  _, num_of = np.unique([shot.episode for shot in found], return_counts=True)  # In the order of episodes.
  if len(num_of) < _FEWEST_EPISODES:
    raise ValueError(
      f"the pictures are of {len(num_of)} episodes; how sure the camera is shows in {_FEWEST_EPISODES}: drive some more"
    )
  fov_shift_deg = config.camera_fov_shift_deg if fov_y_deg is None else fov_y_deg - constants.CAMERA_FOV_Y_DEG
  x = np.array([*config.camera_shift_m, *config.camera_rotation_deg, fov_shift_deg]) / _STEP
  num_free = x.size if fov_y_deg is None else x.size - 1  # The angle of view is the last.
  start = x.copy()
  arm = _Arm(found[0].pixels.shape[0])
  try:
    for blur, num_pictures, num_steps in _LEVELS:
      some = found[:: math.ceil(len(found) / num_pictures)]
      for _ in range(num_steps):
        residuals, jacobian = _linearized(arm, some, x, blur)
        jacobian = jacobian[:, :num_free]
        step = _SHARE * np.linalg.solve(jacobian.T @ jacobian, jacobian.T @ residuals)
        x[:num_free] -= step
  finally:
    arm.close()
  # Pictures of one episode err alike, so the jackknife leaves out episodes, not pictures.
  half = identify.half_widths(residuals, jacobian, (residuals.size // len(found) * num_of).tolist())
  is_astray = (np.abs(x - start) * _STEP > _FARTHEST).any()
  if is_astray or not np.abs(step).max() < _SETTLED or not np.isfinite(half).all():
    raise ValueError(
      "the pictures do not say where the camera is; show the whole arm in many poses, begin within some 5 cm and 3 "
      "degrees of it, --set='camera_shift_m=(0.1, 0, 0)', and say the lens's angle of view, --camera_view"
    )
  half += (_BESIDE / _STEP)[:num_free]
  half = np.pad(half, (0, x.size - num_free))
  ends = np.stack([x, x - half, x + half], axis=1) * _STEP[:, None]
  numbers = [identify.Estimate(*three) for three in ends.tolist()]
  return dict(zip(identify.CAMERA, (tuple(numbers[:3]), tuple(numbers[3:6]), (numbers[6],)), strict=True))


def view(estimates: dict[str, tuple[identify.Estimate, ...]]) -> viewpoint.Viewpoint:
  """The camera that `fit` found."""
  return _view(np.array([one.value for numbers in estimates.values() for one in numbers]))


def reprojection_px(seen: viewpoint.Viewpoint, found: Sequence[Shot], rgb: tracking.Rgb) -> tuple[float, int]:
  """How far targets of this colour are from where they should be seen, root mean square, and in how many pictures."""
  errors = []
  for shot in found:
    size, target = shot.pixels.shape[0], shot.target_in_base_m
    radius = tracking.radius_px(seen, target, size=size)
    spot = tracking.find(shot.pixels, rgb, lambda _: radius)  # noqa: B023
    if spot and tracking.share(spot, radius) > tracking.WHOLE:
      errors.append(np.sum((spot.center - seen.project(target, size=size)) ** 2))
  return float(np.sqrt(np.mean(errors))) if errors else math.nan, len(errors)


def _view(numbers: np.ndarray) -> viewpoint.Viewpoint:
  a, b, c, d, e, f, fov = numbers.tolist()
  return viewpoint.Viewpoint((a, b, c), (d, e, f), fov)


class _Drawn(NamedTuple):
  """A drawn arm: its `n` pixels and those next to them. `_FINE` squared of them make one pixel of a picture."""

  row: np.ndarray  # [n]
  column: np.ndarray  # [n]
  lit: np.ndarray  # [n, F] What each of the arm's colours, in each light, adds to the picture.
  is_arm: np.ndarray  # [n] bool
  motion: np.ndarray  # [n, 2, 7] Motion of the surface, in columns and rows, for each `_STEP`.
  is_used: np.ndarray  # [H, H] bool, False around the target.


class _Arm:
  """The twin's arm, in any pose, seen from anywhere."""

  def __init__(self, size: int):
    self._size = size * _FINE
    self._model = twin.build_model(twin.TwinConfig(), image_size=self._size)
    self._data = mujoco.MjData(self._model)
    self._camera = twin.Camera(self._model, self._size)
    names = [self._model.geom(i).name for i in range(self._model.ngeom)]
    materials = [self._model.material(int(i)).name.rpartition("/")[2] for i in self._model.geom_matid]
    of_arm = {i: material for i, material in enumerate(materials) if names[i] not in _OTHERS}
    self._materials = sorted(set(of_arm.values()))
    # Geom -> index of its material, or one more if it is not the arm; the last entry is for no geom.
    self._part_of = np.full(len(names) + 1, len(self._materials))
    for geom, material in of_arm.items():
      self._part_of[geom] = self._materials.index(material)
    self._target = [names.index("target"), names.index("post")]

  def draw(self, shot: Shot, x: np.ndarray) -> _Drawn:
    """Draws the arm in the pose of `shot`, as the camera at `x` sees it."""
    seen, size = _view(x * _STEP), self._size
    self._model.cam_pos[0], self._model.cam_quat[0] = seen.position_m, seen.quaternion
    self._model.cam_fovy[0] = seen.fov_y_deg
    self._data.qpos[:] = shot.qpos_rad
    twin.place_target(self._model, self._data, shot.target_in_base_m)
    surfaces = self._camera.surfaces(self._data)
    light = np.concatenate([np.ones_like(surfaces.facing[..., :1]), surfaces.facing], axis=-1)
    part = self._part_of[surfaces.geoms]
    # An edge moves with the surface in front.
    depth_m = scipy.ndimage.minimum_filter(np.where(part < len(self._materials), surfaces.depth_m, np.inf), 3)
    row, column = np.nonzero(np.isfinite(depth_m))
    light, part = light[row, column], part[row, column]
    ways = seen.rays(np.stack([column, row], axis=-1) + 0.5, size=size)
    points = seen.position_m + depth_m[row, column, None] * ways
    motion = np.empty((row.size, 2, x.size), np.float32)
    for i, end in enumerate(0.05 * np.eye(x.size)):
      ahead, behind = (_view((x + way) * _STEP).project(points, size=size) for way in (end, -end))
      motion[..., i] = (ahead - behind) / 0.1
    small = size // _FINE
    is_target = np.isin(surfaces.geoms, self._target).reshape(small, _FINE, small, _FINE).any(axis=(1, 3))
    return _Drawn(
      row,
      column,
      np.concatenate([light * (part == i)[:, None] for i in range(len(self._materials))], axis=-1),
      part < len(self._materials),
      motion,
      ~scipy.ndimage.maximum_filter(is_target, 2 * _TARGET_MARGIN + 1),
    )

  def close(self) -> None:
    self._camera.close()


def _linearized(arm: _Arm, found: Sequence[Shot], x: np.ndarray, blur: float) -> tuple[np.ndarray, np.ndarray]:
  """Residuals `[N]` at `x` with the best colours and background, and their derivatives `[N, 7]`."""
  size = found[0].pixels.shape[0]
  drawn = [arm.draw(shot, x) for shot in found]

  def smooth(image: np.ndarray, one: _Drawn) -> np.ndarray:
    """`[H, H, C]`, blurred, and 0 in unused pixels."""
    return scipy.ndimage.gaussian_filter(image, (blur, blur, 0.0)) * one.is_used[..., None]

  def before(images: np.ndarray) -> np.ndarray:
    """Subtracts, in place, from `[K, H, H, C]` what a background explains."""
    behind = np.einsum("khw,khwc->hwc", share, images)
    for image, seen in zip(images, free, strict=True):
      image -= seen[..., None] * behind
    return images

  def moved(one: _Drawn) -> np.ndarray:
    return smooth(_moved(one, colors, size), one).reshape(size, size, 4, -1)

  picture = np.stack([smooth(shot.pixels / np.float32(255.0), one) for shot, one in zip(found, drawn, strict=True)])
  lit = np.stack([smooth(_pooled(one, one.lit, size), one) for one in drawn])  # [K, H, H, F]
  covered = np.stack([_pooled(one, one.is_arm[:, None], size) for one in drawn])
  free = np.stack([smooth(1.0 - image, one)[..., 0] for image, one in zip(covered, drawn, strict=True)])  # [K, H, H]
  share = free / np.maximum(np.sum(free**2, axis=0), _RIDGE)
  columns, values = (before(images.copy()).reshape(-1, images.shape[-1]) for images in (lit, picture))
  normal = columns.T @ columns
  normal += _RIDGE * np.trace(normal) * np.eye(len(normal), dtype=np.float32)
  colors = np.linalg.solve(normal, columns.T @ values)  # [F, 3]
  behind = np.einsum("khw,khwc->hwc", share, picture - lit @ colors)
  slopes = np.empty((*free.shape, 3 * x.size), np.float32)
  for slope, one in zip(slopes, drawn, strict=True):
    image = moved(one)
    slope[:] = (image[..., :3, :] + behind[..., None] * image[..., 3:, :]).reshape(slope.shape)
  slopes = before(slopes).reshape(len(values), -1)
  slopes -= columns @ np.linalg.solve(normal, columns.T @ slopes)
  return (columns @ colors - values).ravel(), slopes.reshape(values.size, -1)


def _moved(drawn: _Drawn, colors: np.ndarray, size: int) -> np.ndarray:
  """How the arm's colours, and the pixels without arm, change with the camera: `[H, H, 4 * 7]`."""
  image = np.zeros((size * _FINE, size * _FINE, 4), np.float32)
  image[drawn.row, drawn.column] = np.concatenate(
    [drawn.lit @ colors, -drawn.is_arm[:, None].astype(np.float32)], axis=-1
  )
  by_row, by_column = (gradient[drawn.row, drawn.column, :, None] for gradient in np.gradient(image, axis=(0, 1)))
  across, down = drawn.motion[:, None, 0], drawn.motion[:, None, 1]
  return _pooled(drawn, -(by_column * across + by_row * down).reshape(drawn.row.size, -1), size)


def _pooled(drawn: _Drawn, values: np.ndarray, size: int) -> np.ndarray:
  """Means of `[n, C]` over the pixels of a picture, `[H, H, C]`, 0 elsewhere."""
  pixel = drawn.row // _FINE * size + drawn.column // _FINE
  parts = np.full(pixel.size, 1.0 / _FINE**2, np.float32)
  mean = scipy.sparse.csr_array((parts, (pixel, np.arange(pixel.size))), shape=(size**2, pixel.size))
  return np.asarray(mean @ values.astype(np.float32)).reshape(size, size, -1)
