"""Our kinematics and inertias against MuJoCo's, on our model and on dm_control's mesh model."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from environments.jaco import constants, kinematics, model


@functools.cache
def _ours() -> mujoco.MjModel:
  return model.compile_model()


@functools.cache
def _meshes() -> mujoco.MjModel:
  """dm_control's Kinova with its meshes."""
  jaco_arm = pytest.importorskip("dm_control.entities.manipulators.kinova.jaco_arm")
  jaco_hand = pytest.importorskip("dm_control.entities.manipulators.kinova.jaco_hand")
  mjcf = pytest.importorskip("dm_control.mjcf")
  arm = jaco_arm.JacoArm()
  arm.attach(jaco_hand.JacoHand())
  return mjcf.Physics.from_mjcf_model(arm.mjcf_model).model.ptr


_MESH_BODIES = [f"b_{i}" for i in range(1, 6)] + ["jaco_hand/hand"] + [f"jaco_hand/b_finger_{i}" for i in (1, 2, 3)]


def _poses(arm: mujoco.MjModel, names: list[str], qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray, mujoco.MjData]:
  data = mujoco.MjData(arm)
  data.qpos[:] = qpos
  mujoco.mj_forward(arm, data)
  position = np.stack([data.body(name).xpos for name in names])
  return position, np.stack([data.body(name).xmat.reshape(3, 3) for name in names]), data


@pytest.mark.parametrize("which", ["ours", "meshes"])
def test_poses_are_mujocos(which):
  arm = _ours() if which == "ours" else _meshes()
  names = list(constants.BODY_NAMES[1:]) if which == "ours" else _MESH_BODIES
  forward = jax.jit(kinematics.forward)
  rng = np.random.default_rng(0)
  for _ in range(5):
    qpos = rng.uniform(-np.pi, np.pi, constants.NUM_JOINTS)
    position, rotation, data = _poses(arm, names, qpos)
    poses = forward(jnp.float32(qpos))
    np.testing.assert_allclose(poses.position[1:], position, atol=1e-5)
    np.testing.assert_allclose(poses.rotation[1:], rotation, atol=2e-5)
    if which == "meshes":
      np.testing.assert_allclose(kinematics.palm(poses), data.site("jaco_hand/gripsite").xpos, atol=1e-5)


def test_the_mass_matrix_is_that_of_the_mesh_model():
  rng = np.random.default_rng(1)
  for _ in range(3):
    qpos = rng.uniform(-np.pi, np.pi, constants.NUM_JOINTS)
    inertia = []
    for arm, names in ((_ours(), list(constants.BODY_NAMES[1:])), (_meshes(), _MESH_BODIES)):
      _, _, data = _poses(arm, names, qpos)
      full = np.zeros((arm.nv, arm.nv))
      mujoco.mj_fullM(arm, data, full)
      inertia.append(full)
    np.testing.assert_allclose(inertia[0], inertia[1], rtol=1e-3, atol=2e-5)


def test_joints_are_those_of_the_mesh_model():
  ours, meshes = _ours(), _meshes()
  for field in ("dof_armature", "dof_damping", "dof_frictionloss"):
    np.testing.assert_allclose(getattr(ours, field), getattr(meshes, field), err_msg=field)
  np.testing.assert_array_equal(ours.jnt_limited, meshes.jnt_limited)
  is_limited = ours.jnt_limited.astype(bool)
  np.testing.assert_allclose(ours.jnt_range[is_limited], meshes.jnt_range[is_limited])
  np.testing.assert_allclose(ours.actuator_gainprm[:6, 0], meshes.actuator_gainprm[:6, 0])
  np.testing.assert_allclose(ours.actuator_forcerange, meshes.actuator_forcerange)
  np.testing.assert_allclose(ours.actuator_ctrlrange[:6], meshes.actuator_ctrlrange[:6])
