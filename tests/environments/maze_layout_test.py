"""Mazes as text: what a good one is read as, how a bad one is refused, and where the committed ones come from."""

import imageio.v3 as iio
import numpy as np
import pytest

from environments.maze import appearance, derive_assets, derive_layouts, layout

# Two rows of three cells: a way from P east and round to G; A and S beside it.
_GOOD = """\
# a remark
*******
*P A S*
*** * *
*  G* *
*******
"""


def test_a_layout_is_read_cell_by_cell_from_the_south_west():
  maze = layout.parse(_GOOD, name="good")
  assert maze.shape == (2, 3)
  assert maze.starts.tolist() == [3] and maze.apples.tolist() == [4] and maze.strawberries.tolist() == [5]
  assert maze.goals.tolist() == [1] and maze.cells.tolist() == [0, 1, 2, 3, 4, 5]
  np.testing.assert_array_equal(maze.centre(np.array([0, 5])), [[0.5, 0.5], [2.5, 1.5]])
  np.testing.assert_array_equal(maze.is_wall[1], [1, 0, 0, 0, 1, 0, 1])  # The last line but one of the text.
  assert maze.steps_from(3).tolist() == [3, 2, 3, 0, 1, 2]


def test_an_unreached_room_is_no_part_of_the_maze():
  maze = layout.parse("*****\n*P* *\n*****\n", name="two rooms")
  assert maze.cells.tolist() == [0] and maze.steps_from(0).tolist() == [0, -1]


def _changed(line: int, column: int, character: str) -> str:
  lines = _GOOD.splitlines()
  lines[line - 1] = lines[line - 1][: column - 1] + character + lines[line - 1][column:]
  return "\n".join(lines)


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("", "0 lines"),
    (_changed(3, 2, " "), "bad.txt, line 3, column 2: the maze has no start"),
    (_changed(5, 3, "*").replace("G* *", "G***").replace("* * *", "*****"), "line 5, column 4: a goal that cannot"),
    (_changed(4, 5, "*").replace("A", " ").replace("S*", " *").replace("* * *", "*** *"), "line 5, column 4: a goal"),
    (_GOOD.replace("*** * *", "*** *"), "bad.txt, line 4, column 6: this line has 5 characters, the first has 7"),
    (_GOOD.replace("*** * *", "*** * **"), "line 4, column 8: this line has 8 characters"),
    (_changed(3, 4, "x"), "line 3, column 4: 'x' is not known"),
    (_changed(3, 3, "A"), "line 3, column 3: an apple between cells"),
    (_changed(5, 1, " "), "line 5, column 1: the border is open"),
    (_changed(6, 4, " "), "line 6, column 4: the border is open"),
    ("****\n*P *\n****\n", "line 1, column 4: 4 columns"),
    ("***\n*P*\n* *\n***\n", "line 4, column 1: 4 lines"),
  ],
)
def test_a_bad_layout_is_refused_with_line_and_column(text, words):
  with pytest.raises(ValueError, match=words):
    layout.parse(text, name="bad.txt")


def test_a_missing_file_is_answered_with_what_there_is(tmp_path):
  with pytest.raises(ValueError, match="static_1"):
    layout.load("static_9")
  with pytest.raises(ValueError, match="mine.txt"):
    layout.load(tmp_path / "mine.txt")
  (tmp_path / "mine.txt").write_text(_GOOD)
  assert layout.load(tmp_path / "mine.txt").name == "mine.txt"


@pytest.mark.parametrize(
  ("name", "shape", "num_cells", "num_goals", "num_fruit"),
  [
    ("static_1", (5, 10), 50, 1, 5),
    ("static_2", (9, 15), 135, 1, 13),
    ("random_goal_1", (5, 10), 50, 0, 0),
    ("random_goal_2", (9, 15), 135, 0, 0),
    ("static_small", (3, 5), 15, 1, 2),
    ("i_maze", (11, 7), 25, 4, 3),
  ],
)
def test_our_layouts_have_the_papers_sizes(name, shape, num_cells, num_goals, num_fruit):
  maze = layout.load(name)
  assert maze.shape == shape and len(maze.cells) == num_cells and len(maze.goals) == num_goals
  assert len(maze.apples) + len(maze.strawberries) == num_fruit


def test_static_and_random_goal_mazes_differ():
  for size in "12":
    assert (layout.load(f"static_{size}").is_wall != layout.load(f"random_goal_{size}").is_wall).any()


@pytest.mark.parametrize("name", derive_layouts.MAZES)
def test_layouts_are_what_labmaze_draws(name):
  committed = "".join(line + "\n" for line in derive_layouts.draw(name).splitlines() if not line.startswith("#"))
  assert layout.load(name).text == committed


def test_textures_are_labs_own():
  """The wheel's pictures, averaged down again."""
  np.testing.assert_array_equal(iio.imread(appearance.FOLDER / "style_02.png"), derive_assets.strip("style_02"))
  np.testing.assert_array_equal(iio.imread(appearance.FOLDER / "sky_02.png"), derive_assets.band("sky_02"))


def _crossings(maze: layout.Layout, origin: np.ndarray, angle: float) -> int:
  """Squares a ray enters, the wall included, counted at points a thousandth of a cell apart."""
  thickness = 0.1
  points = origin + np.arange(0.0, 20.0, 1e-3)[:, None] * np.array([np.cos(angle), np.sin(angle)]) + thickness / 2
  lines = np.floor(points)
  squares = (2 * lines + (points - lines >= thickness)).astype(int)
  inside = (squares >= 0).all(1) & (squares[:, 0] < maze.is_wall.shape[1]) & (squares[:, 1] < maze.is_wall.shape[0])
  squares = squares[: len(inside) if inside.all() else int(np.argmin(inside))]
  wall = int(np.argmax(maze.is_wall[squares[:, 1], squares[:, 0]]))
  assert wall > 0, "the ray left the maze"
  return int(np.abs(np.diff(squares[: wall + 1], axis=0)).sum())


@pytest.mark.parametrize("name", ["static_small", "i_maze", "static_1", "static_2"])
def test_no_line_of_sight_is_longer_than_the_bound(name):
  maze, rng = layout.load(name), np.random.default_rng(0)
  seen = []
  for _ in range(600):
    origin = maze.centre(rng.choice(maze.cells)) + rng.uniform(-0.44, 0.44, 2)
    seen.append(_crossings(maze, origin, rng.choice(4) * np.pi / 2 + rng.normal() * 0.3))
  bound = maze.most_crossings()
  assert 0.5 * bound <= max(seen) <= bound  # Nor is it wide of the mark.
