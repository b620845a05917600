"""The two seams of the bridge: what a driver is, and what travels between server and client.

A driver is whatever makes an arm move: the twin's physics, later Kinova's controller. It takes joint velocities,
keeps the latest until told otherwise, says what its instruments read, and owns the clock that everything behind the
bridge counts in (wall time on an arm, simulated time on a twin that runs as fast as it can). The wire is
`dm_env_rpc`: one action, `ACTION`, and the observations of the simulated world under the same names.
"""

from typing import NamedTuple, Protocol

import numpy as np

WORLD_NAME = "arm"  # The only world a server offers: there is one arm.
ACTION = "action"
REWARD = "reward"
SEED = "seed"  # Optional setting of JoinWorld: the seed of the coming episodes, int.
# A side that is frozen, or cut off, is gone for the other one after 10 s.
KEEPALIVE = (
  ("grpc.keepalive_time_ms", 5_000),
  ("grpc.keepalive_timeout_ms", 5_000),
  ("grpc.http2.max_pings_without_data", 0),
  ("grpc.http2.ping_timeout_ms", 5_000),  # What counts where another ping is under way, as that of the BDP probe.
)
TASK = "task"  # Optional setting of JoinWorld: the task that the client expects, refused where it is another.


class BridgeError(RuntimeError):
  """Something a person must put right (server, port, task, spec); the message is one line that names the fix."""


class Reading(NamedTuple):
  """What an arm's own instruments say at one instant."""

  time_s: float  # On the driver's clock.
  qpos_rad: np.ndarray  # [J] float64
  qvel_rad_s: np.ndarray  # [J] float64
  target_in_base_m: np.ndarray  # [3] float64, x y z


class Driver(Protocol):
  """An arm. Called from one thread only."""

  def now_s(self) -> float:
    """The driver's clock."""

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> None:
    """Brings the arm to rest at `qpos_rad`, `[J]`. `seed` is for what a simulated driver draws (noise)."""

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    """Brings the target to `[3]`, x y z; one that moves is told at every step, and has until the step's end."""

  def command(self, velocity_rad_s: np.ndarray) -> None:
    """Joint velocities to keep from now on, `[J]`."""

  def stop(self) -> None:
    """Brings every joint to rest, now."""

  def wait(self, until_s: float) -> None:
    """Returns when the clock shows `until_s`; at once if it already does."""

  def read(self) -> Reading:
    """The joints and the target, now."""

  def image(self) -> np.ndarray:
    """What the camera sees now, uint8 `[H, W, 3]`."""

  def close(self) -> None:
    """Releases the arm. The last call."""


class DriverConfig(Protocol):
  """Which arm, and how: a frozen dataclass that can be sent to another process."""

  def make(self) -> Driver:
    """The driver that this configures."""
