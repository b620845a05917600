"""The measures of made-up episodes are what was put in. A tiny recurrent agent plays, is tested and is filmed."""

import json

import imageio_ffmpeg
import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from agents import auxiliary
from environments import registry
from experiments import navigate
from experiments.configs import base, navigation
from experiments.running import run
from experiments.setup import learn
from experiments.setup import sweep as sweep_lib
from experiments.store import checkpoint, network_file, released, run_directory, sweep_folder
from experiments.studies.navigation import episodes, episodes_file, evaluation, folder
from progressive import network, partition
from tests.experiments.studies.navigation import navigators

STEPS = 12  # In an episode of the tiny agent.


def test_known_episodes_give_known_numbers():
  measures = episodes.measure(navigators.played(), layer="lstm2", bounds=(0.0, np.inf))
  np.testing.assert_array_equal(measures.scores, [1, 2, 3, 4, 5])  # The shown episode, of 0, does not count.
  assert float(measures.score.mean) == 3.0 and measures.score.low < 3.0 < measures.score.high
  assert measures.latency.goal_percent == 80.0 and measures.latency.num_goals == 8
  assert measures.latency.first_s == pytest.approx(1.0)  # 15 steps at 15 per second.
  assert measures.latency.later_s == pytest.approx(1.0)
  assert measures.position.accuracy == 1.0 and measures.position.majority == pytest.approx(0.5)
  # 15 of 60 steps close a loop. The head says so there and at 15 others.
  assert (measures.loop.precision, measures.loop.recall) == (0.5, 1.0)
  assert measures.loop.f1 == pytest.approx(2 / 3) and measures.loop_percent == 25.0
  # The head is wrong in a quarter of the places in every other step. There bands 0 and 3 are equally common.
  assert measures.depth == {"depth_from_lstm2": episodes.DepthScore(0.875, 0.875)}


def test_features_without_the_cell_do_not_decode():
  played = navigators.played()
  blind = played._replace(features=played.features[..., 1:])
  position = episodes.measure(blind, layer="dense1", bounds=(0.0, np.inf)).position
  assert 0.3 < position.accuracy < 0.7


def test_what_was_not_measured_is_none():
  played = navigators.played(heads=())
  measures = episodes.measure(played.part(slice(2)), layer="dense1", bounds=(0.0, np.inf))
  told = episodes_file.summary(measures)
  assert told["position_percent"] is None and told["loop_closure"] is None and told["depth"] == {}
  assert told["score"] == {"mean": 1.0, "low": None, "high": None}
  played.signals["goals_reached"][:] = 0
  told = episodes_file.summary(episodes.measure(played, layer="dense1", bounds=(0.0, np.inf)))
  assert told["goal_percent"] == 0.0 and told["first_s"] is None and told["later_s"] is None


def test_files_keep_what_figures_need(tmp_path):
  navigators.write_test(tmp_path, "nav_d2l", "static_small")
  found = episodes_file.read(tmp_path)
  assert float(found.score.mean) == 3.0 and found.layout.text == navigators.LAYOUT.text
  shown, played = found.shown, navigators.played()
  np.testing.assert_array_equal(shown.cell, played.signals["cell"][0])
  np.testing.assert_array_equal(shown.decoded, shown.cell)
  np.testing.assert_array_equal(shown.frames, played.frames[shown.frame_steps])
  np.testing.assert_array_equal(shown.said["depth_from_lstm2"], played.said["depth_from_lstm2"][0])
  assert len(shown.frames) == 6 and shown.value.sum() == 0.0
  others = played.features[1:].reshape(-1, 3)
  assert len(shown.features) == len(others) == 305  # Below the limit, so all are kept.
  np.testing.assert_allclose(shown.features, others, atol=2e-3)
  assert {tuple(goal) for goal in shown.feature_goals} == {(0.5, 0.5), (4.5, 2.5)}


def test_unreadable_files_are_refused_by_name(tmp_path):
  assert episodes_file.read(tmp_path) is None
  navigators.write_test(tmp_path, "nav_d2l", "static_small")
  told = json.loads((tmp_path / "episodes.json").read_text())
  del told["goal_percent"]
  (tmp_path / "episodes.json").write_text(json.dumps(told))
  with pytest.raises(ValueError, match=r"episodes.json cannot be read \(it has no 'goal_percent'\); remove it"):
    episodes_file.read(tmp_path)
  (tmp_path / "episodes.json").write_text("{")
  with pytest.raises(ValueError, match="run experiments.navigate again"):
    episodes_file.read(tmp_path)
  (tmp_path / "episodes.json").write_text("[]")
  with pytest.raises(ValueError, match="run experiments.navigate again"):
    episodes_file.read(tmp_path)


@pytest.mark.parametrize("num_bytes", [0, 1_000])
def test_cut_arrays_are_refused_by_name(tmp_path, num_bytes):
  navigators.write_test(tmp_path, "nav_d2l", "static_small")
  file = tmp_path / "episodes.npz"
  file.write_bytes(file.read_bytes()[:num_bytes])
  with pytest.raises(ValueError, match="episodes.json cannot be read .* run experiments.navigate again"):
    episodes_file.read(tmp_path)


def make_config():
  """Two members on short episodes: a convolution, an LSTM of 6, and all kinds of heads."""
  config = base.experiment(
    world="maze/static_small",
    world_options={"num_steps": STEPS},
    train=base.phase(
      column=base.column(conv=((4, 8, 8),), dense=(5,), lstm=(6,)),
      auxiliary={
        "d1": base.head("depth", "dense1", 1.0, num_classes=8),
        "d2": base.head("depth_grid", "lstm1", 1.0),
        "l": base.head("loop_closure", "lstm1", 1.0, num_classes=2),
      },
      steps=2 * 2 * (STEPS + 1),
      num_worlds=2,
      num_steps=STEPS + 1,
      evaluate_every=0,
      evaluation_episodes=0,
      save_every=0,
      reward_scale=0.1,
    ),
  )
  config.seed, config.agent = 3, "nav_d1d2msel"
  config.sweep = base.sweep(num_runs=2, top=1, sampled=())
  return config


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  """Untrained networks as a sweep leaves them. The second is the best: its records say it returned 5, the first's 1."""
  path = tmp_path_factory.mktemp("nav") / "tiny"
  config = make_config()
  navigators.write_sweep(path, config.agent, "static_small", [(1, 1), (5, 5)], until=100)
  run_directory.write_json(path / "config.json", json.loads(config.to_json()))
  tasks = [learn.make(sweep_lib.sample(config, i)) for i in range(2)]
  network_file.write_spec(path, tasks[0].agent.spec)
  params = jax.tree.map(lambda *leaves: np.stack(leaves), *(task.params for task in tasks))
  checkpoint.save(path / "checkpoints", config.train.steps, {"trainable": params, "frozen": ()})
  return path


def test_the_best_member_is_loaded_with_its_heads(sweep):
  best = evaluation.best_member(sweep)
  assert (best.member, best.late_return, best.step) == (1, 5.0, 52)
  assert set(best.task.params[-1]["auxiliary"]) == {head.name for head in best.task.agent.auxiliary_heads}
  _, arrays = checkpoint.load_newest(sweep / "checkpoints")
  for name, array in checkpoint.flatten(best.task.params).items():
    np.testing.assert_array_equal(array, arrays[f"trainable/{name}"][1], err_msg=name)
  alone = sweep_folder.trained(sweep, 1).params
  without_heads = {layer: params for layer, params in best.task.params[-1].items() if layer != "auxiliary"}
  assert partition.content_hash(alone) == partition.content_hash((without_heads,))


def test_main_tests_films_and_repeats_nothing(sweep, capsys):
  navigators.write_sweep(sweep.parent / "arm", "reacher", "jaco/reach/fixed", [(0, 1)])  # No maze: not tested.
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(runs=[str(sweep.parent)], test_episodes=4, videos=True):
    navigate.main()
    first = (sweep / "episodes.json").stat().st_mtime_ns
    navigate.main()
  assert (sweep / "episodes.json").stat().st_mtime_ns == first
  assert "[1/1] tiny: test score " in capsys.readouterr().out
  told = json.loads((sweep / "episodes.json").read_text())
  assert told["member"] == 1 and told["trained_steps"] == 52 and told["episodes"] == len(told["scores"]) == 4
  assert told["position_layer"] == "lstm1" and set(told["depth"]) == {"depth_from_dense1", "depth_grid_from_lstm1"}
  assert {"command", "commit", "seed"} <= set(told["provenance"])
  assert (sweep / "episodes.npz").stat().st_size < 500_000
  shown = episodes_file.read(sweep).shown
  assert shown.position.shape == (STEPS + 1, 2) and np.linalg.norm(np.diff(shown.position, axis=0), axis=1).max() > 0
  reader = imageio_ffmpeg.read_frames(str(sweep / evaluation.VIDEO))
  assert next(reader)["fps"] == 15.0
  assert sum(1 for _ in reader) == STEPS + 1
  evaluation.measure(sweep, num_episodes=3)  # Another test, whose first episode is not filmed.
  assert not (sweep / evaluation.VIDEO).exists()


@pytest.mark.parametrize(
  ("signal", "num_classes", "message"),
  [
    ("velocity", 0, "'velocity' has no measure; there are depth, depth_grid, loop_closure"),
    ("depth", 0, "'depth' has num_classes=0, but depth comes in bands; regress 'depth_grid'"),
  ],
)
def test_heads_without_a_measure_are_refused(sweep, signal, num_classes, message):
  agent = evaluation.best_member(sweep).task.agent
  episodes.check_heads(agent)  # Bands, regressed depth and loop closures have measures.
  heads = (auxiliary.Head(signal, "lstm1", 1.0, num_classes=num_classes),)
  with pytest.raises(ValueError, match=message):
    episodes.check_heads(agent.replace(auxiliary_heads=heads))


def test_play_sees_what_the_world_shows(sweep):
  best = evaluation.best_member(sweep)
  key = jax.random.key(0)
  played = episodes.play(best.task, key, num_episodes=4, is_greedy=False)
  again = episodes.play(best.task, key, num_episodes=4, is_greedy=False)
  np.testing.assert_array_equal(played.value, again.value)
  assert played.reward.shape == (5, STEPS + 1) and played.features.shape == (5, STEPS + 1, 6)
  assert (played.reward[:, 0] == 0).all()  # Time 0 is the start.
  position, cell = played.signals["position"], played.signals["cell"]
  np.testing.assert_array_equal(cell, np.floor(position[..., 1]) * 5 + np.floor(position[..., 0]))
  probability = played.said["loop_closure_from_lstm1"]
  assert ((probability > 0) & (probability < 1)).all()
  # In numpy: the output layer reads the kept features.
  output = best.task.params[-1]["output"]
  value = (played.features @ np.asarray(output["kernel"]) + np.asarray(output["bias"]))[..., -1]
  np.testing.assert_allclose(played.value, value / 0.1, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A smaller Nav A3C+D2 in the tiny maze, trained for a moment."""
  config = navigation.get_config("laptop,nav_d2,static_small")
  config.train.column.update(conv=((8, 8, 8), (16, 3, 2)), dense=(64,), lstm=(32, 64), start="random")
  config.train.num_worlds, config.train.hyper.fan_in = 8, float("inf")
  config.train.steps, config.train.hyper.learning_rate, config.sweep.num_runs = 2_560, 4e-3, 1
  config.train.auxiliary.d2.cost, config.train.hyper.max_gradient_norm = 100.0, 5.0
  config.sweep.sampled, config.world_options.num_steps = (), 60
  path = tmp_path_factory.mktemp("trained") / "d2"
  run.run(config, path)
  return path


def test_depth_is_soon_read_off_the_lstm_better_than_by_its_prior(trained):
  told = evaluation.measure(trained, num_episodes=4).summary["depth"]["depth_from_lstm2"]
  assert told["accuracy_percent"] > told["prior_percent"] + 10  # Measured: 41.9 and 21.0.


def test_a_trained_navigator_can_be_grown_upon(trained):
  """The kept network is the best member's. Grown, it first gives the same output, from the frozen column's features."""
  source = released.load_source(trained / "best")
  assert partition.content_hash(source.params) == partition.content_hash(sweep_folder.trained(trained, 0).params)
  assert json.loads((trained / "best/evaluation.json").read_text())["world"] == "maze/static_small"
  spec = network.Network(source.spec.columns * 2)
  grown = network.grow(jax.random.key(0), source.params, spec=spec)
  maze = registry.make("maze/static_small")
  seen = jax.jit(lambda key: maze.observe(maze.reset(key)).observation)(jax.random.key(1))
  inputs = {name: np.asarray(seen[name])[None] for name in network.input_names(spec)}

  def output(spec, params):
    activations, _ = network.apply(
      params, spec, inputs=inputs, state=network.initial_state(spec), is_first=np.array([True])
    )
    return np.asarray(activations[-1]["output"])

  before = output(source.spec, source.params)
  np.testing.assert_allclose(output(spec, grown), before, atol=1e-6)
  grown[0]["lstm2"]["input_kernel"] = -grown[0]["lstm2"]["input_kernel"]
  assert np.abs(output(spec, grown) - before).max() > 1e-3


def test_mistakes_are_refused_in_one_line(tmp_path):
  with pytest.raises(ValueError, match="no sweep of a navigator there"):
    folder.find([str(tmp_path)])
  navigators.write_sweep(tmp_path / "a", "nav", "static_small", [(0, 10)])
  with pytest.raises(ValueError, match="a has no checkpoint; train it first"):
    evaluation.best_member(tmp_path / "a")
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(runs=None), pytest.raises(ValueError, match="--runs is missing"):
    navigate.main()
