"""Mazes as text: how a good maze is read, how a bad one is refused, and where the committed mazes come from."""

import imageio.v3 as iio
import labmaze
import numpy as np
import pytest

from environments.maze import appearance, layout
from tests.environments import derive_assets, derive_layouts

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
  np.testing.assert_array_equal(maze.is_wall[1], [1, 0, 0, 0, 1, 0, 1])  # The second to last line of the text.
  assert maze.steps_from(3).tolist() == [3, 2, 3, 0, 1, 2]


# A corridor that turns from east to north with a slanting wall on its outer side.
_BEND = "*****\n***P*\n*** *\n*P /*\n*****\n"


def test_a_wall_that_slants_fills_the_half_between_walls():
  maze = layout.parse(_BEND, name="a bend")
  assert maze.cells.tolist() == [0, 3]  # Not the slanting wall's cell.
  assert np.argwhere(maze.slant.any(-1)).tolist() == [[1, 3]] and not maze.is_wall[1, 3]
  assert maze.slant[1, 3].tolist() == [1, -1]  # The south-eastern half.


@pytest.mark.parametrize(
  ("text", "column"),
  [
    (_BEND.replace("/", "\\"), 4),  # Neither of its halves has two walls.
    (_BEND.replace("*P /*", "*P/ *"), 3),  # Between two cells.
    (_BEND.replace("*** *\n*P /*", "*****\n*P /*").replace("***P*", "*****"), 4),  # Three walls.
  ],
)
def test_a_wall_that_slants_without_its_walls_is_refused(text, column):
  with pytest.raises(ValueError, match=f"bend, line 4, column {column}: a wall that slants"):
    layout.parse(text, name="bend")


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
    ("*****\n*P  *\n** **\n*G  *\n*****\n", "line 4, column 2: a goal that cannot"),  # A gap of a wall's thickness.
    ("****\n*P *\n****\n", "line 1, column 4: 4 columns"),
    ("***\n*P*\n* *\n***\n", "line 4, column 1: 4 lines"),
  ],
)
def test_a_bad_layout_is_refused_with_line_and_column(text, words):
  with pytest.raises(ValueError, match=words):
    layout.parse(text, name="bad.txt")


@pytest.mark.parametrize(
  "data",
  [
    _GOOD.encode(),
    b"\xef\xbb\xbf" + _GOOD.encode(),  # A byte-order mark, as Windows' editors write it, here before a remark
    b"\xef\xbb\xbf" + _GOOD.partition("\n")[2].encode(),  # and here before the first wall.
    _GOOD.replace("\n", "\r\n").encode(),
    _GOOD.replace("\n", "\r").encode(),
    ("\n\n" + _GOOD + "\n  \n").encode(),  # DeepMind Lab's levels stand in Lua's brackets, on lines of their own.
    _GOOD.replace("*\n", "* \t\n").encode(),
    _GOOD.rstrip("\n").encode(),
  ],
)
def test_a_file_is_read_however_its_lines_end(data, tmp_path):
  (tmp_path / "mine.txt").write_bytes(data)
  assert layout.load(tmp_path / "mine.txt").text == _GOOD.partition("\n")[2]


@pytest.mark.parametrize("seed", range(4))
def test_what_labmaze_prints_is_read_or_refused_where_it_stands(seed):
  """Labmaze's rooms hold starts and goals in any square, ours in cells alone. Labmaze has doors too, H and I."""
  options = {"height": 11, "width": 13, "max_rooms": 2, "random_seed": seed, "spawns_per_room": 2, "simplify": False}
  text = str(labmaze.RandomMaze(has_doors=True, objects_per_room=1, **options).entity_layer)
  squares = [(r, c, x) for r, line in enumerate(text.splitlines(), 1) for c, x in enumerate(line, 1)]
  line, column, _ = next(s for s in squares if s[2] in "HI" or (s[2] in "PG" and (s[0] % 2 or s[1] % 2)))
  with pytest.raises(ValueError, match=f"theirs, line {line}, column {column}: ('[HI]' is not known|a (start|goal) b)"):
    layout.parse(text, name="theirs")
  plain = str(labmaze.RandomMaze(objects_per_room=0, **(options | {"spawns_per_room": 0})).entity_layer)
  lines = plain.splitlines()
  row = next(r for r in range(1, 11, 2) if " " in lines[r][1::2])
  column = 2 * lines[row][1::2].index(" ") + 1
  lines[row] = lines[row][:column] + "P" + lines[row][column + 1 :]
  maze = layout.parse("\n".join(lines) + "\n", name="theirs")
  assert maze.shape == (5, 6) and maze.text == "\n".join(lines) + "\n"


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (b"*****\n*P\xe4G*\n*****\n", "mine.txt, line 2, column 3: byte 0xe4"),
    (b"\xef\xbb\xbf*****\n*P*\xffG*\n*****\n", "mine.txt, line 2, column 4: byte 0xff"),
    (b"# \xc3\xa4\xff\n*****\n*P G*\n*****\n", "mine.txt, line 1, column 4: byte 0xff"),
    (_GOOD.encode("utf-16"), "mine.txt, line 1, column 1: byte 0xff"),
    (b"*****\n*P\x0bG*\n*****\n", "mine.txt, line 2, column 3: '.x0b' is not known"),
    (b"\n\n*****\n*P xG*\n*****\n", "mine.txt, line 4, column 6: this line has 6 characters"),
    (b"  ***\n  *P*\n  ***\n", "mine.txt, line 1, column 1: the border is open"),
    (b"\n\n \n", "mine.txt: 0 lines"),
  ],
)
def test_a_bad_file_is_refused_with_line_and_column(data, words, tmp_path):
  (tmp_path / "mine.txt").write_bytes(data)
  with pytest.raises(ValueError, match=words):
    layout.load(tmp_path / "mine.txt")


def test_a_layout_is_known_by_name_path_or_text(tmp_path, monkeypatch):
  (tmp_path / "mine.txt").write_text(_GOOD)
  drawn = _GOOD.partition("\n")[2]
  monkeypatch.setenv("HOME", str(tmp_path))
  for source in (tmp_path / "mine.txt", str(tmp_path / "mine.txt"), "~/mine.txt", _GOOD, drawn):
    assert layout.load(source).text == drawn and not layout.is_ours(source)
  assert layout.is_ours("static_1") and layout.load("static_1").name == "static_1.txt"


def test_a_missing_file_is_answered_with_what_there_is(tmp_path):
  with pytest.raises(FileNotFoundError, match="static_1"):
    layout.load("static_9")
  with pytest.raises(FileNotFoundError, match="mine.txt"):
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
    ("seek_track_1", (1, 18), 18, 0, 17),
    ("seek_track_2", (8, 4), 18, 0, 17),
    ("seek_track_3", (5, 8), 24, 0, 6),
    ("seek_track_4", (8, 12), 24, 0, 6),
    ("seek_avoid_1", (13, 16), 208, 0, 15),
    ("seek_avoid_2", (13, 16), 208, 0, 15),
    ("seek_maze_m", (7, 13), 25, 0, 6),
    ("seek_maze_y", (12, 13), 18, 0, 6),
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
  """How many squares a ray enters, the wall included, counted at points a thousandth of a cell apart."""
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
  assert 0.5 * bound <= max(seen) <= bound  # The bound is not far off.
