"""The tasks of the arm: where an episode starts, how the target moves, what a step pays and how an episode ends.

The reward is 1 on every step with the palm within 10 cm of the target, and nothing else (papers.md 2.1). An episode
ends with discount 0 when the arm touches itself or the table or comes to a joint limit. After 50 steps of 0.1 s it is
truncated with discount 1. The tasks differ only in their target. The papers and talks name most of them and define only
the reacher (papers.md 2.1, 2.5, 2.6). How a target moves, and all numbers, are our choices. The ceiling is the mean
return of a scripted oracle over 600 episodes, +- its standard error. It is the same with 6 and with 9 joints
(`python -m tests.environments.oracle`):

    reach/fixed    44.5 +- 0.3  one place, 20 cm above the middle of the work area
    reach/random   42.8 +- 0.3  anywhere in 30 x 40 cm, 20 cm above the table
    reach/table    36.3 +- 0.4  the same on the table itself, as the paper's flat target
    reach/3d       43.0 +- 0.3  anywhere in a box over that area
    reach/moving   42.8 +- 0.3  slides straight on in the area of `reach/random`
    conveyor       43.4 +- 0.3  pulled along a line, with random reversals
    catch          40.3 +- 0.2  thrown from one side to the other; caught while within 10 cm
    catch_the_bee  41.4 +- 0.3  flies through the box of `reach/3d`, with sudden turns

Everything here is a pure function in JAX, without physics, pixels or batches. The simulated world and the arm behind
the bridge therefore share the code that moves targets, pays rewards and ends episodes.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from environments import core
from environments.jaco import constants, contact, kinematics

# Why an episode has ended, `Evaluation.ending`.
RUNNING, TIME_LIMIT, SELF_CONTACT, TABLE_CONTACT, JOINT_LIMIT, DIVERGED = range(6)
_NUM_CANDIDATES = 4  # Poses drawn for a start. The first one that touches nothing is used.


@dataclasses.dataclass(frozen=True)
class Task:
  """A target to keep the palm near: how it starts and moves, and what an episode is.

  Attributes:
    name: its registered name, without `jaco/`.
    target_low_m, target_high_m: corners of the box in which the target is drawn uniformly, x y z in the base frame. The
      target stays in the box: it bounces off the faces.
    target_speed_m_s: least and greatest speed, drawn uniformly for a whole episode. The direction is drawn uniformly
      from those that the box has room for: to and fro on a line, in a plane, or in space.
    turns_per_s: about how often, at random, a new direction is drawn, at most once a step. On a line every other turn
      reverses the motion.
    is_thrown: the target starts on a side of the box, where y is least or greatest, and moves straight towards a point
      of the other side.
    max_start_spread_rad: every joint starts uniformly within a spread around home, clipped at its stops (where 12 % of
      the fingers' starts lie). The spread itself is drawn uniformly between 0 and this value. Starts thus range from
      easy to hard, so that chance finds the reward.
    num_steps: length of an episode.
    reach_distance_m: distance from palm to target within which a step pays 1.
  """

  name: str
  target_low_m: tuple[float, float, float]
  target_high_m: tuple[float, float, float]
  target_speed_m_s: tuple[float, float] = (0.0, 0.0)
  turns_per_s: float = 0.0
  is_thrown: bool = False
  max_start_spread_rad: float = 1.0
  num_steps: int = constants.NUM_EPISODE_STEPS
  reach_distance_m: float = constants.REACH_DISTANCE_M

  @property
  def is_moving(self) -> bool:
    return self.target_speed_m_s[1] > 0.0


(_X_LOW, _Y_LOW, _Z), (_X_HIGH, _Y_HIGH, _) = constants.TARGET_LOW_M.tolist(), constants.TARGET_HIGH_M.tolist()
_X, _LYING = 0.45, constants.TARGET_RADIUS_M
_AIR_LOW, _AIR_HIGH = 0.15, 0.40  # The hand, which hangs 10 cm below the palm, stays clear of the table.
TASKS = {
  task.name: task
  for task in (
    Task("reach/fixed", (_X, 0.0, _Z), (_X, 0.0, _Z)),
    Task("reach/random", (_X_LOW, _Y_LOW, _Z), (_X_HIGH, _Y_HIGH, _Z)),
    Task("reach/table", (_X_LOW, _Y_LOW, _LYING), (_X_HIGH, _Y_HIGH, _LYING)),
    Task("reach/3d", (_X_LOW, _Y_LOW, _AIR_LOW), (_X_HIGH, _Y_HIGH, _AIR_HIGH)),
    Task("reach/moving", (_X_LOW, _Y_LOW, _Z), (_X_HIGH, _Y_HIGH, _Z), (0.05, 0.15)),
    Task("conveyor", (_X, _Y_LOW, _Z), (_X, _Y_HIGH, _Z), (0.10, 0.20), turns_per_s=1.0),
    # All are in view; the fastest throw travels 70 cm in an episode, the slowest 50.
    Task("catch", (_X_LOW, -0.35, _AIR_LOW), (0.50, 0.35, _AIR_HIGH), (0.10, 0.14), is_thrown=True),
    Task("catch_the_bee", (_X_LOW, _Y_LOW, _AIR_LOW), (_X_HIGH, _Y_HIGH, _AIR_HIGH), (0.20, 0.30), turns_per_s=2.0),
  )
}


@struct.dataclass
class Target:
  """The target at one instant of an episode."""

  position: jax.Array  # [3] metres, base frame
  velocity: jax.Array  # [3] m/s
  key: jax.Array  # [] for the turns to come


@struct.dataclass
class Start:
  """The start of an episode, with the joints at rest."""

  qpos: jax.Array  # [9] radians
  target: Target


@struct.dataclass
class Evaluation:
  """What a task computes from one instant; the first three fields are those of `core.TimeStep`."""

  step_type: jax.Array  # [] int32
  reward: jax.Array  # [] float32
  discount: jax.Array  # [] float32
  ending: jax.Array  # [] int32: RUNNING, ..., DIVERGED
  is_reached: jax.Array  # [] bool: the palm is within reach of the target
  palm: jax.Array  # [3] metres, base frame


def find_ending(qpos: jax.Array, poses: kinematics.Poses) -> jax.Array:
  """Which of the three faults a pose has, if any; int32 `[]`."""
  faults = jnp.stack(
    [
      contact.self_clearance(poses) < 0,
      contact.table_clearance(poses) < 0,
      contact.joint_clearance(qpos) < constants.JOINT_LIMIT_MARGIN_RAD,
    ]
  )
  return jnp.where(jnp.any(faults), jnp.int32(SELF_CONTACT) + jnp.argmax(faults).astype(jnp.int32), jnp.int32(RUNNING))


def draw_start(task: Task, key: jax.Array) -> Start:
  """Draws joint angles around home that touch nothing, and a target.

  The first valid one of a few candidates is used, or home itself if none is valid.
  """
  pose_key, spread_key, target_key, motion_key = jax.random.split(key, 4)
  home = jnp.asarray(constants.HOME_RAD, jnp.float32)
  noise = jax.random.uniform(pose_key, (_NUM_CANDIDATES, constants.NUM_JOINTS), minval=-1.0, maxval=1.0)
  low = jnp.asarray(constants.JOINT_LOW_RAD, jnp.float32) + constants.JOINT_LIMIT_MARGIN_RAD
  high = jnp.asarray(constants.JOINT_HIGH_RAD, jnp.float32) - constants.JOINT_LIMIT_MARGIN_RAD
  spread = task.max_start_spread_rad * jax.random.uniform(spread_key)
  candidates = jnp.clip(home[None] + noise * spread, low[None], high[None])
  endings = jax.vmap(lambda qpos: find_ending(qpos, kinematics.forward(qpos)))(candidates)
  is_valid = jnp.append(endings == RUNNING, True)
  candidates = jnp.concatenate([candidates, home[None]])
  return Start(qpos=candidates[jnp.argmax(is_valid)], target=_draw_target(task, target_key, motion_key))


def move(task: Task, target: Target) -> Target:
  """The target one control step later."""
  if not task.is_moving:
    return target
  low, high = jnp.float32(task.target_low_m), jnp.float32(task.target_high_m)
  position, velocity, key = target.position + target.velocity * constants.CONTROL_DT_S, target.velocity, target.key
  is_low, is_high = position < low, position > high
  position = jnp.where(is_low, 2 * low - position, jnp.where(is_high, 2 * high - position, position))
  velocity = jnp.where(is_low | is_high, -velocity, velocity)
  if task.turns_per_s:
    key, is_turn_key, turn_key = jax.random.split(key, 3)
    is_turn = jax.random.bernoulli(is_turn_key, -np.expm1(-task.turns_per_s * constants.CONTROL_DT_S))
    velocity = jnp.where(is_turn, jnp.linalg.norm(velocity) * _draw_direction(task, turn_key), velocity)
  return Target(position, velocity, key)


def path(task: Task, target: Target) -> jax.Array:
  """The positions of an episode's target at its start and after each step, base frame, metres: float32 `[T + 1, 3]`."""
  return jax.lax.scan(lambda here, _: (move(task, here), here.position), target, length=task.num_steps + 1)[1]


def _draw_target(task: Task, point_key: jax.Array, motion_key: jax.Array) -> Target:
  low, high = jnp.float32(task.target_low_m), jnp.float32(task.target_high_m)

  def draw_point(key: jax.Array) -> jax.Array:
    return low + jax.random.uniform(key, (3,)) * (high - low)

  position, velocity = draw_point(point_key), jnp.zeros(3, jnp.float32)
  speed_key, direction_key, aim_key, side_key, turn_key = jax.random.split(motion_key, 5)
  if task.is_moving:
    direction = _draw_direction(task, direction_key)
    if task.is_thrown:
      from_side, to_side = jax.random.permutation(side_key, jnp.stack([low[1], high[1]]))
      position = position.at[1].set(from_side)
      way = draw_point(aim_key).at[1].set(to_side) - position
      direction = way / jnp.linalg.norm(way)
    least, most = task.target_speed_m_s
    velocity = jax.random.uniform(speed_key, minval=least, maxval=most) * direction
  return Target(position, velocity, turn_key)


def _draw_direction(task: Task, key: jax.Array) -> jax.Array:
  """A unit vector `[3]`, uniform among the directions in which the box extends."""
  has_room = np.less(task.target_low_m, task.target_high_m)
  way = jnp.where(has_room, jax.random.normal(key, (3,)), 0.0)
  return way / jnp.linalg.norm(way)


def evaluate(
  task: Task, qpos: jax.Array, target: jax.Array, elapsed: jax.Array, is_diverged: jax.Array | bool = False
) -> Evaluation:
  """Reward, discount and step type, computed from the joint angles after the step.

  Args:
    qpos: joint angles, radians, float32 `[9]`.
    target: the target in the base frame, metres, float32 `[3]`.
    elapsed: control steps since the start of the episode, int32 `[]`; 0 makes a FIRST step, which pays nothing.
    is_diverged: whether the simulation failed (then `qpos` is the last good one), bool `[]`.
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
  """`evaluate` for a caller that already has the poses."""
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
