"""The project's own configs describe the networks they say, on their worlds, and every phase can begin."""

import inspect
import pathlib

import jax
import numpy as np
import pytest
from dm_env import specs
from ml_collections import config_dict

from environments.maze import world
from experiments import binary, describe, evaluate, matrix, train, transfer
from experiments.configs import jaco_auxiliary, jaco_corl2017, jaco_talk, navigation, pong_soup
from experiments.running import population, session
from experiments.setup import configuration
from experiments.store import released, run_directory
from progressive import growth, network

CONFIGS = {"corl2017": jaco_corl2017.get_config, "talk": jaco_talk.get_config}
SWEEPS = [jaco_auxiliary.get_config(), *(pong_soup.get_config(scale) for scale in pong_soup.SCALES)]
SWEEPS += [navigation.get_config(f"{scale},nav,static_1") for scale in ("smoke", "laptop", "paper")]


@pytest.mark.parametrize("name", CONFIGS)
def test_both_columns_join(name):
  spec = describe.from_config(CONFIGS[name]())
  assert len(spec.columns) == 2
  counts = [one.num_parameters for one in growth.report(spec)]
  if name == "corl2017":
    assert counts == [298_700, 36_940]  # Rusu et al. 2017, table 1.
  assert all(len(one.layers) > 1 for one in growth.report(spec))


@pytest.mark.parametrize("config", [get_config() for get_config in CONFIGS.values()] + SWEEPS)
def test_no_learning_rate_falls_to_0_before_the_end(config):
  for name in {"train", "transfer"} & set(config):
    session.check_annealing(config[name], config[name].num_worlds)
    session.check_annealing(config[name], 1 if name == "transfer" else config[name].num_worlds)  # On the arm.


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_column_can_begin(name):
  task = train.make_task(CONFIGS[name]())
  assert task.agent.num_choices == (3,) * (9 if name == "corl2017" else 6)


def test_finetuning_a_vision_column_on_proprioception_is_refused(tmp_path):
  config = jaco_talk.get_config()
  spec = describe.from_config(config)
  source = network.NetworkSpec(spec.columns[:1])
  released.save(tmp_path, source, network.init(jax.random.key(0), source), evaluation={}, provenance={})
  config.source = str(tmp_path)
  assert transfer.make_task(config).agent.spec == spec
  config.method = "finetune"
  with pytest.raises(ValueError, match="method='finetune' makes no sense here"):
    transfer.make_task(config)


OBSERVED = {
  "pixels": specs.BoundedArray((84, 84, 3), np.uint8, 0, 255),
  "rgbd": specs.BoundedArray((84, 84, 4), np.uint8, 0, 255),
  "velocity": specs.Array((6,), np.float32),
  "last_reward": specs.Array((1,), np.float32),
  "last_action": specs.Array((8,), np.float32),
}


@pytest.mark.parametrize(
  ("agent", "heads", "reads"),
  [
    ("ff", [], {"output": ("dense1",)}),
    ("lstm", [], {"lstm1": ("dense1",), "output": ("lstm1",)}),
    ("nav", [], {"lstm1": ("dense1", "last_reward"), "lstm2": ("lstm1", "dense1", "velocity", "last_action")}),
    ("nav_rgbd", [], {"conv1": ("rgbd",)}),
    ("nav_d1l", ["depth_from_dense1", "loop_closure_from_lstm2"], {"output": ("lstm2",)}),
    ("nav_d1d2l", ["depth_from_dense1", "depth_from_lstm2", "loop_closure_from_lstm2"], {}),
    ("nav_d2mse", ["depth_grid_from_lstm2"], {}),
    ("nav_rgbd_l", ["loop_closure_from_lstm2"], {"conv1": ("rgbd",)}),
    ("lstm_d1d2", ["depth_from_dense1", "depth_from_lstm1"], {"output": ("lstm1",)}),
    ("ff_d1_clip", ["depth_from_dense1"], {"output": ("dense1",)}),
  ],
)
def test_navigation_agents_are_the_paper_s(agent, heads, reads):
  config = navigation.get_config(f"paper,{agent},static_1")
  made = configuration.make_auxiliary(config.train)
  assert [head.name for head in made] == heads
  assert all(head.hidden == 128 for head in made)
  spec = configuration.make_column(config.train.column, OBSERVED, (8,))
  for name, inputs in reads.items():
    assert spec.layer(name).inputs == inputs
  sizes = [layer.size for layer in spec.layers if layer.name.startswith("lstm")]
  assert sizes == {"ff": [], "lstm": [256]}.get(agent.partition("_")[0], [64, 256])  # papers.md 3.1
  hyper = configuration.make_hyper(config.train)
  assert (hyper.reward_scale, hyper.reward_clip) == ((0.5, 1.0) if "clip" in agent else (1.0, np.inf))  # papers.md 3.4
  assert (hyper.optimizer, hyper.second_moment_decay, hyper.lambda_) == ("rmsprop", 0.99, 1.0)
  member = population.sample(config, 0)
  for name in member.train.auxiliary:
    assert member.train.auxiliary[name].cost in navigation._COSTS[name]


def test_a_maze_s_options_are_the_config_s():
  """Those it does not replace are null, or the world's own defaults."""
  options = navigation.get_config("smoke,nav,static_1").world_options.to_dict()
  own = {name: one.default for name, one in inspect.signature(world.Maze).parameters.items()}
  assert options == {name: own[name] for name in options} and {"layout", "num_steps", "style"} <= set(options)


def test_a_maze_s_options_can_be_replaced_and_kept(tmp_path):
  """In a run's directory, on the command line, in `describe` and where a network is evaluated again."""
  layout = tmp_path / "hall.txt"
  layout.write_text("*********\n*P   G A*\n*********\n")
  given = ["--config.world_options.layout=hall.txt", "--config.world_options.loop_near=0.5"]
  binary.check_fields(["train", "--config=experiments/configs/navigation.py:smoke,nav,static_1", *given])
  config = navigation.get_config("smoke,nav,static_1")
  assert describe.from_config(config).columns[0].layers[-1].inputs == ("lstm2",)
  run_directory.claim(tmp_path / "plain", config, "train")
  run_directory.claim(tmp_path / "plain", config, "train")  # Null is null again.
  config.world_options.layout, config.world_options.num_steps = str(layout), 30
  path = run_directory.claim(tmp_path / "hall", config, "train")
  (tmp_path / "plain/checkpoints").mkdir()
  (tmp_path / "plain/checkpoints/100.safetensors").touch()  # From here on it is this config's.
  with pytest.raises(ValueError, match="world_options.num_steps: None there, 30 here"):
    run_directory.claim(tmp_path / "plain", config, "train")
  name, options = evaluate.trained_in(path)
  maze = configuration.make_world(name, config_dict.ConfigDict(options))
  assert (maze.layout.shape, maze.task.num_steps, maze.task.style) == ((1, 4), 30, "style_01")


@pytest.mark.parametrize(
  "variant",
  [
    "laptop,nav_,static_1",
    "laptop,nav_d2d1,static_1",
    "desktop,nav,static_1",
    "laptop",
    "laptop,nav_d2",
    "laptop,nav_d2,static_small,typo",
  ],
)
def test_a_navigation_agent_that_is_none_is_refused(variant):
  with pytest.raises(ValueError, match="is not SCALE,AGENT,MAZE"):
    navigation.get_config(variant)


@pytest.mark.parametrize(
  ("agent", "heads"),
  [
    ("reacher", []),
    ("reacher_d1", ["depth_from_dense1"]),
    ("reacher_d2l", ["depth_from_lstm1", "loop_closure_from_lstm1"]),
    ("reacher_d1mse", ["depth_grid_from_dense1"]),
    ("reacher_pose", ["joints_from_dense1", "palm_to_target_from_dense1"]),
  ],
)
def test_reachers_have_the_navigators_heads_on_the_arms_own_signals(agent, heads):
  config = jaco_auxiliary.get_config(agent)
  task = train.make_task(population.sample(config, 0))
  assert [head.name for head in task.agent.auxiliary_heads] == heads
  without = train.make_task(population.sample(jaco_auxiliary.get_config("reacher"), 0))
  assert task.agent.replace(auxiliary_heads=()) == without.agent  # Nothing else differs.


@pytest.mark.parametrize("agent", ["ff_d2", "ff_d1l", "ff_l_clip"])
def test_losses_on_an_lstm_that_is_not_there_are_refused(agent):
  with pytest.raises(ValueError, match="d2 and l read an LSTM, which ff has not"):
    navigation.get_config(f"laptop,{agent},static_1")


def test_a_reacher_that_is_none_is_refused():
  with pytest.raises(ValueError, match="reacher_rgbd is no agent"):
    jaco_auxiliary.get_config("reacher_rgbd")


def test_pixel_init_is_of_the_convolution_on_pixels_alone():
  section = configuration.column_section(conv=((16, 8, 4), (8, 4, 2)), dense=(4,), lstm=(), pixel_init="contrast")
  spec = configuration.make_column(section, OBSERVED, (8,))
  assert [spec.layer(name).kernel_init for name in ("conv1", "conv2")] == ["contrast", "lecun"]


def test_a_join_to_no_layer_is_refused():
  section = configuration.column_section(conv=((16, 8, 4),), dense=(4,), lstm=(), joins=(("velocity", "lstm1"),))
  with pytest.raises(ValueError, match="column.joins names layer 'lstm1'"):
    configuration.make_column(section, OBSERVED, (8,))


def test_pong_soup_s_smoke_ends_episodes_in_its_last_tenth():
  """By which a cell's members are compared: without one the matrix stops there."""
  config = pong_soup.get_config("smoke")
  phase = config.transfer
  assert (config.target_options.max_episode_steps + 1) * phase.num_worlds <= 0.1 * phase.steps


@pytest.mark.parametrize("scale", pong_soup.SCALES)
def test_every_cell_of_pong_soup_has_a_config(scale):
  config = pong_soup.get_config(scale)
  for cell in matrix.plan(config):
    own = matrix.cell_config(config, cell, pathlib.Path("runs/soup"))
    assert own.target == f"pong/{cell.target}" and bool(own.source) == bool(cell.sources)
  first = population.sample(own, 0)
  assert "sweep" not in first and first.alpha in (1.0, 0.1, 0.01)
