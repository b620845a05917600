"""Loop closure against its definition, written as two nested loops over recorded paths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import loop_closure, registry


def slow_labels(path: np.ndarray, near: float, far: float) -> np.ndarray:
  """l_t = 1 iff some t' < t is near, with some t'' between that is far (papers.md 3.3); `[N, 2]` -> `[N]`."""
  labels = []
  for t in range(len(path)):
    distance = np.linalg.norm(path[:t] - path[t], axis=1)
    labels.append(int(any(distance[a] <= near and (distance[a + 1 :] >= far).any() for a in range(t))))
  return np.array(labels)


def _labels(path: np.ndarray, near: float, far: float) -> np.ndarray:
  padded = jnp.zeros((2, len(path) + 7), jnp.float32).at[:, : len(path)].set(path.T)  # Future steps do not count.
  label = jax.jit(jax.vmap(lambda last: loop_closure.label(padded, last, near=near, far=far)))
  return np.asarray(label(jnp.arange(len(path), dtype=jnp.int32)))


def test_labels_of_a_path_made_by_hand():
  """Out three cells and back: the start is near again after the way of four steps back, but not while going out."""
  path = np.array([0, 1.5, 3, 2.5, 1.5, 0.9, 0.5, 0])[:, None] * np.array([[1.0, 0.0]])
  np.testing.assert_array_equal(_labels(path, 1.0, 2.0), [0, 0, 0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(_labels(path, 1.0, 3.0), [0, 0, 0, 0, 0, 0, 0, 1])  # 3 cells away only from the end.
  np.testing.assert_array_equal(_labels(path, 0.4, 1.0), [0, 0, 0, 0, 1, 0, 0, 1])


@pytest.mark.parametrize(("near", "far"), [(1.0, 2.0), (0.3, 0.6), (0.7, 2.5)])
def test_random_walks_match_the_definition(near, far):
  rng = np.random.default_rng(0)
  path = np.cumsum(rng.normal(0, 0.25, (300, 2)), axis=0).astype(np.float32)
  expected = slow_labels(path, near, far)
  np.testing.assert_array_equal(_labels(path, near, far), expected)
  assert 0.05 < expected.mean() < 0.99


def test_a_recorded_episodes_labels_match_the_definition():
  """An episode of the world itself, new starts after goals included."""
  world = registry.make("maze/static_small", loop_near=0.4, loop_far=1.2)

  def step(state, action):
    state = world.step(state, action)
    seen = world.observe(state).privileged
    return state, (seen["position"], seen["loop_closure"], seen["goals_reached"])

  def play(key):
    start = world.reset(key)
    actions = jax.random.choice(key, jnp.array([2, 2, 2, 6, 7, 0, 1, 3], jnp.int32), (30, 1))
    return start.body.position, jax.lax.scan(step, start, jnp.repeat(actions, 10, axis=0))[1]

  start, (positions, labels, goals) = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(1), 4))
  for n in range(4):
    path = np.concatenate([start[n][None], positions[n]])
    np.testing.assert_array_equal(labels[n], slow_labels(path, 0.4, 1.2)[1:])
  assert 0.05 < np.mean(labels) < 0.95 and np.max(goals) > 0
