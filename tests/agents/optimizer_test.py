import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents import optimizer


def _run(transformation, gradients):
  params = jnp.array([1.0, -2.0, 0.5], jnp.float32)
  state, path = transformation.init(params), []
  for gradient in gradients:
    step, state = transformation.update(jnp.asarray(gradient, jnp.float32), state, params)
    params = optax.apply_updates(params, step)
    path.append(np.asarray(params))
  return np.array(path)


GRADIENTS = np.random.default_rng(0).normal(size=(6, 3))


def test_rmsprop_is_a3cs():
  """Compared with papers.md 4, written out: g <- a g + (1-a) d^2; theta <- theta - lr d / sqrt(g + eps)."""
  made = optimizer.make(
    "rmsprop", learning_rate=0.1, anneal_updates=0, max_gradient_norm=np.inf, decay=0.9, epsilon=0.1
  )
  theta, g, expected = np.array([1.0, -2.0, 0.5]), np.zeros(3), []
  for d in GRADIENTS:
    g = 0.9 * g + 0.1 * d**2
    theta = theta - 0.1 * d / np.sqrt(g + 0.1)
    expected.append(theta)
  np.testing.assert_allclose(_run(made, GRADIENTS), expected, rtol=1e-5)


def test_adam_by_hand():
  made = optimizer.make("adam", learning_rate=0.1, anneal_updates=0, max_gradient_norm=np.inf, decay=0.99, epsilon=1e-3)
  theta, m, v, expected = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3), []
  for i, d in enumerate(GRADIENTS, start=1):
    m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d**2
    theta = theta - 0.1 * (m / (1 - 0.9**i)) / (np.sqrt(v / (1 - 0.99**i)) + 1e-3)
    expected.append(theta)
  np.testing.assert_allclose(_run(made, GRADIENTS), expected, rtol=1e-4)


def test_long_gradients_are_shortened_and_short_ones_kept():
  settings = dict(learning_rate=0.1, anneal_updates=0, decay=0.9, epsilon=0.1)
  long, short = np.array([3.0, 4.0, 0.0]), np.array([0.0, 0.3, 0.4])
  clipped = optimizer.make("rmsprop", max_gradient_norm=1.0, **settings)
  free = optimizer.make("rmsprop", max_gradient_norm=np.inf, **settings)
  np.testing.assert_allclose(_run(clipped, [long, short]), _run(free, [long / 5, short]), rtol=1e-5)


def test_the_learning_rate_falls_linearly_to_zero():
  # With decay 0 and epsilon far above the gradient, a step is lr * d / sqrt(d^2 + eps). Only lr changes.
  settings = dict(max_gradient_norm=np.inf, decay=0.0, epsilon=100.0)
  path = _run(optimizer.make("rmsprop", learning_rate=0.8, anneal_updates=4, **settings), np.ones((6, 3)))
  steps = -np.diff(path[:, 0], prepend=1.0) * np.sqrt(101.0)
  np.testing.assert_allclose(steps, [0.8, 0.6, 0.4, 0.2, 0.0, 0.0], atol=1e-5)


def test_an_unknown_optimizer_is_refused_by_name():
  with pytest.raises(ValueError, match="'sgd'.*rmsprop"):
    optimizer.make("sgd", learning_rate=0.1, anneal_updates=0, max_gradient_norm=1.0, decay=0.9, epsilon=0.1)


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_kernels_of_many_inputs_learn_slower(name):
  """A kernel of n inputs learns at the rate times fan_in / n, smaller kernels and biases at the rate itself."""
  settings = dict(anneal_updates=0, max_gradient_norm=np.inf, decay=0.9, epsilon=1e-3)
  shapes = {"conv": (3, 3, 8, 2), "dense": (4, 2), "bias": (2,)}
  rng = np.random.default_rng(0)
  params = {key: jnp.asarray(rng.normal(size=shape), jnp.float32) for key, shape in shapes.items()}
  gradient = {key: jnp.asarray(rng.normal(size=shape), jnp.float32) for key, shape in shapes.items()}
  plain = optimizer.make(name, learning_rate=0.1, **settings)
  shared = optimizer.make(name, learning_rate=0.1, fan_in=6.0, **settings)
  steps = [each.update(gradient, each.init(params), params)[0] for each in (plain, shared)]
  for key, share in {"conv": 6 / 72, "dense": 1.0, "bias": 1.0}.items():
    np.testing.assert_allclose(steps[1][key], share * np.asarray(steps[0][key]), rtol=1e-6)
