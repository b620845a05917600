"""The paper's mazes: which layout, how long, and what is drawn anew for each episode (papers.md 3.5).

Static mazes have goal and fruit where the layout's text says. Their episodes begin at any marked start. Random-goal
mazes keep the walls and draw goal, fruit (on a tenth of the other cells) and start (more than 4 cells' walk from the
goal) among all cells, as Lab's own script does. In the I-maze the goal is drawn among the four alcoves. Reaching the
goal pays 10, puts the agent somewhere new and, as in Lab, brings the fruit back.

The Labyrinth levels of the other paper (Rusu et al. 2016; papers.md 1.6), `seek_...`, have no goal: an episode ends
when everything good is eaten.
"""

import dataclasses

import numpy as np

from environments.maze import constants


@dataclasses.dataclass(frozen=True)
class Task:
  """A maze task.

  Attributes:
    name: the last part of its registered name.
    layout: name of its layout, or path of a layout's file.
    num_steps: agent steps of an episode, of four frames each.
    is_goal_random: whether goal and fruit are drawn among all cells for each episode. Otherwise the layout places them,
      and a goal with several places is drawn among these.
    min_start_steps: least number of cells walked from a start to the goal.
    style: a name in `appearance.STYLES`.
    fruit_share: share of the cells without the goal on which fruit is drawn.
    strawberry_share: share of strawberries in the drawn fruit (a guess; Lab's public scripts have only apples).
    has_goal: whether there is a goal. Without one, the episode ends when everything good is eaten.
    looks_up: whether two of the actions look up and down, in place of walking while turning.
    heading: the heading at the start of an episode, radians; None: drawn.
    wall_height: in cells.
  """

  name: str
  layout: str
  num_steps: int
  is_goal_random: bool = False
  min_start_steps: int = 1
  style: str = "style_01"
  fruit_share: float = 0.1
  strawberry_share: float = 0.2
  has_goal: bool = True
  looks_up: bool = False
  heading: float | None = None
  wall_height: float = constants.WALL_HEIGHT


def _seek(
  name: str, num_steps: int, heading_deg: int, *, style: str, wall_height: float = constants.WALL_HEIGHT
) -> Task:
  return Task(
    f"seek_{name}",
    f"seek_{name}",
    num_steps,
    style=style,
    min_start_steps=0,
    has_goal=False,
    looks_up=True,
    heading=float(np.deg2rad(heading_deg)),
    wall_height=wall_height,
  )


# The I-maze has 25 open places in a box of 7 x 11. The paper says 77 locations, and its drawing is not available, so
# decoded positions and latencies in it cannot be compared. The paper's episode length is not known either. With 60 s,
# as in the other small mazes, the latencies in Table 1 (9.9 s and 2.5 s) leave time for 21 goals, which pay 210. The
# apples on the way fill this up to the score of about 250 in the table.
TASKS = {
  task.name: task
  for task in (
    Task("static_1", "static_1", 900, style="style_01"),
    Task("static_2", "static_2", 2700, style="style_02"),
    Task("random_goal_1", "random_goal_1", 900, is_goal_random=True, min_start_steps=5, style="style_04"),
    Task("random_goal_2", "random_goal_2", 2700, is_goal_random=True, min_start_steps=5, style="style_03"),
    Task("i_maze", "i_maze", 900, style="style_05"),
    # The paper has one line for each of these. No map of a track or of Maze M and Y is public, and no lengths, starts
    # or looks: all these are ours. For Seek Avoid 1, Lab has a public level. Both `avoid` levels have its size, time,
    # things and wall height; we chose where the things lie.
    _seek("track_1", 300, 0, style="style_01"),  # A corridor, many apples.
    _seek("track_2", 300, -90, style="style_01"),  # A U, many strawberries.
    _seek("track_3", 450, 0, style="style_02"),  # An omega with right angles, few apples.
    _seek("track_4", 450, 0, style="style_02"),  # An omega with turns of 45 degrees, few apples.
    _seek("avoid_1", 300, 90, style="style_03", wall_height=constants.ARENA_WALL_HEIGHT),  # Apples and lemons.
    _seek("avoid_2", 300, 90, style="style_03", wall_height=constants.ARENA_WALL_HEIGHT),  # Apples and mushrooms.
    _seek("maze_m", 900, 90, style="style_04"),  # Apples at the dead ends, in both mazes.
    _seek("maze_y", 900, 90, style="style_04"),
    # Not in the papers: for a first look, and for training on two cores.
    Task("static_small", "static_small", 300, style="style_01"),
    Task("random_goal_small", "static_small", 300, is_goal_random=True, min_start_steps=3, style="style_01"),
  )
}
