"""How near an arm is to itself and to the sides of its working box. The gate needs this to look ahead.

MuJoCo measures between the same segments that end an episode in simulation (`environments.jaco.contact`).
"""

import dataclasses
import functools

import mujoco
import numpy as np

from environments.jaco import constants, model, shape

_FAR_M = 0.25  # Larger distances count as this one.


@dataclasses.dataclass(frozen=True)
class Workspace:
  """Sides of the box, x y z in the base frame, metres; infinite where there is no side. The table is the bottom.

  The sides bound the parts that `contact.table_clearance` checks: links 2 to 6 and the fingers.
  """

  low_m: tuple[float, float, float] = (-np.inf, -np.inf, constants.TABLE_HEIGHT_M)
  high_m: tuple[float, float, float] = (np.inf, np.inf, np.inf)

  def clearance_m(self, qpos_rad: np.ndarray) -> float:
    """The smallest gap at `[9]`, between links that are not neighbours or to a side. Negative if they overlap."""
    scene, data = _compile(self)
    data.qpos[:] = qpos_rad
    mujoco.mj_kinematics(scene, data)
    mujoco.mj_collision(scene, data)
    return float(data.contact.dist.min(initial=_FAR_M))


@functools.cache
def _compile(workspace: Workspace) -> tuple[mujoco.MjModel, mujoco.MjData]:
  """The arm of capsules in its box of planes. Parts that must not touch make a contact within `_FAR_M`."""
  spec = mujoco.MjSpec.from_string(model.mjcf())
  spec.option.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
  links = [spec.geom(f"link_{i}") for i in range(len(shape.LINKS))]
  for link in links:
    link.type = mujoco.mjtGeom.mjGEOM_CAPSULE
  pairs = [(links[a], links[b]) for a, b in shape.PAIRS]
  for inwards, corner_m in ((1.0, workspace.low_m), (-1.0, workspace.high_m)):
    for axis in np.flatnonzero(np.isfinite(corner_m)):
      side = spec.worldbody.add_geom(
        name=f"side_{inwards * (axis + 1):+g}",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(1, 1, 1),  # The drawn size; for contacts it is endless.
        pos=corner_m[axis] * np.eye(3)[axis],
        contype=0,
        conaffinity=0,
      )
      side.alt.type, side.alt.zaxis = mujoco.mjtOrientation.mjORIENTATION_ZAXIS, inwards * np.eye(3)[axis]
      pairs += [(side, link) for link in np.array(links)[shape.OVER_TABLE]]
  for a, b in pairs:
    spec.add_pair(geomname1=a.name, geomname2=b.name, margin=_FAR_M, condim=1)
  compiled = spec.compile()
  return compiled, mujoco.MjData(compiled)
