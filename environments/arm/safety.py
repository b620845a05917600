"""The gate between whoever commands an arm and the arm itself. No client can open it.

The gate is a driver around a driver, so nothing on the server has another way to the arm. It refuses what is not a
command (wrong shape or dtype, NaN, infinity) and holds the arm; clamps what is one to the speed limits; lets a joint
that is outside its position limits move only back; and stops the arm when no command came for `watchdog_s`. A fault of
the arm itself (instruments that make no sense, a stop that it does not take) is latched: nothing moves until a person
has looked and started the server again. The gate keeps no thread of its own: `wait` and `poll` enforce the limits every
`poll_s`, on the driver's clock.
"""

import dataclasses
import math

import numpy as np

from environments.arm import protocol

_STOP_TRIES = 3


class CommandRefusedError(ValueError):
  """A command that must not reach an arm. The arm has been told to hold still."""


class ArmFaultError(RuntimeError):
  """The arm's own instruments make no sense. The arm has been told to stop, and takes no command any more."""


class StopFailedError(ArmFaultError):
  """The arm cannot be stopped. Only its emergency stop is left."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """What an arm may do; one entry a joint, infinite where there is no limit."""

  max_velocity_rad_s: tuple[float, ...]  # [J]
  low_rad: tuple[float, ...]  # [J]
  high_rad: tuple[float, ...]  # [J]
  watchdog_s: float = 0.5  # Silence after which the arm is stopped: five control steps (a choice of ours).
  poll_s: float = 0.02  # How often the limits are enforced between commands (a choice of ours).

  def __post_init__(self) -> None:
    lengths = {len(self.max_velocity_rad_s), len(self.low_rad), len(self.high_rad)}
    if len(lengths) > 1:
      raise ValueError(f"Limits: one entry a joint, but the three limits have lengths {sorted(lengths)}")
    if not 0 < self.poll_s <= self.watchdog_s < math.inf:
      raise ValueError(
        f"Limits: need 0 < poll_s <= watchdog_s < inf, got poll_s={self.poll_s}, watchdog_s={self.watchdog_s}"
      )


class Gate:
  """A driver that obeys `limits`, around one that need not know them (`protocol.Driver`)."""

  def __init__(self, driver: protocol.Driver, limits: Limits):
    self._driver = driver
    self._limits = limits
    self._max_velocity = np.asarray(limits.max_velocity_rad_s)
    self._low, self._high = np.asarray(limits.low_rad), np.asarray(limits.high_rad)
    self.now_s = driver.now_s
    self.poll_s = limits.poll_s
    self._velocity = np.zeros_like(self._max_velocity)  # What the driver was last told.
    self._last_command_s = self._last_poll_s = self.now_s()
    self._fault: str | None = None  # What is wrong with the arm, for good.
    self.is_stoppable = True  # As far as is known.

  def command(self, velocity_rad_s: np.ndarray) -> None:
    """Passes a velocity command on, clamped to the limits.

    Raises:
      CommandRefusedError: not a finite floating-point array of one velocity a joint. The arm holds still.
      ArmFaultError: something is, or was, wrong with the arm.
    """
    self._refuse_faulty()
    problem = self._problem(velocity_rad_s)
    if problem:
      self.stop()
      raise CommandRefusedError(f"command refused, arm held: {problem}")
    self._last_command_s = self._last_poll_s = self.now_s()
    self._send(self._allowed(np.asarray(velocity_rad_s, np.float64), self.read().qpos_rad))

  def stop(self) -> None:
    """Stops the arm at once, whatever it was told before.

    Raises:
      StopFailedError: the driver failed, several times.
    """
    self._velocity = np.zeros_like(self._velocity)
    for _ in range(_STOP_TRIES):
      try:
        return self._driver.stop()
      except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    self._fault, self.is_stoppable = f"the arm takes no stop ({reason}); press its emergency stop", False
    raise StopFailedError(self._fault)

  def poll(self) -> None:
    """Enforces the position limits and the watchdog. To be called at least every `poll_s`, whatever else happens."""
    if self._fault:
      return
    now_s = self.now_s()
    if not self._velocity.any() or now_s == self._last_poll_s:
      return  # Nothing moves, or no time has passed (a twin that waits for its client).
    self._last_poll_s = now_s
    if now_s - self._last_command_s > self._limits.watchdog_s:
      self.stop()
      return
    allowed = self._allowed(self._velocity, self.read().qpos_rad)
    if not np.array_equal(allowed, self._velocity):
      self._send(allowed)

  def wait(self, until_s: float) -> None:
    """Waits on the driver's clock, enforcing the limits on the way."""
    next_s = self._driver.now_s()
    while next_s < until_s:
      next_s = min(until_s, next_s + self._limits.poll_s)
      self._driver.wait(next_s)
      self.poll()

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> None:
    """Brings the arm to rest at `qpos_rad`.

    Raises:
      CommandRefusedError: the pose is outside the limits. The arm holds still.
      ArmFaultError: something is, or was, wrong with the arm.
    """
    self._refuse_faulty()
    qpos_rad = np.asarray(qpos_rad, np.float64)
    is_inside = qpos_rad.shape == self._low.shape and np.all((qpos_rad >= self._low) & (qpos_rad <= self._high))
    if not is_inside:
      self.stop()
      raise CommandRefusedError(f"start pose refused, arm held: {qpos_rad} rad is not inside the joint limits")
    self.stop()
    self._driver.reset(qpos_rad, seed=seed)

  def read(self) -> protocol.Reading:
    """The driver's reading.

    Raises:
      ArmFaultError: there is none, or NaN or infinity among the joints, now or before. The arm has been told to stop.
    """
    self._refuse_faulty()
    try:
      reading = self._driver.read()
    except Exception as error:
      raise self._faulty(f"its instruments cannot be read ({type(error).__name__}: {error})") from error
    if not (np.isfinite(reading.qpos_rad).all() and np.isfinite(reading.qvel_rad_s).all()):
      raise self._faulty(f"its joints read {reading.qpos_rad} rad, {reading.qvel_rad_s} rad/s")
    return reading

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    self._driver.place_target(target_in_base_m)

  def image(self) -> np.ndarray:
    return self._driver.image()

  def close(self) -> None:
    """Stops the arm and lets go of it; raises as `stop`, when the driver is closed."""
    try:
      self.stop()
    finally:
      self._driver.close()

  def _faulty(self, reason: str) -> ArmFaultError:
    """Stops the arm for good; what to raise."""
    self.stop()
    self._fault = f"arm stopped: {reason}; look at the arm, then start the server again"
    return ArmFaultError(self._fault)

  def _refuse_faulty(self) -> None:
    if self._fault:
      raise ArmFaultError(self._fault)

  def _problem(self, velocity: np.ndarray) -> str | None:
    """Why `velocity` is not a command, or None."""
    if not isinstance(velocity, np.ndarray) or not np.issubdtype(velocity.dtype, np.floating):
      return f"velocities must be a floating-point array, got {getattr(velocity, 'dtype', type(velocity).__name__)}"
    if velocity.shape != self._max_velocity.shape:
      return f"velocities have shape {velocity.shape}, the arm has {self._max_velocity.shape[0]} joints"
    if not np.isfinite(velocity).all():
      return f"velocities must be finite, got {velocity}"
    return None

  def _allowed(self, velocity: np.ndarray, qpos: np.ndarray) -> np.ndarray:
    """`velocity` within the speed limits, and without what leads further out of the position limits."""
    velocity = np.clip(velocity, -self._max_velocity, self._max_velocity)
    is_outward = ((qpos <= self._low) & (velocity < 0)) | ((qpos >= self._high) & (velocity > 0))
    return np.where(is_outward, 0.0, velocity)

  def _send(self, velocity: np.ndarray) -> None:
    self._velocity = velocity
    self._driver.command(velocity)
