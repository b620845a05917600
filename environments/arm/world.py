"""A task played on a driver: the episodes behind the bridge.

The simulation's own code draws the start of an episode and the motion of its target, pays rewards and ends episodes.
Here it is fed with the readings of the arm's instruments. A step commands the arm's velocities, sends a moving target
on its way, and waits for the end of the control period. Steps therefore come at a fixed rate on the driver's clock. If
a client is late, a new period starts with its command.
"""

import functools
from collections.abc import Callable, Collection, Iterator

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from environments.arm import driver, protocol, route, safety
from environments.jaco import constants, tasks
from environments.jaco import world as simulation

# The way to the start of an episode, or home, goes at half of an action's speed. We chose these numbers.
_GO_TO_NEAR_RAD = 0.02
_GO_TO_POLL_S = 0.05
_GO_TO_S = 60.0
_GO_TO_STUCK_S = 1.5  # An arm that has come no nearer for this long looks for another way.


class CutShortError(protocol.BridgeError):
  """A step ended early, and its episode with it; the arm was held.

  `reward` is what the task pays at the arm's position then. It is None if the step had not begun, or was the way to a
  start.
  """

  def __init__(self, why: str, reward: float | None = None):
    super().__init__(why)
    self.reward = reward


class ArmWorld:
  """Episodes of `task` on the arm behind `gate`. Not a `dm_env.Environment`: observations are made when asked for.

  The start of episode n and the path of its target depend only on the seed and n.
  """

  def __init__(
    self,
    gate: safety.Gate | driver.RemoteGate,
    image: Callable[[protocol.Reading], np.ndarray],
    task: tasks.Task,
    *,
    num_joints: int = constants.NUM_JOINTS,
    seed: int = 0,
    valid_for_s: float = 0.15,
    track: Callable[[np.ndarray, float], np.ndarray] | None = None,
  ):
    """Plays on the arm behind `gate`; `image` takes its pictures; a command holds for `valid_for_s`.

    `track` finds the target in a picture, given the picture and its time, in place of the arm's instruments.
    """
    if (num_read := len(gate.limits.low_rad)) != constants.NUM_JOINTS:
      raise protocol.BridgeError(
        f"the driver's limits are of {num_read} joints, a Jaco has {constants.NUM_JOINTS}, fingers included; how many "
        f"of them are driven is --num_joints"
      )
    self._gate, self._image, self._track = gate, image, track
    self.now_s, self.poll, self.told = gate.now_s, gate.poll, gate.told
    self._valid_for_s = valid_for_s
    simulated = simulation.Jaco(task, num_joints=num_joints, physics_kind="mujoco", num_threads=1)
    self._observers: dict[str, Callable[[], np.ndarray]] = {
      "pixels": self._look_through_camera,
      "proprioception": lambda: self._proprioception,
      "target": lambda: self._target,
      protocol.JITTER: lambda: self._jitter,
    }
    offered = {**simulated.observation_spec(), protocol.JITTER: specs.Array((2,), np.float32, name=protocol.JITTER)}
    self._observation_spec = {name: offered[name] for name in self._observers}
    self._action_spec = simulated.action_spec()
    self._routes = route.Routes(gate.limits, num_joints)
    self._is_moving = task.is_moving
    self._task = task
    self._period_end_s = self._step_end_s = gate.now_s()
    self._elapsed = 0
    self._is_away = False  # Whether an episode has moved the arm from where it was found, or from home.
    # The last reading, once there is one, and the observations made from it.
    self.reading: protocol.Reading
    self._pixels: np.ndarray | None = None
    self._target: np.ndarray
    self._proprioception: np.ndarray
    self._jitter = np.zeros(2, np.float32)
    self.is_over = True  # Whether the next step starts an episode, regardless of its action.
    self.asked_rad_s = np.zeros(constants.NUM_JOINTS)  # What the last step's action asked for, [9].
    self.seed(seed)

  def prepare(self) -> None:
    """Compiles and allocates what the first episode needs, before a client waits for it. Nothing moves.

    Raises:
      protocol.BridgeError: if the driver or its camera shows something that does not match its spec.
    """
    _draw_start(self._task, np.uint32(0), np.uint32(0))
    self._read()
    self._judge(0)
    for name, value in self.observe(self._observers).items():
      try:
        self._observation_spec[name].validate(value)
      except ValueError as error:
        raise protocol.BridgeError(
          f"the driver or its camera gives {name!r} of another form than is offered, correct it there: {error}"
        ) from None

  def seed(self, seed: int) -> None:
    """Starts the sequence of episodes of `seed`. The next step is the first one of its first episode."""
    self._seed = seed
    self._num_episodes = 0
    self.restart()

  def restart(self) -> None:
    """Leaves the episode. The arm holds still, and the next step starts a new episode."""
    self._gate.hold()
    self.is_over = True

  def observation_spec(self) -> dict[str, specs.Array]:
    """The simulation's specs of what the arm's instruments show, and `protocol.JITTER`."""
    return self._observation_spec

  def action_spec(self) -> specs.BoundedArray:
    """The simulation's spec: int32 `[A]`, 0, 1, 2 for -v, 0, +v."""
    return self._action_spec

  def step(
    self, action: np.ndarray | None, *, is_wanted: Callable[[], bool] = lambda: True
  ) -> tuple[dm_env.StepType, float, float]:
    """Plays one control period with `action`, int32 `[A]`, or at rest for None. After LAST, it starts an episode.

    Args:
      action: `[A]`.
      is_wanted: whether anybody still waits for the step; it is called all the time, and the step ends as soon as
        nobody waits.

    Returns:
      Step type, and reward and discount of the transition that led to this step.

    Raises:
      safety.CommandRefusedError: if `action` is not an action. The arm holds still and no time passes.
      protocol.BridgeError: if the arm did not come to the start of the episode, or nobody knows where the target is
        then. The arm holds still, and the next step tries the next start.
      CutShortError: if nobody waits any more, or nobody knows where the target is. The arm holds still. `reading` and
        the observations are from that moment; a lost target is where it was last seen.
    """
    self._check_wanted(is_wanted)  # A late request of a client that is gone moves nothing.
    if self.is_over:
      return self._start(is_wanted)
    now_s, self.asked_rad_s = self._gate.now_s(), self._velocities(action)
    self._gate.command(self.asked_rad_s, expires_s=now_s + self._valid_for_s)
    if self._is_moving:
      self._gate.place_target(self._path[self._elapsed + 1])
    is_late = now_s > self._period_end_s + constants.CONTROL_DT_S
    self._period_end_s = (now_s if is_late else self._period_end_s) + constants.CONTROL_DT_S
    target = self.reading.target_in_base_m
    try:
      self._wait(self._period_end_s, is_wanted)
    except CutShortError as cut:
      self._measure()
      self._read()  # There is no time for a picture.
      raise self._cut_short(cut, target) from None
    self._measure()
    try:
      step_type, reward, discount = self._look(self._elapsed + 1)
    except protocol.BridgeError as error:
      raise self._cut_short(error, target) from None
    if step_type.last():
      self.restart()
    return step_type, reward, discount

  def observe(self, names: Collection[str]) -> dict[str, np.ndarray]:
    """The named observations of the last step; `protocol.BridgeError` for a name that the arm does not offer."""
    for name in names:
      if name not in self._observers:
        raise protocol.BridgeError(f"observation {name!r} is not offered; the arm has {', '.join(self._observers)}")
    return {name: self._observers[name]() for name in names}

  def hold(self) -> None:
    """Brakes the arm to rest. The episode goes on."""
    self._gate.hold()

  def go_home(self, *, after_s: float, is_wanted: Callable[[], bool]) -> Iterator[str]:
    """Holds the arm for `after_s`, then moves it to `constants.HOME_RAD` as to a start, unless no episode moved it.

    This is a generator. Each `next` does a part of the work and gives a message, mostly an empty one. A part takes
    `_GO_TO_POLL_S` on the driver's clock, or ends sooner if `is_wanted` says so. A caller that asks for no more items
    must hold the arm.

    Raises:
      protocol.BridgeError: if the arm did not come home. It holds still.
    """
    if not self._is_away:
      return
    hold_until_s = self._gate.now_s() + after_s
    while (now_s := self._gate.now_s()) < hold_until_s:
      self._gate.wait(now_s + _GO_TO_POLL_S, is_wanted=is_wanted)
      yield ""
    yield "the arm goes home"
    for _ in self._approach(constants.HOME_RAD, "home", is_wanted):
      yield ""
    self._is_away = False
    yield "the arm is home"

  def _start(self, is_wanted: Callable[[], bool]) -> tuple[dm_env.StepType, float, float]:
    qpos, path, noise_seed = _draw_start(self._task, np.uint32(self._seed), np.uint32(self._num_episodes))
    self._num_episodes += 1
    self._path = np.asarray(path, np.float64)
    self._is_away = True
    start = np.asarray(qpos, np.float64)
    is_placed, placed_s = self._gate.reset(start, seed=int(noise_seed)), self._gate.now_s()
    self._gate.place_target(self._path[0])
    if is_placed:
      while self._gate.read().time_s < placed_s:  # It may still show where the arm was before.
        self._wait(self._gate.now_s() + _GO_TO_POLL_S, is_wanted)
    else:
      for _ in self._approach(start, "to the start of the episode", is_wanted):
        self._check_wanted(is_wanted)
    self._period_end_s = self._gate.now_s()
    self._measure()
    self._jitter[0] = 0.0
    self.asked_rad_s = np.zeros(constants.NUM_JOINTS)
    outcome = self._look(0)
    self.is_over = False  # Now it has begun.
    return outcome

  def _approach(self, qpos_rad: np.ndarray, where: str, is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Moves the arm to `qpos_rad`, `[9]`, slowly, a part of the way at a time; `where` names that place in words.

    If the arm cannot be there, it comes as near as the straight way from home is clear. Joints without limits go the
    short way. Joints that the client does not command rest where they are.
    """
    give_up_s = self._gate.now_s() + _GO_TO_S
    way = self._way(qpos_rad)
    nearest_rad = nearest_s = np.inf
    while way:
      now_s, gap = self._gate.now_s(), self._routes.gap(self._gate.read().qpos_rad, way[0])
      farthest = int(np.abs(gap).argmax())
      away_rad = abs(gap[farthest])
      if away_rad <= _GO_TO_NEAR_RAD:
        way, nearest_rad = way[1:], np.inf
        continue
      if now_s > give_up_s:
        self._gate.hold()
        raise protocol.BridgeError(
          f"the arm did not come {where}: joint {farthest + 1} is {gap[farthest]:.2f} rad away "
          f"after {now_s - give_up_s + _GO_TO_S:.0f} s; see what is in its way"
        )
      if away_rad < nearest_rad - _GO_TO_NEAR_RAD:
        nearest_rad, nearest_s = away_rad, now_s
      elif now_s > nearest_s + _GO_TO_STUCK_S:
        way, nearest_rad = self._way(qpos_rad), np.inf
        continue
      fastest = np.max(np.abs(gap) / (0.5 * constants.COMMAND_RAD_S))
      self._gate.command(gap / max(fastest, 0.5), expires_s=now_s + self._valid_for_s)
      self._gate.wait(now_s + _GO_TO_POLL_S, is_wanted=is_wanted)
      yield
    self._gate.hold()

  def _way(self, qpos_rad: np.ndarray) -> list[np.ndarray]:
    """Poses to go to from the arm's position. The last one is as near `qpos_rad` as the arm can be."""
    here = self._gate.read().qpos_rad
    return self._routes.way(here, self._routes.clear_part(here, qpos_rad))

  def _wait(self, until_s: float, is_wanted: Callable[[], bool]) -> None:
    self._gate.wait(until_s, is_wanted=is_wanted)
    self._check_wanted(is_wanted)

  def _check_wanted(self, is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
      self._gate.hold()
      raise CutShortError("nobody waits for the step any more; the arm was held")

  def _cut_short(self, why: protocol.BridgeError, target: np.ndarray) -> CutShortError:
    """Ends the episode in mid-step; returns the error to raise. `target` is where an unseen target was last seen."""
    if self._track or not _is_place(self.reading.target_in_base_m):
      self.reading = self.reading._replace(target_in_base_m=target)
    _, reward, _ = self._judge(self._elapsed + 1)
    self.restart()
    return CutShortError(str(why), reward)

  def _measure(self) -> None:
    """Takes the time at a step's end: `protocol.JITTER`, to the microsecond, as clocks only add rounding below."""
    now_s = self._gate.now_s()
    period_s, self._step_end_s = now_s - self._step_end_s, now_s
    jitter_s = period_s - constants.CONTROL_DT_S, self._gate.late_s()
    self._jitter = np.round(jitter_s, 6).astype(np.float32) + np.float32(0.0)  # Not -0.

  def _look(self, elapsed: int) -> tuple[dm_env.StepType, float, float]:
    """Reads the instruments after `elapsed` steps, and evaluates the task."""
    self._read()
    try:
      self.reading = self.reading._replace(target_in_base_m=self._place_of_target())
    except protocol.BridgeError:
      self._gate.hold()
      raise
    return self._judge(elapsed)

  def _place_of_target(self) -> np.ndarray:
    """Where the target is, `[3]`, as the tracking camera sees it, or as the driver says."""
    if self._track:
      return self._track(self._look_through_camera(), self.reading.time_s)
    if not _is_place(self.reading.target_in_base_m):
      raise protocol.BridgeError(
        f"the driver says that the target is at {self.reading.target_in_base_m} m; the arm was held; see to what tells "
        "it so"
      )
    return self.reading.target_in_base_m

  def _read(self) -> None:
    self.reading, self._pixels = self._gate.read(), None

  def _judge(self, elapsed: int) -> tuple[dm_env.StepType, float, float]:
    """Evaluates the task for the reading, after `elapsed` steps."""
    self._elapsed, reading = elapsed, self.reading
    state = np.stack([reading.qpos_rad, reading.qvel_rad_s]).astype(np.float32)
    self._target = reading.target_in_base_m.astype(np.float32)
    outcome, proprioception = _evaluate(self._task, state, self._target, np.int32(elapsed))
    self._proprioception = np.asarray(proprioception)
    step_type, reward, discount = np.asarray(outcome).tolist()
    return dm_env.StepType(int(step_type)), reward, discount

  def _look_through_camera(self) -> np.ndarray:
    """The picture of this step, taken once."""
    if self._pixels is None:
      self._pixels = self._image(self.reading)
    return self._pixels

  def _velocities(self, action: np.ndarray | None) -> np.ndarray:
    """Joint velocities `[9]`, rad/s, of an action `[A]`; joints without an entry rest."""
    velocities = np.zeros(constants.NUM_JOINTS)
    if action is None:
      return velocities
    problem = self._problem(action)
    if problem:
      self._gate.hold()
      raise safety.CommandRefusedError(f"action refused, arm held: {problem}")
    velocities[: action.size] = constants.COMMAND_RAD_S[: action.size] * (action - 1)
    return velocities

  def _problem(self, action: np.ndarray) -> str | None:
    """Why `action` is not an action, or None."""
    spec = self._action_spec
    if np.issubdtype(action.dtype, np.floating) and not np.isfinite(action).all():
      return f"it holds NaN or infinity: {action}"
    if action.dtype != spec.dtype:
      return f"its dtype is {action.dtype}, must be {spec.dtype}"
    if action.shape != spec.shape:
      return f"its shape is {action.shape}, must be {spec.shape}"
    if np.any(action < spec.minimum) or np.any(action > spec.maximum):
      return f"its entries must be from {np.min(spec.minimum)} to {np.max(spec.maximum)}, got {action}"
    return None


# Compiled once for all worlds of a task.


@functools.partial(jax.jit, static_argnames="task")
def _draw_start(task: tasks.Task, seed: jax.Array, episode: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Of episode number `episode`: joint angles `[9]`, the target's path `[T + 1, 3]`, a seed for the driver's noise."""
  start_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), episode))
  start = tasks.draw_start(task, start_key)
  return start.qpos, tasks.path(task, start.target), jax.random.bits(noise_key)


@functools.partial(jax.jit, static_argnames="task")
def _evaluate(task: tasks.Task, state: jax.Array, target: jax.Array, elapsed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Step type, reward and discount as one array `[3]`, and proprioception, from angles and velocities `[2, 9]`."""
  outcome = tasks.evaluate(task, state[0], target, elapsed)
  summary = jnp.stack([outcome.step_type.astype(jnp.float32), outcome.reward, outcome.discount])
  return summary, simulation.proprioception(state[0], state[1])


def _is_place(x: np.ndarray) -> bool:
  return isinstance(x, np.ndarray) and x.shape == (3,) and bool(np.isfinite(x).all())
