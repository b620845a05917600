"""MJX and C MuJoCo step the same arm, and randomised dynamics mean the same to both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.jaco import constants, kinematics, physics

_NUM_WORLDS = 4
# XLA:CPU's fusion pass duplicates MJX's chain of kinematics exponentially. Without that pass the older emitters of
# `conftest` transpose wrongly.
_COMPILER_OPTIONS = {"xla_disable_hlo_passes": "fusion", "xla_cpu_use_fusion_emitters": True}


@pytest.fixture(scope="module")
def steps():
  """One batched step per physics, with dynamics as an argument, so that MJX is compiled once."""
  mujoco_step = jax.jit(jax.vmap(physics.make("mujoco")))
  mjx_step = jax.jit(jax.vmap(physics.make("mjx")), compiler_options=_COMPILER_OPTIONS)
  return mujoco_step, mjx_step


def _dynamics(*, mass: float = 1.0, friction: float = 1.0, gain: float = 1.0) -> physics.Dynamics:
  joints = (_NUM_WORLDS, constants.NUM_JOINTS)
  return physics.Dynamics(
    mass=jnp.full(_NUM_WORLDS, mass, jnp.float32),
    friction=jnp.full(joints, friction, jnp.float32),
    gain=jnp.full(joints, gain, jnp.float32),
  )


def _kicked(seed: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  rng = np.random.default_rng(seed)
  shape = (_NUM_WORLDS, constants.NUM_JOINTS)
  qpos = np.clip(constants.HOME_RAD + rng.uniform(-0.4, 0.4, shape), -10, constants.JOINT_HIGH_RAD - 0.1)
  speed = constants.MAX_VELOCITY_RAD_S
  qvel, ctrl = rng.uniform(-1, 1, shape) * speed, rng.integers(-1, 2, shape) * speed
  return jnp.float32(qpos), jnp.float32(qvel), jnp.float32(ctrl)


@pytest.mark.parametrize("mass", [1.0, 1.5])
def test_almost_without_friction_both_agree_tightly(steps, mass):
  params = _dynamics(mass=mass, friction=1e-3, gain=0.8)
  ours, theirs = (step(params, *_kicked(0)) for step in steps)
  np.testing.assert_allclose(ours[0], theirs[0], atol=2e-5)
  np.testing.assert_allclose(ours[1], theirs[1], atol=5e-4)


def test_with_friction_palms_stay_within_5_mm_for_5_s(steps):
  rng = np.random.default_rng(1)
  ctrl = rng.integers(-1, 2, (50, _NUM_WORLDS, constants.NUM_JOINTS)) * constants.COMMAND_RAD_S
  palms = []
  for step in steps:
    qpos, qvel, _ = _kicked(1)
    for command in jnp.float32(ctrl):
      qpos, qvel = step(_dynamics(), qpos, qvel, command)
    palms.append(jax.vmap(lambda q: kinematics.palm(kinematics.forward(q)))(qpos))
  apart = np.linalg.norm(palms[0] - palms[1], axis=-1)
  assert apart.max() < 5e-3, apart


def test_nominal_dynamics_change_nothing_and_others_do(steps):
  start = _kicked(2)
  nominal = jax.jit(jax.vmap(physics.make("mujoco"), in_axes=(None, 0, 0, 0)))(None, *start)
  same = steps[0](_dynamics(), *start)
  np.testing.assert_array_equal(nominal[0], same[0])
  for changed in (_dynamics(friction=3.0), _dynamics(gain=0.5)):
    assert np.abs(steps[0](changed, *start)[1] - nominal[1]).max() > 1e-3


def test_a_batch_is_its_worlds(steps):
  """Each world has its own dynamics, whichever model or thread served it before."""
  friction = jnp.float32([0.5, 1.0, 2.0, 4.0])[:, None] * jnp.ones((1, constants.NUM_JOINTS))
  params = _dynamics().replace(friction=friction)
  start = _kicked(3)
  batch = steps[0](params, *start)
  alone = jax.jit(physics.make("mujoco"))
  for world in range(_NUM_WORLDS):
    params_one, start_one = jax.tree.map(lambda leaf, w=world: leaf[w], (params, start))
    one = alone(params_one, *start_one)
    np.testing.assert_array_equal(one[0], batch[0][world])


def test_a_world_that_diverges_says_so_and_leaves_the_others_what_they_are(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT to the current folder.
  step = jax.jit(jax.vmap(physics.make("mujoco", num_threads=1), in_axes=(None, 0, 0, 0)))
  qpos, qvel, ctrl = _kicked(4)
  whole = np.stack(step(None, qpos, qvel, ctrl))
  broken = np.stack(step(None, qpos, qvel.at[1].set(jnp.nan), ctrl))
  assert np.isnan(broken[:, 1]).all()
  np.testing.assert_array_equal(np.delete(broken, 1, axis=1), np.delete(whole, 1, axis=1))
  np.testing.assert_array_equal(np.stack(step(None, qpos, qvel, ctrl)), whole)  # The next batch is unaffected.


def test_an_unknown_physics_is_refused():
  with pytest.raises(ValueError, match="warp"):
    physics.make("warp")
