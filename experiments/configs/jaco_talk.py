"""The talks' four columns: vision in simulation, then proprioception on the arm, task after task; 6 joints.

  python -m experiments.train --config=experiments/configs/jaco_talk.py --workdir=runs/talk
  python -m experiments.train --config=experiments/configs/jaco_talk.py:arm --workdir=runs/talk_arm \
    --config.source=runs/talk

Variants: vision is column 1. arm is column 2 on the arm (a twin that the run serves for itself, or
--config.world=arm://HOST:PORT), with column 1 as its teacher. reach, catch and bee are columns 2 to 4 in 64 simulated
worlds, each from the run of the column before (`plans/laptop.py:ladder`). Their outputs start at random: if column 2
starts with the previous policy, which is sure of another task, it learns no faster than from scratch
(docs/results/ladder). In one world, 240,000 steps from scratch taught a column like reach's nothing (3 of 50). So on
one arm rewards alone are not enough: 60,000 steps of them left column 2 below column 1.

Column 1 has 41 to 45 of 50 in the last quarter of five runs of 320,000 steps, which take six minutes each on one core.
It starts from data, and its kernels learn at rates that depend on their number of inputs (docs/learning.md). Its
episodes start up to 0.4 rad from home; those of columns 2 to 4 start up to 1 rad from home, as on the arm. Finetuning
is refused for column 2, because the columns' inputs differ.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from experiments.configs import base

# Settings for reaching from pixels without helper losses. Rewards, and so all other terms, are scaled to a tenth, so
# that only the value's head has less far to go: after 40 updates it stands at 12.8 in rewards. With the whole reward (a
# value_cost of 0.05, clipped at 0.5) it stands at 2.8.
HYPER: Mapping[str, Any] = {"reward_scale": 0.1, "value_cost": 0.5, "max_gradient_norm": 0.05, "fan_in": 64.0}
_STEPS, _NUM_WORLDS, _NUM_STEPS = 320_000, 64, 20
_EASY: Mapping[str, Any] = {"num_joints": 6, "max_start_spread_rad": 0.4}
_AS_ON_THE_ARM: Mapping[str, Any] = {"num_joints": 6, "max_start_spread_rad": 1.0}
_RELEASED = "experiments/released/jaco_talk"
# Each input has a dense layer of its own, which starts from data: a target in metres varies by a tenth.
_FEELING = base.column(
  inputs=("proprioception", "target"),
  conv=(),
  dense=(64,),
  lstm=(64,),
  embed=(("proprioception", 64), ("target", 64)),
  start="data",
)
# Variant -> the task of a column that grows on the columns before it; the first grows on the released column.
LADDER = {"reach": "reach/random", "catch": "catch", "bee": "catch_the_bee"}


def get_config(variant: str = "vision") -> config_dict.ConfigDict:
  """Column 1 sees pixels of `reach/fixed`; later ones feel joints and target, and see by laterals (papers.md 2.6)."""
  if variant == "vision":
    return base.experiment(world="jaco/reach/fixed", world_options=_EASY, train=_vision())
  base.check_variant(__file__, variant, ("vision", "arm", *LADDER))
  is_arm = variant == "arm"
  config = base.experiment(
    world="twin/reach/fixed" if is_arm else f"jaco/{LADDER[variant]}",
    world_options={"num_joints": 6} if is_arm else _AS_ON_THE_ARM,
    method="progressive",
    source=_RELEASED if variant in ("arm", "reach") else "",
    output_init="previous" if is_arm else "random",
    train=on_the_arm(_FEELING, 5e-4, steps=10_000) if is_arm else _feeling(),
  )
  if is_arm:
    teach(config)
  return config


def _vision() -> config_dict.ConfigDict:
  """Layer sizes are those of Rusu et al. 2017; the talks give none."""
  return base.phase(
    column=base.column(conv=((16, 8, 4), (32, 5, 2)), dense=(128,), lstm=(128,), start="data"),
    steps=_STEPS,
    num_worlds=_NUM_WORLDS,
    num_steps=_NUM_STEPS,
    evaluate_every=200_000,
    evaluation_episodes=100,
    save_every=50_000,
    entropy_cost=5e-3,
    learning_rate=2e-3,
    **HYPER,
    anneal_updates=_STEPS // (_NUM_WORLDS * _NUM_STEPS),  # All updates.
  )


def on_the_arm(column: config_dict.ConfigDict, learning_rate: float, *, steps: int) -> config_dict.ConfigDict:
  """A phase on one arm, which gives few steps: an update has one episode; shorter unrolls are noisier still."""
  return base.phase(
    column=column,
    steps=steps,
    num_worlds=1,
    num_steps=50,
    evaluate_every=0,
    evaluation_episodes=20,
    save_every=2_000,
    updates_per_record=5,
    entropy_cost=1e-2,
    lambda_=0.8,  # In one world all steps of an episode share the value's error: bootstrap early.
    learning_rate=learning_rate,
  )


def teach(config: config_dict.ConfigDict) -> None:
  """Makes a run on an arm also learn from its source as a teacher, and from every step five times."""
  config.train.update({"teacher": config.get_oneway_ref("source"), "replay_updates": 4})
  config.train.hyper.update({"correction": "vtrace", "learning_rate": 5e-4})


def _feeling() -> config_dict.ConfigDict:
  steps = 1_280_000
  return base.phase(
    column=_FEELING,
    steps=steps,
    num_worlds=_NUM_WORLDS,
    num_steps=_NUM_STEPS,
    evaluate_every=0,
    evaluation_episodes=20,
    save_every=50_000,
    entropy_cost=5e-3,
    learning_rate=2e-3,
    **HYPER,
    anneal_updates=steps // (_NUM_WORLDS * _NUM_STEPS),  # All updates.
  )
