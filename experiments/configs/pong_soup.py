"""Pong Soup (Rusu et al. 2016, section 5.2): what transfers between Pong and seven games that look different.

python -m experiments.matrix --config=experiments/configs/pong_soup.py:laptop --workdir=runs/soup
python -m experiments.analyse --runs=runs/soup --aps
python -m experiments.figures --figure=pnn --runs=runs/soup --out=runs/soup/figures
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from environments.pong import variants
from experiments.configs import base

VARIANTS = ("pong", "noisy", "black", "white", "zoom", "h_flip", "v_flip", "hv_flip")


@dataclasses.dataclass(frozen=True)
class Scale:
  """How much of the matrix there is, how much is learned in each cell, and with which settings."""

  sources: tuple[str, ...]
  source_pairs: tuple[tuple[str, ...], ...]  # For networks of three columns and more.
  targets: tuple[str, ...]
  steps: int
  num_worlds: int
  num_steps: int
  evaluation_episodes: int
  save_every: int
  updates_per_record: int
  num_runs: int
  top: int
  hyper: Mapping[str, Any]
  sampled: tuple[tuple[str, str, tuple[float, ...]], ...]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  column: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # Fields that keep its units alive.
  alpha: float = 1.0  # Initial scale of the adapters, unless it is drawn.


# The paper "closely follows" A3C (papers.md 1.4, 4); this is A3C as it was published.
_A3C: Mapping[str, Any] = {
  "discount": 0.99,
  "lambda_": 1.0,
  "reduction": "sum",
  "optimizer": "rmsprop",
  "second_moment_decay": 0.99,
  "epsilon": 0.1,
}
_DRAWN = (
  ("train.hyper.learning_rate", "choice", (1e-3, 5e-4, 1e-4)),
  ("train.hyper.entropy_cost", "choice", (1e-2, 1e-3, 1e-4)),
  ("train.hyper.max_gradient_norm", "choice", (20.0, 40.0)),
  ("alpha", "choice", (1.0, 0.1, 0.01)),
)
# Two cores learn Pong with PPO's passes over every unroll (docs/results/pong_soup/learning.md).
_LAPTOP: Mapping[str, Any] = {
  "discount": 0.99,
  "entropy_cost": 2e-3,
  "learning_rate": 5e-4,
  "epochs": 4,
  "minibatches": 4,
  "clip_ratio": 0.1,
}
_FEW = ("pong",)
SCALES = {
  # A lost game takes about 1,000 steps; here games are cut short, so that some end within the few steps.
  "smoke": Scale(
    _FEW, (), ("pong", "white"), 2_000, 4, 5, 2, 1_000, 10, 2, 1, _A3C, _DRAWN, {"max_episode_steps": 20}
  ),
  # The targets of figure 4b; one run of each is not a sample.
  "laptop": Scale(
    _FEW, (), ("pong", "white", "h_flip"), 500_000, 8, 128, 32, 100_000, 10, 1, 1, _LAPTOP, (),
    column={"norm": "layer", "start": "data"}, alpha=0.1,
  ),
  # One card with five runs side by side: in each run an update has 32 gradient steps of 1,024 transitions.
  "accelerator": Scale(
    _FEW, (), ("pong", "white", "h_flip"), 3_000_000, 64, 128, 100, 1_000_000, 5, 5, 5,
    {**_LAPTOP, "minibatches": 8}, (), column={"norm": "layer", "start": "data"}, alpha=0.1,
  ),
  "paper": Scale(
    ("pong", "noisy", "h_flip"), (("noisy", "h_flip"),), VARIANTS,
    40_000_000, 16, 5, 100, 1_000_000, 1000, 25, 3, {**_A3C, "anneal_updates": 40_000_000 // 5}, _DRAWN,
  ),
}  # fmt: skip


def get_config(scale: str = "laptop") -> config_dict.ConfigDict:
  """The experiment at one of `SCALES`."""
  base.check_variant(__file__, scale, SCALES)
  chosen = SCALES[scale]
  return transfer(
    chosen,
    worlds="pong/",
    world="pong",
    world_options={"num_actions": 3, **variants.Options()._asdict()},
    # Two convolutions, the first of 8 maps (papers.md 1.2); the sizes of the second and of the dense layer are not
    # established. The initialisation is ours: with "contrast" the column sees the ball sooner (explained variance of
    # 0.7 at 0.2 M steps, 0.1 with "lecun").
    column={"conv": ((8, 8, 4), (16, 4, 2)), "dense": (128,), "lstm": (), "pixel_init": "contrast"},
    floors=(-21.0, -20.0),
  )


def transfer(
  chosen: Scale,
  *,
  worlds: str,
  world: str,
  world_options: Mapping[str, Any],
  column: Mapping[str, Any],
  floors: tuple[float, ...],
  own_floors: Mapping[str, float] | None = None,
) -> config_dict.ConfigDict:
  """A transfer matrix of the paper, with its methods.

  Args:
    chosen: its scale.
    worlds: what stands before a task's name: "pong/".
    world: the task in a cell's config, until the matrix fills in the cell's own task, method and source.
    world_options: options of every task, besides those of `chosen`.
    column: fields of `base.column`, besides those of `chosen`.
    floors, own_floors: see `base.matrix`.
  """
  config = base.experiment(
    world=f"{worlds}{world}",
    world_options={**world_options, **chosen.options},
    alpha=chosen.alpha,
    output_init="random",  # Starting as the previous policy was introduced by the later paper (papers.md 2.3).
    train=base.phase(
      column=base.column(**column, **chosen.column, output_laterals="adapter"),
      steps=chosen.steps,
      num_worlds=chosen.num_worlds,
      num_steps=chosen.num_steps,
      evaluate_every=0,
      evaluation_episodes=chosen.evaluation_episodes,
      save_every=chosen.save_every,
      updates_per_record=chosen.updates_per_record,
      video=False,
      value_cost=0.5,
      **chosen.hyper,
    ),
  )
  config.matrix = base.matrix(
    world=worlds,
    methods=("scratch", "finetune_head", "finetune", "random_column", "progressive"),
    sources=chosen.sources,
    source_pairs=chosen.source_pairs,
    targets=chosen.targets,
    floors=floors,
    own_floors=own_floors,
  )
  config.sweep = base.sweep(num_runs=chosen.num_runs, top=chosen.top, sampled=chosen.sampled)
  return config
