"""The process that owns an arm: whatever hangs, breaks or dies, the arm comes to a stop.

The arm is a rig in the test's own process. It outlives the code under test and keeps going until it is told to stop.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from environments.arm import driver, protocol, safety, twin
from tests.environments import arm_rig, arm_wall_clock

VARIABLES = driver.environment_variables()
TURN = np.array([0.3, 0, 0, 0, 0, 0, 0, 0, 0.4])
SLACK_S = arm_rig.SLACK_S


@pytest.fixture
def rig(tmp_path):
  yield from arm_rig.made(tmp_path)


@pytest.fixture
def config(rig):
  return arm_rig.RigConfig(rig.path)


@pytest.fixture
def gate(config):
  yield from arm_rig.connected(config)


@pytest.fixture
def strict_gate(config):
  """A gate with the limits of every other arm."""
  yield from arm_rig.connected(dataclasses.replace(config, is_patient=False))


def set_going(gate, rig, *, valid_for_s=60.0):
  """Makes the arm move by a command that holds for long, sent again where a busy machine's reading was late."""
  for _ in range(100):
    gate.command(TURN, expires_s=time.monotonic() + valid_for_s)
    time.sleep(0.1)
    if np.array_equal(rig.velocity, TURN):
      return
  pytest.fail(f"it does not move: {rig.changes}")


def test_it_moves_the_arm_as_told(gate, rig):
  before = rig.qpos()
  set_going(gate, rig)
  time.sleep(0.3)
  reading = gate.read()
  assert 0.05 < reading.qpos_rad[0] - before[0] < 0.3 and abs(time.monotonic() - reading.time_s) < 0.1 + SLACK_S
  gate.hold()
  assert rig.stood_after(time.monotonic()) < 0.1 + SLACK_S
  np.testing.assert_array_equal(gate.read().qvel_rad_s, np.zeros(9))


def test_a_command_expires(gate, rig):
  set_going(gate, rig, valid_for_s=0.4)
  assert rig.stood_after(time.monotonic()) < 0.4 + SLACK_S
  set_going(gate, rig)  # That was no fault.


def test_a_command_that_arrives_late_moves_nothing(gate, rig):
  gate.command(TURN, expires_s=time.monotonic() - 0.001)
  time.sleep(0.2)
  assert len(rig.changes) == 1


def test_calls_do_not_starve_it(gate, rig):
  is_over = threading.Event()

  def ask():
    while not is_over.is_set():
      gate.read()

  threads = [threading.Thread(target=ask) for _ in range(3)]
  for thread in threads:
    thread.start()
  set_going(gate, rig, valid_for_s=0.4)
  stood_s = rig.stood_after(time.monotonic())
  is_over.set()
  for thread in threads:
    thread.join()
  assert stood_s < 0.4 + SLACK_S


@pytest.mark.parametrize(
  ("fault", "word"),
  [
    ("read hangs", "show nothing newer than 0.5"),
    ("frozen", "show nothing newer than 0.5"),
    ("read raises", "cannot be read .OSError: the cable is out"),
    ("command raises", "takes no command .OSError: the cable is out"),
  ],
)
def test_a_fault_stops_the_arm_for_good(strict_gate, rig, fault, word):
  set_going(strict_gate, rig)
  rig.fault = fault
  assert rig.stood_after(time.monotonic()) < 0.2 + SLACK_S
  time.sleep(0.3)
  rig.fault = ""
  if "hangs" in fault:
    time.sleep(arm_rig.HANG_S)  # Until the hang is over.
  with pytest.raises(safety.ArmFaultError, match=word + ".*start the server again"):
    strict_gate.command(TURN, expires_s=time.monotonic() + 1.0)
  strict_gate.hold()  # Whoever waits for its client goes on.
  strict_gate.poll()
  time.sleep(0.1)
  assert not rig.velocity.any()


def test_instruments_that_show_the_past_for_a_moment_are_no_fault(strict_gate, rig):
  set_going(strict_gate, rig)
  rig.fault, start_s = "frozen", time.monotonic()
  while rig.velocity.any():
    assert time.monotonic() < start_s + 0.2 + SLACK_S
    time.sleep(0.001)
  rig.fault = ""
  time.sleep(0.1)
  assert not rig.velocity.any()  # It waits for the next command.
  set_going(strict_gate, rig)


@pytest.mark.parametrize("fault", ["read hangs alone", "command hangs", "command hangs alone", "stop hangs"])
def test_a_process_that_hangs_in_the_driver_is_killed(strict_gate, rig, fault):
  set_going(strict_gate, rig)
  rig.fault = fault
  start_s = time.monotonic()
  if fault.startswith("stop"):
    time.sleep(0.1)  # Until the owner's process knows it.
    start_s = time.monotonic()
    with pytest.raises(safety.ArmLostError):
      strict_gate.stop()
  # The link ends; the rig then stops by itself.
  assert rig.stood_after(start_s) < 0.2 + 0.05 + SLACK_S
  with pytest.raises(safety.ArmLostError, match="hung in a call to its driver, and was ended; look at the"):
    strict_gate.poll()
  with pytest.raises(safety.ArmLostError, match="hung in a call"):
    strict_gate.hold()


def test_an_arm_that_takes_no_stop_is_reported_and_let_go(capfd, config, rig):
  gate = driver.connect(config)
  set_going(gate, rig)
  rig.fault = "stop raises"
  time.sleep(0.1)  # Until the owner's process knows it.
  with pytest.raises(safety.ArmLostError, match="takes no stop .OSError: the cable is out.; press its emergency stop"):
    gate.stop()
  with pytest.raises(safety.ArmLostError, match="emergency stop"):
    gate.close()
  assert "press its emergency stop" in capfd.readouterr().err
  assert rig.stood_after(time.monotonic()) < SLACK_S  # Its link ended.


def test_nothing_is_read_of_an_arm_that_was_let_go(config, rig):
  """Letting go takes so long that the process is ended. That leaves time for many readings, one every 20 ms."""
  gate = driver.connect(config)
  rig.fault = "close hangs"
  time.sleep(0.1)  # Until the owner's process knows it.
  with pytest.raises(safety.ArmLostError):
    gate.close()
  assert rig.num_late_reads == 0


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_an_owner_that_is_ended_is_reported(gate, rig, kind):
  set_going(gate, rig)
  start_s = time.monotonic()
  os.kill(rig.driver_pid, kind)
  assert rig.stood_after(start_s) < 0.1 + SLACK_S
  word = "was ended by SIGKILL" if kind == signal.SIGKILL else "was told to end"
  for _ in range(2):
    with pytest.raises(safety.ArmLostError, match=word):
      gate.poll()


def test_an_owner_that_is_frozen_is_killed(gate, rig):
  set_going(gate, rig)
  os.kill(rig.driver_pid, signal.SIGSTOP)
  with pytest.raises(safety.ArmLostError, match="did not answer for 1 s, and was killed"):
    gate.read()
  assert rig.stood_after(time.monotonic()) < SLACK_S


@pytest.mark.parametrize(("kind", "valid_for_s"), [(signal.SIGKILL, 60.0), (signal.SIGSTOP, 0.4)])
def test_a_server_that_dies_or_freezes_leaves_the_arm_at_rest(rig, config, kind, valid_for_s):
  code = (
    "import time, numpy as np\n"
    "from environments.arm import driver\n"
    "from tests.environments import arm_rig\n"
    f"gate = driver.connect(arm_rig.RigConfig({config.path!r}))\n"
    f"gate.command(np.full(9, 0.2), expires_s=time.monotonic() + {valid_for_s})\n"
    "time.sleep(0.2)\n"
    "print('moving', flush=True)\n"
    "time.sleep(60)"
  )
  with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=VARIABLES) as process:
    assert process.stdout.readline() == b"moving\n" and rig.velocity.all()
    start_s = time.monotonic()
    process.send_signal(kind)
    stood_s = rig.stood_after(start_s)
    process.kill()
  assert stood_s < (0.1 if kind == signal.SIGKILL else 0.3) + SLACK_S


def test_one_arm_has_one_owner(config):
  held = arm_rig.RigConfig(config.path, lock=f"test-{os.getpid()}")
  first = driver.connect(held)
  with pytest.raises(protocol.BridgeError, match="is held by another server on this machine"):
    driver.connect(held)
  first.close()
  second = driver.connect(held)
  os.kill(second._process.pid, signal.SIGKILL)  # A dead process holds nothing.
  second._process.wait()
  driver.connect(held).close()


def test_an_owner_s_name_that_cannot_be_held_is_not_said_to_be_another_s(config):
  with pytest.raises(protocol.BridgeError, match="cannot be held by its name .*too long"):
    driver.connect(arm_rig.RigConfig(config.path, lock="x" * 200))


def test_an_arm_that_cannot_be_read_is_let_go_of(config, rig):
  rig.fault = "read raises"
  with pytest.raises(protocol.BridgeError, match="the arm cannot be had .OSError: the cable is out"):
    driver.connect(config)
  give_up_s = time.monotonic() + 3.0
  while rig.num_late_reads is None and time.monotonic() < give_up_s:
    time.sleep(0.01)
  assert rig.num_late_reads == 0


def test_a_config_of_a_script_is_no_lost_arm(monkeypatch):
  script = types.ModuleType("a_script")
  config = type("Mine", (twin.TwinConfig,), {"__module__": "a_script"})
  script.Mine = config
  monkeypatch.setitem(sys.modules, "a_script", script)
  with pytest.raises(
    protocol.BridgeError, match="config cannot be had in the arm's own process .*define it in a module"
  ):
    driver.connect(config(is_real_time=True))


def test_an_arm_that_cannot_be_had_is_one_line(tmp_path):
  with pytest.raises(protocol.BridgeError, match="the arm cannot be had .FileNotFoundError") as failure:
    driver.connect(arm_rig.RigConfig(str(tmp_path / "nowhere")))
  assert "\n" not in str(failure.value)


def test_the_arm_gets_its_commands_at_its_own_rate_and_its_owner_says_how_late(capfd, config, rig):
  gate = driver.connect(config)
  before = rig.num_commands
  time.sleep(1.0)
  assert 50 < rig.num_commands - before < 110  # 100 Hz. Few commands are lost, and none are added.
  gate.close()
  assert "the arm rests; it got" in capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0 or not driver._AUTOGROUP.exists(), reason="needs root, and Linux's autogroups")
def test_the_driver_process_has_the_highest_priority(gate, rig):
  assert os.getpriority(os.PRIO_PROCESS, rig.driver_pid) == -20
  assert pathlib.Path(f"/proc/{rig.driver_pid}/autogroup").read_text().endswith("nice -20\n")


def test_the_gate_works_in_the_driver_process(gate, rig):
  """Refusals cross the pipe, speeds are clamped, and stops are ramps."""
  set_going(gate, rig)
  with pytest.raises(safety.CommandRefusedError, match="finite"):
    gate.command(np.full(9, np.nan), expires_s=time.monotonic() + 60.0)
  assert rig.stood_after(time.monotonic()) < 0.1 + SLACK_S
  gate.command(np.full(9, 9.0), expires_s=time.monotonic() + 60.0)
  time.sleep(0.5)
  limits = arm_rig.RigConfig("").limits()
  np.testing.assert_allclose(rig.velocity[:6], limits.max_velocity_rad_s[:6])
  velocities = np.array([velocity for _, velocity in rig.changes])
  assert np.abs(np.diff(velocities, axis=0)).max() <= limits.max_acceleration_rad_s2 * limits.poll_s + 1e-9
  told = gate.told()
  np.testing.assert_allclose(told[0].asked_rad_s, TURN)
  time.sleep(0.1)  # Until that has arrived too. The fingers, near their limits, may brake meanwhile.
  assert any(np.allclose(told[-1].allowed_rad_s, velocity) for _, velocity in rig.changes)


def test_a_real_time_twin_runs_in_the_driver_process():
  gate = driver.connect(twin.TwinConfig(is_real_time=True, qvel_noise_rad_s=0.0))
  try:
    assert isinstance(gate, driver.RemoteGate)
    gate.command(TURN, expires_s=gate.now_s() + 0.5)
    gate.wait(gate.now_s() + 0.4)
    assert gate.read().qvel_rad_s[0] > 0.2
    gate.wait(gate.now_s() + 0.6)
    assert np.abs(gate.read().qvel_rad_s).max() < 0.02
  finally:
    gate.close()


def test_simulated_time_needs_no_driver_process():
  gate = driver.connect(twin.TwinConfig())
  assert isinstance(gate, safety.Gate)
  gate.close()


def test_faults_on_the_wall_clock_are_timed_and_told(tmp_path):
  """What `python -m tests.environments.arm_wall_clock` does, for one fault or as many as fit into half a second."""
  arm_wall_clock.lane(arm_wall_clock.drivers, 0, time.time() + 0.5, tmp_path / "trials.jsonl", "")
  trials = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
  assert trials
  for name, rest_s, _ in trials:
    assert name in {**arm_wall_clock.DRIVER, **arm_wall_clock.DRIVER_SIGNALS}
    assert rest_s is None or 0.0 < rest_s < 1.2 + SLACK_S
  times = {"it hangs": [0.1, 0.2, 0.3, np.inf, None, None], "it bites": [None]}
  assert list(arm_wall_clock.table(times))[2:] == [
    "| it hangs | 4 | 200 | 298 | 300 | 1 | 2 |",
    "| it bites | 0 | - | - | - | 0 | 1 |",
  ]
