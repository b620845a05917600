"""The two interfaces of the bridge: what a driver is, and what travels between server and client.

A driver is whatever makes an arm move: the twin's physics, Kinova's SDK, ROS. It takes joint velocities, reports what
its instruments read, and owns the clock in which everything behind the bridge counts: `time.monotonic` in real time,
simulated time on a twin that runs as fast as it can. Its camera is a separate device, and may live in another process.
The wire is `dm_env_rpc`: one action, `ACTION`, the observations of the simulated world under the same names, and
`JITTER`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

WORLD_NAME = "arm"  # The only world that a server offers: there is one arm.
ACTION = "action"
REWARD = "reward"
# An observation only for clients that name it, float32 [2], seconds. The first number is by how much this step ended
# later than one control period after the previous step (below 0: sooner; 0 at an episode's start). The second is the
# most by which a command to the arm came later than `Limits.poll_s` after the previous command, since the previous
# step. Both are 0 on simulated time.
JITTER = "jitter"
SEED = "seed"  # Optional setting of JoinWorld: the seed of the coming episodes, int.
# If one side is frozen or cut off, the other side considers it gone after 10 s.
KEEPALIVE = (
  ("grpc.keepalive_time_ms", 5_000),
  ("grpc.keepalive_timeout_ms", 5_000),
  ("grpc.http2.max_pings_without_data", 0),
  ("grpc.http2.ping_timeout_ms", 5_000),  # Applies if another ping is under way, such as the BDP probe's.
)
TASK = "task"  # The property with the task played, and an optional setting of JoinWorld: the task expected.


def by_default(offered: Iterable[str]) -> list[str]:
  """The observations for a client that names none: those that the simulation has too, so not `JITTER`."""
  return [name for name in offered if name not in (REWARD, JITTER)]


class BridgeError(RuntimeError):
  """Something that a person must correct (server, port, task, spec). The message is one line that names the fix."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """What an arm may do, one entry per joint, infinite where there is no limit; and how closely it is watched.

  Numbers without a source are our choices.
  """

  max_velocity_rad_s: tuple[float, ...]  # [J]
  low_rad: tuple[float, ...]  # [J]
  high_rad: tuple[float, ...]  # [J]
  # Angles [J] -> metres between the arm and what it must not touch, negative for an overlap; None if nothing limits it.
  clearance_m: Callable[[np.ndarray], float] | None = None
  margin_m: float = 0.02  # Clearance that must be left when the arm has braked.
  max_acceleration_rad_s2: float = 8.0  # Of the commanded speed; the twin's motors give 3 to 8.
  max_jerk_rad_s3: float = 320.0  # Of the commands; less costs rewards, or time to stop (docs/results/arm.md).
  braking_rad_s2: float = 2.0  # Every joint can brake at least this hard; Kinova's firmware allows 3.5.
  reaction_s: float = 0.08  # From a command to the joint: latency, servo, one poll.
  max_age_s: float = 0.1  # With a reading older than this, the arm is braked to rest.
  fault_age_s: float = 0.5  # A reading older than this is a fault; a busy machine alone does not make readings so old.
  hang_s: float = 0.2  # For this long the process that owns the arm may hang before the kernel ends it.
  poll_s: float = 0.025  # How often the arm gets its command: four times a control step.
  read_s: float = 0.02  # How often its instruments are read, in real time.

  def __post_init__(self) -> None:
    lengths = {len(self.max_velocity_rad_s), len(self.low_rad), len(self.high_rad)}
    if len(lengths) > 1:
      raise ValueError(f"Limits: one entry a joint, but the three limits have lengths {sorted(lengths)}")
    rates = ("max_acceleration_rad_s2", "max_jerk_rad_s3", "braking_rad_s2")
    for name in (*rates, "max_age_s", "fault_age_s", "hang_s", "poll_s", "read_s"):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(f"Limits: {name}={getattr(self, name)} must be positive and finite")
    if not all(speed > 0 for speed in self.max_velocity_rad_s):
      raise ValueError(f"Limits: max_velocity_rad_s={self.max_velocity_rad_s} must be positive")
    if not all(low < high for low, high in zip(self.low_rad, self.high_rad, strict=True)):
      raise ValueError(f"Limits: low_rad={self.low_rad} must be below high_rad={self.high_rad}")
    if self.braking_rad_s2 > self.max_acceleration_rad_s2:
      raise ValueError(
        f"Limits: braking_rad_s2={self.braking_rad_s2} must not be above max_acceleration_rad_s2="
        f"{self.max_acceleration_rad_s2}: no joint would be told to brake in time"
      )
    if not 0 <= self.margin_m < math.inf:
      raise ValueError(f"Limits: margin_m={self.margin_m} must be 0 or more, and finite")
    if self.poll_s >= self.hang_s:
      raise ValueError(f"Limits: poll_s={self.poll_s} must be below hang_s={self.hang_s}, which ends what waits longer")
    if not self.poll_s <= self.reaction_s < math.inf:
      raise ValueError(f"Limits: reaction_s={self.reaction_s} must hold one poll, poll_s={self.poll_s}, and be finite")


def check_seed(seed: Any) -> None:
  """Raises `BridgeError` unless `seed` is a valid seed of episodes."""
  if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
    raise BridgeError(f"seed={seed!r} must be a whole number from 0 to 2**32 - 1")


class Reading(NamedTuple):
  """What an arm's own instruments say at one instant."""

  time_s: float  # On the driver's clock: the instruments' own time, which stands still if they do.
  qpos_rad: np.ndarray  # [J] float64
  qvel_rad_s: np.ndarray  # [J] float64
  target_in_base_m: np.ndarray  # [3] float64, x y z
  scene: np.ndarray | None = None  # What a simulated camera draws; a real camera looks for itself.


class Driver(Protocol):
  """An arm. In real time `read` is called from its own thread, and all other methods from another thread."""

  def now_s(self) -> float:
    """The driver's clock; `time.monotonic()` in real time."""

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    """Gets ready to start at `qpos_rad`, `[J]`. A simulated arm is put there; commands move a real arm there later.

    `seed` is for what a simulated driver draws (noise). Returns whether the arm was put there, at rest.
    """

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    """Brings the target to `[3]`, x y z. A moving target gets this at every step, and has until the step's end."""

  def command(self, velocity_rad_s: np.ndarray) -> None:
    """Takes joint velocities, `[J]`, to keep until the next call, which comes after `Limits.poll_s`.

    An arm that can do so should stop by itself if no call comes: if its process dies, nobody is left to stop it.
    """

  def stop(self) -> None:
    """Brings every joint to rest, now, even while `read` hangs."""

  def wait(self, until_s: float) -> None:
    """Simulates until the clock shows `until_s`. In real time nobody calls it, and a driver needs none."""

  def read(self) -> Reading:
    """Reads the joints and the target, now."""

  def close(self) -> None:
    """Releases the arm. The last call."""


class Camera(Protocol):
  """What looks at the arm. Only one thread calls it, which need not be the driver's, nor in its process."""

  def image(self, reading: Reading) -> np.ndarray:
    """What it sees now, uint8 `[H, W, 3]`. A simulated camera draws the scene of the reading."""

  def close(self) -> None:
    """Releases the camera. The last call."""


class DriverConfig(Protocol):
  """Which arm, and its settings: a frozen dataclass that can be sent to another process."""

  @property
  def is_real_time(self) -> bool:
    """Whether time passes by itself, or only in `Driver.wait`."""

  @property
  def lock(self) -> str | None:
    """A name of the arm, which one process of this machine can hold; None if there may be many such arms."""

  def limits(self) -> Limits:
    """What the arm may do."""

  def make(self) -> Driver:
    """The driver of this configuration."""

  def make_camera(self) -> Camera:
    """The camera that looks at this arm."""
