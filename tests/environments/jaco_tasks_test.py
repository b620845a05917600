"""Reward, endings and starts of the tasks, on poses set by hand, and the paths of targets."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import core
from environments.jaco import constants, contact, kinematics, tasks

_HOME = jnp.float32(constants.HOME_RAD)
_FIXED, _RANDOM = tasks.TASKS["reach/fixed"], tasks.TASKS["reach/random"]
_MOVING = ("reach/moving", "conveyor", "catch", "catch_the_bee")
_NUM_PATHS, _DT_S = 256, 0.1
_evaluate = jax.jit(tasks.evaluate, static_argnums=0)
_path = jax.jit(tasks.path, static_argnums=0)
_draw_targets = jax.jit(jax.vmap(lambda task, key: tasks.draw_start(task, key).target, (None, 0)), static_argnums=0)
_go = jax.jit(jax.vmap(tasks.path, (None, 0)), static_argnums=0)


def _with(joint: int, angle: float) -> jax.Array:
  return _HOME.at[joint].set(angle)


def _at_palm(offset: list[float]) -> jax.Array:
  return kinematics.palm(kinematics.forward(_HOME)) + jnp.float32(offset)


@pytest.mark.parametrize(
  ("offset", "reward"),
  [([0, 0, 0], 1.0), ([0, 0.099, 0], 1.0), ([0, 0, -0.101], 0.0), ([0.06, 0.06, 0], 1.0), ([0.08, 0.08, 0], 0.0)],
)
def test_a_step_pays_within_10_cm(offset, reward):
  evaluation = _evaluate(_FIXED, _HOME, _at_palm(offset), jnp.int32(7))
  assert float(evaluation.reward) == reward
  assert bool(evaluation.is_reached) == bool(reward)
  assert int(evaluation.step_type) == core.MID and float(evaluation.discount) == 1.0


def test_the_first_step_pays_nothing_and_never_ends():
  evaluation = _evaluate(_FIXED, _with(1, 4.3), _at_palm([0, 0, 0]), jnp.int32(0))
  assert int(evaluation.step_type) == core.FIRST
  assert float(evaluation.reward) == 0.0 and float(evaluation.discount) == 1.0


def test_the_time_limit_truncates():
  evaluation = _evaluate(_FIXED, _HOME, _at_palm([0, 0, 0]), jnp.int32(50))
  assert int(evaluation.step_type) == core.LAST and int(evaluation.ending) == tasks.TIME_LIMIT
  assert float(evaluation.reward) == 1.0 and float(evaluation.discount) == 1.0
  assert int(_evaluate(_FIXED, _HOME, _at_palm([0, 0, 0]), jnp.int32(49)).step_type) == core.MID


# Home with one joint turned: the forearm folded onto the upper arm, the upper arm bent down to the table, the elbow
# turned to 0.03 rad from its upper limit of 5.9516.
@pytest.mark.parametrize(
  ("joint", "angle", "ending"),
  [(2, 0.45, tasks.SELF_CONTACT), (1, 4.3, tasks.TABLE_CONTACT), (2, 5.92, tasks.JOINT_LIMIT), (1, 4.1, tasks.RUNNING)],
)
def test_faults_terminate(joint, angle, ending):
  evaluation = _evaluate(_RANDOM, _with(joint, angle), jnp.zeros(3), jnp.int32(3))
  assert int(evaluation.ending) == ending
  is_over = ending != tasks.RUNNING
  assert int(evaluation.step_type) == (core.LAST if is_over else core.MID)
  assert float(evaluation.discount) == (0.0 if is_over else 1.0)


def test_divergence_terminates():
  evaluation = _evaluate(_FIXED, _HOME, jnp.zeros(3), jnp.int32(3), jnp.bool_(True))
  assert int(evaluation.ending) == tasks.DIVERGED and float(evaluation.discount) == 0.0


@pytest.mark.parametrize("joint", [0, 3, 4, 5])
def test_free_joints_turn_on(joint):
  """A full turn is the same pose: no ending, no reward differs."""
  turned = _evaluate(_FIXED, _with(joint, float(_HOME[joint]) + 2 * np.pi), _at_palm([0, 0, 0]), jnp.int32(3))
  assert int(turned.ending) == tasks.RUNNING and float(turned.reward) == 1.0


def test_starts_are_valid_near_home_and_spread():
  keys = jax.random.split(jax.random.key(0), 512)
  starts = jax.jit(jax.vmap(lambda key: tasks.draw_start(_RANDOM, key)))(keys)
  target = np.asarray(starts.target.position)
  endings = jax.jit(jax.vmap(lambda q: tasks.find_ending(q, kinematics.forward(q))))(starts.qpos)
  assert (endings == tasks.RUNNING).all()
  away = np.abs(starts.qpos - _HOME[None])
  assert away.max() <= _RANDOM.max_start_spread_rad + 1e-6
  assert away[:, :6].max() > 0.8 * _RANDOM.max_start_spread_rad
  low, high = np.array(_RANDOM.target_low_m), np.array(_RANDOM.target_high_m)
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
  """Heights are computed by hand from poses, gaps from all pairs of sampled points on the segments."""
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


@functools.cache
def _paths(name: str, seed: int = 0) -> tuple[tasks.Target, np.ndarray]:
  """Targets at the start of episodes of a task, and their paths `[N, T + 1, 3]`."""
  starts = _draw_targets(tasks.TASKS[name], jax.random.split(jax.random.key(seed), _NUM_PATHS))
  return starts, np.asarray(_go(tasks.TASKS[name], starts))


def _velocities(name: str) -> np.ndarray:
  """Target velocities in each step, m/s `[N, T, 3]`. A step in which a target bounces shows less than its speed."""
  return np.diff(_paths(name)[1], axis=1) / _DT_S


def _bounces(name: str) -> np.ndarray:
  """Steps `[N, T]` that begin or end within a step of a face. Nothing is expected of these."""
  task, path = tasks.TASKS[name], _paths(name)[1]
  low, high = np.array(task.target_low_m), np.array(task.target_high_m)
  near = (np.minimum(path - low, high - path) < task.target_speed_m_s[1] * _DT_S)[..., low < high].any(-1)
  return near[:, 1:] | near[:, :-1]


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_target_stays_in_its_box_and_fills_it(name):
  starts, path = _paths(name)
  assert path.shape == (_NUM_PATHS, 51, 3)
  np.testing.assert_array_equal(path[:, 0], starts.position)
  low, high = (np.array(corner) for corner in (tasks.TASKS[name].target_low_m, tasks.TASKS[name].target_high_m))
  assert ((path >= low - 1e-6) & (path <= high + 1e-6)).all()
  np.testing.assert_allclose(np.ptp(path, axis=(0, 1)), high - low, rtol=0.05, atol=1e-6)
  moved = np.ptp(path, axis=1).max(-1)
  assert (moved > 0.05).all() if name in _MOVING else (moved == 0.0).all()


@pytest.mark.parametrize("name", _MOVING)
def test_a_target_keeps_the_speed_that_was_drawn(name):
  drawn = np.linalg.norm(_paths(name)[0].velocity, axis=-1)
  least, most = tasks.TASKS[name].target_speed_m_s
  assert drawn.min() >= least - 1e-6 and drawn.max() <= most + 1e-6
  np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.75]), np.quantile([least, most], [0.25, 0.75]), rtol=0.1)
  speed, is_clear = np.linalg.norm(_velocities(name), axis=-1), ~_bounces(name)
  assert is_clear.sum() > 2000
  np.testing.assert_allclose(speed[is_clear], np.broadcast_to(drawn[:, None], speed.shape)[is_clear], rtol=1e-3)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_same_key_gives_the_same_path_and_another_key_another(name):
  starts, path = _paths(name)
  again = _draw_targets(tasks.TASKS[name], jax.random.split(jax.random.key(0), _NUM_PATHS))
  np.testing.assert_array_equal(again.position, starts.position)
  np.testing.assert_array_equal(again.velocity, starts.velocity)
  one = jax.tree.map(lambda leaf: leaf[1], starts)
  np.testing.assert_allclose(_path(tasks.TASKS[name], one), path[1], atol=1e-6)
  assert (_paths(name, seed=1)[1] != path).any() or name == "reach/fixed"
  other_turns = _go(tasks.TASKS[name], starts.replace(key=jax.random.split(jax.random.key(9), _NUM_PATHS)))
  is_other = np.abs(other_turns - path).max((1, 2)) > 0.01
  assert is_other.mean() > 0.9 if tasks.TASKS[name].turns_per_s else not is_other.any()


@pytest.mark.parametrize("name", ["reach/moving", "catch"])
def test_a_straight_way_is_folded_at_the_faces(name):
  """For 20 s it equals the closed form, in float64: the free path, folded back into the box like a strip of paper."""
  starts, task = _paths(name)[0], dataclasses.replace(tasks.TASKS[name], num_steps=200)
  path, low, high = _go(task, starts), np.array(task.target_low_m), np.array(task.target_high_m)
  free = np.float64(starts.position)[:, None] + np.arange(201)[:, None] * _DT_S * np.float64(starts.velocity)[:, None]
  size = np.where(high > low, high - low, 1.0)
  np.testing.assert_allclose(path, low + size - np.abs((free - low) % (2 * size) - size), atol=1e-5)


def test_slides_go_every_way_in_the_plane():
  velocity = np.asarray(_paths("reach/moving")[0].velocity)
  assert (velocity[:, 2] == 0.0).all()
  quadrants, counts = np.unique(np.sign(velocity[:, :2]), axis=0, return_counts=True)
  assert len(quadrants) == 4 and counts.min() > _NUM_PATHS / 8
  angle = np.arctan2(velocity[:, 1], velocity[:, 0])
  np.testing.assert_allclose([np.cos(2 * angle).mean(), np.sin(2 * angle).mean()], 0.0, atol=0.15)


def test_the_conveyor_reverses_at_random():
  """One turn a second, half of them reversals: in each step with probability (1 - exp(-0.1)) / 2."""
  velocity, is_clear = _velocities("conveyor"), ~_bounces("conveyor")
  assert (velocity[..., [0, 2]] == 0.0).all()
  is_reversed = (velocity[:, 1:, 1] * velocity[:, :-1, 1] < 0)[is_clear[:, 1:] & is_clear[:, :-1]]
  assert len(is_reversed) > 5000
  np.testing.assert_allclose(is_reversed.mean(), (1 - np.exp(-0.1)) / 2, atol=0.01)  # 0.048; deviation 0.003.


def test_the_bee_turns_twice_a_second_to_anywhere():
  velocity, is_clear = _velocities("catch_the_bee"), ~_bounces("catch_the_bee")
  is_clear = is_clear[:, 1:] & is_clear[:, :-1]
  before, after = velocity[:, :-1][is_clear], velocity[:, 1:][is_clear]
  is_turned = np.linalg.norm(after - before, axis=-1) > 1e-3
  np.testing.assert_allclose(is_turned.mean(), 1 - np.exp(-0.2), atol=0.03)
  lengths = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
  cosine = (np.sum(before * after, -1) / lengths)[is_turned]
  assert len(cosine) > 500
  np.testing.assert_allclose([cosine.mean(), np.square(cosine).mean()], [0.0, 1 / 3], atol=0.06)  # As on a sphere.


def test_a_throw_comes_from_a_side_and_goes_to_the_other():
  starts, path = _paths("catch")
  start, velocity = np.asarray(starts.position), np.asarray(starts.velocity)
  side = np.sign(path[:, 0, 1])
  np.testing.assert_allclose(np.abs(path[:, 0, 1]), 0.35, atol=1e-6)
  assert 0.4 < (side > 0).mean() < 0.6
  assert (np.diff(path[..., 1], axis=1) * -side[:, None] > -1e-6).all()  # It never comes back,
  arrival = start + velocity * (0.7 / np.abs(velocity[:, 1]))[:, None]
  np.testing.assert_allclose(arrival[:, 1], -0.35 * side, atol=1e-5)
  low, high = tasks.TASKS["catch"].target_low_m, tasks.TASKS["catch"].target_high_m
  assert ((arrival >= np.array(low) - 1e-5) & (arrival <= np.array(high) + 1e-5)).all()  # and would arrive in the box.
  assert (np.abs(path[:, -1, 1] - path[:, 0, 1]) > 0.4).all()
