"""Numbers with which a run ends with nothing, or never ends, are refused by name, with the value and what may be."""

import math
import re

import pytest
from ml_collections import config_dict

from experiments.configs import base, jaco_corl2017, jaco_talk, labyrinth, navigation, pong_soup
from experiments.setup import checks, learn
from progressive import baselines


def make_phase(**fields):
  phase = base.phase(
    column=base.column(),
    auxiliary={"depth": base.head("depth", "dense1", 1.0)},
    steps=100,
    num_worlds=2,
    num_steps=5,
    evaluate_every=0,
    save_every=0,
    evaluation_episodes=0,
  )
  with phase.ignore_type():
    for name, value in fields.items():
      *sections, last = name.split(".")
      owner = phase
      for section in sections:
        owner = owner[section]
      owner[last] = value
  return phase


def make_config(seed=0):
  config = base.experiment(world="pong/pong", train=make_phase())
  with config.ignore_type():
    config.seed = seed
  return config


@pytest.mark.parametrize(
  ("name", "value", "may_be"),
  [
    ("keep_checkpoints", 0, "an integer >= 1"),
    ("keep_checkpoints", -1, "an integer >= 1"),
    ("steps", 0, "an integer from 1 to 2,147,483,647"),
    ("steps", -5, "an integer from 1 to 2,147,483,647"),
    ("steps", 2**31, "an integer from 1 to 2,147,483,647"),
    ("steps", 1e6, "an integer from 1"),
    ("num_worlds", 0, "an integer >= 1"),
    ("num_worlds", True, "an integer >= 1"),
    ("num_steps", 0, "an integer >= 1"),
    ("num_steps", 2.5, "an integer >= 1"),
    ("updates_per_record", 0, "an integer >= 1"),
    ("evaluation_episodes", -1, "an integer >= 0"),
    ("evaluate_every", -1, "an integer >= 0"),
    ("save_every", -1, "an integer >= 0"),
    ("replay_updates", -1, "an integer >= 0"),
    ("replay_size", 0, "an integer >= 1"),
    ("hyper.learning_rate", 0.0, "a finite number > 0"),
    ("hyper.learning_rate", -1e-3, "a finite number > 0"),
    ("hyper.learning_rate", math.inf, "a finite number > 0"),
    ("hyper.learning_rate", math.nan, "a finite number > 0"),
    ("hyper.learning_rate", "1e-3", "a finite number > 0"),
    ("hyper.max_gradient_norm", 0.0, "> 0"),
    ("hyper.anneal_updates", -1.0, ">= 0"),
    ("hyper.discount", 1.01, "in [0, 1]"),
    ("hyper.discount", -0.1, "in [0, 1]"),
    ("hyper.lambda_", 1.5, "in [0, 1]"),
    ("hyper.entropy_cost", -1e-3, ">= 0"),
    ("hyper.value_cost", math.nan, ">= 0"),
    ("hyper.reward_scale", 0.0, "> 0"),
    ("hyper.reward_clip", 0.0, "> 0"),
    ("hyper.second_moment_decay", 1.0, "in [0, 1)"),
    ("hyper.epsilon", 0.0, "> 0"),
    ("auxiliary.depth.cost", -1.0, ">= 0"),
    ("auxiliary.depth.hidden", -1, "an integer >= 0"),
  ],
)
def test_a_number_that_cannot_be_is_refused(name, value, may_be):
  expected = re.escape(f"train.{name}={value!r} must be ") + f".*{re.escape(may_be)}"
  with pytest.raises(ValueError, match=expected):
    checks.check_phase(make_phase(**{name: value}))


@pytest.mark.parametrize(
  ("name", "value", "form"),
  [
    ("column.conv", (4, 8, 8), "((16, 8, 4), (32, (3, 4), 2)): features, kernel, stride"),
    ("column.conv", ((4, 8),), "((16, 8, 4), (32, (3, 4), 2)): features, kernel, stride"),
    ("column.conv", ((4, (8, 4, 4), 2),), "((16, 8, 4), (32, (3, 4), 2)): features, kernel, stride"),
    ("column.conv", ((4, 8, 0),), "((16, 8, 4), (32, (3, 4), 2)): features, kernel, stride"),
    ("column.dense", 128, "(128,): units"),
    ("column.dense", ("a",), "(128,): units"),
    ("column.lstm", (6.5,), "(128,): units"),
    ("column.inputs", "pixels", "('pixels',)"),
    ("column.joins", ("velocity", "lstm2"), "(('velocity', 'lstm2'),)"),
    ("column.pixel_init", "contrasts", "nearest is contrast"),
    ("column.memory", "gruu", "nearest is gru"),
    ("column.output_laterals", "adaptor", "nearest is adapter"),
    ("column.norm", "layers", "nearest is layer"),
    ("hyper.optimizer", "adamw", "nearest is adam"),
  ],
)
def test_a_tuple_or_a_word_that_cannot_be_is_refused_with_its_form(name, value, form):
  with pytest.raises(ValueError, match=re.escape(f"{name}={value!r} is not ") + f".*{re.escape(form)}"):
    checks.check_phase(make_phase(**{name: value}))


@pytest.mark.parametrize(
  ("head", "words"),
  [
    (3, "train.auxiliary.depth=3 is no head; give signal, layer, cost, hidden, num_classes"),
    (
      {"signal": "depth", "layer": "dense1"},
      "train.auxiliary.depth lacks cost; set --config.train.auxiliary.depth.cost",
    ),
    ({"classes": 8}, "train.auxiliary.depth: a field='classes' is not one of .* nearest is num_classes"),
  ],
)
def test_a_head_that_is_none_is_refused(head, words):
  phase = make_phase()
  phase.auxiliary = config_dict.ConfigDict({"depth": head})
  with pytest.raises(ValueError, match=words):
    checks.check_phase(phase)


def test_boundary_values_pass():
  allowed = {"steps": 2**31 - 1, "keep_checkpoints": 1, "column.conv": (), "column.joins": (("a", "b"),)}
  allowed |= {"hyper.discount": 1, "hyper.lambda_": 0.0, "hyper.max_gradient_norm": math.inf, "hyper.value_cost": 0}
  checks.check_phase(make_phase(**allowed))


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 + 1, 1.0, True, "1"])
def test_an_invalid_or_aliasing_seed_is_refused(seed):
  with pytest.raises(ValueError, match=re.escape(f"seed={seed!r} must be an integer from 0 to 4,294,967,295")):
    checks.check(make_config(seed=seed))


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_of_adapters_that_cannot_be_is_refused(alpha):
  config = make_config()
  config.alpha = alpha
  with pytest.raises(ValueError, match=re.escape(f"alpha={alpha} must be a finite number > 0")):
    checks.check(config)


def test_a_word_of_the_run_itself_is_checked_whatever_the_method():
  config = make_config()  # From scratch, which does not read it.
  config.output_init = "prevous"
  with pytest.raises(
    ValueError, match="output_init='prevous' is not one of previous, random, copy; nearest is previous"
  ):
    checks.check(config)


def test_the_last_seed_of_a_sweep_is_a_seed():
  config = make_config(seed=checks.MOST_SEED - 1)
  config.sweep = base.sweep(num_runs=2, top=1, sampled=())
  checks.check(config)
  config.sweep.num_runs = 3  # Seeds 2^32 - 2, 2^32 - 1 and 2^32, which is 0 again.
  with pytest.raises(ValueError, match="seed=4294967294 is too large for 3 runs"):
    checks.check(config)


def test_the_last_whole_update_is_counted_in_int32():
  config = make_config()  # Updates of 10 steps.
  config.train.steps = 2**31 - 8  # 2,147,483,640.
  checks.check(config)
  config.train.steps = 2**31 - 7  # Its last update would end at 2,147,483,650, beyond int32.
  with pytest.raises(ValueError, match="set --config.train.steps=2147483640"):
    checks.check(config)


def test_different_seeds_that_pass_are_different_runs():
  keys = [learn.make_key(seed, "learning") for seed in (0, 1, 2**31, checks.MOST_SEED)]
  for seed in (0, 1, 2**31, checks.MOST_SEED):
    checks.check(make_config(seed=seed))
  assert len({str(key) for key in keys}) == 4
  assert str(learn.make_key(2**32 + 1, "learning")) == str(keys[1])  # This is why larger ones are refused.


@pytest.mark.parametrize(
  ("fields", "expected"),
  [
    ({"num_runs": 0}, "sweep.num_runs=0 must be an integer >= 1"),
    ({"top": 0}, "sweep.top=0 must be"),
    ({"sampled": ("alpha", "choice", (1.0, 0.1))}, "sweep.sampled=.* is not of the form .*field, kind, values"),
    ({"sampled": (("alpha", "choice", 1.0),)}, "sweep.sampled=.* is not of the form"),
    ({"sampled": (("alpha", "choice", ("a",)),)}, "sweep.sampled draws alpha from .*not all numbers"),
    ({"sampled": (("train.hyper.learning_rate", "choice", (1e-3, 0.0)),)}, "learning_rate=0.0 must be a finite"),
    ({"sampled": (("train.auxiliary.d2.cost", "choice", (-1.0,)),)}, "d2.cost=-1.0 must be .* --config.sweep.sampled"),
    ({"sampled": (("alpha", "log_uniform", (0.0, 1.0)),)}, "needs .lowest, highest., both > 0"),
    ({"sampled": (("alpha", "log_uniform", (0.1, 0.5, 1.0)),)}, "needs .lowest, highest., both > 0"),
    ({"sampled": (("alpha", "log_uniform", (1.0, 0.1)),)}, "needs .lowest, highest., both > 0"),
    ({"sampled": (("alpha", "choice", (1.0, 0.0)),)}, "alpha=0.0 must be a finite number > 0"),
    ({"sampled": (("alpha", "choice", (1.0,)), ("alpha", "choice", (0.1,)))}, "draws alpha 2 times, .* the last alone"),
  ],
)
def test_a_sweep_that_cannot_be_is_refused(fields, expected):
  with pytest.raises(ValueError, match=expected):
    checks.check_sweep(base.sweep(**({"num_runs": 1, "top": 1, "sampled": ()} | fields)))


@pytest.mark.parametrize(("kind", "values"), [("choice", (0, 10, 9)), ("log_uniform", (9, 20))])
def test_annealing_that_a_sweep_draws_ends_with_the_run_or_later(kind, values):
  config = make_config()  # 100 steps: 10 updates of 2 worlds and 5 steps.
  config.sweep = base.sweep(num_runs=3, top=1, sampled=(("train.hyper.anneal_updates", kind, values),))
  with pytest.raises(
    ValueError, match="sweep.sampled: train.hyper.anneal_updates=9: .* of 10 updates .*anneal_updates=10, or"
  ):
    checks.check(config)
  config.sweep.sampled = (("train.hyper.anneal_updates", kind, tuple(max(value, 10) for value in values)),)
  checks.check(config)


@pytest.mark.parametrize("name", ["seed", "method", "train", "train.num_worlds", "train.hyper", "train.column.conv"])
def test_a_field_that_is_not_there_is_named(name):
  config = make_config()
  section, _, field = name.rpartition(".")
  del {"": config, "train": config.train, "train.column": config.train.column}[section][field]
  with pytest.raises(ValueError, match=f"has no field {name}; make its sections by"):
    checks.check(config)


def test_every_run_of_a_sweep_has_a_seed_of_its_own():
  """The largest seed is 2^32 - 1. One more would be the run of seed 0."""
  config = make_config(seed=2**32 - 3)
  config.sweep = base.sweep(num_runs=3, top=1, sampled=())
  checks.check(config)
  config.sweep.num_runs = 4
  with pytest.raises(ValueError, match="seed=4294967293 is too large for 4 runs"):
    checks.check(config)


def test_the_project_s_configs_pass():
  configs = [jaco_corl2017.get_config(variant) for variant in ("column", *baselines.METHODS)]
  configs += [jaco_talk.get_config(variant) for variant in ("vision", "arm")]
  configs += [pong_soup.get_config(scale) for scale in pong_soup.SCALES]
  configs += [navigation.get_config(f"{scale},nav_d1d2l_clip,static_1") for scale in navigation.SCALES]
  for config in configs:
    checks.check(config)


def test_a_matrix_needs_evaluations():
  config = make_config()
  checks.check(config)
  config.matrix = {"world": "pong/", "targets": ()}
  with pytest.raises(ValueError, match="train.evaluation_episodes=0 must be an integer >= 1"):
    checks.check(config)
  config.train.evaluation_episodes = 1
  with pytest.raises(ValueError, match="the config has a matrix and no sweep, which every cell is; add base.sweep"):
    checks.check(config)
  config.sweep = base.sweep(num_runs=1, top=1, sampled=())
  with pytest.raises(ValueError, match=r"matrix.targets=\(\) names no task to transfer to; name some"):
    checks.check(config)
  config.matrix.targets = ("white",)
  checks.check(config)


@pytest.mark.parametrize(
  ("name", "value", "form"),
  [
    ("floors", (), "(-21.0,)"),
    ("floors", ("a",), "(-21.0,)"),
    ("floors", (math.nan,), "(-21.0,)"),
    ("targets", "pong", "('pong', 'white')"),
    ("methods", (1,), "('scratch', 'progressive')"),
    ("source_pairs", (("pong",),), "(('noisy', 'h_flip'),)"),
    ("source_pairs", ("pong", "white"), "(('noisy', 'h_flip'),)"),
    ("source_pairs", (("pong", "white", 3),), "(('noisy', 'h_flip'),)"),
  ],
)
def test_a_matrix_that_cannot_be_is_refused_before_its_first_cell(name, value, form):
  config = pong_soup.get_config("smoke")
  checks.check(config)
  with config.ignore_type():
    config.matrix[name] = value
  with pytest.raises(ValueError, match=re.escape(f"matrix.{name}={value!r} is not of the form {form}")):
    checks.check(config)


@pytest.mark.parametrize(
  ("name", "value", "task"),
  [
    ("sources", ("pong", "noisy", "pong"), "pong"),
    ("targets", ("white", "white", "h_flip"), "white"),
    ("source_pairs", (("pong", "noisy"), ("noisy", "noisy")), "noisy"),
    ("source_pairs", (("pong", "noisy"), ("pong", "noisy")), ("pong", "noisy")),
  ],
)
def test_a_task_that_would_count_twice_is_refused(name, value, task):
  config = pong_soup.get_config("smoke")
  config.matrix[name] = value
  with pytest.raises(ValueError, match=rf"matrix.{name}: .* has {re.escape(repr(task))} twice; name each once"):
    checks.check(config)


def test_a_task_s_own_floor_is_a_number():
  config = labyrinth.get_config("laptop")
  checks.check(config)
  config.matrix.own_floors.avoid_2 = math.nan
  with pytest.raises(ValueError, match="matrix.own_floors.avoid_2=nan must be a finite number"):
    checks.check(config)


def test_a_matrix_of_fewer_runs_than_are_to_be_compared_is_refused():
  config = pong_soup.get_config("accelerator")
  checks.check(config)
  config.sweep.num_runs = 2
  with pytest.raises(ValueError, match="sweep.top=5 is more than sweep.num_runs=2; set both"):
    checks.check(config)
  del config.matrix
  checks.check(config)  # A sweep without a matrix may have fewer.
