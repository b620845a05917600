"""Measures of the maze and of its agent, from DeepMind Lab; a cell is 100 of Lab's units wide.

Lengths are in cells, angles in radians, times in seconds. In the plane, x points east (it counts the columns of a
layout's text) and y north (it counts the lines, from the last to the first). Headings turn anticlockwise from the east.
"""

import numpy as np

IMAGE_SIZE = 84  # Pixels (papers.md 3.1).
HALF_VIEW = 1.0  # Tangent of half the angle of view, 45 degrees: Quake III's default of 90 degrees across and up.
EYE_HEIGHT = 0.5  # Quake III: the view is 26 units above an origin that is 24 units above the floor.
WALL_HEIGHT = 1.0  # In Lab's navigation mazes.
ARENA_WALL_HEIGHT = 1.92  # In Lab's public level `seekavoid_arena_01`.
WALL_THICKNESS = 0.1  # A guess. It must exceed the longest way in a frame, 0.064: pushing sideways adds to TOP_SPEED.
AGENT_HALF_WIDTH = 0.15  # Half of Quake III's box of 30 units.

FRAME_S = 1.0 / 60.0  # Lab's frames; papers.md counts its "environment steps" in them.
ACTION_REPEAT = 4  # Frames for which an action is held (papers.md 3.4).
CONTROL_S = ACTION_REPEAT * FRAME_S

# Quake III's walking, which Lab inherits: the units of its player movement code, divided by 100.
TOP_SPEED = 3.2  # Cells a second.
ACCELERATION = 10.0  # Share of the top speed gained per second, in the direction in which the agent pushes.
FRICTION = 6.0  # Share of the speed lost per second.
STOP_SPEED = 1.0  # Slower agents lose as much as at this speed: they stop within one or two tenths of a second.

# Lab's manual: a look of 57 pixels a frame is a full turn a second. We use 20 pixels a frame, as IMPALA's agents on Lab
# do (papers.md says "small rotations", no number). That is 126 degrees a second, 8.4 degrees an action.
TURN_RAD_S = 20.0 / 57.0 * 2.0 * np.pi

# To look up and down, the picture is shifted by whole rows, not tilted, so upright edges stay upright. 3 rows an action
# are 4 degrees, half of a turn's angle. The limit is ours; Quake III's is 88 degrees.
PITCH_STEP = 3 / (IMAGE_SIZE / 2)  # Tangents.
MAX_PITCH = 21 / (IMAGE_SIZE / 2)  # 27 degrees

# The eight actions (papers.md 3.5): forward and leftward push, anticlockwise turn and look up, each -1, 0 or 1.
ACTION_NAMES = (
  "turn left", "turn right", "forward", "backward", "left", "right", "forward turning left", "forward turning right",
)  # fmt: skip
ACTIONS = np.array(
  [
    (0, 0, 1, 0), (0, 0, -1, 0), (1, 0, 0, 0), (-1, 0, 0, 0),
    (0, 1, 0, 0), (0, -1, 0, 0), (1, 0, 1, 0), (1, 0, -1, 0),
  ],
  np.float32,
)  # fmt: skip
# Labyrinth's actions (papers.md 1.2): the first six, with these two in place of the others.
LABYRINTH_ACTION_NAMES = (*ACTION_NAMES[:6], "look up", "look down")
LABYRINTH_ACTIONS = np.concatenate([ACTIONS[:6], np.array([(0, 0, 0, 1), (0, 0, 0, -1)], np.float32)])
NUM_ACTIONS = len(ACTIONS)

APPLE_REWARD, STRAWBERRY_REWARD, GOAL_REWARD = 1.0, 2.0, 10.0  # papers.md 3.5
LEMON_REWARD, MUSHROOM_REWARD = -1.0, -10.0  # Lab's defaults (papers.md 1.6).
TOUCH_DISTANCE = 0.4  # Between centres, at the end of an action: Quake III's box of a thing is about 0.4 wide.
