"""The gap between simulation and twin, in parts: nothing, one difference, all of them."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from environments.arm import gap, twin
from environments.jaco import camera, constants, kinematics

POSE = constants.HOME_RAD + [0.2, -0.2, 0.1, 0.3, 0.0, 0.2, 0.1, 0.0, -0.1]
TARGET = np.array([0.5, -0.15, constants.TARGET_HEIGHT_M])
SEEN, FELT = {"camera", "color", "light", "shadow"}, {"latency", "mass", "friction", "servo"}  # And noise.


def picture(config):
  return twin.picture(config, POSE, TARGET, size=constants.IMAGE_SIZE).astype(int)


def motion(config):
  """Joint angles while every joint moves one way and back, without noise, `[8, 9]`."""
  driver = twin.Twin(dataclasses.replace(config, qpos_noise_rad=0.0))
  path = []
  for period in range(8):
    driver.command(constants.COMMAND_RAD_S * (1 if period < 4 else -1))
    driver.wait(driver.now_s() + constants.CONTROL_DT_S)
    path.append(driver.read().qpos_rad)
  return np.array(path)


@functools.cache
def without():
  config = gap.make_twin("none")
  return config, picture(config), motion(config)


def test_the_full_gap_equals_the_twin():
  assert gap.make_twin() == gap.make_twin("full") == twin.TwinConfig()


def test_every_number_of_the_twin_belongs_to_one_difference():
  fields = [field for of in gap.DIFFERENCES.values() for field in of]
  others = {"is_real_time", "physics_dt_s"}
  assert sorted([*fields, *others]) == sorted(field.name for field in dataclasses.fields(twin.TwinConfig))


def test_without_it_the_picture_is_the_simulations():
  """Except for planks and the edges of other shapes."""
  view = camera.view(camera.nominal())
  draw = jax.jit(lambda qpos, target: camera.render(view, kinematics.forward(qpos), target)[0])
  simulated = np.asarray(draw(POSE.astype(np.float32), TARGET.astype(np.float32))).astype(int)
  none, full = without()[1], picture(twin.TwinConfig())
  share_alike = [(np.abs(pixels - simulated).max(axis=-1) < 20).mean() for pixels in (none, full)]
  assert share_alike[0] > 0.9 and share_alike[1] < 0.3
  shadows = [np.all((pixels > 45) & (pixels < 110), axis=-1)[30:] for pixels in (none, simulated)]
  assert shadows[1].sum() > 30 and (shadows[0] & shadows[1]).sum() > 0.6 * shadows[1].sum()


@pytest.mark.parametrize("difference", gap.DIFFERENCES)
def test_one_difference_changes_what_it_names_and_nothing_else(difference):
  config, (none, none_seen, none_felt) = gap.make_twin(f"{difference}:full"), without()
  own = set(gap.DIFFERENCES[difference])
  full = twin.TwinConfig()
  for field in dataclasses.fields(twin.TwinConfig):
    assert getattr(config, field.name) == getattr(full if field.name in own else none, field.name), field.name
  assert (np.abs(picture(config) - none_seen).max() > 20) == (difference in SEEN)
  assert (np.abs(motion(config) - none_felt).max() > 1e-4) == (difference in FELT)
  assert (config.make_camera()._grains.any() and config.qpos_noise_rad > 0) == (difference == "noise")


def test_a_level_is_a_share_of_the_way():
  significant, subtle = gap.make_twin("significant"), gap.make_twin("subtle")
  assert significant.action_latency_s == pytest.approx(0.02) and subtle.action_latency_s == pytest.approx(0.01)
  assert significant.camera_shift_m == pytest.approx((0.01, -0.0125, 0.01))
  assert significant.mass_scale == pytest.approx(1.075) and significant.gravity_compensation == pytest.approx(0.95)
  assert subtle.target_rgb == pytest.approx((0.8875, 0.0925, 0.07)) and subtle.shadow == pytest.approx(0.75)


def test_levels_of_single_differences_and_exceptions():
  some = gap.make_twin("camera:full,light:subtle", mass_scale=2.0)
  assert some.camera_fov_shift_deg == 1.0 and some.specular == pytest.approx(0.05) and some.mass_scale == 2.0
  but_light = {field: getattr(twin.TwinConfig, field) for field in gap.DIFFERENCES["light"]}
  assert dataclasses.replace(gap.make_twin("full,light:none"), **but_light) == twin.TwinConfig()


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ("signifcant", "gap=signifcant: no level is called 'signifcant'; the nearest is 'significant', all are none"),
    ("camera:ful", "no level is called 'ful'; the nearest is 'full'"),
    ("colour:full", "no difference is called 'colour'; the nearest is 'color', all are camera, color, light"),
    (":full", "no difference is called ''"),
    ("full,", "no level is called ''"),
  ],
)
def test_an_unknown_level_or_difference_is_refused_by_name(wrong, message):
  with pytest.raises(ValueError, match=message) as mistake:
    gap.make_twin(wrong)
  assert "\n" not in str(mistake.value)
