"""A maze as text: R x C cells and the walls between them in 2R+1 lines of 2C+1 characters.

Characters at odd places (the second, the fourth, ...) of odd lines are cells. A character between two cells is a wall
or an opening, and a character at a corner is a post or nothing. On the ground the even lines and columns are thin (a
wall's thickness), and the middles of cells are one apart. `*` is a wall and a space is open. In a cell, `P` is a start,
`G` a place of the goal, `A` an apple, `S` a strawberry, `L` a lemon, `M` a mushroom. `/` and `\\`, in a cell or at a
corner, are walls that slant by 45 degrees: they fill the half that lies between two walls. Lines that begin with `#`
are remarks. Except for the slanting walls, labmaze prints this form and DeepMind Lab's levels have it. Features that
are missing here (doors, things between cells) are refused. Empty lines before and after, blanks at the end of a line,
any line ends and a byte-order mark do no harm.
"""

import codecs
import collections
import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np

WALL, OPEN, START, GOAL, APPLE, STRAWBERRY, LEMON, MUSHROOM = "*", " ", "P", "G", "A", "S", "L", "M"
_THINGS = {
  START: "a start",
  GOAL: "a goal",
  APPLE: "an apple",
  STRAWBERRY: "a strawberry",
  LEMON: "a lemon",
  MUSHROOM: "a mushroom",
}
# The two corners of a square, east and north of its middle. A slanting wall fills one of them.
_SLANTS = {"/": ((-1, 1), (1, -1)), "\\": ((1, 1), (-1, -1))}
_Where = Callable[[int, int], str]  # Row and column -> `file, line 3, column 5`.
_FOLDER = pathlib.Path(__file__).parent / "levels"


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
  """A valid maze: `R` rows and `C` columns of cells. Cell y * C + x is x from the west, y from the south.

  A square is the ground of one character: a cell (1 - thickness wide), or the place of a wall or a post.
  """

  name: str
  text: str  # Without remarks.
  is_wall: np.ndarray  # [2R+1, 2C+1] bool, by square, from the south and the west
  slant: np.ndarray  # [2R+1, 2C+1, 2] int8: east and north, 1 or -1, of the corner that a slanting wall fills, or 0
  starts: np.ndarray  # [S] int32 cells
  goals: np.ndarray  # [G] int32 cells, perhaps none
  apples: np.ndarray  # [N] int32 cells
  strawberries: np.ndarray  # [N] int32 cells
  lemons: np.ndarray  # [N] int32 cells
  mushrooms: np.ndarray  # [N] int32 cells
  cells: np.ndarray  # [N] int32: all that can be reached from a start, except for those with a slanting wall

  @property
  def shape(self) -> tuple[int, int]:
    """Rows and columns of cells."""
    return self.is_wall.shape[0] // 2, self.is_wall.shape[1] // 2

  def centre(self, cell: np.ndarray) -> np.ndarray:
    """x, y of the middle of cells `[...]`: `[..., 2]` float32."""
    columns = self.shape[1]
    return np.stack([cell % columns + 0.5, cell // columns + 0.5], -1).astype(np.float32)

  def steps_from(self, cell: int) -> np.ndarray:
    """Steps from `cell` to every cell along the shortest way, in cells, `[R * C]`; -1 if there is no way."""
    rows, columns = self.shape
    squares = _flood(self.is_wall, (2 * (cell // columns) + 1, 2 * (cell % columns) + 1))
    return np.where(squares < 0, -1, squares // 2)[1::2, 1::2].reshape(rows * columns)

  def most_crossings(self) -> int:
    """An upper bound on the squares that a line of sight enters, including the wall at its end.

    A straight line that goes east and north never turns west or south. In each quarter, the longest walk through open
    squares in the two directions is therefore at least as long as every line of sight.
    """
    longest = 0
    for rows, columns in ((1, 1), (1, -1)):  # Seen from its other end, a line belongs to the opposite quarter.
      is_open = ~self.is_wall[::rows, ::columns]
      walk = np.zeros(is_open.shape, np.int64)  # Squares entered from here on.
      for row, column in zip(*np.nonzero(is_open), strict=True):
        walk[row, column] = 1 + max(walk[row - 1, column], walk[row, column - 1])
      longest = max(longest, int(walk.max()))
    return longest


def is_ours(source: str | pathlib.Path) -> bool:
  """Whether `source` is the name of one of our layouts: a name without a folder or a suffix."""
  path = pathlib.Path(source)
  return not path.suffix and path.parent == pathlib.Path(".") and "\n" not in str(source)


def load(source: str | pathlib.Path) -> Layout:
  """The layout with this name, in this file, or drawn by the text itself (recognised by its line ends).

  Raises:
    FileNotFoundError: if the file does not exist.
    ValueError: if it is not a valid maze, with line and column.
  """
  if "\n" in str(source):
    return parse(str(source), name="layout")
  path = _FOLDER / f"{source}.txt" if is_ours(source) else pathlib.Path(source).expanduser()
  if not path.is_file():
    ours = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.txt")))
    raise FileNotFoundError(f"layout {path} is no file; ours are {ours}")
  data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
  try:
    return parse(data.decode(), name=path.name)
  except UnicodeDecodeError as error:
    *before, line = data[: error.start].split(b"\n")
    where = f"{path.name}, line {len(before) + 1}, column {len(line.decode()) + 1}"
    raise ValueError(f"{where}: byte {data[error.start]:#04x} is no UTF-8; save the file as plain text") from None


def parse(text: str, *, name: str) -> Layout:
  """The layout that `text` draws. Errors mention `name`.

  Raises:
    ValueError: with line and column, both counted from 1, of the first mistake.
  """
  where, lines = _lines(text, name)
  _check_shape(where, lines)
  _check_characters(where, lines)
  is_wall = np.array([[character == WALL for character in line] for line in lines])
  _check_border(where, is_wall)
  slant = _slant(where, lines, is_wall)
  things = {kind: [(r, c) for r, line in enumerate(lines) for c, x in enumerate(line) if x == kind] for kind in _THINGS}
  if not things[START]:
    row, column = next(zip(*np.nonzero(~is_wall[1::2, 1::2]), strict=True), (0, 0))
    raise ValueError(f"{where(2 * row + 1, 2 * column + 1)}: the maze has no start; write {START} in this cell, say")
  squares = _flood(is_wall, things[START][0])
  for kind, places in things.items():
    for row, column in places:
      if squares[row, column] < 0:
        raise ValueError(
          f"{where(row, column)}: {_THINGS[kind]} that cannot be reached from the start at {where(*things[START][0])}"
        )
  rows, columns = len(lines) // 2, len(lines[0]) // 2

  def cells(places: list[tuple[int, int]]) -> np.ndarray:
    return np.array(sorted((rows - 1 - r // 2) * columns + c // 2 for r, c in places), np.int32)

  is_whole = (squares >= 0) & ~slant.any(-1)
  reached = [(2 * r + 1, 2 * c + 1) for r, c in zip(*np.nonzero(is_whole[1::2, 1::2]), strict=True)]
  return Layout(
    name=name,
    text="\n".join(lines) + "\n",
    is_wall=is_wall[::-1],
    slant=slant[::-1],
    starts=cells(things[START]),
    goals=cells(things[GOAL]),
    apples=cells(things[APPLE]),
    strawberries=cells(things[STRAWBERRY]),
    lemons=cells(things[LEMON]),
    mushrooms=cells(things[MUSHROOM]),
    cells=cells(reached),
  )


def _lines(text: str, name: str) -> tuple[_Where, list[str]]:
  """The lines of the drawing, without remarks and surrounding empty lines, and their places in the text."""
  every = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
  numbered = [(n, line.rstrip(" \t")) for n, line in enumerate(every, start=1) if not line.startswith("#")]
  drawn = [i for i, (_, line) in enumerate(numbered) if line]
  numbered = numbered[drawn[0] : drawn[-1] + 1] if drawn else []
  if len(numbered) < 3:
    raise ValueError(
      f"{name}: {len(numbered)} lines are no maze; the smallest, of one cell, has 3 lines of 3 characters"
    )
  return lambda row, column: f"{name}, line {numbered[row][0]}, column {column + 1}", [line for _, line in numbered]


def _check_shape(where: _Where, lines: list[str]) -> None:
  width = len(lines[0])
  for row, line in enumerate(lines):
    if len(line) != width:
      raise ValueError(
        f"{where(row, min(len(line), width))}: this line has {len(line)} characters, the first has {width}"
      )
  if width % 2 == 0 or width < 3:
    raise ValueError(f"{where(0, width - 1)}: {width} columns; C cells side by side need 2 C + 1, an odd number from 3")
  if len(lines) % 2 == 0:
    raise ValueError(f"{where(len(lines) - 1, 0)}: {len(lines)} lines; R rows of cells need 2 R + 1, an odd number")


def _check_characters(where: _Where, lines: list[str]) -> None:
  for row, line in enumerate(lines):
    for column, character in enumerate(line):
      if character not in (WALL, OPEN, *_SLANTS, *_THINGS):
        known = ", ".join(f"{kind} ({what})" for kind, what in _THINGS.items())
        raise ValueError(
          f"{where(row, column)}: {character!r} is not known; there are {WALL} (wall), / and \\ (walls that slant), "
          f"space, {known}"
        )
      if character in _THINGS and not (row % 2 and column % 2):
        raise ValueError(
          f"{where(row, column)}: {_THINGS[character]} between cells; move it by one, cells are in every second line "
          f"and column"
        )


def _check_border(where: _Where, is_wall: np.ndarray) -> None:
  border = np.ones_like(is_wall)
  border[1:-1, 1:-1] = False
  for row, column in zip(*np.nonzero(border & ~is_wall), strict=True):
    raise ValueError(f"{where(row, column)}: the border is open here; close it with {WALL}")


def _slant(where: _Where, lines: list[str], is_wall: np.ndarray) -> np.ndarray:
  """The values of `Layout.slant`, line by line from the north; `[2R+1, 2C+1, 2]` int8."""
  slant = np.zeros((*is_wall.shape, 2), np.int8)
  for row, line in enumerate(lines):
    for column, character in enumerate(line):
      filled = [
        (east, north)
        for east, north in _SLANTS.get(character, ())
        if (row + column) % 2 == 0
        and is_wall[row - north, column]
        and is_wall[row, column + east]
        and not (is_wall[row + north, column] or is_wall[row, column - east])
      ]
      if character in _SLANTS and not filled:
        raise ValueError(
          f"{where(row, column)}: a wall that slants must be in a cell or at a corner, with walls on the two sides of "
          f"the half that it fills and openings on the others"
        )
      slant[row, column] = filled[0] if filled else 0
  return slant


def _flood(is_wall: np.ndarray, start: tuple[int, int]) -> np.ndarray:
  """Squares walked from square `start` to each, `is_wall`'s shape, -1 if there is no way; the border must be closed.

  A post between two walls is closed, because the gap is as wide as a wall is thick, narrower than an agent.
  """
  walls, is_wall = is_wall, is_wall.copy()
  above, below, left, right = walls[1:-2:2, 2:-1:2], walls[3::2, 2:-1:2], walls[2:-1:2, 1:-2:2], walls[2:-1:2, 3::2]
  is_wall[2:-1:2, 2:-1:2] |= above & below | left & right
  squares = np.full(is_wall.shape, -1)
  squares[start] = 0
  front = collections.deque([start])
  while front:
    row, column = front.popleft()
    for beside in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
      if not is_wall[beside] and squares[beside] < 0:
        squares[beside] = squares[row, column] + 1
        front.append(beside)
  return squares
