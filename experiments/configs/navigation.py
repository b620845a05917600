"""Learning to navigate (Mirowski et al. 2017): one agent in one maze, at one scale.

  python -m experiments.train --config=experiments/configs/navigation.py:laptop,nav_d2,static_small --workdir=runs/d2

The variant is SCALE,AGENT,MAZE: scales smoke, laptop, paper; agents ff, lstm, nav, and these with any of d1, d2 (depth
from encoder or LSTM) and l (loop closure), as in nav_d1d2l; nav_d2mse regresses depth, nav_rgbd sees it instead. An
agent ending in _clip has rewards scaled and cut, as the paper's starred ones have.

A run of `laptop` takes three minutes on one core and scores 44 in static_small with nav_d2, 19 with nav. In static_1
entropy costs as high as these leave the policy nearly random; `experiments/results/navigation` has what was learned
there with `--config.sweep.sampled='()' --config.train.hyper.learning_rate=1e-3 --config.train.hyper.entropy_cost=5e-4
--config.train.steps=500000`.
"""

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from experiments.setup import configuration

SCALES = ("smoke", "laptop", "paper")
LOSSES = r"_(?=d|l)(?P<d1>d1(mse)?)?(?P<d2>d2(mse)?)?(?P<l>l)?"
_AGENT = re.compile(rf"(?P<base>ff|lstm|nav(_rgbd)?)({LOSSES})?(?P<clip>_clip)?")
_CONV, _ENCODER = ((16, 8, 4), (32, 4, 2)), (256,)  # papers.md 3.1


def get_config(variant: str = "laptop,nav_d2,static_small") -> config_dict.ConfigDict:
  """The sweep of one agent in one maze."""
  parts = variant.split(",")
  scale, agent, maze = parts if len(parts) == 3 else ("", "", "")
  match = _AGENT.fullmatch(agent)
  if scale not in SCALES or not match or not maze:
    raise ValueError(f"navigation.py:{variant} is not SCALE,AGENT,MAZE such as laptop,nav_d2,static_small")
  if match["base"] == "ff" and (match["d2"] or match["l"]):
    raise ValueError(f"navigation.py:{variant}: d2 and l read an LSTM, which ff has not; give it d1, or choose lstm")
  config = config_dict.ConfigDict()
  config.seed = 0
  config.agent = agent
  config.world = f"maze/{maze}"
  config.world_options = _world_options()
  config.train = configuration.first_column(
    column=_column(match["base"]),
    auxiliary=heads(match, lstm="lstm1" if match["base"] == "lstm" else "lstm2", costs=_MIDDLE_COSTS),
    steps={"smoke": 1_240, "laptop": 160_000, "paper": 25_000_000}[scale],  # Four frames each: 1e8.
    num_worlds={"smoke": 2, "laptop": 8, "paper": 64}[scale],
    num_steps={"smoke": 10, "laptop": 20, "paper": 50}[scale],  # The paper draws 50 or 75 (papers.md 3.4).
    evaluate_every=0,
    evaluation_episodes=0,
    save_every={"smoke": 500, "laptop": 50_000, "paper": 500_000}[scale],
    updates_per_record={"smoke": 10, "laptop": 20, "paper": 100}[scale],
    discount=0.99,
    learning_rate=7e-4,
    entropy_cost=3e-3,
    value_cost=0.5,
    **_rewards(scale, has_clip=bool(match["clip"])),
    **(_A3C if scale == "paper" else {}),
  )
  sampled = [
    ("train.hyper.learning_rate", "log_uniform", (3e-4, 1.5e-3) if scale == "laptop" else (1e-4, 5e-4)),
    ("train.hyper.entropy_cost", "log_uniform", (1e-3, 5e-3) if scale == "laptop" else (1e-4, 1e-3)),
    *((f"train.auxiliary.{name}.cost", "choice", _COSTS[name]) for name in config.train.auxiliary if scale == "paper"),
  ]
  config.sweep = configuration.sweep(
    num_runs={"smoke": 2, "laptop": 2, "paper": 64}[scale],
    top={"smoke": 1, "laptop": 2, "paper": 5}[scale],
    sampled=tuple(sampled),
  )
  return config


_COSTS = {"d1": (3.33, 10.0, 33.0), "d2": (1.0, 3.33, 10.0), "l": (1.0, 3.33, 10.0)}  # papers.md 3.4
_MIDDLE_COSTS = {name: costs[1] for name, costs in _COSTS.items()}
# What the paper's agents learn by (papers.md 3.4, 4). A3C's epsilon, 0.1, is for gradients summed over an unroll: for
# means over its 50 steps it is 0.1 / 50^2. The paper gives no clipping.
_A3C: dict[str, Any] = {
  "optimizer": "rmsprop",
  "second_moment_decay": 0.99,
  "epsilon": 4e-5,
  "lambda_": 1.0,
  "max_gradient_norm": 10.0,
}


def _world_options() -> config_dict.ConfigDict:
  """What may be changed of a maze (`world.Maze`); null: as its task has it."""
  return config_dict.ConfigDict(
    {
      "layout": config_dict.placeholder(str),
      "num_steps": config_dict.placeholder(int),
      "style": config_dict.placeholder(str),
      "fruit_returns": True,
      "loop_near": 1.0,
      "loop_far": 2.0,
    }
  )


def _rewards(scale: str, *, has_clip: bool) -> dict[str, Any]:
  """Rewards as learned from: the paper's are raw or, starred, scaled by 0.3 or 0.5 and cut to 1.

  On two cores they are scaled, and not cut, so that a goal (10) stays worth ten apples.
  """
  if has_clip:
    return {"reward_scale": 0.5, "reward_clip": 1.0}
  return {"reward_scale": 1.0 if scale == "paper" else 0.1}


def _column(base: str) -> config_dict.ConfigDict:
  """FF, LSTM and Nav A3C (papers.md 3.1): Nav's first LSTM hears the reward, its second velocity and action."""
  if base in ("ff", "lstm"):
    return configuration.column_section(conv=_CONV, dense=_ENCODER, lstm=(256,) if base == "lstm" else ())
  return configuration.column_section(
    inputs=("rgbd" if base == "nav_rgbd" else "pixels", "last_reward", "velocity", "last_action"),
    conv=_CONV,
    dense=_ENCODER,
    lstm=(64, 256),
    joins=(
      ("last_reward", "lstm1"),
      ("dense1", "lstm2"),
      ("velocity", "lstm2"),
      ("last_action", "lstm2"),
    ),
  )


def heads(match: re.Match[str], *, lstm: str, costs: Mapping[str, float]) -> dict[str, config_dict.ConfigDict]:
  """D1 on the encoder, D2 and L on the LSTM, each behind a hidden layer of 128 (papers.md 3.1).

  Args:
    match: of `LOSSES` in the agent's name.
    lstm: the layer that D2 and L read.
    costs: weight of each loss.
  """
  found = {}
  for name, layer in (("d1", "dense1"), ("d2", lstm)):
    if match[name]:
      signal, num_classes = ("depth_grid", 0) if match[name].endswith("mse") else ("depth", 8)
      found[name] = configuration.head(signal, layer, costs[name], hidden=128, num_classes=num_classes)
  if match["l"]:
    found["l"] = configuration.head("loop_closure", lstm, costs["l"], hidden=128, num_classes=2)
  return found
