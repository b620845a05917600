"""Worlds, ours and others', are made by name. A wrong name or option is answered with what there is."""

import dataclasses
import functools
import sys

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs

from environments import batch, registry
from environments.arm import protocol
from environments.jaco import randomize
from tests.agents import worlds


class Counting(dm_env.Environment):
  """Shows what it was made with; an action from -1 to 1."""

  def __init__(self, *, step: int = 1, seed: int = 7, observations=None):
    self.made_with = step, seed, observations

  def action_spec(self):
    return specs.BoundedArray((), np.int64, -1, 1, name="action")

  def observation_spec(self):
    return specs.Array((2,), np.float32, name="count")

  def reset(self):
    return dm_env.restart(np.array(self.made_with[:2], np.float32))

  def step(self, action):
    return dm_env.transition(float(action), np.array(self.made_with[:2], np.float32))


def no_world():
  """Makes something else."""
  return [1, 2]


def typing_error(*, size: int = 1, speed=1):
  """Cannot multiply everything."""
  del size
  return worlds.CueRecall(length=2 * (speed + 1))


@pytest.fixture
def registered(monkeypatch):
  monkeypatch.setattr(registry, "_REGISTERED", {})
  return registry.register


HERE = "tests.environments.registry_test"


def test_every_name_makes_a_world():
  reaching = {f"jaco/reach/{name}" for name in ("fixed", "random", "table", "3d", "moving")}
  assert reaching | {"jaco/conveyor", "jaco/catch", "jaco/catch_the_bee"} <= set(registry.names())
  for name in registry.names():
    world = registry.make(name)
    assert world.action_spec().shape and "pixels" in world.observation_spec()


@pytest.mark.parametrize(
  ("name", "nearest"),
  [
    ("jaco/reach/randon", "jaco/reach/random"),
    ("jaco/conveyer", "jaco/conveyor"),
    ("atary/pong", "atari/pong"),
    ("arm//localhost:5005", "arm://localhost:5005"),
    ("twn/reach/random", "twin/reach/random"),
    ("", ""),
    (".worlds:make", ""),
  ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
  with pytest.raises(ValueError, match=f'is called "{name}"; the nearest is "{nearest}.*package.module:maker'):
    registry.make(name)


def test_a_world_of_ones_own_is_made_by_its_module_without_being_registered():
  assert registry.make("tests.agents.worlds:CueRecall", length=3) == worlds.CueRecall(length=3)


def test_a_registered_world_is_made_by_its_name(registered):
  registered("mine/recall", functools.partial(worlds.CueRecall, size=3))
  assert "mine/recall" in registry.names()
  assert registry.make("mine/recall", length=4) == worlds.CueRecall(length=4)
  for taken in ("mine/recall", "pong/pong", "atari/mine", "arm://mine", "a:b"):
    with pytest.raises(ValueError, match=f'"{taken}"'):
      registered(taken, worlds.CueRecall)


@pytest.fixture
def installed(tmp_path, monkeypatch):
  """A function that installs a package with entry points, as pip would: a dist-info directory on the path."""

  def install(package, **worlds_by_name):
    info = tmp_path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in worlds_by_name.items())
    (info / "entry_points.txt").write_text(f"[progressive_robots.worlds]\n{lines}")

  monkeypatch.syspath_prepend(tmp_path)
  return install


def test_an_installed_package_names_its_worlds_and_is_imported_when_one_is_made(installed, tmp_path, registered):
  (tmp_path / "worlds_of_others.py").write_text("from tests.agents.worlds import CueRecall as Recall\n")
  installed("others", recall="worlds_of_others:Recall", gone="no_such_package:Recall")
  assert {"recall", "gone"} <= set(registry.names()) and "worlds_of_others" not in sys.modules
  assert registry.make("recall", length=4) == worlds.CueRecall(length=4)
  assert sys.modules.pop("worlds_of_others")
  with pytest.raises(ValueError, match='"recall": the name is taken'):
    registered("recall", worlds.CueRecall)


@pytest.mark.parametrize(
  ("name", "value", "words"),
  [
    ("gone", "no_such_package:Recall", "No module named 'no_such_package'; .*entry point of others .no_such_package:R"),
    ("gone", "tests.agents.worlds:NoSuch", 'has no function or class "NoSuch" .an entry point of others'),
    ("gone", "bad_import:Recall", "cannot import name 'nothing' .*entry point of others"),
    ("gone", "tests.agents.worlds", "entry point of others .tests.agents.worlds. is not package.module:maker"),
    (
      "pong/pong",
      "tests.agents.worlds:CueRecall",
      "is a name of others .tests.agents.worlds:CueRecall. and of our own",
    ),
    ("atari/pong", "tests.agents.worlds:CueRecall", "and of our own: uninstall"),
  ],
)
def test_a_broken_entry_point_is_one_line_when_it_is_asked_for(installed, tmp_path, name, value, words):
  (tmp_path / "bad_import.py").write_text("from math import nothing\n")
  installed("others", **{name: value})
  assert registry.make("pong/white") == registry.make("pong/white")
  with pytest.raises(ValueError, match=words) as raised:
    registry.make(name)
  assert "\n" not in str(raised.value)


def test_a_world_name_claimed_by_two_packages_is_refused(installed):
  installed("others", recall="tests.agents.worlds:CueRecall", alone="tests.agents.worlds:CueRecall")
  installed("more", recall="tests.agents.worlds:Chain")
  assert registry.make("alone") == worlds.CueRecall()
  with pytest.raises(ValueError, match='"recall" is a name of .*others .*CueRecall.*: uninstall what is not meant'):
    registry.make("recall")


def test_a_world_behind_dm_env_comes_out_as_agents_play_it(registered):
  registered("mine/counting", Counting)
  for name in ("mine/counting", f"{HERE}:Counting"):
    world = registry.make(name, seed=3, step=5)
    assert world.action_spec() == specs.BoundedArray((1,), np.int32, 0, [2], name="action")
    np.testing.assert_array_equal(world.reset().observation["observation"], [5, 3])
    assert world.step(np.array([0], np.int32)).reward == -1.0


def test_a_maker_gets_seed_and_observations_where_it_has_a_place_for_them(monkeypatch):
  made = []
  monkeypatch.setattr(Counting, "reset", lambda self: made.append(self.made_with) or dm_env.restart(np.zeros(2, "f4")))
  registry.make(f"{HERE}:Counting", seed=3, observations=("b", "a", "a")).reset()
  registry.make(f"{HERE}:Counting").reset()
  assert made == [(1, 3, ["a", "b"]), (1, 7, None)]
  assert registry.make("pong/pong", seed=3, observations=("pixels",)) == registry.make("pong/pong")


@pytest.mark.parametrize(
  ("name", "options", "words"),
  [
    ("jaco/reach/fixed", {"joints": 6}, 'has no option "joints"; its options are num_joints, max_start_spread_rad'),
    ("jaco/catch", {"speed": 0.1}, 'has no option "speed"; its options are num_joints, max_start_spread_rad'),
    ("maze/static_small", {"maze": 1}, 'has no option "maze"; its options are layout, num_steps'),
    ("pong/noisy", {"sigma": 1}, 'has no option "sigma"; its options are .*noise_sigma, noise_seed, zoom_offset'),
    ("atari/pong", {"frames": 4}, 'has no option "frames"; its options are num_actions, max_episode_steps'),
    (
      "arm://localhost:1",
      {"max_start_spread_rad": 0.3},
      'has no option "max_start_spread_rad"; its options are .*num_j',
    ),
    ("twin/reach/random", {"host": "arm"}, 'has no option "host"; its options are .*gap, num_joints'),
    ("twin/reach/random", {"gap": "large"}, "no level is called 'large'; the nearest is .*all are none, subtle"),
    ("twin/reach/rando", {}, "task='reach/rando' is unknown; the nearest is 'reach/random'"),
    ("jaco/reach/fixed", {"num_steps": 2.5}, r"num_steps=2.5 is not int \| None"),
    ("maze/static_small", {"num_steps": "9"}, r"num_steps='9' is not int \| None"),
    ("maze/static_small", {"fruit_returns": 1}, "fruit_returns=1 is not bool"),
    ("maze/static_small", {"loop_near": True}, "loop_near=True is not float"),
    ("maze/static_small", {"depth_crop": (1, 2, 3)}, r"depth_crop=\(1, 2, 3\)"),
    ("pong/pong", {"num_actions": "3"}, "num_actions='3' is not int"),
    ("pong/zoom", {"zoom_offset": 3}, "cannot be made with {'zoom_offset': 3}"),
    (f"{HERE}:typing_error", {"speed": "fast"}, "cannot be made with {'speed': 'fast'}"),
    ("tests.agents.worlds:CueRecall", {"colour": 1}, 'has no option "colour"; its options are .*length'),
    ("tests.environments.host_test:Recorder", {}, 'needs the option "action_spec"'),
    ("no_such_package.worlds:make", {}, "No module named 'no_such_package'; install the package"),
    ("tests.agents.worlds:NoSuch", {}, 'tests.agents.worlds has no function or class "NoSuch"'),
    (f"{HERE}:no_world", {}, "made a list: .* has no observation_spec, privileged_spec, .*reset, step, observe"),
  ],
)
def test_what_cannot_be_made_is_refused_by_name(name, options, words):
  with pytest.raises(ValueError, match=words):
    registry.make(name, **options)


def test_an_unhashable_world_is_refused():
  with pytest.raises(ValueError, match="made a Unhashable without a hash .*; make Unhashable a frozen dataclass"):
    registry.make(f"{HERE}:Unhashable")
  with pytest.raises(ValueError, match="made a Bandit without a hash .*dict"):
    registry.make("tests.agents.worlds:Bandit", num_choices={2: 3})


def test_a_list_is_a_tuple_to_a_maker(registered):
  given = {}
  registered("any", lambda **options: given.update(options) or worlds.CueRecall())
  registry.make("any", sizes=[2, [3, (4, [])]], names="ab")
  assert given == {"sizes": (2, (3, (4, ()))), "names": "ab"}


def test_a_world_in_jax_does_not_depend_on_a_seed():
  for seed in (3, None):
    with pytest.raises(ValueError, match="Seeded is another world with another seed; .*by another name"):
      registry.make(f"{HERE}:Seeded", seed=seed)
  assert registry.make(f"{HERE}:either", seed=3) == worlds.CueRecall()


def either(*, seed: int, is_host: bool = False):
  """A world of either kind."""
  return Counting(seed=seed) if is_host else worlds.CueRecall()


@dataclasses.dataclass(frozen=True)
class Seeded(worlds.CueRecall):
  """Another seed is another world."""

  seed: int = 0


@dataclasses.dataclass
class Unhashable(worlds.CueRecall.__base__):
  """A mutable dataclass."""

  length: int = 5


@dataclasses.dataclass(frozen=True)
class Wide(worlds.CueRecall):
  """Its discount has an axis too many."""

  def observe(self, state):
    timestep = super().observe(state)
    return timestep.replace(discount=timestep.discount[None])


def test_what_a_world_shows_in_another_form_is_said_when_it_is_made(registered):
  registered("wide", Wide)
  for name in ("wide", f"{HERE}:Wide"):
    with pytest.raises(ValueError, match=r"Wide.observe: discount is float32 \[1\]; make it float32 \[\]"):
      registry.make(name)


def test_a_mistake_in_a_makers_own_code_stays_what_it_is():
  with pytest.raises(TypeError):
    registry.make(f"{HERE}:broken")


def broken():
  """Has a mistake."""
  return 1 + "1"


def test_a_missing_package_is_one_line_with_what_installs_it(monkeypatch):
  monkeypatch.setitem(sys.modules, "ale_py", None)
  with pytest.raises(ValueError, match=r'"atari/pong" cannot be made: .*pip install "progressive-robots\[atari\]"'):
    registry.make("atari/pong")


def test_an_arm_is_a_name_like_all_others():
  with pytest.raises(protocol.BridgeError, match="no server answers at localhost:1 after 0.1 s"):
    registry.make("arm://localhost:1", timeout_s=0.1)


ALIKE = [
  ("jaco/reach/random", {"num_joints": 6}, {"num_joints": 9}),
  ("jaco/reach/fixed", {"randomization": {"mass": 0.1}}, {"randomization": {"mass": 0.2}}),
  ("maze/static_small", {"depth_crop": [16, 68, 2, 82]}, {"depth_crop": [16, 68, 2, 81]}),
  ("maze/static_1", {"fruit_returns": False}, {}),
  ("pong/zoom", {"zoom_offset": [1, 2]}, {"zoom_offset": [2, 1]}),
  ("pong/pong", {"num_actions": 3}, {"num_actions": 6}),
]


@pytest.mark.parametrize(("name", "options", "others"), ALIKE)
def test_worlds_made_alike_are_equal_and_others_are_not(name, options, others):
  one, same, other = registry.make(name, **options), registry.make(name, **options), registry.make(name, **others)
  assert one == same and hash(one) == hash(same) and one is not same
  assert one != other and len({one, same, other}) == 2
  assert batch.Batch(one, 2, ("pixels",)) == batch.Batch(same, 2, ("pixels",))
  assert one != "a string"


def test_the_same_fields_as_a_dictionary_make_the_same_world():
  ranges = {"mass": 0.2, "camera_m": 0.01}
  one = registry.make("jaco/reach/fixed", randomization=ranges)
  assert one == registry.make("jaco/reach/fixed", randomization=randomize.Randomization(**ranges))
  assert one != registry.make("jaco/reach/fixed")


def test_a_program_is_traced_once_for_worlds_made_alike():
  num_traces = 0

  @functools.partial(jax.jit, static_argnames="place")
  def start(place: batch.Batch, key: jax.Array) -> jax.Array:
    nonlocal num_traces
    num_traces += 1
    return place.init(key).timestep.observation["pixels"].astype(jnp.int32).sum()

  def place(**options) -> batch.Batch:
    return batch.Batch(registry.make("pong/pong", **options), 2, ("pixels",))

  first, again = start(place(), jax.random.key(0)), start(place(), jax.random.key(0))
  assert int(first) == int(again) and num_traces == 1
  start(place(num_actions=3), jax.random.key(0))
  assert num_traces == 2


def test_a_step_lasts_as_long_as_its_world_says():
  # Ten hertz; four frames of a sixtieth of a second.
  steps = {"jaco/reach/fixed": 0.1, "pong/pong": 4 / 60, "maze/static_small": 4 / 60, "atari/pong": 4 / 60}
  assert {name: registry.make(name).control_dt_s for name in steps} == pytest.approx(steps)


def test_no_return_is_outside_the_bounds_of_its_world():
  worst, best = np.array([-21.0, 0.0]), np.array([21.0, 50.0])  # Pong is lost or won by 21; 50 steps on a target.
  bounds = [registry.make(name).return_bounds for name in ("pong/pong", "jaco/reach/fixed")]
  np.testing.assert_array_equal(bounds, np.stack([worst, best], axis=1))
  assert registry.make("maze/static_small").return_bounds == (0.0, np.inf)
  assert registry.make("maze/seek_avoid_2").return_bounds == (-80.0, 15.0)  # 8 mushrooms, 15 apples.


@pytest.mark.parametrize(("name", "num_loops"), [("pong/pong", 1), ("maze/static_1", 4)])
def test_a_world_whose_loops_are_written_out_is_the_same_world(name, num_loops, as_if_on):
  """As on a GPU, where each step of a loop is launched. A CPU computes both."""
  shown, loops = [], []
  for backend in ("cpu", "gpu"):
    as_if_on(backend)
    worlds_ = batch.Batch(registry.make(name), 2, ("pixels",))
    step = jax.jit(lambda state, action, worlds_=worlds_: worlds_.step(state, action))
    state = jax.jit(worlds_.init)(jax.random.key(3))
    loops.append(step.lower(state, jnp.zeros((2, 1), jnp.int32)).as_text().count("stablehlo.while"))
    for action in (2, 1, 0, 2):
      state = step(state, jnp.full((2, 1), action, jnp.int32))
    shown.append(state.timestep)
  assert loops[0] - loops[1] == num_loops  # The other loops are of random numbers.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *shown)
