"""How near an arm is to itself and to the sides of the box that it works in, for the gate, which looks ahead.

MuJoCo measures between the same segments that end an episode in simulation (`environments.jaco.contact`).
"""

import dataclasses
import functools
from typing import NamedTuple

import mujoco
import numpy as np

from environments.jaco import constants, model, shape

_FAR_M = 1.0  # What is farther counts as this far.


@dataclasses.dataclass(frozen=True)
class Workspace:
  """Sides of the box, x y z in the base frame, metres; infinite where there is none. The table is its bottom.

  It holds what `contact.table_clearance` looks at: links 2 to 6 and the fingers.
  """

  low_m: tuple[float, float, float] = (-np.inf, -np.inf, constants.TABLE_HEIGHT_M)
  high_m: tuple[float, float, float] = (np.inf, np.inf, np.inf)

  def clearance_m(self, qpos_rad: np.ndarray) -> float:
    """The smallest gap at `[9]`: between links that are not neighbours, or to a side. Negative where they overlap."""
    arm = _arm()
    arm.data.qpos[:] = qpos_rad
    mujoco.mj_kinematics(arm.model, arm.data)
    gaps = [mujoco.mj_geomDistance(arm.model, arm.data, a, b, _FAR_M, None) for a, b in arm.pairs]
    center, axis = arm.data.geom_xpos[arm.moving], arm.data.geom_xmat[arm.moving, 2::3]  # Segments lie along z.
    reach = np.abs(axis) * arm.half_m + arm.radius_m  # [M, 3] of a segment from its middle
    sides = np.minimum(center - reach - self.low_m, self.high_m - center - reach)
    return min(*gaps, float(sides.min()))


class _Arm(NamedTuple):
  model: mujoco.MjModel
  data: mujoco.MjData
  pairs: list[tuple[int, int]]  # Geoms that must not touch.
  moving: np.ndarray  # [M] geoms that the box holds,
  half_m: np.ndarray  # [M, 1] their segments' half lengths,
  radius_m: np.ndarray  # [M, 1] and radii.


@functools.cache
def _arm() -> _Arm:
  compiled = model.compile_model()
  links = np.array([compiled.geom(f"link_{i}").id for i in range(len(shape.LINKS))])
  moving = links[shape.OVER_TABLE]
  return _Arm(
    model=compiled,
    data=mujoco.MjData(compiled),
    pairs=[(int(a), int(b)) for a, b in links[shape.PAIRS]],
    moving=moving,
    half_m=compiled.geom_size[moving, 1:2],
    radius_m=compiled.geom_size[moving, :1],
  )
