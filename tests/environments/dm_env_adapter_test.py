"""dm_env's own conformance tests on the adapter, and its episodes against the world's."""

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils

from environments import core, dm_env_adapter, registry

_STATE = ("proprioception", "target")


class ConformanceTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """Short episodes, so that the sequence of actions crosses several."""

  world = "jaco/reach/random"

  def make_object_under_test(self):
    return dm_env_adapter.DmEnv(registry.make(self.world, num_steps=3), seed=0, observations=_STATE)

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    for _ in range(20):
      yield rng.integers(0, 3, 9).astype(np.int32)


class MovingConformanceTest(ConformanceTest):
  world = "jaco/reach/moving"


class ConveyorConformanceTest(ConformanceTest):
  world = "jaco/conveyor"


class CatchConformanceTest(ConformanceTest):
  world = "jaco/catch"


class BeeConformanceTest(ConformanceTest):
  world = "jaco/catch_the_bee"


def test_an_episode_is_the_worlds_own():
  world = registry.make("jaco/reach/fixed", num_steps=4)
  env = dm_env_adapter.DmEnv(world, seed=7)
  assert set(env.observation_spec()) == {"pixels", "proprioception", "target"}
  state = jax.jit(world.reset)(jax.random.split(jax.random.key(7))[1])
  step, observe = jax.jit(world.step), jax.jit(world.observe)
  timestep = env.reset()
  assert timestep.first() and timestep.reward is None
  for t in range(4):
    expected = observe(state)
    np.testing.assert_allclose(
      timestep.observation["proprioception"], expected.observation["proprioception"], atol=1e-5
    )
    assert timestep.observation["pixels"].dtype == np.uint8
    action = np.full(9, t % 3, np.int32)
    state, timestep = step(state, jnp.asarray(action)), env.step(action)
  assert timestep.last() and timestep.discount == 1.0  # Truncated.
  assert env.step(np.ones(9, np.int32)).step_type == dm_env.StepType.FIRST
  assert int(observe(state).step_type) == core.LAST


def test_wrong_observations_and_actions_are_refused():
  world = registry.make("jaco/reach/fixed")
  with pytest.raises(ValueError, match="camera"):
    dm_env_adapter.DmEnv(world, seed=0, observations=("camera",))
  env = dm_env_adapter.DmEnv(world, seed=0, observations=_STATE)
  env.reset()
  with pytest.raises(ValueError):
    env.step(np.full(9, 3, np.int32))


def test_it_says_how_fast_its_world_is_and_what_it_returns_at_most():
  world = registry.make("pong/pong")
  env = dm_env_adapter.DmEnv(world, seed=0)
  assert (env.control_dt_s, env.return_bounds) == (world.control_dt_s, world.return_bounds)
