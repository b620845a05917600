"""The picture shows the target, the arm and the table where they are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import raycast
from environments.jaco import camera, constants, kinematics, tasks

_SIZE = constants.IMAGE_SIZE


@pytest.fixture(scope="module")
def render():
  appearance = camera.nominal()
  program = jax.jit(lambda qpos, target: camera.render(appearance, kinematics.forward(qpos), target))
  return lambda qpos, target: tuple(np.asarray(x) for x in program(jnp.float32(qpos), jnp.float32(target)))


def _is_red(pixels: np.ndarray) -> np.ndarray:
  return (pixels[..., 0] > 90) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)


def _project(point: np.ndarray) -> tuple[float, float, float]:
  """Row, column and depth of a point in the nominal camera, by hand."""
  forward = constants.CAMERA_LOOK_AT_M - constants.CAMERA_POSITION_M
  forward = forward / np.linalg.norm(forward)
  right = np.cross(forward, [0, 0, 1])
  right = right / np.linalg.norm(right)
  way = point - constants.CAMERA_POSITION_M
  depth = way @ forward
  half = np.tan(np.deg2rad(constants.CAMERA_FOV_Y_DEG) / 2) * depth
  column = (way @ right / half + 1) * _SIZE / 2 - 0.5
  row = (1 - way @ np.cross(right, forward) / half) * _SIZE / 2 - 0.5
  return row, column, depth


_CORNERS = [(x, y) for x in (0.30, 0.60) for y in (-0.20, 0.20)]


@pytest.mark.parametrize("corner", [*_CORNERS, (0.45, 0.0)])
def test_the_target_is_seen_where_it_is(render, corner):
  target = np.array([*corner, constants.TARGET_HEIGHT_M])
  pixels, depth = render(constants.HOME_RAD + np.eye(9)[0] * np.pi, target)  # The arm turned away.
  is_red = _is_red(pixels)
  assert is_red.sum() >= 9
  row, column, along = _project(target)
  np.testing.assert_allclose(np.argwhere(is_red).mean(0), [row, column], atol=0.7)
  nearest = depth[is_red].min()
  assert along - constants.TARGET_RADIUS_M - 1e-3 < nearest < along - 0.5 * constants.TARGET_RADIUS_M


@pytest.mark.parametrize("name", ["reach/random", "reach/table", "reach/3d", "catch"])
def test_random_starts_show_the_target_nearly_always(render, name):
  draw = jax.jit(jax.vmap(lambda key: tasks.draw_start(tasks.TASKS[name], key)))
  starts = draw(jax.random.split(jax.random.key(0), 100))
  arms, targets = np.asarray(starts.qpos), np.asarray(starts.target.position)
  seen = [_is_red(render(q, t)[0]).sum() >= 9 for q, t in zip(arms, targets, strict=True)]
  assert np.mean(seen) > 0.9  # Now and then the arm hides it.


def test_the_arm_is_seen_and_its_motion_too(render):
  target = [0.45, 0.0, constants.TARGET_HEIGHT_M]
  pixels, depth = render(constants.HOME_RAD, target)
  is_dark = (pixels < 60).all(-1)
  assert 0.03 < is_dark.mean() < 0.3
  for joint in range(6):
    moved, _ = render(constants.HOME_RAD + 0.3 * np.eye(9)[joint], target)
    assert (moved != pixels).any(-1).sum() > 5, joint
  # The palm is drawn where kinematics has it: something dark or light, nearer than the table behind it.
  palm = np.asarray(kinematics.palm(kinematics.forward(jnp.float32(constants.HOME_RAD))))
  row, column, along = _project(palm)
  assert abs(depth[round(row) - 2 : round(row) + 3, round(column) - 2 : round(column) + 3].min() - along) < 0.12


def test_depth_of_the_bare_table_is_that_of_its_plane(render):
  _, depth = render(constants.HOME_RAD, [0.45, 0.0, constants.TARGET_HEIGHT_M])
  point = np.array([0.7, 0.1, 0.0])
  row, column, _ = _project(point)
  beams = raycast.rays(camera.nominal().camera, height=_SIZE, width=_SIZE)
  pixel = round(row) * _SIZE + round(column)
  expected = (constants.CAMERA_POSITION_M[2] / -beams.z[pixel]) * beams.forward[pixel]
  np.testing.assert_allclose(depth[round(row), round(column)], expected, atol=1e-4)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_whole_target_area_is_in_view(name):
  for corner in itertools.product(*zip(tasks.TASKS[name].target_low_m, tasks.TASKS[name].target_high_m, strict=True)):
    row, column, _ = _project(np.array(corner))
    assert 2 < row < _SIZE - 3 and 2 < column < _SIZE - 3, corner
