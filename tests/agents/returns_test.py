import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from agents import returns
from environments import core

FIRST, MID, LAST = core.FIRST, core.MID, core.LAST
# A terminated episode, a truncated one, and one that the unroll cuts off.
STEP_TYPE = np.array([MID, MID, LAST, FIRST, MID, LAST, FIRST, MID, MID], np.int32)
DISCOUNT = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1], np.float32)


def _unroll(seed, step_type=STEP_TYPE, discount=DISCOUNT):
  rng = np.random.default_rng(seed)
  reward = rng.normal(size=len(step_type)).astype(np.float32)
  values = rng.normal(size=len(step_type)).astype(np.float32)
  arrays = [jnp.asarray(x) for x in (step_type, reward, discount)]
  return core.TimeStep(*arrays, observation={}, privileged={}), jnp.asarray(values)


def _by_definition(timesteps, values, gamma, lambda_):
  """Forward view: the lambda-weighted mixture of every n-step return, each stopped at its episode's end."""
  step_type, reward, discount = (np.asarray(x) for x in (timesteps.step_type, timesteps.reward, timesteps.discount))
  num_steps = len(reward) - 1
  result = np.zeros(num_steps)
  for t in range(num_steps):
    n_step, total, scale = [], 0.0, 1.0
    for u in range(t + 1, num_steps + 1):
      total += scale * reward[u]
      scale *= gamma * discount[u]
      n_step.append(total + scale * values[u])
      if step_type[u] == LAST:
        break
    mixture = [(1 - lambda_) * lambda_**i for i in range(len(n_step) - 1)] + [lambda_ ** (len(n_step) - 1)]
    result[t] = np.dot(mixture, n_step)
  return result


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_equals_the_definition_across_episode_ends(lambda_):
  timesteps, values = _unroll(0)
  actual = returns.lambda_returns(timesteps, values, discount=0.9, lambda_=lambda_)
  counts = STEP_TYPE[:-1] != LAST
  np.testing.assert_allclose(actual[counts], _by_definition(timesteps, values, 0.9, lambda_)[counts], atol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_equals_rlax_within_an_episode(lambda_):
  discount = np.array([1, 1, 1, 0.5, 1, 1, 0], np.float32)  # A discount strictly between 0 and 1, too.
  timesteps, values = _unroll(1, np.array([FIRST] + [MID] * 5 + [LAST], np.int32), discount)
  expected = rlax.lambda_returns(timesteps.reward[1:], 0.9 * timesteps.discount[1:], values[1:], lambda_)
  actual = returns.lambda_returns(timesteps, values, discount=0.9, lambda_=lambda_)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_truncation_bootstraps_and_termination_does_not():
  timesteps, values = _unroll(2)

  def actual(v):
    return returns.lambda_returns(timesteps, v, discount=0.9, lambda_=1.0)

  before_termination, before_truncation = 1, 4
  moved = actual(values + 1.0) - actual(values)
  np.testing.assert_allclose(moved[before_termination], 0.0, atol=1e-6)
  np.testing.assert_allclose(moved[before_truncation], 0.9, atol=1e-6)


def test_nothing_passes_from_one_episode_to_the_one_before():
  timesteps, values = _unroll(3)
  other = timesteps.replace(reward=timesteps.reward.at[6:].add(7.0))
  expected = returns.lambda_returns(timesteps, values, discount=0.9, lambda_=0.95)
  actual = returns.lambda_returns(other, values.at[6:].add(7.0), discount=0.9, lambda_=0.95)
  np.testing.assert_array_equal(actual[:5], expected[:5])


def test_no_gradient_flows_through_returns():
  timesteps, values = _unroll(4)
  gradient = jax.grad(lambda v: returns.lambda_returns(timesteps, v, discount=0.9, lambda_=0.95).sum())(values)
  np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_vtrace_of_the_policy_itself_is_lambda_returns(lambda_):
  timesteps, values = _unroll(3)
  expected = returns.lambda_returns(timesteps, values, discount=0.9, lambda_=lambda_)
  actual = returns.vtrace(timesteps, values, jnp.zeros(len(values) - 1), discount=0.9, lambda_=lambda_)
  counts = STEP_TYPE[:-1] != LAST
  np.testing.assert_allclose(actual[counts], expected[counts], atol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_vtrace_equals_rlax_in_each_episode(lambda_):
  """V-trace's targets, and its advantages, which are targets minus values."""
  timesteps, values = _unroll(4)
  log_ratios = jnp.asarray(np.random.default_rng(5).normal(size=len(values) - 1).astype(np.float32))
  actual = returns.vtrace(timesteps, values, log_ratios, discount=0.9, lambda_=lambda_)
  for first, last in ((0, 2), (3, 5), (6, 8)):
    ours, theirs = slice(first, last), slice(first + 1, last + 1)
    steps = (timesteps.reward[theirs], 0.9 * timesteps.discount[theirs], jnp.exp(log_ratios[ours]))
    with jax.numpy_dtype_promotion("standard"):
      result = rlax.vtrace_td_error_and_advantage(values[ours], values[theirs], *steps, lambda_)
    np.testing.assert_allclose(actual[ours] - values[ours], result.errors, atol=1e-5)
    np.testing.assert_allclose(actual[ours] - values[ours], result.pg_advantage, atol=1e-5)
