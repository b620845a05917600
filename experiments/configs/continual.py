"""Modes of a game in sequence: progressive networks as comparisons run them, and corrected ones (docs/papers.md 9).

python -m experiments.launch --plan=experiments/plans/continual.py:laptop --workdir=runs/continual --hours=4

A config is SCALE,METHOD,GAME such as laptop,corrected,freeway; the plan sets the mode and the source of each run. This
needs ale-py, the extra `atari`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from experiments.configs import base, pong_soup

MODES: Mapping[str, tuple[int, ...]] = {"space_invaders": tuple(range(10)), "freeway": tuple(range(8))}
# Name -> how a new task is learned, and how a new column reads the earlier ones.
METHODS: Mapping[str, tuple[str, str]] = {
  "scratch": ("scratch", "adapter"),
  "finetune": ("finetune", "adapter"),
  "published": ("progressive", "blind"),
  "corrected": ("progressive", "linear"),
  "adapters": ("progressive", "adapter"),
  "retained": ("finetune_head", "adapter"),  # Measures what finetuning has kept of an earlier task; nothing is learned.
}


@dataclasses.dataclass(frozen=True)
class Scale:
  """How much is learned, on which tasks, and with which settings."""

  modes: Mapping[str, tuple[int, ...]]
  num_seeds: int
  steps: int
  steps_retained: int  # Steps played to see what was kept.
  num_worlds: int
  num_steps: int
  save_every: int
  hyper: Mapping[str, Any]
  column: Mapping[str, Any]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  alpha: float = 1.0  # Initial scale of the adapters.


_SMALL = {"conv": ((8, 8, 4), (16, 4, 2)), "dense": (128,), "pixel_init": "contrast"}
SCALES = {
  "smoke": Scale(
    {"space_invaders": (0, 1)}, 1, 800, 200, 1, 20, 0, {}, _SMALL | {"dense": (8,)}, {"max_episode_steps": 60}
  ),
  # Three tasks of the quicker game, with the settings by which two cores learn Pong. These are the modes in which a
  # policy that goes up 3 times of 5 scores most (7, 5 and 2 points; mode 5 gives one, the others none), since a policy
  # that never scores learns nothing. A uniform policy never crosses the road. With unit advantages it wanders until it
  # does, if ever, so there are three seeds. With a clip ratio as small as Pong's it wanders too slowly: in 200,000
  # steps it crossed once.
  "laptop": Scale(
    {"freeway": (0, 4, 7)}, 3, 200_000, 40_000, 8, 128, 50_000,
    {**pong_soup.SCALES["laptop"].hyper, "clip_ratio": 0.2, "has_unit_advantages": True},
    {**_SMALL, **pong_soup.SCALES["laptop"].column},
    alpha=pong_soup.SCALES["laptop"].alpha,
  ),
  # The papers learn each task for 1 M steps with PPO. The numbers and the network are CleanRL's for Atari, from memory.
  "paper": Scale(
    MODES, 3, 1_000_000, 100_000, 8, 128, 250_000,
    {
      "discount": 0.99,
      "entropy_cost": 1e-2,
      "has_unit_advantages": True,
      "learning_rate": 2.5e-4,
      "anneal_updates": -(-1_000_000 // 1024) * 16,
      "epochs": 4,
      "minibatches": 4,
      "clip_ratio": 0.1,
    },
    {"conv": ((32, 8, 4), (64, 4, 2), (64, 3, 1)), "dense": (512,)},
  ),
}  # fmt: skip


def get_config(variant: str = "laptop,scratch,freeway") -> config_dict.ConfigDict:
  """One task by one method: mode 0 unless another is set."""
  parts = variant.split(",")
  if len(parts) != 3 or parts[0] not in SCALES or parts[1] not in METHODS or parts[2] not in MODES:
    raise ValueError(
      f"continual.py:{variant} is not SCALE,METHOD,GAME such as laptop,corrected,freeway: scales are "
      f"{', '.join(SCALES)}, methods {', '.join(METHODS)}, games {', '.join(MODES)}"
    )
  scale, (method, laterals), is_retained = SCALES[parts[0]], METHODS[parts[1]], parts[1] == "retained"
  hyper = {"reward_clip": 1.0, "value_cost": 0.5, **scale.hyper}
  if is_retained:
    hyper |= {
      "learning_rate": base.LEAST_RATE,
      "anneal_updates": 0,
      "epochs": 1,
      "minibatches": 1,
      "has_unit_advantages": False,
    }
  return base.experiment(
    world=f"atari/{parts[2]}",
    world_options={"mode": 0, **scale.options},
    method=method,
    output_init="random",  # As in Rusu et al. 2016, and as blind outputs must start.
    alpha=scale.alpha,
    train=base.phase(
      column=base.column(**{"lstm": (), **scale.column}, laterals=laterals),
      steps=scale.steps_retained if is_retained else scale.steps,
      num_worlds=scale.num_worlds,
      num_steps=scale.num_steps,
      evaluate_every=0,
      evaluation_episodes=0,
      save_every=scale.save_every,
      video=False,
      **hyper,
    ),
  )
