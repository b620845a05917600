"""Draws the committed layouts with labmaze (Apache-2.0), all except the hand-drawn `i_maze`.

    python -m tests.environments.derive_layouts

Sizes are the paper's (papers.md 3.5). These labmaze seeds were chosen for several loops, short ways (no cell is farther
than 18, 22, 46 and 51 steps from another) and short lines of sight. The goal and fruit of the static mazes are also
drawn here, once. Fruit is in a tenth of the cells, as in Lab's own scripts. A fifth of it is strawberries (a guess).
"""

import pathlib

import labmaze
import numpy as np

from environments.maze import layout

# name -> rows, columns, labmaze's rooms, probability of extra connections and seed, whether goal and fruit stay.
MAZES = {
  "static_small": (3, 5, 1, 0.3, 1, True),
  "static_1": (5, 10, 2, 0.2, 262, True),
  "static_2": (9, 15, 4, 0.2, 98, True),
  "random_goal_1": (5, 10, 2, 0.3, 51, False),
  "random_goal_2": (9, 15, 4, 0.3, 27, False),
}


def draw(name: str) -> str:
  """The text of one layout, with its origin in a remark."""
  rows, columns, num_rooms, probability, seed, is_static = MAZES[name]
  maze = labmaze.RandomMaze(
    height=2 * rows + 1, width=2 * columns + 1, max_rooms=num_rooms, room_min_size=3, room_max_size=5,
    extra_connection_probability=probability, max_variations=1, has_doors=False, simplify=False,
    spawns_per_room=0, objects_per_room=0, random_seed=seed,
  )  # fmt: skip
  squares = np.array([list(line) for line in str(maze.entity_layer).splitlines() if line], str)
  cells = squares[1::2, 1::2]  # A view: writing to it writes to `squares`.
  cells[:] = layout.START
  if is_static:
    num_fruit = max(2, round(0.1 * (cells.size - 1)))
    num_strawberries = max(1, round(0.2 * num_fruit))
    things = [layout.GOAL] + [layout.STRAWBERRY] * num_strawberries
    things += [layout.APPLE] * (num_fruit - num_strawberries)
    places = np.random.default_rng(seed).choice(cells.size, len(things), replace=False)
    cells.flat[places] = things
  remark = f"# {rows}x{columns} cells, drawn by labmaze 1.0.6 with seed {seed}: tests/environments/derive_layouts.py"
  return "\n".join([remark, *("".join(line) for line in squares)]) + "\n"


def main() -> None:
  """Writes the files."""
  for name in MAZES:
    (pathlib.Path(layout.__file__).parent / "levels" / f"{name}.txt").write_text(draw(name))


if __name__ == "__main__":
  main()
