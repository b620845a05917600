"""The talks' four columns: vision in simulation, then proprioception on the arm, task after task; 6 joints.

  python -m experiments.train --config=experiments/configs/jaco_talk.py --workdir=runs/talk
  python -m experiments.arm --mode=serve --port=5005 --num_joints=6    # The twin, in another terminal.
  python -m experiments.train --config=experiments/configs/jaco_talk.py:arm --workdir=runs/talk_arm \
    --config.source=runs/talk --config.world=arm://localhost:5005

Variants: vision, column 1; arm, column 2; reach, catch and bee, columns 2 to 4 in 64 simulated worlds, each from the
run of the one before (`plans/laptop.py:ladder`). A column like reach's, from scratch, was at 12 of 50 after 128,000
steps and at 21 after 400,000, three minutes of a busy core; in one world 240,000 taught one nothing (3 of 50).

Column 1: 41 to 45 of 50 in the last quarter of five runs of 320,000 steps, six minutes each on one core. It starts from
data, and kernels learn by their number of inputs (docs/learning.md). Starts reach 0.4 rad from home here and 1 rad in
the task by default.
Finetuning is refused for column 2: the columns' inputs differ.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from experiments.configs import base

# What reaching from pixels is learned by, without helper losses.
# A tenth of the reward, and so of every other term, so that the value's head alone has less way to go: after 40
# updates it stands at 12.8 in rewards, with the whole reward (a value_cost of 0.05, clipped at 0.5) at 2.8.
HYPER: Mapping[str, Any] = {"reward_scale": 0.1, "value_cost": 0.5, "max_gradient_norm": 0.05, "fan_in": 64.0}
_STEPS, _NUM_WORLDS, _NUM_STEPS = 320_000, 64, 20
_EASY: Mapping[str, Any] = {"num_joints": 6, "max_start_spread_rad": 0.4}
_RELEASED = "experiments/released/jaco_talk"
# Variant -> the task of a column that grows on the columns before; the first of them on the released one.
LADDER = {"reach": "reach/random", "catch": "catch", "bee": "catch_the_bee"}


def get_config(variant: str = "vision") -> config_dict.ConfigDict:
  """Column 1 sees pixels of `reach/fixed`; later ones feel joints and target, and see by laterals (papers.md 2.6)."""
  if variant == "vision":
    return base.experiment(world="jaco/reach/fixed", world_options=_EASY, train=_vision())
  if variant not in ("arm", *LADDER):
    raise ValueError(f"jaco_talk.py:{variant} is not one of vision, arm, {', '.join(LADDER)}")
  is_arm = variant == "arm"
  return base.experiment(
    world=f"jaco/{'reach/random' if is_arm else LADDER[variant]}",
    world_options={"num_joints": 6} if is_arm else _EASY,
    method="progressive",
    source=_RELEASED if variant in ("arm", "reach") else "",
    train=_proprioception() if is_arm else _feeling(),
  )


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
    anneal_updates=_STEPS // (_NUM_WORLDS * _NUM_STEPS),  # All of them.
  )


def _proprioception() -> config_dict.ConfigDict:
  return base.phase(
    column=base.column(inputs=("proprioception", "target"), conv=(), dense=(64,), lstm=(64,)),
    steps=60_000,
    num_worlds=1,
    num_steps=20,
    evaluate_every=0,
    evaluation_episodes=20,
    save_every=2_000,
    updates_per_record=5,
  )


def _feeling() -> config_dict.ConfigDict:
  """Each input has a dense layer of its own, which starts from data: a target of metres varies by a tenth."""
  steps = 640_000
  return base.phase(
    column=base.column(
      inputs=("proprioception", "target"),
      conv=(),
      dense=(64,),
      lstm=(64,),
      embed=(("proprioception", 64), ("target", 64)),
      start="data",
    ),
    steps=steps,
    num_worlds=_NUM_WORLDS,
    num_steps=_NUM_STEPS,
    evaluate_every=0,
    evaluation_episodes=20,
    save_every=50_000,
    entropy_cost=5e-3,
    learning_rate=2e-3,
    **HYPER,
    anneal_updates=steps // (_NUM_WORLDS * _NUM_STEPS),  # All of them.
  )
