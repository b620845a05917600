"""Atari (Rusu et al. 2016, section 5.3): what transfers from three games to twelve others.

python -m experiments.matrix --config=experiments/configs/atari.py:laptop --workdir=runs/atari
python -m experiments.figures --figure=pnn_fig4a --runs=runs/atari --out=runs/atari/figures

Figure 6 and table 1 are drawn as `pnn_fig4a` and `pnn_fig4b`, figure 11 as `pnn_fig12`. Needs ale-py, the extra
`atari`, whose names games have here.
"""

import dataclasses
import itertools

from ml_collections import config_dict

from experiments.configs import base, pong_soup

SOURCES = ("pong", "riverraid", "seaquest")
TARGETS = (
  "alien", "asterix", "boxing", "centipede", "gopher", "hero", "jamesbond", "krull", "robotank", "road_runner",
  "star_gunner", "wizard_of_wor",
)  # fmt: skip
_PAPER = pong_soup.SCALES["paper"]
SCALES = {
  "smoke": dataclasses.replace(
    pong_soup.SCALES["smoke"],
    sources=("pong",),
    source_pairs=(("seaquest", "riverraid", "pong"),),
    targets=("boxing",),
    steps=200,
    num_worlds=1,
    save_every=0,
    hyper={**pong_soup.SCALES["smoke"].hyper, "reward_clip": 1.0},
    options={"max_episode_steps": 10},
  ),
  # A row of two cells; two cores have no steps for more. What is learned in games is cut to a point a step.
  "laptop": dataclasses.replace(
    pong_soup.SCALES["laptop"],
    sources=("pong",),
    targets=("boxing", "gopher"),
    hyper={"discount": 0.99, "entropy_cost": 1e-2, "learning_rate": 5e-4, "reward_clip": 1.0},
  ),
  # Every ordered pair of sources; of the networks of four columns the one order that the paper names (papers.md 1.6).
  "paper": dataclasses.replace(
    _PAPER,
    sources=SOURCES,
    source_pairs=(*itertools.permutations(SOURCES, 2), ("seaquest", "riverraid", "pong")),
    targets=TARGETS,
    hyper={**_PAPER.hyper, "reward_clip": 1.0},
  ),
}


def get_config(scale: str = "laptop") -> config_dict.ConfigDict:
  """The experiment at one of `SCALES`."""
  if scale not in SCALES:
    raise ValueError(f"atari.py:{scale} is not one of the scales {', '.join(SCALES)}")
  chosen = SCALES[scale]
  config = base.experiment(
    world="atari/pong",
    # All games have all 18 actions, so that columns of one fit another.
    world_options={"num_actions": 18, **chosen.options},
    output_init="random",
    train=base.phase(
      column=base.column(conv=((12, 8, 4), (12, 4, 2), (12, (3, 4), 1)), dense=(256,), lstm=(), **chosen.column),
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
    world="atari/",
    methods=("scratch", "finetune_head", "finetune", "random_column", "progressive"),
    sources=chosen.sources,
    source_pairs=chosen.source_pairs,
    targets=chosen.targets,
    floors=(0.0,),
  )
  config.sweep = base.sweep(num_runs=chosen.num_runs, top=chosen.top, sampled=chosen.sampled)
  return config
