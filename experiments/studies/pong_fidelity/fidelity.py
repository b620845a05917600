"""How faithful our Pong is: the same measurements on the emulator and on ours, side by side.

Scripted players play whole games on both, each seeing its own console. Then both consoles get the same actions, and
every frame and every picture is compared: `compare` gives rows (quantity, emulator, ours, tolerance). `write` writes
them to `fidelity.json`. It also writes `pictures.png` (emulator, ours, difference) and `variants.png`.
"""

import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import imageio.v3 as imageio
import jax.numpy as jnp
import numpy as np

from environments.pong import constants as c
from environments.pong import variants
from experiments.report import text_table
from experiments.store import run_directory
from experiments.studies.pong_fidelity import consoles, players

# Tolerance of quantities from play: a share of the emulator's value, and at least this much.
_RELATIVE, _ABSOLUTE = 0.01, 0.01
_SCORE_TOLERANCE = 1.0  # Points.
# For the pictures: the steps after which they are taken, and the block of pixels that shows one pixel.
_SHOWN, _LARGER = (1, 20, 45, 200, 420), np.ones((4, 4), np.uint8)
_SHEET_STEP = 45  # The step after which all variants are shown.


class Row(NamedTuple):
  """One line of the table."""

  quantity: str
  emulator: float
  ours: float
  tolerance: float

  @property
  def is_ok(self) -> bool:
    """Whether ours is within tolerance; a quantity that only one of the two has is not."""
    return bool(abs(self.ours - self.emulator) <= self.tolerance)


class Events(NamedTuple):
  """Events of a game: speeds from one frame to the next (0 while the ball is not in play), and frame numbers."""

  dx: np.ndarray  # [T - 1]
  dy: np.ndarray  # [T - 1]
  hits: np.ndarray  # Frames at which dx changes its sign.
  serves: np.ndarray  # First frames of a ball in play.
  points: np.ndarray  # First frames of a new score.


def events(game: consoles.Frame) -> Events:
  """Finds hits, serves and points in a game `[T]`."""
  is_moving = (game.wait[:-1] == 0) & (game.wait[1:] == 0)
  dx = np.where(is_moving, np.diff(game.ball_x), 0)
  return Events(
    dx=dx,
    dy=np.where(is_moving, np.diff(game.ball_y), 0),
    hits=np.flatnonzero(dx[1:] * dx[:-1] < 0) + 1,
    serves=np.flatnonzero((game.wait[:-1] > 0) & (game.wait[1:] == 0)) + 1,
    points=np.flatnonzero(np.diff(game.opponent_score + game.player_score)) + 1,
  )


def character(played: Sequence[consoles.Frame]) -> dict[str, float]:
  """How the games of one player went."""
  all_events = [events(game) for game in played]
  num_points = sum(len(event.points) for event in all_events)
  return {
    "score": float(np.mean([game.player_score[-1] - game.opponent_score[-1] for game in played])),
    "hits a point": sum(len(event.hits) for event in all_events) / num_points if num_points else np.nan,
    "frames a point": sum(len(game.wait) for game in played) / num_points if num_points else np.nan,
    "ball, columns a frame": _mean(np.concatenate([np.abs(event.dx[event.dx != 0]) for event in all_events])),
  }


def physics(played: Sequence[consoles.Frame]) -> dict[str, float]:
  """What all games together say about the console."""

  def gather(read: Callable[[consoles.Frame, Events], np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(read(game, events(game)), float) for game in played])

  ball_dy = gather(lambda g, e: np.abs(e.dy[e.dx != 0]))
  ball_row = gather(lambda g, e: g.ball_y[g.wait == 0]) + c.BALL_ROW_OFFSET
  opponent_dy = gather(lambda g, e: np.abs(np.diff(g.opponent_y))[e.dx != 0])
  contact = gather(lambda g, e: (g.ball_y - g.player_y)[_by_player(e)])
  contact_dy = gather(lambda g, e: e.dy[_by_player(e)])
  return {
    "frames from start to serve": _mean(gather(lambda g, e: e.serves[:1])),
    "frames from point to serve": _mean(gather(lambda g, e: e.serves[1:] - e.points[: len(e.serves) - 1])),
    "serve, column": _mean(gather(lambda g, e: g.ball_x[e.serves])) + c.BALL_COLUMN_OFFSET,
    "serve, row": _mean(gather(lambda g, e: g.ball_y[e.serves])) + c.BALL_ROW_OFFSET,
    "serves to who lost the point, share": _mean(gather(_is_to_loser)),
    "ball, rows a frame": _mean(ball_dy),
    **{f"ball, share of {n} rows a frame": _mean(ball_dy == n) for n in (0, 1, 2)},
    "ball, highest row": float(ball_row.min()),
    "ball, lowest row": float(ball_row.max()),
    **{
      f"ball, rows a frame after a hit at {low} to {low + 5}": _mean(contact_dy[(contact >= low) & (contact < low + 6)])
      for low in (-3, 3, 9)
    },
    "opponent, rows a frame": _mean(opponent_dy),
    "opponent, most rows a frame": float(opponent_dy.max()),
    "opponent, rows from the ball": _mean(gather(lambda g, e: np.abs(g.opponent_y - g.ball_y)[g.wait == 0])),
    "player, most rows a step": float(gather(lambda g, e: np.abs(g.player_y[4:] - g.player_y[:-4])).max()),
    "player, mean row": _mean(gather(lambda g, e: g.player_y)) + c.PLAYER_ROW_OFFSET,
  }


def inertia(console: consoles.Console) -> dict[str, float]:
  """Rows by which the paddle has moved, some frames after the start of one step of DOWN."""
  start = console.start(c.MIN_START_FRAMES)
  frames = console.step(consoles.DOWN) + console.step(consoles.NOOP) + console.step(consoles.NOOP)
  return {f"player, rows {n} frames after a tap": frames[n - 1].player_y - start.player_y for n in (2, 4, 6, 8, 12)}


def lockstep(
  emulated: consoles.Console, ours: consoles.Console, player: players.Player, *, num_steps: int
) -> dict[str, float]:
  """Plays both consoles with `player`'s actions on the emulator: shares of frames and pixels that differ."""
  frame = emulated.start(c.MIN_START_FRAMES)
  ours.start(c.MIN_START_FRAMES)
  frames_differ: list[bool] = []
  differences: list[float] = []
  for _ in range(num_steps):
    action = player(frame)
    theirs, mine = emulated.step(action), ours.step(action)
    frame = theirs[-1]
    if max(frame.player_score, frame.opponent_score) >= c.WINNING_SCORE:
      break  # The emulator stops at its last point, in the middle of a step.
    frames_differ += [a != b for a, b in zip(theirs, mine, strict=True)]
    differences.append(float(np.abs(emulated.picture().astype(int) - ours.picture()).mean()))
  return {
    "frames that differ, share": float(np.mean(frames_differ)),
    "pictures that differ, share": float(np.mean(np.array(differences) > 0)),
    "grey levels a pixel differs by": float(np.mean(differences)),
  }


def compare(*, num_episodes: int, max_frames: int) -> list[Row]:
  """The table: `num_episodes` games of each player on both consoles, at most `max_frames` frames each."""
  emulated, ours = consoles.Emulated(), consoles.Ours()
  starts = np.random.default_rng(0).integers(c.MIN_START_FRAMES, c.MAX_START_FRAMES + 1, num_episodes).tolist()

  def games(console: consoles.Console, make: Callable[[np.random.Generator], players.Player]) -> list[consoles.Frame]:
    return [
      consoles.play(console, make(np.random.default_rng(i)), start_frames=start, max_frames=max_frames)
      for i, start in enumerate(starts)
    ]

  theirs = {name: games(emulated, make) for name, make in players.ALL.items()}
  mine = {name: games(ours, make) for name, make in players.ALL.items()}
  rows = []
  for name in players.ALL:
    rows += _pair(character(theirs[name]), character(mine[name]), prefix=f"{name}: ")
  rows += _pair(*(physics(list(itertools.chain(*played.values()))) for played in (theirs, mine)))
  rows += _pair(inertia(emulated), inertia(ours), tolerance=0.0)
  num_steps = max_frames // (4 * c.FRAMES_PER_STEP)
  for name, make in players.ALL.items():
    same = lockstep(emulated, ours, make(np.random.default_rng(0)), num_steps=num_steps)
    rows += [Row(f"{name}, same actions: {quantity}", 0.0, value, 0.0) for quantity, value in same.items()]
  return rows


def table(rows: Sequence[Row]) -> str:
  """The rows as text."""
  cells = [("quantity", "emulator", "ours", "tolerance", "ok")]
  cells += [
    (row.quantity, f"{row.emulator:.3f}", f"{row.ours:.3f}", f"{row.tolerance:.3f}", "yes" if row.is_ok else "NO")
    for row in rows
  ]
  return "\n".join(text_table.lines(cells, num_left=1))


def write(rows: Sequence[Row], folder: pathlib.Path) -> None:
  """Writes the rows and the two pictures."""
  folder.mkdir(parents=True, exist_ok=True)
  run_directory.write_json(folder / "fidelity.json", [{**row._asdict(), "is_ok": row.is_ok} for row in rows])
  imageio.imwrite(folder / "pictures.png", side_by_side())
  imageio.imwrite(folder / "variants.png", contact_sheet())


def side_by_side() -> np.ndarray:
  """Emulator, ours and four times their difference after `_SHOWN` steps of `players.follow`: grey `[H, W]`."""
  emulated, ours = consoles.Emulated(), consoles.Ours()
  player = players.follow(np.random.default_rng(0))
  frame = emulated.start(c.MIN_START_FRAMES)
  ours.start(c.MIN_START_FRAMES)
  lines = []
  for step in range(1, max(_SHOWN) + 1):
    action = player(frame)
    frame = emulated.step(action)[-1]
    ours.step(action)
    if step in _SHOWN:
      theirs, mine = emulated.picture(), ours.picture()
      error = np.clip(4 * np.abs(theirs.astype(int) - mine), 0, 255).astype(np.uint8)
      lines.append(np.concatenate([theirs, mine, error], axis=1))
  return np.kron(np.concatenate(lines), _LARGER)


def contact_sheet() -> np.ndarray:
  """One picture in all eight variants, two rows of four, grey `[H, W]`."""
  ours = consoles.Ours()
  ours.start(c.MIN_START_FRAMES)
  for _ in range(_SHEET_STEP):
    ours.step(consoles.NOOP)
  one = jnp.asarray(ours.picture())
  shown = [np.asarray(variants.apply(name, one, variants.Options())) for name in variants.NAMES]
  sheet = np.concatenate([np.concatenate(shown[i : i + 4], axis=1) for i in (0, 4)])
  return np.kron(sheet, _LARGER)


def _pair(
  theirs: dict[str, float], mine: dict[str, float], *, prefix: str = "", tolerance: float | None = None
) -> list[Row]:
  """Rows of the quantities that the emulator showed."""
  rows = []
  for name, value in theirs.items():
    usual = _SCORE_TOLERANCE if name == "score" else max(_ABSOLUTE, _RELATIVE * abs(value))
    if not np.isnan(value):
      rows.append(Row(prefix + name, value, mine[name], usual if tolerance is None else tolerance))
  return rows


def _mean(values: np.ndarray) -> float:
  return float(np.mean(values)) if len(values) else float("nan")


def _by_player(event: Events) -> np.ndarray:
  """Frames in which the player's paddle returned the ball."""
  return event.hits[event.dx[event.hits] < 0]


def _is_to_loser(game: consoles.Frame, event: Events) -> np.ndarray:
  """For each serve except the first, whether the ball flies to the loser of the previous point."""
  serves = event.serves[event.serves < len(event.dx)][1:]
  has_player_lost = np.diff(game.opponent_score)[event.points[: len(serves)] - 1] == 1
  return (event.dx[serves] > 0) == has_player_lost
