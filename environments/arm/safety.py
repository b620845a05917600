"""The gate between whoever commands an arm and the arm itself. No client can open it.

The gate is a driver around a driver, so nothing on the server has another way to the arm. It refuses what is not a
command (wrong shape or dtype, NaN, infinity) and holds the arm. It keeps a valid command until it expires. On the
driver's clock, `poll` sends as much of the command as is safe. What it sends stays within the limits of speed,
acceleration and jerk, and is never so fast towards a position limit, a side of the workspace or the arm's own links
that the arm could no longer brake in time. A fault of the arm itself (instruments that make no sense, are old, or
cannot be read; a call that fails) is latched: nothing moves until a person has looked and started the server again. The
gate has no thread. For an arm that runs in real time, `environments.arm.driver` polls it.
"""

import collections
import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from environments.arm import protocol
from environments.jaco import constants

_STOP_TRIES = 3
_SHARES = (1.0, 0.5, 0.25)  # Shares of a velocity that are tried before the arm is braked to rest.
_PARTS = (1.0, 0.75, 0.5, 0.25)  # Parts of the way to rest at which clearance is checked.
_PARTS_OF_SPEED = np.linspace(0.0, 1.0, 33)[:, None]  # Tried at a position limit, then between the best two of them.
_TAKES_NONE = "it takes no command"
_LAG_AND_POLL_S = 0.04  # What `Limits.reaction_s` adds to a latency of 0.04 s.
_MOST_TOLD = 10_000  # Changes kept if nobody asks for them: a minute of commands that all differ.
_MOST_TOLD_AT_ONCE = 200  # In one answer, so that it delays no command.
_AHEAD_S = 0.02  # By which a reading may be in the future.


class Told(NamedTuple):
  """What the gate told the arm from one instant on, and why this differs from what was asked."""

  time_s: float  # On the driver's clock.
  asked_rad_s: np.ndarray  # [J] The command that still holds, within the speed limits.
  allowed_rad_s: np.ndarray  # [J]
  why: str = ""  # "expired", "old reading", "stop", or "fault: " and the fault.


class CommandRefusedError(ValueError):
  """A command that must not reach an arm. The arm has been told to hold still."""


class ArmFaultError(RuntimeError):
  """Something is wrong with the arm. It has been told to stop, and takes no more commands."""


class ArmLostError(RuntimeError):
  """The arm can no longer be stopped from here. Only its emergency stop is left."""


class Gate:
  """A driver that obeys `limits`, around a driver that need not know them (`protocol.Driver`)."""

  def __init__(
    self,
    driver: protocol.Driver,
    limits: protocol.Limits,
    *,
    read: Callable[[], protocol.Reading] | None = None,
    end_reading: Callable[[], None] = lambda: None,
  ):
    """Makes the gate of `driver`. `read()`, or else `driver.read()`, gives its newest reading until `end_reading()`."""
    self._driver = driver
    self._read, self._end_reading = read or driver.read, end_reading
    self.limits = limits
    self._max_velocity = np.asarray(limits.max_velocity_rad_s)
    self._low, self._high = np.asarray(limits.low_rad), np.asarray(limits.high_rad)
    self._sides, self._ends = np.array([[-1.0], [1.0]]), np.stack([-self._low, self._high])  # [2, 1], [2, J]
    self._soonest_s = limits.poll_s * (0.5 - 1e-6)  # So that rounding makes no poll too soon.
    self.now_s = driver.now_s
    self._wanted = np.zeros_like(self._max_velocity)  # The command that holds until `_expires_s`.
    self._expires_s = -math.inf
    self._velocity = np.zeros_like(self._max_velocity)  # What the driver was last told.
    self._acceleration = np.zeros_like(self._max_velocity)  # How that was changing.
    longest_blind_s = limits.reaction_s + limits.fault_age_s  # For this long the arm may not show what a poll told it.
    self._under_way = collections.deque[np.ndarray](maxlen=math.ceil(longest_blind_s / limits.poll_s))
    self._polled_s = self.now_s() - limits.poll_s
    self._waited_s = math.nan  # When `wait` ended last.
    self._late_s = 0.0
    self._fault: ArmFaultError | ArmLostError | None = None  # What is wrong with the arm, for good.
    self._told = collections.deque[Told](maxlen=_MOST_TOLD)  # Changes that nobody has asked for yet.
    self._last = (self._wanted, self._velocity)  # The last change.

  def command(self, velocity_rad_s: np.ndarray, *, expires_s: float) -> None:
    """Takes a velocity command that holds until `expires_s`, on the driver's clock. Then the arm is braked to rest.

    Raises:
      CommandRefusedError: if it is not a finite floating-point array with one velocity per joint. The arm holds still.
      ArmFaultError: if something is, or was, wrong with the arm.
    """
    self._refuse_faulty()
    problem = self._problem(velocity_rad_s)
    if problem:
      self.hold()
      raise CommandRefusedError(f"command refused, arm held: {problem}")
    self._wanted = np.clip(np.asarray(velocity_rad_s, np.float64), -self._max_velocity, self._max_velocity)
    self._expires_s = expires_s

  def hold(self) -> None:
    """Brakes the arm to rest, within its limits of acceleration and jerk."""
    self._wanted = np.zeros_like(self._wanted)

  def stop(self) -> None:
    """Stops the arm at once, whatever it was told before. No limit delays a stop.

    Raises:
      ArmLostError: if the driver failed several times.
    """
    self.hold()
    self._velocity = self._acceleration = self._wanted
    for _ in range(_STOP_TRIES):
      try:
        self._driver.stop()
        return self._note("stop")
      except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    self._fault = ArmLostError(f"the arm takes no stop ({reason}); press its emergency stop")
    self._refuse_faulty()

  def poll(self) -> None:
    """Sends what may be sent now. It must be called every `limits.poll_s`, whatever else happens.

    A poll that comes sooner than half of that after the last one repeats the last velocity: an acceleration cannot end
    in such a short time.

    Raises:
      ArmFaultError: if something is wrong with the arm that was not before.
      ArmLostError: if the arm takes no stop, now or before.
    """
    if isinstance(self._fault, ArmLostError):
      self._refuse_faulty()
    if self._fault:
      return
    now_s = self.now_s()
    if now_s in (self._polled_s, self._waited_s):
      return  # No time has passed: a twin waits for its client.
    if not now_s > self._polled_s:
      raise self._faulty(f"its clock went from {self._polled_s:g} s to {now_s:g} s")
    elapsed_s = min(now_s - self._polled_s, self.limits.poll_s)
    if elapsed_s < self._soonest_s:
      return self._call(_TAKES_NONE, self._driver.command, self._velocity.copy())
    self._late_s = max(self._late_s, now_s - self._polled_s - self.limits.poll_s)
    self._polled_s = now_s
    reading = self.read()
    is_old = now_s - reading.time_s > self.limits.max_age_s
    is_over = not now_s < self._expires_s  # True for NaN as well.
    why = "" if not self._wanted.any() else "old reading" if is_old else "expired" if is_over else ""
    if why:
      self.hold()
    velocity = self._next(reading, elapsed_s)
    self._call(_TAKES_NONE, self._driver.command, velocity.copy())
    self._acceleration = (velocity - self._velocity) / elapsed_s
    self._velocity = velocity
    self._under_way.append(velocity)
    self._note(why)

  def told(self) -> list[Told]:
    """What the arm was told since the last call, one entry per change, oldest first; what is too many, next time."""
    return [self._told.popleft() for _ in range(min(len(self._told), _MOST_TOLD_AT_ONCE))]

  def late_s(self) -> float:
    """The largest delay of a poll beyond `limits.poll_s` after the previous poll, since the last call."""
    late_s, self._late_s = self._late_s, 0.0
    return late_s

  def wait(self, until_s: float, *, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Waits on the driver's clock and polls meanwhile, but only as long as somebody wants it."""
    start_s, poll_s = self.now_s(), self.limits.poll_s
    num_polls = math.ceil((until_s - start_s) / poll_s - 1e-6)  # Rounding must not add a poll.
    self._waited_s = math.nan  # The first poll sends what was asked meanwhile.
    for num_polled in range(1, num_polls + 1):
      if not is_wanted():
        return
      self.poll()
      self._driver.wait(until_s if num_polled == num_polls else start_s + num_polled * poll_s)
    self._waited_s = self.now_s()

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    """Stops the arm and makes it ready to start at `qpos_rad`. Returns whether it was put there, as a simulated arm is.

    Raises:
      CommandRefusedError: if the pose is outside the limits. The arm holds still.
      ArmFaultError: if something is, or was, wrong with the arm.
    """
    self._refuse_faulty()
    qpos_rad = np.asarray(qpos_rad, np.float64)
    is_inside = qpos_rad.shape == self._low.shape and np.all((qpos_rad >= self._low) & (qpos_rad <= self._high))
    self.stop()
    if not is_inside:
      raise CommandRefusedError(f"start pose refused, arm held: {qpos_rad} rad is not inside the joint limits")
    is_placed = bool(self._call("it cannot be made ready", self._driver.reset, qpos_rad, seed=seed))
    if is_placed:
      self._under_way.clear()
    return is_placed

  def read(self) -> protocol.Reading:
    """The newest reading.

    Raises:
      ArmFaultError: if there is none, it is old or in the future, or a joint is not one finite number, now or before.
        The arm has been told to stop.
    """
    self._refuse_faulty()
    reading = self._call("its instruments cannot be read", self._read)
    if not isinstance(reading, protocol.Reading):
      raise self._faulty(f"its instruments read {type(reading).__name__}, not a Reading")
    if not (self._is_sound(reading.qpos_rad) and self._is_sound(reading.qvel_rad_s)):
      raise self._faulty(f"its joints read {reading.qpos_rad} rad, {reading.qvel_rad_s} rad/s")
    age_s = self.now_s() - reading.time_s
    if not -_AHEAD_S <= age_s:  # It would pass for fresh although it is not. Only a clock's grain is allowed.
      raise self._faulty(f"its instruments are {-age_s:.2f} s ahead of its clock")
    if not age_s <= self.limits.fault_age_s:
      raise self._faulty(f"its instruments show nothing newer than {age_s:.2f} s")
    return reading

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    self._call("its target cannot be placed", self._driver.place_target, target_in_base_m)

  def close(self) -> None:
    """Stops the arm, ends reading and closes the driver. If the stop failed, it raises then, as `stop` does."""
    with contextlib.ExitStack() as last:  # The last one runs first.
      last.callback(self._driver.close)
      last.callback(self._end_reading)
      last.callback(self.stop)

  def _note(self, why: str) -> None:
    """Records what the arm is told now, if that is new or there is a reason to record."""
    now = self._wanted, self._velocity
    if why or not all(map(np.array_equal, now, self._last)):
      self._told.append(Told(self.now_s(), *now, why))
      self._last = now

  def _call(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls the driver. A failure becomes a fault that says `what`."""
    try:
      return function(*arguments, **options)
    except Exception as error:
      raise self._faulty(f"{what} ({type(error).__name__}: {error})") from error

  def _faulty(self, reason: str) -> ArmFaultError:
    """Stops the arm for good, and returns the error to raise."""
    self.stop()
    self._note(f"fault: {reason}")
    self._fault = ArmFaultError(f"arm stopped: {reason}; look at the arm, then start the server again")
    return self._fault

  def _refuse_faulty(self) -> None:
    if self._fault:
      raise type(self._fault)(*self._fault.args)

  def _problem(self, velocity: np.ndarray) -> str | None:
    """Why `velocity` is not a command, or None."""
    if not isinstance(velocity, np.ndarray) or not np.issubdtype(velocity.dtype, np.floating):
      return f"velocities must be a floating-point array, got {getattr(velocity, 'dtype', type(velocity).__name__)}"
    if velocity.shape != self._max_velocity.shape:
      return f"velocities have shape {velocity.shape}, the arm has {self._max_velocity.shape[0]} joints"
    if not self._is_sound(velocity):
      return f"velocities must be finite, got {velocity}"
    return None

  def _is_sound(self, joints: Any) -> bool:
    """Whether `joints` is one finite number per joint; masked entries are checked too."""
    is_numbers = isinstance(joints, np.ndarray) and joints.dtype.kind == "f"
    return is_numbers and joints.shape == self._low.shape and bool(np.isfinite(np.asarray(joints)).all())

  def _next(self, reading: protocol.Reading, elapsed_s: float) -> np.ndarray:
    """The next velocities of all joints towards what is wanted, or towards a share of it that leaves room to brake.

    The limits of acceleration and jerk hold in any case. A joint or link that is already too near may only move away.
    """
    under_way = self._under_way_rad(reading)
    for share in _SHARES:
      velocity, to_rest = self._inside(share * self._wanted, reading, under_way, elapsed_s)
      if self._is_clear(to_rest, reading, under_way):
        return velocity
    return self._towards(np.zeros_like(self._wanted), elapsed_s)

  def _towards(self, wanted: np.ndarray, elapsed_s: float) -> np.ndarray:
    """The next velocities towards `wanted`, with an acceleration that can be back at 0 when they get there.

    An acceleration a adds a t to the velocity in `elapsed_s` = t. Then the jerk J reduces a at every poll, and polls
    are at least m apart: n = floor(a / J m) polls add n a m - J m^2 n (n + 1) / 2. Both together equal the missing
    velocity.
    """
    limits, soonest_s = self.limits, self._soonest_s
    missing, jerk = np.abs(wanted - self._velocity), limits.max_jerk_rad_s3
    half_s = elapsed_s - soonest_s / 2.0
    num_falls = np.floor((np.sqrt(half_s**2 + (2.0 / jerk) * missing) - half_s) / soonest_s)
    brought = 0.5 * jerk * soonest_s**2 * num_falls * (num_falls + 1.0)
    landing = np.where(num_falls > 0, (missing + brought) / (elapsed_s + soonest_s * num_falls), np.inf)
    fewest, most = self._acceleration - jerk * elapsed_s, self._acceleration + jerk * elapsed_s
    fewest, most = np.maximum(fewest, -limits.max_acceleration_rad_s2), np.minimum(most, limits.max_acceleration_rad_s2)
    lowest, highest = _clip(-landing, fewest, most), _clip(landing, fewest, most)
    return _clip(wanted, self._velocity + lowest * elapsed_s, self._velocity + highest * elapsed_s)

  def _inside(
    self, wanted: np.ndarray, reading: protocol.Reading, under_way: np.ndarray, elapsed_s: float
  ) -> tuple[np.ndarray, np.ndarray]:
    """The next velocities towards `wanted`, none too fast for its joint to come to rest before its position limit.

    A joint outside its limits may only go back. Also returns the way from there to rest, see `_to_rest_rad`.
    """
    farthest = np.max(self._sides[:, None] * under_way, axis=1)
    room = np.maximum(self._ends - self._sides * reading.qpos_rad - farthest, 0.0)  # [2, J] down, up

    def go(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
      velocity = self._towards(target, elapsed_s)
      return velocity, self._to_rest_rad(velocity, elapsed_s)

    velocity, to_rest = go(wanted)
    beyond = to_rest > room
    if beyond.any():
      back = np.where(beyond[0], np.maximum(wanted, 0.0), np.where(beyond[1], np.minimum(wanted, 0.0), wanted))
      joints = np.arange(wanted.size)
      for _ in range(2):
        tried = back + _PARTS_OF_SPEED * (wanted - back)  # [N, J]
        still = (go(tried[:, None])[1] > room).any(axis=1)
        still[-1] = True
        first = np.maximum(still.argmax(axis=0), 1)
        back, wanted = tried[first - 1, joints], tried[first, joints]
      velocity, to_rest = go(back)
    return velocity, to_rest

  def _is_clear(self, to_rest: np.ndarray, reading: protocol.Reading, under_way: np.ndarray) -> bool:
    """Whether the arm is clear on the way `to_rest`, `[2, J]`, and at its end, or at least no nearer than now."""
    clearance_m = self.limits.clearance_m
    if clearance_m is None:
      return True
    down, up = to_rest
    end = under_way[-1] + up - down
    ways = (*(part * end for part in _PARTS), up - down)  # The last: if the reading already shows all that was told.
    nearest_m = min(clearance_m(reading.qpos_rad + way) for way in ways)
    return nearest_m >= self.limits.margin_m or nearest_m >= clearance_m(reading.qpos_rad)

  def _to_rest_rad(self, velocity: np.ndarray, elapsed_s: float) -> np.ndarray:
    """The way `[2, J]`, down and up, of a poll at `velocity` and from there to rest, if each joint brakes as it must.

    The joint has an acceleration a, which becomes 0 at v0 = v + a^2 / 2J, a / J later, or earlier if the joint already
    brakes. From v0 it brakes by p = min(b, sqrt(J v0)). The jerk leads to p and back, so this takes v0 / p + p / J.
    """
    braking, jerk, poll_s = self.limits.braking_rad_s2, self.limits.max_jerk_rad_s3, self.limits.poll_s
    speed = self._sides * velocity
    braked = np.minimum(braking, np.sqrt(2.0 * jerk * np.maximum(speed, 0.0)))  # Harder braking gains nothing.
    change = np.maximum(self._sides * (velocity - self._velocity) / elapsed_s, -braked)
    later_s = change / jerk
    fastest = np.maximum(speed + change * later_s / 2.0, 0.0)
    root_s = np.sqrt(fastest / jerk)
    rest_s = np.maximum(fastest / braking, root_s) + np.minimum(braking / jerk, root_s)
    way = (poll_s + later_s) * speed + change * later_s**2 / 3.0 + 0.5 * fastest * rest_s
    return np.maximum(way, 0.0)

  def _under_way_rad(self, reading: protocol.Reading) -> np.ndarray:
    """What is under way, `[1 + polls, J]`: the way that the arm was told to go but may not have shown.

    Row i counts the newest i polls. It was told this while its reading grew old, and during its reaction time, except
    for one poll.
    """
    poll_s = self.limits.poll_s
    num_blind = math.ceil(self._blind_s(reading) / poll_s - 1e-6) - 1  # Rounding must not add a poll.
    newest_first = list(self._under_way)[: -num_blind - 1 : -1]
    return poll_s * np.cumsum([np.zeros_like(self._velocity), *newest_first], axis=0)

  def _blind_s(self, reading: protocol.Reading) -> float:
    """For how long the arm goes on as it did when it was read."""
    return self.limits.reaction_s + max(0.0, self.now_s() - reading.time_s)


def _clip(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
  """`np.clip` for finite numbers; for nine of them `np.clip` itself takes three times as long."""
  return np.minimum(np.maximum(values, low), high)


def reaction_s(latency_s: float) -> float:
  """The `Limits.reaction_s` of an arm whose motors get a command this late. Their lag and a poll are added."""
  return max(protocol.Limits.reaction_s, latency_s + _LAG_AND_POLL_S)


def jaco_limits(*, poll_s: float = 0.025, reaction_s: float = protocol.Limits.reaction_s) -> protocol.Limits:
  """The Jaco's limits. An episode ends before its joints reach theirs."""
  from environments.arm import workspace  # Imported here, since MuJoCo does the measuring.

  return protocol.Limits(
    max_velocity_rad_s=tuple(constants.MAX_VELOCITY_RAD_S),
    low_rad=tuple(constants.JOINT_LOW_RAD),
    high_rad=tuple(constants.JOINT_HIGH_RAD),
    clearance_m=workspace.Workspace().clearance_m,
    poll_s=poll_s,
    reaction_s=reaction_s,
  )
