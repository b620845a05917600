"""Any dm_env environment as agents play it; expected actions and names are written by hand."""

import copy

import dm_env
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import specs, test_utils

from environments import core, host

_SHOWN = specs.Array((2,), np.float32, name="seen")


class Recorder(dm_env.Environment):
  """Plays three steps an episode and keeps the actions as they come."""

  def __init__(self, action_spec, observation_spec=_SHOWN, observation=(0.5, 1.5), reward_spec=None, reward=1.0):
    self._specs = action_spec, observation_spec, reward_spec or specs.Array((), np.float64, name="reward")
    self._observation, self._reward = observation, reward
    self.actions, self._elapsed, self.is_closed = [], 3, False

  def action_spec(self):
    return self._specs[0]

  def observation_spec(self):
    return self._specs[1]

  def reward_spec(self):
    return self._specs[2]

  def reset(self):
    self._elapsed = 0
    return dm_env.restart(self._observation)

  def step(self, action):
    if self._elapsed == 3:
      return self.reset()
    self.action_spec().validate(action)
    self.actions.append(action)
    self._elapsed += 1
    if self._elapsed == 3:
      return dm_env.termination(self._reward, self._observation)
    return dm_env.transition(self._reward, self._observation)

  def close(self):
    self.is_closed = True


def adapt(*arguments, **options):
  return host.adapt(Recorder(*arguments, **options), name="mine")


class ConformanceTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """dm_env's own tests, over several episodes."""

  def make_object_under_test(self):
    action = specs.BoundedArray((2,), np.int64, -1, [1, 2], name="push")
    return adapt(action, {"a": [_SHOWN]}, {"a": [np.ones(2, np.float32)]})

  def make_action_sequence(self):
    for i in range(10):
      yield np.array([i % 3, i % 4], np.int32)


@pytest.mark.parametrize(
  ("theirs", "choices", "ours", "expected"),
  [
    (specs.DiscreteArray(3), (3,), [2], np.int32(2)),
    (specs.BoundedArray((), np.int64, 2, 5), (4,), [3], np.int64(5)),
    (specs.BoundedArray((2,), np.int32, -1, 1), (3, 3), [0, 2], np.array([-1, 1], np.int32)),
    (specs.BoundedArray((2,), np.int32, [-1, 0], [1, 4]), (3, 5), [0, 4], np.array([-1, 4], np.int32)),
    (specs.BoundedArray((2,), np.int32, 0, 3), (4, 4), [3, 0], np.array([3, 0], np.int32)),
    (specs.BoundedArray((2, 2), np.int8, -2, -1), (2,) * 4, [0, 1, 1, 0], np.array([[-2, -1], [-1, -2]], np.int8)),
    (specs.BoundedArray((1,), np.uint8, 254, 255), (2,), [1], np.array([255], np.uint8)),
  ],
)
def test_an_action_reaches_the_environment_in_its_own_form(theirs, choices, ours, expected):
  environment = Recorder(theirs)
  adapted = host.adapt(environment, name="mine")
  spec = adapted.action_spec()
  assert core.num_choices(spec) == choices and spec.dtype == np.int32
  spec.validate(np.array(ours, np.int32))
  adapted.reset()
  adapted.step(np.array(ours, np.int32))
  np.testing.assert_array_equal(environment.actions[0], expected)
  assert environment.actions[0].dtype == expected.dtype and environment.actions[0].shape == expected.shape


@pytest.mark.parametrize(
  ("theirs", "words"),
  [
    (specs.BoundedArray((2,), np.float32, -1.0, 1.0, name="torque"), "mine: its action is .*float32.*torque.*integers"),
    (specs.Array((2,), np.int32, name="unbounded"), "mine: its action is .*unbounded.*integers"),
    (specs.BoundedArray((1,), np.int32, -(2**31), 2**31 - 1, name="all"), "all"),
    (specs.BoundedArray((0,), np.int32, 0, 1, name="nothing"), "nothing"),
    ({"left": specs.DiscreteArray(2), "right": specs.DiscreteArray(2)}, "mine: its action is .*left"),
    (specs.StringArray((), name="word"), "word"),
  ],
)
def test_an_action_that_is_no_choice_is_refused_by_name(theirs, words):
  with pytest.raises(ValueError, match=words) as refusal:
    adapt(theirs)
  assert "BoundedArray of int32, [A]" in str(refusal.value)


@pytest.mark.parametrize(
  ("theirs", "observation", "expected"),
  [
    (_SHOWN, [0.5, 1.5], {"observation": [0.5, 1.5]}),
    ({"a": _SHOWN, "b": _SHOWN}, {"b": [3, 4], "a": [1, 2]}, {"a": [1, 2], "b": [3, 4]}),
    ({"arm": {"q": _SHOWN}, "x": (_SHOWN,)}, {"arm": {"q": [1, 2]}, "x": ([3, 4],)}, {"arm/q": [1, 2], "x/0": [3, 4]}),
    ([_SHOWN, _SHOWN], [[1, 2], [3, 4]], {"0": [1, 2], "1": [3, 4]}),
    ({"a": _SHOWN, "text": specs.StringArray(())}, {"a": [1, 2], "text": "go"}, {"a": [1, 2]}),
    ({"a": _SHOWN}, {"a": [1, 2], "beside": [9]}, {"a": [1, 2]}),
  ],
)
def test_observations_are_one_flat_mapping(theirs, observation, expected):
  adapted = adapt(specs.DiscreteArray(2), theirs, observation)
  assert list(adapted.observation_spec()) == list(expected)
  for timestep in (adapted.reset(), adapted.step(np.array([0], np.int32))):
    assert timestep.observation.keys() == expected.keys()
    for name, value in expected.items():
      np.testing.assert_array_equal(timestep.observation[name], value)


def test_a_world_that_shows_no_numbers_is_refused():
  for nothing in ({}, specs.StringArray((), name="text"), {"text": specs.StringArray(())}):
    with pytest.raises(ValueError, match="mine shows no array of numbers"):
      adapt(specs.DiscreteArray(2), nothing)


def test_two_observations_of_one_name_are_refused():
  for spec, words in (
    ({"arm": {"q": _SHOWN}, "arm/q": _SHOWN}, r"two observations are 'arm/q', at \('arm', 'q'\) and \('arm/q',\)"),
    ({"": _SHOWN, "observation": _SHOWN}, "two observations are 'observation', at .*"),
  ):
    with pytest.raises(ValueError, match=f"mine: {words}; rename one"):
      adapt(specs.DiscreteArray(2), spec)


def test_after_a_step_that_failed_an_episode_may_go_on_or_start():
  environment = Recorder(specs.DiscreteArray(2))
  adapted, action = host.adapt(environment, name="mine"), np.array([0], np.int32)
  for is_over in (False, True):
    adapted.reset()
    environment.action_spec = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
      adapted.step(action)
    del environment.action_spec
    environment._elapsed = 3 if is_over else 0
    assert adapted.step(action).first() == is_over
    assert adapted.step(action).mid()


@pytest.mark.parametrize("reward", [2.5, np.float32(2.5), np.array([2.5]), np.array([[2.5]])])
def test_a_reward_is_one_number(reward):
  spec = specs.Array(np.shape(reward), np.float64, name="reward")
  adapted = adapt(specs.DiscreteArray(2), reward_spec=spec, reward=reward)
  assert adapted.reset().reward is None
  timestep = adapted.step(np.array([0], np.int32))
  assert type(timestep.reward) is float and timestep.reward == 2.5


def test_a_reward_of_several_numbers_is_refused():
  with pytest.raises(ValueError, match=r"mine: the reward is .*shape=\(2,\)"):
    adapt(specs.DiscreteArray(2), reward_spec=specs.Array((2,), np.float64, name="reward"))


def test_what_no_network_could_learn_from_is_refused_as_it_comes():
  two = adapt(specs.DiscreteArray(2), reward=np.ones(2))
  two.reset()
  with pytest.raises(ValueError, match=r"mine: reward is \[1. 1.\]; agents learn from one finite number"):
    two.step(np.array([0], np.int32))
  endless = adapt(specs.DiscreteArray(2), reward=np.inf)
  endless.reset()
  with pytest.raises(ValueError, match="mine: reward is inf; agents learn from one finite number"):
    endless.step(np.array([0], np.int32))
  for spec, seen, words in (
    (_SHOWN, np.zeros(3, np.float32), r"mine: 'observation' is float32 \[3\], but its spec says float32 \[2\]"),
    (_SHOWN, np.zeros(2, np.uint8), r"mine: 'observation' is uint8 \[2\], but its spec says float32 \[2\]"),
    (specs.Array((2,), np.uint8), np.zeros(2), r"mine: 'observation' is float64 \[2\], but its spec says uint8 \[2\]"),
  ):
    with pytest.raises(ValueError, match=words):
      adapt(specs.DiscreteArray(2), spec, seen).reset()
  with pytest.raises(ValueError, match="mine: 'observation' has numbers that are not finite"):
    adapt(specs.DiscreteArray(2), _SHOWN, np.array([0.0, np.nan], np.float32)).reset()
  with pytest.raises(ValueError, match=r"mine: its observation_spec has 3; make it a specs.Array"):
    adapt(specs.DiscreteArray(2), {"a": 3})


def test_an_observation_that_changes_its_form_after_the_first_is_refused():
  class Scaled(Recorder):
    def step(self, action):
      return dm_env.transition(0.0, self._observation.astype(np.float32) / 255)

  adapted = host.adapt(Scaled(specs.DiscreteArray(2), specs.Array((2,), np.uint8), np.ones(2, np.uint8)), name="mine")
  adapted.reset()
  with pytest.raises(ValueError, match=r"mine: 'observation' is float32 \[2\], but its spec says uint8 \[2\]"):
    adapted.step(np.array([0], np.int32))


def test_an_environment_that_does_not_restart_is_refused():
  class Endless(Recorder):
    def step(self, action):
      return dm_env.termination(0.0, self._observation)

  adapted = host.adapt(Endless(specs.DiscreteArray(2)), name="mine")
  adapted.reset()
  adapted.step(np.array([0], np.int32))
  with pytest.raises(ValueError, match="mine: the step after LAST"):
    adapted.step(np.array([0], np.int32))


def test_an_episode_that_starts_within_another_is_refused():
  environment = Recorder(specs.DiscreteArray(2))
  adapted = host.adapt(environment, name="mine")
  assert adapted.step(np.array([0], np.int32)).first()  # As dm_env has it if nobody has called reset.
  adapted.step(np.array([0], np.int32))
  environment._elapsed = 3  # It starts again, and nobody is told.
  with pytest.raises(ValueError, match="mine: an episode starts without LAST before it"):
    adapted.step(np.array([0], np.int32))
  assert adapted.reset().first()  # A caller that asks for it may.
  environment.reset = lambda: dm_env.transition(0.0, (0.5, 1.5))
  with pytest.raises(ValueError, match="mine: reset must start an episode"):
    adapted.reset()


def test_after_a_reset_that_failed_the_next_step_may_start_an_episode():
  class Stuck(Recorder):
    def reset(self):
      if not self.actions or self.actions[-1] == 1:
        return super().reset()
      self._elapsed, self.actions = 3, []  # The next step tries the next start.
      raise RuntimeError("the arm did not come to the start")

  adapted = host.adapt(Stuck(specs.DiscreteArray(2)), name="mine")
  adapted.reset()
  assert adapted.step(np.array([0], np.int32)).mid()
  with pytest.raises(RuntimeError, match="did not come to the start"):
    adapted.reset()
  assert adapted.step(np.array([0], np.int32)).first()


def test_a_discount_is_one_number_and_what_is_missing_is_named():
  environment = Recorder(specs.DiscreteArray(2), {"a": _SHOWN, "b": _SHOWN}, {"a": (1, 2), "b": (3, 4)})
  adapted = host.adapt(environment, name="mine")
  adapted.reset()
  step = environment.step
  environment.step = lambda action: step(action)._replace(discount=np.array([0.25]))
  timestep = adapted.step(np.array([0], np.int32))
  assert type(timestep.discount) is float and timestep.discount == 0.25
  del environment._observation["b"]
  with pytest.raises(ValueError, match="mine: 'b' is missing in what it shows"):
    adapted.step(np.array([0], np.int32))


def test_adapting_twice_is_adapting_once_and_closing_closes():
  environment = Recorder(specs.DiscreteArray(2))
  adapted = host.adapt(environment, name="mine")
  assert host.adapt(adapted, name="again") is adapted
  adapted.close()
  assert environment.is_closed


def test_what_else_the_environment_has_is_reached():
  environment = Recorder(specs.DiscreteArray(2))
  environment.control_dt_s = 0.02
  adapted = copy.copy(host.adapt(environment, name="mine"))
  assert adapted.control_dt_s == 0.02 and not hasattr(adapted, "control_dt")


@pytest.mark.parametrize(
  "theirs",
  [
    specs.DiscreteArray(3, name="key"),
    specs.BoundedArray((1,), np.int32, -1, 1, name="key"),
    specs.BoundedArray((1,), np.float32, -1, 1, name="key"),
    specs.Array((1,), np.int32, name="key"),
    {"key": specs.DiscreteArray(3)},
  ],
)
def test_num_choices_refuses_foreign_specs(theirs):
  with pytest.raises(ValueError, match="key.*with minimum 0"):
    core.num_choices(theirs)
