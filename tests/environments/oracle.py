"""The scripted arm: the ceiling that an agent's return is measured against.

Resolved-rate inverse kinematics on privileged state: damped least squares turns the way from palm to target into joint
rates, dq = J' (J J' + k I)^-1 e, and each joint takes the action nearest its rate. The oracle has the agent's own
action set, speeds and control rate. It moves to where the target is now, but not below 13 cm. There the hand, which
hangs 10 cm below the palm, would touch the table.

  python -m tests.environments.oracle  # Prints its mean returns, as in `environments/jaco/tasks.py`.
"""

import jax
import jax.numpy as jnp

from environments import core
from environments.jaco import constants, kinematics, tasks, world

_DAMPING_M2 = 0.05
_LOWEST_M = 0.13
_MAX_STEP_M = 0.30  # Longer ways are cut to this before they become joint rates.


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
  way = target.at[2].max(_LOWEST_M) - palm_at(arm)
  way = way * jnp.minimum(1.0, _MAX_STEP_M / jnp.maximum(jnp.linalg.norm(way), 1e-6))
  gram = jacobian @ jacobian.T + _DAMPING_M2 * jnp.eye(3, dtype=jnp.float32)
  change = jacobian.T @ jnp.linalg.solve(gram, way)  # [6] radians
  per_step = jnp.asarray(constants.COMMAND_RAD_S[:6] * constants.CONTROL_DT_S, jnp.float32)
  choice = jnp.clip(jnp.round(change / per_step), -1, 1).astype(jnp.int32) + 1
  return jnp.concatenate([choice, jnp.ones(num_joints - constants.NUM_ARM_JOINTS, jnp.int32)])


def play(environment: world.Jaco, key: jax.Array, num_episodes: int) -> jax.Array:
  """The oracle's returns over whole episodes of `environment`, all at once, float32 `[num_episodes]`."""
  worlds = jax.vmap(environment.reset)(jax.random.split(key, num_episodes))

  def one_step(carry: tuple[world.State, jax.Array], _: None) -> tuple[tuple[world.State, jax.Array], jax.Array]:
    worlds, is_over = carry
    action = jax.vmap(lambda w: act(w.qpos, w.target.position, num_joints=environment.num_joints))(worlds)
    worlds = jax.vmap(environment.step)(worlds, action)
    timestep = jax.vmap(environment.observe)(worlds)  # Pixels, which are not used, are not computed.
    reward = jnp.where(is_over, 0.0, timestep.reward)
    return (worlds, is_over | (timestep.step_type == core.LAST)), reward

  is_over = jnp.zeros(num_episodes, jnp.bool_)
  _, rewards = jax.lax.scan(one_step, (worlds, is_over), None, length=environment.task.num_steps)
  return jnp.sum(rewards, 0)


def _measure(num_episodes: int = 600) -> None:
  """Prints the mean return on each task, and its standard error."""
  for name, task in tasks.TASKS.items():
    returns = jax.jit(lambda key, t=task: play(world.Jaco(t, num_joints=6), key, num_episodes))(jax.random.key(0))
    print(f"{name:14} {returns.mean():.1f} +- {returns.std() / num_episodes**0.5:.1f}", flush=True)


if __name__ == "__main__":
  _measure()
