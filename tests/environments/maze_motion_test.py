"""Walking, against a slow numpy walker that knows walls as rectangles, and against numbers found by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.maze import constants, ground, layout, motion

FORWARD, BACKWARD, LEFT, RIGHT = 2, 3, 4, 5
_ROOM = layout.parse("*******\n*P    *\n*     *\n*     *\n*     *\n*     *\n*******\n", name="3 x 3 cells, no walls")


def rectangles(maze: layout.Layout) -> np.ndarray:
  """All wall squares as west, east, south, north."""
  edges = [k + s * 0.05 for k in range(max(maze.shape) + 1) for s in (-1, 1)]
  return np.array([(edges[c], edges[c + 1], edges[r], edges[r + 1]) for r, c in np.argwhere(maze.is_wall)])


def _walk(walls, position, heading, velocity, action):
  """One action, float64."""
  forward, leftward, turn = {
    0: (0, 0, 1), 1: (0, 0, -1), 2: (1, 0, 0), 3: (-1, 0, 0), 4: (0, 1, 0), 5: (0, -1, 0), 6: (1, 0, 1), 7: (1, 0, -1)
  }[int(action)]  # fmt: skip
  position, velocity = position.copy(), velocity.copy()
  for _ in range(4):
    heading += turn * np.deg2rad(360.0 * 20 / 57) / 60
    speed = np.linalg.norm(velocity)
    if speed > 0:
      velocity *= max(0.0, speed - max(speed, 1.0) * 6.0 / 60) / speed
    push = (
      np.array([np.cos(heading), np.sin(heading)]) * forward + np.array([-np.sin(heading), np.cos(heading)]) * leftward
    )
    velocity += push * min(max(3.2 - velocity @ push, 0.0), 3.2 * 10.0 / 60) * bool(forward or leftward)
    for axis in range(2):
      position[axis] += velocity[axis] / 60
      body = np.array([position[0] - 0.15, position[0] + 0.15, position[1] - 0.15, position[1] + 0.15])
      hit = walls[(walls[:, 0] < body[1] - 5e-5) & (walls[:, 1] > body[0] + 5e-5)
                  & (walls[:, 2] < body[3] - 5e-5) & (walls[:, 3] > body[2] + 5e-5)]  # fmt: skip
      if len(hit):
        position[axis] = hit[:, 2 * axis].min() - 0.15 if velocity[axis] > 0 else hit[:, 2 * axis + 1].max() + 0.15
        velocity[axis] = 0.0
  return position, heading, velocity


def _body(position, heading=0.0) -> motion.Body:
  return motion.Body(position=jnp.float32(position), heading=jnp.float32(heading), velocity=jnp.zeros(2))


@pytest.mark.parametrize("name", ["static_small", "static_1"])
def test_a_walk_is_the_slow_walkers(name):
  """Each action is compared from the same state: small differences would grow at corners."""
  maze, rng = layout.load(name), np.random.default_rng(0)
  act = jax.jit(lambda body, action: motion.act(ground.ground(maze), body, action))
  walls, body, touched = rectangles(maze), _body(maze.centre(maze.starts[0]), 0.3), 0
  for _ in range(400):
    action = jnp.int32(rng.choice(8, p=[0.05, 0.05, 0.4, 0.05, 0.1, 0.1, 0.15, 0.1]))
    state = (np.asarray(x, np.float64) for x in (body.position, body.heading, body.velocity))
    position, heading, velocity = _walk(walls, *state, action)
    body = act(body, action)
    np.testing.assert_allclose(body.position, position, atol=2e-5)
    np.testing.assert_allclose(body.velocity, velocity, atol=2e-4)
    np.testing.assert_allclose(np.exp(1j * float(body.heading)), np.exp(1j * heading), atol=1e-5)
    touched += int((velocity == 0).any())
  assert touched > 50  # It slid along many walls.


def test_the_way_to_top_speed_and_to_rest():
  """From rest each frame adds 3.2 * 10 / 60 after friction, up to 3.2 cells a second. Coming to rest takes 0.4 s."""
  act = jax.jit(lambda body, action: motion.act(ground.ground(_ROOM), body, action))
  body, expected = _body((0.3, 1.5)), 0.0
  for _ in range(4):
    expected = min(max(expected - max(expected, 1.0) * 0.1, 0.0) + 3.2 / 6, 3.2)
  body = act(body, jnp.int32(FORWARD))
  np.testing.assert_allclose(body.velocity, [expected, 0.0], rtol=1e-5)
  for _ in range(4):
    body = act(body, jnp.int32(FORWARD))
  np.testing.assert_allclose(body.velocity, [3.2, 0.0], rtol=1e-5)
  body = body.replace(position=jnp.float32([0.5, 1.5]))
  for _ in range(6):
    body = act(body, jnp.int32(0))
  np.testing.assert_array_equal(body.velocity, [0.0, 0.0])


def test_pushes_go_where_they_say():
  act = jax.jit(lambda body, action: motion.act(ground.ground(_ROOM), body, action))
  north = _body((1.5, 1.5), np.pi / 2)
  for action, way in ((FORWARD, (0, 1)), (BACKWARD, (0, -1)), (LEFT, (-1, 0)), (RIGHT, (1, 0))):
    after = act(north, jnp.int32(action))
    np.testing.assert_allclose((after.position - north.position) / 0.0768, way, atol=0.3)
    assert float(after.heading) == pytest.approx(np.pi / 2)
  for action, sign in ((0, 1), (1, -1), (6, 1), (7, -1)):  # 20 of 57 pixels a frame, 4 frames: 8.42 degrees.
    after = act(north, jnp.int32(action))
    assert np.rad2deg(float(after.heading) - np.pi / 2) == pytest.approx(sign * 360 * 20 / 57 / 15, rel=1e-4)
    assert (float(jnp.abs(after.position - north.position).max()) > 0) == (action > 5)


def test_a_wall_stops_one_axis_and_lets_the_other_slide():
  act = jax.jit(lambda body, action: motion.act(ground.ground(_ROOM), body, action))
  body = _body((2.7, 1.0), np.pi / 4)  # Against the eastern wall, whose face is at 2.95.
  for _ in range(8):
    body = act(body, jnp.int32(FORWARD))
  assert float(body.position[0]) == pytest.approx(2.95 - 0.15, abs=1e-5)
  assert float(body.velocity[0]) == 0.0 and float(body.velocity[1]) > 1.5
  assert float(body.position[1]) > 1.6


def test_the_end_of_a_wall_stops_a_body_wider_than_it():
  """A wall 0.1 thick that ends between the corners of a body 0.3 wide."""
  maze = layout.parse("*******\n*P    *\n***   *\n*     *\n*******\n", name="a spur")
  act = jax.jit(lambda body, action: motion.act(ground.ground(maze), body, action))
  body = _body((1.5, 1.0), np.pi)  # Level with the wall between the two western cells, which ends at x = 1.05.
  for _ in range(10):
    body = act(body, jnp.int32(FORWARD))
  assert float(body.position[0]) == pytest.approx(1.05 + 0.15, abs=1e-5)


def test_a_wall_that_slants_turns_a_push_along_it():
  """A push north against a wall from south-west to north-east: half the speed goes each way, the corner on the line."""
  maze = layout.load("seek_track_4")
  act = jax.jit(lambda body, action: motion.act(ground.ground(maze), body, action))
  body = _body((3.5, 1.5), np.pi / 2).replace(
    position=jnp.float32([2.9, 1.2])
  )  # Cell (2, 1) is filled to its north-west.
  for _ in range(4):
    body = act(body, jnp.int32(FORWARD))
  x, y = np.asarray(body.position)
  assert (y + 0.15) - (x - 0.15) == pytest.approx(1.5 - 2.5, abs=1e-5)  # y - x of the middle of cell (2, 1).
  assert y > 1.4 and float(body.velocity[0]) == pytest.approx(float(body.velocity[1]), rel=1e-4)


def test_ten_thousand_random_actions_never_enter_a_wall():
  maze = layout.load("seek_track_4")
  walls, paving = rectangles(maze), ground.ground(maze)

  def step(body, key):
    body = motion.act(paving, body, jax.random.randint(key, (), 0, constants.NUM_ACTIONS))
    return body, body.position

  keys = jax.random.split(jax.random.key(0), 10_000)
  start = _body(maze.centre(maze.starts[0]))
  _, path = jax.jit(lambda: jax.lax.scan(step, start, keys))()
  path = np.asarray(path, np.float64)
  corners = path[:, None] + 0.15 * np.array([(a, b) for a in (-1, 1) for b in (-1, 1)])[None]
  overlap = np.minimum(
    np.minimum(corners[:, 3, None, 0], walls[None, :, 1]) - np.maximum(corners[:, 0, None, 0], walls[None, :, 0]),
    np.minimum(corners[:, 3, None, 1], walls[None, :, 3]) - np.maximum(corners[:, 0, None, 1], walls[None, :, 2]),
  )
  assert overlap.max() < 1e-4
  beyond = []  # How far each corner is beyond the line, in the squares whose slanting walls fill it.
  for (row, column), (east, north) in zip(*(lambda s: (np.argwhere(s.any(-1)), s[s.any(-1)]))(maze.slant), strict=True):
    out = path + 0.15 * np.array([east, north]) - np.array([column, row]) / 2
    is_inside = (np.abs(out) <= (0.45 if row % 2 else 0.05)).all(1)
    beyond.extend((out @ [east, north])[is_inside])
  assert -0.05 < max(beyond) < 2e-4  # It came up to them, and no farther.
  assert len(np.unique(np.floor(path), axis=0)) > 3  # And it moved about.
