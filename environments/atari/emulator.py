"""The Arcade Learning Environment, and the picture an agent sees of it.

The only place that imports ale_py, and only when a game is loaded: what is not used need not be installed. The
picture is the brighter of two successive greyscale frames, averaged over areas to 84 x 84: what ale-py's own vector
environment does with OpenCV's INTER_AREA.
"""

import difflib
import functools
import warnings
from typing import Any

import numpy as np

IMAGE_SIZE = 84
ACTIONS = ("NOOP", "RIGHT", "LEFT")  # Where three are asked for.


def _ale_py() -> Any:
  try:
    import ale_py
    import ale_py.roms
  except ImportError as error:
    raise ModuleNotFoundError('Atari games need ale-py: pip install "progressive-robots[atari]"') from error
  return ale_py


def rom_path(game: str) -> str:
  """Where ale-py keeps `game`.

  Raises:
    ValueError: for a game that it does not have, naming the nearest ones.
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
  """An `ale_py.ALEInterface` with `game` in it, reset.

  Args:
    game: as ale-py names it.
    seed: of all that is random in it; the emulator takes 31 bits of it.
    mode: of the console's switch, None for the game's own; another mode can be another game.
    difficulty: of its other switch, None for the game's own.
    repeat_action_probability: of playing the action of the frame before instead ("sticky"); 0: all as chosen.

  Raises:
    ValueError: for a mode or difficulty that the game has not, naming those it has; for what is no probability.
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
  """The emulator's actions behind 0, 1, ...

  Args:
    num_actions: how many: as many as do something in this game, for those, in the emulator's order (None for the same);
      3 for NOOP, RIGHT, LEFT, where a game does not have three of its own; 18 for all.

  Raises:
    ValueError: for another number.
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


def picture(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Two greyscale screens uint8 `[H, W]` -> what an agent sees, uint8 `[84, 84]`."""
  brighter = np.maximum(first, second).astype(np.int32)
  sums = _sum(np.ascontiguousarray(_sum(brighter).T))
  return np.rint(sums.T / brighter.size).astype(np.uint8)


def _sum(rows: np.ndarray) -> np.ndarray:
  """`[H, W]` -> `[84, W]`: 84 times the sums over 84 equal spans of rows.

  Whole numbers, so that a grey between two levels is rounded as it should be.
  """
  rows_of, shares = _spans(len(rows))
  return functools.reduce(np.add, map(np.multiply, shares, rows[rows_of]))


@functools.cache
def _spans(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
  """The rows under each of 84 equal spans `[N, 84]`, and how many 84ths of each `[N, 84, 1]`; 0 of what fills up N."""
  edges = np.arange(IMAGE_SIZE + 1) * num_rows  # In 84ths of a row.
  first, end = edges[:-1] // IMAGE_SIZE, -(-edges[1:] // IMAGE_SIZE)
  rows = first + np.arange(np.max(end - first))[:, None]
  shares = np.minimum(edges[1:], (rows + 1) * IMAGE_SIZE) - np.maximum(edges[:-1], rows * IMAGE_SIZE)
  return np.minimum(rows, num_rows - 1), np.maximum(shares, 0).astype(np.int32)[:, :, None]
