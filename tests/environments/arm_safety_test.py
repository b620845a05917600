"""The gate in front of an arm, with a clock that the test turns and a driver that only remembers."""

import numpy as np
import pytest

from environments.arm import protocol, safety

LIMITS = safety.Limits(
  max_velocity_rad_s=(0.5, 1.0, 1.0),
  low_rad=(-np.inf, -1.0, 0.0),
  high_rad=(np.inf, 1.0, 2.0),
  watchdog_s=0.5,
  poll_s=0.1,
)


class FakeDriver:
  """Three joints that go exactly where they are told."""

  def __init__(self):
    self.time_s = 0.0
    self.qpos = np.array([0.0, 0.0, 1.0])
    self.velocity = np.zeros(3)
    self.calls = []

  def now_s(self):
    return self.time_s

  def reset(self, qpos_rad, *, seed):
    self.calls.append("reset")
    self.qpos, self.velocity = np.array(qpos_rad), np.zeros(3)

  def place_target(self, target_in_base_m):
    self.calls.append("place_target")

  def command(self, velocity_rad_s):
    self.calls.append("command")
    self.velocity = np.array(velocity_rad_s)

  def stop(self):
    self.calls.append("stop")
    self.velocity = np.zeros(3)

  def wait(self, until_s):
    self.qpos = self.qpos + self.velocity * (until_s - self.time_s)
    self.time_s = until_s

  def read(self):
    return protocol.Reading(self.time_s, self.qpos, self.velocity, np.zeros(3))

  def image(self):
    return np.zeros((2, 2, 3), np.uint8)

  def close(self):
    self.calls.append("close")


@pytest.fixture
def driver():
  return FakeDriver()


@pytest.fixture
def gate(driver):
  return safety.Gate(driver, LIMITS)


def test_a_command_within_the_limits_passes_unchanged(gate, driver):
  gate.command(np.array([0.5, -1.0, 0.25]))
  np.testing.assert_array_equal(driver.velocity, [0.5, -1.0, 0.25])


def test_speeds_are_clamped(gate, driver):
  gate.command(np.array([9.0, -9.0, 0.25]))
  np.testing.assert_array_equal(driver.velocity, [0.5, -1.0, 0.25])


@pytest.mark.parametrize(
  ("velocity", "word"),
  [
    (np.array([np.nan, 0.0, 0.0]), "finite"),
    (np.array([np.inf, 0.0, 0.0]), "finite"),
    (np.array([0.1, 0.1]), "3 joints"),
    (np.array([[0.1, 0.1, 0.1]]), "3 joints"),
    (np.array(0.1), "3 joints"),
    (np.array([1, 0, 0]), "int64"),
    (np.array(["1", "0", "0"]), "floating-point"),
    ([0.1, 0.1, 0.1], "list"),
    (None, "NoneType"),
  ],
)
def test_what_is_not_a_command_is_refused_and_the_arm_held(gate, driver, velocity, word):
  gate.command(np.array([0.1, 0.1, 0.1]))
  with pytest.raises(safety.CommandRefusedError, match=word):
    gate.command(velocity)
  assert driver.calls[-1] == "stop"
  assert not driver.velocity.any()
  assert driver.calls.count("stop") == 1


def test_a_joint_at_its_limit_may_only_go_back(gate, driver):
  driver.qpos = np.array([99.0, 1.0, 0.0])  # Joint 0 has no limits; 1 is at its high one, 2 at its low one.
  gate.command(np.array([0.5, 0.5, -0.5]))
  np.testing.assert_array_equal(driver.velocity, [0.5, 0.0, 0.0])
  gate.command(np.array([0.5, -0.5, 0.5]))
  np.testing.assert_array_equal(driver.velocity, [0.5, -0.5, 0.5])


def test_limits_are_enforced_between_commands(gate, driver):
  gate.command(np.array([0.5, 1.0, 0.0]))
  gate.wait(1.5)  # One command for 1.5 s; at 1 rad/s joint 1 meets its limit after 1 s, the watchdog bites at 0.5 s.
  assert driver.qpos[1] <= 0.6 + 1e-9
  driver.qpos[1] = 0.95
  gate.command(np.array([0.5, 1.0, 0.0]))
  gate.wait(1.9)
  assert driver.qpos[1] <= 1.05 + 1e-9  # One poll of 0.1 s at 1 rad/s beyond where it was seen inside.
  assert driver.velocity[0] == 0.5  # The other joint goes on.


def test_the_watchdog_counts_from_the_last_command(gate, driver):
  for time_s in (0.0, 0.4, 0.8):
    driver.time_s = time_s
    gate.command(np.array([0.1, 0.1, 0.1]))
    gate.poll()
  driver.time_s = 1.3  # Silent for just the limit.
  gate.poll()
  assert driver.velocity.any()
  driver.time_s = 1.31
  gate.poll()
  assert not driver.velocity.any()
  assert driver.calls.count("stop") == 1
  gate.poll()
  assert driver.calls.count("stop") == 1  # One silence is one stop.


def test_a_refused_command_does_not_feed_the_watchdog(gate, driver):
  gate.command(np.array([0.1, 0.1, 0.1]))
  driver.time_s = 0.4
  with pytest.raises(safety.CommandRefusedError):
    gate.command(np.full(3, np.nan))
  driver.velocity = np.array([0.1, 0.1, 0.1])  # As if an arm had not heard the stop.
  gate.command(np.array([0.1, 0.1, 0.1]))
  driver.time_s = 0.91
  gate.poll()
  assert not driver.velocity.any()


def test_a_start_outside_the_limits_is_refused(gate, driver):
  gate.reset(np.array([5.0, 1.0, 0.0]), seed=0)
  for pose in ([0.0, 1.1, 1.0], [0.0, np.nan, 1.0], [0.0, 0.0]):
    driver.calls.clear()
    with pytest.raises(safety.CommandRefusedError, match="start pose"):
      gate.reset(np.array(pose), seed=0)
    assert driver.calls == ["stop"]


def test_instruments_that_read_nan_stop_the_arm(gate, driver):
  gate.command(np.array([0.1, 0.1, 0.1]))
  driver.qpos, driver.time_s = np.array([0.0, np.nan, 0.0]), 0.1
  with pytest.raises(safety.ArmFaultError, match="stopped"):
    gate.poll()
  assert not driver.velocity.any()


def test_a_fault_of_the_instruments_is_latched(gate, driver):
  gate.command(np.full(3, 0.1))
  driver.qpos = np.array([0.0, np.nan, 1.0])
  with pytest.raises(safety.ArmFaultError, match="nan"):
    gate.read()
  driver.qpos = np.zeros(3)  # They look well again.
  for move in (lambda: gate.command(np.full(3, 0.1)), lambda: gate.reset(np.zeros(3), seed=0), gate.read):
    with pytest.raises(safety.ArmFaultError, match="start the server again"):
      move()
  assert not driver.velocity.any() and driver.calls[-1] == "stop"


def test_instruments_that_cannot_be_read_stop_the_arm_for_good(gate, driver, monkeypatch):
  gate.command(np.full(3, 0.1))
  with monkeypatch.context() as broken:
    broken.setattr(driver, "read", lambda: 1 / 0)
    driver.time_s = 0.2
    with pytest.raises(safety.ArmFaultError, match="cannot be read .ZeroDivisionError"):
      gate.poll()
  assert not driver.velocity.any()
  with pytest.raises(safety.ArmFaultError, match="cannot be read"):
    gate.command(np.full(3, 0.1))


@pytest.mark.parametrize(("num_failures", "is_stoppable"), [(2, True), (3, False)])
def test_a_stop_that_fails_is_tried_again(gate, driver, monkeypatch, num_failures, is_stoppable):
  gate.command(np.full(3, 0.1))
  failures = iter([OSError("cable")] * num_failures)
  stop = driver.stop

  def fail():
    for failure in failures:
      raise failure
    stop()

  monkeypatch.setattr(driver, "stop", fail)
  if is_stoppable:
    gate.stop()
    gate.command(np.full(3, 0.1))
  else:
    with pytest.raises(safety.StopFailedError, match="takes no stop .OSError: cable.; press its emergency stop"):
      gate.stop()
    with pytest.raises(safety.ArmFaultError, match="emergency stop"):
      gate.command(np.zeros(3))
  assert gate.is_stoppable == is_stoppable


def test_closing_stops_first(gate, driver):
  gate.command(np.array([0.1, 0.1, 0.1]))
  gate.close()
  assert driver.calls[-2:] == ["stop", "close"]


def test_where_no_time_passes_nothing_is_read(gate, driver):
  """A twin that waits for its client must not draw noise at the whim of this machine's clock."""
  gate.command(np.array([0.1, 0.1, 0.1]))
  driver.read = None
  gate.poll()


def test_wait_ends_where_it_was_asked_to(gate, driver):
  gate.wait(0.25)
  assert driver.time_s == 0.25


def test_wrong_limits_are_refused():
  with pytest.raises(ValueError, match="one entry a joint"):
    safety.Limits(max_velocity_rad_s=(1.0,), low_rad=(0.0, 0.0), high_rad=(1.0,))
  with pytest.raises(ValueError, match="watchdog_s=inf"):
    safety.Limits(max_velocity_rad_s=(1.0,), low_rad=(0.0,), high_rad=(1.0,), watchdog_s=np.inf)
