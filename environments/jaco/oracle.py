"""The scripted arm: the ceiling that an agent's return is measured against.

Resolved-rate inverse kinematics on privileged state: damped least squares turns the way from the palm to a point above
the target into joint rates, dq = J' (J J' + k I)^-1 e, and each joint takes the action nearest its rate. It has the
agent's own action set, speeds and control rate.
"""

import jax
import jax.numpy as jnp

from environments.jaco import constants, kinematics

_DAMPING_M2 = 0.01
_AIM_ABOVE_M = 0.06  # Over the target's centre: within reach of it, and the fingers stay off the table.
_MAX_STEP_M = 0.10  # Longer ways are cut to this before they become joint rates.


def act(qpos: jax.Array, target: jax.Array, *, num_joints: int = constants.NUM_ARM_JOINTS) -> jax.Array:
  """The oracle's action, int32 `[num_joints]`: 0, 1, 2 for -v, 0, +v; fingers hold still.

  Args:
    qpos: joint angles, radians, float32 `[9]`.
    target: the target in the base frame, metres, float32 `[3]`.
    num_joints: 6, or 9 where the fingers are commanded too.
  """

  def palm_at(arm: jax.Array) -> jax.Array:
    return kinematics.palm(kinematics.forward(jnp.concatenate([arm, qpos[6:]])))

  arm = qpos[: constants.NUM_ARM_JOINTS]
  jacobian = jax.jacfwd(palm_at)(arm)  # [3, 6]
  way = target + jnp.array([0.0, 0.0, _AIM_ABOVE_M], jnp.float32) - palm_at(arm)
  way = way * jnp.minimum(1.0, _MAX_STEP_M / jnp.maximum(jnp.linalg.norm(way), 1e-6))
  gram = jacobian @ jacobian.T + _DAMPING_M2 * jnp.eye(3, dtype=jnp.float32)
  change = jacobian.T @ jnp.linalg.solve(gram, way)  # [6] radians
  per_step = jnp.asarray(constants.COMMAND_RAD_S[:6] * constants.CONTROL_DT_S, jnp.float32)
  choice = jnp.clip(jnp.round(change / per_step), -1, 1).astype(jnp.int32) + 1
  return jnp.concatenate([choice, jnp.ones(num_joints - constants.NUM_ARM_JOINTS, jnp.int32)])
