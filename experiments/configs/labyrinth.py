"""Labyrinth (Rusu et al. 2016, section 5.4): what transfers between eight levels of the maze.

python -m experiments.matrix --config=experiments/configs/labyrinth.py:laptop --workdir=runs/labyrinth
python -m experiments.figures --figure=pnn_fig4a --runs=runs/labyrinth --out=runs/labyrinth/figures

This draws figure 8 and table 1; figure 13 is `pnn_fig12`.
"""

import dataclasses

from ml_collections import config_dict

from experiments.configs import base, pong_soup

LEVELS = ("track_1", "track_2", "track_3", "track_4", "avoid_1", "avoid_2", "maze_m", "maze_y")
_PAPER = pong_soup.SCALES["paper"]
# The paper's protocol is that of its other games. Its figure 13 starts from Maze Y. The sources of its figure 8 and the
# length of an unroll are not known: we use all levels as sources, and UNREAL's length.
SCALES = {
  "smoke": dataclasses.replace(
    pong_soup.SCALES["smoke"], sources=("track_1",), targets=("track_1", "track_2"), options={"num_steps": 20}
  ),
  # One row, with the settings for large mazes (`navigation`), except that rewards are 1, entropy costs a thousandth of
  # that, and kernels of many inputs learn slower. With one gradient step per unroll no run learns Track 3 or Maze Y.
  "laptop": dataclasses.replace(
    pong_soup.SCALES["laptop"],
    sources=("maze_y",),
    targets=LEVELS,
    steps=300_000,
    num_worlds=16,
    num_steps=50,
    updates_per_record=5,
    hyper={
      "discount": 0.99,
      "learning_rate": 5e-4,
      "entropy_cost": 1e-3,
      "second_moment_decay": 0.99,
      "fan_in": 64.0,
      "epochs": 4,
      "minibatches": 4,
    },
  ),
  "paper": dataclasses.replace(
    _PAPER,
    sources=LEVELS,
    source_pairs=(),
    targets=LEVELS,
    num_steps=20,
    hyper={**_PAPER.hyper, "anneal_updates": _PAPER.steps // 20},
  ),
}


def get_config(scale: str = "laptop") -> config_dict.ConfigDict:
  """The experiment at one of `SCALES`."""
  base.check_variant(__file__, scale, SCALES)
  chosen = SCALES[scale]
  return pong_soup.transfer(
    chosen,
    worlds="maze/seek_",
    world="track_1",
    world_options={"num_steps": config_dict.placeholder(int)},
    # The paper does not give the layers; A3C's agent in its Labyrinth has these and an LSTM (papers.md 4).
    column={"conv": ((16, 8, 4), (32, 4, 2)), "dense": (256,), "lstm": (256,)},
    floors=(0.0,),
    own_floors={"avoid_2": -11.4},  # The score of random actions (docs/concepts.md); on other levels it is above 0.
  )
