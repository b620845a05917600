"""The numbers of Pong, in the console's own coordinates, and how they were found.

Video Olympics, game 1, as ale-py plays it, keeps the ball, the paddles and their speeds in 128 bytes of memory, which
the emulator shows. We read the cartridge's program to learn which rules to look for. Then we read each number off that
memory and the pictures beside it, except the knob's range and turn, which are the emulator's own. `python -m
experiments.pong_fidelity` compares all that follows from these numbers. One frame is 1/60 s. Rows and columns count
from the upper left corner of the emulator's 210 x 160 picture.
"""

FRAMES_PER_S = 60.0
FRAMES_PER_STEP = 4  # Emulated frames for which an agent's action lasts.
WINNING_SCORE = 21
IMAGE_SIZE = 84  # Height and width of the observation.
NUM_STACKED = 4  # Observations stacked, newest last.

# The picture, pixels.
SCREEN_HEIGHT, SCREEN_WIDTH = 210, 160
FIELD_TOP, FIELD_BOTTOM = 34, 194  # Rows of the field: [34, 194); the walls are white bars above and below it.
UPPER_WALL_TOP = 24
BALL_HEIGHT, BALL_WIDTH = 4, 2
PADDLE_HEIGHT, PADDLE_WIDTH = 16, 4
OPPONENT_COLUMN, PLAYER_COLUMN = 16, 140  # Left edges.

# Luminance, as in the emulator's own greyscale screen.
BACKGROUND, WHITE, OPPONENT_GREY, PLAYER_GREY = 87, 236, 148, 147

# From the console's coordinates to the picture.
BALL_COLUMN_OFFSET = -49  # Left edge of the ball = x - 49.
BALL_ROW_OFFSET = -14  # Top of the ball = y - 14, except near the right edge.
LATE_COLUMN_EVEN, LATE_COLUMN_ODD = 149, 127  # From this column on, by the parity of y, a row higher. `beam` says why.
CHARGING_COLUMNS, NO_PADDLE_COLUMNS = 6, 3
PLAYER_ROW_OFFSET = -14  # Top of the player's paddle = y rounded up to an even number, - 14.
OPPONENT_ROW_OFFSET = -15

# The ball.
SERVE_X, SERVE_Y = 128, 128
LEFT_GOAL_X, RIGHT_GOAL_X = 52, 205  # At or beyond these, a point is scored.
UPPER_WALL_Y, LOWER_WALL_Y = 45, 206  # At or beyond these, the ball bounces.
MAX_BALL_DX = 4
SERVE_WAIT = 63  # Frames from a point to the next serve.
# A hit 5 to 8 rows below the paddle's y sends the ball straight; dy grows by one for each four rows beyond that.
MIDDLE_OF_PADDLE = 6

# The opponent moves OPPONENT_DY rows a frame towards the ball, except in one frame in OPPONENT_PERIOD.
OPPONENT_DY = 2
OPPONENT_PERIOD = 8

# The player's paddle is an analogue knob. An action turns it, and its resistance charges a capacitor. The time that
# this takes is counted in pairs of scan lines, every other frame, and averaged with the previous average. This is the
# paddle's inertia.
KNOB_MIN_OHM, KNOB_MAX_OHM, KNOB_START_OHM = 27_450, 790_196, 408_823
KNOB_TURN_OHM = 23_000  # Per frame.
CYCLES_PER_100K_OHM = 1_904  # Charging time, in cycles of the console's processor.
COUNT_DELAY_CYCLES = 2_297  # From the start of charging to the first count.
COUNT_CYCLES = 152  # Between counts: two scan lines.
MAX_COUNT = 91
FIRST_COUNT_Y = 38  # Paddle position at count 0; each count is two rows.
IDLE_KNOB_Y = 110  # Reading of the knob that no one turns, which is polled in the other frames.

# The start of a game, after the emulator's reset.
START_TICK = 7
START_WAIT = 59  # Frames to the first serve.
START_OPPONENT_Y, START_PLAYER_Y = 22, 109
MIN_START_FRAMES = 2  # Frames of doing nothing: the picture right after the console's reset has other colours.
MAX_START_FRAMES = 30  # The usual random start on Atari.

# What the player's actions do, in the emulator's order: NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE. RIGHT moves the
# paddle up (a turn of -1), LEFT down.
TURN = (0, 0, -1, 1, -1, 1)
FIRE = (0, 1, 0, 0, 1, 1)
