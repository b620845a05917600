"""The simulated arm as a world: reset draws an episode, step moves the arm, observe looks.

    action -> commanded velocities -> physics (10 steps of 10 ms) -> joint angles      (step)
    joint angles -> poses -> reward and ending -> pixels, depth, proprioception        (observe)

`physics` moves the arm, `kinematics` poses it, `camera` draws it, `tasks` judges it.
"""

import dataclasses
import functools
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

from environments import core, loop_closure
from environments.jaco import camera, constants, kinematics, physics, randomize, tasks

# A guess: a hundred times the speed that Kinova allows a joint. Diverging values may stay finite, as far as 1e20.
_DIVERGED_RAD_S = 100.0


@struct.dataclass
class State:
  """One arm in the middle of an episode."""

  qpos: jax.Array  # [9] radians
  qvel: jax.Array  # [9] rad/s
  target: tasks.Target
  elapsed: jax.Array  # [] int32 control steps
  is_diverged: jax.Array  # [] bool: physics gave no valid state of an arm; qpos and qvel are the last good ones
  dynamics: physics.Dynamics | None  # None: nominal
  appearance: camera.Appearance | None  # None: nominal
  path: jax.Array  # [3, T + 1] the palm's position before each step so far, metres, base frame


class Jaco(core.ByValue):
  """A Jaco arm that must keep its palm near a ball over a table (`core.Environment`).

  Actions: 3 per joint: 0, 1, 2 for -v, 0, +v, where v = `constants.COMMAND_RAD_S`; 6 joints, or 9 with the fingers.

  Observations:
    pixels: uint8 `[64, 64, 3]`.
    proprioception: sines and cosines of the 9 joint angles, then joint velocities divided by the commanded speed v,
      float32 `[27]`. The fingers are observed even with 6 joints.
    target: x y z in the base frame, metres, float32 `[3]`.
  Privileged signals (the mazes use the same names for their heads' signals):
    depth: bands of `camera.DEPTH_EDGES_M`, 0 (near) to 7, at every eighth row and column, int32 `[8, 8]`.
    depth_grid: the depths from which these bands were computed, 1 for `camera.MAX_DEPTH_M`, float32 `[8, 8]`.
    depth_map: metres along the camera's axis, float32 `[64, 64]`.
    loop_closure: whether the palm is back where it was (`environments.loop_closure`), 0 or 1, int32 `[]`.
    joints: sines and cosines of the 9 joint angles, float32 `[18]`.
    palm, palm_to_target: x y z in the base frame, metres, float32 `[3]`.
    is_success: whether the palm is within reach, bool `[]`.
    ending: one of `tasks.RUNNING`, ..., `tasks.DIVERGED`, int32 `[]`.
  """

  control_dt_s = constants.CONTROL_DT_S

  def __init__(
    self,
    task: tasks.Task,
    *,
    num_joints: int = constants.NUM_JOINTS,
    max_start_spread_rad: float | None = None,
    num_steps: int | None = None,
    randomization: randomize.Randomization | Mapping[str, float] | None = None,
    change: str | None = None,
    loop_near_m: float = 0.03,
    loop_far_m: float = 0.06,
    physics_kind: str = "auto",
    num_threads: int | None = None,
  ):
    """Builds the world and compiles its physics, once.

    Args:
      task: which task.
      num_joints: 9, or 6 without the fingers.
      max_start_spread_rad: replaces the task's spread of starts around home.
      num_steps: replaces the task's episode length.
      randomization: how worlds differ, or the fields of a `Randomization`; None for no randomisation.
      change: how every episode looks before randomisation, one of `constants.CHANGES`; None for the nominal look.
      loop_near_m: distance within which two places of the palm count as the same, eta_1. Random actions move the palm
        1.4 cm a step, and 7 of 100 steps then close a loop.
      loop_far_m: how far away the palm must have been in between, eta_2.
      physics_kind: "mujoco" (C, on the host), "mjx" (on the device), or "auto" by backend.
      num_threads: threads of C MuJoCo's pool; None for all cores.

    Raises:
      ValueError: names the invalid argument.
    """
    if num_joints not in (constants.NUM_ARM_JOINTS, constants.NUM_JOINTS):
      raise ValueError(f"num_joints={num_joints} is neither 6 (the arm) nor 9 (arm and fingers)")
    if num_threads is not None and (num_threads < 1 or physics.resolve(physics_kind) == "mjx"):
      raise ValueError(
        f'num_threads={num_threads} must be above 0, and not beside "mjx" ("auto" on a GPU); None is for all cores'
      )
    if max_start_spread_rad is not None:
      task = dataclasses.replace(task, max_start_spread_rad=max_start_spread_rad)
    if num_steps is not None:
      task = dataclasses.replace(task, num_steps=num_steps)
    if not 0 <= task.max_start_spread_rad <= np.pi or task.num_steps < 1:
      raise ValueError(
        f"max_start_spread_rad={task.max_start_spread_rad} must lie in [0, pi], num_steps={task.num_steps} above 0"
      )
    if not 0.0 < loop_near_m < loop_far_m < np.inf:
      raise ValueError(f"loop_near_m={loop_near_m} must be above 0 and below loop_far_m={loop_far_m}, which is finite")
    self.task = task
    self._loop_near_m, self._loop_far_m = loop_near_m, loop_far_m
    self.num_joints = num_joints
    self._randomization = randomize.make(randomization)
    if change not in (None, *constants.CHANGES):
      raise ValueError(f"change={change!r} is not one of {', '.join(constants.CHANGES)}")
    self._appearance = camera.changed(constants.CHANGES[change]) if change else camera.nominal()
    self._view = jax.device_get(camera.view(self._appearance))
    self._made_of = (task, num_joints, self._randomization, change, loop_near_m, loop_far_m, physics_kind, num_threads)
    self._physics = physics.make(physics_kind, num_threads)
    self.calls_host = physics.resolve(physics_kind) == "mujoco"

  @property
  def return_bounds(self) -> tuple[float, float]:
    """Each step pays 0 or 1."""
    return 0.0, float(self.task.num_steps)

  def observation_spec(self) -> Mapping[str, specs.Array]:
    size = constants.IMAGE_SIZE
    return {
      "pixels": specs.BoundedArray((size, size, 3), np.uint8, 0, 255, name="pixels"),
      "proprioception": specs.Array((3 * constants.NUM_JOINTS,), np.float32, name="proprioception"),
      "target": specs.Array((3,), np.float32, name="target"),
    }

  def privileged_spec(self) -> Mapping[str, specs.Array]:
    size, grid = constants.IMAGE_SIZE, camera.DEPTH_GRID
    return {
      "depth": specs.BoundedArray(grid, np.int32, 0, len(camera.DEPTH_EDGES_M), name="depth"),
      "depth_grid": specs.BoundedArray(grid, np.float32, 0.0, 1.0, name="depth_grid"),
      "depth_map": specs.BoundedArray((size, size), np.float32, 0.0, camera.MAX_DEPTH_M, name="depth_map"),
      "loop_closure": specs.BoundedArray((), np.int32, 0, 1, name="loop_closure"),
      "joints": specs.Array((2 * constants.NUM_JOINTS,), np.float32, name="joints"),
      "palm": specs.Array((3,), np.float32, name="palm"),
      "palm_to_target": specs.Array((3,), np.float32, name="palm_to_target"),
      "is_success": specs.Array((), np.bool_, name="is_success"),
      "ending": specs.BoundedArray((), np.int32, tasks.RUNNING, tasks.DIVERGED, name="ending"),
    }

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((self.num_joints,), np.int32, 0, 2, name="action")

  def reset(self, key: jax.Array) -> State:
    """Draws an episode: start, target and, if randomised, how the world looks and moves."""
    start_key, dynamics_key, appearance_key = jax.random.split(key, 3)
    start = tasks.draw_start(self.task, start_key)
    ranges = self._randomization
    return State(
      qpos=start.qpos,
      qvel=jnp.zeros(constants.NUM_JOINTS, jnp.float32),
      target=start.target,
      elapsed=jnp.int32(0),
      is_diverged=jnp.bool_(False),
      dynamics=randomize.draw_dynamics(ranges, dynamics_key) if ranges.is_dynamic else None,
      appearance=randomize.draw_appearance(ranges, appearance_key, self._appearance) if ranges.is_visual else None,
      path=jnp.zeros((3, self.task.num_steps + 1), jnp.float32),
    )

  def step(self, state: State, action: jax.Array) -> State:
    """Holds the commanded velocities for one control step."""
    qpos, qvel = self._physics(state.dynamics, state.qpos, state.qvel, command(action))
    is_good = jnp.all(jnp.isfinite(qpos)) & jnp.all(jnp.abs(qvel) < _DIVERGED_RAD_S)
    palm = kinematics.palm(kinematics.forward(state.qpos))
    return dataclasses.replace(
      state,
      qpos=jnp.where(is_good, qpos, state.qpos),
      qvel=jnp.where(is_good, qvel, state.qvel),
      target=tasks.move(self.task, state.target),
      elapsed=state.elapsed + 1,
      is_diverged=~is_good,
      path=loop_closure.append(state.path, state.elapsed, palm),
    )

  def observe(self, state: State) -> core.TimeStep:
    """Computes the poses, then reward and ending, then the picture."""
    poses = kinematics.forward(state.qpos)
    target = state.target.position
    evaluation = tasks.evaluate_poses(self.task, state.qpos, poses, target, state.elapsed, state.is_diverged)
    path = loop_closure.append(state.path, state.elapsed, evaluation.palm)
    pixels, depth = camera.render(camera.view(state.appearance) if state.appearance else self._view, poses, target)
    return core.TimeStep(
      step_type=evaluation.step_type,
      reward=evaluation.reward,
      discount=evaluation.discount,
      observation={
        "pixels": pixels,
        "proprioception": proprioception(state.qpos, state.qvel),
        "target": target,
      },
      privileged={
        "depth": camera.depth_bands(depth),
        "depth_grid": camera.depth_grid(depth) / camera.MAX_DEPTH_M,
        "depth_map": depth,
        "loop_closure": loop_closure.label(path, state.elapsed, near=self._loop_near_m, far=self._loop_far_m),
        "joints": jnp.concatenate([jnp.sin(state.qpos), jnp.cos(state.qpos)]),
        "palm": evaluation.palm,
        "palm_to_target": target - evaluation.palm,
        "is_success": evaluation.is_reached,
        "ending": evaluation.ending,
      },
    )


def simulated(observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """How the simulation shows an arm with this `observation`: it draws the pixels from the rest, which stays.

  `observation` has proprioception `[27]` and target `[3]`, as `Jaco` shows them. No other entry is read.
  """
  pixels = _drawn(_nominal_view(), observation["proprioception"], observation["target"])
  return {**observation, "pixels": np.asarray(pixels)}


@functools.cache
def _nominal_view() -> camera.View:
  return jax.device_get(camera.view(camera.nominal()))


@jax.jit
def _drawn(view: camera.View, proprioception: jax.Array, target: jax.Array) -> jax.Array:
  sine, cosine, _ = jnp.split(proprioception, 3)
  return camera.picture(view, jnp.arctan2(sine, cosine), target)


def command(action: jax.Array) -> jax.Array:
  """Commanded velocities of the 9 joints, rad/s, from `[6]` or `[9]` choices among -v, 0, +v; the others hold still."""
  chex.assert_rank(action, 1)
  speed = jnp.asarray(constants.COMMAND_RAD_S[: action.shape[0]], jnp.float32)
  velocity = (action.astype(jnp.float32) - 1.0) * speed
  return jnp.concatenate([velocity, jnp.zeros(constants.NUM_JOINTS - action.shape[0], jnp.float32)])


def proprioception(qpos: jax.Array, qvel: jax.Array) -> jax.Array:
  """Sines, cosines and scaled velocities of the 9 joints, `[27]`. Sines and cosines do not jump at a full turn."""
  chex.assert_shape((qpos, qvel), (constants.NUM_JOINTS,))
  return jnp.concatenate([jnp.sin(qpos), jnp.cos(qpos), qvel / jnp.asarray(constants.COMMAND_RAD_S, jnp.float32)])
