"""Where goal, fruit and agent may be, computed once, so that drawing an episode takes a few look-ups.

For every place of the goal, the table of starts first lists those that are far enough from it, and their number is
stored. One uniform number then draws a start. Fruit is drawn without repetition: every cell gets a uniform number, and
the cells with the largest numbers get fruit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from environments.maze import layout, tasks, things


class Places(NamedTuple):
  """`G` places of the goal, up to `S` starts, `F` pieces of fruit."""

  goals: np.ndarray  # [G] int32 cells; a single unused one if there is no goal
  starts: np.ndarray  # [G, S] int32 cells; those after the first `num_starts` are not used
  num_starts: np.ndarray  # [G] int32
  fruit: np.ndarray | None  # [F] int32 cells, or None if they are drawn among `goals`
  kinds: np.ndarray  # [F] int32, from APPLE to MUSHROOM
  centres: np.ndarray  # [R * C, 2] x, y of all cells
  heading: float | None  # Heading of every start, radians; None: drawn


def find(maze: layout.Layout, task: tasks.Task) -> Places:
  """The places of a task in a layout.

  Raises:
    ValueError: if the task needs a goal and the layout has none, the task has no goal and the layout has one or nothing
      good to eat, no start is far enough from a goal, a share of fruit is not in [0, 1], or there is too much fruit.
  """
  if not (0.0 <= task.fruit_share <= 1.0 and 0.0 <= task.strawberry_share <= 1.0):
    raise ValueError(
      f"fruit_share={task.fruit_share} and strawberry_share={task.strawberry_share} must lie between 0 and 1"
    )
  goals = maze.cells if task.is_goal_random else maze.goals if task.has_goal else maze.starts[:1]
  starts = maze.cells if task.is_goal_random else maze.starts
  if not len(goals):
    raise ValueError(f"{maze.name} has no goal; write {layout.GOAL} into a cell, or draw it (is_goal_random=True)")
  rows, num_starts = [], []
  for goal in goals:
    steps = maze.steps_from(int(goal))[starts]
    is_far = steps >= task.min_start_steps
    rows.append([*starts[is_far], *starts[~is_far]])
    num_starts.append(is_far.sum())
    if not is_far.any():
      raise ValueError(
        f"{maze.name}: no start is min_start_steps={task.min_start_steps} cells from the goal in cell {goal}; "
        f"the farthest is {steps.max()}"
      )
  counts: tuple[int, ...]
  if task.is_goal_random:
    num_fruit = round(task.fruit_share * (len(goals) - 1))
    num_strawberries = round(task.strawberry_share * num_fruit)
    counts, fruit = (num_fruit - num_strawberries, num_strawberries), None
  else:
    every = maze.apples, maze.strawberries, maze.lemons, maze.mushrooms
    counts, fruit = tuple(map(len, every)), np.concatenate(every)
  if not task.has_goal and len(maze.goals):
    raise ValueError(f"{maze.name} has a goal, and the task none; take {layout.GOAL} out of it, or name another task")
  if not (task.has_goal or counts[0] + counts[1]):
    raise ValueError(f"{maze.name} has nothing good to eat, and the task no goal; write {layout.APPLE} into a cell")
  if sum(counts) >= things.MAX_THINGS:
    raise ValueError(
      f"{maze.name}: {sum(counts)} pieces of fruit are too many; {things.MAX_THINGS - 1} can be told apart"
    )
  return Places(
    goals=goals,
    starts=np.array(rows, np.int32),
    num_starts=np.array(num_starts, np.int32),
    fruit=fruit,
    kinds=np.repeat(np.arange(things.APPLE, things.APPLE + len(counts), dtype=np.int32), counts),
    centres=maze.centre(np.arange(maze.shape[0] * maze.shape[1])),
    heading=task.heading,
  )


def draw_fruit(places: Places, key: jax.Array, goal: jax.Array) -> jax.Array:
  """The fruit's cells in an episode whose goal has number `goal`, int32 `[F]`."""
  if places.fruit is not None:
    return jnp.asarray(places.fruit)
  lots = jax.random.uniform(key, (len(places.goals),)).at[goal].set(-1.0)
  _, drawn = jax.lax.top_k(lots, len(places.kinds))
  return jnp.asarray(places.goals)[drawn]


def draw_start(places: Places, key: jax.Array, goal: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Position `[2]`, the middle of a cell, and heading `[]`, the task's or random, of a start for the goal's number."""
  place, turn = jax.random.uniform(key, (2,))
  count = jnp.asarray(places.num_starts)[goal]
  choice = jnp.minimum((place * count.astype(jnp.float32)).astype(jnp.int32), count - 1)
  cell = jnp.asarray(places.starts)[goal, choice]
  heading = (2.0 * turn - 1.0) * jnp.pi if places.heading is None else jnp.float32(places.heading)
  return jnp.asarray(places.centres)[cell], heading
