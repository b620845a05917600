"""Rules of Pong by hand: walls, paddles, goals, serves, opponent and knob.

The study `pong_fidelity` compares them with the emulator.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.pong import constants as c
from environments.pong import game as games

_frame = jax.jit(games.frame)
NOOP, UP, DOWN = jnp.int32(0), jnp.int32(-1), jnp.int32(1)
OFF, ON = jnp.int32(0), jnp.int32(1)


def _game(**fields: int) -> games.Game:
  """A ball in the middle, flying right, and the paddles out of its way; `fields` replace."""
  default = {"wait": 0, "ball_x": 128, "ball_y": 128, "ball_dx": 1, "ball_dy": 1, "opponent_y": 128, "tick": 1}
  values = {name: jnp.int32(value) for name, value in (default | fields).items()}
  return dataclasses.replace(games.start(jnp.int32(0)), **values)


def _play(game: games.Game, turns: np.ndarray, fires: np.ndarray) -> games.Game:
  """All games of a sequence of frames, leaves `[T]`."""

  def body(game, inputs):
    game = games.frame(game, *inputs)
    return game, game

  return jax.jit(lambda g, t, f: jax.lax.scan(body, g, (t, f))[1])(game, jnp.asarray(turns), jnp.asarray(fires))


def test_a_start_frame_equals_waiting_that_long():
  zeros = np.zeros(c.MAX_START_FRAMES, np.int32)
  waited = _play(games.start(jnp.int32(0)), zeros, zeros)
  started = jax.vmap(games.start)(jnp.arange(1, c.MAX_START_FRAMES + 1, dtype=jnp.int32))
  jax.tree.map(np.testing.assert_array_equal, waited, started)


def test_the_first_serve_goes_left_and_down_from_the_middle():
  zeros = np.zeros(c.START_WAIT + 1, np.int32)
  game = _play(games.start(jnp.int32(0)), zeros, zeros)
  assert game.wait[-3:].tolist() == [1, 0, 0]
  assert game.ball_x[-3:].tolist() == [0, 127, 126] and game.ball_y[-3:].tolist() == [0, 129, 130]
  assert int(game.opponent_y[-3]) == 0 and abs(int(game.opponent_y[-2]) - 128) <= 2


@pytest.mark.parametrize(
  ("y", "dy", "expected_y", "expected_dy"),
  [(45, -2, 48, 2), (44, -1, 46, 1), (46, -2, 44, -2), (206, 1, 204, -1), (205, 1, 206, 1), (207, 2, 204, -2)],
)
def test_walls_push_the_ball_out_and_turn_it(y, dy, expected_y, expected_dy):
  game = _frame(_game(ball_y=y, ball_dy=dy), NOOP, OFF)
  assert (int(game.ball_y), int(game.ball_dy)) == (expected_y, expected_dy)


@pytest.mark.parametrize(
  ("below", "dy"), [(-2, -2), (0, -2), (1, -1), (4, -1), (5, 0), (8, 0), (9, 1), (12, 1), (13, 2), (14, 2)]
)
@pytest.mark.parametrize("side", ["player", "opponent"])
def test_the_angle_is_set_by_where_the_ball_meets_the_paddle(side, below, dy):
  # Bands of four rows about the middle one, 5 to 8 rows below the paddle's y.
  if side == "player":
    game = _frame(_game(ball_x=190, ball_dx=1, player_y=120, ball_y=120 + below), NOOP, OFF)
    assert int(game.ball_dx) == -1
  else:
    game = _frame(_game(ball_x=66, ball_dx=-1, opponent_y=120, ball_y=120 + below), NOOP, OFF)
    assert int(game.ball_dx) == 1
  assert int(game.ball_dy) == dy


@pytest.mark.parametrize(
  ("x", "below", "is_hit"),
  [
    (187, 5, False),
    (188, 5, True),
    (192, 5, True),
    (193, 5, False),
    (190, -4, False),
    (190, -2, True),
    (190, 16, False),
  ],
)
def test_a_ball_is_hit_when_it_overlaps_the_paddle(x, below, is_hit):
  game = _frame(_game(ball_x=x, ball_dx=1, player_y=120, ball_y=120 + below), NOOP, OFF)
  assert (int(game.ball_dx) < 0) == is_hit


def test_fire_speeds_the_players_ball_up_to_four():
  for before, after in ((1, 2), (2, 3), (3, 4), (4, 4)):
    hit = {"ball_x": 190, "ball_dx": before, "player_y": 120, "ball_y": 126}
    assert int(_frame(_game(**hit, fire=1), NOOP, OFF).ball_dx) == -after
    assert int(_frame(_game(**hit, fire=0), NOOP, ON).ball_dx) == -before  # It counts if held in the frame before.
  opponents = _game(ball_x=66, ball_dx=-2, opponent_y=120, ball_y=126, fire=1)
  assert int(_frame(opponents, NOOP, OFF).ball_dx) == 2


@pytest.mark.parametrize(
  ("x", "dx", "scores", "serve"), [(205, 1, (1, 0), 1), (204, 1, (0, 0), 1), (52, -1, (0, 1), -1), (53, -1, (0, 0), -1)]
)
def test_a_goal_counts_and_the_next_serve_goes_to_who_lost(x, dx, scores, serve):
  game = _frame(_game(ball_x=x, ball_dx=dx), NOOP, OFF)
  assert (int(game.opponent_score), int(game.player_score)) == scores
  assert (int(game.opponent_shown), int(game.player_shown)) == (0, 0)  # The picture lags a frame.
  assert int(game.wait) == (63 if sum(scores) else 0) and int(game.ball_dx) == serve


def test_the_opponent_follows_two_rows_a_frame_but_not_on_every_eighth():
  tops = []
  game = _game(ball_y=180, ball_dy=0, ball_dx=0, opponent_y=128, tick=0)
  for _ in range(9):
    game = _frame(game, NOOP, OFF)
    tops.append(int(game.opponent_y))
  assert tops == [128, 130, 132, 134, 136, 138, 140, 142, 142]
  assert int(_frame(_game(ball_y=100, ball_dy=0), NOOP, OFF).opponent_y) == 126
  assert int(_frame(_game(ball_y=128, ball_dy=0), NOOP, OFF).opponent_y) == 128


def test_the_knob_turns_at_once_and_the_paddle_drifts_after_it():
  zeros = np.zeros(24, np.int32)
  turns = np.where(np.arange(24) < 4, 1, 0).astype(np.int32)
  game = _play(games.start(jnp.int32(0)), turns, zeros)
  assert (np.diff(game.knob_ohm[:5]) == [23_000, 23_000, 23_000, 0]).all()
  rows = np.asarray(game.player_y) - c.START_PLAYER_Y
  assert (np.diff(rows) >= 0).all() and rows[3] < 10 and 20 <= rows[-1] <= 24
  # Charging takes r C: 0.01904 cycles an ohm, 2,297 of them before the first count, 152 a count of two rows.
  ohm = 408_823 + 4 * 23_000
  at_rest = 38 + 2 * ((0.01904 * ohm - 2297) // 152)
  assert abs(c.START_PLAYER_Y + rows[-1] - at_rest) <= 1


def test_the_knob_has_ends():
  for turn, ohm in ((1, c.KNOB_MAX_OHM), (-1, c.KNOB_MIN_OHM)):
    game = _play(games.start(jnp.int32(0)), np.full(60, turn, np.int32), np.zeros(60, np.int32))
    assert int(game.knob_ohm[-1]) == ohm and int(game.knob_ohm[2]) != ohm
    assert 38 <= int(game.player_y[-1]) <= 220


def test_the_ball_never_leaves_the_field_and_goals_are_all_that_is_counted():
  rng = np.random.default_rng(0)
  turns = np.repeat(rng.integers(-1, 2, (16, 600)), 8, axis=1).astype(np.int32)
  fires = rng.integers(0, 2, turns.shape).astype(np.int32)
  starts = jax.vmap(games.start)(jnp.arange(2, 18, dtype=jnp.int32))

  def body(game, inputs):
    game = jax.vmap(games.frame)(game, *inputs)
    return game, game

  game = jax.jit(lambda g, i: jax.lax.scan(body, g, i)[1])(starts, (jnp.asarray(turns.T), jnp.asarray(fires.T)))
  is_in_play = np.asarray(game.wait) == 0
  column, row = np.asarray(games.ball_column(game)), np.asarray(games.ball_row(game))
  assert is_in_play.mean() > 0.3
  assert (column[is_in_play] >= 0).all() and (column[is_in_play] + 2 <= 160).all()
  assert (row[is_in_play] + 4 > c.FIELD_TOP - 4).all() and (row[is_in_play] < c.FIELD_BOTTOM + 2).all()
  assert (np.abs(game.ball_dy) <= 2).all() and (np.abs(game.ball_dx) <= 4).all()
  total = np.asarray(game.opponent_score + game.player_score)
  assert (np.diff(total, axis=0) >= 0).all() and (np.diff(total, axis=0) <= 1).all()
  np.testing.assert_array_equal(
    np.diff(total, axis=0) == 1, np.diff((np.asarray(game.wait) == 63).astype(int), axis=0) == 1
  )
