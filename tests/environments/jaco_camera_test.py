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
  view = camera.view(camera.nominal())
  program = jax.jit(lambda qpos, target: camera.render(view, kinematics.forward(qpos), target))
  return lambda qpos, target: tuple(np.asarray(x) for x in program(jnp.float32(qpos), jnp.float32(target)))


def _is_red(pixels: np.ndarray) -> np.ndarray:
  return (pixels[..., 0] > 90) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)


def _project(point: np.ndarray, position: np.ndarray = constants.CAMERA_POSITION_M) -> tuple[float, float, float]:
  """Row, column and depth of a point in the nominal camera, or in one at another position, by hand."""
  forward = constants.CAMERA_LOOK_AT_M - position
  forward = forward / np.linalg.norm(forward)
  right = np.cross(forward, [0, 0, 1])
  right = right / np.linalg.norm(right)
  way = point - position
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
  pixel = round(row), round(column)
  z, forward = (raycast.picture(x, height=_SIZE, width=_SIZE)[pixel] for x in (beams.z, beams.forward))
  np.testing.assert_allclose(depth[pixel], constants.CAMERA_POSITION_M[2] / -z * forward, atol=1e-4)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_whole_target_area_is_in_view(name):
  for corner in itertools.product(*zip(tasks.TASKS[name].target_low_m, tasks.TASKS[name].target_high_m, strict=True)):
    row, column, _ = _project(np.array(corner))
    assert 2 < row < _SIZE - 3 and 2 < column < _SIZE - 3, corner


def test_weaker_shadows_make_the_table_lighter_and_nothing_else_other():
  """By Lambert's rule, on the planks: colour * (ambient + (1 - ambient) * light_z * (1 - share))."""
  qpos, target = constants.HOME_RAD, np.array([0.45, 0.1, constants.TARGET_HEIGHT_M])

  @jax.jit
  def shaded(share):
    view = camera.view(camera.nominal().replace(shadow=share))
    return camera.render(view, kinematics.forward(jnp.float32(qpos)), jnp.float32(target))[0]

  assert camera.nominal().shadow == 1.0
  full, half, none = (np.asarray(shaded(jnp.float32(share)), np.float32) for share in (1.0, 0.5, 0.0))
  is_darker = np.any(full < none, axis=-1)
  assert 0.01 < is_darker.mean() < 0.3 and np.all(full <= none)
  np.testing.assert_allclose(half, (full + none) / 2, atol=1.0)  # Levels are rounded.
  light_z = constants.LIGHT_DIRECTION[2] / np.linalg.norm(constants.LIGHT_DIRECTION)
  darkest = constants.AMBIENT / (constants.AMBIENT + (1 - constants.AMBIENT) * light_z)
  assert (full / np.maximum(none, 1))[is_darker].min() == pytest.approx(darkest, abs=0.02)


def test_a_turned_camera_looks_at_the_same_point_from_as_far_and_as_high():
  turned = camera.changed(constants.Change(camera_deg=20.0)).camera
  np.testing.assert_array_equal(turned.look_at, camera.nominal().camera.look_at)
  before, after = (
    np.asarray(one) - constants.CAMERA_LOOK_AT_M for one in (constants.CAMERA_POSITION_M, turned.position)
  )
  np.testing.assert_allclose(after[2], before[2], rtol=1e-6)
  np.testing.assert_allclose(np.hypot(*after[:2]), np.hypot(*before[:2]), rtol=1e-6)
  angles = np.rad2deg([np.arctan2(one[1], one[0]) for one in (before, after)])
  np.testing.assert_allclose(angles[1] - angles[0], 20.0, rtol=1e-5)


def test_hues_that_turn_by_a_third_swap_the_channels():
  colors = camera.changed(constants.Change(hue_deg=-120.0)).colors
  np.testing.assert_allclose(colors, constants.COLORS[:, [1, 2, 0]], atol=1e-6)  # Red becomes blue.
  small = np.asarray(camera.changed(constants.Change(hue_deg=1.0)).colors)
  np.testing.assert_allclose(small.sum(1), constants.COLORS.sum(1), atol=1e-5)  # As light as before.


def test_no_change_is_the_nominal_appearance():
  jax.tree.map(np.testing.assert_array_equal, camera.changed(constants.Change()), camera.nominal())


@pytest.mark.parametrize("name", constants.CHANGES)
def test_the_target_stays_in_view_whatever_changes(name):
  position = np.asarray(camera.changed(constants.CHANGES[name]).camera.position)
  for corner in itertools.product(*zip(constants.TARGET_LOW_M, constants.TARGET_HIGH_M, strict=True)):
    row, column, _ = _project(np.array(corner), position)
    assert 2 < row < _SIZE - 3 and 2 < column < _SIZE - 3, corner
