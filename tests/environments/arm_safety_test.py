"""The gate in front of an arm, with a clock that the test sets and a driver that only records its calls."""

import dataclasses

import numpy as np
import pytest

from environments.arm import attack, kinova, protocol, safety
from environments.jaco import constants

LIMITS = protocol.Limits(
  max_velocity_rad_s=(0.5, 1.0, 1.0),
  low_rad=(-np.inf, -1.0, 0.0),
  high_rad=(np.inf, 1.0, 2.0),
  max_acceleration_rad_s2=4.0,
  max_jerk_rad_s3=1e9,  # No limit, except where a test sets one.
  braking_rad_s2=1.0,
  reaction_s=0.1,
  max_age_s=0.15,
  fault_age_s=0.35,
  poll_s=0.1,
)
FOR_LONG_S = 1e6
JACO = safety.jaco_limits()
FREE = dataclasses.replace(JACO, clearance_m=None)  # With nothing around it that would make it brake.


class FakeDriver:
  """Three joints that go exactly where they are told."""

  def __init__(self):
    self.time_s = 0.0
    self.qpos = np.array([0.0, 0.0, 1.0])
    self.velocity = np.zeros(3)
    self.calls = []
    self.told = [self.velocity]  # Every velocity, in order.

  def now_s(self):
    return self.time_s

  def reset(self, qpos_rad, *, seed):
    self.calls.append("reset")
    self.qpos, self.velocity = np.array(qpos_rad), np.zeros(3)
    return True

  def place_target(self, target_in_base_m):
    self.calls.append("place_target")

  def command(self, velocity_rad_s):
    self.calls.append("command")
    self.velocity = np.array(velocity_rad_s)
    self.told.append(self.velocity)

  def stop(self):
    self.calls.append("stop")
    self.velocity = np.zeros(3)

  def wait(self, until_s):
    self.qpos = self.qpos + self.velocity * (until_s - self.time_s)
    self.time_s = until_s

  def read(self):
    return protocol.Reading(self.time_s, self.qpos, self.velocity, np.zeros(3))

  def close(self):
    self.calls.append("close")


@pytest.fixture
def driver():
  return FakeDriver()


@pytest.fixture
def gate(driver):
  return safety.Gate(driver, LIMITS)


def move(gate, driver, velocity, *, num_polls=4):
  """Commands `velocity` for long, and polls until the acceleration limit has let it through."""
  gate.command(np.array(velocity), expires_s=FOR_LONG_S)
  for _ in range(num_polls):
    driver.time_s += LIMITS.poll_s
    gate.poll()


def test_a_command_within_the_limits_passes_unchanged(gate, driver):
  move(gate, driver, [0.5, -0.8, 0.25])
  np.testing.assert_array_equal(driver.velocity, [0.5, -0.8, 0.25])


def test_speeds_are_clamped(gate, driver):
  driver.qpos = np.array([0.0, 0.0, 0.0])
  move(gate, driver, [-9.0, 0.0, 9.0])
  np.testing.assert_array_equal(driver.velocity, [-0.5, 0.0, 1.0])


def test_speeds_change_no_faster_than_the_acceleration_limit(gate, driver):
  for wanted in ([0.0, 0.8, 0.0], [0.0, -0.8, 0.0]):
    gate.command(np.array(wanted), expires_s=FOR_LONG_S)
    for _ in range(5):
      driver.time_s += LIMITS.poll_s
      gate.poll()
  driver.time_s += 100.0  # A late poll may not catch up.
  gate.hold()
  gate.poll()
  joint = [velocity[1] for velocity in driver.told]
  np.testing.assert_allclose(joint, [0, 0.4, 0.8, 0.8, 0.8, 0.8, 0.4, 0, -0.4, -0.8, -0.8, -0.4], atol=1e-9)


def test_speeds_change_no_faster_than_the_jerk_limit(driver):
  """By hand: the acceleration may change by 2 rad/s^2 in a poll. Plans change it by 1 in half a poll.

  From 3.6 rad/s^2 the planned changes add 0.05 (2.6 + 1.6 + 0.6) = 0.24 of the 0.8 rad/s. At 0.4667 the acceleration
  may end at once.
  """
  gate = safety.Gate(driver, dataclasses.replace(LIMITS, max_jerk_rad_s3=20.0))
  move(gate, driver, [0.0, 0.8, 0.0], num_polls=6)
  joint = [velocity[1] for velocity in driver.told]
  np.testing.assert_allclose(joint, [0.0, 0.2, 0.56, 0.56 + 0.58 / 3, 0.8, 0.8, 0.8], atol=1e-5)


@pytest.mark.parametrize("jerk_rad_s3", [2.0, 20.0, 60.0, 1e9])
def test_polls_at_odd_times_do_not_exceed_the_limits(driver, jerk_rad_s3):
  """A poll that comes sooner than half a period repeats the last command. A late poll may not catch up."""
  gate = safety.Gate(driver, dataclasses.replace(LIMITS, max_jerk_rad_s3=jerk_rad_s3))
  rng, last_s, before, acceleration = np.random.default_rng(0), -LIMITS.poll_s, driver.velocity, np.zeros(3)
  num_early = 0
  for _ in range(500):
    gate.command(rng.uniform(-2, 2, 3), expires_s=FOR_LONG_S)
    driver.time_s += rng.exponential(0.06)
    gate.poll()
    elapsed_s = driver.time_s - last_s
    if elapsed_s < 0.499 * LIMITS.poll_s:
      np.testing.assert_array_equal(driver.velocity, before)
      num_early += 1
      continue
    elapsed_s = min(elapsed_s, LIMITS.poll_s)
    change = (driver.velocity - before) / elapsed_s
    assert np.abs(change).max() <= LIMITS.max_acceleration_rad_s2 + 1e-9
    assert np.abs(change - acceleration).max() <= jerk_rad_s3 * elapsed_s + 1e-9
    assert np.all(np.abs(driver.velocity) <= np.array(LIMITS.max_velocity_rad_s) + 1e-9)
    last_s, before, acceleration = driver.time_s, driver.velocity, change
  assert num_early > 50


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
  move(gate, driver, [0.1, 0.1, 0.1])
  with pytest.raises(safety.CommandRefusedError, match=word):
    gate.command(velocity, expires_s=FOR_LONG_S)
  driver.time_s += LIMITS.poll_s
  gate.poll()
  assert not driver.velocity.any()


def test_a_joint_at_its_limit_may_only_go_back(gate, driver):
  driver.qpos = np.array([99.0, 1.0, 0.0])  # Joint 0 has no limits. Joint 1 is at its high one, joint 2 at its low one.
  move(gate, driver, [0.5, 0.5, -0.5])
  np.testing.assert_array_equal(driver.velocity, [0.5, 0.0, 0.0])
  move(gate, driver, [0.5, -0.5, 0.5])
  np.testing.assert_array_equal(driver.velocity, [0.5, -0.5, 0.5])
  driver.qpos = np.array([99.0, 1.5, -0.5])  # The same outside the limits.
  move(gate, driver, [0.5, 0.5, -0.5])
  np.testing.assert_array_equal(driver.velocity, [0.5, 0.0, 0.0])


def test_no_joint_is_faster_than_it_can_brake_before_its_limit(gate, driver):
  """By hand: it goes on for 0.1 s and brakes at 1 rad/s^2, so at 0.5 rad/s it needs 0.05 + 0.125 rad."""
  driver.qpos = np.array([0.0, 1.0 - 0.175, 0.175])
  move(gate, driver, [0.0, 1.0, -1.0])
  np.testing.assert_allclose(driver.velocity, [0.0, 0.5, -0.5], atol=1e-3)


def test_an_old_reading_makes_it_slower(driver):
  reading = driver.read()._replace(qpos_rad=np.array([0.0, 0.8, 1.0]))
  gate = safety.Gate(driver, dataclasses.replace(LIMITS, max_age_s=9.0, fault_age_s=9.0), read=lambda: reading)
  move(gate, driver, [0.0, 1.0, 0.0], num_polls=3)
  under_way = 0.1 * np.sum(driver.told, axis=0)[1]  # The reading shows none of the commands yet.
  np.testing.assert_allclose(under_way + driver.velocity[1] ** 2 / 2.0, 0.2, atol=1e-3)


def test_a_reading_of_the_future_is_a_fault_though_it_is_not_far_ahead(driver):
  """It would pass for fresh until its time comes, while the arm is elsewhere. Only a clock's resolution is allowed."""
  ahead_s = 0.0
  gate = safety.Gate(driver, LIMITS, read=lambda: driver.read()._replace(time_s=driver.time_s + ahead_s))
  ahead_s = LIMITS.read_s / 2
  assert gate.read().time_s == ahead_s
  ahead_s = 0.2
  with pytest.raises(safety.ArmFaultError, match="its instruments are 0.20 s ahead of its clock"):
    gate.read()
  seldom = dataclasses.replace(LIMITS, read_s=0.05)  # Reading less often makes no clock's resolution coarser.
  ahead_s = 0.03
  with pytest.raises(safety.ArmFaultError, match="its instruments are 0.03 s ahead of its clock"):
    safety.Gate(driver, seldom, read=lambda: driver.read()._replace(time_s=driver.time_s + ahead_s)).read()


def test_what_is_no_reading_is_a_fault(driver):
  gate = safety.Gate(driver, LIMITS, read=lambda: reading)
  reading = None
  with pytest.raises(safety.ArmFaultError, match="its instruments read NoneType, not a Reading"):
    gate.read()


def test_the_limits_are_not_passed(gate, driver):
  gate.command(np.array([0.5, 1.0, -1.0]), expires_s=FOR_LONG_S)
  gate.wait(10.0)
  assert 0.9 < driver.qpos[1] <= 1.0 + 1e-9 and -1e-9 <= driver.qpos[2] < 0.1
  assert driver.velocity[0] == 0.5  # The other joint goes on.


@pytest.mark.parametrize("jerk_rad_s3", [3.0, 10.0, 40.0])
def test_the_way_to_rest_counts_the_jerk(driver, monkeypatch, jerk_rad_s3):
  """An arm that brakes no better than it must has no room to spare. Without the ramps it passes its limit."""
  limits = dataclasses.replace(
    LIMITS, max_acceleration_rad_s2=2.0, braking_rad_s2=2.0, max_jerk_rad_s3=jerk_rad_s3, reaction_s=0.03, poll_s=0.03
  )

  def farthest(start):
    driver.qpos, driver.velocity, driver.told, driver.time_s = np.array([0.0, start, 1.0]), np.zeros(3), [], 0.0
    gate, most = safety.Gate(driver, limits), -np.inf
    gate.command(np.array([0.0, 1.0, -1.0]), expires_s=FOR_LONG_S)
    for _ in range(200):
      gate.wait(driver.time_s + limits.poll_s)
      most = max(most, driver.qpos[1])
    changes = np.diff([np.zeros(3), *driver.told], axis=0)
    assert np.abs(np.diff(changes, axis=0)).max() <= jerk_rad_s3 * limits.poll_s**2 + 1e-9
    return most

  starts = np.linspace(-0.5, 0.99, 12)
  ends = [farthest(start) for start in starts]
  assert max(ends) <= 1.0 + 1e-9 and min(ends) > 0.95
  blind = dataclasses.replace(limits, max_jerk_rad_s3=1e9)
  to_rest = safety.Gate(driver, blind)._to_rest_rad
  monkeypatch.setattr(safety.Gate, "_to_rest_rad", lambda self, velocity, elapsed_s: to_rest(velocity, elapsed_s))
  assert max(farthest(start) for start in starts) > 1.001


def test_it_brakes_before_what_is_in_its_way(driver):
  """A wall at 0.5 rad of joint 1. An arm outside the margin may go on. An arm inside it may only go back."""
  walled = dataclasses.replace(LIMITS, clearance_m=lambda qpos: 0.5 - qpos[1], margin_m=0.1)
  gate = safety.Gate(driver, walled)
  gate.command(np.array([0.5, 1.0, 0.0]), expires_s=FOR_LONG_S)
  gate.wait(5.0)
  assert 0.3 < driver.qpos[1] <= 0.4 and driver.qpos[0] < 1.0
  driver.qpos = np.array([0.0, 0.45, 1.0])
  move(gate, driver, [0.0, 0.1, 0.0])
  np.testing.assert_array_equal(driver.velocity, np.zeros(3))
  move(gate, driver, [0.0, -1.0, 0.0])
  np.testing.assert_array_equal(driver.velocity, [0.0, -1.0, 0.0])
  move(gate, driver, [0.5, 0.0, 0.0])  # Along the wall.
  np.testing.assert_array_equal(driver.velocity, [0.5, 0.0, 0.0])


def test_it_sees_what_is_thin_on_its_way(driver, monkeypatch):
  """A post of 0.1 rad at joint 1 begins, with its margins, 0.27 rad from the start.

  By hand: at the second poll, 0.04 rad on, the arm could have 0.8 rad/s and come to rest 0.4 rad farther. The middle
  and the end of that way, 0.24 and 0.44, do not show the post. Neither do 0.42 and 0.72 one poll later. Three quarters
  of the way, 0.34, shows it.
  """
  limits = dataclasses.replace(LIMITS, clearance_m=lambda qpos: abs(qpos[1] - 0.3) - 0.05, margin_m=0.01)

  def nearest():
    driver.qpos, nearest_m = np.array([0.0, 0.3 - 0.06 - 0.27, 1.0]), np.inf
    gate = safety.Gate(driver, limits)
    gate.command(np.array([0.0, 1.0, 0.0]), expires_s=FOR_LONG_S)
    for _ in range(30):
      gate.wait(driver.time_s + limits.poll_s)
      nearest_m = min(nearest_m, limits.clearance_m(driver.qpos))
    return nearest_m

  assert nearest() >= 0.01
  monkeypatch.setattr(safety, "_PARTS", (1.0, 0.5))
  assert nearest() < 0.0


def test_a_command_expires(gate, driver):
  gate.command(np.full(3, 0.1), expires_s=0.45)
  gate.wait(0.4)
  assert driver.velocity.all()
  gate.wait(0.7)
  assert not driver.velocity.any()
  gate.command(np.full(3, 0.1), expires_s=0.6)  # It comes too late.
  gate.wait(0.9)
  assert not driver.velocity.any()
  assert "stop" not in driver.calls  # It is no fault.


def test_a_refused_command_does_not_prolong_the_last_one(gate, driver):
  gate.command(np.full(3, 0.1), expires_s=0.3)
  with pytest.raises(safety.CommandRefusedError):
    gate.command(np.full(3, np.nan), expires_s=FOR_LONG_S)
  gate.wait(0.5)
  assert not np.any(driver.told)


def test_a_start_outside_the_limits_is_refused(gate, driver):
  gate.reset(np.array([5.0, 1.0, 0.0]), seed=0)
  for pose in ([0.0, 1.1, 1.0], [0.0, np.nan, 1.0], [0.0, 0.0]):
    driver.calls.clear()
    with pytest.raises(safety.CommandRefusedError, match="start pose"):
      gate.reset(np.array(pose), seed=0)
    assert driver.calls == ["stop"]


def test_instruments_that_read_nan_stop_the_arm(gate, driver):
  move(gate, driver, [0.1, 0.1, 0.1])
  driver.qpos = np.array([0.0, np.nan, 0.0])
  driver.time_s += 0.1
  with pytest.raises(safety.ArmFaultError, match="stopped"):
    gate.poll()
  assert not driver.velocity.any()


def test_instruments_that_stand_still_stop_the_arm(gate, driver):
  frozen = driver.read()
  driver.read = lambda: frozen
  gate = safety.Gate(driver, LIMITS)
  gate.command(np.full(3, 0.1), expires_s=FOR_LONG_S)
  driver.time_s = 0.14
  gate.poll()
  assert driver.velocity.all()
  driver.time_s = 0.24
  gate.poll()
  assert not driver.velocity.any() and "stop" not in driver.calls
  driver.time_s = 0.36
  with pytest.raises(safety.ArmFaultError, match="nothing newer than 0.36 s"):
    gate.poll()
  assert driver.calls[-1] == "stop"
  driver.time_s = frozen.time_s  # Readings are new again.
  with pytest.raises(safety.ArmFaultError, match="nothing newer than 0.36 s"):
    gate.command(np.full(3, 0.1), expires_s=FOR_LONG_S)


def test_a_fault_of_the_instruments_is_latched(gate, driver):
  move(gate, driver, [0.1, 0.1, 0.1])
  driver.qpos = np.array([0.0, np.nan, 1.0])
  with pytest.raises(safety.ArmFaultError, match="nan"):
    gate.read()
  driver.qpos = np.zeros(3)  # Readings look good again.
  command = lambda: gate.command(np.full(3, 0.1), expires_s=FOR_LONG_S)  # noqa: E731
  for call in (command, lambda: gate.reset(np.zeros(3), seed=0), gate.read):
    with pytest.raises(safety.ArmFaultError, match="start the server again"):
      call()
  driver.time_s += 0.1
  gate.poll()
  assert not driver.velocity.any() and driver.calls[-1] == "stop"


@pytest.mark.parametrize(
  ("broken", "word"),
  [("read", "cannot be read .ZeroDivisionError"), ("command", "takes no command .ZeroDivisionError")],
)
def test_a_driver_that_fails_stops_the_arm_for_good(gate, driver, monkeypatch, broken, word):
  gate = safety.Gate(driver, LIMITS, read=lambda: driver.read())
  move(gate, driver, [0.1, 0.1, 0.1])
  with monkeypatch.context() as patched:
    patched.setattr(driver, broken, lambda *_: 1 / 0)
    driver.time_s += 0.1
    with pytest.raises(safety.ArmFaultError, match=word):
      gate.poll()
  assert not driver.velocity.any()
  with pytest.raises(safety.ArmFaultError, match=word):
    gate.command(np.full(3, 0.1), expires_s=FOR_LONG_S)


@pytest.mark.parametrize("broken", ["reset", "place_target"])
def test_a_driver_that_cannot_start_an_episode_is_at_fault(gate, driver, broken):
  setattr(driver, broken, lambda *_, **__: 1 / 0)
  with pytest.raises(safety.ArmFaultError, match="ZeroDivisionError"):
    gate.reset(np.array([0.0, 0.0, 1.0]), seed=0)
    gate.place_target(np.zeros(3))
  assert driver.calls[-1] == "stop"
  with pytest.raises(safety.ArmFaultError, match="ZeroDivisionError"):
    gate.read()


@pytest.mark.parametrize(("num_failures", "is_stoppable"), [(2, True), (3, False)])
def test_a_stop_that_fails_is_tried_again(gate, driver, monkeypatch, num_failures, is_stoppable):
  move(gate, driver, [0.1, 0.1, 0.1])
  failures = iter([OSError("cable")] * num_failures)
  stop = driver.stop

  def fail():
    for failure in failures:
      raise failure
    stop()

  monkeypatch.setattr(driver, "stop", fail)
  if is_stoppable:
    gate.stop()
    gate.command(np.full(3, 0.1), expires_s=FOR_LONG_S)
    gate.poll()
  else:
    with pytest.raises(safety.ArmLostError, match="takes no stop .OSError: cable.; press its emergency stop"):
      gate.stop()
    for call in (lambda: gate.command(np.zeros(3), expires_s=FOR_LONG_S), gate.poll, gate.read):
      with pytest.raises(safety.ArmLostError, match="emergency stop"):
        call()


def test_closing_stops_first(gate, driver):
  move(gate, driver, [0.1, 0.1, 0.1])
  gate.close()
  assert driver.calls[-2:] == ["stop", "close"]


def test_where_no_time_passes_nothing_is_read_or_sent(gate, driver):
  """A twin that waits for its client must not draw noise whenever this machine's clock says so."""
  move(gate, driver, [0.1, 0.1, 0.1])
  num_calls, gate._read = len(driver.calls), None
  gate.poll()
  assert len(driver.calls) == num_calls


def test_wait_ends_where_it_was_asked_to(gate, driver):
  gate.wait(0.25)
  assert driver.time_s == 0.25


def test_it_says_how_late_the_latest_poll_was_once(gate, driver):
  """Polls are 0.1 s apart; one comes after 0.15 s, one after 0.37 s, and one that repeats a command after 0.01 s."""
  for elapsed_s in (0.1, 0.15, 0.37, 0.1, 0.01):
    driver.time_s += elapsed_s
    gate.poll()
  assert gate.late_s() == pytest.approx(0.27)
  assert gate.late_s() == 0.0


def test_a_command_takes_effect_at_once_whatever_the_clock_rounds(gate, driver):
  """Each period has three polls. The first one already sends the command that came at the start."""
  for period in range(200):
    driver.calls.clear()
    velocity = np.full(3, 0.1 if period % 2 else -0.1)
    gate.command(velocity, expires_s=FOR_LONG_S)
    driver.qpos, wait = np.array([0.0, 0.0, 1.0]), driver.wait
    seen = []
    driver.wait = lambda until_s: (seen.append(driver.velocity.copy()), wait(until_s))  # noqa: B023
    gate.wait(0.3 * (period + 1))
    driver.wait = wait
    np.testing.assert_array_equal(seen, [velocity] * 3)


@pytest.mark.parametrize("send", attack.CLIENT_FAULTS.values(), ids=attack.CLIENT_FAULTS)
def test_no_client_brings_the_arm_beyond_its_limits(send):
  found = attack.inject(FREE, np.random.default_rng(0), break_it=lambda arm: None, send=send, count=2)
  assert found.num_escaped == 0 and found.rest_s < 0.4
  assert found.goes_on == (2 if send in map(attack.CLIENT_FAULTS.get, ("floods", "sends huge numbers")) else 0)
  np.testing.assert_array_less(found.excess, 1e-9)


@pytest.mark.parametrize("name", attack.DRIVER_FAULTS)
def test_a_driver_that_goes_wrong_comes_to_rest_within_its_limits(name):
  found = attack.inject(FREE, np.random.default_rng(0), break_it=attack.DRIVER_FAULTS[name], send=attack.well, count=2)
  assert found.num_escaped == 0 and found.rest_s < 0.4
  assert found.goes_on == (2 if name == "command alters its argument" else 0)
  np.testing.assert_array_less(found.excess, 1e-9)


def test_hostile_commands_reach_the_limits_and_do_not_pass_them():
  """An arm that is `LATENCY_S` late uses all 0.08 s of reaction, so the attack is as bad as an arm may be."""
  found = attack.command(JACO, np.random.default_rng(0), count=1_000)
  assert found.jerk_rad_s3 > 0
  assert np.all(found.excess <= 1e-9)


def test_arms_that_are_polled_faster_are_attacked_alike():
  """Kinova's arm, 10 ms a poll, is as late and watched as long, in seconds. A stop's poll is compared with rest."""
  limits = kinova.KinovaConfig(library="x").limits()
  assert limits.poll_s == 0.01
  found = attack.command(limits, np.random.default_rng(0), count=2_700)
  assert found.jerk_rad_s3 > 0 and np.all(found.excess <= 1e-9)
  for how in (
    {"send": attack.CLIENT_FAULTS["falls silent"], "break_it": lambda arm: None},
    {"send": attack.well, "break_it": attack.DRIVER_FAULTS["read freezes"]},
  ):
    found = attack.inject(limits, np.random.default_rng(0), count=8, **how)
    assert found.goes_on == 0 and found.rest_s > 0.2 and np.all(found.excess <= 1e-9)


@pytest.mark.parametrize("num_polls", range(2, 8))
def test_a_stop_does_not_forget_what_is_under_way(num_polls):
  """An arm that is late by its whole reaction is stopped again and again on its way to a joint's end."""
  arm = attack.Arm(JACO, np.random.default_rng(0))
  gate = safety.Gate(arm, JACO)
  arm.qpos = np.where(np.arange(9) == 2, JACO.high_rad[2] - 0.5, constants.HOME_RAD)
  speed = np.where(np.arange(9) == 2, JACO.max_velocity_rad_s, 0.0)
  for i in range(200):
    if i % num_polls == 0:
      gate.stop()
    gate.command(speed, expires_s=arm.time_s + 0.15)
    gate.poll()
    arm.wait(arm.time_s + JACO.poll_s)
    assert arm.qpos[2] <= JACO.high_rad[2] + 1e-9
  assert arm.qpos[2] > JACO.high_rad[2] - 0.05


def _only_accelerating(self, wanted, elapsed_s):
  change = JACO.max_acceleration_rad_s2 * elapsed_s
  return np.clip(wanted, self._velocity - change, self._velocity + change)


def _as_if_no_limit_were_near(self, wanted, reading, under_way, elapsed_s):
  del reading, under_way
  velocity = self._towards(wanted, elapsed_s)
  return velocity, self._to_rest_rad(velocity, elapsed_s)


@pytest.mark.parametrize(
  ("what", "instead", "excess"),
  [
    ("_towards", _only_accelerating, 2),
    ("_inside", _as_if_no_limit_were_near, 3),
    ("_is_clear", lambda *_: True, 4),
    ("_under_way_rad", lambda self, reading: np.zeros((1, 9)), 3),
  ],
)
def test_an_attack_sees_what_passes_a_limit(monkeypatch, what, instead, excess):
  """Without the gate's checks a command jerks, a joint runs into its end, or a link into another one or the table."""
  monkeypatch.setattr(safety.Gate, what, instead)
  assert attack.command(JACO, np.random.default_rng(0), count=1_000).excess[excess] > 0.001


@pytest.mark.parametrize(
  ("wrong", "word"),
  [
    ({"reaction_s": np.nan}, "reaction_s=nan"),
    ({"reaction_s": 0.01}, "poll_s=0.1"),
    ({"braking_rad_s2": 5.0}, "max_acceleration_rad_s2=4.0"),
    ({"max_jerk_rad_s3": np.inf}, "max_jerk_rad_s3=inf"),
    ({"max_velocity_rad_s": (1.0, np.nan, 1.0)}, "must be positive"),
    ({"low_rad": (0.0, 1.0, 0.0)}, "below high_rad"),
    ({"margin_m": -0.5}, "margin_m=-0.5 must be 0 or more"),
    ({"margin_m": np.nan}, "margin_m=nan"),
    ({"margin_m": np.inf}, "margin_m=inf"),
    ({"poll_s": 0.3, "reaction_s": 0.3}, "poll_s=0.3 must be below hang_s=0.2, which ends what waits longer"),
  ],
)
def test_limits_that_the_gate_cannot_keep_are_refused(wrong, word):
  with pytest.raises(ValueError, match=word):
    dataclasses.replace(LIMITS, **wrong)


def test_wrong_limits_are_refused():
  with pytest.raises(ValueError, match="one entry a joint"):
    protocol.Limits(max_velocity_rad_s=(1.0,), low_rad=(0.0, 0.0), high_rad=(1.0,))
  with pytest.raises(ValueError, match="max_age_s=inf"):
    protocol.Limits(max_velocity_rad_s=(1.0,), low_rad=(0.0,), high_rad=(1.0,), max_age_s=np.inf)


def test_the_gate_keeps_what_it_told_the_arm_and_why(driver):
  """Speeds change by 0.4 rad/s a poll. Joint 1 has at most 0.5 rad/s. The command expires at 0.35 s."""
  ages_s = [0.0]
  gate = safety.Gate(driver, LIMITS, read=lambda: driver.read()._replace(time_s=driver.time_s - ages_s[-1]))
  gate.command(np.array([0.7, 0.0, 0.0]), expires_s=0.35)
  for _ in range(6):
    driver.time_s += LIMITS.poll_s
    gate.poll()
  told = gate.told()
  assert [(round(one.time_s, 1), one.asked_rad_s[0], one.why) for one in told] == [
    (0.1, 0.5, ""),
    (0.2, 0.5, ""),  # At 0.3 nothing changes.
    (0.4, 0.0, "expired"),
    (0.5, 0.0, ""),
  ]
  np.testing.assert_allclose([one.allowed_rad_s[0] for one in told], [0.4, 0.5, 0.1, 0.0], atol=1e-9)
  assert gate.told() == []  # Told once.
  move(gate, driver, [0.3, 0.0, 0.0], num_polls=1)
  ages_s.append(0.2)
  driver.time_s += LIMITS.poll_s
  gate.poll()
  driver.qpos = np.full(3, np.nan)
  with pytest.raises(safety.ArmFaultError):
    gate.read()
  whys = [one.why for one in gate.told()]
  assert whys[:-1] == ["", "old reading", "stop"] and whys[-1].startswith("fault: its joints read [nan")


def test_the_log_of_what_was_told_is_bounded(gate, driver, monkeypatch):
  monkeypatch.setattr(safety, "_MOST_TOLD_AT_ONCE", 7)
  for i in range(10):
    move(gate, driver, [0.01 * (i + 1), 0.0, 0.0], num_polls=1)
  assert [len(gate.told()) for _ in range(3)] == [7, 3, 0]
  assert gate._told.maxlen == safety._MOST_TOLD
