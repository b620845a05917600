"""From two successive frames to the 84 x 84 picture that an agent sees, without drawing 210 x 160 pixels.

Atari preprocessing takes the brighter of the last two greyscale frames and averages it over areas of 2.5 x 40/21
pixels. Everything in Pong is a rectangle. The average of a rectangle is an outer product: how much of each row it
covers times how much of each column. The picture is a still background plus such products for paddles and ball. In
units of 1/5 row and 1/40 column all numbers are whole, hence exact.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments.pong import beam
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
STRIP_HEIGHT = 9  # Rows of the observation that contain the digits.


def resize(screen: np.ndarray) -> np.ndarray:
  """Averages a `[210, 160]` screen over areas to uint8 `[84, 84]`, as OpenCV's INTER_AREA."""
  chex.assert_shape(screen, (c.SCREEN_HEIGHT, c.SCREEN_WIDTH))
  rows, columns = _resize_matrices()
  return np.rint(rows @ screen.astype(np.int64) @ columns / _UNITS).astype(np.uint8)


def still_screen(opponent_score: int, player_score: int) -> np.ndarray:
  """The still parts of the screen, uint8 `[210, 160]`: background, walls and scores."""
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
  """The picture after the frame `now` that followed the frame `before`: uint8 `[84, 84]`."""
  opponent, player = _paddle_spans(before, now)
  products = [
    (_union(*opponent), (c.OPPONENT_GREY - c.BACKGROUND) * _cover_columns(c.OPPONENT_COLUMN, c.PADDLE_WIDTH)),
    (_union(*player), (c.PLAYER_GREY - c.BACKGROUND) * _cover_columns(c.PLAYER_COLUMN, c.PADDLE_WIDTH)),
    *_ball(before, now, _hull(*opponent), _hull(*player)),
  ]
  # Without the barrier XLA:CPU recomputes the covers for every pixel, at three times the cost.
  rows, columns = (jnp.stack(covers) for covers in zip(*products, strict=True))  # [6, 84] each
  rows, columns = jax.lax.optimization_barrier((rows, columns))
  area = jnp.asarray(_field(), jnp.float32)  # [84, 84], in _UNITS
  for i in range(len(products)):
    area = area + rows[i][:, None] * columns[i][None]
  field = (area * (1 / _UNITS) + 0.5).astype(jnp.uint8)
  return jnp.concatenate([_strip(before, now), field[STRIP_HEIGHT:]], axis=0)


def _paddle_spans(before: games.Game, now: games.Game) -> tuple[tuple[beam.Span, beam.Span], ...]:
  """Rows of the opponent's paddle in both frames, and of the player's paddle."""
  tops = (games.opponent_row(before), games.opponent_row(now)), (games.player_row(before), games.player_row(now))
  first, second = ([beam.Span(top, top + c.PADDLE_HEIGHT) for top in pair] for pair in tops)
  return (first[0], first[1]), (second[0], second[1])


def _ball(
  before: games.Game, now: games.Game, opponent: beam.Span, player: beam.Span
) -> list[tuple[jax.Array, jax.Array]]:
  """What the ball adds: one pair of rows `[84]` and columns `[84]` for each screen column that it touches.

  The ball is drawn over the paddles. Where it meets a paddle, it adds only the difference.
  """
  lefts = games.ball_column(now), games.ball_column(before)
  products = []
  for i in range(2 * c.BALL_WIDTH):
    column = lefts[i // c.BALL_WIDTH] + i % c.BALL_WIDTH
    is_counted = (i >= c.BALL_WIDTH) & (column >= lefts[0]) & (column < lefts[0] + c.BALL_WIDTH)
    spans = beam.ball_span(before, column), beam.ball_span(now, column)
    rows = (c.WHITE - c.BACKGROUND) * _union(*spans)
    for paddle, left, grey in (
      (opponent, c.OPPONENT_COLUMN, c.OPPONENT_GREY),
      (player, c.PLAYER_COLUMN, c.PLAYER_GREY),
    ):
      is_over = (column >= left) & (column < left + c.PADDLE_WIDTH)
      covered = _union(*(_intersection(span, paddle) for span in spans))
      rows = rows - jnp.where(is_over, grey - c.BACKGROUND, 0).astype(jnp.float32) * covered
    products.append((rows, _cover_columns(column % c.SCREEN_WIDTH, jnp.where(is_counted, 0, 1))))
  return products


def _strip(before: games.Game, now: games.Game) -> jax.Array:
  """The rows with the scores, uint8 `[9, 84]`; in the step after a point, two scores at once."""
  middle = c.IMAGE_SIZE // 2
  sides = []
  for table, old, new in (
    (_strips()[:, :, :middle], before.opponent_shown, now.opponent_shown),
    (_strips()[:, :, middle:], before.player_shown, now.player_shown),
  ):
    index = 2 * new + (old != new).astype(jnp.int32)
    sides.append(jnp.take(jnp.asarray(table), index, axis=0, mode="clip"))
  return jnp.concatenate(sides, axis=1)


def _intersection(a: beam.Span, b: beam.Span) -> beam.Span:
  return beam.Span(jnp.maximum(a.top, b.top), jnp.minimum(a.bottom, b.bottom))


def _hull(a: beam.Span, b: beam.Span) -> beam.Span:
  return beam.Span(jnp.minimum(a.top, b.top), jnp.maximum(a.bottom, b.bottom))


def _union(a: beam.Span, b: beam.Span) -> jax.Array:
  """Cover of the rows that are in either span, `[84]`."""
  return _cover_rows(a) + _cover_rows(b) - _cover_rows(_intersection(a, b))


def _cover_rows(span: beam.Span) -> jax.Array:
  """How much of each row of the observation lies in the field's part of `span`, 0 to 5, `[84]`."""
  edges = jnp.arange(c.IMAGE_SIZE, dtype=jnp.int32) * _ROWS_PER_PIXEL
  top, bottom = (jnp.clip(row, c.FIELD_TOP, c.FIELD_BOTTOM) * _HALVES for row in span)
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
  """Uint8 `[2 * 22, 9, 84]`: at 2 n both scores are n; at 2 n + 1 both are n - 1 and n at once."""
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
