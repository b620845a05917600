"""Identification: rollouts equal what the twin does, and what cannot be known is refused.

The binary's test (tests/experiments/arm_test.py) shows that it finds a hidden twin.
"""

import itertools
import shutil

import numpy as np
import pytest
from scipy import stats

from environments.arm import by_hand, identify, recording, twin
from environments.jaco import constants
from tests.environments import arm_recordings

EXACT = {"qpos_noise_rad": 0.0, "qvel_noise_rad_s": 0.0}


def episodes(folder, config, velocities):
  return identify.episodes(arm_recordings.write(folder, arm_recordings.driven(config, velocities)))


@pytest.mark.parametrize("latency_s", [0.0, 0.04])
def test_rollouts_are_what_the_twin_does(tmp_path, latency_s):
  config = twin.TwinConfig(action_latency_s=latency_s, servo_speed_scale=0.8, **EXACT)
  ways = np.repeat(np.random.default_rng(0).integers(-1, 2, (4, 4, constants.NUM_JOINTS)), 3, axis=1)
  found = episodes(tmp_path, config, constants.COMMAND_RAD_S * ways)
  for path, episode in zip(identify.roll_out(config, found), found, strict=True):
    assert np.ptp(episode.qpos_rad, axis=0).max() > 0.1
    np.testing.assert_allclose(path, episode.qpos_rad, atol=5e-5)  # Joints at rest creep this far in 40 ms.
  assert identify.error_rad(config, found) < 5e-5 < 0.01 < identify.error_rad(twin.TwinConfig(), found)


def test_sessions_of_one_folder_are_kept_apart(tmp_path):
  """The twin is not on the wall clock, so the recordings of two sessions overlap in time."""
  rng, alone = np.random.default_rng(0), []
  for number in range(2):
    velocities = constants.COMMAND_RAD_S * rng.integers(-1, 2, (4, 12, constants.NUM_JOINTS))
    alone += episodes(tmp_path / f"{number}", twin.TwinConfig(), velocities)
    (file,) = recording.files(tmp_path / f"{number}")
    shutil.copy(file, tmp_path)
  for got, expected in zip(identify.episodes(tmp_path), alone, strict=True):
    for value, known in zip(got, expected, strict=True):
      np.testing.assert_array_equal(value, known)


def test_too_little_or_rest_alone_says_nothing(tmp_path):
  with pytest.raises(ValueError, match="has 0 episodes of 1 s or more; identification needs 4"):
    identify.episodes(arm_recordings.write(tmp_path / "short", arm_recordings.items()))
  with pytest.raises(ValueError, match="the arm was never told to move, so nothing is identifiable"):
    episodes(tmp_path / "rest", twin.TwinConfig(), np.zeros((4, 10, constants.NUM_JOINTS)))


def test_one_way_motion_of_one_joint_is_not_identifiable(tmp_path):
  velocities = np.zeros((4, 10, constants.NUM_JOINTS))
  velocities[..., 0] = 0.3
  found = episodes(tmp_path, twin.TwinConfig(), velocities)
  with pytest.raises(ValueError, match=r"does not say what .*servo_gain_scale.* is; move every joint"):
    identify.fit(twin.TwinConfig(), found)


def test_mass_is_found_where_motion_to_and_fro_says_it():
  """Less noise stands in for a longer recording."""
  hidden = twin.TwinConfig(mass_scale=1.35, qpos_noise_rad=2e-4, qvel_noise_rad_s=0.0, physics_dt_s=0.01)
  actions = itertools.islice(by_hand.random_actions(np.random.default_rng(0), constants.NUM_JOINTS), 6 * 40)
  ways = np.reshape(list(actions), (6, 40, constants.NUM_JOINTS)) - 1
  found = arm_recordings.motion(arm_recordings.driven(hidden, constants.COMMAND_RAD_S * ways))
  estimates = identify.fit(identify.with_fields(hidden, dict.fromkeys(identify.FIELDS, 1.0)), found)
  assert estimates.keys() == identify.FIELDS.keys()
  for name, (value, low, high) in estimates.items():
    assert value == pytest.approx(getattr(hidden, name), rel=0.05) and low < value < high


def test_a_stiff_servo_is_found_from_a_soft_one():
  """From the soft servo alone the search ends at 1.8 or so, with a narrow interval but a larger sum of squares."""
  hidden = twin.TwinConfig(servo_gain_scale=15.0, qpos_noise_rad=5e-4)
  ways = np.repeat(np.random.default_rng(1).integers(-1, 2, (4, 10, constants.NUM_JOINTS)), 3, axis=1)
  found = arm_recordings.motion(arm_recordings.driven(hidden, constants.COMMAND_RAD_S * ways))
  estimates = identify.fit(identify.with_fields(hidden, {"servo_gain_scale": 0.5}), found)
  value, low, high = estimates["servo_gain_scale"]
  assert value > 7 and low < hidden.servo_gain_scale < high
  assert estimates["friction_scale"].value == pytest.approx(hidden.friction_scale, rel=0.05)  # It was 9 % off.


def test_no_interval_is_narrower_than_that_of_independent_readings():
  """For episodes that agree by chance: the textbook's interval for the mean of six numbers, with three episodes' t."""
  readings = np.array([1.0, -1.0, 2.0, -2.0, 0.5, -0.5])
  (half,) = identify.half_widths(readings, np.ones((6, 1)), [2, 2, 2])
  assert half == pytest.approx(stats.t.ppf(0.975, 2) * readings.std(ddof=1) / np.sqrt(6))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ('{"servo_gain": 1}', "'servo_gain' is unknown; the nearest is 'servo_gain_scale', all are servo_speed_scale, "),
    ('{"servo_gain_scale": "1"}', "servo_gain_scale='1' is no number"),
    ('{"friction_scale": Infinity}', "friction_scale=inf is no number"),
    ('{"friction_scale": 1%s}' % ("0" * 400), "friction_scale=10*... is no number"),
    ('{"camera_shift_m": 0.1}', "camera_shift_m=0.1 is no list of three numbers"),
    ('{"camera_shift_m": [0, "a", 0]}', "camera_shift_m=.* is no list of three numbers"),
    ('{"camera_fov_shift_deg": [1]}', r"camera_fov_shift_deg=.1. is no number"),
    ("[1.0]", r"'\[1.0\]' is unknown"),
    ("{", "is no JSON"),
  ],
)
def test_a_file_that_is_none_of_a_twin_is_refused(tmp_path, text, message):
  file = tmp_path / "twin.json"
  file.write_text(text)
  with pytest.raises(ValueError, match=message) as mistake:
    identify.read(file)
  assert str(file) in str(mistake.value) and "\n" not in str(mistake.value)
