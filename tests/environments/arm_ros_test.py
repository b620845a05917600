"""kinova-ros's driver on a graph of an imitated node and Debian's ROS master. No real arm was used."""

import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from environments.arm import driver, protocol, ros, safety
from environments.jaco import constants
from tests.environments import arm_rig, fake_kinova_ros

PACKAGES = ros.RosConfig().packages
IS_THERE = all((pathlib.Path(PACKAGES) / name).is_dir() for name in ("rospy", "rosmaster", "sensor_msgs"))
needs_ros = pytest.mark.skipif(
  not IS_THERE, reason="needs apt-get install python3-rospy python3-rosmaster python3-sensor-msgs"
)
TURN = np.array([0.3, 0, 0, 0, 0, -0.4, 0, 0, 0])


@pytest.fixture(scope="module")
def master():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  code = (
    f"import sys; sys.path.append({PACKAGES!r}); import rosmaster; rosmaster.rosmaster_main(['--core', '-p', '{port}'])"
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("ROS_MASTER_URI", f"http://127.0.0.1:{port}")
    patch.setenv("ROS_IP", "127.0.0.1")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    with socket.socket() as probe:
      while probe.connect_ex(("127.0.0.1", port)):
        assert process.poll() is None
        time.sleep(0.05)
    yield
    process.kill()
    process.wait()


@pytest.fixture
def node(master, tmp_path):
  """(process, state) of the imitation, near home."""
  path = tmp_path / "state"
  path.write_bytes(bytes(80))
  state = np.memmap(path, np.float64, "r+", shape=(10,))
  state[:6] = np.rad2deg(constants.HOME_RAD[:6])
  command = [sys.executable, fake_kinova_ros.__file__, str(path), PACKAGES]
  process = subprocess.Popen(command, stdout=subprocess.PIPE)
  assert process.stdout.readline() == b"ready\n"
  yield process, state
  process.kill()
  process.wait()


@pytest.fixture
def gate(node):
  for gate in arm_rig.connected(ros.RosConfig()):
    gate.reset(constants.HOME_RAD, seed=0)
    yield gate


def set_going(gate):
  gate.command(TURN, expires_s=time.monotonic() + 60.0)
  time.sleep(0.5)


@needs_ros
def test_it_moves_at_the_commanded_speed_and_stops(gate, node):
  _, state = node
  np.testing.assert_allclose(gate.read().qpos_rad[:6], constants.HOME_RAD[:6], atol=1e-6)
  set_going(gate)
  before = gate.read()
  time.sleep(1.0)
  after = gate.read()
  speed = (after.qpos_rad - before.qpos_rad) / (after.time_s - before.time_s)
  np.testing.assert_allclose(speed, TURN, atol=0.06)  # At 50 Hz the speed would be half.
  assert state[fake_kinova_ros.MOST] < 40  # The queue holds little to go on with.
  gate.stop()
  still = state[:6].copy()
  time.sleep(0.2)
  np.testing.assert_array_equal(state[:6], still)
  assert state[fake_kinova_ros.STOPPED] and not state[fake_kinova_ros.QUEUED]


@needs_ros
def test_a_stop_holds_until_the_next_start(gate, node):
  _, state = node
  gate.stop()
  set_going(gate)
  assert state[fake_kinova_ros.CAME] > 10 and state[fake_kinova_ros.STOPPED]
  np.testing.assert_allclose(state[:6], np.rad2deg(constants.HOME_RAD[:6]))
  gate.reset(constants.HOME_RAD, seed=0)
  set_going(gate)
  assert state[0] > np.rad2deg(constants.HOME_RAD[0]) + 1.0


@needs_ros
@pytest.mark.parametrize(
  ("kind", "words"),
  [(signal.SIGKILL, "takes no stop|no longer listens"), (signal.SIGSTOP, "hung in a call|newer than")],
)
def test_a_node_that_is_gone_is_a_fault(gate, node, kind, words):
  process, _ = node
  set_going(gate)
  process.send_signal(kind)
  time.sleep(1.0)
  with pytest.raises((safety.ArmFaultError, safety.ArmLostError), match=words) as fault:
    gate.command(TURN, expires_s=time.monotonic() + 60.0)
  assert "\n" not in str(fault.value)


@needs_ros
def test_fingers_are_refused(gate):
  gate.command(np.full(9, 0.1), expires_s=time.monotonic() + 60.0)
  time.sleep(0.3)
  with pytest.raises(safety.ArmFaultError, match="kinova-ros takes no velocities of fingers; serve --num_joints=6"):
    gate.read()


@needs_ros
def test_a_node_that_is_not_there_is_one_line(node):
  with pytest.raises(
    protocol.BridgeError, match="no node /j2n7s300_driver shows j2n7s300_joint_1, .*; start"
  ) as failure:
    driver.connect(ros.RosConfig("j2n7s300"))
  assert "\n" not in str(failure.value)


@needs_ros
def test_a_master_that_is_not_there_is_one_line(monkeypatch):
  monkeypatch.setenv("ROS_MASTER_URI", "http://127.0.0.1:9")
  with pytest.raises(protocol.BridgeError, match="no ROS master answers; start kinova_bringup, and set ROS_MASTER_URI"):
    driver.connect(ros.RosConfig())


def test_a_machine_without_ros_is_told_what_to_install(tmp_path):
  with pytest.raises(protocol.BridgeError, match="there is no ROS for Python in .*: apt-get install python3-rospy"):
    driver.connect(ros.RosConfig(packages=str(tmp_path)))


@pytest.mark.parametrize(("ahead_s", "is_held"), [(0.01, False), (1.0, True), (-1.0, False)])
def test_a_node_whose_clock_is_ahead_shows_nothing_new(ahead_s, is_held):
  """If the clock is ahead, late messages would look new.

  A message that the clock calls old is as old as that, and a gate holds the arm.
  """
  driver_, names = object.__new__(ros.Ros), [f"joint_{joint}" for joint in range(9)]
  driver_._names, driver_._newest, driver_._shown, driver_._has_seen = names, None, None, threading.Event()
  now_s = time.time()
  for after_s, angle in ((0.0, 0.0), (0.1, 0.03)):  # They arrive immediately after each other.
    stamp = types.SimpleNamespace(to_sec=lambda s=now_s + ahead_s - 0.1 + after_s: s)
    driver_._see(types.SimpleNamespace(name=names, position=[angle] * 9, header=types.SimpleNamespace(stamp=stamp)))
  assert driver_._has_seen.is_set() != is_held
  if not is_held:
    when_s, _, velocities = driver_._newest
    np.testing.assert_allclose(velocities, 0.3, rtol=1e-3)  # By the node's clock.
    assert time.monotonic() - when_s == pytest.approx(max(0.0, -ahead_s), abs=0.05)
