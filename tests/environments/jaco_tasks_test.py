"""Reward, endings and starts of the tasks, on poses set by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import core
from environments.jaco import constants, contact, kinematics, tasks

_HOME = jnp.float32(constants.HOME_RAD)
_evaluate = jax.jit(tasks.evaluate, static_argnums=0)


def _with(joint: int, angle: float) -> jax.Array:
  return _HOME.at[joint].set(angle)


def _at_palm(offset: list[float]) -> jax.Array:
  return kinematics.palm(kinematics.forward(_HOME)) + jnp.float32(offset)


@pytest.mark.parametrize(
  ("offset", "reward"),
  [([0, 0, 0], 1.0), ([0, 0.099, 0], 1.0), ([0, 0, -0.101], 0.0), ([0.06, 0.06, 0], 1.0), ([0.08, 0.08, 0], 0.0)],
)
def test_a_step_pays_within_10_cm(offset, reward):
  evaluation = _evaluate(tasks.REACH_FIXED, _HOME, _at_palm(offset), jnp.int32(7))
  assert float(evaluation.reward) == reward
  assert bool(evaluation.is_reached) == bool(reward)
  assert int(evaluation.step_type) == core.MID and float(evaluation.discount) == 1.0


def test_the_first_step_pays_nothing_and_never_ends():
  evaluation = _evaluate(tasks.REACH_FIXED, _with(1, 4.3), _at_palm([0, 0, 0]), jnp.int32(0))
  assert int(evaluation.step_type) == core.FIRST
  assert float(evaluation.reward) == 0.0 and float(evaluation.discount) == 1.0


def test_the_time_limit_truncates():
  evaluation = _evaluate(tasks.REACH_FIXED, _HOME, _at_palm([0, 0, 0]), jnp.int32(50))
  assert int(evaluation.step_type) == core.LAST and int(evaluation.ending) == tasks.TIME_LIMIT
  assert float(evaluation.reward) == 1.0 and float(evaluation.discount) == 1.0
  assert int(_evaluate(tasks.REACH_FIXED, _HOME, _at_palm([0, 0, 0]), jnp.int32(49)).step_type) == core.MID


# Home with one joint turned: the forearm folded onto the upper arm, the upper arm bent down to the table, the elbow
# turned to 0.03 rad from its upper limit of 5.9516.
@pytest.mark.parametrize(
  ("joint", "angle", "ending"),
  [(2, 0.45, tasks.SELF_CONTACT), (1, 4.3, tasks.TABLE_CONTACT), (2, 5.92, tasks.JOINT_LIMIT), (1, 4.1, tasks.RUNNING)],
)
def test_faults_terminate(joint, angle, ending):
  evaluation = _evaluate(tasks.REACH_RANDOM, _with(joint, angle), jnp.zeros(3), jnp.int32(3))
  assert int(evaluation.ending) == ending
  is_over = ending != tasks.RUNNING
  assert int(evaluation.step_type) == (core.LAST if is_over else core.MID)
  assert float(evaluation.discount) == (0.0 if is_over else 1.0)


def test_divergence_terminates():
  evaluation = _evaluate(tasks.REACH_FIXED, _HOME, jnp.zeros(3), jnp.int32(3), jnp.bool_(True))
  assert int(evaluation.ending) == tasks.DIVERGED and float(evaluation.discount) == 0.0


@pytest.mark.parametrize("joint", [0, 3, 4, 5])
def test_free_joints_turn_on(joint):
  """A full turn is the same pose: no ending, no reward differs."""
  turned = _evaluate(
    tasks.REACH_FIXED, _with(joint, float(_HOME[joint]) + 2 * np.pi), _at_palm([0, 0, 0]), jnp.int32(3)
  )
  assert int(turned.ending) == tasks.RUNNING and float(turned.reward) == 1.0


def test_starts_are_valid_near_home_and_spread():
  keys = jax.random.split(jax.random.key(0), 512)
  starts = jax.jit(jax.vmap(lambda key: tasks.draw_start(tasks.REACH_RANDOM, key)))(keys)
  target = np.asarray(starts.target)
  endings = jax.jit(jax.vmap(lambda q: tasks.find_ending(q, kinematics.forward(q))))(starts.qpos)
  assert (endings == tasks.RUNNING).all()
  away = np.abs(starts.qpos - _HOME[None])
  assert away.max() <= tasks.REACH_RANDOM.max_start_spread_rad + 1e-6
  assert away[:, :6].max() > 0.8 * tasks.REACH_RANDOM.max_start_spread_rad
  low, high = np.array(tasks.REACH_RANDOM.target_low_m), np.array(tasks.REACH_RANDOM.target_high_m)
  assert ((target >= low - 1e-6) & (target <= high + 1e-6)).all()
  np.testing.assert_allclose(np.ptp(target[:, :2], axis=0), [0.3, 0.4], rtol=0.05)  # 30 cm x 40 cm
  np.testing.assert_allclose(np.std(target[:, :2], axis=0), np.array([0.3, 0.4]) / np.sqrt(12), rtol=0.1)


def test_segment_distance_is_the_least_over_points():
  rng = np.random.default_rng(0)
  ends = rng.normal(size=(4, 50, 3)).astype(np.float32)
  ends[1, :5] = ends[0, :5]  # Points.
  ends[3, 3:8] = ends[2, 3:8] + (ends[1, 3:8] - ends[0, 3:8])  # Parallel ones.
  s = np.linspace(0, 1, 201)[:, None]
  expected = []
  for a0, a1, b0, b1 in ends.transpose(1, 0, 2):
    a, b = a0 + s * (a1 - a0), b0 + s * (b1 - b0)
    expected.append(np.linalg.norm(a[:, None] - b[None], axis=-1).min())
  np.testing.assert_allclose(contact.segment_distance(*map(jnp.asarray, ends)), expected, atol=2e-2)


def test_clearances_are_those_of_the_geoms():
  """Heights by hand from poses; gaps against all pairs of sampled points on the segments."""
  poses = jax.jit(kinematics.forward)(_with(2, 1.0))
  start, end = (np.asarray(x) for x in contact._ends(poses))
  radius, body = contact._LINKS.radius, contact._LINKS.body
  lowest = min(min(a[2], b[2]) - r for a, b, r, k in zip(start, end, radius, body, strict=True) if k >= 2)
  np.testing.assert_allclose(contact.table_clearance(poses), lowest, atol=1e-6)
  s = np.linspace(0, 1, 101)[:, None]
  gap = np.inf
  for i, j in itertools.combinations(range(len(body)), 2):
    if min(body[j], 6) - min(body[i], 6) >= 3:
      a, b = start[i] + s * (end[i] - start[i]), start[j] + s * (end[j] - start[j])
      gap = min(gap, np.linalg.norm(a[:, None] - b[None], axis=-1).min() - radius[i] - radius[j])
  np.testing.assert_allclose(contact.self_clearance(poses), gap, atol=2e-3)
