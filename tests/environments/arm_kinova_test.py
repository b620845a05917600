"""Kinova's driver on a fake SDK, compiled here, that behaves as kinova-ros's README says. No real arm was used."""

import ctypes
import dataclasses
import mmap
import os
import pathlib
import shutil
import subprocess
import time

import imageio_ffmpeg
import numpy as np
import pytest

from environments.arm import driver, kinova, protocol, safety, webcam, world
from environments.jaco import constants, tasks
from tests.environments import arm_rig

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the fake SDK needs a C compiler")
SOURCE = pathlib.Path(__file__).parent / "fake_kinova.c"
TURN = np.array([0.3, 0, 0, 0, 0, -0.4, 0.15, 0, 0])
UNITS = 6800 / np.deg2rad(80)


class State(ctypes.Structure):
  """The fake's state, which a test reads and spoils."""

  _fields_ = [("position", ctypes.c_double * 10)] + [
    (name, ctypes.c_int)
    for name in "num_queued most_queued num_sent num_erased error num_errors is_open has_control hand_mode".split()
  ]

  def qpos_rad(self):
    return np.concatenate([np.deg2rad(self.position[:6]), np.array(self.position[7:]) / UNITS])


@pytest.fixture(scope="module")
def library(tmp_path_factory):
  path = tmp_path_factory.mktemp("sdk") / "Kinova.API.USBCommandLayerUbuntu.so"
  subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
  return str(path)


@pytest.fixture
def state(tmp_path, monkeypatch):
  path = tmp_path / "state"
  path.write_bytes(bytes(ctypes.sizeof(State)))
  monkeypatch.setenv("FAKE_KINOVA", str(path))
  with open(path, "r+b") as file:
    state = State.from_buffer(mmap.mmap(file.fileno(), 0))
  state.position[:6] = np.rad2deg(constants.HOME_RAD[:6])
  state.position[7:] = constants.HOME_RAD[6:] * UNITS
  return state


@pytest.fixture
def config(library, tmp_path):
  return kinova.KinovaConfig(library=library, serial="PJ001")


@pytest.fixture
def gate(state, config):
  yield from arm_rig.connected(config)


def test_it_moves_at_the_commanded_speed_and_stops(gate, state):
  np.testing.assert_allclose(gate.read().qpos_rad, constants.HOME_RAD, atol=1e-5)
  gate.command(TURN, expires_s=time.monotonic() + 60.0)
  time.sleep(0.5)
  before, before_s = gate.read(), time.monotonic()
  time.sleep(1.0)
  after = gate.read()
  speed = (after.qpos_rad - before.qpos_rad) / (after.time_s - before.time_s)
  np.testing.assert_allclose(speed, TURN, atol=0.04)  # At 50 Hz the speed would be half.
  np.testing.assert_allclose(after.qvel_rad_s, TURN, atol=0.15)
  assert time.monotonic() - before_s < 5.0 and state.hand_mode == 2
  assert state.most_queued < 20  # The queue holds nothing to go on with.
  gate.stop()
  assert state.num_queued <= 1
  still = state.qpos_rad()
  time.sleep(0.2)
  np.testing.assert_allclose(state.qpos_rad(), still, atol=0.3 * 0.02)


def test_it_goes_home_when_nobody_has_it(gate, state):
  """It goes by velocities through the gate, as to a start. The SDK's own way home is not used."""
  arm = world.ArmWorld(gate, None, tasks.TASKS["reach/fixed"], num_joints=6)
  arm.step(None)
  for _ in range(8):
    arm.step(np.array([2, 1, 1, 1, 1, 0], np.int32))
  arm.restart()
  time.sleep(0.3)
  away = state.qpos_rad()
  assert np.abs(away - constants.HOME_RAD)[:6].max() > 0.1
  said, held_until_s = [], time.monotonic() + 0.9
  for words in arm.go_home(after_s=1.0, is_wanted=lambda: True):
    said += [words] if words else []
    if time.monotonic() < held_until_s:
      np.testing.assert_allclose(state.qpos_rad(), away, atol=0.003)
  assert said == ["the arm goes home", "the arm is home"]
  time.sleep(0.3)
  there = state.qpos_rad()
  np.testing.assert_allclose(there[:6], constants.HOME_RAD[:6], atol=0.03)
  assert state.most_queued < 20  # The queue holds nothing to go on with.
  time.sleep(0.3)
  np.testing.assert_array_equal(state.qpos_rad(), there)


def test_too_few_points_make_it_slow_and_too_many_go_on(state, config):
  """The fake itself, without the process that keeps the rate."""
  arm = kinova.Kinova(config)
  for period_s, num_points in ((0.02, 25), (0.0025, 200)):  # 0.5 s each.
    arm.stop()
    start, due_s = state.position[0], time.monotonic()
    for _ in range(num_points):
      arm.command(TURN)
      due_s += period_s
      time.sleep(max(0.0, due_s - time.monotonic()))
    arm.read()
    moved, asked = np.deg2rad(state.position[0] - start), 0.3 * 0.5
    if period_s > 0.01:
      assert 0.4 * asked < moved < 0.6 * asked
    else:
      assert moved < 1.2 * asked and state.num_queued > 100
  arm.stop()
  assert state.num_queued == 0
  arm.close()


def test_a_cable_that_comes_out_is_told(gate, state):
  gate.command(TURN, expires_s=time.monotonic() + 60.0)
  time.sleep(0.2)
  state.error = 1015
  time.sleep(0.3)
  with pytest.raises(
    safety.ArmLostError, match="takes no stop .*error 1015, no device found.; press its emergency stop"
  ):
    gate.read()
  assert state.num_queued < 20


def test_an_error_of_the_arm_is_latched(gate, state):
  gate.command(TURN, expires_s=time.monotonic() + 60.0)
  time.sleep(0.2)
  state.num_errors = 2
  time.sleep(0.3)
  with pytest.raises(safety.ArmFaultError, match="the arm logged 2 errors"):
    gate.command(TURN, expires_s=time.monotonic() + 60.0)
  assert state.num_queued == 0


def test_closing_gives_back_control(state, config):
  gate = driver.connect(config)
  assert state.has_control and state.is_open
  gate.close()
  assert not state.has_control and not state.is_open and state.num_erased >= 2


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"library": "/nowhere/kinova.so"}, "Kinova's library cannot be loaded .*; install the SDK, or correct the path"),
    ({"serial": "PJ999"}, "there is no Kinova arm PJ999; found: PJ001"),
  ],
)
def test_what_a_person_must_put_right_is_one_line(state, config, change, message):
  with pytest.raises(protocol.BridgeError, match=message) as failure:
    driver.connect(dataclasses.replace(config, **change))
  assert "\n" not in str(failure.value)


def test_an_arm_has_one_owner_whether_or_not_its_number_is_said(gate, config):
  with pytest.raises(protocol.BridgeError, match="the arm kinova is held by another server on this machine; end that"):
    driver.connect(dataclasses.replace(config, serial=""))


def test_a_camera_shows_its_newest_frame(tmp_path):
  path = tmp_path / "film.mkv"
  source = ["-f", "lavfi", "-i", "color=c=red:size=96x64:rate=30:duration=2"]
  subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *source, str(path)], check=True)
  camera = webcam.Webcam(str(path), 64)
  picture = camera.image(None)
  assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
  np.testing.assert_allclose(picture.reshape(-1, 3).mean(0), [254, 0, 0], atol=8)
  time.sleep(3.0)  # The film is over.
  with pytest.raises(protocol.BridgeError, match="has shown nothing new for"):
    camera.image(None)
  camera.close()
  with pytest.raises(protocol.BridgeError, match="nowhere shows nothing; connect it or name another one"):
    webcam.Webcam(os.fspath(tmp_path / "nowhere"), 64)
