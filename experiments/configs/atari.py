"""Atari (Rusu et al. 2016, section 5.3): what transfers from three games to twelve others.

python -m experiments.matrix --config=experiments/configs/atari.py:laptop --workdir=runs/atari
python -m experiments.figures --figure=pnn_fig4a --runs=runs/atari --out=runs/atari/figures

Figure 6 and table 1 are drawn as `pnn_fig4a` and `pnn_fig4b`, figure 11 as `pnn_fig12`. This needs ale-py, the extra
`atari`; games have its names here.
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
_LAPTOP, _PAPER = pong_soup.SCALES["laptop"], pong_soup.SCALES["paper"]
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
  # A row of two cells; two cores have no steps for more. docs/results/atari shows which games can be learned in this
  # few steps. Rewards are clipped to one point a step for learning.
  "laptop": dataclasses.replace(
    _LAPTOP,
    sources=("seaquest",),
    targets=("pong", "road_runner"),
    steps=1_000_000,
    num_worlds=32,
    num_steps=32,
    hyper={**_LAPTOP.hyper, "clip_ratio": 0.2, "entropy_cost": 5e-3, "second_moment_decay": 0.99, "reward_clip": 1.0},
    column={**_LAPTOP.column, "pixel_init": "contrast"},
  ),
  # Every ordered pair of sources; for four columns, the one order that the paper names (papers.md 1.6).
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
  base.check_variant(__file__, scale, SCALES)
  chosen = SCALES[scale]
  return pong_soup.transfer(
    chosen,
    worlds="atari/",
    world="pong",
    world_options={"num_actions": 18},  # All games have all 18, so that a column of one game fits another.
    column={"conv": ((12, 8, 4), (12, 4, 2), (12, (3, 4), 1)), "dense": (256,), "lstm": ()},
    floors=(0.0,),
    own_floors={"pong": -21.0},
  )
