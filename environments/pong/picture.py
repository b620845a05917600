"""From two successive frames to the 84 x 84 picture an agent sees, without drawing 210 x 160 pixels.

Atari preprocessing takes the brighter of the last two greyscale frames and averages it over areas of 2.5 x 40/21
pixels. Everything in Pong is a rectangle, and the average of a rectangle is an outer product: how much of each row
it covers times how much of each column. The picture is a still background plus such products for paddles and ball.
In units of 1/5 row and 1/40 column all is whole numbers, hence exact.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.pong import constants as c
from environments.pong import game as games

_ROWS_PER_PIXEL, _COLUMNS_PER_PIXEL = 5, 40  # In half screen rows, and in 21sts of a screen column.
_HALVES, _TWENTYFIRSTS = 2, 21
_UNITS = _ROWS_PER_PIXEL * _COLUMNS_PER_PIXEL  # Units in a pixel's area.

# 3 x 5 blocks of 4 x 4 pixels, row by row, bit 2 on the left.
_DIGITS = (
  (7, 5, 5, 5, 7),
  (2, 2, 2, 2, 2),
  (7, 1, 7, 4, 7),
  (7, 1, 3, 1, 7),
  (5, 5, 7, 1, 1),
  (7, 4, 7, 1, 7),
  (4, 4, 7, 5, 7),
  (7, 1, 1, 1, 1),
  (7, 5, 7, 5, 7),
  (7, 5, 7, 1, 1),
)
_BLOCK = 4
_DIGITS_TOP = 1  # Screen row.
_OPPONENT_DIGITS, _PLAYER_DIGITS = 16, 96  # Screen columns of the tens.
STRIP_HEIGHT = 9  # Rows of the observation that the digits reach.


def resize(screen: np.ndarray) -> np.ndarray:
  """Averages a `[210, 160]` screen over areas to uint8 `[84, 84]`, as OpenCV's INTER_AREA."""
  chex.assert_shape(screen, (c.SCREEN_HEIGHT, c.SCREEN_WIDTH))
  rows, columns = _resize_matrices()
  return np.rint(rows @ screen.astype(np.int64) @ columns / _UNITS).astype(np.uint8)


def still_screen(opponent_score: int, player_score: int) -> np.ndarray:
  """What does not move, uint8 `[210, 160]`: background, walls and scores."""
  screen = np.full((c.SCREEN_HEIGHT, c.SCREEN_WIDTH), c.BACKGROUND, np.uint8)
  screen[0, :8] = 0
  screen[c.UPPER_WALL_TOP : c.FIELD_TOP] = c.WHITE
  screen[c.FIELD_BOTTOM :] = c.WHITE
  for score, column, grey in (
    (opponent_score, _OPPONENT_DIGITS, c.OPPONENT_GREY),
    (player_score, _PLAYER_DIGITS, c.PLAYER_GREY),
  ):
    blocks = np.kron(_digit_blocks(score), np.ones((_BLOCK, _BLOCK), bool))
    height, width = blocks.shape
    screen[_DIGITS_TOP : _DIGITS_TOP + height, column : column + width][blocks] = grey
  return screen


def draw(before: games.Game, now: games.Game) -> jax.Array:
  """The picture after `now`, whose last frame but one was `before`: uint8 `[84, 84]`."""
  still = jnp.asarray(_field(), jnp.float32)
  strip = _strip(before, now)
  area = still + _paddles(before, now) + _ball(before, now)  # [84, 84], in _UNITS
  field = jnp.rint(area / _UNITS).astype(jnp.uint8)
  return jnp.concatenate([strip, field[STRIP_HEIGHT:]], axis=0)


def _paddles(before: games.Game, now: games.Game) -> jax.Array:
  """What the paddles add to the field, `[84, 84]`."""
  opponent = _union_rows(games.opponent_row(before), games.opponent_row(now), c.PADDLE_HEIGHT)
  player = _union_rows(games.player_row(before), games.player_row(now), c.PADDLE_HEIGHT)
  opponent_columns = (c.OPPONENT_GREY - c.BACKGROUND) * _cover_columns(c.OPPONENT_COLUMN, c.PADDLE_WIDTH)
  player_columns = (c.PLAYER_GREY - c.BACKGROUND) * _cover_columns(c.PLAYER_COLUMN, c.PADDLE_WIDTH)
  return opponent[:, None] * opponent_columns[None] + player[:, None] * player_columns[None]


def _ball(before: games.Game, now: games.Game) -> jax.Array:
  """What the ball adds, `[84, 84]`: the two positions, less what they share."""
  first_row, row = games.ball_row(before), games.ball_row(now)
  first_column, column = games.ball_column(before), games.ball_column(now)
  shared_rows = _cover_rows(jnp.maximum(first_row, row), jnp.minimum(first_row, row) + c.BALL_HEIGHT)
  shared_width = c.BALL_WIDTH - jnp.abs(first_column - column)
  shared_columns = _cover_columns(jnp.maximum(first_column, column), shared_width)
  rows = _cover_rows(row, row + c.BALL_HEIGHT), _cover_rows(first_row, first_row + c.BALL_HEIGHT)
  columns = _cover_columns(column, c.BALL_WIDTH), _cover_columns(first_column, c.BALL_WIDTH)
  area = rows[0][:, None] * columns[0][None] + rows[1][:, None] * columns[1][None]
  return (c.WHITE - c.BACKGROUND) * (area - shared_rows[:, None] * shared_columns[None])


def _strip(before: games.Game, now: games.Game) -> jax.Array:
  """The rows with the scores, uint8 `[9, 84]`; two scores at once for the one step after a point."""
  middle = c.IMAGE_SIZE // 2
  sides = []
  for table, old, new in (
    (_strips()[:, :, :middle], before.opponent_shown, now.opponent_shown),
    (_strips()[:, :, middle:], before.player_shown, now.player_shown),
  ):
    index = 2 * new + (old != new).astype(jnp.int32)
    sides.append(jnp.take(jnp.asarray(table), index, axis=0, mode="clip"))
  return jnp.concatenate(sides, axis=1)


def _union_rows(first: jax.Array, second: jax.Array, height: int) -> jax.Array:
  """Cover of the rows of two spans of the same height, `[84]`."""
  shared = _cover_rows(jnp.maximum(first, second), jnp.minimum(first, second) + height)
  return _cover_rows(first, first + height) + _cover_rows(second, second + height) - shared


def _cover_rows(top: jax.Array, bottom: jax.Array) -> jax.Array:
  """How much of each row of the observation lies in screen rows [top, bottom) of the field, 0 to 5, `[84]`."""
  edges = jnp.arange(c.IMAGE_SIZE, dtype=jnp.int32) * _ROWS_PER_PIXEL
  top = jnp.clip(top, c.FIELD_TOP, c.FIELD_BOTTOM) * _HALVES
  bottom = jnp.clip(bottom, c.FIELD_TOP, c.FIELD_BOTTOM) * _HALVES
  cover = jnp.minimum(bottom, edges + _ROWS_PER_PIXEL) - jnp.maximum(top, edges)
  return jnp.maximum(cover, 0).astype(jnp.float32)


def _cover_columns(left: jax.Array | int, width: jax.Array | int) -> jax.Array:
  """How much of each column of the observation lies in screen columns [left, left + width), 0 to 40, `[84]`."""
  edges = jnp.arange(c.IMAGE_SIZE, dtype=jnp.int32) * _COLUMNS_PER_PIXEL
  right = (left + width) * _TWENTYFIRSTS
  cover = jnp.minimum(right, edges + _COLUMNS_PER_PIXEL) - jnp.maximum(left * _TWENTYFIRSTS, edges)
  return jnp.maximum(cover, 0).astype(jnp.float32)


@functools.cache
def _resize_matrices() -> tuple[np.ndarray, np.ndarray]:
  """Whole-number weights `[84, 210]` and `[160, 84]`."""
  rows = np.kron(np.eye(c.IMAGE_SIZE, dtype=np.int64), np.ones((1, _ROWS_PER_PIXEL), np.int64))
  columns = np.kron(np.eye(c.IMAGE_SIZE, dtype=np.int64), np.ones((1, _COLUMNS_PER_PIXEL), np.int64))
  return (
    rows.reshape(c.IMAGE_SIZE, c.SCREEN_HEIGHT, _HALVES).sum(-1),
    columns.reshape(c.IMAGE_SIZE, c.SCREEN_WIDTH, _TWENTYFIRSTS).sum(-1).T,
  )


@functools.cache
def _field() -> np.ndarray:
  """The still screen without digits, in _UNITS, `[84, 84]`."""
  rows, columns = _resize_matrices()
  screen = still_screen(0, 0)
  screen[1 : c.UPPER_WALL_TOP] = c.BACKGROUND
  return rows @ screen.astype(np.int64) @ columns


@functools.cache
def _strips() -> np.ndarray:
  """Uint8 `[2 * 22, 9, 84]`: at 2 n both scores are n, at 2 n + 1 both are n - 1 and n at once."""
  strips = []
  for score in range(c.WINNING_SCORE + 1):
    now, before = still_screen(score, score), still_screen(max(score - 1, 0), max(score - 1, 0))
    strips += [resize(now)[:STRIP_HEIGHT], resize(np.maximum(now, before))[:STRIP_HEIGHT]]
  return np.stack(strips)


def _digit_blocks(score: int) -> np.ndarray:
  """Bool `[5, 8]`: tens, unless 0, and units."""
  units = np.array([[digit >> bit & 1 for bit in (3, 2, 1, 0)] for digit in _DIGITS[score % 10]], bool)
  tens = np.array([[digit >> bit & 1 for bit in (3, 2, 1, 0)] for digit in _DIGITS[score // 10]], bool)
  return np.concatenate([tens if score >= 10 else np.zeros_like(tens), units], axis=1)
