"""Episodes on a driver: the simulation's tasks, fed by an arm's instruments."""

import contextlib
import dataclasses
import threading

import dm_env
import jax
import numpy as np
import pytest
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import tensor_utils

from environments.arm import desk, mailbox, protocol, recording, safety, twin, workspace, world
from environments.jaco import constants, kinematics, tasks
from environments.jaco import world as simulation
from tests.environments import arm_route_test, oracle


class PuppetDriver:
  """Nine joints that go exactly where they are told, at once and for free."""

  def __init__(self):
    self.time_s = 0.0
    self.qpos, self.velocity, self.target = constants.HOME_RAD.copy(), np.zeros(9), np.zeros(3)
    self.num_images = 0
    self.is_placed = True  # Put where an episode starts, as a simulated arm is.
    self.is_stuck = False

  def now_s(self):
    return self.time_s

  def reset(self, qpos_rad, *, seed):
    self.velocity = np.zeros(9)
    if self.is_placed:
      self.qpos = qpos_rad.copy()
    return self.is_placed

  def place_target(self, target_in_base_m):
    self.target = target_in_base_m

  def command(self, velocity_rad_s):
    self.velocity = velocity_rad_s

  def stop(self):
    self.velocity = np.zeros(9)

  def wait(self, until_s):
    if not self.is_stuck:
      self.qpos = self.qpos + self.velocity * (until_s - self.time_s)
    self.time_s = until_s

  def read(self):
    return protocol.Reading(self.time_s, self.qpos.copy(), self.velocity, self.target)

  def image(self, reading):
    self.num_images += 1
    return np.zeros((64, 64, 3), np.uint8)

  def close(self):
    pass


@pytest.fixture
def driver():
  return PuppetDriver()


def make_world(driver, task="reach/random", **options):
  # The gate's own tests cover acceleration and jerk (`arm_safety_test`).
  limits = dataclasses.replace(safety.jaco_limits(), max_acceleration_rad_s2=1e6, max_jerk_rad_s3=1e12)
  image = getattr(driver, "image", None)  # The twin's camera is not used here.
  return world.ArmWorld(safety.Gate(driver, limits), image, tasks.TASKS[task], **options)


REST = np.ones(9, np.int32)
MOVING = ("reach/moving", "conveyor", "catch", "catch_the_bee")


def test_an_action_moves_each_joint_by_its_speed_for_one_period(driver):
  arm = make_world(driver)
  arm.step(None)
  start = driver.qpos.copy()
  action = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2], np.int32)
  arm.step(action)
  np.testing.assert_allclose(driver.qpos - start, (action - 1) * constants.COMMAND_RAD_S * 0.1, atol=1e-9)
  assert driver.time_s == pytest.approx(0.1)


def test_commands_are_the_simulations(driver):
  arm = make_world(driver)
  arm.step(None)
  for action in np.random.default_rng(0).integers(0, 3, (5, 9), dtype=np.int32):
    arm.step(action)
    np.testing.assert_allclose(driver.velocity, simulation.command(action), rtol=1e-6)


def test_six_joints_leave_the_fingers_at_rest(driver):
  arm = make_world(driver, num_joints=6)
  assert arm.action_spec().shape == (6,)
  arm.step(None)
  arm.step(np.full(6, 2, np.int32))
  assert driver.velocity[:6].all()
  assert not driver.velocity[6:].any()


def test_it_pays_and_ends_as_the_task_says(driver):
  """Every step is compared with `tasks.evaluate` of what the driver shows. The driver is noiseless."""
  arm = make_world(driver)
  act = jax.jit(lambda qpos, target: oracle.act(qpos, target, num_joints=9))
  evaluate = jax.jit(lambda qpos, target, elapsed: tasks.evaluate(tasks.TASKS["reach/random"], qpos, target, elapsed))
  rng, total, endings = np.random.default_rng(0), 0.0, set()
  for _ in range(6):
    for elapsed in range(51):
      toward = np.asarray(act(*shown(driver)))
      step_type, reward, discount = arm.step(toward if rng.random() < 0.7 else rng.integers(0, 3, 9, dtype=np.int32))
      expected = evaluate(*shown(driver), np.int32(elapsed))
      assert (int(step_type), reward, discount) == (expected.step_type, expected.reward, expected.discount)
      total += reward
      if step_type.last():
        endings.add(discount)
        break
    assert step_type.last()
  assert total > 20  # The oracle's share of the actions reaches the target.
  assert 1.0 in endings


def shown(driver):
  return driver.qpos.astype(np.float32), driver.target.astype(np.float32)


@pytest.fixture(scope="module")
def exact_twin():
  config = twin.TwinConfig(qpos_noise_rad=0.0, qvel_noise_rad_s=0.0, target_noise_m=0.0)
  with contextlib.closing(twin.Twin(config)) as driver:
    yield driver


@pytest.mark.parametrize("task", MOVING)
def test_a_target_goes_the_same_way_on_the_twin_as_in_the_simulation(exact_twin, task):
  """The second episode of a seed, drawn as `world.ArmWorld` draws it, is played in the simulation too."""
  simulated = simulation.Jaco(tasks.TASKS[task], num_threads=1)
  start_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(3), 1))
  start = jax.jit(tasks.draw_start, static_argnums=0)(tasks.TASKS[task], start_key)
  state = jax.jit(simulated.reset)(jax.random.key(0)).replace(qpos=start.qpos, target=start.target)
  step, look = jax.jit(simulated.step), jax.jit(lambda state: simulated.observe(state).observation["target"])
  arm = make_world(exact_twin, task=task, seed=3)
  arm.step(None)
  arm.restart()
  arm.step(None)
  np.testing.assert_allclose(exact_twin.read().qpos_rad, start.qpos, atol=1e-6)
  for _ in range(50):
    np.testing.assert_allclose(exact_twin.read().target_in_base_m, look(state), atol=1e-6)
    np.testing.assert_allclose(arm.observe(["target"])["target"], look(state), atol=1e-6)
    state = step(state, REST)
    arm.step(REST)


def test_a_target_moves_with_the_steps_and_one_at_rest_is_placed_once(driver):
  places = []
  driver.place_target = lambda target: places.append(target) or PuppetDriver.place_target(driver, target)
  for task, num_places in (("reach/random", 1), ("conveyor", 4)):
    arm = make_world(driver, task=task)
    places.clear()
    for action in (None, REST, REST, None):  # An empty action is a step too.
      arm.step(action)
    with pytest.raises(safety.CommandRefusedError):  # No time passes.
      arm.step(np.full(9, 3, np.int32))
    assert len(places) == num_places
    assert (np.abs(np.diff(places, axis=0)).max(-1) > 0.005).all()


def test_after_the_last_step_the_arm_rests_and_a_new_episode_begins(driver):
  arm = make_world(driver)
  for _ in range(51):
    step_type, _, _ = arm.step(REST)
  assert step_type.last()
  assert arm.is_over
  assert arm.step(np.full(9, 77))[0] is dm_env.StepType.FIRST  # Its action is ignored.


def test_the_same_seed_gives_the_same_episodes(driver):
  arm = make_world(driver)
  starts = []
  for seed in (7, 8, 7):
    arm.seed(seed)
    for _ in range(2):
      arm.step(None)
      starts.append(np.concatenate([driver.qpos, driver.target]))
      arm.restart()
  np.testing.assert_array_equal(starts[:2], starts[4:])
  assert len({tuple(start) for start in starts}) == 4


def test_observations_are_made_only_when_asked_for(driver):
  arm = make_world(driver)
  arm.step(None)
  arm.step(REST)
  seen = arm.observe(["proprioception", "target"])
  assert driver.num_images == 0
  expected = np.concatenate([np.sin(driver.qpos), np.cos(driver.qpos), driver.velocity / constants.COMMAND_RAD_S])
  np.testing.assert_allclose(seen["proprioception"], expected, atol=1e-6)
  np.testing.assert_allclose(seen["target"], driver.target, atol=1e-6)
  for name, value in arm.observe(arm.observation_spec()).items():
    arm.observation_spec()[name].validate(value)


def test_an_observation_that_the_arm_has_not_is_refused_by_name(driver):
  arm = make_world(driver)
  arm.step(None)
  with pytest.raises(
    protocol.BridgeError, match="'palm' is not offered; the arm has pixels, proprioception, target, jitter"
  ):
    arm.observe(["target", "palm"])


@pytest.mark.parametrize(
  ("action", "word"),
  [
    (np.full(9, np.nan, np.float32), "NaN"),
    (np.full(9, 1.0, np.float32), "float32"),
    (np.ones(9, np.int64), "int64"),
    (np.ones(8, np.int32), r"\(8,\)"),
    (np.ones((9, 1), np.int32), r"\(9, 1\)"),
    (np.full(9, 3, np.int32), "from 0 to 2"),
    (np.full(9, -1, np.int32), "from 0 to 2"),
  ],
)
def test_what_is_not_an_action_is_refused_and_the_arm_held(driver, action, word):
  arm = make_world(driver)
  arm.step(None)
  arm.step(np.full(9, 2, np.int32))
  time_s = driver.time_s
  with pytest.raises(safety.CommandRefusedError, match=word):
    arm.step(action)
  assert driver.time_s == time_s
  qpos = driver.qpos
  assert arm.step(REST)[0] is dm_env.StepType.MID  # The episode goes on.
  np.testing.assert_array_equal(driver.qpos, qpos)


def test_periods_keep_their_rate_and_a_late_client_starts_a_new_one(driver):
  arm = make_world(driver)
  arm.step(None)
  driver.time_s += 0.03  # The client thinks.
  arm.step(REST)
  assert driver.time_s == pytest.approx(0.1)
  driver.time_s += 0.27
  arm.step(REST)
  assert driver.time_s == pytest.approx(0.1 + 0.27 + 0.1)


def test_jitter_is_what_periods_and_commands_are_late_by(driver):
  """The client thinks on the driver's clock. Commands are due every 25 ms.

  A step's last command is sent before its end: after 75 ms of 100, or 50 ms of the 70 that are left to a late client.
  """
  arm = make_world(driver)
  seen = []
  for thinks_s, is_wanted in ((0.0, True), (0.0, True), (0.03, True), (0.27, True), (0.0, True), (0.0, False)):
    driver.time_s += thinks_s
    end_s = driver.time_s + 0.05
    with contextlib.nullcontext() if is_wanted else pytest.raises(world.CutShortError):
      arm.step(REST, is_wanted=lambda until_s=end_s, is_wanted=is_wanted: is_wanted or driver.time_s < until_s)
    seen.append(arm.observe([protocol.JITTER])[protocol.JITTER])
  late_for_next = 0.27 + 0.1 - (0.03 + 0.05) - 0.025  # From the third step's last command to the fourth's first one.
  np.testing.assert_allclose(
    seen, [[0, 0], [0, 0], [0, 0.03], [0.27, late_for_next], [0, 0], [-0.05, 0]], rtol=0, atol=1.1e-6
  )
  arm.restart()
  driver.time_s += 5.0
  arm.step(None)
  assert arm.observe([protocol.JITTER])[protocol.JITTER][0] == 0.0  # No period ends with an episode's start.


def test_jitter_is_nothing_on_simulated_time(exact_twin):
  """It is exactly 0, whatever the twin's clock, a sum of steps of 5 ms, has rounded."""
  arm = make_world(exact_twin)
  for action in np.random.default_rng(0).integers(0, 3, (120, 9), dtype=np.int32):
    arm.step(action)
    np.testing.assert_array_equal(arm.observe([protocol.JITTER])[protocol.JITTER], np.zeros(2, np.float32))
  assert exact_twin.now_s() > 11.0


def test_preparing_does_not_move_the_arm(driver):
  def moves(*_, **__):
    raise AssertionError("the arm was moved")

  arm_world = make_world(driver)
  driver.command = driver.reset = moves
  arm_world.prepare()
  assert driver.num_images == 1


def test_an_arm_goes_to_the_start_of_an_episode_slowly(driver):
  arm = make_world(driver)
  driver.is_placed = False
  driver.qpos = constants.HOME_RAD + [2 * np.pi - 0.2, 0.3, -0.3, 0.1, 0.1, 4 * np.pi + 0.5, 0.3, 0.3, 0.3]
  before, told = driver.qpos, []
  command = driver.command
  driver.command = lambda velocity: (told.append(velocity), command(velocity))
  assert arm.step(None)[0] is dm_env.StepType.FIRST
  placed = PuppetDriver()
  make_world(placed).step(None)
  gap = np.where(constants.IS_LIMITED, driver.qpos - placed.qpos, np.sin(driver.qpos - placed.qpos))
  assert np.abs(gap).max() <= 0.02
  assert np.abs(driver.qpos - before).max() < np.pi  # Not the long way round.
  assert (np.abs(told) <= constants.COMMAND_RAD_S / 2 + 1e-9).all()
  assert np.abs(told).max() > 0.1
  arm.step(np.full(9, 2, np.int32))  # It goes on from there.
  assert driver.velocity.all()


def test_joints_that_nobody_commands_rest_on_the_way_to_a_start_too(driver):
  arm = make_world(driver, num_joints=6)
  driver.is_placed = False
  driver.qpos = constants.HOME_RAD + [0.3, 0, 0, 0, 0, 0, 0.4, -0.4, 0.2]
  before = driver.qpos.copy()
  assert arm.step(None)[0] is dm_env.StepType.FIRST
  assert abs(driver.qpos[0] - before[0]) > 0.1
  np.testing.assert_array_equal(driver.qpos[6:], before[6:])


def test_an_arm_that_does_not_get_to_the_start_is_given_up(driver):
  arm = make_world(driver)
  driver.is_placed, driver.is_stuck = False, True
  driver.qpos = driver.qpos + 0.5
  with pytest.raises(protocol.BridgeError, match="did not come to the start of the episode: joint .* after 60 s"):
    arm.step(None)
  arm.hold()
  driver.is_stuck = False
  assert arm.step(None)[0] is dm_env.StepType.FIRST


@pytest.mark.parametrize("here_rad", [constants.HOME_RAD, arm_route_test.FOLDED])
def test_behind_its_gate_an_arm_comes_to_every_start_and_home(driver, here_rad):
  """This includes a start where the arm is too near itself for the gate."""
  limits, seed = safety.jaco_limits(), 31
  arm = world.ArmWorld(safety.Gate(driver, limits), driver.image, tasks.TASKS["reach/random"], seed=seed)
  assert limits.clearance_m(start_of(driver, arm)) < 0.01
  driver.is_placed, driver.qpos = False, here_rad
  for _ in range(2):
    arm.seed(seed)
    assert arm.step(None)[0] is dm_env.StepType.FIRST
    assert limits.margin_m < limits.clearance_m(driver.qpos) < 0.05  # As near as it may come.
    arm.restart()
    list(arm.go_home(after_s=0.0, is_wanted=always))
    assert off_home_rad(driver) < 0.03


def test_an_arm_that_is_pushed_off_its_way_finds_another(driver):
  """From where it is pushed to, the rest of its old way is blocked."""
  arm = world.ArmWorld(safety.Gate(driver, safety.jaco_limits()), driver.image, tasks.TASKS["reach/fixed"])
  driver.is_placed = False
  arm.step(None)
  driver.qpos = constants.HOME_RAD + 0.3
  arm.restart()
  for num_parts, _ in enumerate(arm.go_home(after_s=0.0, is_wanted=always)):
    if num_parts == 10:
      driver.qpos = arm_route_test.FOLDED
  assert num_parts > 10
  assert off_home_rad(driver) < 0.03


def test_a_workspace_too_small_for_home_is_refused(driver):
  """An arm that is never clear could not reach any start."""
  narrow = workspace.Workspace(high_m=(1.0, 1.0, constants.TABLE_HEIGHT_M + 0.5)).clearance_m
  limits = dataclasses.replace(safety.jaco_limits(), clearance_m=narrow)
  with pytest.raises(protocol.BridgeError, match=r"home is -0\.\d\d m from .* must be 0\.03 m; .*") as refusal:
    world.ArmWorld(safety.Gate(driver, limits), driver.image, tasks.TASKS["reach/fixed"])
  assert "\n" not in str(refusal.value)


def test_a_reading_from_before_an_arm_was_put_at_its_start_takes_it_nowhere(driver):
  """As happens where instruments are read on their own thread."""
  gate = safety.Gate(driver, safety.jaco_limits(), read=lambda: driver.read())
  arm = world.ArmWorld(gate, driver.image, tasks.TASKS["reach/random"], seed=31)
  start = start_of(driver, arm)
  driver.qpos, driver.time_s, old = constants.HOME_RAD.copy(), 1.0, [constants.HOME_RAD] * 2
  read, reset = driver.read, driver.reset

  def reset_unseen(qpos_rad, *, seed):
    driver.read = lambda: read()._replace(qpos_rad=old.pop(), time_s=0.98) if old else read()
    return reset(qpos_rad, seed=seed)

  driver.reset = reset_unseen
  arm.seed(31)
  gate.told()
  arm.step(None)
  assert not old
  assert not any(one.allowed_rad_s.any() for one in gate.told())
  np.testing.assert_array_equal(driver.qpos, start)
  np.testing.assert_array_equal(arm.reading.qpos_rad, start)


def off_home_rad(driver):
  """How far off the farthest joint is. Joints without limits may have turned."""
  off = driver.qpos - constants.HOME_RAD
  return np.abs(np.where(constants.IS_LIMITED, off, np.sin(off))).max()


def start_of(driver, arm):
  """Where the arm's next episode puts a simulated arm."""
  arm.step(None)
  arm.restart()
  return driver.qpos.copy()


def away(driver, **options):
  """The world of an arm that nobody places anywhere, after an episode that moved it from home for two seconds."""
  arm = make_world(driver, task="reach/fixed", **options)
  driver.is_placed = False
  arm.step(None)
  for _ in range(20):
    arm.step(np.array([2, 0, 2, 1, 1, 2, 2, 0, 2][: arm.action_spec().shape[0]], np.int32))
  assert np.abs(driver.qpos - constants.HOME_RAD).max() > 0.5
  arm.restart()
  return arm


def always():
  return True


def test_an_arm_that_nobody_has_is_held_and_then_goes_home_slowly(driver):
  arm, told = away(driver), []
  command, start_s = driver.command, driver.time_s
  driver.command = lambda velocity: (told.append((driver.time_s - start_s, velocity)), command(velocity))
  said, before_s = [], driver.time_s
  for words in arm.go_home(after_s=2.0, is_wanted=always):
    assert driver.time_s - before_s < 0.05 + 1e-6  # One part at a time.
    before_s = driver.time_s
    said += [(words, driver.time_s - start_s)] if words else []
  (goes, goes_s), (is_there, is_there_s) = said
  assert (goes, is_there) == ("the arm goes home", "the arm is home")
  assert 2.0 - 1e-6 <= goes_s < 2.05 + 1e-6
  assert not any(velocity.any() for time_s, velocity in told if time_s < goes_s - 1e-6)
  arm._gate.wait(driver.time_s + 0.05)
  assert np.abs(driver.qpos - constants.HOME_RAD).max() <= 0.02 and not driver.velocity.any()
  speeds = np.abs([velocity for _, velocity in told])
  assert (speeds <= constants.COMMAND_RAD_S / 2 + 1e-9).all() and speeds.max() > 0.1
  assert 0.6 / 0.15 < is_there_s - goes_s < 10.0  # 0.6 rad at half of 0.3 rad/s, and slower at its end.
  assert list(arm.go_home(after_s=0.0, is_wanted=always)) == []  # It is there.
  assert arm.step(None)[0] is dm_env.StepType.FIRST


def test_an_arm_that_no_episode_has_moved_does_not_go_home(driver):
  driver.is_placed, driver.qpos = False, driver.qpos + 1.0
  driver.command = lambda _: pytest.fail("it was moved")
  arm = make_world(driver)
  arm.seed(3)
  arm.restart()
  assert list(arm.go_home(after_s=0.0, is_wanted=always)) == []


def test_fingers_that_nobody_commands_do_not_go_home_either(driver):
  arm = away(driver, num_joints=6)
  driver.qpos = driver.qpos + [*np.zeros(6), 0.4, -0.4, 0.2]
  fingers = driver.qpos[6:].copy()
  *_, last = arm.go_home(after_s=0.0, is_wanted=always)
  assert last == "the arm is home"
  assert np.abs(driver.qpos - constants.HOME_RAD)[:6].max() <= 0.02
  np.testing.assert_array_equal(driver.qpos[6:], fingers)


def test_the_way_home_ends_where_nobody_asks_for_more_of_it(driver):
  arm = away(driver)
  way, said = arm.go_home(after_s=0.0, is_wanted=always), []
  while len(said) < 20:
    said.append(next(way))
  assert said[0] == "the arm goes home" and driver.velocity.any()
  arm._gate.wait(driver.time_s + 0.3)  # The last command expires.
  assert not driver.velocity.any()
  next(way)  # It goes on,
  arm._gate.wait(driver.time_s + 0.05)
  assert driver.velocity.any()
  arm.seed(0)  # until the next client is there.
  arm._gate.wait(driver.time_s + 0.05)
  assert not driver.velocity.any()


@pytest.mark.parametrize("after_s", [0.0, 10.0])
def test_a_part_of_the_way_home_is_over_when_something_else_waits(driver, after_s):
  arm = away(driver)
  start_s = driver.time_s
  for _, words in zip(range(5), arm.go_home(after_s=after_s, is_wanted=lambda: False), strict=False):
    assert driver.time_s == start_s, words


def test_an_arm_that_does_not_get_home_is_given_up_at_once(driver):
  arm = away(driver)
  driver.is_stuck = True
  way = arm.go_home(after_s=0.0, is_wanted=always)
  with pytest.raises(protocol.BridgeError, match="the arm did not come home: joint . is .* after 60 s"):
    list(way)
  assert list(way) == []
  arm._gate.wait(driver.time_s + 0.05)
  assert not driver.velocity.any()


def test_nobody_who_waits_means_no_way_to_the_start(driver):
  arm = make_world(driver)
  driver.is_placed = False
  driver.qpos = driver.qpos + 1.0
  with pytest.raises(protocol.BridgeError, match="nobody waits for the step any more; the arm was held"):
    arm.step(None, is_wanted=lambda: driver.time_s < 0.5)
  assert 0.5 <= driver.time_s < 0.5 + 0.025 + 1e-6  # One poll.


def test_nobody_who_waits_means_no_rest_of_a_step(driver):
  arm = make_world(driver)
  arm.step(None)
  start_s = driver.time_s
  with pytest.raises(protocol.BridgeError, match="nobody waits"):
    arm.step(np.full(9, 2, np.int32), is_wanted=lambda: driver.time_s < start_s + 0.03)
  assert driver.time_s == pytest.approx(start_s + 0.05)  # The second poll of four.
  arm._gate.wait(start_s + 0.1)
  assert not driver.velocity.any()  # Though the command would hold for longer.


@pytest.mark.parametrize("is_over", [False, True])
def test_what_nobody_waits_for_moves_nothing(driver, is_over):
  arm = make_world(driver)
  if not is_over:
    arm.step(None)
  calls = []
  driver.command = driver.reset = lambda *_, **__: calls.append("moved")
  with pytest.raises(protocol.BridgeError, match="nobody waits"):
    arm.step(np.full(9, 2, np.int32), is_wanted=lambda: False)
  assert not calls


def test_a_command_holds_for_as_long_as_said(driver):
  arm = make_world(driver, valid_for_s=0.3)
  arm.step(None)
  arm.step(np.full(9, 2, np.int32))
  arm._gate.wait(0.28)
  assert driver.velocity.all()
  arm._gate.wait(0.4)
  assert not driver.velocity.any()


def test_a_tracked_target_is_paid_and_shown_and_one_out_of_sight_holds_the_arm():
  """The driver believes that the target is elsewhere. The camera is asked once a step."""
  driver, far, places = PuppetDriver(), np.array([0.6, 0.2, 0.2]), []
  palm = np.asarray(kinematics.palm(kinematics.forward(np.float32(constants.HOME_RAD))))

  def track(pixels, time_s):
    assert pixels.shape == (64, 64, 3) and time_s == driver.time_s
    if not places:
      raise protocol.BridgeError("the target has not been seen")
    return places.pop(0)

  gate = safety.Gate(driver, safety.jaco_limits())
  task = dataclasses.replace(tasks.TASKS["reach/fixed"], max_start_spread_rad=0.0)
  arm = world.ArmWorld(gate, driver.image, task, track=track)
  arm.prepare()
  num_images = driver.num_images
  places += [far, palm, far]
  rewards = [arm.step(np.full(9, 1, np.int32))[1] for _ in range(3)]
  assert rewards == [0.0, 1.0, 0.0]
  np.testing.assert_allclose(arm.observe(["pixels", "target"])["target"], far, atol=1e-6)
  assert driver.num_images == num_images + 3
  with pytest.raises(protocol.BridgeError, match="the target has not been seen"):
    arm.step(np.full(9, 2, np.int32))
  for _ in range(20):
    gate.wait(gate.now_s() + 0.025)
  assert not driver.velocity.any()
  assert arm.is_over


def tracked(places, task="reach/fixed"):
  """A world whose camera sees the target at each of `places` in turn, and sees none where the place is None."""

  def track(pixels, time_s):
    place = places.pop(0)
    if place is None:
      raise protocol.BridgeError("the target has not been seen")
    return place

  return make_world(PuppetDriver(), task=task, track=track)


SEEN = np.array([0.45, 0.0, 0.2])


def test_an_episode_whose_start_is_not_seen_has_not_begun():
  """The conveyor's path has as many places as an episode has steps: an old count of steps would run out of it."""
  arm = tracked([SEEN] * 51 + [None] + [SEEN] * 2, task="conveyor")
  step_type = arm.step(None)[0]
  while not step_type.last():
    step_type = arm.step(REST)[0]
  with pytest.raises(protocol.BridgeError, match="the target has not been seen"):
    arm.step(REST)
  assert [arm.step(REST)[0] for _ in range(2)] == [dm_env.StepType.FIRST, dm_env.StepType.MID]


@pytest.mark.parametrize("nowhere", [np.full(3, np.nan), np.array([0.4, np.inf, 0.2])])
def test_a_non_finite_target_cuts_the_step_short(driver, nowhere):
  arm = make_world(driver, task="reach/fixed")
  assert [arm.step(REST)[0] for _ in range(2)] == [dm_env.StepType.FIRST, dm_env.StepType.MID]
  place, driver.place_target, driver.target = driver.target, lambda place: None, nowhere
  with pytest.raises(
    world.CutShortError, match=r"the driver says that the target is at \[.*\] m; the arm was held"
  ) as cut:
    arm.step(np.full(9, 2, np.int32))
  assert cut.value.reward is not None
  np.testing.assert_allclose(arm.observe(["target"])["target"], place, atol=1e-6)  # Where it was seen last.
  with pytest.raises(protocol.BridgeError, match="the driver says that the target is at"):
    arm.step(REST)  # Nor does another episode begin.
  driver.target = place
  assert arm.step(REST)[0].first()


def test_a_step_whose_end_is_not_seen_is_recorded_as_cut_short():
  """The desk, which answers clients, records it, as the arm has moved. The next step begins an episode."""
  arm, client, recorded = tracked([SEEN, SEEN, None, SEEN]), threading.Event(), []
  with contextlib.closing(mailbox.Mailbox()) as calls:
    counter = desk.Desk(
      arm, calls, threading.Event(), recorded.append, task="reach/fixed", seed=0, lease_s=9.0, home_after_s=np.inf
    )
    join = rpc.EnvironmentRequest(join_world=rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME))
    assert counter.answer(client, join).WhichOneof("payload") == "join_world"
    action = {1: tensor_utils.pack_tensor(np.full(9, 2, np.int32))}
    go = rpc.EnvironmentRequest(step=rpc.StepRequest(actions=action))
    kinds = [counter.answer(client, go).WhichOneof("payload") for _ in range(4)]
  assert kinds == ["step", "step", "error", "step"]
  steps = [one for one in recorded if isinstance(one, recording.Step)]
  assert [one.step_type for one in steps] == [dm_env.StepType(kind) for kind in (0, 1, 1, 0)]
  assert [one.is_cut_short for one in steps] == [False, False, True, False]
  moved = steps[2].reading.qpos_rad - steps[1].reading.qpos_rad
  np.testing.assert_allclose(moved, constants.COMMAND_RAD_S * 0.1, atol=1e-9)
  np.testing.assert_array_equal(steps[2].reading.target_in_base_m, SEEN)


def test_observations_that_violate_their_spec_are_refused_before_anybody_joins(driver):
  driver.image = lambda reading: np.zeros((480, 640, 3), np.uint8)
  with pytest.raises(
    protocol.BridgeError, match=r"gives 'pixels' of another form than is offered, .*480, 640"
  ) as wrong:
    make_world(driver).prepare()
  assert "\n" not in str(wrong.value)
