"""The emulator behind dm_env: conformance, ale-py's own preprocessing (OpenCV) as reference, the JAX world's specs."""

import sys

import dm_env
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils

from environments import registry
from environments.atari import emulator, vector, world


class ConformanceTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """Short episodes, so that the sequence of actions crosses several."""

  def make_object_under_test(self):
    return world.Atari("pong", seed=0, num_actions=3, max_episode_steps=3)

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    for _ in range(12):
      yield rng.integers(0, 3, 1).astype(np.int32)


def _act(action: int) -> np.ndarray:
  return np.array([action], np.int32)


@pytest.mark.parametrize("game", ["pong", "breakout"])
def test_pictures_and_rewards_are_those_of_ale_pys_own_preprocessing(game):
  theirs = vector.Vector(game, 1, seed=0, num_threads=1, max_start_frames=0)
  ours = world.Atari(game, seed=0, max_start_frames=0)
  assert ours.action_spec().maximum + 1 == theirs.num_actions
  first = ours.reset().observation["pixels"]
  np.testing.assert_array_equal(first[..., -1], theirs.first_pixels[0, -1])
  rng = np.random.default_rng(0)
  for t in range(120):
    action = int(rng.integers(theirs.num_actions))
    expected, timestep = theirs.step(np.array([action])), ours.step(_act(action))
    assert timestep.reward == expected.reward[0]
    if t >= 3:  # ale-py begins with black pictures, we with copies of the first.
      pixels = timestep.observation["pixels"].astype(int)
      np.testing.assert_allclose(pixels, expected.pixels[0].transpose(1, 2, 0), atol=1)


@pytest.mark.parametrize("num_actions", [3, 6])
def test_specs_are_those_of_the_world_in_jax(num_actions):
  ours = registry.make("pong/pong", num_actions=num_actions)
  theirs = world.Atari("pong", seed=0, num_actions=num_actions)
  assert dict(theirs.observation_spec()) == dict(ours.observation_spec())
  assert theirs.action_spec() == ours.action_spec()


def test_actions_carry_the_emulators_meanings():
  ale = emulator.load("pong", seed=0)
  six = [action.name for action in emulator.actions(ale, 6)]
  assert six == ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
  assert emulator.actions(ale, None) == emulator.actions(ale, 6)
  assert [action.name for action in emulator.actions(ale, 3)] == ["NOOP", "RIGHT", "LEFT"]
  assert len(emulator.actions(ale, 18)) == 18
  with pytest.raises(ValueError, match="num_actions=5"):
    emulator.actions(ale, 5)


def test_left_moves_the_paddle_down_and_right_up():
  def top_of_paddle(action: int) -> int:
    env = world.Atari("pong", seed=0, num_actions=3)
    env.reset()
    for _ in range(6):
      pixels = env.step(_act(action)).observation["pixels"]
    return int(np.argmax(pixels[14:77, 74, -1] > 100))

  assert top_of_paddle(1) < top_of_paddle(0) < top_of_paddle(2)


def test_the_newest_picture_is_last():
  env = world.Atari("pong", seed=0, num_actions=3)
  before = env.reset().observation["pixels"]
  after = env.step(_act(1)).observation["pixels"]
  after = env.step(_act(1)).observation["pixels"]
  np.testing.assert_array_equal(after[..., :2], before[..., 2:])
  assert (after[..., 3] != after[..., 2]).any()


def test_the_same_seed_gives_the_same_episodes_and_starts_differ():
  def starts(seed: int) -> list[np.ndarray]:
    env = world.Atari("pong", seed=seed, num_actions=3, max_episode_steps=14)
    result = []
    for _ in range(4):
      env.reset()
      for _ in range(14):
        timestep = env.step(_act(0))
      result.append(timestep.observation["pixels"])
    return result

  first, again = starts(3), starts(3)
  np.testing.assert_array_equal(first, again)
  assert len({pixels.tobytes() for pixels in first}) > 1


def test_a_lost_game_terminates_and_a_long_one_is_truncated():
  env = world.Atari("pong", seed=0, num_actions=3)
  timestep, score = env.reset(), 0.0
  while not timestep.last():
    timestep = env.step(_act(0))
    score += timestep.reward
  assert score == -21.0 and timestep.discount == 0.0
  assert env.step(_act(0)).step_type == dm_env.StepType.FIRST
  env = world.Atari("pong", seed=0, num_actions=3, max_episode_steps=2)
  env.reset()
  assert env.step(_act(0)).mid()
  timestep = env.step(_act(0))
  assert timestep.last() and timestep.discount == 1.0


def test_an_episode_may_end_with_a_life_and_the_next_goes_on_in_the_same_game():
  env = world.Atari("breakout", seed=0, ends_with_life=True)
  starts, discounts = [], []
  for _ in range(5):  # Breakout has five lives; each ball must be served.
    timestep = env.reset() if not starts else env.step(_act(0))
    assert timestep.first()
    starts.append(timestep.observation["pixels"])
    for _ in range(1_000):
      timestep = env.step(_act(1))  # FIRE
      if timestep.last():
        break
    discounts.append(timestep.discount)
  assert discounts == [0.0] * 5
  above_bricks = slice(0, 7)  # The score, and the lives that are left.
  assert (starts[-1][above_bricks] != starts[0][above_bricks]).any()
  np.testing.assert_array_equal(env.step(_act(0)).observation["pixels"][above_bricks], starts[0][above_bricks])


class _Lives:
  """An emulator in which only the lives are replaced: `lives[t]` after t frames."""

  def __init__(self, ale, lives):
    self._ale, self._left = ale, iter(lives)
    self._now = next(self._left)

  def __getattr__(self, name):
    return getattr(self._ale, name)

  def act(self, action):
    self._now = next(self._left)
    return self._ale.act(action)

  def lives(self):
    return self._now


@pytest.mark.parametrize(
  ("lives", "num_steps"),
  [
    ([3, *[3, 4, 4, 4], *[4, 4, 3]], 2),  # The game gives a life in the first step and takes one in the second.
    ([3, *[3, 4, 3]], 1),  # Both in one step.
  ],
)
def test_a_life_that_was_given_in_between_can_be_lost(lives, num_steps):
  env = world.Atari("breakout", seed=0, max_start_frames=0, ends_with_life=True)
  env._ale = _Lives(env._ale, lives)
  env.reset()
  timesteps = [env.step(_act(0)) for _ in range(num_steps)]
  assert [timestep.last() for timestep in timesteps] == [False] * (num_steps - 1) + [True]
  assert timesteps[-1].discount == 0.0 and env.step(_act(0)).first()


def test_any_seed_of_a_run_is_one_of_the_emulator():
  for seed in (2**31, 2**32 - 1):  # The emulator's seed has 31 bits, a run's has 32.
    assert registry.make("atari/pong", seed=seed).reset().first()
  with pytest.raises(ValueError, match="seed=-1 must not be below 0"):
    registry.make("atari/pong", seed=-1)


def test_modes_difficulties_and_sticky_actions_reach_the_emulator():
  def played(**options) -> bytes:
    env = world.Atari("pong", seed=0, num_actions=3, max_start_frames=0, **options)
    env.reset()
    return b"".join(env.step(_act(1 + t // 8 % 2)).observation["pixels"].tobytes() for t in range(30))

  as_given = played()
  assert played(mode=0, difficulty=0, repeat_action_probability=0.0) == as_given
  for options in ({"mode": 1}, {"difficulty": 1}, {"repeat_action_probability": 0.9}):
    assert played(**options) != as_given, options
  with pytest.raises(ValueError, match="mode=7: pong has 0, 1"):
    world.Atari("pong", mode=7)
  with pytest.raises(ValueError, match="difficulty=9: pong has 0, 1, 2, 3"):
    world.Atari("pong", difficulty=9)
  with pytest.raises(ValueError, match="repeat_action_probability=1.5"):
    world.Atari("pong", repeat_action_probability=1.5)


def test_what_cannot_be_is_refused_in_one_line(monkeypatch):
  with pytest.raises(ValueError, match='no game "pongg"; the nearest of its [0-9]+ are pong'):
    world.Atari("pongg", seed=0)
  with pytest.raises(ValueError, match="max_episode_steps=0"):
    world.Atari("pong", seed=0, max_episode_steps=0)
  monkeypatch.setitem(sys.modules, "ale_py", None)
  with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[atari\]"):
    world.Atari("pong", seed=0)


@pytest.mark.parametrize("size", [(210, 160), (250, 160)])  # NTSC and PAL. PAL's sums need 32 bits.
def test_a_picture_is_the_brighter_of_two_screens_averaged_over_areas(size):
  camera, rng = emulator.Camera(size), np.random.default_rng(0)
  pictures, expected = [], []
  for _ in range(3):  # A picture must not change when the next is made.
    screens = rng.integers(0, 256, (2, *size), dtype=np.uint8)
    pictures.append(camera.picture(*screens))
    fine = np.max(screens, axis=0).repeat(84, axis=0).repeat(84, axis=1).reshape(84, size[0], 84, size[1])
    expected.append(np.rint(fine.sum((1, 3), dtype=np.int64) / (size[0] * size[1])))
  np.testing.assert_array_equal(pictures, expected)
