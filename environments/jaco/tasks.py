"""The tasks of the arm: where an episode starts, what it pays and how it ends.

Reward is 1 on every step with the palm within 10 cm of the target, nothing else (papers.md 2.1). An episode ends with
discount 0 when the arm touches itself or the table or comes to a joint limit, and is cut with discount 1 after 50
steps of 0.1 s. The ceiling: the scripted oracle's mean return over 600 episodes is 44.5 +- 0.3 on `reach/fixed` and
42.7 +- 0.3 on `reach/random`, with 6 and with 9 joints (`tests/environments/oracle.py`). Everything here is a pure
function of joint angles and target, in JAX but with no physics, pixels or batch, so that the simulated world and the
arm behind the bridge are paid and ended by the same code.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from flax import struct

from environments import core
from environments.jaco import constants, contact, kinematics

# Why an episode is over, `Evaluation.ending`.
RUNNING, TIME_LIMIT, SELF_CONTACT, TABLE_CONTACT, JOINT_LIMIT, DIVERGED = range(6)
_NUM_CANDIDATES = 4  # Poses drawn for a start; the first that touches nothing is taken.


@dataclasses.dataclass(frozen=True)
class Task:
  """A reaching task.

  Attributes:
    name: the last two parts of its registered name.
    target_low_m, target_high_m: corners of the box in which the target is drawn uniformly, x y z in the base frame.
    max_start_spread_rad: every joint starts uniformly within a spread of home (fingers within their stops), which is
      itself drawn, uniformly, between 0 and this: from easy starts to hard ones, so that chance finds the reward.
    num_steps: length of an episode.
    reach_distance_m: palm to target within which a step pays 1.
  """

  name: str
  target_low_m: tuple[float, float, float]
  target_high_m: tuple[float, float, float]
  max_start_spread_rad: float = 1.0
  num_steps: int = constants.NUM_EPISODE_STEPS
  reach_distance_m: float = constants.REACH_DISTANCE_M


_FIXED_TARGET = (0.45, 0.0, constants.TARGET_HEIGHT_M)
REACH_FIXED = Task("reach/fixed", _FIXED_TARGET, _FIXED_TARGET)
REACH_RANDOM = Task("reach/random", tuple(constants.TARGET_LOW_M.tolist()), tuple(constants.TARGET_HIGH_M.tolist()))
TASKS = {task.name: task for task in (REACH_FIXED, REACH_RANDOM)}


@struct.dataclass
class Start:
  """The start of an episode; joints are at rest."""

  qpos: jax.Array  # [9] radians
  target: jax.Array  # [3] metres, base frame


@struct.dataclass
class Evaluation:
  """What a task makes of one instant; the first three fields are those of `core.TimeStep`."""

  step_type: jax.Array  # [] int32
  reward: jax.Array  # [] float32
  discount: jax.Array  # [] float32
  ending: jax.Array  # [] int32: RUNNING, ..., DIVERGED
  is_reached: jax.Array  # [] bool: the palm is within reach of the target
  palm: jax.Array  # [3] metres, base frame


def find_ending(qpos: jax.Array, poses: kinematics.Poses) -> jax.Array:
  """Which of the three faults, if any, a pose has; int32 `[]`."""
  faults = jnp.stack(
    [
      contact.self_clearance(poses) < 0,
      contact.table_clearance(poses) < 0,
      contact.joint_clearance(qpos) < constants.JOINT_LIMIT_MARGIN_RAD,
    ]
  )
  return jnp.where(jnp.any(faults), jnp.int32(SELF_CONTACT) + jnp.argmax(faults).astype(jnp.int32), jnp.int32(RUNNING))


def draw_start(task: Task, key: jax.Array) -> Start:
  """Draws joint angles about home that touch nothing, and a target.

  Of a few candidates the first valid one is taken, and home itself if none is.
  """
  pose_key, spread_key, target_key = jax.random.split(key, 3)
  home = jnp.asarray(constants.HOME_RAD, jnp.float32)
  noise = jax.random.uniform(pose_key, (_NUM_CANDIDATES, constants.NUM_JOINTS), minval=-1.0, maxval=1.0)
  low = jnp.asarray(constants.JOINT_LOW_RAD, jnp.float32) + constants.JOINT_LIMIT_MARGIN_RAD
  high = jnp.asarray(constants.JOINT_HIGH_RAD, jnp.float32) - constants.JOINT_LIMIT_MARGIN_RAD
  spread = task.max_start_spread_rad * jax.random.uniform(spread_key)
  candidates = jnp.clip(home[None] + noise * spread, low[None], high[None])
  endings = jax.vmap(lambda qpos: find_ending(qpos, kinematics.forward(qpos)))(candidates)
  is_valid = jnp.append(endings == RUNNING, True)
  candidates = jnp.concatenate([candidates, home[None]])
  target_low, target_high = jnp.float32(task.target_low_m), jnp.float32(task.target_high_m)
  target = target_low + jax.random.uniform(target_key, (3,)) * (target_high - target_low)
  return Start(qpos=candidates[jnp.argmax(is_valid)], target=target)


def evaluate(
  task: Task, qpos: jax.Array, target: jax.Array, elapsed: jax.Array, is_diverged: jax.Array | bool = False
) -> Evaluation:
  """Reward, discount and kind of a step from the joint angles after it.

  Args:
    qpos: joint angles, radians, float32 `[9]`.
    target: the target in the base frame, metres, float32 `[3]`.
    elapsed: control steps since the start of the episode, int32 `[]`; 0 makes a FIRST step, which pays nothing.
    is_diverged: whether the simulation failed (`qpos` then is the last good one), bool `[]`.
  """
  chex.assert_shape((qpos, target), [(constants.NUM_JOINTS,), (3,)])
  return evaluate_poses(task, qpos, kinematics.forward(qpos), target, elapsed, is_diverged)


def evaluate_poses(
  task: Task,
  qpos: jax.Array,
  poses: kinematics.Poses,
  target: jax.Array,
  elapsed: jax.Array,
  is_diverged: jax.Array | bool = False,
) -> Evaluation:
  """`evaluate` for a caller that has the poses already."""
  elapsed = jnp.asarray(elapsed, jnp.int32)
  palm = kinematics.palm(poses)
  is_reached = jnp.linalg.norm(palm - target) <= task.reach_distance_m
  fault = jnp.where(is_diverged, jnp.int32(DIVERGED), find_ending(qpos, poses))
  is_first = elapsed == 0
  is_terminated = ~is_first & (fault != RUNNING)
  is_last = is_terminated | (elapsed >= task.num_steps)
  late = jnp.where(is_last, jnp.int32(TIME_LIMIT), jnp.int32(RUNNING))
  return Evaluation(
    step_type=core.step_type(elapsed, is_last),
    reward=jnp.where(is_reached & ~is_first, 1.0, 0.0).astype(jnp.float32),
    discount=jnp.where(is_terminated, 0.0, 1.0).astype(jnp.float32),
    ending=jnp.where(is_terminated, fault, late),
    is_reached=is_reached,
    palm=palm,
  )
