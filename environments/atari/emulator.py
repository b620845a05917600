"""The Arcade Learning Environment, and the picture of it that an agent sees.

Only this module imports ale_py, and only when a game is loaded, so ale_py need not be installed if it is not used. The
picture is the brighter of two successive greyscale frames, averaged over areas to 84 x 84. ale-py's own vector
environment does the same with OpenCV's INTER_AREA.
"""

import difflib
import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np

IMAGE_SIZE = 84
ACTIONS = ("NOOP", "RIGHT", "LEFT")  # Used if three actions are asked for.


def _ale_py() -> Any:
  try:
    import ale_py
    import ale_py.roms
  except ImportError as error:
    raise ModuleNotFoundError('Atari games need ale-py: pip install "progressive-robots[atari]"') from error
  return ale_py


def rom_path(game: str) -> str:
  """The path where ale-py keeps `game`.

  Raises:
    ValueError: for a game that ale-py does not have; the error names the nearest ones.
  """
  roms = _ale_py().roms
  known = sorted(roms.get_all_rom_ids())
  if not game:
    raise ValueError("no game is named; name one, as atari/pong")
  if game not in known:
    nearest = difflib.get_close_matches(game, known, n=3, cutoff=0.0)
    raise ValueError(f'ale-py has no game "{game}"; the nearest of its {len(known)} are {", ".join(nearest)}')
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return str(roms.get_rom_path(game))


def load(
  game: str,
  *,
  seed: int,
  mode: int | None = None,
  difficulty: int | None = None,
  repeat_action_probability: float = 0.0,
) -> Any:
  """Returns an `ale_py.ALEInterface` with `game` loaded and reset.

  Args:
    game: the game's name in ale-py.
    seed: seeds all randomness in the emulator, which takes 31 bits of it.
    mode: position of the console's mode switch, None for the game's own; another mode can be another game.
    difficulty: position of the difficulty switch, None for the game's own.
    repeat_action_probability: probability of playing the previous frame's action instead ("sticky"); 0 for never.

  Raises:
    ValueError: for a mode or difficulty that the game does not have (the error names the valid ones), or an invalid
      probability.
  """
  if not 0.0 <= repeat_action_probability <= 1.0:
    raise ValueError(f"repeat_action_probability={repeat_action_probability} is not in [0, 1]")
  path = rom_path(game)
  ale_py = _ale_py()
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setInt("random_seed", seed % 2**31)
  ale.setFloat("repeat_action_probability", repeat_action_probability)
  ale.loadROM(path)
  for name, chosen, known, switch in (
    ("mode", mode, ale.getAvailableModes(), ale.setMode),
    ("difficulty", difficulty, ale.getAvailableDifficulties(), ale.setDifficulty),
  ):
    if chosen is not None and chosen not in known:
      raise ValueError(f"{name}={chosen}: {game} has {', '.join(map(str, known))}")
    if chosen is not None:
      switch(chosen)
  ale.reset_game()
  return ale


def vector_interface(**arguments: Any) -> Any:
  """ale-py's compiled vector environment; see `environments.atari.vector`."""
  ale_py = _ale_py()
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  return ale_py._ale_py.ALEVectorInterface(**arguments)


def actions(ale: Any, num_actions: int | None) -> tuple[Any, ...]:
  """The emulator's actions that the numbers 0, 1, ... stand for.

  Args:
    num_actions: None, or the number of actions that have an effect in this game, for exactly these actions in the
      emulator's order; 3 for NOOP, RIGHT, LEFT, unless the game has three of its own; 18 for all.

  Raises:
    ValueError: for any other number.
  """
  minimal, full = tuple(ale.getMinimalActionSet()), tuple(ale.getLegalActionSet())
  if num_actions in (None, len(minimal)):
    return minimal
  if num_actions == len(ACTIONS):
    return tuple(next(action for action in full if action.name == name) for name in ACTIONS)
  if num_actions == len(full):
    return full
  raise ValueError(
    f"num_actions={num_actions} is neither 3 ({', '.join(ACTIONS)}), nor {len(minimal)} (those of this game), nor 18"
  )


class Camera:
  """Makes the picture that an agent sees from two screens of one size.

  The buffers are allocated once. While a network learns in the same process, allocating them for every picture took
  longer than filling them.
  """

  def __init__(self, size: tuple[int, int]):
    """`size` is the screen's (height, width), as `getScreenDims` gives it."""
    self._rows, self._columns = (_spans(num) for num in size)
    weight = self._rows.total * self._columns.total  # Sum of the shares under one pixel of the picture.
    self._level = np.rint(np.arange(255 * weight + 1) / weight).astype(np.uint8)
    dtype = np.min_scalar_type(255 * weight)
    (height, width), out = size, IMAGE_SIZE
    self._brighter = np.empty((height, width), np.uint8)
    self._by_rows = _Sums(np.empty((out, width), dtype), np.empty((out, width), np.uint8))
    self._transposed = np.empty((width, out), dtype)
    self._by_columns = _Sums(np.empty((out, out), dtype), np.empty((out, out), dtype))

  def picture(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Converts two greyscale screens, uint8 `[H, W]`, to the picture that an agent sees, uint8 `[84, 84]`."""
    np.maximum(first, second, out=self._brighter)
    np.copyto(self._transposed, self._by_rows.of(self._brighter, self._rows).T)
    return np.take(self._level, self._by_columns.of(self._transposed, self._columns).T)


class _Spans(NamedTuple):
  """84 equal spans over a number of rows."""

  rows: np.ndarray  # [N, 84] The rows under each span; a span of fewer than N rows has others, with share 0.
  shares: np.ndarray  # [N, 84, 1] How much of each row lies under the span, in units of gcd(num_rows, 84) / 84.
  total: int  # Sum of the shares of one span.


@functools.cache
def _spans(num_rows: int) -> _Spans:
  edges = np.arange(IMAGE_SIZE + 1) * num_rows  # In 84ths of a row.
  first, end = edges[:-1] // IMAGE_SIZE, -(-edges[1:] // IMAGE_SIZE)
  rows = first + np.arange(np.max(end - first))[:, None]
  shares = np.minimum(edges[1:], (rows + 1) * IMAGE_SIZE) - np.maximum(edges[:-1], rows * IMAGE_SIZE)
  common = math.gcd(num_rows, IMAGE_SIZE)  # Divided out, so that sums over a screen of 210 x 160 fit 16 bits.
  shares = np.maximum(shares, 0).astype(np.uint16)[:, :, None] // common
  return _Spans(np.minimum(rows, num_rows - 1), shares, num_rows // common)


class _Sums:
  """Sums over spans of rows. The numbers are whole, so that a grey between two levels is rounded correctly."""

  def __init__(self, total: np.ndarray, taken: np.ndarray):
    self._total, self._taken, self._term = total, taken, np.empty_like(total)

  def of(self, rows: np.ndarray, spans: _Spans) -> np.ndarray:
    """`[num_rows, W]` -> `[84, W]`. The next call overwrites the result."""
    self._total.fill(0)
    for under, share in zip(spans.rows, spans.shares, strict=True):
      np.take(rows, under, axis=0, out=self._taken, mode="clip")
      self._total += np.multiply(self._taken, share, out=self._term, dtype=self._term.dtype)
    return self._total
