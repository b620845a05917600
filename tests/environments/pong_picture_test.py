"""Pictures against numpy that draws all 210 x 160 pixels of both frames and averages them; beam and digits by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.pong import beam, picture
from environments.pong import constants as c
from environments.pong import game as games

_draw = jax.jit(picture.draw)


def _game(**fields: int) -> games.Game:
  default = {"wait": 0, "ball_x": 128, "ball_y": 128, "opponent_y": 128}
  values = {name: jnp.int32(value) for name, value in (default | fields).items()}
  return dataclasses.replace(games.start(jnp.int32(0)), **values)


def _screen(game: games.Game) -> np.ndarray:
  """All pixels of a frame, for a ball left of where the beam matters."""
  screen = picture.still_screen(int(game.opponent_shown), int(game.player_shown)).copy()
  field = screen[c.FIELD_TOP : c.FIELD_BOTTOM]
  for top, left, height, width, grey in (
    (games.opponent_row(game), c.OPPONENT_COLUMN, 16, 4, c.OPPONENT_GREY),
    (games.player_row(game), c.PLAYER_COLUMN, 16, 4, c.PLAYER_GREY),
    (games.ball_row(game), int(games.ball_column(game)), 4, 2, c.WHITE),
  ):
    top = int(top) - c.FIELD_TOP
    field[max(top, 0) : max(top + height, 0), left : left + width] = grey
  return screen


def _averages(screen: np.ndarray) -> np.ndarray:
  """Area averages by brute force: every row repeated 84 times and averaged in 84 blocks, then every column."""
  rows = np.repeat(screen.astype(np.float64), 84, axis=0).reshape(84, -1, screen.shape[1]).mean(1)
  return np.repeat(rows, 84, axis=1).reshape(84, 84, -1).mean(2)


@pytest.mark.parametrize(
  ("before", "now"),
  [
    pytest.param({}, {"ball_x": 129, "ball_y": 129}, id="ball one step"),
    pytest.param({"ball_x": 100}, {"ball_x": 104, "ball_y": 126}, id="fast ball"),
    pytest.param({"ball_x": 67, "ball_y": 130}, {"ball_x": 66, "ball_y": 131}, id="ball over the opponent's paddle"),
    pytest.param({"ball_x": 66, "ball_y": 141}, {"ball_x": 68, "ball_y": 143}, id="ball over the end of a paddle"),
    pytest.param({"player_y": 100}, {"player_y": 109}, id="paddle in motion"),
    pytest.param({"opponent_y": 0}, {"opponent_y": 130}, id="opponent appears"),
    pytest.param({"ball_y": 45}, {"ball_y": 46}, id="ball half in the upper wall"),
    pytest.param({"ball_y": 206}, {"ball_y": 205}, id="ball half in the lower wall"),
    pytest.param({"player_y": 38, "opponent_y": 40}, {"player_y": 39, "opponent_y": 42}, id="paddles under the wall"),
    pytest.param({"player_y": 218, "opponent_y": 206}, {"player_y": 219, "opponent_y": 206}, id="paddles below"),
    pytest.param({"ball_y": 0, "wait": 5}, {"ball_y": 0, "wait": 4}, id="no ball"),
    pytest.param({"opponent_shown": 9, "player_shown": 20}, {"opponent_shown": 10, "player_shown": 20}, id="point"),
    pytest.param({"opponent_shown": 7, "player_shown": 20}, {"opponent_shown": 7, "player_shown": 21}, id="last point"),
  ],
)
def test_pictures_are_averages_of_all_pixels(before, now):
  before, now = _game(**before), _game(**now)
  expected = _averages(np.maximum(_screen(before), _screen(now)))
  drawn = np.asarray(_draw(before, now))
  assert drawn.dtype == np.uint8
  np.testing.assert_allclose(drawn, expected, atol=0.5 + 1e-3)


def test_a_ball_that_leaves_on_the_right_comes_in_at_the_left():
  """The console counts columns modulo 160, so the second of the ball's two columns is the screen's first."""
  game = _game(ball_x=208)
  assert games.ball_column(game) == c.SCREEN_WIDTH - 1
  screen = _screen(_game(ball_x=0, ball_y=0, wait=5))  # Without a ball.
  late = beam.ball_span(game, jnp.int32(c.SCREEN_WIDTH - 1))
  screen[int(late.top) : int(late.bottom), c.SCREEN_WIDTH - 1] = c.WHITE
  top = int(games.ball_row(game))
  screen[top : top + c.BALL_HEIGHT, 0] = c.WHITE
  np.testing.assert_allclose(np.asarray(_draw(game, game)), _averages(screen), atol=0.5 + 1e-3)


@pytest.mark.parametrize("score", range(22))
def test_scores_are_told_apart(score):
  screens = [picture.still_screen(other, 0) for other in range(22)]
  assert sum(np.array_equal(screens[score], other) for other in screens) == 1
  assert not np.array_equal(picture.still_screen(score, 0), picture.still_screen(0, score)) or score == 0


def test_digits_by_hand():
  screen = picture.still_screen(21, 4)
  blocks = (screen[1:21:4] != c.BACKGROUND)[:, ::4]  # [5, 40]
  assert ["".join(" #"[int(on)] for on in row[4:12]).rstrip() for row in blocks] == [
    " ###  #",
    "   #  #",
    " ###  #",
    " #    #",
    " ###  #",
  ]
  assert ["".join(" #"[int(on)] for on in row[24:32]).rstrip() for row in blocks] == [
    "     # #",
    "     # #",
    "     ###",
    "       #",
    "       #",
  ]


@pytest.mark.parametrize(
  ("fields", "column", "rows"),
  [
    ({"ball_y": 128}, 79, (114, 118)),  # Left: from y - 14 on.
    ({"ball_y": 129}, 80, (115, 119)),
    ({"ball_y": 128}, 78, None),  # Beside the ball.
    ({"ball_y": 128}, 81, None),
    # Right, y odd: a row higher from 127 + 6 (knob charging) + 3 (no player) + 3 (no opponent in the line) on.
    ({"ball_x": 187, "ball_y": 129, "polled_y": 38, "player_y": 120, "opponent_y": 122}, 138, (114, 118)),
    ({"ball_x": 175, "ball_y": 129, "polled_y": 38, "player_y": 120, "opponent_y": 122}, 126, (115, 119)),
    ({"ball_x": 175, "ball_y": 129, "polled_y": 38, "player_y": 120, "opponent_y": 122}, 127, (114, 118)),
    ({"ball_x": 186, "ball_y": 129, "polled_y": 200, "player_y": 60, "opponent_y": 60}, 138, (115, 119)),
    ({"ball_x": 187, "ball_y": 129, "polled_y": 200, "player_y": 60, "opponent_y": 60}, 139, (114, 118)),
    # y even: from 149 + 6 + 3 on. If the knob is done charging between the ball's first line and its end: 5 rows.
    ({"ball_x": 204, "ball_y": 128, "polled_y": 130, "player_y": 60}, 155, (114, 117)),
    ({"ball_x": 204, "ball_y": 128, "polled_y": 38, "player_y": 60}, 155, (113, 117)),
    ({"ball_x": 204, "ball_y": 128, "polled_y": 200, "player_y": 60}, 155, (114, 118)),
  ],
)
def test_the_beam_decides_the_rows(fields, column, rows):
  span = beam.ball_span(_game(**fields), jnp.int32(column))
  result = (int(span.top), int(span.bottom))
  assert result == rows if rows else result[1] <= result[0]


def test_a_batch_of_pictures_is_each_picture():
  xs, ys = jnp.arange(60, 76, dtype=jnp.int32), jnp.arange(100, 116, dtype=jnp.int32)
  one = _game()
  many = jax.vmap(lambda x, y: dataclasses.replace(one, ball_x=x, ball_y=y))(xs, ys)
  later = dataclasses.replace(many, ball_x=many.ball_x + 1)
  drawn = jax.jit(jax.vmap(picture.draw))(many, later)
  for i in (0, 7, 15):
    np.testing.assert_array_equal(drawn[i], _draw(*(jax.tree.map(lambda leaf, i=i: leaf[i], g) for g in (many, later))))
