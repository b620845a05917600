"""A trained network is played, filmed, released and read back; mains run on a small world."""

import json
import shlex
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from dm_env import specs

from agents import evaluation
from environments import dm_env_adapter, host, registry
from environments.arm import protocol
from environments.jaco import tasks as jaco_tasks
from environments.jaco import world as jaco_world
from experiments import evaluate
from experiments.configs import base
from experiments.report import video as video_lib
from experiments.running import loop, play, recorder, run
from experiments.setup import column, learn, place
from experiments.store import network_file, released, run_directory
from progressive import network, partition
from tests.agents import worlds
from tests.experiments.running import run_test


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  make = registry.make

  def small(name, **options):
    return make(name, **options) if name.startswith("atari/") else worlds.CueRecall()

  worlds.serve(monkeypatch, small)
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("trained")
  with pytest.MonkeyPatch.context() as patch:
    worlds.serve(patch, lambda name, **options: worlds.CueRecall())
    run.run(run_test.make_config(), folder)
  return folder


def test_a_run_is_evaluated_and_released(trained, tmp_path, capsys):
  out = tmp_path / "released"
  with flagsaver.flagsaver(source=str(trained), episodes=8, release=str(out)):
    evaluate.main()
  assert "over 8 episodes" in capsys.readouterr().out
  record = json.loads((out / "evaluation.json").read_text())
  assert record["world"] == "recall" and record["steps_trained"] == 600 and record["episodes"] == 8
  assert record["return_ci_low"] <= record["mean_return"] <= record["return_ci_high"]
  source, before = released.load_source(out), released.load_source(trained)
  assert source.spec == before.spec and source.reward_scale == before.reward_scale == 1.0
  provenance = json.loads((out / "provenance.json").read_text())
  assert partition.content_hash(source.params) == partition.content_hash(before.params) == provenance["content_sha256"]
  assert [one["steps"] for one in provenance["training"]] == [600]
  assert released.trained_in(out) == released.trained_in(trained) == ("recall", {})


def test_a_first_column_plays_as_it_did_before_the_second_grew(trained, tmp_path, capsys):
  grown = tmp_path / "grown"
  config = run_test.next_config("progressive", trained)
  config.train.update({"steps": 400, "hyper": {"learning_rate": 0.1}})
  run.run(config, grown)
  said = {}
  for name, source, columns in (
    ("before", trained, None),
    ("first", grown, 1),
    ("both", grown, 2),
    ("all", grown, None),
  ):
    capsys.readouterr()
    with flagsaver.flagsaver(source=str(source), episodes=200, columns=columns):
      evaluate.main()
    said[name] = capsys.readouterr().out.partition("mean return")[2]
  assert said["first"] == said["before"] and said["both"] == said["all"] != said["first"]
  with (
    flagsaver.flagsaver(source=str(grown), columns=3),
    pytest.raises(ValueError, match="columns=3: .* has 2; give 1"),
  ):
    evaluate.main()
  with (
    flagsaver.flagsaver(source=str(grown), columns=1, release=str(tmp_path / "out")),
    pytest.raises(ValueError, match="--columns cannot be released"),
  ):
    evaluate.main()


@pytest.mark.parametrize(("commit", "is_repeatable"), [("abc", True), ("abc+changes", False), ("unknown", False)])
def test_a_release_of_code_that_no_commit_holds_says_so(trained, tmp_path, capsys, monkeypatch, commit, is_repeatable):
  about = json.loads((trained / "provenance.json").read_text())
  about |= {"commit": "abc", "resumed": [], "steps": 600}
  monkeypatch.setattr(released, "lineage_since_release", lambda folder, *, steps: ([], [about]))
  monkeypatch.setattr(run_directory, "commit", lambda: commit)
  with flagsaver.flagsaver(source=str(trained), episodes=2, release=str(tmp_path)):
    evaluate.main()
  assert json.loads((tmp_path / "evaluation.json").read_text())["is_repeatable"] == is_repeatable
  warning = f"warning: no commit holds the code of this release ({commit}); nobody else can repeat it\n"
  assert capsys.readouterr().err == ("" if is_repeatable else warning)


def test_uncommitted_code_before_a_release_gives_no_new_warning(trained, tmp_path, capsys, monkeypatch):
  about = json.loads((trained / "provenance.json").read_text())
  old, new = ({**about, "commit": commit, "resumed": [], "steps": 300} for commit in ("old+changes", "new"))
  monkeypatch.setattr(released, "lineage_since_release", lambda folder, *, steps: ([old], [new]))
  monkeypatch.setattr(run_directory, "commit", lambda: "now")
  with flagsaver.flagsaver(source=str(trained), episodes=2, release=str(tmp_path)):
    evaluate.main()
  assert capsys.readouterr().err == ""
  assert json.loads((tmp_path / "evaluation.json").read_text())["is_repeatable"] is False


def test_options_without_a_target_override_the_training_world(trained, monkeypatch):
  made = []

  def make(name, *, seed, observations, **options):
    made.append((name, options))
    return worlds.CueRecall()

  monkeypatch.setattr(registry, "make", make)
  monkeypatch.setattr(released, "trained_in", lambda folder: ("recall", {"a": 1, "b": 2}))
  for target in ("", "other"):
    with flagsaver.flagsaver(source=str(trained), episodes=1, option=["b=3"], target=target):
      evaluate.main()
  assert made == [("recall", {"a": 1, "b": 3}), ("other", {"b": 3})]


def test_a_video_that_cannot_be_written_costs_no_result(trained, tmp_path, monkeypatch, capsys):
  played = play.Played(evaluation.Episodes(np.ones(2), np.ones(2)), [np.zeros((4, 4, 3), np.uint8)], ["a"])
  monkeypatch.setattr(play, "play", lambda *arguments, **options: played)
  monkeypatch.setattr(registry, "make", lambda name, **options: Stacked())
  (tmp_path / "file").touch()
  given = {"video": str(tmp_path / "file/x.mp4"), "release": str(tmp_path / "released")}
  with flagsaver.flagsaver(source=str(trained), episodes=2, **given), pytest.raises(OSError, match="file"):
    evaluate.main()
  assert "mean return 1.00" in capsys.readouterr().out
  assert released.load(tmp_path / "released").spec == released.load_source(trained).spec


def test_a_video_of_a_world_without_pixels_is_refused_before_it_plays(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(play, "play", lambda *arguments, **options: pytest.fail("it plays"))
  with flagsaver.flagsaver(source=str(trained), episodes=2, video=str(tmp_path / "x.mp4")):
    with pytest.raises(ValueError, match=r"--video=\S*x.mp4: recall shows this network no pixels to film; leave"):
      evaluate.main()


def test_a_run_of_a_sweep_is_its_part_of_the_sweep_s_checkpoint(tmp_path):
  config = run_test.make_config()
  config.train.update({"steps": 40, "evaluation_episodes": 0})
  config.sweep = base.sweep(num_runs=2, top=2, sampled=())
  state = run.run(config, tmp_path).state
  everyone = partition.merge(*jax.device_get((state.trainable, state.frozen)))  # On the host: see `devices.unfilled`.
  for index in range(2):
    own = released.load_source(tmp_path / f"runs/0{index}")
    expected = jax.tree.map(lambda x, i=index: x[i], everyone)
    jax.tree.map(np.testing.assert_array_equal, own.params, expected)
    assert own.step == 40
  with pytest.raises(
    ValueError, match=f"{tmp_path} is a sweep; give one of its runs, as .*, or the network of its best"
  ):
    released.load_source(tmp_path)
  shutil.rmtree(tmp_path / "best")
  with pytest.raises(ValueError, match=f"{tmp_path} is a sweep; give .*/runs/00, or wait for its end"):
    released.load_source(tmp_path)


def test_a_run_is_evaluated_where_it_learned(trained, tmp_path):
  run.run(run_test.next_config("finetune", trained, world="recall/next"), tmp_path)
  assert released.trained_in(tmp_path) == ("recall/next", {})


def test_a_network_that_does_not_say_where_it_learned_needs_a_target(trained, tmp_path):
  source = released.load_source(trained)
  released.save(tmp_path, source.spec, source.params, evaluation={}, provenance={})
  why = "does not say which world it was trained in: .*; give --target"
  with flagsaver.flagsaver(source=str(tmp_path)), pytest.raises(ValueError, match=why):
    evaluate.main()


def test_a_network_that_does_not_fit_the_target_is_refused(trained, monkeypatch):
  source = released.load_source(trained)
  worlds.serve(monkeypatch, lambda name, **options: worlds.Bandit())
  with pytest.raises(ValueError, match="the network reads signal .*, but elsewhere offers|the output layer has"):
    learn.player(source, "elsewhere", {})


def test_returns_have_student_s_interval_and_one_episode_has_none(capsys):
  returns = np.array([0.0, 17.0])
  unbounded = place.Simulation("recall", worlds.CueRecall())
  two = play.summarise(unbounded, evaluation.Episodes(returns=returns, lengths=np.array([50, 50])))
  half = 12.7062 * 8.5  # Student's t of one degree of freedom, times the mean's deviation.
  assert (two["return_mean"], two["return_ci_low"]) == pytest.approx((8.5, 8.5 - half), rel=1e-5)
  assert two["return_ci_high"] == pytest.approx(8.5 + half, rel=1e-5)
  one = play.summarise(unbounded, evaluation.Episodes(returns=returns[1:], lengths=np.array([50])))
  assert set(one) == {"return_mean", "episodes", "length_mean"}
  console = recorder.Console(name="x", first_step=0, until_step=10, every_s=0.0)
  for summary in (two, one):
    console(loop.Record(10, "eval", summary))
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].endswith("| evaluation 8.5 [-99.5, 116.5]") and lines[1].endswith("| evaluation 17.0")


def test_an_interval_ends_where_returns_of_its_world_do():
  returns = evaluation.Episodes(returns=np.array([0.0, 17.0]), lengths=np.array([50, 50]))
  jaco = jaco_world.Jaco(jaco_tasks.TASKS["reach/fixed"], num_steps=20)
  arm = dm_env_adapter.DmEnv(jaco, seed=0)
  arm.return_bounds = (0.0, 20.0)
  for where in (place.Simulation("jaco", jaco), place.Host("arm", host.adapt(arm, name="arm"))):
    summary = play.summarise(where, returns)
    assert (summary["return_mean"], summary["return_ci_low"], summary["return_ci_high"]) == (8.5, 0.0, 20.0)


def test_a_video_has_its_frames_enlarged(tmp_path):
  import imageio

  frames = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(5)]
  video_lib.write(tmp_path / "videos" / "v.mp4", frames, frames_per_s=10.0, scale=4)
  shown = imageio.mimread(tmp_path / "videos" / "v.mp4")
  assert len(shown) == 5 and shown[0].shape == (32, 32, 3)
  np.testing.assert_allclose([f.mean() for f in shown], [0, 10, 20, 30, 40], atol=4)
  with pytest.raises(ValueError, match=r"v.mp4: a frame is \[8, 8, 4\], not \[H, W, 3\]"):
    video_lib.write(tmp_path / "v.mp4", [np.zeros((8, 8, 4), np.uint8)], frames_per_s=10.0)


class Stacked(worlds.CueRecall):
  """Also shows a stack of grey pictures: three white ones, and the newest with a brightness of 40 times the time."""

  def observation_spec(self):
    return super().observation_spec() | {"pixels": specs.BoundedArray((8, 8, 4), np.uint8, 0, 255)}

  def observe(self, state):
    timestep = super().observe(state)
    grey = jnp.stack([jnp.int32(255)] * 3 + [40 * state.time]).astype(jnp.uint8)
    pixels = jnp.broadcast_to(grey[None, None], (8, 8, 4))
    return timestep.replace(observation=timestep.observation | {"pixels": pixels})


@pytest.mark.parametrize("is_behind_dm_env", [False, True])
def test_a_video_of_a_stack_shows_its_newest_picture(trained, tmp_path, monkeypatch, is_behind_dm_env):
  import imageio

  worlds.serve(monkeypatch, lambda name, **options: Stacked())
  task = learn.player(released.load_source(trained), "stacked", {})
  if is_behind_dm_env:
    task = task._replace(place=place.Host("stacked", dm_env_adapter.DmEnv(Stacked(), seed=0)))
  split = partition.split(task.params, task.is_trainable)
  video = tmp_path / "v.mp4"
  played = play.play(task, *split, jax.random.key(0), num_episodes=2, is_greedy=True, has_film=True)
  video_lib.write(video, played.frames, frames_per_s=10.0)
  shown = np.stack(imageio.mimread(video))
  assert len(shown) == (12 if is_behind_dm_env else 101)  # Two episodes of 6 pictures, or a first one and 100 steps.
  greys = 40.0 * (np.arange(len(shown)) % 6)
  np.testing.assert_allclose(shown, np.broadcast_to(greys[:, None, None, None], shown.shape), atol=4)


@pytest.mark.parametrize(
  ("name", "loads"), [("params.safetensors", released.load), ("network.json", network_file.read_spec)]
)
def test_a_truncated_file_is_named(trained, tmp_path, name, loads):
  source = released.load_source(trained)
  released.save(tmp_path, source.spec, source.params, evaluation={}, provenance={})
  for keep in (0.9, 0.5, 0.0):
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(ValueError, match=rf"^\S*/{name} is damaged \(.*\); copy it again(, or [^\n]*)?$"):
      loads(tmp_path)


def test_a_network_whose_inputs_are_no_table_is_damaged(tmp_path):
  (tmp_path / "network.json").write_text('{"columns": [{"inputs": [], "layers": []}]}')
  with pytest.raises(ValueError, match="network.json is damaged .AttributeError"):
    network_file.read_spec(tmp_path)


def test_play_counts_whole_episodes(trained):
  source = released.load_source(trained)
  task = learn.player(source, "recall", {})
  trainable, frozen = partition.split(task.params, task.is_trainable)
  key = learn.make_key(0, "evaluation")
  episodes = play.play(task, trainable, frozen, key, num_episodes=6, is_greedy=True).episodes
  assert episodes.lengths.tolist() == [worlds.CueRecall().length] * 6
  summary = play.summarise(task.place, episodes)
  assert summary["episodes"] == 6 and summary["return_mean"] == pytest.approx(episodes.returns.mean())


def test_a_network_plays_the_emulator_s_game_untouched(tmp_path, capsys):
  shape = specs.BoundedArray((84, 84, 4), np.uint8, 0, 255)
  section = base.column(conv=((8, 8, 4), (16, 4, 2)), dense=(8,), lstm=())
  spec = network.Network((column.make(section, {"pixels": shape}, (3,)),))
  released.save(tmp_path, spec, network.init(jax.random.key(0), spec), evaluation={}, provenance={})
  options = ["num_actions=3", "max_episode_steps=12"]
  with flagsaver.flagsaver(source=str(tmp_path), target="atari/pong", option=options, episodes=2):
    evaluate.main()
  printed = capsys.readouterr().out
  assert "in atari/pong: mean return 0.00" in printed  # Nobody scores within the first 12 steps.
  assert printed.startswith("episode 1: 0\nepisode 2: 0\n")
  with (
    flagsaver.flagsaver(source=str(tmp_path), target="atari/pong", option=["num_actions=6"], episodes=1),
    pytest.raises(ValueError, match="output layer has 4 units"),
  ):
    evaluate.main()


def test_an_option_that_is_none_is_refused():
  assert evaluate.options_of(["num_joints=6", 'variant="white"']) == {"num_joints": 6, "variant": "white"}
  assert evaluate.options_of(["gap=subtle", "is=true", "camera=camera:full"]) == {
    "gap": "subtle",
    "is": True,
    "camera": "camera:full",
  }
  for wrong in ("num_actions", "size=3x", "name="):
    with pytest.raises(ValueError, match=f"--option={wrong} is not name=value"):
      evaluate.options_of([wrong])


def test_a_world_of_other_pixels_or_actions_than_were_learned_is_refused(trained, tmp_path, monkeypatch):
  """Inputs would be 255 times too large, or outputs would be cut at other places. Shapes alone do not show that."""

  class Bytes(worlds.CueRecall):
    def observation_spec(self):
      return {name: specs.Array(spec.shape, np.uint8) for name, spec in super().observation_spec().items()}

  with flagsaver.flagsaver(source=str(trained), episodes=1, release=str(tmp_path / "out")):
    evaluate.main()
  for folder in (trained, tmp_path / "out"):
    source = released.load_source(folder)
    assert source.learned_in == {"num_choices": [2], "pixels": []}
    learn.player(source, "recall", {}, seed=0)
    with monkeypatch.context() as patch:
      worlds.serve(patch, lambda name, **options: Bytes())
      with pytest.raises(
        ValueError, match="learned from signal as floats, and other shows uint8, divided by 255; make"
      ):
        learn.player(source, "other", {}, seed=0)
      learn.player(source._replace(learned_in=None), "other", {}, seed=0)  # Nothing is known of an older network.
    others = source._replace(learned_in={"num_choices": [1, 2], "pixels": []})
    with pytest.raises(ValueError, match=r"learned actions of \[1, 2\] values, and recall takes \[2\]; name another"):
      learn.player(others, "recall", {}, seed=0)


@pytest.mark.parametrize("can_be_set", [True, False])
def test_an_arm_that_does_not_fit_is_left_before_its_options_are_tried(trained, monkeypatch, can_be_set):
  """As at a bridge, which has one client at a time. Only the server says how many joints there are."""
  joined = []

  class Arm(dm_env_adapter.DmEnv):
    def close(self):
      joined.remove(self)

  def join(name, *, seed, observations, num_joints=9):
    if joined:
      raise protocol.BridgeError("the arm is in use by another client")
    if num_joints == 6 and not can_be_set:
      raise protocol.BridgeError("9 joints are served; serve it with --num_joints=6")
    joined.append(Arm(worlds.CueRecall() if num_joints == 6 else worlds.Bandit(), seed=seed))
    return joined[-1]

  monkeypatch.setattr(registry, "make", join)
  monkeypatch.setattr(released, "trained_in", lambda folder: ("recall", {"num_joints": 6}))
  fix = "add --option=num_joints=6" if can_be_set else "as it was trained, 9 joints are served; serve it with"
  with pytest.raises(ValueError, match=f"the network reads signal .*; {fix}"):
    evaluate.player(released.load_source(trained), trained, "arm://robot:5005", {}, seed=0)
  assert not joined


def test_the_option_that_makes_a_network_fit_is_named():
  trained = {"max_start_spread_rad": 0.4, "num_joints": 6}
  assert evaluate.options_that_fit(lambda o: o.get("num_joints") == 6, {}, trained) == "--option=num_joints=6"
  both = evaluate.options_that_fit(lambda o: len(o) == 2, {}, trained)
  assert both == "--option=max_start_spread_rad=0.4 --option=num_joints=6"
  assert evaluate.options_that_fit(lambda o: False, {}, trained) == ""
  options = {"change": "subtle_color", "is_3d": True, "name": "it's", "randomization": {"mass": [0.2, 1]}}
  hint = evaluate.options_that_fit(lambda given: given == options, {}, options)
  words = [word.removeprefix("--option=") for word in shlex.split(hint)]
  assert evaluate.options_of(words) == options  # It reads what it says to add.
