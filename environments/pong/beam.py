"""Which rows of the ball are shown in each column of the picture.

The console has no picture in memory. Its program switches the ball on and off while the beam sweeps the lines. The
switch for a line comes late in the line above it. In the columns that the beam has yet to reach, it takes effect one
line higher. Its time depends on what else the program had to do in that line: 3 pixels later for each paddle that is
not in the line, 6 later while the knob that it reads has not charged. Near the right edge the ball is therefore drawn
a row higher, whole or in part.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from environments.pong import constants as c
from environments.pong import game as games


class Span(NamedTuple):
  """Rows of the screen from `top` up to, but not including, `bottom`; empty unless `bottom` is greater."""

  top: jax.Array  # [] int32
  bottom: jax.Array  # [] int32


def ball_span(game: games.Game, column: jax.Array) -> Span:
  """Rows of the ball in one screen column `[]`."""
  left = games.ball_column(game)
  is_in = (column >= left) & (column < left + c.BALL_WIDTH)
  shown = column % c.SCREEN_WIDTH
  top = game.ball_y + c.BALL_ROW_OFFSET - _is_late(game, game.ball_y, shown)
  bottom = game.ball_y + c.BALL_ROW_OFFSET + c.BALL_HEIGHT - _is_late(game, game.ball_y + c.BALL_HEIGHT, shown)
  return Span(top=top, bottom=jnp.where(is_in, bottom, top))


def _is_late(game: games.Game, line: jax.Array, column: jax.Array) -> jax.Array:
  """1 if the switch for `line` (in the console's coordinates) comes before the beam reaches `column`, else 0."""
  is_odd = game.ball_y % 2
  charging = (line - is_odd <= game.polled_y).astype(jnp.int32)
  no_player = 1 - _is_in_paddle(line - is_odd, game.player_y)
  no_opponent = 1 - _is_in_paddle(line + is_odd, game.opponent_y)
  even = c.LATE_COLUMN_EVEN + c.CHARGING_COLUMNS * charging + c.NO_PADDLE_COLUMNS * no_player
  odd = c.LATE_COLUMN_ODD + c.CHARGING_COLUMNS * charging + c.NO_PADDLE_COLUMNS * (no_player + no_opponent)
  return (column >= jnp.where(is_odd == 1, odd, even)).astype(jnp.int32)


def _is_in_paddle(line: jax.Array, paddle_y: jax.Array) -> jax.Array:
  return ((line >= paddle_y) & (line < paddle_y + c.PADDLE_HEIGHT)).astype(jnp.int32)
