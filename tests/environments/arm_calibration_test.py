"""Calibration finds a hidden twin's camera from its pictures, and refuses what cannot be known."""

import jax
import numpy as np
import pytest

from environments.arm import calibration, gap, identify, twin
from environments.jaco import constants, tasks
from tests.environments import arm_recordings

HIDDEN = twin.TwinConfig(shadow=0.5, camera_shift_m=(-0.03, 0.01, 0.02), camera_rotation_deg=(1.2, -0.8, -1.5))
START = gap.make_twin("full,camera:none")


def recorded(folder, num_episodes, num_steps):
  """Records episodes of the hidden twin at rest, from the starts of `reach/random`."""
  task = tasks.TASKS["reach/random"]
  starts = jax.vmap(lambda key: tasks.draw_start(task, key))(jax.random.split(jax.random.key(1), num_episodes))
  qpos, targets = np.asarray(starts.qpos, np.float64), np.asarray(starts.target.position, np.float64)
  rest = np.zeros((num_episodes, num_steps, qpos.shape[1]))
  every = arm_recordings.driven(HIDDEN, rest, starts_rad=qpos, targets_m=targets)
  return arm_recordings.write(folder, every)


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
  return calibration.shots(recorded(tmp_path_factory.mktemp("recording"), 24, 1))


@pytest.fixture(scope="module")
def known_angle(shots):
  """The estimates with the lens's true angle of view."""
  return calibration.fit(START, shots[::2], fov_y_deg=45.0)


def test_a_hidden_camera_is_found(shots):
  assert len(shots) == 48
  estimates = calibration.fit(START, shots)
  assert estimates.keys() == identify.CAMERA.keys()
  view, true = calibration.view(estimates), HIDDEN.viewpoint
  assert np.linalg.norm(np.subtract(view.camera_shift_m, true.camera_shift_m)) < 0.025  # Of 3.7 cm: few pictures.
  np.testing.assert_allclose(view.camera_rotation_deg, true.camera_rotation_deg, atol=0.4)
  (before, _), (after, count), (best, _) = (
    calibration.reprojection_px(one, shots, HIDDEN.target_rgb) for one in (START.viewpoint, view, true)
  )
  assert count > 36 and before > 3.0 and after < best + 0.1


def test_a_known_angle_of_view_is_believed_and_the_distance_follows_from_it(shots, known_angle):
  """A view one degree wider puts the camera nearer by a fortieth: 1 / sin(44 degrees) times a degree in radians."""
  wrong, true = (calibration.view(one) for one in (calibration.fit(START, shots[::2], fov_y_deg=44.0), known_angle))
  assert (wrong.camera_fov_shift_deg, true.camera_fov_shift_deg) == (0.0, HIDDEN.camera_fov_shift_deg)
  assert np.linalg.norm(np.subtract(true.camera_shift_m, HIDDEN.camera_shift_m)) < 0.01
  far_m, near_m = (np.linalg.norm(view.position_m - constants.CAMERA_LOOK_AT_M) for view in (wrong, true))
  assert (far_m - near_m) / far_m == pytest.approx(0.025, rel=0.3)


def test_a_search_that_has_gone_astray_says_so(shots, monkeypatch):
  """The hidden camera is 3.7 cm from where the search begins."""
  monkeypatch.setattr(calibration, "_FARTHEST", np.full(7, 0.005))
  with pytest.raises(ValueError, match="do not say where the camera is; .* and say the lens's angle of view"):
    calibration.fit(START, shots[::4])


def test_duplicated_pictures_do_not_narrow_intervals(shots):
  """If the jackknife left out single pictures instead of episodes, its part would be narrower by a third."""
  some = shots[::4]
  assert len({shot.episode for shot in some}) == 12
  once, twice = (calibration.fit(START, found) for found in (some, [shot for shot in some for _ in range(2)]))
  beside = {"camera_shift_m": 0.003, "camera_rotation_deg": 0.15, "camera_fov_shift_deg": 0.0}
  ratios = []
  for name, numbers in once.items():
    wide, also = (np.array([high - low for _, low, high in of]) - 2 * beside[name] for of in (numbers, twice[name]))
    ratios.extend(also / wide)
  assert np.mean(ratios) == pytest.approx(1.0, abs=0.15)  # The two searches end near each other.


def test_intervals_include_the_systematic_error(known_angle):
  """Intervals include what no number of pictures shows: 3 mm and 0.15 degrees (docs/results/arm.md)."""
  for name, least, most in (("camera_shift_m", 0.003, 0.02), ("camera_rotation_deg", 0.15, 1.0)):
    assert all(least < (high - low) / 2 < most for _, low, high in known_angle[name])


def test_pictures_of_too_few_episodes_say_nothing_of_how_sure_they_are(shots):
  some = [shot._replace(episode=shot.episode % 3) for shot in sorted(shots, key=lambda shot: shot.episode % 3)]
  with pytest.raises(ValueError, match="the pictures are of 3 episodes; .* shows in 4: drive some more"):
    calibration.fit(START, some)


def test_too_few_pictures_say_nothing(tmp_path):
  with pytest.raises(ValueError, match="there are 8 pictures of the arm; finding its camera needs 12: drive it longer"):
    calibration.fit(START, calibration.shots(recorded(tmp_path, 4, 1)))


def test_of_each_part_of_an_episode_the_slowest_picture_counts(tmp_path, monkeypatch):
  monkeypatch.setattr(calibration, "_MOST", 4)
  shots = calibration.shots(recorded(tmp_path, 2, 5))
  assert len(shots) == 4
  assert len({tuple(shot.target_in_base_m.round(1)) for shot in shots}) == 2
