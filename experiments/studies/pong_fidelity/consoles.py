"""The emulator's Pong and ours behind one interface, frame by frame, so that they can be compared.

Both report their contents after each emulated frame: the emulator from its memory, ours from its state. Anything that
maps a frame to an action can play both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from environments.atari import emulator
from environments.pong import constants as c
from environments.pong import game as games
from environments.pong import picture

NOOP, FIRE, UP, DOWN, UP_FIRE, DOWN_FIRE = range(6)  # The emulator's NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE.


class Frame(NamedTuple):
  """The contents of a console after a frame, in the coordinates of `environments.pong.constants`."""

  wait: Any  # Frames until the serve, 0 while the ball is in play.
  ball_x: Any
  ball_y: Any
  opponent_y: Any
  player_y: Any
  opponent_score: Any
  player_score: Any


# Their addresses in the emulator's memory of 128 bytes.
ADDRESSES = Frame(
  wait=0x0B, ball_x=0x31, ball_y=0x36, opponent_y=0x32, player_y=0x33, opponent_score=0x0D, player_score=0x0E
)


class Console(Protocol):
  """A game of Pong, four frames at a time."""

  def start(self, num_frames: int) -> Frame:
    """A new game after `num_frames` frames of NOOP."""

  def step(self, action: int) -> list[Frame]:
    """Four frames with one of the six actions."""

  def picture(self) -> np.ndarray:
    """What an agent sees after the last step, uint8 `[84, 84]`."""


class Emulated:
  """The emulator (a `Console`)."""

  def __init__(self) -> None:
    self._ale = emulator.load("pong", seed=0)
    self._actions = emulator.actions(self._ale, len(c.TURN))
    self._camera = emulator.Camera(self._ale.getScreenDims())
    self._screens: list[np.ndarray] = []

  def start(self, num_frames: int) -> Frame:
    self._ale.reset_game()
    for _ in range(num_frames):
      self._ale.act(self._actions[NOOP])
    return self._frame()

  def step(self, action: int) -> list[Frame]:
    frames, self._screens = [], []
    for _ in range(c.FRAMES_PER_STEP):
      self._ale.act(self._actions[action])
      frames.append(self._frame())
      self._screens.append(self._ale.getScreenGrayscale())
    return frames

  def picture(self) -> np.ndarray:
    return self._camera.picture(self._screens[-2], self._screens[-1])

  def _frame(self) -> Frame:
    memory = self._ale.getRAM()
    return Frame(*(int(memory[address]) for address in ADDRESSES))


class Ours:
  """Our game (a `Console`)."""

  def __init__(self) -> None:
    def step(game: games.Game, turn: jax.Array, fire: jax.Array) -> tuple[games.Game, games.Game]:
      def play(game: games.Game, _: None) -> tuple[games.Game, games.Game]:
        game = games.frame(game, turn, fire)
        return game, game

      return jax.lax.scan(play, game, None, length=c.FRAMES_PER_STEP)

    def draw(frames: games.Game) -> jax.Array:
      before, now = (jax.tree.map(lambda leaf, i=i: leaf[i], frames) for i in (-2, -1))
      return picture.draw(before, now)

    self._step, self._draw = jax.jit(step), jax.jit(draw)
    self._game: Any = None
    self._four: Any = None

  def start(self, num_frames: int) -> Frame:
    self._game = games.start(jnp.int32(num_frames))
    return Frame(*(int(getattr(self._game, name)) for name in Frame._fields))

  def step(self, action: int) -> list[Frame]:
    self._game, self._four = self._step(self._game, jnp.int32(c.TURN[action]), jnp.int32(c.FIRE[action]))
    columns = [np.asarray(getattr(self._four, name)).tolist() for name in Frame._fields]
    return [Frame(*values) for values in zip(*columns, strict=True)]

  def picture(self) -> np.ndarray:
    return np.asarray(self._draw(self._four))


def play(console: Console, player: Callable[[Frame], int], *, start_frames: int, max_frames: int) -> Frame:
  """Plays a game; returns it as a `Frame` of int arrays `[T]`, beginning with the frame after the start."""
  frame = console.start(start_frames)
  trace = [frame]
  while len(trace) < max_frames and max(frame.player_score, frame.opponent_score) < c.WINNING_SCORE:
    trace += console.step(player(frame))
    frame = trace[-1]
  return Frame(*np.array(trace).T)
