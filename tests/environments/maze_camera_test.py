"""The picture and its depth against float64 geometry: rays cut rectangles and discs, colours come from textures."""

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.maze import appearance, camera, ground, layout, sight, tasks, things, world

_COLUMNS = camera.tangents(84)


def _rectangles(maze: layout.Layout) -> np.ndarray:
  """All wall squares as west, east, south, north."""
  edges = [k + s * 0.05 for k in range(max(maze.shape) + 1) for s in (-1, 1)]
  return np.array([(edges[c], edges[c + 1], edges[r], edges[r + 1]) for r, c in np.argwhere(maze.is_wall)])


def _slants(maze: layout.Layout) -> np.ndarray:
  """Both ends of every slanting line, x0, y0, x1, y1: from one corner of its square to the other."""
  found = [(0.0, 0.0, 0.0, 0.0)]  # A point that no ray meets.
  for r, c in np.argwhere(maze.slant.any(-1)):
    x, y, half = c / 2, r / 2, 0.45 if r % 2 else 0.05
    rises = maze.slant[r, c].prod() < 0  # Filled to the north-west or the south-east.
    found.append((x - half, y - half if rises else y + half, x + half, y + half if rises else y - half))
  return np.array(found)


def _slow_depth(walls, slants, discs, position, heading):
  """Depth of every pixel, `[84, 84]`: the first wall on each column's ray, the floor, and discs (x, y, h, r)."""
  a = (np.arange(84) + 0.5) / 42 - 1.0
  s = -a[:, None]
  forward, right = np.array([np.cos(heading), np.sin(heading)]), np.array([np.sin(heading), -np.cos(heading)])
  ray = forward[None] + a[:, None] * right[None]  # [K, 2]
  with np.errstate(divide="ignore"):
    times = [(walls[None, :, 2 * i : 2 * i + 2] - position[i]) / ray[:, i, None, None] for i in range(2)]
  entry, leave = (np.max([t.min(-1) for t in times], 0), np.min([t.max(-1) for t in times], 0))
  wall = np.where((entry <= leave) & (entry > 0), entry, np.inf).min(1)
  first, along = slants[:, :2] - position, slants[:, 2:] - slants[:, :2]
  with np.errstate(divide="ignore", invalid="ignore"):  # position + z ray = first + share along, by Cramer's rule.
    cross = ray[:, None, 0] * along[None, :, 1] - ray[:, None, 1] * along[None, :, 0]
    z = (first[:, 0] * along[:, 1] - first[:, 1] * along[:, 0])[None] / cross
    share = (first[None, :, 0] * ray[:, None, 1] - first[None, :, 1] * ray[:, None, 0]) / cross
    wall = np.minimum(wall, np.where((z > 0) & (share >= 0) & (share <= 1), z, np.inf).min(1))
  height = s * wall[None]
  depth = np.where(np.abs(height) <= 0.5, wall[None], np.where(s < 0, 0.5 / np.maximum(-s, 1e-9), np.inf))
  for x, y, h, r in discs:
    offset = np.array([x, y]) - position
    z = offset @ forward
    if z > 0.02:
      on_disc = (a[None] * z - offset @ right) ** 2 + (s * z - (h - 0.5)) ** 2 <= r * r
      depth = np.where(on_disc & (z < depth), z, depth)
  return wall, depth


def _objects(maze, rng, num):
  """A goal and fruit in some cells: as JAX sees them, and as discs."""
  places = maze.centre(rng.choice(maze.cells, num, replace=False))
  kinds = np.array([0, *rng.integers(1, 3, num - 1)], np.int32)
  discs = [(x, y, (0.35, 0.25, 0.25)[k], (0.2, 0.13, 0.13)[k]) for (x, y), k in zip(places, kinds, strict=True)]
  return things.Things(jnp.asarray(places), jnp.ones(num, bool), kinds), discs


@pytest.mark.parametrize("name", ["i_maze", "random_goal_2", "seek_track_4"])
def test_depth_is_exact_for_random_poses(name):
  maze, rng = layout.load(name), np.random.default_rng(0)
  objects, discs = _objects(maze, rng, 12)
  scene = camera.Scene(ground.ground(maze), appearance.make(maze, "style_01"), maze.most_crossings())

  @jax.jit
  @jax.vmap
  def look(position, heading):
    seen = camera.view(scene, position, heading, objects, _COLUMNS)
    walls = sight.look(scene.ground, position, heading, jnp.asarray(_COLUMNS), num_steps=scene.num_steps)
    return seen.wall_depth, camera.depth(scene, seen, camera.rows(84)), walls.square

  num = 60
  positions = maze.centre(rng.choice(maze.cells, num)) + rng.uniform(-0.29, 0.29, (num, 2)).astype(np.float32)
  headings = rng.uniform(-np.pi, np.pi, num).astype(np.float32)
  headings[:8] = np.arange(8) * np.pi / 4  # Along the axes and the diagonals, too.
  walls, depths, squares = (np.asarray(x) for x in look(positions, headings))
  # Every ray ends in a wall: none left the maze.
  assert (maze.is_wall | maze.slant.any(-1)).reshape(-1)[squares].all()
  apart, seen_things = [], 0
  for n in range(num):
    wall, depth = _slow_depth(_rectangles(maze), _slants(maze), discs, positions[n].astype(float), float(headings[n]))
    grazes = np.abs(walls[n] - wall) > 1e-3 * wall  # A ray along a corner may fall to either side of it.
    assert grazes.mean() <= 0.05
    with np.errstate(invalid="ignore"):
      apart.append(~(np.isclose(depths[n], depth, rtol=1e-3) | (np.isinf(depth) & np.isinf(depths[n]))))
    _, bare = _slow_depth(_rectangles(maze), _slants(maze), [], positions[n].astype(float), float(headings[n]))
    seen_things += (depth < bare).sum()
  assert np.mean(apart) < 2e-3  # Pixels on an outline.
  assert seen_things > 0


def test_the_numbers_of_one_view_by_hand():
  """One cell, looking north from its middle: the wall is 0.45 away, everywhere in view."""
  maze = layout.parse("***\n*P*\n***\n", name="one cell")
  scene = camera.Scene(ground.ground(maze), appearance.make(maze, "style_01"), maze.most_crossings())
  objects = things.Things(jnp.float32([[0.5, 0.5]]), jnp.zeros(1, bool), np.zeros(1, np.int32))
  seen = jax.jit(lambda: camera.view(scene, jnp.float32([0.5, 0.5]), jnp.float32(np.pi / 2), objects, _COLUMNS))()
  np.testing.assert_allclose(seen.wall_depth, 0.45, rtol=1e-6)
  picture = np.asarray(jax.jit(lambda: camera.picture(scene, seen, camera.rows(84), _COLUMNS))())
  strip = iio.imread(appearance.FOLDER / "style_01.png")
  walls = np.split(strip, strip.shape[1] // 64, axis=1)[1:]
  a = (np.arange(84) + 0.5) / 42 - 1.0  # Columns show x = 0.5 + 0.45 a, rows the height 0.5 - 0.45 a.
  texel = ((0.5 + 0.45 * a) * 64).astype(int)
  shown = [(wall[texel[:, None], texel[None]] == picture).all(-1).mean() for wall in walls]
  assert max(shown) > 0.98  # One of the style's textures, texel for texel, in full light.
  assert maze.most_crossings() == 1


def _hall(**options) -> world.Maze:
  """A straight corridor of eight cells: start, goal in the third cell, apple in the fifth, strawberry in the last."""
  return world.Maze(tasks.TASKS["static_1"], **options)


@pytest.fixture(scope="module")
def hall(tmp_path_factory):
  path = tmp_path_factory.mktemp("layouts") / "hall.txt"
  path.write_text("*****************\n*P   G   A     S*\n*****************\n")
  return _hall(layout=path)


@pytest.fixture(scope="module")
def see(hall):
  return jax.jit(lambda state: hall.observe(state))


def _at(hall, x, heading=0.0, left=(True, True)):
  state = hall.reset(jax.random.key(0))
  body = state.body.replace(position=jnp.float32([x, 0.5]), heading=jnp.float32(heading))
  return state.replace(body=body, is_left=jnp.array(left))


def test_floor_below_sky_above_and_walls_between(hall, see):
  """From the western end the eastern wall is 7.45 away, which is 3 rows up and down from the horizon."""
  result = np.asarray(see(_at(hall, 0.5, left=(False, False))).privileged["depth_map"])
  middle = result[:, 41]
  assert (middle[:39] == hall.FAR).all()
  np.testing.assert_allclose(middle[39], 7.45, rtol=1e-5)
  rows = np.arange(60, 84)
  np.testing.assert_allclose(middle[60:], 0.5 / ((rows + 0.5) / 42 - 1.0), rtol=1e-5)
  pixels = np.asarray(see(_at(hall, 0.5, left=(False, False))).observation["pixels"], int)
  sky, floor = pixels[2, 41], pixels[80, 41]
  assert sky[2] > sky[0] + 60  # sky_01 is blue,
  assert abs(floor - [110, 148, 169]).max() < 60  # the floor of style_01 is a paler blue.


def test_goal_and_fruit_are_seen_where_they_are_until_they_are_eaten(hall, see):
  """Goal at x = 2.5, apple at 4.5, strawberry at 7.5, seen from x = 3.5 either way and from behind the goal."""
  east = see(_at(hall, 3.5))
  depth = np.asarray(east.privileged["depth_map"])
  row = round(41.5 + 0.25 * 42 / 1.0)  # The apple is 1 cell away and 0.25 below the eye.
  np.testing.assert_allclose(depth[row, 41], 1.0, rtol=1e-5)
  assert np.isclose(depth, 1.0).sum() == pytest.approx(np.pi * (0.13 * 42) ** 2, rel=0.06)
  red, green, blue = np.asarray(east.observation["pixels"], int)[row, 41]
  assert green > red + 30 and green > blue + 30
  gone = see(_at(hall, 3.5, left=(False, True)))
  assert not np.isclose(np.asarray(gone.privileged["depth_map"]), 1.0).any()
  changed = (np.asarray(gone.observation["pixels"]) != np.asarray(east.observation["pixels"])).any(-1)
  assert changed.sum() > 60 and not changed[:, :30].any()
  # The strawberry is 4 cells away behind the apple. Lower edges differ: its disc is smaller and higher up.
  np.testing.assert_allclose(np.asarray(gone.privileged["depth_map"])[round(41.5 + 0.25 * 42 / 4), 41], 4.0, rtol=1e-5)
  west = see(_at(hall, 3.5, heading=np.pi))
  np.testing.assert_allclose(np.asarray(west.privileged["depth_map"])[round(41.5 + 0.15 * 42), 42], 1.0, rtol=1e-5)
  behind = see(_at(hall, 1.5))
  assert np.isclose(np.asarray(behind.privileged["depth_map"]), 1.0).sum() == pytest.approx(
    np.pi * (0.2 * 42) ** 2, rel=0.05
  )


def test_a_full_turn_gives_the_first_picture_back(hall, see):
  for x, heading in ((2.1, 0.4), (5.3, -2.0)):
    first = see(_at(hall, x, heading))
    for turns in (1, -1):
      again = see(_at(hall, x, heading + turns * 2 * np.pi))
      same = (np.asarray(first.observation["pixels"]) == np.asarray(again.observation["pixels"])).all(-1)
      assert same.mean() > 0.995  # A texel's edge may fall to the other side of a pixel.
      np.testing.assert_allclose(first.privileged["depth_grid"], again.privileged["depth_grid"], atol=1e-4)
    other = see(_at(hall, x, heading + 0.3))
    assert (np.asarray(first.observation["pixels"]) == np.asarray(other.observation["pixels"])).all(-1).mean() < 0.7


def test_things_behind_things_and_walls_are_hidden():
  """Four columns straight ahead: nearest first, nothing behind the wall, absent ones left out."""
  x = jnp.float32([3.0, 1.0, 2.0, 6.0, -1.0, 0.5])
  places = jnp.stack([x, jnp.zeros(6)], axis=1)
  is_present = jnp.array([True, True, True, True, True, False])
  objects = things.Things(places, is_present, np.array([0, 1, 2, 1, 1, 1], np.int32))
  result = things.layers(objects, jnp.zeros(2), jnp.float32(0), jnp.float32([0.0, 0.05, 0.12, 0.5]), jnp.full(4, 5.0))
  np.testing.assert_allclose(result.depth[:, 0], [1.0, 2.0, 3.0, np.inf], rtol=1e-6)
  np.testing.assert_array_equal(result.kind[:3, 0], [1, 2, 0])
  np.testing.assert_allclose(result.depth[:, 1], [1.0, 2.0, 3.0, np.inf], rtol=1e-6)  # 0.15 <= 0.2 at the goal.
  np.testing.assert_allclose(result.depth[:, 2], [1.0, np.inf, np.inf, np.inf], rtol=1e-6)  # 0.24 > 0.13.
  assert np.isinf(np.asarray(result.depth[:, 3])).all()
  np.testing.assert_allclose(result.u[0, :3], [0.0, 0.05 / 0.13, 0.12 / 0.13], atol=1e-5)


def test_styles_differ_and_an_unknown_one_is_refused():
  maze = layout.load("static_small")
  looks = {style: appearance.make(maze, style).texels for style in appearance.STYLES}
  assert len({texels[:5000].tobytes() for texels in looks.values()}) == len(looks)
  with pytest.raises(ValueError, match="style_09"):
    appearance.make(maze, "style_09")
