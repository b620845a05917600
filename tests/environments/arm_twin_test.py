"""The twin: a different arm from the simulation's, with the same joints. Its configuration has every difference."""

import contextlib
import dataclasses
import os
import pathlib
import time

import mujoco
import numpy as np
import pytest

from environments.arm import safety, twin
from environments.jaco import constants, kinematics

EXACT = twin.TwinConfig(
  action_latency_s=0.0, qpos_noise_rad=0.0, qvel_noise_rad_s=0.0, target_noise_m=0.0, pixel_noise=0.0
)
FORWARD = np.array([0.3, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
TARGET = np.array([0.45, 0.1, 0.04])


def positions(config, num_periods=6, velocity=FORWARD):
  """Joint angles after each of `num_periods` control periods under one command, `[num_periods, 9]`."""
  driver = twin.Twin(config)
  driver.command(velocity)
  path = []
  for period in range(1, num_periods + 1):
    driver.wait(period * constants.CONTROL_DT_S)
    path.append(driver.read().qpos_rad)
  return np.array(path)


class Watched(twin.Twin):
  """A twin that shows every physics step."""

  def __init__(self, config):
    self.speeds, self.angles, self.has_touched = [], [], False
    super().__init__(config)

  def _advance(self, until_s):
    for time_s in np.arange(self._data.time, until_s, self._config.physics_dt_s)[1:]:
      super()._advance(time_s)
      self._look()
    super()._advance(until_s)
    self._look()

  def _look(self):
    self.has_touched |= self._data.ncon > 0
    self.speeds.append(self._data.qvel.copy())
    self.angles.append(self._data.qpos.copy())


def test_no_hostile_command_takes_it_out_of_its_limits():
  driver, rng = Watched(EXACT), np.random.default_rng(0)
  gate = safety.Gate(driver, EXACT.limits())
  for _ in range(2000):
    velocity = [rng.uniform(-3, 3, 9), rng.choice([-1e30, 1e30, 0.6, -0.6], 9), np.full(9, np.nan)][rng.integers(3)]
    with contextlib.suppress(safety.CommandRefusedError):
      gate.command(velocity, expires_s=driver.now_s() + rng.choice([0.0, 0.05, 0.5]))
    gate.wait(driver.now_s() + rng.choice([0.005, 0.02, 0.1]))
  assert len(driver.angles) > 10_000 and not driver.has_touched
  share = np.max(np.abs(driver.speeds), axis=0) / constants.MAX_VELOCITY_RAD_S
  assert np.all((share > 0.5) & (share <= 1.0))  # It did not rest.
  acceleration = np.abs(np.diff(driver.speeds, axis=0)) / EXACT.physics_dt_s
  assert np.max(acceleration) < 10.0  # 8 are commanded; the fingers would follow 18.
  assert np.all((driver.angles >= constants.JOINT_LOW_RAD) & (driver.angles <= constants.JOINT_HIGH_RAD))
  assert np.min(driver.angles, axis=0)[6:].min() < constants.JOINT_LOW_RAD[6] + 0.05  # One finger came to its limit.


@pytest.mark.parametrize(("joint", "speed"), [(1, 0.6), (2, -0.6)], ids=["onto the table", "into itself"])
def test_it_brakes_before_it_touches(joint, speed):
  """How near it comes, and that without the clearance check it runs into something."""
  gaps_m = []
  for limits in (EXACT.limits(), dataclasses.replace(EXACT.limits(), clearance_m=None)):
    driver = Watched(EXACT)
    gate = safety.Gate(driver, limits)
    gate.command(speed * np.eye(9)[joint], expires_s=np.inf)
    gate.wait(4.0)
    gaps_m.append(EXACT.limits().clearance_m(driver.read().qpos_rad))
    is_free = limits.clearance_m is not None
    assert driver.has_touched != is_free
  assert 0.0 < gaps_m[0] < 0.03


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_its_links_stand_where_the_simulation_has_them(seed):
  model = twin.build_model(twin.TwinConfig())
  data = mujoco.MjData(model)
  low, high = np.nan_to_num(constants.JOINT_LOW_RAD, neginf=-3), np.nan_to_num(constants.JOINT_HIGH_RAD, posinf=3)
  data.qpos[:] = np.random.default_rng(seed).uniform(low, high)
  mujoco.mj_kinematics(model, data)
  poses = kinematics.forward(data.qpos.astype(np.float32))
  bodies = ["b_base", *(f"b_{k}" for k in range(1, 7)), *(f"hand/b_finger_{k}" for k in (1, 2, 3))]
  expected = np.array([data.body(name).xpos for name in bodies])
  np.testing.assert_allclose(poses.position, expected, atol=1e-4)
  np.testing.assert_allclose(kinematics.palm(poses), data.site("hand/gripsite").xpos, atol=1e-4)


def test_it_follows_a_command_at_the_servos_speed():
  path = positions(dataclasses.replace(EXACT, servo_speed_scale=0.5), num_periods=10)
  travelled = path[-1] - path[0]  # 0.9 s at half of 0.3 rad/s.
  np.testing.assert_allclose(travelled[[0, 3]], 0.9 * 0.15, atol=0.02)
  assert np.abs(travelled[[1, 2, 4, 5]]).max() < 0.05  # The others stay, against uncompensated weight.


def test_latency_delays_the_motion_by_just_its_length():
  prompt = positions(EXACT)
  late = positions(dataclasses.replace(EXACT, action_latency_s=2 * constants.CONTROL_DT_S))
  np.testing.assert_allclose(late[:2, 0], constants.HOME_RAD[0], atol=1e-4)  # Nothing in the first two periods,
  assert prompt[1, 0] - constants.HOME_RAD[0] > 0.02
  np.testing.assert_allclose(late[2:, 0], prompt[:-2, 0], atol=2e-3)  # then the same motion.


def test_every_body_parameter_changes_the_motion():
  nominal = positions(EXACT)
  for field, value in dict(
    mass_scale=3.0, friction_scale=8.0, servo_gain_scale=0.1, servo_speed_scale=0.8, gravity_compensation=0.0,
    damping_scale=500.0,
  ).items():  # fmt: skip
    changed = positions(dataclasses.replace(EXACT, **{field: value}))
    assert np.abs(changed - nominal).max() > 1e-4, field


def test_noise_has_the_configured_size_and_is_fresh_in_every_reading():
  config = dataclasses.replace(EXACT, qpos_noise_rad=0.01, qvel_noise_rad_s=0.02, target_noise_m=0.03, pixel_noise=4.0)
  noisy, exact = twin.Twin(config), twin.Twin(EXACT)
  truth = exact.read()
  readings = [noisy.read() for _ in range(400)]
  for field, size in (("qpos_rad", 0.01), ("qvel_rad_s", 0.02), ("target_in_base_m", 0.03)):
    errors = np.array([getattr(reading, field) for reading in readings]) - getattr(truth, field)
    assert errors.std() == pytest.approx(size, rel=0.1)
    assert abs(errors.mean()) < 0.1 * size
  exact_image = EXACT.make_camera().image(truth)
  difference = config.make_camera().image(readings[0]).astype(int) - exact_image
  middle = (exact_image > 20) & (exact_image < 235)  # Where no value is clipped.
  assert difference[middle].std() == pytest.approx(4.0, rel=0.1)


def test_the_same_seed_gives_the_same_noise():
  driver, camera = twin.Twin(twin.TwinConfig()), twin.TwinConfig().make_camera()
  seen = []
  for seed in (3, 4, 3):
    driver.reset(constants.HOME_RAD, seed=seed)
    reading = driver.read()
    seen.append((reading.qpos_rad, camera.image(reading)))
  np.testing.assert_array_equal(seen[0][0], seen[2][0])
  np.testing.assert_array_equal(seen[0][1], seen[2][1])
  assert not np.array_equal(seen[0][0], seen[1][0]) and not np.array_equal(seen[0][1], seen[1][1])


def test_a_stop_comes_to_rest():
  driver = twin.Twin(EXACT)
  driver.command(FORWARD)
  driver.wait(0.5)
  assert driver.read().qvel_rad_s[0] > 0.2
  driver.stop()
  driver.wait(0.7)
  assert np.abs(driver.read().qvel_rad_s).max() < 0.01


def test_the_picture_shows_the_target_where_the_camera_geometry_has_it():
  """The red pixels' centre against the pinhole equation, worked out here from the configured camera."""
  config = dataclasses.replace(EXACT, camera_shift_m=(0, 0, 0), camera_rotation_deg=(0, 0, 0), camera_fov_shift_deg=0)
  size = 256
  pixels = twin.picture(config, constants.HOME_RAD, TARGET, size=size).astype(int)
  rows, columns = np.nonzero((pixels[..., 0] > 80) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60))
  back = constants.CAMERA_POSITION_M - constants.CAMERA_LOOK_AT_M
  back /= np.linalg.norm(back)
  right = np.cross([0, 0, 1], back) / np.linalg.norm(np.cross([0, 0, 1], back))
  way = TARGET - constants.CAMERA_POSITION_M
  focal = size / 2 / np.tan(np.deg2rad(constants.CAMERA_FOV_Y_DEG) / 2)
  depth = -way @ back
  expected = [size / 2 - focal * (way @ np.cross(back, right)) / depth, size / 2 + focal * (way @ right) / depth]
  np.testing.assert_allclose([rows.mean(), columns.mean()], expected, atol=2.0)


def test_fewer_triangles_make_the_same_picture():
  """The camera's coarse meshes against the arm's own: only single pixels of the arm's outline differ."""
  rng, camera = np.random.default_rng(0), EXACT.make_camera()
  blank = EXACT.make().read()
  for qpos in constants.HOME_RAD + rng.uniform(-0.7, 0.7, (10, constants.NUM_JOINTS)):
    seen = camera.image(blank._replace(scene=np.concatenate([qpos, TARGET, [0.0]]))).astype(int)
    whole = twin.picture(EXACT, qpos, TARGET, size=64)
    far_off = np.abs(seen - whole).max(axis=-1) > 30  # Grey levels.
    assert far_off.mean() < 0.003 and np.abs(seen - whole).mean() < 0.3
  assert not np.array_equal(seen, whole)
  camera.close()


def test_the_camera_has_been_moved_but_still_sees_the_scene():
  moved = twin.picture(EXACT, constants.HOME_RAD, TARGET, size=64).astype(int)
  config = dataclasses.replace(EXACT, camera_shift_m=(0, 0, 0), camera_rotation_deg=(0, 0, 0), camera_fov_shift_deg=0)
  aligned = twin.picture(config, constants.HOME_RAD, TARGET, size=64).astype(int)
  reds = [np.argwhere((p[..., 0] > 80) & (p[..., 1] < 60)).mean(axis=0) for p in (moved, aligned)]
  assert 1.0 < np.linalg.norm(reds[0] - reds[1]) < 12.0  # Pixels of 64.


def test_a_target_is_seen_where_it_is_put():
  driver, camera = twin.Twin(EXACT), EXACT.make_camera()
  driver.place_target(TARGET)
  before = camera.image(driver.read())
  np.testing.assert_array_equal(driver.read().target_in_base_m, TARGET)
  driver.reset(constants.HOME_RAD, seed=0)
  np.testing.assert_array_equal(driver.read().target_in_base_m, TARGET)
  driver.place_target(TARGET + [0.1, -0.1, 0.0])
  assert np.abs(camera.image(driver.read()).astype(int) - before).max() > 50


@pytest.mark.parametrize("height_m", [0.04, 0.2, 0.4])
def test_the_post_reaches_from_the_ball_down_to_the_table(height_m):
  driver, camera = twin.Twin(EXACT), EXACT.make_camera()
  driver.place_target(np.array([0.5, 0.1, height_m]))
  camera.image(driver.read())
  for model, data in ((driver._model, driver._data), (camera._model, camera._data)):  # What moves, and what is seen.
    mujoco.mj_kinematics(model, data)
    post, half_m = data.geom("post"), model.geom("post").size[1]
    np.testing.assert_allclose(np.abs(post.xmat[8]), 1.0)  # Upright.
    ends = [post.xpos[2] - half_m, post.xpos[2] + half_m]
    np.testing.assert_allclose([*post.xpos[:2], *ends], [0.5, 0.1, 0.0, height_m], atol=1e-9)


def test_real_time_is_wall_time():
  driver = twin.Twin(dataclasses.replace(EXACT, is_real_time=True))
  driver.reset(constants.HOME_RAD, seed=0)
  start_s = driver.now_s()
  driver.command(FORWARD)
  time.sleep(max(0.0, start_s + 0.3 - driver.now_s()))
  reading = driver.read()
  assert reading.time_s == pytest.approx(driver.now_s(), abs=0.1)
  assert reading.qpos_rad[0] - constants.HOME_RAD[0] == pytest.approx(0.3 * 0.3 * 0.95, abs=0.05)


def test_wrong_numbers_are_refused():
  with pytest.raises(ValueError, match="pixel_noise=-1"):
    twin.TwinConfig(pixel_noise=-1)
  with pytest.raises(ValueError, match="physics_dt_s=0"):
    twin.TwinConfig(physics_dt_s=0)
  for name, value, words in (
    ("shadow", 1.5, "must be from 0 to 1"),
    ("specular", -0.1, "must be from 0 to 1"),
    ("light_rgb", (0.5, 2.0, 0.5), "must be from 0 to 1"),
    ("gravity_compensation", np.nan, "must be finite"),
    ("camera_shift_m", (0.0, np.inf, 0.0), "must be finite"),
    ("light_position_m", (0.0, 0.0, 0.0), "must be above the table's foot"),
    ("camera_fov_shift_deg", 500.0, "makes an angle of view of 54. degrees"),
  ):
    with pytest.raises(ValueError, match=f"TwinConfig: {name}=.*{words}"):
      twin.TwinConfig(**{name: value})
  for name, value in (("mass_scale", 0.0), ("friction_scale", -1.0), ("action_latency_s", np.inf)):
    with pytest.raises(ValueError, match=f"{name}={value} must be"):
      twin.TwinConfig(**{name: value})
    with pytest.raises(ValueError, match=f"{name}=nan must be"):
      twin.TwinConfig(**{name: np.nan})


def test_the_gate_of_a_slow_arm_looks_ahead_as_far():
  """The arm moves into itself at full speed. With the fast arm's 80 ms it overlaps with itself by 2 cm."""
  config = dataclasses.replace(EXACT, action_latency_s=0.3)
  driver, rng = Watched(config), np.random.default_rng(0)
  gate, clearances_m = safety.Gate(driver, config.limits()), []
  for _ in range(6):
    driver.reset(constants.HOME_RAD.copy(), seed=0)
    velocity = np.array(constants.MAX_VELOCITY_RAD_S) * rng.choice([-1.0, 1.0], 9)
    for _ in range(60):
      gate.command(velocity, expires_s=driver.now_s() + 0.15)
      gate.wait(driver.now_s() + 0.1)
      clearances_m.append(gate.limits.clearance_m(driver.read().qpos_rad))
  assert 0.015 < min(clearances_m) < 0.03 and not driver.has_touched


@pytest.mark.skipif("LP_NUM_THREADS" in os.environ, reason="the number of threads is set from outside")
def test_the_camera_draws_on_the_callers_thread():
  twin.picture(twin.TwinConfig(), constants.HOME_RAD, TARGET, size=64)
  threads = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
  assert threads and not [name for name in threads if name.startswith("llvmpipe")]


def test_an_arm_that_diverges_is_a_fault_and_its_clock_goes_on(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # MuJoCo writes a log.
  arm = twin.Twin(twin.TwinConfig())
  gate = safety.Gate(arm, safety.jaco_limits())
  arm.wait(10.0)
  arm._data.qvel[:] = np.nan
  arm.wait(10.1)
  assert arm.now_s() == pytest.approx(10.1)
  with pytest.raises(safety.ArmFaultError, match="its joints read"):
    gate.read()
