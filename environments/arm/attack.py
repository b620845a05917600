"""Attacks on the gate, in simulated time: what an arm does when its client or its own driver goes wrong.

Each trial drives an arm at random, breaks one thing at a random instant, and watches the arm. The arm goes exactly
where it is told, `LATENCY_S` late, until it is told something else. Its behaviour is compared with the limits: the
largest excess over speed, acceleration and jerk of the commands, joint range and clearance, and the longest time to
rest. Hangs need a wall clock and are not tested here: `tests.environments.arm_wall_clock` measures them
(docs/results/arm.md).
"""

import collections
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from environments.arm import protocol, safety

LATENCY_S = 0.05
Message = Callable[[float, np.ndarray], list[tuple[Any, float]]]  # Now and a velocity -> commands, each with expiry.
_VALID_S = 0.15
_COMMANDS_AN_ARM = 1_000
_STOPS_A_COMMAND = 0.02
_ROUNDING = 1e-9
_DRIVEN_S, _WATCHED_S = 0.75, 0.75  # Longest times before the fault, and after it.


class Arm:
  """A driver whose parts can be replaced by broken ones."""

  def __init__(self, limits: protocol.Limits, rng: np.random.Generator):
    self.time_s, self._poll_s = 0.0, limits.poll_s
    self.clock: Callable[[], float] = lambda: self.time_s
    self.qpos = _clear_pose(limits, rng)
    self.velocity = np.zeros_like(self.qpos)
    self.told = self.velocity  # What the motors get after the latency.
    self._late = collections.deque([self.velocity] * math.ceil(LATENCY_S / limits.poll_s))

  def now_s(self) -> float:
    return self.clock()

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    return False

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    pass

  def command(self, velocity_rad_s: np.ndarray) -> None:
    self.told = velocity_rad_s.copy()

  def stop(self) -> None:
    self.told = np.zeros_like(self.qpos)

  def wait(self, until_s: float) -> None:
    """Lets one poll pass."""
    self._late.append(self.told)
    self.velocity = self._late.popleft()
    self.qpos = self.qpos + self._poll_s * self.velocity
    self.time_s = until_s

  def read(self) -> protocol.Reading:
    return protocol.Reading(self.time_s, self.qpos.copy(), self.velocity.copy(), np.zeros(3))

  def close(self) -> None:
    pass


def _clear_pose(limits: protocol.Limits, rng: np.random.Generator) -> np.ndarray:
  """A random pose within the joint limits in which the arm touches nothing."""
  low, high = np.maximum(limits.low_rad, -10.0), np.minimum(limits.high_rad, 10.0)
  while True:
    qpos = rng.uniform(low, high)
    if limits.clearance_m is None or limits.clearance_m(qpos) >= limits.margin_m:
      return qpos


class Found(NamedTuple):
  """The outcome of an attack. Excesses are the largest over a limit, 0 if none was exceeded."""

  number: int  # Of trials, or of commands.
  goes_on: int  # Trials in which the arm still moved at the end.
  num_escaped: int  # Errors that are not the gate's own: they end the process that owns the arm.
  rest_s: float  # The longest time from the fault to rest, if the arm came to rest.
  jerk_rad_s3: float  # The largest jerk, except for stops.
  excess: np.ndarray  # [5] rad/s, rad/s^2, rad/s^3, rad, and metres of overlap with itself or its surroundings


class _Watch:
  """Compares what the arm was told, and where it is, with its limits."""

  def __init__(self, limits: protocol.Limits):
    self._limits, self._speed = limits, np.array(limits.max_velocity_rad_s)
    self._low, self._high = np.array(limits.low_rad), np.array(limits.high_rad)
    self.excess, self.jerk = np.zeros(5), 0.0
    self._told = self._change = np.zeros_like(self._speed)

  def see(self, arm: Arm, *, is_stopped: bool) -> None:
    """Called after every poll. A stop is immediate on purpose: what is told in its poll is compared with rest."""
    if is_stopped:
      self._told = self._change = np.zeros_like(arm.told)
    change = (arm.told - self._told) / self._limits.poll_s
    jerk = np.abs(change - self._change).max() / self._limits.poll_s
    outside = np.maximum(self._low - arm.qpos, arm.qpos - self._high).max()
    overlap = -self._limits.clearance_m(arm.qpos) if self._limits.clearance_m else 0.0
    excess = (
      (np.abs(arm.told) - self._speed).max(),
      np.abs(change).max() - self._limits.max_acceleration_rad_s2,
      jerk - self._limits.max_jerk_rad_s3,
      outside,
      overlap,
    )
    self.excess, self.jerk = np.maximum(self.excess, excess), max(self.jerk, jerk)
    self._told, self._change = arm.told, change


def _raise(*_: Any) -> Any:
  raise OSError("cable")


def _lying(**fields: Callable[[protocol.Reading], Any]) -> Callable[[Arm], None]:
  """Breaks `read`: given fields of its readings become functions of the true reading."""

  def break_it(arm: Arm) -> None:
    read = arm.read
    arm.read = lambda: (true := read())._replace(**{name: lie(true) for name, lie in fields.items()})  # type: ignore[method-assign]

  return break_it


def _replacing(name: str, make: Callable[[Arm], Any]) -> Callable[[Arm], None]:
  return lambda arm: setattr(arm, name, make(arm))


def _frozen(arm: Arm, *, ahead_s: float = 0.0) -> Callable[[], protocol.Reading]:
  reading = arm.read()._replace(time_s=arm.time_s + ahead_s)
  return lambda: reading


def _in_place(arm: Arm) -> Callable[[np.ndarray], None]:
  command = arm.command

  def altered(velocity: np.ndarray) -> None:
    command(velocity)
    velocity *= -3.0

  return altered


def _after_stopping(arm: Arm) -> Callable[[], None]:
  failures, stop = iter(range(2)), arm.stop
  return lambda: stop() if next(failures, None) is None else _raise()


def _both(*breaks: Callable[[Arm], None]) -> Callable[[Arm], None]:
  def break_it(arm: Arm) -> None:
    for one in breaks:
      one(arm)

  return break_it


# Faults of the driver, while its client goes on.
DRIVER_FAULTS: dict[str, Callable[[Arm], None]] = {
  "read raises": _replacing("read", lambda arm: _raise),
  "read freezes": _replacing("read", _frozen),
  "read freezes, dated ahead": _replacing("read", functools.partial(_frozen, ahead_s=1e6)),
  "read freezes, dated a little ahead": _replacing("read", functools.partial(_frozen, ahead_s=0.45)),
  "read gives NaN": _lying(qpos_rad=lambda true: true.qpos_rad * np.nan),
  "read gives infinity": _lying(qvel_rad_s=lambda true: true.qvel_rad_s + np.inf),
  "read lacks a joint": _lying(qpos_rad=lambda true: true.qpos_rad[1:]),
  "read gives one joint for all": _lying(qpos_rad=lambda true: true.qpos_rad[:1]),
  "read gives None": _lying(qpos_rad=lambda true: None),
  "read has no time": _lying(time_s=lambda true: np.nan),
  "command raises": _replacing("command", lambda arm: _raise),
  "command raises, stop raises twice": _both(
    _replacing("command", lambda arm: _raise), _replacing("stop", _after_stopping)
  ),
  "command alters its argument": _replacing("command", _in_place),
  "clock reads NaN": _replacing("clock", lambda arm: lambda: np.nan),
  "clock jumps back": _replacing("clock", lambda arm: lambda: arm.time_s - 1e3),
}


def _message(value: Any) -> Message:
  return lambda now_s, velocity: [(value(velocity) if callable(value) else value, now_s + _VALID_S)]


well = _message(lambda velocity: velocity)
# What the client, or the server for it, sends at every poll instead of a command: (command, when it expires).
CLIENT_FAULTS: dict[str, Message] = {
  "falls silent": lambda now_s, velocity: [],
  "lags": lambda now_s, velocity: [(velocity, now_s - 1e-3)],
  "floods": lambda now_s, velocity: [(velocity * (-1) ** i, now_s + _VALID_S) for i in range(50)],
  "sends huge numbers": _message(lambda velocity: velocity * 1e300),
  "sends NaN": _message(lambda velocity: velocity * np.nan),
  "sends infinity": _message(lambda velocity: velocity + np.inf),
  "sends NaN under a mask": _message(
    lambda velocity: np.ma.array(velocity * np.nan, mask=np.arange(len(velocity)) > 0)
  ),
  "sends a joint too few": _message(lambda velocity: velocity[1:]),
  "sends integers": _message(lambda velocity: velocity.astype(np.int64)),
  "sends words": _message("faster"),
  "sends nothing": _message(None),
  "expires at NaN, then silent": lambda now_s, velocity: [(velocity, np.nan)] if velocity[0] > 1e-3 else [],
}


def hostile(limits: protocol.Limits, rng: np.random.Generator) -> Iterator[np.ndarray]:
  """Endless commands: full speed to and fro, walks towards limits, noise, huge numbers and non-numbers, in turns."""
  speed = np.array(limits.max_velocity_rad_s)
  while True:
    kind, way = rng.integers(5), rng.choice([-1.0, 1.0], len(speed))
    for i in range(rng.integers(1, 80)):
      if kind == 0:
        yield way * speed * (-1) ** i
      elif kind == 1:
        yield way * speed * 10.0
      elif kind == 2:
        yield rng.normal(0.0, 3.0, len(speed))
      elif kind == 3:
        yield way * 10.0 ** rng.uniform(-300, 300, len(speed))
      else:
        yield rng.choice([np.nan, np.inf, -np.inf, 1e308, 5e-324], len(speed)) * way


class _Trial:
  """An arm behind its gate, with what watches it."""

  def __init__(self, limits: protocol.Limits, rng: np.random.Generator):
    self.arm = Arm(limits, rng)
    self.gate = safety.Gate(self.arm, limits, read=lambda: self.arm.read())
    self.watch, self._poll_s = _Watch(limits), limits.poll_s
    self.num_escaped = 0  # Errors that are not the gate's own.

  def poll(self, commands: Sequence[tuple[Any, float]], *, is_stopped: bool = False) -> None:
    """Sends a stop, if any, then commands with their expiry; polls once, and passes the time to the next poll."""
    calls: list[Callable[[], None]] = [
      functools.partial(self.gate.command, one, expires_s=expires_s) for one, expires_s in commands
    ]
    for call in (*([self.gate.stop] if is_stopped else []), *calls, self.gate.poll):
      try:
        call()
      except safety.CommandRefusedError:
        pass
      except (safety.ArmFaultError, safety.ArmLostError):
        is_stopped = True
      except Exception:
        self.num_escaped += 1
    self.arm.wait(self.arm.time_s + self._poll_s)
    self.watch.see(self.arm, is_stopped=is_stopped)


def inject(
  limits: protocol.Limits, rng: np.random.Generator, *, break_it: Callable[[Arm], None], send: Message, count: int
) -> Found:
  """Runs `count` trials. In each, the driver breaks at a random instant; from then on messages are `send`'s."""
  goes_on = num_escaped = 0
  num_driven, num_watched = (math.ceil(time_s / limits.poll_s) for time_s in (_DRIVEN_S, _WATCHED_S))
  rest_s, jerk, excess = 0.0, 0.0, np.zeros(5)
  for _ in range(count):
    trial, commands = _Trial(limits, rng), hostile(limits, rng)
    velocity = np.array(limits.max_velocity_rad_s) * rng.choice([-1.0, 1.0], len(limits.low_rad))
    for _ in range(rng.integers(num_driven)):
      trial.poll([(next(commands) if rng.random() < 0.3 else velocity, trial.arm.time_s + _VALID_S)])
    break_it(trial.arm)
    moved = 0
    for num_polled in range(1, num_watched + 1):
      trial.poll(send(trial.arm.time_s, velocity))
      moved = num_polled if trial.arm.velocity.any() else moved
    goes_on, num_escaped = goes_on + (moved == num_watched), num_escaped + trial.num_escaped
    rest_s = max(rest_s, 0.0 if moved == num_watched else moved * limits.poll_s)
    jerk, excess = max(jerk, trial.watch.jerk), np.maximum(excess, trial.watch.excess)
  return Found(count, goes_on, num_escaped, rest_s, jerk, excess)


def command(limits: protocol.Limits, rng: np.random.Generator, *, count: int) -> Found:
  """Sends `count` hostile commands, one per poll, to one arm after another, with occasional stops in mid-motion."""
  jerk, excess, num_escaped = 0.0, np.zeros(5), 0
  commands = hostile(limits, rng)
  for first in range(0, count, _COMMANDS_AN_ARM):
    trial = _Trial(limits, rng)
    for _ in range(min(_COMMANDS_AN_ARM, count - first)):
      trial.poll([(next(commands), trial.arm.time_s + _VALID_S)], is_stopped=rng.random() < _STOPS_A_COMMAND)
    jerk, excess = max(jerk, trial.watch.jerk), np.maximum(excess, trial.watch.excess)
    num_escaped += trial.num_escaped
  return Found(count, 0, num_escaped, 0.0, jerk, excess)


def table(limits: protocol.Limits, *, num_commands: int, seed: int) -> Iterator[str]:
  """The campaign as lines of Markdown, each as soon as it is ready: one fault per hundred hostile commands."""
  num_faults = math.ceil(num_commands / 100 / len(CLIENT_FAULTS | DRIVER_FAULTS))
  rng = np.random.default_rng(seed)
  yield "| attack | count | goes on | errors escaped | rest within | jerk, rad/s^3 | beyond rad/s, /s^2, /s^3, rad, m |"
  yield "|---|---|---|---|---|---|---|"
  for name, send in CLIENT_FAULTS.items():
    yield _row(f"client {name}", inject(limits, rng, break_it=lambda arm: None, send=send, count=num_faults))
  for name, break_it in DRIVER_FAULTS.items():
    yield _row(f"driver: {name}", inject(limits, rng, break_it=break_it, send=well, count=num_faults))
  yield _row("hostile commands", command(limits, rng, count=num_commands))


def _row(name: str, found: Found) -> str:
  beyond = ", ".join("0" if one <= _ROUNDING else f"{one:.2g}" for one in found.excess)
  rest = f"{found.rest_s:.2f} s" if found.rest_s else "-"
  return (
    f"| {name} | {found.number:,} | {found.goes_on:,} | {found.num_escaped:,} | {rest} | {found.jerk_rad_s3:,.0f} "
    f"| {beyond} |"
  )
