"""Whether the navigators' auxiliary losses speed up a reacher that sees pixels: one agent.

  python -m experiments.train --config=experiments/configs/jaco_auxiliary.py:reacher_d2 --workdir=runs/auxiliary/d2
  python -m experiments.figures --figure=nav_fig3 --runs=runs/auxiliary --out=runs/auxiliary/figures

Agents: reacher, and reacher with any of d1, d2 (depth from encoder or LSTM; d1mse, d2mse regress it) and l (loop
closure of the palm), as in reacher_d1d2l; reacher_pose has the readouts of jaco_talk.py instead, where palm and joints
are.
"""

import re

from ml_collections import config_dict

from experiments.configs import jaco_talk, navigation
from experiments.setup import configuration

_AGENT = re.compile(rf"reacher(_pose|{navigation.LOSSES})?")
# Gradients of all terms share one clipped step (jaco_talk.py): a head of cost 3.33, the navigators', leaves no room.
_COSTS = {"d1": 0.1, "d2": 0.1, "l": 0.1}


def get_config(agent: str = "reacher_d2") -> config_dict.ConfigDict:
  """The talk's first column, from scratch, with other readouts or none; two runs side by side."""
  match = _AGENT.fullmatch(agent)
  if not match:
    raise ValueError(f"jaco_auxiliary.py:{agent} is no agent such as reacher, reacher_d2 or reacher_pose")
  talk = jaco_talk.get_config()
  config = config_dict.ConfigDict({name: talk[name] for name in ("seed", "world", "world_options", "train")})
  config.agent = agent
  config.train.steps = 320_000
  config.train.evaluate_every = 0
  config.train.hyper.anneal_updates = config.train.steps // (config.train.num_worlds * config.train.num_steps)
  if agent != "reacher_pose":
    config.train.auxiliary = config_dict.ConfigDict(navigation.heads(match, lstm="lstm1", costs=_COSTS))
  config.sweep = configuration.sweep(num_runs=2, top=2, sampled=())
  return config
