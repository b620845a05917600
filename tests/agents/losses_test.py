import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from agents import distributions, losses


def _step(seed=0, num_steps=12):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(rng.normal(size=(num_steps, 1, 5)), jnp.float32)
  actions = jnp.asarray(rng.integers(0, 5, size=(num_steps, 1)), jnp.int32)
  advantages = jnp.asarray(rng.normal(size=num_steps), jnp.float32)
  weights = jnp.asarray(rng.integers(0, 2, size=num_steps), jnp.float32)
  return logits, actions, advantages, weights


def test_policy_loss_and_gradient_equal_rlax():
  logits, actions, advantages, weights = _step()
  scale = len(weights) / weights.sum()  # rlax divides by all steps, ours by those that count.

  def expected(x):
    return scale * rlax.policy_gradient_loss(x[:, 0], actions[:, 0], advantages, weights)

  def actual(x):
    return losses.policy_loss(x, actions, advantages, weights)

  np.testing.assert_allclose(actual(logits), expected(logits), rtol=1e-5)
  np.testing.assert_allclose(jax.grad(actual)(logits), jax.grad(expected)(logits), atol=1e-6)


def test_a_ratio_beyond_all_bounds_has_no_gradient_where_it_is_cut_off():
  log_ratios, advantages = jnp.array([89.0, 50.0, 0.0]), jnp.array([1.0, 1.0, 1.0])
  gradient = jax.grad(losses.clipped_policy_loss)(log_ratios, advantages, jnp.ones(3), clip_ratio=0.2)
  np.testing.assert_allclose(gradient, [0.0, 0.0, -1 / 3])


def test_standardised_advantages_equal_numpy_and_are_zeros_where_all_are_alike():
  _, _, advantages, weights = _step()
  counted = np.asarray(advantages)[np.asarray(weights) > 0]
  expected = (np.asarray(advantages) - counted.mean()) / counted.std()
  np.testing.assert_allclose(losses.standardised(advantages, weights), expected, rtol=1e-4)
  for value in (0.1, 0.3, 0.001, 5.7):  # Their mean is rounded.
    np.testing.assert_array_equal(losses.standardised(jnp.full((20, 16), value), jnp.ones((20, 16))), 0.0)


def test_clipped_policy_loss_and_gradient_equal_rlax():
  _, _, advantages, weights = _step()
  log_ratios = jnp.asarray(np.random.default_rng(3).normal(scale=0.3, size=len(weights)), jnp.float32)
  scale = len(weights) / weights.sum()

  def expected(x):
    return scale * rlax.clipped_surrogate_pg_loss(jnp.exp(x), weights * advantages, 0.2)

  def actual(x):
    return losses.clipped_policy_loss(x, advantages, weights, clip_ratio=0.2)

  np.testing.assert_allclose(actual(log_ratios), expected(log_ratios), rtol=1e-5)
  gradient = jax.grad(actual)(log_ratios)
  np.testing.assert_allclose(gradient, jax.grad(expected)(log_ratios), atol=1e-6)
  assert 0 < np.count_nonzero(gradient) < np.count_nonzero(weights)  # Some are clipped.


def test_a_step_of_no_weight_has_no_gradient_however_far_its_policy_has_moved():
  gradient = jax.grad(losses.clipped_policy_loss)(
    jnp.float32([0.0, 100.0]), jnp.float32([1.0, -1.0]), jnp.float32([1.0, 0.0]), clip_ratio=0.2
  )
  np.testing.assert_array_equal(gradient, [-1.0, 0.0])  # exp(100) is infinite.


def test_a_policy_that_has_not_moved_has_the_policy_gradient():
  logits, actions, advantages, weights = _step()
  behaviour = distributions.log_prob(logits, actions)

  def clipped(x):
    return losses.clipped_policy_loss(
      distributions.log_prob(x, actions) - behaviour, advantages, weights, clip_ratio=0.1
    )

  expected = jax.grad(losses.policy_loss)(logits, actions, advantages, weights)
  np.testing.assert_allclose(jax.grad(clipped)(logits), expected, atol=1e-6)


def test_entropy_and_gradient_equal_rlax():
  logits, _, _, weights = _step()
  scale = len(weights) / weights.sum()

  def expected(x):
    return -scale * rlax.entropy_loss(x[:, 0], weights)

  np.testing.assert_allclose(losses.mean_entropy(logits, weights), expected(logits), rtol=1e-5)
  np.testing.assert_allclose(jax.grad(losses.mean_entropy)(logits, weights), jax.grad(expected)(logits), atol=1e-6)


def test_divergence_from_a_teacher_and_gradient_equal_rlax():
  logits, _, _, weights = _step()
  teacher = _step(seed=1)[0]
  scale = len(weights) / weights.sum()

  def expected(x):
    return scale * jnp.mean(weights * rlax.categorical_kl_divergence(teacher[:, 0], x[:, 0]))

  def actual(x):
    return losses.divergence(teacher, x, weights)

  np.testing.assert_allclose(actual(logits), expected(logits), rtol=1e-5)
  np.testing.assert_allclose(jax.grad(actual)(logits), jax.grad(expected)(logits), atol=1e-6)
  np.testing.assert_array_equal(jax.grad(losses.divergence)(teacher, logits, weights), 0.0)
  assert float(losses.divergence(teacher, teacher, weights)) == 0.0


def test_value_loss_by_hand():
  values, targets = jnp.array([1.0, 2.0, 5.0]), jnp.array([2.0, 0.0, 9.0])
  weights = jnp.array([1.0, 1.0, 0.0])
  assert float(losses.value_loss(values, targets, weights)) == pytest.approx(0.5 * (1 + 4) / 2)
  # d/dv 1/2 (G - v)^2 = v - G, over the two that count.
  np.testing.assert_allclose(jax.grad(losses.value_loss)(values, targets, weights), [-0.5, 1.0, 0.0])


def test_no_gradient_flows_through_advantages_and_returns():
  logits, actions, advantages, weights = _step()
  np.testing.assert_array_equal(jax.grad(losses.policy_loss, 2)(logits, actions, advantages, weights), 0.0)
  np.testing.assert_array_equal(jax.grad(losses.value_loss, 1)(advantages, advantages + 1.0, weights), 0.0)


def test_an_unroll_without_a_transition_that_counts_is_finite():
  assert float(losses.weighted_mean(jnp.ones(3), jnp.zeros(3))) == 0.0
