"""One emulated frame of Pong as a pure function of integers.

The order is the console's. First the previous frame is judged by what overlapped in its picture (a goal, a wall, a
paddle). Then the ball moves, then the opponent, then the picture is drawn, then the knob is read. A state therefore
holds exactly what its picture shows. The ball's vertical speed after a hit depends only on where it met the paddle. If
FIRE was held in the previous frame, the ball leaves faster.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from flax import struct

from environments.pong import constants as c


@struct.dataclass
class Game:
  """A game after a frame; every leaf `[]` int32, coordinates and speeds as in `constants`."""

  tick: jax.Array  # Frames modulo OPPONENT_PERIOD.
  wait: jax.Array  # Frames until the serve; 0 while the ball is in play.
  ball_x: jax.Array
  ball_y: jax.Array  # 0 while waiting: the ball is out of sight, and the opponent follows this value.
  ball_dx: jax.Array  # Columns a frame, to the right; while waiting, of the coming serve.
  ball_dy: jax.Array  # Rows a frame, downwards; while waiting, of the last rally.
  opponent_y: jax.Array
  player_y: jax.Array  # As drawn.
  knob_y: jax.Array  # Average of the last readings: where the paddle will be drawn next.
  knob_ohm: jax.Array
  polled_y: jax.Array  # Reading of the knob that was polled in this frame.
  fire: jax.Array  # 1 if FIRE was held in this frame.
  opponent_score: jax.Array
  player_score: jax.Array
  opponent_shown: jax.Array  # Scores in this frame's picture: they lag a frame.
  player_shown: jax.Array


def start(num_frames: jax.Array) -> Game:
  """A new game after `num_frames` `[]` frames of NOOP, fewer than START_WAIT; without a loop: batches call it often."""
  chex.assert_shape(num_frames, ())
  num_frames = num_frames.astype(jnp.int32)
  zero = jnp.zeros((), jnp.int32)
  still = (num_frames + c.START_TICK - 1) // c.OPPONENT_PERIOD  # Frames in which the opponent stands still.
  opponent_y = jnp.maximum(c.START_OPPONENT_Y - c.OPPONENT_DY * (num_frames - still), 0)
  return Game(
    tick=(c.START_TICK + num_frames) % c.OPPONENT_PERIOD,
    wait=c.START_WAIT - num_frames,
    ball_x=zero,
    ball_y=zero,
    ball_dx=zero - 1,
    ball_dy=zero,
    opponent_y=opponent_y,
    player_y=zero + c.START_PLAYER_Y,
    knob_y=zero + c.START_PLAYER_Y,
    knob_ohm=zero + c.KNOB_START_OHM,
    polled_y=zero + c.IDLE_KNOB_Y,
    fire=zero,
    opponent_score=zero,
    player_score=zero,
    opponent_shown=zero,
    player_shown=zero,
  )


def frame(game: Game, turn: jax.Array, fire: jax.Array) -> Game:
  """The next frame. int32 `[]`: `turn` -1 turns the knob to move the paddle up, 1 down; `fire` is 1 while held."""
  chex.assert_shape((turn, fire), ())
  judged = dataclasses.replace(game, opponent_shown=game.opponent_score, player_shown=game.player_score)
  is_waiting = game.wait > 0
  judged = jax.tree.map(lambda a, b: jnp.where(is_waiting, a, b), _wait(judged), _play(judged))
  moved = dataclasses.replace(_move_opponent(judged), player_y=game.knob_y)
  return dataclasses.replace(_read_knob(moved, turn), tick=(game.tick + 1) % c.OPPONENT_PERIOD, fire=fire)


def _wait(game: Game) -> Game:
  """Counts down to the serve; then the ball and the opponent appear in the middle."""
  wait = game.wait - 1
  is_serve = wait == 0
  ball_dy = jnp.where(is_serve, jnp.where(game.ball_dy < 0, -1, 1), game.ball_dy)
  return dataclasses.replace(
    game,
    wait=wait,
    ball_x=jnp.where(is_serve, c.SERVE_X + game.ball_dx, game.ball_x),
    ball_y=jnp.where(is_serve, c.SERVE_Y + ball_dy, 0),
    ball_dy=ball_dy,
    opponent_y=jnp.where(is_serve, c.SERVE_Y, game.opponent_y),
  )


def _play(game: Game) -> Game:
  """Handles a goal, else a wall, else the paddles. The ball moves unless there was a goal."""
  x, y, dx, dy = game.ball_x, game.ball_y, game.ball_dx, game.ball_dy
  opponent_scores, player_scores = x >= c.RIGHT_GOAL_X, x <= c.LEFT_GOAL_X
  is_goal = opponent_scores | player_scores
  is_up, is_down = y <= c.UPPER_WALL_Y, y >= c.LOWER_WALL_Y
  is_wall = is_up | is_down
  is_player, is_opponent = meets_player(game) & ~is_wall, meets_opponent(game) & ~is_wall
  is_hit = is_player | is_opponent
  # A wall pushes the ball out by a row and reverses it.
  wall_y = y + is_up.astype(jnp.int32) - is_down.astype(jnp.int32)
  # A paddle sends the ball away from itself, at an angle set by where they met.
  paddle_y = jnp.where(is_player, game.player_y, game.opponent_y)
  hit_dy = -((paddle_y + c.MIDDLE_OF_PADDLE - y) >> 1) >> 1
  speed = jnp.minimum(jnp.abs(dx) + (is_player & (game.fire > 0)).astype(jnp.int32), c.MAX_BALL_DX)
  new_dx = jnp.where(is_player, -speed, jnp.where(is_opponent, speed, dx))
  new_dy = jnp.where(is_wall, -dy, jnp.where(is_hit, hit_dy, dy))
  # The next serve goes to the side that lost the point.
  return dataclasses.replace(
    game,
    ball_x=jnp.where(is_goal, x, x + new_dx),
    ball_y=jnp.where(is_goal, y, wall_y + new_dy),
    ball_dx=jnp.where(opponent_scores, 1, jnp.where(player_scores, -1, new_dx)),
    ball_dy=jnp.where(is_goal, dy, new_dy),
    wait=jnp.where(is_goal, c.SERVE_WAIT, game.wait),
    opponent_score=game.opponent_score + opponent_scores.astype(jnp.int32),
    player_score=game.player_score + player_scores.astype(jnp.int32),
  )


def _move_opponent(game: Game) -> Game:
  step = c.OPPONENT_DY * jnp.sign(game.ball_y - game.opponent_y)
  return dataclasses.replace(game, opponent_y=game.opponent_y + jnp.where(game.tick == 0, 0, step))


def _read_knob(game: Game, turn: jax.Array) -> Game:
  """Turns the knob. On odd ticks its charging time is counted and averaged with the last average."""
  ohm = jnp.clip(game.knob_ohm + c.KNOB_TURN_OHM * turn, c.KNOB_MIN_OHM, c.KNOB_MAX_OHM)
  cycles_100k = ohm * c.CYCLES_PER_100K_OHM - 100_000 * c.COUNT_DELAY_CYCLES
  count = jnp.clip(cycles_100k // (100_000 * c.COUNT_CYCLES), 0, c.MAX_COUNT)
  reading = c.FIRST_COUNT_Y + 2 * count
  is_polled = game.tick % 2 == 1
  return dataclasses.replace(
    game,
    knob_ohm=ohm,
    knob_y=jnp.where(is_polled, (reading + game.knob_y) >> 1, game.knob_y),
    polled_y=jnp.where(is_polled, reading, c.IDLE_KNOB_Y),
  )


def ball_column(game: Game) -> jax.Array:
  """Left edge of the ball in the picture."""
  return game.ball_x + c.BALL_COLUMN_OFFSET


def ball_row(game: Game) -> jax.Array:
  """Top of the ball in the picture, to within a row (see `beam`); above the field while waiting."""
  return game.ball_y + c.BALL_ROW_OFFSET


def player_row(game: Game) -> jax.Array:
  """Top of the player's paddle in the picture."""
  return ((game.player_y + 1) >> 1) * 2 + c.PLAYER_ROW_OFFSET


def opponent_row(game: Game) -> jax.Array:
  """Top of the opponent's paddle in the picture."""
  return game.opponent_y + c.OPPONENT_ROW_OFFSET


def meets_player(game: Game) -> jax.Array:
  """Whether ball and player's paddle overlap in the picture. In this column an odd y is drawn a row higher."""
  return _overlap(game, ball_row(game) - game.ball_y % 2, player_row(game), c.PLAYER_COLUMN)


def meets_opponent(game: Game) -> jax.Array:
  """Whether ball and opponent's paddle overlap in the picture."""
  return _overlap(game, ball_row(game), opponent_row(game), c.OPPONENT_COLUMN)


def _overlap(game: Game, row: jax.Array, paddle_row: jax.Array, paddle_column: int) -> jax.Array:
  column = ball_column(game)
  return (
    (column > paddle_column - c.BALL_WIDTH)
    & (column < paddle_column + c.PADDLE_WIDTH)
    & (row > paddle_row - c.BALL_HEIGHT)
    & (row < paddle_row + c.PADDLE_HEIGHT)
  )
