"""The first-person maze as a world: reset draws an episode, step walks and eats, observe looks.

    action -> four frames of walking -> what is touched: reward, goal, a new start             (step)
    pose, goal and fruit -> columns of rays -> picture and depth; the path so far -> loop closure (observe)

`motion` walks, `things` are what the agent touches, `camera` draws, `tasks` says which maze and how long.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

from environments import core, loop_closure
from environments.maze import (
  appearance,
  camera,
  constants,
  depth_target,
  motion,
  places,
  tasks,
  things,
)
from environments.maze import ground as ground_lib
from environments.maze import layout as layout_lib

_SIZE = constants.IMAGE_SIZE
_OF_GOAL = ("goal_position", "goals_reached")  # Signals that a task without a goal lacks.


@struct.dataclass
class State:
  """One agent in the middle of an episode of `T` steps, `F` pieces of fruit."""

  body: motion.Body
  way: jax.Array  # [2] how far the last action moved forward and leftward, in the heading at its end, cells
  turn: jax.Array  # [] angle of the last action, radians
  pitch: jax.Array  # [] tangent of the angle above level at which the agent looks
  rise: jax.Array  # [] how much the last action added to this angle, radians
  action: jax.Array  # [] int32, the last action; -1 before the first
  reward: jax.Array  # [] float32, of the last action
  goal: jax.Array  # [] int32, number of the goal's place
  fruit: jax.Array  # [F] int32 cells
  is_left: jax.Array  # [F] bool: not eaten
  num_goals: jax.Array  # [] int32, reached in this episode
  elapsed: jax.Array  # [] int32 steps
  key: jax.Array  # For the next starts in this episode.
  path: jax.Array  # [2, T + 1] x and y after each step


class Maze(core.ByValue):
  """A maze with fruit and a goal, seen by an agent that walks in it (`core.Environment`).

  Lengths are in cells, x to the east, y to the north, headings anticlockwise from x.

  Actions: int32 `[1]`, one of `constants.ACTION_NAMES`, held for 4 frames of 1/60 s. In Labyrinth's levels it is one of
    `LABYRINTH_ACTION_NAMES`.

  Observations:
    pixels: uint8 `[84, 84, 3]`.
    depth: the depth of every pixel along the heading, in the form of a z-buffer, 1 for the sky, float32 `[84, 84]`.
    rgbd: pixels and, in the last channel, the same depth times 255, uint8 `[84, 84, 4]`.
    velocity: forward, leftward and upward (0), cells a second, then roll (0), pitch and yaw, radians a second; the mean
      over the last action, 0 after a new start; float32 `[6]`.
    last_reward: the reward of the last action, float32 `[1]`.
    last_action: one-hot, zeros before the first, float32 `[8]`.
  Privileged signals:
    depth: bands of `depth_target`, 0 (near) to 7, int32 `[4, 16]`.
    depth_grid: the values of the observation `depth` from which these bands were computed, float32 `[4, 16]`.
    depth_map: cells along the heading, at most `FAR`, float32 `[84, 84]`.
    loop_closure: 0 or 1, int32 `[]`.
    position, heading: x and y, float32 `[2]`; radians from -pi to pi, float32 `[]`.
    pitch: radians up, float32 `[]`.
    cell: y * columns + x of the cell the agent is in, int32 `[]`.
    goal_position: x and y, float32 `[2]`.
    fruit: x, y and 1 if it is left, 0 if it was eaten, float32 `[F, 3]`; `fruit_kinds` gives the kinds.
    goals_reached: goals reached in this episode, int32 `[]`. A task without a goal has neither this nor
      `goal_position`.

  The time limit ends an episode with discount 1, because it is set by the experimenter and is no part of the task.
  Without a goal an episode also ends, with discount 0, when everything good is eaten.
  """

  control_dt_s = constants.CONTROL_S
  FAR = 64.0  # Cells: the value of `depth_map` for the sky.

  def __init__(
    self,
    task: tasks.Task,
    *,
    layout: str | pathlib.Path | None = None,
    num_steps: int | None = None,
    style: str | None = None,
    fruit_returns: bool = True,
    loop_near: float = 1.0,
    loop_far: float = 2.0,
    depth_crop: Sequence[int] = (16, 68, 2, 82),
    depth_near: float = 0.04,
  ):
    """Builds the world.

    Args:
      task: which task.
      layout: replaces the task's layout: the path of a text file, the name of one of ours, or the text itself
        (`layout.py` describes the format).
      num_steps: replaces the task's episode length, in agent steps.
      style: replaces the task's textures, a name in `appearance.STYLES`.
      fruit_returns: whether eaten fruit returns when the goal is reached, as in Lab; otherwise it returns when the
        episode ends.
      loop_near: distance within which two places count as the same, eta_1, cells.
      loop_far: how far away the agent must have been in between, eta_2, cells.
      depth_crop: rows and columns of the picture that the depth target covers: first row, row after the last, first
        column, column after the last. The default is that of a public re-implementation (papers.md 3.2).
      depth_near: near plane of the z-buffer, cells; the default is Quake III's 4 units.

    Raises:
      FileNotFoundError: if the layout does not exist.
      ValueError: names the invalid argument, and for a layout the line and column.
    """
    self.task = dataclasses.replace(
      task,
      layout=task.layout if layout is None else str(layout),
      num_steps=task.num_steps if num_steps is None else num_steps,
      style=task.style if style is None else style,
    )
    if self.task.num_steps < 1:
      raise ValueError(f"num_steps={num_steps} must be above 0")
    if not 0.0 < loop_near < loop_far < np.inf:
      raise ValueError(f"loop_near={loop_near} must be above 0 and below loop_far={loop_far}, which must be finite")
    if not 0.0 < depth_near < constants.AGENT_HALF_WIDTH:
      raise ValueError(f"depth_near={depth_near} must be above 0 and below {constants.AGENT_HALF_WIDTH}")
    if not (fruit_returns or self.task.has_goal):
      raise ValueError("fruit_returns=False: the task has no goal that would bring fruit back; leave it out")
    self.layout = layout_lib.load(self.task.layout)
    self._places = places.find(self.layout, self.task)
    self._scene = camera.Scene(
      ground=ground_lib.ground(self.layout),
      appearance=appearance.make(self.layout, self.task.style),
      num_steps=self.layout.most_crossings(),
      wall_height=self.task.wall_height,
    )
    self._actions = constants.LABYRINTH_ACTIONS if self.task.looks_up else constants.ACTIONS
    worth = things.REWARD[self._places.kinds]
    self._is_good = worth > 0.0
    least, most = float(worth[worth < 0.0].sum()), float(worth[self._is_good].sum())
    self.return_bounds = (-np.inf if least else 0.0, np.inf) if self.task.has_goal else (least, most)
    self._kinds = np.concatenate([np.array([things.GOAL], np.int32), self._places.kinds])
    self._fruit_returns, self._loop_near, self._loop_far = fruit_returns, loop_near, loop_far
    self._depth_places, self._depth_near = depth_target.places(depth_crop), depth_near
    task = dataclasses.replace(self.task, layout=self.layout.text)
    self._made_of = (task, fruit_returns, loop_near, loop_far, tuple(depth_crop), depth_near)

  @staticmethod
  def resolve(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the path of a layout's file in `options` by the file's text (`registry.resolve`)."""
    layout = options.get("layout")
    if layout is None or layout_lib.is_ours(layout):
      return dict(options)
    return {**options, "layout": layout_lib.load(layout).text}

  def observation_spec(self) -> Mapping[str, specs.Array]:
    return {
      "pixels": specs.BoundedArray((_SIZE, _SIZE, 3), np.uint8, 0, 255, name="pixels"),
      "depth": specs.BoundedArray((_SIZE, _SIZE), np.float32, 0.0, 1.0, name="depth"),
      "rgbd": specs.BoundedArray((_SIZE, _SIZE, 4), np.uint8, 0, 255, name="rgbd"),
      "velocity": specs.Array((6,), np.float32, name="velocity"),
      "last_reward": specs.Array((1,), np.float32, name="last_reward"),
      "last_action": specs.BoundedArray((constants.NUM_ACTIONS,), np.float32, 0.0, 1.0, name="last_action"),
    }

  def privileged_spec(self) -> Mapping[str, specs.Array]:
    rows, columns = self.layout.shape
    size = np.array([columns, rows], np.float32)
    every = {
      "depth": specs.BoundedArray(depth_target.SHAPE, np.int32, 0, depth_target.NUM_BANDS - 1, name="depth"),
      "depth_grid": specs.BoundedArray(depth_target.SHAPE, np.float32, 0.0, 1.0, name="depth_grid"),
      "depth_map": specs.BoundedArray((_SIZE, _SIZE), np.float32, 0.0, self.FAR, name="depth_map"),
      "loop_closure": specs.BoundedArray((), np.int32, 0, 1, name="loop_closure"),
      "position": specs.BoundedArray((2,), np.float32, 0.0, size, name="position"),
      "heading": specs.BoundedArray((), np.float32, -np.pi, np.pi, name="heading"),
      "pitch": specs.BoundedArray((), np.float32, -np.pi / 2, np.pi / 2, name="pitch"),
      "cell": specs.BoundedArray((), np.int32, 0, rows * columns - 1, name="cell"),
      "goal_position": specs.BoundedArray((2,), np.float32, 0.0, size, name="goal_position"),
      "fruit": specs.Array((len(self._places.kinds), 3), np.float32, name="fruit"),
      "goals_reached": specs.BoundedArray((), np.int32, 0, self.task.num_steps, name="goals_reached"),
    }
    return self._of_task(every)

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((1,), np.int32, 0, constants.NUM_ACTIONS - 1, name="action")

  def reset(self, key: jax.Array) -> State:
    """Draws an episode: goal, fruit and start."""
    goal_key, fruit_key, start_key, key = jax.random.split(key, 4)
    goal = jax.random.randint(goal_key, (), 0, len(self._places.goals), jnp.int32)
    position, heading = places.draw_start(self._places, start_key, goal)
    path = jnp.zeros((2, self.task.num_steps + 1), jnp.float32)
    return State(
      body=motion.Body(position=position, heading=heading, velocity=jnp.zeros(2, jnp.float32)),
      way=jnp.zeros(2, jnp.float32),
      turn=jnp.float32(0),
      pitch=jnp.float32(0),
      rise=jnp.float32(0),
      action=jnp.int32(-1),
      reward=jnp.float32(0),
      goal=goal,
      fruit=places.draw_fruit(self._places, fruit_key, goal),
      is_left=jnp.ones(len(self._places.kinds), bool),
      num_goals=jnp.int32(0),
      elapsed=jnp.int32(0),
      key=key,
      path=loop_closure.append(path, jnp.int32(0), position),
    )

  def step(self, state: State, action: jax.Array) -> State:
    """Walks for four frames, then takes what it touches. The goal puts the agent somewhere new, at rest."""
    chex.assert_shape(action, (1,))
    body = motion.act(self._scene.ground, state.body, action[0], self._actions)
    up = jnp.asarray(constants.PITCH_STEP * self._actions[:, 3])[action[0]]
    pitch = jnp.clip(state.pitch + up, -constants.MAX_PITCH, constants.MAX_PITCH)
    objects = self._objects(state)
    square = jnp.sum(jnp.square(objects.position - body.position[None]), axis=1)
    is_touched = objects.is_present & (square <= constants.TOUCH_DISTANCE**2)
    is_goal, is_left = is_touched[0], state.is_left & ~is_touched[1:]
    start_key = jax.random.fold_in(state.key, state.num_goals)  # Used up when this goal is reached.
    position, heading = places.draw_start(self._places, start_key, state.goal)
    after = motion.Body(
      position=jnp.where(is_goal, position, body.position),
      heading=jnp.where(is_goal, heading, body.heading),
      velocity=jnp.where(is_goal, jnp.float32(0), body.velocity),
    )
    way = _in_frame(body.position - state.body.position, body.heading)
    return dataclasses.replace(
      state,
      body=after,
      way=jnp.where(is_goal, jnp.float32(0), way),
      turn=jnp.where(is_goal, jnp.float32(0), motion.wrap(body.heading - state.body.heading)),
      pitch=pitch,
      rise=jnp.arctan(pitch) - jnp.arctan(state.pitch),
      action=action[0],
      reward=jnp.sum(jnp.where(is_touched, jnp.asarray(things.REWARD[self._kinds]), 0.0)),
      is_left=is_left | is_goal if self._fruit_returns else is_left,
      num_goals=state.num_goals + is_goal.astype(jnp.int32),
      elapsed=state.elapsed + 1,
      path=loop_closure.append(state.path, state.elapsed + 1, after.position),
    )

  def observe(self, state: State) -> core.TimeStep:
    """Looks at the rows and columns of the picture and of the depth target."""
    columns, rows = camera.tangents(_SIZE), camera.rows(_SIZE, state.pitch if self.task.looks_up else None)
    objects = self._objects(state)
    seen = camera.view(self._scene, state.body.position, state.body.heading, objects, columns)
    pixels, depth = camera.picture(self._scene, seen, rows, columns), camera.depth(self._scene, seen, rows)
    buffer = depth_target.z_buffer(depth, self._depth_near)
    grid = buffer[self._depth_places[0]][:, self._depth_places[1]]
    is_last, discount = state.elapsed >= self.task.num_steps, jnp.float32(1.0)
    if not self.task.has_goal:
      is_eaten = ~jnp.any(state.is_left & self._is_good)
      is_last, discount = is_last | is_eaten, 1.0 - is_eaten.astype(jnp.float32)
    byte = jnp.round(buffer * 255.0).astype(jnp.uint8)
    fruit = jnp.concatenate([objects.position[1:], state.is_left[:, None].astype(jnp.float32)], axis=1)
    cell = jnp.floor(state.body.position).astype(jnp.int32)
    return core.TimeStep(
      step_type=core.step_type(state.elapsed, is_last),
      reward=state.reward,
      discount=discount,
      observation={
        "pixels": pixels,
        "depth": buffer,
        "rgbd": jnp.concatenate([pixels, byte[..., None]], axis=-1),
        "velocity": velocity(state),
        "last_reward": state.reward[None],
        "last_action": jax.nn.one_hot(state.action, constants.NUM_ACTIONS, dtype=jnp.float32),
      },
      privileged=self._of_task(
        {
          "depth": depth_target.bands(grid),
          "depth_grid": grid,
          "depth_map": jnp.minimum(depth, self.FAR),
          "loop_closure": loop_closure.label(state.path, state.elapsed, near=self._loop_near, far=self._loop_far),
          "position": state.body.position,
          "heading": state.body.heading,
          "pitch": jnp.arctan(state.pitch),
          "cell": cell[1] * self.layout.shape[1] + cell[0],
          "goal_position": objects.position[0],
          "fruit": fruit,
          "goals_reached": state.num_goals,
        }
      ),
    )

  @property
  def fruit_kinds(self) -> np.ndarray:
    """The kind of each row of `fruit`, from things.APPLE to things.MUSHROOM: `[F]` int32."""
    return self._places.kinds

  def _of_task(self, signals: dict[str, Any]) -> dict[str, Any]:
    """The signals that the task has."""
    return {name: one for name, one in signals.items() if self.task.has_goal or name not in _OF_GOAL}

  def _objects(self, state: State) -> things.Things:
    """The goal first, then fruit."""
    cells = jnp.concatenate([jnp.asarray(self._places.goals)[state.goal][None], state.fruit])
    is_present = jnp.concatenate([jnp.full(1, self.task.has_goal), state.is_left])
    return things.Things(position=jnp.asarray(self._places.centres)[cells], is_present=is_present, kind=self._kinds)


def velocity(state: State) -> jax.Array:
  """Mean velocity over the last action in the agent's frame, `[6]`: forward, left, up, roll, pitch, yaw; per second.

  Rotated by the heading and multiplied by the action's 1/15 s, the first two are the way moved, so they add up to the
  path.
  """
  still = jnp.float32(0)
  return jnp.stack([*state.way, still, still, state.rise, state.turn]) / jnp.float32(constants.CONTROL_S)


def _in_frame(way: jax.Array, heading: jax.Array) -> jax.Array:
  """Splits a way along x and y into its forward and leftward parts, `[2]`."""
  cosine, sine = jnp.cos(heading), jnp.sin(heading)
  return jnp.stack([way[0] * cosine + way[1] * sine, way[1] * cosine - way[0] * sine])
