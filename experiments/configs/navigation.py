"""Learning to navigate (Mirowski et al. 2017): one agent in one maze, at one scale.

  python -m experiments.train --config=experiments/configs/navigation.py:laptop,nav_d2,static_small --workdir=runs/d2

The variant is SCALE,AGENT,MAZE. Scales are smoke, laptop, accelerator, paper. Agents are ff, lstm, nav, and these with
any of d1, d2 (depth from encoder or LSTM) and l (loop closure), as in nav_d1d2l; nav_d2mse regresses depth, nav_rgbd
sees it instead. An agent ending in _clip has scaled and clipped rewards, like the paper's starred agents.

`laptop` makes five runs. They learn with PPO's passes over every unroll (docs/results/learning.md), except in the
I-maze. Columns start from data, and their dense layer is normalised (docs/learning.md). Auxiliary losses have a tenth
of the paper's costs: Adam brings the gradient of a layer to one length, so a large cost takes it from policy and value.
`paper` has none of these.
"""

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from experiments.configs import base


@dataclasses.dataclass(frozen=True)
class Agent:
  """One of the paper's navigators, without its losses."""

  inputs: tuple[str, ...] = ("pixels",)
  lstm: tuple[int, ...] = ()  # Units of each LSTM.
  joins: tuple[tuple[str, str], ...] = ()

  @property
  def memory(self) -> str:
    """The layer that D2 and L read; '' if there is none."""
    return f"lstm{len(self.lstm)}" if self.lstm else ""


# Nav's first LSTM reads the reward, its second reads velocity and action (papers.md 3.1).
_HEARD = ("last_reward", "velocity", "last_action")
_JOINS = (("last_reward", "lstm1"), ("dense1", "lstm2"), ("velocity", "lstm2"), ("last_action", "lstm2"))
AGENTS = {
  "ff": Agent(),
  "lstm": Agent(lstm=(256,)),
  "nav": Agent(("pixels", *_HEARD), (64, 256), _JOINS),
  "nav_rgbd": Agent(("rgbd", *_HEARD), (64, 256), _JOINS),
}
# Auxiliary losses: signal, classes of each of its entries (0: regression), whether it is read from the memory.
LOSSES = {
  "d1": ("depth", 8, False),
  "d1mse": ("depth_grid", 0, False),
  "d2": ("depth", 8, True),
  "d2mse": ("depth_grid", 0, True),
  "l": ("loop_closure", 2, True),
}
_CONV, _ENCODER = ((16, 8, 4), (32, 4, 2)), (256,)  # papers.md 3.1


@dataclasses.dataclass(frozen=True)
class Scale:
  """How much is learned, and with which settings."""

  steps: int  # Agent steps of four frames each.
  num_worlds: int
  num_steps: int
  save_every: int
  updates_per_record: int
  num_runs: int
  top: int
  learning_rate: tuple[float, ...]  # One for all runs, or a range from which each run draws its own, log-uniform.
  entropy_cost: tuple[float, ...]  # The same, as a weight in the loss of scaled rewards.
  draws_costs: bool  # Whether the costs of the auxiliary losses are drawn.
  reward_scale: float
  hyper: Mapping[str, Any]
  start: str = "random"  # How the column starts.
  costs: float = 1.0  # Costs of the auxiliary losses, as a share of the paper's.
  norm: str = "none"  # The column's normalisation.


# The paper's agents learn by A3C as it was published (papers.md 3.4, 4). The paper draws unrolls of 50 or 75, and gives
# no gradient clipping.
_A3C: Mapping[str, Any] = {
  "reduction": "sum",
  "optimizer": "rmsprop",
  "second_moment_decay": 0.99,
  "epsilon": 0.1,
  "lambda_": 1.0,
  "max_gradient_norm": float("inf"),
  "anneal_updates": 25_000_000 // 50,
}
_PPO: Mapping[str, Any] = {"epochs": 4, "minibatches": 2, "second_moment_decay": 0.99}
# The paper's rewards are raw. On two cores they are scaled but not clipped, so that a goal (10) is still worth ten
# apples. `laptop` compares agents at one learning rate and one entropy cost (docs/results/learning.md); the papers draw
# both.
SCALES = {
  "smoke": Scale(1_240, 2, 10, 500, 10, 2, 1, (1e-4, 5e-4), (1e-4, 1e-3), False, 0.1, {}),
  "laptop": Scale(80_000, 8, 32, 50_000, 10, 5, 5, (5e-4,), (1e-3,), False, 0.1, _PPO, "data", 0.1, "layer"),
  "paper": Scale(25_000_000, 16, 50, 500_000, 100, 64, 5, (1e-4, 5e-4), (1e-4, 1e-3), True, 1.0, _A3C),
}
# `laptop` in mazes larger than 3x5 cells, where a step earns a tenth as much: credit reaches 50 steps back.
_LARGE = dataclasses.replace(
  SCALES["laptop"], steps=500_000, num_worlds=16, num_steps=50, hyper={**_PPO, "minibatches": 4}
)
# `laptop` in mazes with other settings. In the I-maze, runs with passes rise sooner and then fall.
_OTHERWISE = {
  "static_small": SCALES["laptop"],
  "random_goal_small": SCALES["laptop"],
  "i_maze": dataclasses.replace(_LARGE, num_steps=20, entropy_cost=(5e-4,), hyper={}),
}
# One card with five runs side by side, in any maze.
SCALES["accelerator"] = dataclasses.replace(
  _LARGE, steps=4_000_000, num_worlds=256, save_every=1_000_000, updates_per_record=5
)
_COSTS = {"d1": (3.33, 10.0, 33.0), "d2": (1.0, 3.33, 10.0), "l": (1.0, 3.33, 10.0)}  # papers.md 3.4
# The paper's starred agents: rewards times 0.3 or 0.5, clipped to 1. The paper's costs apply to these scaled rewards,
# so in raw rewards they are larger.
_CLIP: Mapping[str, Any] = {"reward_scale": 0.5, "reward_clip": 1.0}


def get_config(variant: str = "laptop,nav_d2,static_small") -> config_dict.ConfigDict:
  """The sweep of one agent in one maze."""
  parts = variant.split(",")
  name, *rest = parts[1].split("_clip") if len(parts) == 3 else ("",)
  base_name, losses = parse(name, AGENTS)
  if len(parts) != 3 or parts[0] not in SCALES or base_name not in AGENTS or losses is None or rest not in ([], [""]):
    raise ValueError(
      f"navigation.py:{variant} is not SCALE,AGENT,MAZE such as laptop,nav_d2,static_small: scales are "
      f"{', '.join(SCALES)}; agents {', '.join(AGENTS)}, with any of {', '.join(LOSSES)} behind them, as nav_d1d2l"
    )
  scale, agent = SCALES[parts[0]], AGENTS[base_name]
  if parts[0] == "laptop":
    scale = _OTHERWISE.get(parts[2], _LARGE)
  if not agent.memory and any(LOSSES[loss][2] for loss in losses):
    raise ValueError(f"navigation.py:{variant}: d2 and l read an LSTM, which ff has not; give it d1, or choose lstm")
  reward_scale = _CLIP["reward_scale"] if rest else scale.reward_scale
  share = scale.costs / (reward_scale if rest else 1.0)
  costs = {name: tuple(cost * share for cost in of) for name, of in _COSTS.items()}
  config = base.experiment(
    world=f"maze/{parts[2]}",
    world_options=_world_options(),
    train=base.phase(
      column=_column(agent, scale),
      auxiliary=heads(losses, memory=agent.memory, costs={name: of[1] for name, of in costs.items()}),
      steps=scale.steps,
      num_worlds=scale.num_worlds,
      num_steps=scale.num_steps,
      evaluate_every=0,
      evaluation_episodes=0,
      save_every=scale.save_every,
      updates_per_record=scale.updates_per_record,
      discount=0.99,
      learning_rate=scale.learning_rate[0],
      entropy_cost=scale.entropy_cost[0] / reward_scale,
      value_cost=0.5,
      **{**scale.hyper, "reward_scale": scale.reward_scale, **(_CLIP if rest else {})},
    ),
  )
  config.agent = parts[1]
  ranges: dict[str, tuple[float, ...]] = {
    "learning_rate": scale.learning_rate,
    "entropy_cost": tuple(cost / reward_scale for cost in scale.entropy_cost),
  }
  sampled: list[tuple[str, str, tuple[float, ...]]] = [
    (f"train.hyper.{name}", "log_uniform", of) for name, of in ranges.items() if len(of) == 2
  ]
  for one in config.train.auxiliary if scale.draws_costs else ():
    sampled.append((f"train.auxiliary.{one}.cost", "choice", costs[one]))
  config.sweep = base.sweep(num_runs=scale.num_runs, top=scale.top, sampled=tuple(sampled))
  return config


def _column(agent: Agent, scale: Scale) -> config_dict.ConfigDict:
  return base.column(
    inputs=agent.inputs,
    conv=_CONV,
    dense=_ENCODER,
    lstm=agent.lstm,
    joins=agent.joins,
    start=scale.start,
    norm=scale.norm,
  )


def parse(agent: str, bases: Collection[str]) -> tuple[str, tuple[str, ...] | None]:
  """Parses 'nav_d1l' as ('nav', ('d1', 'l')): one of `bases`, and losses in `LOSSES`' order, at most one of a kind.

  Losses are None if the end of the name spells none.
  """
  if agent in bases:
    return agent, ()
  name, _, spelt = agent.rpartition("_")
  sets = itertools.product(("", "d1", "d1mse"), ("", "d2", "d2mse"), ("", "l"))
  return name, {"".join(one): tuple(filter(None, one)) for one in sets}.get(spelt or "none")


def heads(losses: Sequence[str], *, memory: str, costs: Mapping[str, float]) -> dict[str, config_dict.ConfigDict]:
  """D1 on the encoder, D2 and L on the memory, each behind a hidden layer of 128 units (papers.md 3.1).

  `costs`: d1, d2, l -> weight of each loss, whether it is regressed or not.
  """
  made = {}
  for loss in losses:
    signal, num_classes, is_of_memory = LOSSES[loss]
    kind = loss.removesuffix("mse")
    layer = memory if is_of_memory else "dense1"
    made[kind] = base.head(signal, layer, costs[kind], hidden=128, num_classes=num_classes)
  return made


def _world_options() -> dict[str, Any]:
  """The options of a maze that may be changed (`world.Maze`); null: as its task has it."""
  return {
    "layout": config_dict.placeholder(str),
    "num_steps": config_dict.placeholder(int),
    "style": config_dict.placeholder(str),
    "fruit_returns": True,
    "loop_near": 1.0,
    "loop_far": 2.0,
  }
