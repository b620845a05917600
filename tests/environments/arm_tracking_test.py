"""Finding a target of one colour, on pictures painted here and on the twin's pictures with the whole gap."""

import dataclasses

import jax
import numpy as np
import pytest

from environments.arm import protocol, tracking, twin, viewpoint
from environments.jaco import constants, tasks

VIEW = viewpoint.Viewpoint((0.02, -0.02, 0.01), (1.0, -1.0, 2.0), 1.0)
TRACKER = tracking.Tracker(VIEW, height_m=0.2, hold_s=1.0)
SIZE = 64


def painted(place, *, hidden=None, rgb=(180, 30, 25)):
  """Paints a ball at `place` on brown, projected by numpy with sixteen samples a pixel. `hidden` columns are dark."""
  back = constants.CAMERA_POSITION_M - constants.CAMERA_LOOK_AT_M
  back /= np.linalg.norm(back)
  right = np.cross([0, 0, 1], back) / np.linalg.norm(np.cross([0, 0, 1], back))
  a, b, c = np.deg2rad(VIEW.camera_rotation_deg)
  about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
  about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
  about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
  axes = np.stack([right, np.cross(back, right), back], axis=1) @ about_x @ about_y @ about_z
  x, y, z = axes.T @ (place - constants.CAMERA_POSITION_M - VIEW.camera_shift_m)
  focal = SIZE / 2 / np.tan(np.deg2rad(45.0) / 2)
  center = np.array([SIZE / 2 + focal * x / -z, SIZE / 2 - focal * y / -z])
  samples = (np.mgrid[0 : 4 * SIZE, 0 : 4 * SIZE][::-1] + 0.5) / 4.0  # Columns, rows.
  is_ball = np.hypot(*(samples - center[:, None, None])) < focal * constants.TARGET_RADIUS_M / np.hypot(
    np.hypot(x, y), z
  )
  picture = np.where(is_ball[..., None], rgb, (140, 118, 92))
  picture = picture.reshape(SIZE, 4, SIZE, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
  if hidden is not None:
    picture[:, hidden] = 40
  return picture, center


def radius_at(center):
  """About that of a ball on the plane: 1.25 m away."""
  return SIZE / 2 / np.tan(np.deg2rad(45.0) / 2) * constants.TARGET_RADIUS_M / 1.25


@pytest.mark.parametrize("place", [(0.45, 0.0, 0.2), (0.3, 0.2, 0.2), (0.6, -0.2, 0.2)])
def test_a_ball_is_found_where_it_was_painted(place):
  picture, center = painted(np.array(place))
  np.testing.assert_allclose(VIEW.project(np.array(place)), center, atol=1e-6)
  np.testing.assert_allclose(tracking.find(picture, TRACKER.rgb, radius_at).center, center, atol=0.15)
  sight = TRACKER.locate(picture)
  assert sight.is_whole
  np.testing.assert_allclose(sight.place_m, place, atol=0.006)


def test_of_a_ball_that_is_hidden_in_part_the_whole_disc_counts():
  place = np.array([0.45, 0.0, 0.2])
  middle = int(painted(place)[1][0])
  for hidden in (slice(middle, None), slice(None, middle)):  # Half is hidden: the patch is a pixel from the middle.
    picture, center = painted(place, hidden=hidden)
    assert abs(tracking.find(picture, TRACKER.rgb, radius_at).center[0] - center[0]) > 0.9
    sight = TRACKER.locate(picture)
    assert not sight.is_whole and np.linalg.norm(sight.place_m - place) < 0.02


def test_other_colours_are_none_and_another_one_can_be_asked_for():
  blue, _ = painted(np.array([0.45, 0.0, 0.2]), rgb=(30, 40, 190))
  assert TRACKER.locate(blue) is None
  assert dataclasses.replace(TRACKER, rgb=(0.1, 0.1, 0.8)).locate(blue).is_whole
  with pytest.raises(ValueError, match=r"rgb=\(0.5, 0.5, 0.5\) is nearly grey"):
    tracking.Tracker(VIEW, 0.2, rgb=(0.5, 0.5, 0.5))


def test_what_is_too_large_for_a_ball_is_none():
  """A red sleeve, say: beside the ball, and alone."""
  place = np.array([0.45, 0.0, 0.2])
  picture, center = painted(place)
  picture[2:12, 2:14] = (180, 30, 25)
  np.testing.assert_allclose(TRACKER.locate(picture).place_m, place, atol=0.006)
  np.testing.assert_allclose(tracking.find(picture, TRACKER.rgb, radius_at).center, center, atol=0.15)
  tracked = tracking.Tracked(TRACKER)
  best = tracked.place(picture, 0.0)
  picture = np.full_like(picture, 90)
  picture[10:40, 10:50] = (180, 30, 25)
  assert TRACKER.locate(picture) is None
  np.testing.assert_array_equal(tracked.place(picture, 1.0), best)
  with pytest.raises(protocol.BridgeError, match="the target has not been seen for"):
    tracked.place(picture, 2.0)


def test_the_last_place_holds_for_a_while_and_what_is_seen_whole_counts_more():
  place, tracked = np.array([0.45, 0.0, 0.2]), tracking.Tracked(TRACKER)
  whole, center = painted(place)
  in_part, _ = painted(place, hidden=slice(int(center[0]), None))
  nothing = np.full_like(whole, 90)
  with pytest.raises(protocol.BridgeError, match="the target has not been seen yet"):
    tracked.place(nothing, 0.0)
  best = tracked.place(whole, 1.0)
  np.testing.assert_array_equal(tracked.place(in_part, 2.0), best)
  np.testing.assert_array_equal(tracked.place(nothing, 3.0), best)
  with pytest.raises(protocol.BridgeError, match=r"the target has not been seen for 1.1 s; move what hides it"):
    tracked.place(nothing, 3.1)
  moved, _ = painted(np.array([0.55, 0.1, 0.2]), hidden=None)
  assert np.linalg.norm(tracked.place(moved, 4.0) - best) > 0.1


def test_on_the_twin_with_the_whole_gap():
  """200 starts with the arm in the way of some targets, with the twin's own camera pose and noise."""
  config, task = twin.TwinConfig(), tasks.TASKS["reach/random"]
  starts = jax.vmap(lambda key: tasks.draw_start(task, key))(jax.random.split(jax.random.key(0), 200))
  tracker = tracking.Tracker(config.viewpoint, 0.2)
  driver, camera, errors_m, num_in_part = twin.Twin(config), config.make_camera(), [], 0
  for qpos, place in zip(np.asarray(starts.qpos), np.asarray(starts.target.position), strict=True):
    driver.reset(qpos, seed=0)
    driver.place_target(place)
    sight = tracker.locate(camera.image(driver.read()))
    if sight:
      errors_m.append(np.linalg.norm(sight.place_m - place))
      num_in_part += not sight.is_whole
  camera.close()
  assert len(errors_m) > 180 and num_in_part > 5
  assert np.mean(errors_m) < 0.006 and np.percentile(errors_m, 95) < 0.02
