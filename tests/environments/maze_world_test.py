"""The maze as a world: episodes, rewards, starts, observations, and dm_env's own conformance tests."""

import dataclasses
import json

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils

from environments import batch, core, dm_env_adapter, registry
from environments.maze import motion, places, tasks, things
from environments.maze import world as world_lib

_STATE = ("velocity", "last_reward", "last_action")
FORWARD = 2


@pytest.fixture(scope="module")
def small():
  return registry.make("maze/static_small")


@pytest.fixture(scope="module")
def hall_path(tmp_path_factory):
  """Start, apple, strawberry, goal: cells 0 to 3 of a straight corridor of five."""
  path = tmp_path_factory.mktemp("layouts") / "hall.txt"
  path.write_text("***********\n*P A S G P*\n***********\n")
  return path


def _play(world, key, actions, observations=_STATE):
  """States and timesteps of one episode: every leaf `[T + 1, ...]` (actions `[T]`)."""

  def shown(state):
    timestep = world.observe(state)
    return timestep.replace(observation={name: timestep.observation[name] for name in observations})

  def step(state, action):
    state = world.step(state, action[None])
    return state, (state, shown(state))

  start = world.reset(key)
  _, later = jax.lax.scan(step, start, jnp.asarray(actions, jnp.int32))
  return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), (start, shown(start)), later)


def _random_actions(seed, num):
  """Each action is held for five steps, so that the agent moves about."""
  return np.random.default_rng(seed).choice(8, -(-num // 5), p=[0.1, 0.1, 0.4, 0.05, 0.05, 0.05, 0.15, 0.1]).repeat(5)


class ConformanceTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """Short episodes, so that the sequence of actions crosses several."""

  def make_object_under_test(self):
    return dm_env_adapter.DmEnv(registry.make("maze/static_small", num_steps=4), seed=0)

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    for _ in range(20):
      yield rng.integers(0, 8, 1).astype(np.int32)


def test_the_registry_knows_the_papers_mazes_and_lengths():
  lengths = {"static_1": 900, "static_2": 2700, "random_goal_1": 900, "random_goal_2": 2700, "i_maze": 900}
  assert {f"maze/{name}" for name in (*lengths, "static_small", "random_goal_small")} <= set(registry.names())
  for name, num_steps in lengths.items():
    assert tasks.TASKS[name].num_steps == num_steps  # 3600 and 10800 frames. Each action holds for 4.
    assert set(_STATE) < set(registry.make(f"maze/{name}").observation_spec())
  assert registry.make("maze/i_maze").privileged_spec()["cell"].maximum == 76


@pytest.mark.parametrize("name", ["maze/random_goal_small", "maze/i_maze"])
def test_observations_meet_their_specs(name):
  world = registry.make(name)
  observe = jax.jit(world.observe)
  state = jax.jit(world.reset)(jax.random.key(3))
  for after in (state, jax.jit(world.step)(state, jnp.array([6], jnp.int32))):
    timestep = observe(after)
    for spec, values in (
      (world.observation_spec(), timestep.observation),
      (world.privileged_spec(), timestep.privileged),
    ):
      assert set(spec) == set(values)
      for key, value in values.items():
        spec[key].validate(np.asarray(value))
  assert core.num_choices(world.action_spec()) == (8,)
  same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype and a.weak_type == b.weak_type,
                      jax.eval_shape(world.reset, jax.random.key(0)),
                      jax.eval_shape(world.step, state, jnp.array([6], jnp.int32)))  # fmt: skip
  assert all(jax.tree.leaves(same))  # Otherwise every jit of a step compiles twice.


def test_the_same_key_gives_the_same_episode_and_a_batch_is_a_loop(small):
  mazes = batch.Batch(small, 3, ("pixels", *_STATE), ("depth", "position", "loop_closure"))
  step, actions = jax.jit(mazes.step), _random_actions(0, 30)

  def play(key):
    state = jax.jit(mazes.init)(key)
    steps = [state.timestep]
    for action in actions:
      state = step(state, jnp.full((3, 1), action, jnp.int32))
      steps.append(state.timestep)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)

  first, again, other = play(jax.random.key(0)), play(jax.random.key(0)), play(jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert (first.observation["pixels"] != other.observation["pixels"]).any()
  assert (first.observation["pixels"][0, 0] != first.observation["pixels"][0, 1]).any()
  one_step, observe = jax.jit(small.step), jax.jit(small.observe)
  one = jax.jit(small.reset)(jax.random.split(jax.random.split(jax.random.key(0), 3)[1])[0])
  for t, action in enumerate([*actions, 0]):
    seen = observe(one)
    np.testing.assert_allclose(seen.privileged["position"], first.privileged["position"][t, 1], atol=1e-5)
    np.testing.assert_allclose(seen.observation["velocity"], first.observation["velocity"][t, 1], atol=1e-3)
    assert (np.asarray(seen.observation["pixels"]) != first.observation["pixels"][t, 1]).mean() < 0.01
    one = one_step(one, jnp.array([action], jnp.int32))


def test_an_episode_is_cut_by_its_length_with_discount_1():
  world = registry.make("maze/static_small", num_steps=7)
  _, shown = jax.jit(lambda: _play(world, jax.random.key(0), np.zeros(7)))()
  assert shown.step_type.tolist() == [core.FIRST] + 6 * [core.MID] + [core.LAST]
  np.testing.assert_array_equal(shown.discount, np.ones(8))
  mazes = batch.Batch(world, 1, _STATE, ("goals_reached",))
  state, step = jax.jit(mazes.init)(jax.random.key(0)), jax.jit(mazes.step)
  for _ in range(8):
    state = step(state, jnp.zeros((1, 1), jnp.int32))
  assert int(state.timestep.step_type[0]) == core.FIRST and int(state.worlds.elapsed[0]) == 0


def test_velocity_adds_up_to_the_path(small):
  """The velocity is turned by the heading and multiplied by 1/15 s, except at new starts, where it is 0."""
  play = jax.jit(lambda key, actions: _play(small, key, actions))
  jumps = 0
  for seed in range(3):
    state, shown = play(jax.random.key(seed), _random_actions(seed, 300))
    position, heading = np.asarray(state.body.position), np.asarray(state.body.heading)
    v = np.asarray(shown.observation["velocity"], np.float64)[1:]
    goals = np.diff(np.asarray(shown.privileged["goals_reached"])) > 0
    jumps += goals.sum()
    forward = np.stack([np.cos(heading[1:]), np.sin(heading[1:])], -1)
    leftward = np.stack([-forward[:, 1], forward[:, 0]], -1)
    way = (v[:, :1] * forward + v[:, 1:2] * leftward) / 15
    np.testing.assert_allclose(way[~goals], np.diff(position, axis=0)[~goals], atol=2e-5)
    turned = np.angle(np.exp(1j * np.diff(heading)))
    np.testing.assert_allclose(v[~goals, 5] / 15, turned[~goals], atol=2e-5)
    assert not v[goals].any() and not v[:, 2:5].any()
    assert np.abs(v[:, 0]).max() > 3.0 and np.abs(v[:, 1]).max() > 1.0
  assert jumps > 0


def _body(x, heading=0.0):
  return motion.Body(position=jnp.float32([x, 0.5]), heading=jnp.float32(heading), velocity=jnp.float32([3.2, 0.0]))


@pytest.mark.parametrize("returns", [True, False])
def test_fruit_and_goal_pay_once_and_the_goal_starts_anew(hall_path, returns):
  """East along the corridor at full speed: 1 for the apple, 2 for the strawberry, 10 for the goal, nothing between."""
  world = registry.make("maze/static_1", layout=hall_path, fruit_returns=returns, num_steps=60)
  np.testing.assert_array_equal(world.fruit_kinds, [things.APPLE, things.STRAWBERRY])
  step, observe = jax.jit(world.step), jax.jit(world.observe)
  state = jax.jit(world.reset)(jax.random.key(0))
  np.testing.assert_array_equal(observe(state).observation["last_action"], np.zeros(8))
  state, rewards, left = state.replace(body=_body(0.5)), [], []
  while not rewards or rewards[-1] != 10.0:
    state = step(state, jnp.array([FORWARD], jnp.int32))
    seen = observe(state)
    rewards.append(float(seen.reward))
    left.append(np.asarray(seen.privileged["fruit"])[:, 2].tolist())
    assert seen.observation["last_reward"].tolist() == rewards[-1:]
    assert seen.observation["last_action"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert int(seen.privileged["goals_reached"]) == (rewards[-1] == 10.0)
  assert [r for r in rewards if r] == [1.0, 2.0, 10.0]
  times = [n + 1 for n, r in enumerate(rewards) if r]  # Touched 0.4 before its middle, at 3.2 / 15 cells a step.
  np.testing.assert_array_equal(times, np.ceil((np.array([1.0, 2.0, 3.0]) - 0.4) / (3.2 / 15)))
  assert left[times[0] - 2] == [1, 1] and left[times[0] - 1] == [0, 1] and left[times[1] - 1] == [0, 0]
  assert left[-1] == ([1, 1] if returns else [0, 0])
  assert float(seen.privileged["position"][0]) in (0.5, 4.5)  # One of the two starts, at rest.
  np.testing.assert_array_equal(state.body.velocity, [0.0, 0.0])
  np.testing.assert_allclose(seen.privileged["goal_position"], [3.5, 0.5])


def test_new_starts_differ_and_fruit_is_back_in_the_next_episode(hall_path):
  world = registry.make("maze/static_1", layout=hall_path, fruit_returns=False, num_steps=60)
  step = jax.jit(world.step)
  state, starts = jax.jit(world.reset)(jax.random.key(0)), set()
  for _ in range(8):
    state = step(state.replace(body=_body(3.3)), jnp.array([FORWARD], jnp.int32))
    starts.add((float(state.body.position[0]), round(float(state.body.heading), 3)))
  assert len(starts) == 8 and {x for x, _ in starts} == {0.5, 4.5} and int(state.num_goals) == 8
  assert jax.jit(world.reset)(jax.random.key(1)).is_left.all()


def test_static_mazes_keep_goal_and_fruit_and_random_ones_draw_them():
  keys = jax.random.split(jax.random.key(0), 400)
  for name, is_random in (("static_1", False), ("random_goal_1", True), ("i_maze", False)):
    world = registry.make(f"maze/{name}")
    states = jax.jit(jax.vmap(world.reset))(keys)
    goals = places.find(world.layout, world.task).goals[np.asarray(states.goal)]
    starts = np.floor(np.asarray(states.body.position)).astype(int) @ [1, world.layout.shape[1]]
    fruit = np.asarray(states.fruit)
    if is_random:
      assert len(set(goals)) > 45 and len({tuple(row) for row in fruit}) > 390
      assert fruit.shape[1] == 5 and all(len(set(row)) == 5 for row in fruit)  # A tenth of 49, none twice,
      assert not (fruit == goals[:, None]).any()  # none under the goal.
      assert set(np.unique(fruit)) == set(range(50))
      assert sorted(world.fruit_kinds) == [things.APPLE] * 4 + [things.STRAWBERRY]
      steps = np.stack([world.layout.steps_from(c) for c in range(50)])
      assert steps[goals, starts].min() == 5  # More than 4 cells to walk.
    else:
      assert set(goals) == set(world.layout.goals) and len(np.unique(fruit, axis=0)) == 1
      np.testing.assert_array_equal(fruit[0], [*world.layout.apples, *world.layout.strawberries])
      assert set(starts) <= set(world.layout.starts) and len(set(starts)) > 0.9 * len(world.layout.starts)
    headings = np.asarray(states.body.heading)
    assert np.histogram(headings, 8, (-np.pi, np.pi))[0].min() > 25
    assert len(np.unique(np.asarray(states.body.position), axis=0)) > 2


def test_ten_thousand_random_actions_stay_on_open_ground():
  world = registry.make("maze/random_goal_1")
  step = jax.jit(jax.vmap(world.step))
  states = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.key(0), 20))
  cells = set()
  for actions in np.random.default_rng(0).choice(8, (50, 20), p=[0.1, 0.1, 0.4, 0.05, 0.05, 0.05, 0.15, 0.1]):
    for _ in range(10):
      states = step(states, jnp.asarray(actions[:, None], jnp.int32))
      position = np.asarray(states.body.position, np.float64) + 0.05
      line = np.floor(position)
      square = (2 * line + (position - line >= 0.1)).astype(int)
      assert not world.layout.is_wall[square[:, 1], square[:, 0]].any()
    cells |= {tuple(cell) for cell in np.floor(position)}
  assert len(cells) > 25


def test_observations_that_no_one_reads_are_not_computed(small):
  """Neither rays nor pixels nor the pass over the path are left in a program that returns none of them."""
  states = jax.eval_shape(jax.vmap(small.reset), jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4)))

  def cost(read):
    compiled = jax.jit(jax.vmap(lambda s: read(small.observe(s)))).lower(states).compile()
    return compiled.cost_analysis()["flops"]

  pixels = cost(lambda t: t.observation["pixels"])
  assert cost(lambda t: t.observation["velocity"]) < 1e-3 * pixels
  assert cost(lambda t: (t.reward, t.step_type, t.discount)) < 1e-3 * pixels
  assert cost(lambda t: t.privileged["loop_closure"]) < 0.1 * pixels


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"num_steps": 0}, "num_steps=0"),
    ({"style": "style_9"}, "style_9"),
    ({"loop_near": 3.0}, "loop_near=3.0"),
    ({"loop_far": np.inf}, "loop_far=inf, which must be finite"),
    ({"depth_near": 0.2}, "depth_near=0.2"),
    ({"layout": "random_goal_1"}, "has no goal"),
    ({"maze": 1}, "maze"),
  ],
)
def test_options_that_cannot_be_are_refused_by_name(options, words):
  with pytest.raises(ValueError, match=words):
    registry.make("maze/static_1", **options)


def test_a_goal_that_the_task_has_not_is_refused():
  with pytest.raises(ValueError, match="static_1.txt has a goal, and the task none; take G out of it"):
    registry.make("maze/seek_track_1", layout="static_1")
  with pytest.raises(ValueError, match="fruit_returns=False: the task has no goal"):
    registry.make("maze/seek_track_1", fruit_returns=False)


def test_a_random_goal_that_no_start_is_far_from_is_refused(hall_path):
  with pytest.raises(ValueError, match="min_start_steps=5"):
    registry.make("maze/random_goal_1", layout=hall_path)


def test_a_maze_with_marked_goals_can_be_played_with_a_random_one():
  world = registry.make("maze/random_goal_small", layout="static_1")
  goals = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.key(0), 200)).goal
  assert len(np.unique(goals)) > 40


def test_shares_of_fruit_that_cannot_be_are_refused():
  for wrong in ({"fruit_share": 1.5}, {"strawberry_share": -0.1}):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
      world_lib.Maze(dataclasses.replace(tasks.TASKS["random_goal_1"], **wrong))


def test_more_fruit_than_can_be_told_apart_is_refused(tmp_path):
  wall, grass, trees = "*" * 83 + "\n", "*" + " " * 81 + "*\n", "*" + "A " * 40 + "A*\n"
  (tmp_path / "orchard.txt").write_text(wall + "*P G" + trees[4:] + (grass + trees) * 25 + wall)  # 39 + 25 * 41 trees.
  with pytest.raises(ValueError, match="orchard.txt: 1064.*1023"):
    registry.make("maze/static_1", layout=tmp_path / "orchard.txt")


def test_a_layout_file_replaces_the_tasks_own(hall_path):
  world = registry.make("maze/static_2", layout=str(hall_path))
  assert world.layout.shape == (1, 5) and world.task.num_steps == 2700
  env = dm_env_adapter.DmEnv(world, seed=0, observations=("pixels",))
  assert env.reset().step_type == dm_env.StepType.FIRST


def test_options_are_resolved_to_what_stands_in_the_file(hall_path, tmp_path):
  """A run that keeps them finds its maze again if the file has changed, is gone, or is read from another folder."""
  (tmp_path / "mine.txt").write_text(hall_path.read_text())
  options = {"layout": str(tmp_path / "mine.txt"), "num_steps": 7}
  before = registry.make("maze/static_1", **options)
  kept = json.loads(json.dumps(registry.resolve("maze/static_1", options)))
  assert kept == {"layout": before.layout.text, "num_steps": 7} and options["layout"].endswith("mine.txt")
  (tmp_path / "mine.txt").write_text("*****\n*P G*\n*****\n")
  assert registry.make("maze/static_1", **kept) == before
  assert registry.make("maze/static_1", **options) != before
  assert registry.resolve("maze/static_1", options) != kept
  assert registry.resolve("maze/static_1", kept) == kept


def test_options_without_files_are_their_own_and_a_file_that_is_not_there_is_named():
  for name, options in {
    "maze/static_1": {"layout": "static_2", "num_steps": 7},
    "maze/i_maze": {"layout": None},
    "pong/pong": {"num_actions": 3},
    "jaco/reach/fixed": {},
  }.items():
    assert registry.resolve(name, options) == options
  for function in (registry.resolve, lambda name, options: registry.make(name, **options)):
    with pytest.raises(FileNotFoundError, match="nowhere.txt"):
      function("maze/static_1", {"layout": "nowhere.txt"})
