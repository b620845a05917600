"""The Jaco world as a batch, as one arm, and as played by the oracle."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from environments import batch, core, registry
from environments.jaco import constants, randomize, tasks, world
from tests.environments import oracle
from tests.environments.loop_closure_test import slow_labels

_STATE = ("proprioception", "target")


@pytest.fixture(scope="module")
def fixed():
  return registry.make("jaco/reach/fixed")


@pytest.fixture(scope="module")
def random_6():
  return registry.make("jaco/reach/random", num_joints=6)


def test_the_same_key_gives_the_same_episode_and_a_loop_the_same_as_a_batch(random_6):
  arms = batch.Batch(random_6, 3, ("pixels", *_STATE), ("depth", "loop_closure", "palm", "ending"))
  step, keys = jax.jit(arms.step), jax.random.split(jax.random.key(0), 3)
  actions = np.random.default_rng(0).integers(0, 3, (4, 3, 6)).astype(np.int32)

  def play():
    state = jax.jit(arms.init)(jax.random.key(0))
    steps = [state.timestep]
    for action in actions:
      state = step(state, jnp.asarray(action))
      steps.append(state.timestep)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)

  first, again = play(), play()
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert (first.observation["pixels"][0, 0] != first.observation["pixels"][0, 1]).any()  # Worlds differ.

  step_one, observe_one = jax.jit(random_6.step), jax.jit(random_6.observe)
  for index in range(3):
    one = jax.jit(random_6.reset)(jax.random.split(keys[index])[0])
    for t in range(5):
      timestep = observe_one(one)
      np.testing.assert_allclose(
        timestep.observation["proprioception"], first.observation["proprioception"][t, index], atol=1e-4
      )
      apart = np.abs(np.asarray(timestep.observation["pixels"], np.int32) - first.observation["pixels"][t, index])
      assert (apart > 3).mean() < 0.01
      np.testing.assert_allclose(timestep.privileged["palm"], first.privileged["palm"][t, index], atol=1e-5)
      if t < 4:
        one = step_one(one, jnp.asarray(actions[t, index]))


def test_observations_meet_their_specs(random_6):
  timestep = jax.jit(random_6.observe)(jax.jit(random_6.reset)(jax.random.key(3)))
  for spec, values in (
    (random_6.observation_spec(), timestep.observation),
    (random_6.privileged_spec(), timestep.privileged),
  ):
    assert set(spec) == set(values)
    for name, value in values.items():
      spec[name].validate(np.asarray(value))
  assert core.num_choices(random_6.action_spec()) == (3,) * 6


def test_the_depth_heads_targets_are_read_off_the_camera(random_6):
  """In numpy, from the depth that the picture's own rays met. All eight bands are seen in a few pictures."""
  see = jax.jit(jax.vmap(lambda key: random_6.observe(random_6.reset(key)).privileged))
  seen = jax.tree.map(np.asarray, see(jax.random.split(jax.random.key(0), 40)))
  middles = seen["depth_map"][:, 4::8, 4::8]
  np.testing.assert_allclose(seen["depth_grid"], middles / 4.0, rtol=1e-6)
  np.testing.assert_array_equal(seen["depth"], np.digitize(middles, np.float32([0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.2])))
  assert set(np.unique(seen["depth"])) == set(range(8))
  assert (seen["depth"].std(0) > 0).mean() > 0.3  # The arm is seen at many places, now here, now there.


def test_a_palm_that_comes_back_closes_a_loop(random_6):
  """The base turns 12 steps there and 12 steps back. Labels equal the definition over the palms seen."""
  options = {"loop_near_m": 0.04, "loop_far_m": 0.1}
  arm = registry.make("jaco/reach/random", num_joints=6, **options)
  step, observe = jax.jit(arm.step), jax.jit(arm.observe)
  state = jax.jit(arm.reset)(jax.random.key(1)).replace(qpos=jnp.float32(constants.HOME_RAD))
  palms, labels = [np.asarray(observe(state).privileged["palm"])], [0]
  for choice in [2] * 12 + [0] * 12:
    state = step(state, jnp.ones(6, jnp.int32).at[0].set(choice))
    palms.append(np.asarray(observe(state).privileged["palm"]))
    labels.append(int(observe(state).privileged["loop_closure"]))
  np.testing.assert_array_equal(labels, slow_labels(np.array(palms), 0.04, 0.1))
  assert 0 < sum(labels[13:]) < 12 and not any(labels[:13])


@pytest.mark.parametrize(("near", "far"), [(0.0, 0.1), (0.1, 0.1), (0.1, np.inf)])
def test_loops_that_cannot_close_are_refused(near, far):
  with pytest.raises(ValueError, match="loop_near_m"):
    registry.make("jaco/reach/fixed", loop_near_m=near, loop_far_m=far)


def test_proprioception_is_sines_cosines_and_scaled_speeds():
  qpos, qvel = np.linspace(-3, 3, 9), np.linspace(-0.3, 0.3, 9)
  expected = np.concatenate([np.sin(qpos), np.cos(qpos), qvel / ([0.3] * 3 + [0.4] * 6)])
  np.testing.assert_allclose(world.proprioception(jnp.float32(qpos), jnp.float32(qvel)), expected, rtol=1e-5, atol=1e-6)


def test_what_the_simulation_shows_of_an_arm_is_drawn_from_its_joints_and_target(random_6):
  state = jax.jit(random_6.reset)(jax.random.key(3))
  shown = jax.device_get(jax.jit(random_6.observe)(state).observation)
  simulated = world.simulated({**shown, "pixels": np.zeros_like(shown["pixels"])})
  np.testing.assert_array_equal(simulated["proprioception"], shown["proprioception"])
  differs = np.any(simulated["pixels"] != shown["pixels"], axis=-1)  # Angles go through a sine: an edge may flicker.
  assert differs.mean() < 0.002 and shown["pixels"].std() > 10


def test_actions_move_their_own_joint_at_most_as_fast_as_kinova_allows(fixed):
  """All choices held for a second: +v turns a joint by about v * 1 s, 0 keeps it, nothing exceeds 0.63 / 0.84 rad/s."""
  step = jax.jit(jax.vmap(fixed.step))
  actions = 1 + np.concatenate([np.eye(9), -np.eye(9), np.zeros((1, 9))]).astype(np.int32)
  home = jnp.float32(constants.HOME_RAD)
  one = jax.jit(fixed.reset)(jax.random.key(0)).replace(qpos=home)
  state = jax.tree.map(lambda x: jnp.repeat(x[None], len(actions), axis=0), one)
  fastest = 0.0
  for _ in range(10):
    state = step(state, jnp.asarray(actions))
    fastest = np.maximum(fastest, np.abs(state.qvel).max(0))
  moved = np.asarray(state.qpos) - np.asarray(home)
  expected = (actions - 1) * constants.COMMAND_RAD_S
  np.testing.assert_allclose(moved, expected, atol=0.08)  # Speeding up takes a part of the second.
  assert np.abs(moved[-1]).max() < 1e-3
  assert (fastest <= [0.6284] * 3 + [0.8378] * 6).all()
  assert (fastest > 0.8 * constants.COMMAND_RAD_S).all()


def test_speeds_stay_within_kinovas_under_random_actions(fixed):
  def play(key):
    worlds = jax.vmap(fixed.reset)(jax.random.split(key, 32))

    def one_step(worlds, key):
      worlds = jax.vmap(fixed.step)(worlds, jax.random.randint(key, (32, 9), 0, 3))
      return worlds, jnp.abs(worlds.qvel).max(0)

    return jax.lax.scan(one_step, worlds, jax.random.split(key, 60))[1].max(0)

  assert (np.asarray(jax.jit(play)(jax.random.key(1))) <= [0.6284] * 3 + [0.8378] * 6).all()


def test_six_joints_leave_the_fingers_alone(random_6):
  state = jax.jit(random_6.reset)(jax.random.key(0))
  moved = jax.jit(random_6.step)(state, jnp.full(6, 2, jnp.int32))
  np.testing.assert_allclose(moved.qpos[6:], state.qpos[6:], atol=1e-3)
  assert np.abs(moved.qpos[:6] - state.qpos[:6]).min() > 1e-3


def test_touching_the_table_ends_an_episode_and_the_next_begins(fixed):
  arms = batch.Batch(fixed, 2, _STATE, ("ending",))
  state = jax.jit(arms.init)(jax.random.key(0))
  low = jnp.float32(constants.HOME_RAD).at[1].set(4.13)  # 5 mm above the table.
  qpos = jnp.stack([low, jnp.float32(constants.HOME_RAD)])
  state = state.replace(worlds=state.worlds.replace(qpos=qpos))
  down = jnp.ones((2, 9), jnp.int32).at[:, 1].set(2)
  step, kinds, discounts = jax.jit(arms.step), [], []
  for _ in range(6):
    state = step(state, down)
    kinds.append(np.asarray(state.timestep.step_type))
    discounts.append(np.asarray(state.timestep.discount))
    if kinds[-1][0] == core.LAST:
      assert int(state.timestep.privileged["ending"][0]) == tasks.TABLE_CONTACT
  kinds, discounts = np.array(kinds), np.array(discounts)
  last = int(np.argmax(kinds[:, 0] == core.LAST))
  assert kinds[last, 0] == core.LAST and discounts[last, 0] == 0.0
  assert kinds[last + 1, 0] == core.FIRST and discounts[last + 1, 0] == 1.0
  assert (kinds[:, 1] == core.MID).all()


def test_a_diverged_simulation_ends_the_episode_with_finite_observations(fixed):
  broken = registry.make("jaco/reach/fixed")
  broken._physics = lambda params, qpos, qvel, ctrl: (qpos * jnp.nan, qvel)
  state = broken.step(jax.jit(fixed.reset)(jax.random.key(0)), jnp.ones(9, jnp.int32))
  timestep = jax.jit(broken.observe)(state)
  assert int(timestep.step_type) == core.LAST and float(timestep.discount) == 0.0
  assert int(timestep.privileged["ending"]) == tasks.DIVERGED
  assert np.isfinite(timestep.observation["proprioception"]).all()


@pytest.mark.parametrize("randomization", [None, {"mass": 0.2}])
def test_mujoco_itself_says_that_it_diverged(randomization, tmp_path, monkeypatch):
  """Left to itself, MuJoCo resets to finite angles of 0, at which the arm would seem to touch the table."""
  monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT to the current folder.
  arm = registry.make("jaco/reach/fixed", physics_kind="mujoco", randomization=randomization)
  start, step, observe = jax.jit(arm.reset)(jax.random.key(0)), jax.jit(arm.step), jax.jit(arm.observe)
  for speed_rad_s in (1e6, 1e12, np.nan):
    fast = start.replace(qvel=start.qvel.at[0].set(speed_rad_s))
    after = step(fast, jnp.ones(9, jnp.int32))
    assert int(observe(after).privileged["ending"]) == tasks.DIVERGED
    np.testing.assert_array_equal(after.qpos, start.qpos)  # The last good ones.
    whole = step(start, jnp.ones(9, jnp.int32))  # The pool goes on.
    assert int(observe(whole).privileged["ending"]) == tasks.RUNNING


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_oracle_reaches(name):
  returns = jax.jit(lambda key: oracle.play(registry.make(f"jaco/{name}"), key, 48))(jax.random.key(0))
  assert returns.shape == (48,)
  assert float(returns.mean()) > 30.0 and float(returns.max()) <= 50.0


@pytest.fixture(scope="module", params=["reach/moving", "conveyor", "catch", "catch_the_bee"])
def moving(request):
  """The compiled reset, step and observe of a world whose target moves."""
  arm = registry.make(f"jaco/{request.param}", num_joints=6)
  return jax.jit(arm.reset), jax.jit(arm.step), jax.jit(arm.observe)


def test_a_step_pays_where_the_target_has_come_to(moving):
  """The palm is held at x 45 cm, 5 cm above the target's height. The target moves by 1 cm a step."""
  reset, step, observe = moving
  state = reset(jax.random.key(0)).replace(qpos=jnp.float32(constants.HOME_RAD))
  palm = np.asarray(observe(state).privileged["palm"])
  np.testing.assert_allclose(palm, [0.45, 0.0, 0.25], atol=0.01)
  away = np.sqrt(0.105**2 - (palm[2] - 0.20) ** 2 - (palm[0] - 0.45) ** 2)
  for side in (1.0, -1.0):
    for start, speed, reward in ((away, -0.1, 1.0), (away - 0.01, 0.1, 0.0)):  # 10.5 cm away to 9.6, and back.
      target = tasks.Target(
        jnp.float32([0.45, palm[1] + side * start, 0.20]), jnp.float32([0.0, side * speed, 0.0]), jax.random.key(1)
      )
      timestep = observe(step(state.replace(target=target), jnp.ones(6, jnp.int32)))
      assert float(timestep.reward) == reward
      expected = [0.45, palm[1] + side * (start + 0.1 * speed), 0.20]
      np.testing.assert_allclose(timestep.observation["target"], expected, atol=1e-6)


def test_a_target_goes_its_way_whatever_the_arm_does_and_is_not_felt(moving):
  """Two targets and two arm motions: proprioception shows the arm's motion alone, the picture shows both."""
  reset, step, observe = moving
  starts = [reset(jax.random.key(0))]
  starts.append(starts[0].replace(target=reset(jax.random.key(7)).target))
  actions = np.random.default_rng(0).integers(0, 3, (2, 10, 6)).astype(np.int32)

  def play(state, commands):
    seen = [observe(state).observation]
    for action in commands:
      state = step(state, jnp.asarray(action))
      seen.append(observe(state).observation)
    return {name: np.stack([one[name] for one in seen]) for name in seen[0]}

  there, here = [[play(start, commands) for commands in actions] for start in starts]
  for one, other in zip(there, here, strict=True):
    np.testing.assert_array_equal(one["proprioception"], other["proprioception"])
    assert all((one[name] != other[name]).any() for name in ("target", "pixels"))
  for one, other in (there, here):
    np.testing.assert_array_equal(one["target"], other["target"])
    assert (np.abs(np.diff(one["target"], axis=0)).max(1) > 0.001).all()
    assert (one["proprioception"] != other["proprioception"]).any()


def test_a_change_is_seen_and_nothing_else(fixed):
  """One episode in every appearance: what is not seen is bitwise the same."""
  action = jnp.full(9, 2, jnp.int32)

  def play(change):
    arm = registry.make("jaco/reach/fixed", change=change) if change else fixed
    start = jax.jit(arm.reset)(jax.random.key(5))
    return jax.tree.map(np.asarray, jax.jit(arm.observe)(fixed.step(start, action)))

  nominal = play(None)
  seen = {"nominal": nominal.observation["pixels"]}
  for change in constants.CHANGES:
    other = play(change)
    seen[change] = other.observation["pixels"]
    for name in _STATE:
      np.testing.assert_array_equal(other.observation[name], nominal.observation[name])
    for name in ("palm", "palm_to_target", "joints", "is_success", "ending"):
      np.testing.assert_array_equal(other.privileged[name], nominal.privileged[name])
    assert (other.reward, other.discount, other.step_type) == (nominal.reward, nominal.discount, nominal.step_type)
  for one, other in itertools.combinations(seen, 2):
    assert (seen[one] != seen[other]).any(-1).mean() > 0.1, (one, other)


def test_a_change_makes_another_world_and_an_unknown_one_is_refused(fixed):
  assert registry.make("jaco/reach/fixed", change=None) == fixed
  assert registry.make("jaco/reach/fixed", change="subtle_color") != fixed
  with pytest.raises(ValueError, match="change='colour' is not one of subtle_perspective, significant_perspective, "):
    registry.make("jaco/reach/fixed", change="colour")


def test_a_changed_scene_is_randomised_about_itself():
  arm = registry.make("jaco/reach/fixed", change="significant_color", randomization={"color": 0.01})
  colors = np.asarray(jax.jit(arm.reset)(jax.random.key(0)).appearance.colors)
  assert np.abs(colors - constants.COLORS[:, [1, 2, 0]]).max() < 0.0101  # Its hues are turned by a third.


def test_no_randomisation_is_the_nominal_world_and_some_is_not(fixed):
  none = registry.make("jaco/reach/fixed", randomization=randomize.Randomization())
  ranges = randomize.Randomization(camera_m=0.1, field_of_view=0.05, light=0.3, ambient=0.1, shadow=0.5, color=0.2,
                                   mass=0.3, friction=0.9, gain=0.5)  # fmt: skip
  some = registry.make("jaco/reach/fixed", randomization=ranges)
  key, action = jax.random.key(5), jnp.full(9, 2, jnp.int32)

  def play(environment):
    state = environment.reset(key)
    moved = environment.step(environment.step(state, action), action)
    return state, moved, environment.observe(state)

  same = jax.jit(none.reset)(key)
  assert same.dynamics is None and same.appearance is None  # No other program than the nominal one.
  nominal, other = (jax.jit(lambda e=e: play(e))() for e in (fixed, some))
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), nominal[0], same))
  np.testing.assert_array_equal(nominal[0].qpos, other[0].qpos)  # The same start and target,
  assert np.abs(nominal[1].qpos - other[1].qpos).max() > 1e-4  # another motion,
  assert (nominal[2].observation["pixels"] != other[2].observation["pixels"]).mean() > 0.3  # and another picture.
  state = jax.jit(jax.vmap(some.reset))(jax.random.split(key, 2))
  for leaf in jax.tree.leaves((state.dynamics, state.appearance)):
    assert (leaf[0] != leaf[1]).any()  # Each world has its own.


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"num_joints": 7}, "num_joints=7"),
    ({"num_steps": 0}, "num_steps=0"),
    ({"num_threads": 0}, "num_threads=0 must be above 0"),
    ({"num_threads": -1}, "num_threads=-1"),
    ({"num_threads": 2, "physics_kind": "mjx"}, 'num_threads=2 must .* not beside "mjx"'),
    ({"max_start_spread_rad": 4.0}, "max_start_spread_rad=4.0"),
    ({"physics_kind": "warp"}, "warp"),
    ({"joints": 6}, "joints"),
    ({"target_speed_m_s": 0.1}, 'no option "target_speed_m_s"'),
  ],
)
def test_options_that_cannot_be_are_refused_by_name(options, words):
  with pytest.raises(ValueError, match=words):
    registry.make("jaco/reach/fixed", **options)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ("abc", "randomization='abc' is no mapping; give fields and their half-widths"),
    (3, "randomization=3 is no mapping"),
    ({"colour": 0.1}, 'no field "colour"; it has camera_m, field_of_view, light'),
    ([], "randomization=.. is no mapping"),
    ({"camera_m": 100.0}, "camera_m=100.0 is not a half-width"),
    ({"mass": "heavy"}, "mass=heavy is not a half-width"),
    ({"mass": float("nan")}, "mass=nan"),
    ({"gain": True}, "gain=True"),
    ({"friction": 1.0}, "friction=1.0"),
    ({"shadow": 1.01}, "shadow=1.01"),
    *(({field: float("inf")}, f"{field}=inf is not a half-width") for field in ("camera_m", "light", "color")),
  ],
)
def test_a_randomization_that_cannot_be_is_refused_by_name(fields, words):
  with pytest.raises(ValueError, match=words):
    registry.make("jaco/reach/fixed", randomization=fields)


def test_a_config_randomizes_with_a_dictionary_of_fields():
  options = config_dict.ConfigDict({"randomization": {"camera_m": 0.02, "friction": 0.3}})
  world = registry.make("jaco/reach/fixed", **options.to_dict())
  one, other = (jax.jit(world.reset)(jax.random.key(seed)) for seed in range(2))
  assert (one.appearance.camera.position != other.appearance.camera.position).all()
  assert (one.dynamics.friction != other.dynamics.friction).all()
  np.testing.assert_array_equal(one.dynamics.gain, 1.0)
  position, friction = np.asarray(one.appearance.camera.position), np.asarray(one.dynamics.friction)
  assert (np.abs(position - constants.CAMERA_POSITION_M) <= 0.02).all() and (np.abs(friction - 1.0) <= 0.3).all()


def test_negative_ranges_are_refused():
  with pytest.raises(ValueError, match="mass=1.5"):
    randomize.Randomization(mass=1.5)
  with pytest.raises(ValueError, match="color=-0.1"):
    randomize.Randomization(color=-0.1)
