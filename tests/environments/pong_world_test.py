"""Pong as a world: the protocol, its arithmetic, and its episodes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils

from environments import batch, core, dm_env_adapter, registry
from environments.pong import game as games
from environments.pong import picture, world


@pytest.fixture(scope="module")
def place():
  return registry.make("pong/pong", num_actions=3)


_NUM_STEPS = 1600


def _rollout(place, key, actions):
  """All states and timesteps, leaves `[T, ...]`."""

  def body(state, action):
    state = place.step(state, action)
    return state, (state, place.observe(state))

  return jax.lax.scan(body, place.reset(key), actions)[1]


@pytest.fixture(scope="module")
def rollout(place):
  """One compiled function for all: key, actions `[_NUM_STEPS, 1]` -> states and timesteps."""
  return jax.jit(lambda key, actions: _rollout(place, key, actions))


def _actions(seed: int, *shape: int, num_actions: int = 3) -> jax.Array:
  return jax.random.randint(jax.random.key(seed), (*shape, 1), 0, num_actions, jnp.int32)


class ConformanceTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """Short episodes, so that the sequence of actions crosses several."""

  def make_object_under_test(self):
    return dm_env_adapter.DmEnv(registry.make("pong/pong", num_actions=3, max_episode_steps=3), seed=0)

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    for _ in range(12):
      yield rng.integers(0, 3, 1).astype(np.int32)


def test_what_is_shown_fits_the_specs(place):
  timestep = jax.jit(lambda key: place.observe(place.reset(key)))(jax.random.key(0))
  for spec, shown in ((place.observation_spec(), timestep.observation), (place.privileged_spec(), timestep.privileged)):
    assert set(spec) == set(shown)
    for name, one in spec.items():
      one.validate(np.asarray(shown[name]))
  assert core.num_choices(place.action_spec()) == (3,)
  assert core.num_choices(registry.make("pong/pong").action_spec()) == (6,)


def test_the_same_key_gives_the_same_episode_and_another_another_start(place, rollout):
  actions = _actions(0, _NUM_STEPS)
  first, again = rollout(jax.random.key(0), actions), rollout(jax.random.key(0), actions)
  jax.tree.map(np.testing.assert_array_equal, first, again)
  waits = jax.vmap(place.reset)(jax.random.split(jax.random.key(1), 200)).game.wait
  assert set(np.unique(waits).tolist()) == set(range(59 - 30, 59 - 2 + 1))
  fixed = world.Pong(max_start_frames=0)
  assert np.unique(jax.vmap(fixed.reset)(jax.random.split(jax.random.key(1), 9)).game.wait).tolist() == [59]


def test_jit_is_no_jit_and_vmap_is_a_loop(place, rollout):
  actions = _actions(2, 2, _NUM_STEPS)
  keys = jax.random.split(jax.random.key(3), 2)
  many = jax.jit(jax.vmap(lambda k, a: _rollout(place, k, a)))(keys, actions)
  for i in range(2):
    one = rollout(keys[i], actions[i])
    jax.tree.map(np.testing.assert_array_equal, one, jax.tree.map(lambda leaf, i=i: leaf[i], many))
  start = jax.tree.map(lambda leaf: leaf[0, 29], many[0])  # The ball is in play.
  slow = place.step(start, actions[0, 30])
  jax.tree.map(np.testing.assert_array_equal, slow, jax.tree.map(lambda leaf: leaf[0, 30], many[0]))


def test_an_episode_adds_up_and_terminates_at_21(rollout):
  states, shown = rollout(jax.random.key(0), _actions(4, _NUM_STEPS))
  step_type, score = np.asarray(shown.step_type), np.asarray(shown.privileged["score"])
  end = int(np.argmax(step_type == core.LAST))
  assert step_type[end] == core.LAST and (step_type[:end] == core.MID).all()
  assert score[end].max() == 21 and score[end - 1].max() == 20
  assert float(np.sum(shown.reward[: end + 1])) == score[end, 1] - score[end, 0]
  assert (np.asarray(shown.discount[:end]) == 1).all() and float(shown.discount[end]) == 0.0
  assert score[end, 0] == 21 and score[end, 1] <= 2  # A random player loses.
  assert np.asarray(states.elapsed).tolist() == list(range(1, _NUM_STEPS + 1))


def test_a_game_ends_with_the_frame_of_its_last_point(place, rollout):
  actions = _actions(4, _NUM_STEPS)
  states, shown = rollout(jax.random.key(0), actions)
  end = int(np.argmax(np.asarray(shown.step_type) == core.LAST))
  frames = [jax.tree.map(lambda leaf: leaf[end - 1], states.game)]
  while max(int(frames[-1].opponent_score), int(frames[-1].player_score)) < 21:
    action = int(actions[end, 0])
    frames.append(games.frame(frames[-1], place._turn[action], place._fire[action]))
  assert 1 < len(frames) < 5  # With this seed the point falls before the fourth frame.
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[end], states.game), frames[-1])
  newest = shown.observation["pixels"][end, ..., 3]
  np.testing.assert_array_equal(newest, picture.draw(frames[-2], frames[-1]))


def test_long_episodes_are_truncated(rollout):
  place = world.Pong(num_actions=3, max_episode_steps=5)
  states, _ = rollout(jax.random.key(0), _actions(5, _NUM_STEPS))
  shown = [place.observe(jax.tree.map(lambda leaf, t=t: leaf[t], states)) for t in range(5)]
  assert [int(one.step_type) for one in shown] == [core.MID] * 4 + [core.LAST]
  assert [float(one.discount) for one in shown] == [1.0] * 5
  first = place.observe(place.reset(jax.random.key(0)))
  assert int(first.step_type) == core.FIRST and float(first.reward) == 0.0 and float(first.discount) == 1.0


def test_the_stack_holds_the_last_four_pictures_newest_last(place, rollout):
  _, shown = rollout(jax.random.key(0), _actions(6, _NUM_STEPS))
  pixels = np.asarray(shown.observation["pixels"])
  np.testing.assert_array_equal(pixels[1:, ..., :3], pixels[:-1, ..., 1:])
  assert (pixels[30:60, ..., 3] != pixels[30:60, ..., 2]).any(axis=(1, 2)).all()
  first = np.asarray(place.observe(place.reset(jax.random.key(0))).observation["pixels"])
  assert (first == first[..., :1]).all()


def test_three_actions_are_three_of_the_six(place):
  six = world.Pong(num_actions=6)
  ours, theirs = jax.jit(place.step), jax.jit(six.step)
  a = b = place.reset(jax.random.key(0))
  for action in (0, 1, 2, 2, 1, 1, 0):
    a = ours(a, jnp.array([action], jnp.int32))
    b = theirs(b, jnp.array([(0, 2, 3)[action]], jnp.int32))  # NOOP, RIGHT, LEFT.
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_fire_changes_the_game():
  six = registry.make("pong/pong", num_actions=6, max_start_frames=0)
  step = jax.jit(six.step)
  speeds = []
  for action in (0, 1):
    state = six.reset(jax.random.key(0))
    paddle = dataclasses.replace(
      state.game, wait=jnp.int32(0), ball_x=jnp.int32(187), ball_y=jnp.int32(114), ball_dx=jnp.int32(1)
    )
    state = step(dataclasses.replace(state, game=paddle), jnp.array([action], jnp.int32))
    speeds.append(float(six.observe(state).privileged["ball_velocity"][0]))
  assert speeds == [-1.0, -2.0]


def test_privileged_signals_are_what_they_say(rollout):
  _, shown = rollout(jax.random.key(0), _actions(8, _NUM_STEPS))
  ball, speed = (np.asarray(shown.privileged[f"ball_{name}"]) for name in ("position", "velocity"))
  is_in_play = np.asarray(shown.privileged["is_in_play"])
  steady = is_in_play[:-1] & is_in_play[1:] & (speed[1:] == speed[:-1]).all(1)
  assert steady.sum() > 100
  np.testing.assert_array_equal(np.diff(ball, axis=0)[steady], 4 * speed[:-1][steady])  # Four frames a step.
  assert (speed[~is_in_play] == 0).all() and (ball[~is_in_play][:, 1] <= 190).all()
  paddle, paddle_speed = (np.asarray(shown.privileged[f"paddle_{name}"]) for name in ("position", "velocity"))
  np.testing.assert_array_equal(4 * paddle_speed[1:], np.diff(paddle, axis=0))
  assert set(np.abs(paddle_speed[2:, 0][steady[1:] & steady[:-1]]).tolist()) <= {0.0, 0.5, 1.0, 1.5, 2.0}
  # In the picture: the column of the ball is the brightest in the field, the paddles are where they should be.
  pixels = np.asarray(shown.observation["pixels"])[..., 3].astype(int)
  for t in np.flatnonzero(is_in_play)[5::40]:
    column, row = ball[t]
    area = pixels[t, 14:77, 12:72] - 87
    if 30 < column < 130 and area.any():
      r, k = np.unravel_index(area.argmax(), area.shape)
      assert abs((k + 12.5) * 160 / 84 - column) < 4 and abs((r + 14.5) * 2.5 - row) < 6
    top = paddle[t, 1]
    if 40 < top < 170 and column < 130:
      bright = np.flatnonzero(pixels[t, 14:77, 74] > 110) + 14
      assert abs(bright.mean() * 2.5 + 1.25 - (top + 8)) < 6
  assert 4 < np.abs(paddle_speed[:, 1]).max() <= 6  # The knob turns by 5.76 rows a frame; counts are of two rows.


def test_batches_restart_by_themselves(place):
  worlds = batch.Batch(registry.make("pong/pong", num_actions=3, max_episode_steps=2), 3, ("pixels",), ("score",))
  state = worlds.init(jax.random.key(0))
  step = jax.jit(worlds.step)
  kinds = [state.timestep.step_type.tolist()]
  for t in range(4):
    state = step(state, _actions(t, 3))
    kinds.append(state.timestep.step_type.tolist())
  assert kinds == [[core.FIRST] * 3, [core.MID] * 3, [core.LAST] * 3, [core.FIRST] * 3, [core.MID] * 3]
  assert state.timestep.observation["pixels"].shape == (3, 84, 84, 4)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_actions": 4}, "num_actions=4 is neither 3"),
    ({"max_episode_steps": 0}, "max_episode_steps=0"),
    ({"max_start_frames": 59}, "max_start_frames=59"),
  ],
)
def test_what_cannot_be_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    world.Pong(**options)
