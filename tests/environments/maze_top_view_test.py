"""The maze from above: walls, path and things at the pixels where they belong, and frames for a video."""

import numpy as np
import pytest

from environments.maze import layout, things, top_view

_MAZE = layout.parse("*****\n*P  *\n*** *\n*   *\n*****\n", name="a hook")  # Two by two cells, a wall in the west.
_PX = 20  # Walls are 2 pixels thick, the picture 42 wide.


def _at(picture, x, y):
  """The pixel at a place in cells from the picture's lower left corner. Half a wall lies left of and below 0."""
  return tuple(picture[picture.shape[0] - 1 - int(y * _PX + 1), int(x * _PX + 1)])


def test_walls_stand_where_the_layout_has_them():
  picture = top_view.draw(_MAZE, cell_px=_PX)
  assert picture.shape == (42, 42, 3) and picture.dtype == np.uint8
  wall, floor = _at(picture, 0.0, 0.5), _at(picture, 0.5, 0.5)
  assert wall != floor
  assert _at(picture, 0.5, 1.0) == wall and _at(picture, 1.5, 1.0) == floor  # The wall ends after the western cell.
  assert _at(picture, 1.0, 1.5) == floor and _at(picture, 1.0, 1.0) == wall
  assert (picture[[0, 1, -1, -2]] == wall).all() and (picture[:, [0, 1, -1, -2]] == wall).all()
  assert (picture == wall).all(-1).mean() == pytest.approx(1 - (4 * 18 * 18 + 3 * 2 * 18) / 42**2, abs=1e-6)


def test_a_wall_that_slants_fills_half_of_its_square():
  picture = top_view.draw(layout.parse("*****\n***P*\n*** *\n*P /*\n*****\n", name="a bend"), cell_px=_PX)
  wall, floor = _at(picture, 0.0, 0.5), _at(picture, 0.5, 0.5)
  for out in (0.1, 0.3):
    assert _at(picture, 1.5 + out, 0.5 - out) == wall and _at(picture, 1.5 - out, 0.5 + out) == floor


def test_a_path_is_drawn_without_its_jumps_and_ends_at_the_agent():
  plain = top_view.draw(_MAZE, cell_px=_PX)
  path = np.array([[0.5, 1.5], [0.9, 1.5], [1.3, 1.5], [0.5, 0.5], [0.6, 0.5]])
  picture = top_view.draw_path(_MAZE, path, cell_px=_PX)
  floor, way, agent = _at(plain, 0.5, 0.5), _at(picture, 0.9, 1.5), _at(picture, 0.6, 0.5)
  assert len({floor, way, agent}) == 3
  assert _at(picture, 0.5, 1.5) == way and _at(picture, 1.2, 1.5) == way
  assert _at(picture, 1.0, 1.1) == floor  # Halfway through the jump to a new start.
  nose = top_view.draw_path(_MAZE, path, heading=0.0, cell_px=_PX)
  assert _at(nose, 0.85, 0.5) == agent and _at(picture, 0.85, 0.5) == floor
  np.testing.assert_array_equal(top_view.draw_path(_MAZE, np.zeros((0, 2)), cell_px=_PX), plain)


def test_goal_and_what_is_left_of_the_fruit_are_drawn():
  fruit = np.array([[0.5, 0.5, 1], [1.5, 0.5, 1], [0.5, 1.5, 0]])
  kinds = np.array([things.APPLE, things.STRAWBERRY, things.APPLE])
  picture = top_view.draw_path(_MAZE, np.zeros((0, 2)), goal=(1.5, 1.5), fruit=fruit, kinds=kinds, cell_px=_PX)
  floor = _at(picture, 1.0, 0.5)
  apple, strawberry, goal = _at(picture, 0.5, 0.5), _at(picture, 1.5, 0.5), _at(picture, 1.5, 1.5)
  assert len({floor, apple, strawberry, goal}) == 4 and _at(picture, 0.5, 1.5) == floor
  assert apple[1] > apple[0] and strawberry[0] > strawberry[1]


def test_a_frame_shows_the_view_and_the_map_beside_it():
  pixels = np.arange(84 * 84 * 3, dtype=np.uint32).reshape(84, 84, 3).astype(np.uint8)
  above = np.full((291, 483, 3), 7, np.uint8)
  frame = top_view.side_by_side(pixels, above)
  assert frame.shape == (292, 736, 3)  # 291 and 252 + 483, made even.
  np.testing.assert_array_equal(frame[:252:3, :252:3], pixels)
  np.testing.assert_array_equal(frame[2:252:3, 2:252:3], pixels)
  assert (frame[:291, 252:735] == 7).all() and not frame[252:, :252].any()


def test_a_map_too_small_to_see_is_refused():
  with pytest.raises(ValueError, match="cell_px=3"):
    top_view.draw(_MAZE, cell_px=3)
