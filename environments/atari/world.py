"""An Atari game as a `dm_env.Environment`, with the same shapes and meanings as the worlds in JAX.

One action lasts four emulated frames. An observation is the last four pictures, newest last. Rewards are the points of
the game. An agent trained on `environments.pong` plays `Atari("pong")` without changes.
"""

import collections
from collections.abc import Mapping

import dm_env
import numpy as np
from dm_env import specs

from environments.atari import emulator

FRAMES_PER_STEP = 4
NUM_STACKED = 4
_MIN_START_FRAMES = 2  # The picture right after a reset may have other colours.


class Atari(dm_env.Environment):
  """One game in one emulator; one seed determines the sequence of episodes.

  Actions, int32 `[1]`: see `emulator.actions`. Observation: `pixels`, uint8 `[84, 84, 4]`. An episode terminates when
  the game is over. It does not terminate when a life is lost, unless `ends_with_life` is set.
  """

  control_dt_s = FRAMES_PER_STEP / 60.0

  def __init__(
    self,
    game: str,
    *,
    seed: int = 0,
    num_actions: int | None = None,
    max_episode_steps: int = 27_000,
    max_start_frames: int = 30,
    mode: int | None = None,
    difficulty: int | None = None,
    repeat_action_probability: float = 0.0,
    ends_with_life: bool = False,
  ):
    """Loads `game`.

    Args:
      game: the game's name in ale-py: "pong", "space_invaders", ...
      seed: the seed of all coming episodes.
      num_actions: 3 for NOOP, RIGHT, LEFT (Freeway has three others); 18 for all; None for those that have an effect in
        this game.
      max_episode_steps: an episode is truncated after this many.
      max_start_frames: an episode begins after 2 to this many frames of doing nothing; below 3 the start is always the
        same.
      mode: position of the console's mode switch, None for the game's own; another mode can be another game.
      difficulty: position of the difficulty switch, None for the game's own.
      repeat_action_probability: probability of playing the previous frame's action instead ("sticky"); 0 for never.
      ends_with_life: whether a lost life also terminates an episode; the next episode then goes on in the same game,
        unless `reset` begins another. Returns, time limits and evaluations are then those of one life: play the trained
        network without this option for the score of whole games.

    Raises:
      ValueError: names the invalid argument.
      ModuleNotFoundError: if ale-py is not installed.
    """
    if max_episode_steps < 1 or max_start_frames < 0:
      raise ValueError(
        f"max_episode_steps={max_episode_steps} must be above 0 and max_start_frames={max_start_frames} not below 0"
      )
    if seed < 0:
      raise ValueError(f"seed={seed} must not be below 0")
    self._ale = emulator.load(
      game, seed=seed, mode=mode, difficulty=difficulty, repeat_action_probability=repeat_action_probability
    )
    self._actions = emulator.actions(self._ale, num_actions)
    self._action_spec = specs.BoundedArray((1,), np.int32, 0, len(self._actions) - 1, name="action")
    self._max_episode_steps = max_episode_steps
    self._max_start_frames = max_start_frames
    self._random = np.random.default_rng(seed)
    size = self._ale.getScreenDims()
    self._camera = emulator.Camera(size)
    self._screens = collections.deque(np.empty(size, np.uint8) for _ in range(2))  # Of the last two frames.
    self._pictures: collections.deque[np.ndarray] = collections.deque(maxlen=NUM_STACKED)
    self._elapsed = 0
    self._is_last = True
    self._ends_with_life = ends_with_life
    self._lives = 0  # The most lives in the episode so far: a game may give extra lives.

  def reset(self) -> dm_env.TimeStep:
    """Begins a new game."""
    self._ale.reset_game()
    low = min(_MIN_START_FRAMES, self._max_start_frames)
    for _ in range(self._random.integers(low, self._max_start_frames + 1)):
      self._ale.act(0)
      if self._ale.game_over():
        self._ale.reset_game()
    return self._begin()

  def _begin(self) -> dm_env.TimeStep:
    """Begins an episode at the present state of the game."""
    self._look()
    self._pictures.extend([self._camera.picture(self._screens[-1], self._screens[-1])] * NUM_STACKED)
    self._elapsed = 0
    self._is_last = False
    self._lives = self._ale.lives()
    return dm_env.restart(self._observation())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Plays four frames, or fewer if the game ends. After the last step of an episode, it starts the next instead."""
    if self._is_last:
      return self._begin() if self._has_lost_life() and not self._ale.game_over() else self.reset()
    self._action_spec.validate(np.asarray(action))
    reward = 0.0
    for _ in range(FRAMES_PER_STEP):
      reward += self._ale.act(self._actions[int(action[0])])
      self._look()
      self._lives = max(self._lives, self._ale.lives())
      if self._is_over():
        break
    self._pictures.append(self._camera.picture(*self._screens))
    self._elapsed += 1
    is_over = self._is_over()
    self._is_last = is_over or self._elapsed >= self._max_episode_steps
    step_type = dm_env.StepType.LAST if self._is_last else dm_env.StepType.MID
    return dm_env.TimeStep(step_type, reward, 0.0 if is_over else 1.0, self._observation())

  def observation_spec(self) -> Mapping[str, specs.Array]:
    shape = (emulator.IMAGE_SIZE, emulator.IMAGE_SIZE, NUM_STACKED)
    return {"pixels": specs.BoundedArray(shape, np.uint8, 0, 255, name="pixels")}

  def action_spec(self) -> specs.BoundedArray:
    return self._action_spec

  def _look(self) -> None:
    """Reads the screen of this frame into the older of the two buffers."""
    self._screens.rotate(-1)
    self._ale.getScreenGrayscale(self._screens[-1])

  def _has_lost_life(self) -> bool:
    return self._ends_with_life and self._ale.lives() < self._lives

  def _is_over(self) -> bool:
    return bool(self._ale.game_over()) or self._has_lost_life()

  def _observation(self) -> dict[str, np.ndarray]:
    return {"pixels": np.stack(self._pictures, axis=-1)}
