"""The maze from above with the agent's path, and beside it what the agent sees: pictures for people, in numpy.

A cell is `cell_px` pixels wide, a wall has its true thickness, and north is up. Everything is a function of the layout
and of positions, so any recorded path can be drawn.
"""

from collections.abc import Sequence

import numpy as np

from environments.maze import constants, layout, things

_FLOOR, _WALL, _PATH, _AGENT = (238, 236, 228), (70, 74, 84), (60, 110, 200), (200, 40, 40)
_COLORS = {
  things.GOAL: (240, 180, 20),
  things.APPLE: (90, 180, 40),
  things.STRAWBERRY: (225, 30, 70),
  things.LEMON: (245, 225, 40),
  things.MUSHROOM: (120, 40, 150),
}


def draw(maze: layout.Layout, *, cell_px: int = 24) -> np.ndarray:
  """Draws the walls: `[h, w, 3]` uint8, with half a wall outside the outermost lines."""
  if cell_px < 4:
    raise ValueError(f"cell_px={cell_px} is too small to draw a cell; 4 is the least")
  rows, columns = maze.shape
  picture = np.empty((*(n * cell_px + _margin(cell_px) for n in (rows, columns)), 3), np.uint8)
  ends = [_edges(2 * n + 1, cell_px) for n in (rows, columns)]
  for (row, column), is_wall in np.ndenumerate(maze.is_wall):
    (top, bottom), (left, right) = ends[0][row], ends[1][column]
    picture[top:bottom, left:right] = _WALL if is_wall else _FLOOR
    east, north = maze.slant[row, column]
    y, x = np.mgrid[-1 : 1 : (bottom - top) * 1j, -1 : 1 : (right - left) * 1j]
    picture[top:bottom, left:right][east * x + north * y > 0.0] = _WALL
  return picture[::-1].copy()


def draw_path(
  maze: layout.Layout,
  positions: np.ndarray,
  *,
  heading: float | None = None,
  goal: Sequence[float] | None = None,
  fruit: np.ndarray | None = None,
  kinds: np.ndarray | None = None,
  cell_px: int = 24,
) -> np.ndarray:
  """Draws the maze with a path and the agent at the path's end: `[h, w, 3]` uint8.

  Args:
    maze: the layout.
    positions: x and y, `[T, 2]` cells; a step longer than half a cell is a new start and is not drawn.
    heading: the agent's heading, radians.
    goal: x and y of the goal.
    fruit: x, y and whether it is left, `[F, 3]`, as in the privileged signal.
    kinds: kinds of the fruit, `[F]`, or None for apples.
    cell_px: pixels per cell.
  """
  picture = draw(maze, cell_px=cell_px)
  positions = np.asarray(positions, np.float64).reshape(-1, 2)
  for a, b in zip(positions[:-1], positions[1:], strict=True):
    if np.linalg.norm(b - a) <= 0.5:
      for share in np.linspace(0.0, 1.0, 1 + int(np.ceil(2 * np.linalg.norm(b - a) * cell_px))):
        _dot(picture, a + share * (b - a), 0.03, _PATH, cell_px)
  for n, (x, y, is_left) in enumerate([] if fruit is None else np.asarray(fruit)):
    if is_left:
      kind = things.APPLE if kinds is None else int(kinds[n])
      _dot(picture, (x, y), float(things.RADIUS[kind]), _COLORS[kind], cell_px)
  if goal is not None:
    _dot(picture, goal, float(things.RADIUS[things.GOAL]), _COLORS[things.GOAL], cell_px)
  if len(positions):
    _dot(picture, positions[-1], constants.AGENT_HALF_WIDTH, _AGENT, cell_px)
    if heading is not None:
      nose = positions[-1] + 0.3 * np.array([np.cos(heading), np.sin(heading)])
      for share in np.linspace(0.0, 1.0, 2 * cell_px):
        _dot(picture, positions[-1] + share * (nose - positions[-1]), 0.04, _AGENT, cell_px)
  return picture


def side_by_side(pixels: np.ndarray, above: np.ndarray) -> np.ndarray:
  """A frame of a video: the first-person picture, enlarged to about the map's height, with the map beside it.

  All are `[h, w, 3]` uint8. The frame has even sides, as video encoders like them; the rest is black.
  """
  times = max(1, round(above.shape[0] / pixels.shape[0]))
  larger = pixels.repeat(times, axis=0).repeat(times, axis=1)
  height = max(larger.shape[0], above.shape[0])
  width = larger.shape[1] + above.shape[1]
  frame = np.zeros((height + height % 2, width + width % 2, 3), np.uint8)
  frame[: larger.shape[0], : larger.shape[1]] = larger
  frame[: above.shape[0], larger.shape[1] : width] = above
  return frame


def _margin(cell_px: int) -> int:
  """Thickness of a wall in pixels, at least 1."""
  return max(1, round(constants.WALL_THICKNESS * cell_px))


def _edges(num_squares: int, cell_px: int) -> list[tuple[int, int]]:
  """First pixel and pixel after the last of each square along an axis."""
  wall = _margin(cell_px)
  return [
    (n // 2 * cell_px, n // 2 * cell_px + wall) if n % 2 == 0 else (n // 2 * cell_px + wall, (n // 2 + 1) * cell_px)
    for n in range(num_squares)
  ]


def _dot(
  picture: np.ndarray, place: Sequence[float] | np.ndarray, radius: float, color: tuple[int, int, int], cell_px: int
) -> None:
  """Paints a disc around x, y with a radius in cells, at least a pixel large."""
  offset = _margin(cell_px) / 2.0
  x = float(place[0]) * cell_px + offset
  y = picture.shape[0] - (float(place[1]) * cell_px + offset)
  reach = max(radius * cell_px, 0.5)
  top, left = max(0, int(y - reach)), max(0, int(x - reach))
  bottom, right = int(np.ceil(y + reach)) + 1, int(np.ceil(x + reach)) + 1
  rows, columns = np.mgrid[top : min(bottom, picture.shape[0]), left : min(right, picture.shape[1])]
  inside = np.hypot(rows + 0.5 - y, columns + 0.5 - x) <= reach + 0.2
  picture[rows[inside], columns[inside]] = color
