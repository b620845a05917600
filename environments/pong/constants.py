"""The numbers of Pong, in the console's own coordinates, and how they were found.

Video Olympics, game 1, as ale-py plays it, keeps the ball, the paddles and their speeds in 128 bytes of memory that
the emulator shows. Which rules to look for was learned by reading the cartridge's program; each number was then read
off that memory and the pictures beside it, save the knob's range and turn, which are the emulator's own. `python -m
experiments.pong_fidelity` compares all that follows from them. One frame is 1/60 s; rows and columns count from
the upper left corner of the emulator's 210 x 160 picture.
"""

FRAMES_PER_S = 60.0
FRAMES_PER_STEP = 4  # Emulated frames an agent's action lasts.
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

# Luminance, as the emulator's own greyscale screen gives it.
BACKGROUND, WHITE, OPPONENT_GREY, PLAYER_GREY = 87, 236, 148, 147

# From the console's coordinates to the picture.
BALL_COLUMN_OFFSET = -49  # Left edge of the ball = x - 49.
BALL_ROW_OFFSET = -14  # Top of the ball = y - 14, save near the right edge:
LATE_COLUMN_EVEN, LATE_COLUMN_ODD = 149, 127  # from this column on, by the parity of y, a row higher. `beam` says why.
CHARGING_COLUMNS, NO_PADDLE_COLUMNS = 6, 3
PLAYER_ROW_OFFSET = -14  # Top of the player's paddle = y rounded up to an even number, - 14.
OPPONENT_ROW_OFFSET = -15

# The ball.
SERVE_X, SERVE_Y = 128, 128
LEFT_GOAL_X, RIGHT_GOAL_X = 52, 205  # At or beyond: a point.
UPPER_WALL_Y, LOWER_WALL_Y = 45, 206  # At or beyond: the ball bounces.
MAX_BALL_DX = 4
SERVE_WAIT = 63  # Frames from a point to the next serve.
# A hit 5 to 8 rows below the paddle's y sends the ball straight; dy is one more for each four rows beyond.
MIDDLE_OF_PADDLE = 6

# The opponent: OPPONENT_DY rows a frame towards the ball, but not on one frame in OPPONENT_PERIOD.
OPPONENT_DY = 2
OPPONENT_PERIOD = 8

# The player's paddle is an analogue knob: an action turns it, its resistance charges a capacitor, and the time
# that takes is counted in pairs of scan lines, every other frame, and averaged with the count before. That average
# is the paddle's inertia.
KNOB_MIN_OHM, KNOB_MAX_OHM, KNOB_START_OHM = 27_450, 790_196, 408_823
KNOB_TURN_OHM = 23_000  # A frame.
CYCLES_PER_100K_OHM = 1_904  # Charging time, in cycles of the console's processor.
COUNT_DELAY_CYCLES = 2_297  # From the start of charging to the first count.
COUNT_CYCLES = 152  # Between counts: two scan lines.
MAX_COUNT = 91
FIRST_COUNT_Y = 38  # Paddle position at count 0; each count is two rows.
IDLE_KNOB_Y = 110  # Reading of the knob that no one turns, polled on the other frames.

# How a game begins: after the emulator's reset.
START_TICK = 7
START_WAIT = 59  # Frames to the first serve.
START_OPPONENT_Y, START_PLAYER_Y = 22, 109
MIN_START_FRAMES = 2  # Of doing nothing: the picture right after the console's reset has other colours.
MAX_START_FRAMES = 30  # The usual random start on Atari.
