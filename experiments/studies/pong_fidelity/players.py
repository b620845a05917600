"""Scripted players of Pong that stress a console in different ways.

They see the positions in `consoles.Frame` and choose one of six actions per step. The paddle is hard to steer: each
step turns the knob by 23 rows, and the paddle then follows for some frames. The players that foresee know both where
the ball will arrive and where the knob is.
"""

from collections.abc import Callable

import numpy as np

from environments.pong import constants as c
from experiments.studies.pong_fidelity import consoles

Player = Callable[[consoles.Frame], int]
_SLIP = 0.02  # Share of random actions of players that foresee: these break endless rallies.


def random(rng: np.random.Generator) -> Player:
  """Any action."""
  return lambda frame: int(rng.integers(6))


def noop(rng: np.random.Generator) -> Player:
  """Stands still."""
  del rng
  return lambda frame: consoles.NOOP


def follow(rng: np.random.Generator, *, lag: int = 0) -> Player:
  """Goes to where the ball was `lag` steps ago, with a new part of the paddle every 20 steps."""
  seen: list[int] = []
  aim = 0

  def act(frame: consoles.Frame) -> int:
    nonlocal aim
    if len(seen) % 20 == 0:
      aim = int(rng.integers(-2, c.PADDLE_HEIGHT))
    seen.append(frame.ball_y if frame.wait == 0 else c.SERVE_Y)
    return _towards(seen[max(len(seen) - 1 - lag, 0)] - aim, frame.player_y, 4)

  return act


def late(rng: np.random.Generator) -> Player:
  """Follows four steps late."""
  return follow(rng, lag=4)


def foresee(rng: np.random.Generator, *, aim: int = 1, margin: int = 3) -> Player:
  """Turns the knob so that the ball arrives `aim` rows below the paddle's upper edge; waits in the middle."""
  last: consoles.Frame | None = None
  ohm = c.KNOB_START_OHM

  def act(frame: consoles.Frame) -> int:
    nonlocal last, ohm
    is_coming = last is not None and frame.wait == last.wait == 0 and frame.ball_x > last.ball_x
    target = _arrival(last, frame) if last is not None and is_coming else c.SERVE_Y
    action = (
      int(rng.choice([consoles.NOOP, consoles.UP, consoles.DOWN]))
      if rng.random() < _SLIP
      else _towards(target - aim, _rest(ohm), margin)
    )
    turn = {consoles.UP: -1, consoles.DOWN: 1}.get(action, 0)
    ohm = int(np.clip(ohm + c.FRAMES_PER_STEP * turn * c.KNOB_TURN_OHM, c.KNOB_MIN_OHM, c.KNOB_MAX_OHM))
    last = frame
    return action

  return act


def fire(rng: np.random.Generator) -> Player:
  """Foresees with FIRE held."""
  player = foresee(rng, aim=10, margin=12)
  return lambda frame: {consoles.NOOP: consoles.FIRE, consoles.UP: consoles.UP_FIRE, consoles.DOWN: consoles.DOWN_FIRE}[
    player(frame)
  ]


ALL = {"random": random, "noop": noop, "follow": follow, "late": late, "foresee": foresee, "fire": fire}


def _towards(target: float, position: float, margin: float) -> int:
  if abs(target - position) <= margin:
    return consoles.NOOP
  return consoles.DOWN if target > position else consoles.UP


def _arrival(last: consoles.Frame, frame: consoles.Frame) -> float:
  """Where the ball will be when it reaches the player's paddle, walls included."""
  steps = (c.PLAYER_COLUMN - c.BALL_COLUMN_OFFSET - frame.ball_x) / (frame.ball_x - last.ball_x)
  y = frame.ball_y + steps * (frame.ball_y - last.ball_y) - c.UPPER_WALL_Y
  height = c.LOWER_WALL_Y - c.UPPER_WALL_Y
  return c.UPPER_WALL_Y + height - abs(y % (2 * height) - height)


def _rest(ohm: int) -> float:
  """Where the paddle comes to rest with the knob at `ohm`."""
  cycles = ohm * c.CYCLES_PER_100K_OHM / 100_000 - c.COUNT_DELAY_CYCLES
  return c.FIRST_COUNT_Y + 2 * cycles / c.COUNT_CYCLES
