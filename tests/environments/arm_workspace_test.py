"""The gate's clearance against the simulation's, which is computed by other means."""

import jax
import numpy as np

from environments.arm import workspace
from environments.jaco import constants, contact, kinematics


def test_clearance_is_that_which_ends_an_episode():
  low, high = np.nan_to_num(constants.JOINT_LOW_RAD, neginf=-3), np.nan_to_num(constants.JOINT_HIGH_RAD, posinf=3)
  qpos = np.random.default_rng(0).uniform(low, high, (400, constants.NUM_JOINTS))

  @jax.jit
  @jax.vmap
  def clearances(qpos):
    poses = kinematics.forward(qpos)
    return contact.self_clearance(poses), contact.table_clearance(poses)

  itself, table = map(np.asarray, clearances(qpos.astype(np.float32)))
  assert min(np.sum(itself < 0), np.sum(table < 0), np.sum(itself < table), np.sum(itself > table)) > 5
  ours = [workspace.Workspace().clearance_m(one) for one in qpos]
  np.testing.assert_allclose(ours, np.minimum(itself, table), atol=1e-5)


def test_every_side_of_the_box_counts():
  """The clearance to a side is the distance of the capsule that reaches farthest to it."""
  free = workspace.Workspace(low_m=(-9, -9, -9), high_m=(9, 9, 9)).clearance_m(constants.HOME_RAD)
  assert free > 0.01  # The clearance to itself.
  poses = jax.jit(kinematics.forward)(constants.HOME_RAD.astype(np.float32))
  ends = np.concatenate([np.asarray(x) for x in contact._ends(poses)])
  radius = np.tile(contact._LINKS.radius, 2)[:, None]
  is_moving = np.tile(contact._LINKS.body >= 2, 2)
  lowest, highest = (ends - radius)[is_moving].min(axis=0), (ends + radius)[is_moving].max(axis=0)
  for axis in range(3):
    low_m, high_m = np.full(3, -9.0), np.full(3, 9.0)
    low_m[axis] = lowest[axis] - 0.004
    np.testing.assert_allclose(workspace.Workspace(tuple(low_m)).clearance_m(constants.HOME_RAD), 0.004, atol=1e-5)
    high_m[axis] = highest[axis] - 0.003
    box = workspace.Workspace((-9, -9, -9), tuple(high_m))
    np.testing.assert_allclose(box.clearance_m(constants.HOME_RAD), -0.003, atol=1e-5)
