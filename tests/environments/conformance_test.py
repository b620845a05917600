"""The check for users' worlds passes ours, and finds each fault that is put into a world that passes."""

import dataclasses
import functools

import dm_env
import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

from environments import conformance, core, registry
from examples import gymnasium_world, own_world
from tests.agents import worlds
from tests.environments import own_world_test, registry_test


def test_worlds_that_are_right_pass_and_their_episodes_are_counted():
  assert (
    conformance.check(own_world.Catch, num_steps=30) == 6
  )  # Ten steps an episode, including its reset, and two copies.
  assert conformance.check(own_world_test.HostCatch, num_steps=30) == 3
  assert conformance.check(functools.partial(registry.make, "pong/pong"), num_steps=5) == 0
  assert conformance.check(gymnasium_world.make, num_steps=300) > 3


def fault(method, change):
  """`CueRecall` with `change` applied to what its `method` returns."""

  def altered(self, *arguments):
    return change(getattr(worlds.CueRecall, method)(self, *arguments))

  return dataclasses.dataclass(frozen=True)(type("Faulty", (worlds.CueRecall,), {method: altered}))


def replace(**changes):
  return lambda timestep: timestep.replace(**{name: change(timestep) for name, change in changes.items()})


@pytest.mark.parametrize(
  ("method", "change", "words"),
  [
    (
      "observe",
      replace(reward=lambda t: t.reward.astype(jnp.int32)),
      r"Faulty.observe: reward is int32 \[\]; make it f",
    ),
    ("observe", replace(discount=lambda t: t.discount[None]), r"observe: discount is float32 \[1\]; make it float32"),
    ("observe", replace(discount=lambda t: t.discount - 1), "step 0: the discount is 0.0|step 0: at FIRST"),
    ("observe", replace(discount=lambda t: t.discount - 2), "step 0: the discount is -1.0, not from 0 to 1"),
    ("observe", replace(reward=lambda t: t.reward * jnp.nan), "step 0: the reward is nan"),
    ("observe", replace(reward=lambda t: t.reward + 1), "step 0: at FIRST the reward is 1.0 and the discount 1.0"),
    ("observe", replace(step_type=lambda t: jnp.minimum(t.step_type + 1, 2)), "step 0: the step is MID, not FIRST"),
    ("observe", replace(step_type=lambda t: t.step_type * 0), "step 1: the step is FIRST, not MID or LAST"),
    ("observe", replace(observation=lambda t: {}), r"observe: observation has \[\], its spec \['signal'\]"),
    ("observe", replace(privileged=lambda t: {}), r"observe: privileged has \[\], its spec \['cue'\]"),
    ("observe", replace(observation=lambda t: {"signal": t.observation["signal"] + 5}), "'signal' is not as its spec"),
    (
      "observe",
      replace(observation=lambda t: {"signal": t.observation["signal"] > 0}),
      "Faulty.observe: observation .signal. is bool .3., but its spec says float32 .3.",
    ),
    ("observe", replace(observation=lambda t: t.observation["signal"]), "observation is float32 .*; make it a mapping"),
    ("observe", replace(discount=lambda t: None), "observe: discount is NoneType; make it float32"),
    ("observe", lambda t: (t.observation, t.reward), "Faulty.observe gives a tuple; make it a core.TimeStep"),
    (
      "observe",
      replace(discount=lambda t: jnp.float32(t.step_type != core.MID)),
      "the discount is 0 in mid-episode; it is 0 at LAST alone",
    ),
    ("step", lambda state: state if state.time > 1 else state, "Faulty.step cannot be compiled .*; use jnp.where"),
    ("step", lambda state: state.replace(reward=np.asarray(state.reward)), "Faulty.step cannot be compiled .* and jnp"),
    ("step", lambda state: state.replace(reward=[0.0, 1.0][state.cue]), "Faulty.step cannot be compiled"),
    ("step", lambda state: state.replace(time=jnp.arange(3)[jnp.arange(3) > state.time]), "step cannot be compiled"),
    ("observe", replace(observation=lambda t: {"signal": {"nested": t.reward}}), "'signal' is dict, but its spec says"),
    ("step", lambda state: state.replace(reward=state.reward[None]), "step: the state changes its form"),
  ],
)
def test_a_fault_of_a_world_in_jax_is_named(method, change, words):
  with pytest.raises(ValueError, match=words):
    conformance.check(fault(method, change), num_steps=20)


def test_a_spec_of_python_floats_is_met_by_jax_s():
  @dataclasses.dataclass(frozen=True)
  class Plain(worlds.CueRecall):
    def observation_spec(self):
      return {name: spec.replace(dtype=float) for name, spec in super().observation_spec().items()}

  assert conformance.check(Plain, num_steps=20) > 0


def test_a_maker_is_given_its_seed_and_a_world_that_is_made_is_refused():
  seeds = []

  def make(seed):
    seeds.append(seed)
    return worlds.CueRecall()

  assert conformance.check(make, num_steps=30, seed=7) > 0 and seeds[0] == 7
  with pytest.raises(
    ValueError, match="a CueRecall cannot be called; give a world's class, or a function that makes it"
  ):
    conformance.check(worlds.CueRecall())


def test_a_world_in_jax_that_depends_on_a_seed_is_refused():
  with pytest.raises(ValueError, match="Seeded is another world with another seed; .* by another name"):
    conformance.check(registry_test.Seeded)


def test_an_unknown_world_of_the_example_is_one_line():
  with pytest.raises(ValueError, match="Gymnasium does not make 'Cart-v1': Environment `Cart` doesn't exist"):
    gymnasium_world.make("Cart-v1")


def test_a_mistaken_bound_of_an_action_is_refused():
  @dataclasses.dataclass(frozen=True)
  class Wide(worlds.CueRecall):
    num_choices: tuple[int, ...] = (2**31,)

  with pytest.raises(ValueError, match="Wide: its action is .*; an entry has at most 1,024 values"):
    conformance.check(Wide)


def test_a_world_that_does_not_equal_one_made_alike_is_refused():
  class Unequal(worlds.CueRecall):
    __eq__, __hash__ = object.__eq__, object.__hash__

  with pytest.raises(ValueError, match="Unequal does not equal one made alike: .* make it a frozen dataclass"):
    conformance.check(Unequal)

  class Unhashed(worlds.CueRecall):
    __hash__ = object.__hash__

  with pytest.raises(ValueError, match="Unhashed does not equal one made alike"):
    conformance.check(Unhashed)
  with pytest.raises(ValueError, match="made a list: it is no dm_env.Environment"):
    conformance.check(list)


@pytest.mark.parametrize(
  ("method", "change", "words"),
  [
    ("reset", lambda t: t._replace(reward=0.0), "step 0: FIRST has a reward or a discount; use dm_env.restart"),
    ("reset", lambda t: t._replace(step_type=dm_env.StepType.MID, reward=0.0, discount=1.0), "reset must start.*MID"),
    (
      "step",
      lambda t: t if t.first() else t._replace(discount=None),
      "Faulty: reward is 0.0, discount None; only FIRST",
    ),
    (
      "step",
      lambda t: (t.observation, 0.0, False, False, {}),
      "Faulty: a step gives a tuple; make it a dm_env.TimeStep",
    ),
    (
      "reset",
      lambda t: t._replace(observation=t.observation | {"pixels": np.zeros(3)}),
      "'pixels' is float64 .3., but",
    ),
    (
      "step",
      lambda t: t if t.first() else t._replace(reward=np.inf),
      "Faulty: reward is inf; agents learn from one finite number",
    ),
    ("step", lambda t: t._replace(observation=t.observation | {"pixels": np.zeros(3)}), "'pixels' is float64 .3., but"),
  ],
)
def test_a_fault_of_a_world_behind_dm_env_is_named(method, change, words):
  class Faulty(own_world_test.HostCatch):
    is_closed = False

    def close(self):
      Faulty.is_closed = True

  def altered(self, *arguments):
    return change(getattr(own_world_test.HostCatch, method)(self, *arguments))

  setattr(Faulty, method, altered)
  with pytest.raises(ValueError, match=words):
    conformance.check(Faulty)
  assert Faulty.is_closed


def test_the_example_plays_what_gymnasium_plays():
  """Gymnasium itself says what is right: states, rewards and ends over several episodes, including a time limit."""
  ours, theirs = gymnasium_world.make(seed=3), gymnasium.make("CartPole-v1")
  ours._environment._max_episode_steps = theirs._max_episode_steps = 12  # So that some episodes are cut short.
  state, _ = theirs.reset(seed=3)
  timestep, ends = ours.reset(), []
  np.testing.assert_array_equal(timestep.observation["state"], state)
  for action in np.random.default_rng(0).integers(0, 2, 200):
    if timestep.last():
      (state, _), timestep = theirs.reset(), ours.step(action)
      assert timestep.first()
    else:
      state, reward, terminated, truncated, _ = theirs.step(int(action))
      timestep = ours.step(action)
      assert timestep.reward == reward and timestep.discount == (0.0 if terminated else 1.0)
      assert timestep.last() == (terminated or truncated)
      ends += [(terminated, truncated)] if timestep.last() else []
    np.testing.assert_array_equal(timestep.observation["state"], state)
  assert {(True, False), (False, True)} <= set(ends)
