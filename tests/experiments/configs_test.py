"""The project's own configs describe the networks that they name, on their worlds, and every phase can begin."""

import dataclasses
import inspect
import pathlib
import re

import jax
import numpy as np
import pytest
from absl import flags
from dm_env import specs
from ml_collections import config_flags

from agents import auxiliary
from analysis import paper
from environments import registry
from environments.atari import emulator
from environments.jaco import randomize
from environments.maze import world
from experiments import binary
from experiments.configs import (
  atari,
  base,
  continual,
  jaco_auxiliary,
  jaco_corl2017,
  jaco_talk,
  labyrinth,
  navigation,
  pong_soup,
)
from experiments.running import run
from experiments.setup import checks, column, learn, place
from experiments.setup import sweep as sweep_lib
from experiments.store import released, run_directory
from experiments.studies.pnn import matrix
from progressive import cost, layers, network, partition, wiring

SWEEPS = [jaco_auxiliary.get_config(), *(pong_soup.get_config(scale) for scale in pong_soup.SCALES)]
SWEEPS += [labyrinth.get_config(scale) for scale in labyrinth.SCALES]
SWEEPS += [atari.get_config(scale) for scale in atari.SCALES]
SWEEPS += [navigation.get_config(f"{scale},nav,static_1") for scale in navigation.SCALES]
RUNS = [jaco_corl2017.get_config(variant) for variant in ("column", *jaco_corl2017.FIGURE_5, "fig7_static", "fig7_two")]
SWEEPS += [jaco_corl2017.get_config(variant) for variant in (*jaco_corl2017.FIGURE_4, *jaco_corl2017.FIGURE_6)]
RUNS += [jaco_talk.get_config(variant) for variant in ("vision", "reach")]


def test_the_next_column_joins_the_released_one():
  spec = learn.make(jaco_corl2017.get_config("progressive")).agent.spec
  assert [one.num_parameters for one in cost.report(spec)] == [298_700, 36_940]  # Rusu et al. 2017, table 1.
  spec = learn.make(jaco_talk.get_config("reach")).agent.spec
  assert [set(column_spec.input_shapes) for column_spec in spec.columns] == [{"pixels"}, {"proprioception", "target"}]


@pytest.mark.parametrize(
  ("kind", "num_parameters"),  # Rusu et al. 2017, table 1. Its narrow columns count their laterals too.
  [("wide", 298_700), ("wide_ff", 620_620), ("narrow", 10_364), ("narrow_ff", 13_324)],
)
def test_first_columns_are_the_paper_s(kind, num_parameters):
  config = jaco_corl2017.get_config(kind)
  config.train.column.norm = "none"
  assert [one.num_parameters for one in cost.report(learn.make(config).agent.spec)] == [num_parameters]
  assert not config.train.auxiliary and config.train.steps == 50_000_000


@pytest.mark.parametrize("config", RUNS + SWEEPS)
def test_no_learning_rate_falls_to_0_before_the_end(config):
  checks.check_annealing(config.train)


@pytest.mark.parametrize("config", RUNS, ids=lambda config: f"{config.method}_{config.train.num_worlds}")
def test_every_run_can_begin(config):
  task = learn.make(config)
  assert task.agent.num_choices == (3,) * config.world_options.num_joints
  assert len(task.agent.spec.columns) == (2 if config.method in ("progressive", "random_column") else 1)


@pytest.mark.parametrize("variant", jaco_corl2017.FIGURE_6)
def test_figure_6_learns_from_the_released_column_in_a_changed_scene(variant):
  config = jaco_corl2017.get_config(variant)
  method, _, change = variant.partition("_")
  drawn = {name: values for name, _, values in config.sweep.sampled}
  assert drawn == {  # papers.md 2.4
    "train.hyper.learning_rate": (5e-5, 5e-3),
    "train.hyper.entropy_cost": (1e-5, 1e-2),
  }
  assert config.sweep.num_runs == config.sweep.top == 30
  task = learn.make(sweep_lib.sample(config, 0))
  assert task.place.world == registry.make("jaco/reach/random", num_joints=9, change=change)
  sizes = [one.num_parameters for one in cost.report(task.agent.spec)]
  assert sizes == ([298_700] if method == "finetune" else [298_700, 36_940])  # Rusu et al. 2017, table 1.


@pytest.fixture(scope="module")
def three_columns():
  """The network of figure 7, grown on a second column with random weights."""
  second = learn.make(jaco_corl2017.get_config("fig7_static"))
  return learn.make(
    jaco_corl2017.get_config("fig7_three"),
    source=released.Source(second.agent.spec, second.params, 0, reward_scale=1.0),
  )


def test_figure_7_s_third_column_feels_and_is_to_find_a_target_that_moves(three_columns):
  spec = three_columns.agent.spec
  assert [tuple(one.input_shapes) for one in spec.columns] == [
    ("pixels",),
    ("pixels", "proprioception"),
    ("proprioception",),
  ]
  second = spec.columns[1]
  assert second.layer("proprioception_dense") == layers.Dense("proprioception_dense", ("proprioception",), size=16)
  assert second.layer("dense1").inputs == ("conv2", "proprioception_dense")
  worlds = [jaco_corl2017.get_config(variant).world for variant in jaco_corl2017.FIGURE_7]
  assert worlds == ["jaco/reach/random", "jaco/conveyor", "jaco/conveyor"]
  with pytest.raises(
    ValueError, match="no network is named to start from, as all methods but scratch do; set --config.source"
  ):
    learn.make(jaco_corl2017.get_config("fig7_three"))


def test_figure_7_on_a_twin_is_of_the_same_columns_and_tasks_with_a_teacher():
  for variant in jaco_corl2017.FIGURE_7:
    ours, taught = (jaco_corl2017.get_config(variant + how) for how in ("", "_taught_twin"))
    assert taught.world == "twin/" + ours.world.removeprefix("jaco/") and taught.world_options.gap == "full"
    assert taught.train.teacher == "experiments/released/jaco_corl2017" and not ours.train.teacher
    assert taught.agent == ours.agent and taught.source == ours.source
    changed = {"norm": "layer", "start": "data"}
    assert {**taught.train.column} == {**ours.train.column, **changed}


def test_figure_7_s_third_column_sees_by_laterals_alone(three_columns):
  """Other pixels change its output through either earlier column. Without laterals only proprioception changes it."""
  spec, rng = three_columns.agent.spec, np.random.default_rng(0)
  params = network.init(jax.random.key(1), spec)  # Not the second column's policy, with which the new one starts.
  inputs = {
    "pixels": rng.integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8),  # Two pictures, and what is felt, for 3 steps.
    "proprioception": rng.normal(size=(2, 3, 27)).astype(np.float32),
  }

  apply = jax.jit(network.apply, static_argnums=1)

  def answer(params, pixels, proprioception):
    seen = {"pixels": inputs["pixels"][pixels], "proprioception": inputs["proprioception"][proprioception]}
    activations, _ = apply(params, spec, inputs=seen, state=network.initial_state(spec))
    return np.asarray(activations[-1]["output"])

  def without(*columns):
    """The parameters, with the third column's laterals from `columns` at 0."""
    names = {f"column_{j}" for j in columns}
    leaves, treedef = jax.tree.flatten(params)
    is_cut = [path[0] == 2 and bool(names & set(path)) for path in partition.paths(params)]
    return treedef.unflatten([0.0 * leaf if cut else leaf for leaf, cut in zip(leaves, is_cut, strict=True)])

  for whole in (params, without(0), without(1)):
    assert np.abs(answer(whole, 0, 0) - answer(whole, 1, 0)).max() > 1e-4
  blind = without(0, 1)
  np.testing.assert_array_equal(answer(blind, 0, 0), answer(blind, 1, 0))
  assert np.abs(answer(blind, 0, 0) - answer(blind, 0, 1)).max() > 1e-4


def test_an_input_with_a_layer_of_its_own_goes_where_it_would_have_gone_itself():
  rest = {"inputs": ("pixels", "velocity", "last_action"), "conv": ((8, 8, 4),), "dense": (4,), "lstm": (5,)}
  joins = (("velocity", "lstm1"),)
  spec = column.make(base.column(**rest, joins=joins, embed=(("velocity", 3), ("last_action", 2))), OBSERVED, (8,))
  assert spec.layer("velocity_dense") == layers.Dense("velocity_dense", ("velocity",), size=3)
  assert spec.layer("dense1").inputs == ("conv1", "last_action_dense")
  assert spec.layer("lstm1").inputs == ("dense1", "velocity_dense")
  with pytest.raises(ValueError, match="'speed_dense' reads 'speed', which is none of the inputs"):
    column.make(base.column(**rest, joins=joins, embed=(("speed", 3),)), OBSERVED, (8,))


def test_variants_that_are_none_are_refused():
  with pytest.raises(
    ValueError, match="jaco_corl2017.py:finetuning is not one of column, randomized, wide, .*, progressive"
  ):
    jaco_corl2017.get_config("finetuning")
  with pytest.raises(ValueError, match="jaco_talk.py:column is not one of vision, arm, reach, catch, bee; nearest is"):
    jaco_talk.get_config("column")


def test_laptop_configs_pair_epochs_with_long_unrolls():
  """Several passes over an unroll go with long unrolls."""
  for config in (atari.get_config("laptop"), labyrinth.get_config("laptop"), pong_soup.get_config("laptop")):
    assert (config.train.hyper.epochs, config.train.num_steps) in {(4, 32), (4, 50), (4, 128)}


def test_a_variant_on_a_twin_differs_in_its_world_alone():
  arm, twin = (jaco_corl2017.get_config(variant) for variant in ("finetune_head", "finetune_head_twin"))
  assert run_directory.difference(arm.to_dict(), twin.to_dict()) == [
    "world: 'jaco/reach/random' there, 'twin/reach/random' here",
    "world_options.gap: None there, 'full' here",
  ]


def test_every_column_of_the_ladder_has_its_task_and_the_same_layers():
  configs = [jaco_talk.get_config(variant) for variant in jaco_talk.LADDER]
  assert [config.world for config in configs] == ["jaco/reach/random", "jaco/catch", "jaco/catch_the_bee"]
  assert all(config.train == configs[0].train for config in configs)
  assert [bool(config.source) for config in configs] == [True, False, False]
  checks.check_annealing(configs[0].train)


@pytest.mark.parametrize(
  "config", [jaco_talk.get_config("arm"), jaco_corl2017.get_config("finetune_taught")], ids=lambda config: config.method
)
def test_the_teacher_is_the_source_unless_another_is_named(config):
  assert config.train.teacher == config.source
  config.source = "runs/mine"
  assert config.train.teacher == "runs/mine"
  config.train.teacher = "runs/other"
  assert (config.source, config.train.teacher) == ("runs/mine", "runs/other")


def test_scratch_and_later_columns_have_the_first_column_as_teacher():
  for variant in ("scratch_taught", "fig7_three_taught"):
    config = jaco_corl2017.get_config(variant)
    config.source = "runs/second"
    assert config.train.teacher == "experiments/released/jaco_corl2017"


def test_finetuning_a_vision_column_on_proprioception_is_refused():
  config = jaco_talk.get_config("reach")
  config.method = "finetune"
  with pytest.raises(ValueError, match="method='finetune' makes no sense here"):
    learn.make(config)


def test_any_navigator_grows_on_another():
  """The new column has its own losses. Source and target differ only in the maze."""
  config = navigation.get_config("smoke,nav_d2,static_1")
  first = learn.make(sweep_lib.sample(config, 0))
  config.method = "progressive"
  source = released.Source(first.agent.spec, auxiliary.without(first.params), None, reward_scale=0.1)
  second = learn.make(sweep_lib.sample(config, 0), source=source)
  assert second.agent.spec == network.Network(first.agent.spec.columns * 2)
  assert ["auxiliary" in params for params in second.params] == [False, True]
  trainable, _ = partition.split(second.params, second.is_trainable)
  assert {path[0] for path in partition.paths(trainable)} == {1}


def parsed(file, *arguments):
  """The config of a command line, as binaries read it."""
  argv, values = ["train", f"--config={file}", *arguments], flags.FlagValues()
  holder = config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
  binary.check_fields(argv)
  values(argv)
  return holder.value


def test_the_first_column_s_episodes_may_differ_by_the_command_line(tmp_path):
  """Randomisation is off by default. A run belongs to its randomisation, and is played again in the same world."""
  file, field = "experiments/configs/jaco_corl2017.py", "--config.world_options.randomization"
  plain = jaco_corl2017.get_config()
  off = {one.name: one.default for one in dataclasses.fields(randomize.Randomization)}
  assert plain.world_options.randomization.to_dict() == off
  assert (
    place.make(plain.world, plain.world_options.to_dict()).world == place.make(plain.world, {"num_joints": 9}).world
  )
  with pytest.raises(ValueError, match=f"nearest is {field}.mass"):
    parsed(file, f"{field}.masses=0.2")
  given = (f"{field}.mass=0.2", f"{field}.color=0.1")
  expected = registry.make(plain.world, num_joints=9, randomization=randomize.Randomization(mass=0.2, color=0.1))
  assert learn.make(parsed(file, *given)).place.world == expected
  path = run_directory.claim(tmp_path, parsed(file, *given))
  (path / "checkpoints").mkdir()
  (path / "checkpoints/100.safetensors").touch()
  run_directory.claim(tmp_path, parsed(file, *given))
  with pytest.raises(ValueError, match="world_options.randomization.mass: 0.2 there, 0.3 here"):
    run_directory.claim(tmp_path, parsed(file, *given, f"{field}.mass=0.3"))
  assert place.make(*released.trained_in(tmp_path)).world == expected


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
  made = learn.make_heads(config.train)
  assert [head.name for head in made] == heads
  assert all(head.hidden == 128 for head in made)
  spec = column.make(config.train.column, OBSERVED, (8,))
  for name, inputs in reads.items():
    assert spec.layer(name).inputs == inputs
  sizes = [layer.size for layer in spec.layers if layer.name.startswith("lstm")]
  assert sizes == {"ff": [], "lstm": [256]}.get(agent.partition("_")[0], [64, 256])  # papers.md 3.1
  hyper = learn.make_hyper(config.train)
  assert (hyper.reward_scale, hyper.reward_clip) == ((0.5, 1.0) if "clip" in agent else (1.0, np.inf))  # papers.md 3.4
  assert a3c_of(config) == A3C and config.train.num_worlds == 16
  assert hyper.max_gradient_norm == np.inf  # The paper gives none.
  member = sweep_lib.sample(config, 0)
  for name in member.train.auxiliary:
    assert hyper.reward_scale ** ("clip" in agent) * member.train.auxiliary[name].cost in navigation._COSTS[name]


# papers.md 4: gradients are summed over an unroll, and the learning rate falls to 0 at the end.
A3C = {
  "reduction": "sum",
  "optimizer": "rmsprop",
  "second_moment_decay": 0.99,
  "epsilon": 0.1,
  "lambda_": 1.0,
  "value_cost": 0.5,
  "discount": 0.99,
}


def a3c_of(config):
  """The settings of A3C in a config at paper scale. Checks its annealing first."""
  hyper = learn.make_hyper(config.train)
  assert hyper.anneal_updates * config.train.num_steps == config.train.steps  # Every world makes updates of its own.
  checks.check(config)
  return {name: getattr(hyper, name) for name in A3C}


def test_matrices_at_paper_scale_are_a3c():
  for config in (made.get_config("paper") for made in (pong_soup, labyrinth, atari)):
    drawn = {name: values for name, _, values in config.sweep.sampled}
    assert drawn["train.hyper.max_gradient_norm"] == (20.0, 40.0)  # papers.md 1.4
    assert a3c_of(config) == A3C and config.train.num_worlds == 16


@pytest.mark.parametrize(
  ("variant", "entropy", "costs"),
  [
    ("laptop,nav_d1l,static_1", 1e-3, {"d1": 0.1, "l": 0.0333}),
    # A tenth of the rewards, and a hundredth of the paper's costs.
    ("laptop,nav_d1l,static_small", 1e-3, {"d1": 0.1, "l": 0.0333}),
    ("laptop,nav_d1l_clip,static_small", 1e-3, {"d1": 1.0, "l": 0.333}),
    ("paper,nav_d1l,static_1", (1e-4, 1e-3), {"d1": 10.0, "l": 3.33}),  # papers.md 3.4
    ("paper,nav_d1l_clip,static_1", (1e-4, 1e-3), {"d1": 10.0, "l": 3.33}),
  ],
)
def test_what_navigators_terms_weigh_in_the_loss(variant, entropy, costs):
  config = navigation.get_config(variant)
  scale = config.train.hyper.reward_scale
  drawn = {name: values for name, _, values in config.sweep.sampled}
  np.testing.assert_allclose(
    scale * np.array(drawn.get("train.hyper.entropy_cost", config.train.hyper.entropy_cost)), entropy
  )
  weights = {name: scale * head.cost for name, head in config.train.auxiliary.items()}
  assert weights == pytest.approx(costs)


@pytest.mark.parametrize("maze", ["static_small", "static_1"])
def test_agents_that_a_laptop_compares_have_the_same_rate_and_costs(maze):
  configs = [navigation.get_config(f"laptop,{agent},{maze}") for agent in ("nav", "nav_d1d2l", "ff")]
  assert all(config.sweep.sampled == () and config.sweep.num_runs == 5 for config in configs)
  first, *others = [config.train.hyper.to_dict() for config in configs]
  assert all(other == first for other in others)


def test_a_maze_s_options_are_the_config_s():
  """Those that it does not replace are null, or the world's own defaults."""
  options = navigation.get_config("smoke,nav,static_1").world_options.to_dict()
  own = {name: one.default for name, one in inspect.signature(world.Maze).parameters.items()}
  assert options == {name: own[name] for name in options} and {"layout", "num_steps", "style"} <= set(options)


def test_a_maze_s_options_can_be_replaced_and_kept(tmp_path):
  """In a run's directory, on the command line, in `describe` and when a network is evaluated again."""
  layout = tmp_path / "hall.txt"
  layout.write_text("*********\n*P   G A*\n*********\n")
  given = ["--config.world_options.layout=hall.txt", "--config.world_options.loop_near=0.5"]
  binary.check_fields(["train", "--config=experiments/configs/navigation.py:smoke,nav,static_1", *given])
  config = navigation.get_config("smoke,nav,static_1")
  assert learn.make(config).agent.spec.columns[0].layers[-1].inputs == ("lstm2",)
  run_directory.claim(tmp_path / "plain", config)
  run_directory.claim(tmp_path / "plain", config)  # Null comes back as null.
  config.world_options.layout, config.world_options.num_steps = str(layout), 30
  path = run_directory.claim(tmp_path / "hall", config)
  (tmp_path / "plain/checkpoints").mkdir()
  (tmp_path / "plain/checkpoints/100.safetensors").touch()  # From here on it belongs to this config.
  with pytest.raises(ValueError, match="world_options.num_steps: None there, 30 here"):
    run_directory.claim(tmp_path / "plain", config)
  name, options = released.trained_in(path)
  maze = place.make(name, options).world
  assert (maze.layout.shape, maze.task.num_steps, maze.task.style) == ((1, 4), 30, "style_01")


def test_a_run_keeps_the_text_of_a_maze_and_refuses_an_edited_one(tmp_path, capsys):
  layout = tmp_path / "hall.txt"
  layout.write_text("*********\n*P   G A*\n*********\n")
  config = navigation.get_config("smoke,ff,static_1")
  config.train.update({"steps": 20, "save_every": 0})
  config.world_options.update({"layout": str(layout), "num_steps": 30})
  del config.sweep
  run.run(config, tmp_path / "run")
  layout.write_text("*********\n*P   A G*\n*********\n")
  name, options = released.trained_in(tmp_path / "run")
  assert place.make(name, options).world.layout.goals.tolist() == [2]  # Where it was when the run learned.
  with pytest.raises(ValueError, match="another config .world_options.layout: .*G A.* there, .*A G.* here"):
    run.run(config, tmp_path / "run")
  layout.unlink()
  config.train.steps = 40
  assert int(run.run(config, tmp_path / "run").state.step) == 40
  warning = f"warning: the run goes on with the layout that its config.json keeps: layout {layout} is no file; .*\\n"
  assert re.fullmatch(warning, capsys.readouterr().err)
  assert released.trained_in(tmp_path / "run") == (name, options)
  config.world_options.num_steps = 31
  with pytest.raises(ValueError, match="another config .world_options.num_steps: 30 there, 31 here"):
    run.run(config, tmp_path / "run")
  with pytest.raises(FileNotFoundError, match="hall.txt is no file"):
    run.run(config, tmp_path / "another")


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
  with pytest.raises(ValueError, match="is not SCALE,AGENT,MAZE .*: scales are smoke, .*; agents ff, .* d1, .* behind"):
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
  task = learn.make(sweep_lib.sample(config, 0))
  assert [head.name for head in task.agent.auxiliary_heads] == heads
  without = learn.make(sweep_lib.sample(jaco_auxiliary.get_config("reacher"), 0))
  assert task.agent.replace(auxiliary_heads=()) == without.agent  # Nothing else differs.


@pytest.mark.parametrize("agent", ["ff_d2", "ff_d1l", "ff_l_clip"])
def test_losses_on_an_lstm_that_is_not_there_are_refused(agent):
  with pytest.raises(ValueError, match="d2 and l read an LSTM, which ff has not"):
    navigation.get_config(f"laptop,{agent},static_1")


def test_a_reacher_that_is_none_is_refused():
  with pytest.raises(ValueError, match="reacher_rgbd is no agent"):
    jaco_auxiliary.get_config("reacher_rgbd")


def test_pixel_init_is_of_the_convolution_on_pixels_alone():
  section = base.column(conv=((16, 8, 4), (8, 4, 2)), dense=(4,), lstm=(), pixel_init="contrast")
  spec = column.make(section, OBSERVED, (8,))
  assert [spec.layer(name).kernel_init for name in ("conv1", "conv2")] == ["contrast", "lecun"]


@pytest.mark.parametrize("method", ["finetune", "finetune_head"])
def test_finetuning_on_the_arm_is_of_the_column_that_its_config_describes(method, capsys):
  config = jaco_corl2017.get_config(method)
  learn.warn_unread(learn.make(config), config)
  assert not capsys.readouterr().err


def test_memory_and_norm_are_other_layers_of_the_same_names():
  """For joins, heads and laterals, dense1 and lstm1 are the normalised output and the memory."""
  joins = (("velocity", "dense1"), ("dense1", "lstm2"))
  rest = {"inputs": ("pixels", "velocity"), "conv": ((8, 8, 4),), "dense": (4,), "lstm": (5, 6), "joins": joins}
  plain, other = (
    column.make(base.column(**rest, memory=memory, norm=norm), OBSERVED, (8,))
    for memory, norm in (("lstm", "none"), ("gru", "layer"))
  )
  assert other.layers == (
    layers.Conv("conv1", ("pixels",), 8, 8, 4),
    layers.Dense("dense1_linear", ("conv1", "velocity"), size=4, activation=None),
    layers.LayerNorm("dense1", ("dense1_linear",)),
    layers.GRU("lstm1", ("dense1",), size=5),
    layers.GRU("lstm2", ("lstm1", "dense1"), size=6),
    layers.Dense("output", ("lstm2",), size=9, activation=None, laterals="linear"),
  )
  for columns, first in (
    ((plain, other), "dense1_linear"),
    ((other, plain), "dense1"),
    ((other, other), "dense1_linear"),
  ):
    read = {name: [one.source for one in into] for name, into in wiring.connections(columns)[1]}
    assert {name: sources for name, sources in read.items() if sources} == {
      first: [(0, "conv1")],
      "lstm1": [(0, "dense1"), (0, "lstm1")],
      "lstm2": [(0, "lstm1"), (0, "dense1"), (0, "lstm2")],
      "output": [(0, "lstm2")],
    }
  joins = (("velocity", "dense1_linear"),)
  with pytest.raises(ValueError, match="column.joins names layer 'dense1_linear'; this column has conv1, dense1, "):
    column.make(base.column(**rest | {"joins": joins}, norm="layer"), OBSERVED, (8,))


def test_an_output_reads_earlier_columns_by_adapters_where_it_is_told_to():
  made = {
    kind: column.make(base.column(conv=((8, 8, 4),), dense=(16,), lstm=(), output_laterals=kind), OBSERVED, (3,))
    for kind in ("linear", "adapter")
  }
  in_output = {
    kind: [
      sum(one.num_parameters for one in layer.laterals) for layer in cost.report(network.Network((one, one)))[1].layers
    ]
    for kind, one in made.items()
  }
  assert in_output["linear"][-1] == 16 * 4
  assert in_output["adapter"][-1] == (16 * 16 + 16) + 16 * 4  # V and b, U.
  assert in_output["linear"][:-1] == in_output["adapter"][:-1]
  with pytest.raises(ValueError, match="'output': laterals='adaptor' is not one of"):
    column.make(base.column(conv=((8, 8, 4),), lstm=(), output_laterals="adaptor"), OBSERVED, (3,))


def test_a_join_to_no_layer_is_refused():
  section = base.column(conv=((16, 8, 4),), dense=(4,), lstm=(), joins=(("velocity", "lstm1"),))
  with pytest.raises(ValueError, match="column.joins names layer 'lstm1'"):
    column.make(section, OBSERVED, (8,))


def test_pong_soup_s_smoke_ends_episodes_in_its_last_tenth():
  """A cell's members are compared by these episodes. Without one the matrix stops there."""
  config = pong_soup.get_config("smoke")
  phase = config.train
  assert (config.world_options.max_episode_steps + 1) * phase.num_worlds <= 0.1 * phase.steps


def test_atari_s_column_is_the_paper_s():
  """papers.md 1.2: 12 maps each of 8x8, 4x4 and 3x4, 256 units; 18 actions and a value."""
  observed = {"pixels": specs.BoundedArray((84, 84, 4), np.uint8, 0, 255)}
  convolutions = (8 * 8 * 4 + 1) * 12 + (4 * 4 * 12 + 1) * 12 + (3 * 4 * 12 + 1) * 12
  dense = (7 * 6 * 12 + 1) * 256 + (256 + 1) * 19  # 84 x 84 -> 20 x 20 -> 9 x 9 -> 7 x 6.
  config = atari.get_config("paper")
  assert config.world_options.num_actions == 18 and config.train.hyper.reward_clip == 1.0
  checks.check(config)
  spec = network.Network((column.make(config.train.column, observed, (18,)),))
  assert [one.num_parameters for one in cost.report(spec)] == [convolutions + dense]


def test_freeway_has_a_larger_clip_ratio_than_pong():
  """With 0.1 Freeway was not learned in 200,000 steps. With 0.2 it was learned in 50,000."""
  assert continual.get_config("laptop,scratch,freeway").train.hyper.clip_ratio == 0.2
  assert pong_soup.get_config("laptop").train.hyper.clip_ratio == 0.1


@pytest.mark.parametrize("scale", continual.SCALES)
def test_modes_in_sequence_are_learned_by_one_network_but_for_its_laterals(scale):
  """It is Nature's network at the papers' size. The emulator has all modes. Every phase can begin."""
  made = {}
  for name, (method, laterals) in continual.METHODS.items():
    config = continual.get_config(f"{scale},{name},freeway")
    checks.check(config)
    observed = {"pixels": specs.BoundedArray((84, 84, 4), np.uint8, 0, 255)}
    made[name] = network.Network((column.make(config.train.column, observed, (3,)),) * 2)
    assert config.method == method and config.train.column.laterals == laterals
  laterals_of = {
    name: [sum(one.num_parameters for one in layer.laterals) for layer in cost.report(spec)[1].layers]
    for name, spec in made.items()
  }
  assert laterals_of["published"] == laterals_of["corrected"] != laterals_of["adapters"]
  if scale == "paper":
    convolutions = (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64
    dense = (7 * 7 * 64 + 1) * 512 + (512 + 1) * 4
    assert cost.report(made["scratch"])[0].num_parameters == convolutions + dense
    assert laterals_of["corrected"] == [0, 4 * 4 * 32 * 64, 3 * 3 * 64 * 64, 7 * 7 * 64 * 512, 512 * 4]
  for game, modes in continual.SCALES[scale].modes.items():
    for mode in modes:
      emulator.load(game, seed=0, mode=mode)


def test_variants_of_modes_that_are_none_are_refused():
  with pytest.raises(ValueError, match="continual.py:laptop,prognet,freeway is not SCALE,METHOD,GAME .*published"):
    continual.get_config("laptop,prognet,freeway")


def test_unit_advantages_of_a_single_step_are_refused():
  config = continual.get_config()
  config.train.hyper.update(epochs=1, minibatches=1)
  with pytest.raises(ValueError, match="has_unit_advantages=True goes with epochs or minibatches above 1"):
    checks.check(config)


@pytest.mark.parametrize(
  ("made", "worlds", "scale"),
  [
    (made, worlds, scale)
    for made, worlds in ((pong_soup, "pong/"), (labyrinth, "maze/seek_"), (atari, "atari/"))
    for scale in made.SCALES
  ],
)
def test_every_cell_of_a_matrix_has_a_config(made, worlds, scale):
  config = made.get_config(scale)
  for cell in matrix.plan(config):
    own = matrix.cell_config(config, cell, pathlib.Path("runs/soup"))
    assert own.world == f"{worlds}{cell.target}" and bool(own.source) == bool(cell.sources)
    assert own.world in registry.names() or worlds == "atari/" and emulator.rom_path(cell.target)
  assert worlds in paper.PNN_TABLE1  # Figures find the paper's numbers by this key.
  first = sweep_lib.sample(own, 0)
  assert "sweep" not in first and first.alpha in (1.0, 0.1, 0.01)
