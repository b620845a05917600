"""Pong as a world: reset draws a start, step plays four frames and draws their picture, observe reads the state.

    action -> knob and button -> four frames (one `lax.scan`) -> one picture, onto the stack      (step)
    stack -> pixels; scores and steps -> reward and ending                                        (observe)

The stack is one uint32 per pixel, with the newest byte on top: one shift moves all four pictures at once.
"""

import functools
from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

from environments import core
from environments.pong import constants as c
from environments.pong import game as games
from environments.pong import picture, variants

_THREE = (0, 2, 3)  # NOOP, RIGHT, LEFT.


@struct.dataclass
class State:
  """A game in the middle of an episode."""

  game: games.Game  # After the last frame.
  paddles: jax.Array  # [2] int32, tops of the opponent's and the player's paddles one step earlier
  stack: jax.Array  # [84, 84] uint32: four grey levels, oldest in the lowest byte
  reward: jax.Array  # [] float32, of the last step
  elapsed: jax.Array  # [] int32 steps


class Pong(core.ByValue):
  """Atari Pong against the console, with the player on the right (`core.Environment`).

  Actions, int32 `[1]`: six in the emulator's order, NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE. RIGHT moves the
    paddle up and LEFT down. A ball that is hit while FIRE is held flies faster. Or three: NOOP, RIGHT, LEFT.
  Reward: points won minus points lost in the step. An episode terminates when one side has 21.

  Observations: `pixels`, uint8 `[84, 84, 4]`, the last four pictures, newest last.
  Privileged signals, in pixels of the emulator's 210 x 160 screen and frames of 1/60 s: `ball_position`, x y of the
    ball's upper left corner, and `ball_velocity`, x y, float32 `[2]`; `paddle_position`, the tops of the opponent's and
    the player's paddle, and `paddle_velocity`, their mean velocities over the step, float32 `[2]`; `score`, the
    opponent's and the player's, int32 `[2]`; `is_in_play`, bool `[]`. From a point to the next serve the ball's
    velocity is 0 and the ball is out of sight, at row -14, except in the frame of the point itself, which still shows
    it.
  """

  control_dt_s = c.FRAMES_PER_STEP / c.FRAMES_PER_S
  return_bounds = (-float(c.WINNING_SCORE), float(c.WINNING_SCORE))

  def __init__(
    self,
    variant: str = "pong",
    *,
    num_actions: int = 6,
    max_episode_steps: int = 16_000,
    max_start_frames: int = c.MAX_START_FRAMES,
    noise_sigma: float = variants.DEFAULTS.noise_sigma,
    noise_seed: int = variants.DEFAULTS.noise_seed,
    zoom_offset: Sequence[int] = variants.DEFAULTS.zoom_offset,
  ):
    """Builds the world.

    Args:
      variant: one of `variants.NAMES`.
      num_actions: 6 or 3.
      max_episode_steps: an episode is truncated after this many. The console itself switches off a game after 65,208
        frames, 16,302 steps.
      max_start_frames: an episode begins after 2 to this many frames of doing nothing, the usual random start on Atari;
        below 3 the start is always the same.
      noise_sigma, noise_seed, zoom_offset: see `variants.Options`. Options of other variants have no effect.

    Raises:
      ValueError: names the invalid argument.
    """
    if num_actions not in (3, 6):
      raise ValueError(f"num_actions={num_actions} is neither 3 (NOOP, RIGHT, LEFT) nor 6 (the emulator's)")
    if not 0 < max_episode_steps < 2**31:
      raise ValueError(f"max_episode_steps={max_episode_steps} must be above 0 and below 2**31")
    if not 0 <= max_start_frames < c.START_WAIT:
      raise ValueError(
        f"max_start_frames={max_start_frames} must lie in [0, {c.START_WAIT - 1}], before the first serve"
      )
    self.variant = variant
    self.num_actions = num_actions
    self._max_episode_steps = max_episode_steps
    self._max_start_frames = max_start_frames
    self._options = variants.Options(noise_sigma, noise_seed, tuple(zoom_offset))
    variants.check(variant, self._options)
    self._made_of = (variant, num_actions, max_episode_steps, max_start_frames, self._options)
    chosen = _THREE if num_actions == 3 else range(6)
    self._turn = np.array([c.TURN[i] for i in chosen], np.int32)
    self._fire = np.array([c.FIRE[i] for i in chosen], np.int32)
    self._first = _first_stack(variant, self._options)

  def observation_spec(self) -> Mapping[str, specs.Array]:
    shape = (c.IMAGE_SIZE, c.IMAGE_SIZE, c.NUM_STACKED)
    return {"pixels": specs.BoundedArray(shape, np.uint8, 0, 255, name="pixels")}

  def privileged_spec(self) -> Mapping[str, specs.Array]:
    names = ("ball_position", "ball_velocity", "paddle_position", "paddle_velocity")
    return {
      **{name: specs.Array((2,), np.float32, name=name) for name in names},
      "score": specs.BoundedArray((2,), np.int32, 0, c.WINNING_SCORE, name="score"),
      "is_in_play": specs.Array((), np.bool_, name="is_in_play"),
    }

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((1,), np.int32, 0, self.num_actions - 1, name="action")

  def reset(self, key: jax.Array) -> State:
    """A new game, some frames after the console's reset; the picture does not depend on their number."""
    low = min(c.MIN_START_FRAMES, self._max_start_frames)
    # Draws bits only once: batches reset every step, and `randint` would draw three times.
    drawn = jax.random.uniform(key) * (self._max_start_frames + 1 - low)
    game = games.start(low + drawn.astype(jnp.int32))
    return State(
      game=game,
      paddles=_paddles(game),
      stack=jnp.asarray(self._first),
      reward=jnp.zeros((), jnp.float32),
      elapsed=jnp.zeros((), jnp.int32),
    )

  def step(self, state: State, action: jax.Array) -> State:
    """Plays four frames, or fewer if the game ends."""
    chex.assert_shape(action, (1,))
    turn, fire = jnp.asarray(self._turn)[action[0]], jnp.asarray(self._fire)[action[0]]

    def play(last_two: tuple[games.Game, games.Game], _: None) -> tuple[tuple[games.Game, games.Game], None]:
      is_over, next_two = _is_won(last_two[1]), (last_two[1], games.frame(last_two[1], turn, fire))
      return jax.tree.map(lambda last, after: jnp.where(is_over, last, after), last_two, next_two), None

    (before, game), _ = jax.lax.scan(
      play, (state.game, state.game), None, length=c.FRAMES_PER_STEP, unroll=core.unrolled()
    )
    newest = variants.apply(self.variant, picture.draw(before, game), self._options)
    return State(
      game=game,
      paddles=_paddles(state.game),
      stack=(state.stack >> 8) | (newest.astype(jnp.uint32) << 24),
      reward=(_lead(game) - _lead(state.game)).astype(jnp.float32),
      elapsed=state.elapsed + 1,
    )

  def observe(self, state: State) -> core.TimeStep:
    """Reads the stack, the scores and the clock."""
    game = state.game
    is_won = _is_won(game)
    is_last = is_won | (state.elapsed >= self._max_episode_steps)
    return core.TimeStep(
      step_type=core.step_type(state.elapsed, is_last),
      reward=state.reward,
      discount=jnp.where(is_won, 0.0, 1.0).astype(jnp.float32),
      observation={"pixels": jax.lax.bitcast_convert_type(state.stack, jnp.uint8)},
      privileged=_privileged(state),
    )


def _is_won(game: games.Game) -> jax.Array:
  return jnp.maximum(game.player_score, game.opponent_score) >= c.WINNING_SCORE


def _lead(game: games.Game) -> jax.Array:
  return game.player_score - game.opponent_score


def _paddles(game: games.Game) -> jax.Array:
  return jnp.stack([games.opponent_row(game), games.player_row(game)])


def _privileged(state: State) -> dict[str, jax.Array]:
  game = state.game
  is_in_play = game.wait == 0
  speed = jnp.stack([game.ball_dx, game.ball_dy]) * is_in_play.astype(jnp.int32)
  paddles = _paddles(game)
  return {
    "ball_position": jnp.stack([games.ball_column(game), games.ball_row(game)]).astype(jnp.float32),
    "ball_velocity": speed.astype(jnp.float32),
    "paddle_position": paddles.astype(jnp.float32),
    "paddle_velocity": (paddles - state.paddles).astype(jnp.float32) / c.FRAMES_PER_STEP,
    "score": jnp.stack([game.opponent_score, game.player_score]),
    "is_in_play": is_in_play,
  }


def _first_stack(variant: str, options: variants.Options) -> np.ndarray:
  """The picture of a new game four times, uint32 `[84, 84]`."""
  return np.asarray(_first_picture(variant, options)).astype(np.uint32) * np.uint32(0x01010101)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _first_picture(variant: str, options: variants.Options) -> jax.Array:
  game = games.start(jnp.zeros((), jnp.int32))
  return variants.apply(variant, picture.draw(game, game), options)
