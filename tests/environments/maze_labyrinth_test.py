"""The Labyrinth levels: a scripted route eats everything good in time, and so ends the episode.

The route takes the agent's own actions, from cell to cell, on the shortest way to the nearest good thing and around
bad things. It shows what return is possible, next to that of random actions.

  python -m tests.environments.maze_labyrinth_test  # Prints both for every level, as in `docs/concepts.md`.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import core, registry
from environments.maze import constants, layout, tasks, things

LEVELS = tuple(name for name, task in tasks.TASKS.items() if not task.has_goal)
LEFT, RIGHT, FORWARD, UP, DOWN = 0, 1, 2, 6, 7


def _next_to(maze: layout.Layout, cell: int) -> list[int]:
  """Cells one straight or diagonal step away. A diagonal step needs the corner between them open all round."""
  columns, is_whole = maze.shape[1], set(maze.cells.tolist())
  found = []
  for north, east in [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
    row, column = 2 * (cell // columns) + 1 + north, 2 * (cell % columns) + 1 + east
    around = [(0, 0)] if not (north and east) else [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    other = cell + north * columns + east
    if other in is_whole and not any(maze.is_wall[row + a, column + b] for a, b in around):
      found.append(other)
  return found


def _way(maze: layout.Layout, start: int, good: set[int], bad: set[int]) -> list[int]:
  """Cells from the one after `start` to the nearest of `good`, around `bad`."""
  before, front = {start: start}, collections.deque([start])
  while front:
    cell = front.popleft()
    if cell in good:
      way = [cell]
      while before[way[0]] != start:
        way.insert(0, before[way[0]])
      return way
    for other in _next_to(maze, cell):
      if other not in before and other not in bad:
        before[other] = cell
        front.append(other)
  raise AssertionError("no way to anything good")


def _player(world):
  """`(state, action) -> (state, timestep)` without pictures, which would cost the test time."""

  @jax.jit
  def play(state, action):
    state = world.step(state, action[None])
    return state, world.observe(state).replace(observation={}, privileged={})

  return play


def route(world) -> tuple[float, int, core.TimeStep]:
  """Return, steps and last timestep of the scripted route."""
  play, maze, state = _player(world), world.layout, jax.jit(world.reset)(jax.random.key(0))
  is_good, cells = things.REWARD[world.fruit_kinds] > 0, np.asarray(state.fruit)
  here, way, total = int(maze.starts[0]), [], 0.0
  for num_steps in range(1, world.task.num_steps + 1):
    way = way or _way(maze, here, set(cells[is_good & np.asarray(state.is_left)]), set(cells[~is_good]))
    east, north = maze.centre(np.array(way[0])) - np.asarray(state.body.position)
    if np.hypot(east, north) < 0.3:
      here = way.pop(0)
    off = np.angle(np.exp(1j * (np.arctan2(north, east) - float(state.body.heading))))
    state, seen = play(state, jnp.int32(FORWARD if abs(off) < 0.1 else LEFT if off > 0 else RIGHT))
    total += float(seen.reward)
    if seen.step_type == core.LAST:
      return total, num_steps, seen
  raise AssertionError("the episode went on beyond its length")


def random_returns(world, num_episodes: int) -> np.ndarray:
  """Returns of whole episodes under random actions, `[num_episodes]`."""

  def step(carry, key):
    state, is_over = carry
    state = jax.vmap(world.step)(state, jax.random.randint(key, (num_episodes, 1), 0, constants.NUM_ACTIONS))
    seen = jax.vmap(world.observe)(state)
    return (state, is_over | (seen.step_type == core.LAST)), jnp.where(is_over, 0.0, seen.reward)

  @jax.jit
  def play(key):
    start_key, key = jax.random.split(key)
    state = jax.vmap(world.reset)(jax.random.split(start_key, num_episodes))
    start = (state, jnp.zeros(num_episodes, bool))
    return jax.lax.scan(step, start, jax.random.split(key, world.task.num_steps))[1].sum(0)

  return np.asarray(play(jax.random.key(0)))


@pytest.mark.parametrize("name", ["seek_track_2", "seek_track_4", "seek_avoid_2", "seek_maze_m"])  # Others: `_measure`.
def test_a_route_eats_everything_good_in_time_and_ends_the_episode(name):
  world = registry.make(f"maze/{name}")
  total, num_steps, last = route(world)
  assert total == things.REWARD[world.fruit_kinds].clip(0.0).sum() == world.return_bounds[1] >= 6
  assert num_steps < world.task.num_steps and float(last.discount) == 0.0


def test_bad_things_cost_once_and_need_not_be_eaten():
  world = registry.make("maze/seek_track_1", layout="*************\n*P L M A S L*\n*************\n")
  assert world.return_bounds == (-12.0, 3.0)
  play, start = _player(world), jax.jit(world.reset)(jax.random.key(0))
  state, rewards, discounts = start, [], []
  while not discounts or discounts[-1]:
    state, seen = play(state, jnp.int32(FORWARD))
    rewards.append(float(seen.reward))
    discounts.append(float(seen.discount))
    assert (seen.step_type == core.LAST) == (discounts[-1] == 0.0)
  assert [r for r in rewards if r] == [-1.0, -10.0, 1.0, 2.0] and rewards[-1] == 2.0
  assert np.asarray(state.is_left).tolist() == [False, False, False, True, False]
  for elapsed, (step_type, discount) in ((298, (core.MID, 1.0)), (299, (core.LAST, 1.0))):  # Time is up: truncated.
    _, seen = play(start.replace(elapsed=jnp.int32(elapsed)), jnp.int32(LEFT))
    assert (seen.step_type, seen.discount) == (step_type, discount)


def test_a_level_has_no_signals_of_a_goal_and_begins_as_it_says():
  world = registry.make("maze/seek_track_2")
  assert not {"goal_position", "goals_reached"} & set(world.privileged_spec())
  body = jax.jit(world.reset)(jax.random.key(5)).body
  assert float(body.heading) == pytest.approx(-np.pi / 2) and body.position.tolist() == [0.5, 7.5]


def test_who_looks_up_sees_the_picture_moved_down_until_the_limit_and_high_walls():
  world = registry.make("maze/seek_avoid_1")
  step, observe = jax.jit(world.step), jax.jit(world.observe)
  level = jax.jit(world.reset)(jax.random.key(0))
  before, state = observe(level), level
  for num in range(1, 9):
    state = step(state, jnp.array([UP], jnp.int32))
    up, num_rows = observe(state), min(3 * num, 21)  # 3 rows an action.
    np.testing.assert_allclose(up.privileged["pitch"], np.arctan(num_rows / 42), rtol=1e-6)
    for name, one in (("pixels", up.observation), ("depth_map", up.privileged)):
      was = (before.observation if name == "pixels" else before.privileged)[name]
      np.testing.assert_array_equal(one[name][num_rows:], was[: 84 - num_rows])
  np.testing.assert_array_equal(up.observation["velocity"], np.zeros(6))  # At the limit.
  for _ in range(14):
    state = step(state, jnp.array([DOWN], jnp.int32))
  down = observe(state)
  np.testing.assert_array_equal(down.observation["pixels"][:63], before.observation["pixels"][21:])
  rise = np.arctan(21 / 42) - np.arctan(18 / 42)
  np.testing.assert_allclose(down.observation["velocity"], [0, 0, 0, 0, -15 * rise, 0], rtol=1e-4)
  np.testing.assert_array_equal(state.body.position, level.body.position)
  floor = np.asarray(down.privileged["depth_map"])[83, 41]
  np.testing.assert_allclose(floor, 0.5 / (1.5 - 0.5 / 42), rtol=1e-5)  # The lowest row's tangent.
  empty = np.asarray(observe(level.replace(is_left=jnp.zeros_like(level.is_left))).privileged["depth_map"])[:42, 41]
  is_sky = (1.0 - (np.arange(42) + 0.5) / 42) * 6.45 > 1.92 - 0.5  # The wall ahead is 6.45 cells away.
  np.testing.assert_array_equal(empty == world.FAR, is_sky)
  np.testing.assert_allclose(empty[~is_sky], 6.45, rtol=1e-5)


def _measure(num_episodes: int = 200) -> None:
  for name in LEVELS:
    world = registry.make(f"maze/{name}")
    total, num_steps, _ = route(world)
    returns = random_returns(world, num_episodes)
    error = returns.std() / num_episodes**0.5
    print(f"{name:14} route {total:.0f} in {num_steps} steps, random {returns.mean():.2f} +- {error:.2f}", flush=True)


if __name__ == "__main__":
  _measure()
