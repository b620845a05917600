"""Whether the navigators' auxiliary losses speed up a reacher that sees pixels: one agent per config.

  python -m experiments.train --config=experiments/configs/jaco_auxiliary.py:reacher_d2 --workdir=runs/auxiliary/d2
  python -m experiments.figures --figure=nav_fig3 --runs=runs/auxiliary --out=runs/auxiliary/figures

Agents: reacher; reacher with any of d1, d2 (depth from encoder or LSTM; d1mse and d2mse regress it) and l (loop closure
of the palm), as in reacher_d1d2l; and reacher_pose, whose heads read out where palm and joints are, as in
jaco_corl2017.py.
"""

from ml_collections import config_dict

from experiments.configs import base, jaco_corl2017, jaco_talk, navigation

_BASE, _POSE = "reacher", "reacher_pose"
# The gradients of all loss terms share one clipped step (jaco_talk.py): a head of cost 33 leaves no room for the
# others.
_COSTS = {"d1": 1.0, "d2": 1.0, "l": 1.0}


def get_config(agent: str = "reacher_d2") -> config_dict.ConfigDict:
  """The talk's first column, from scratch, with or without readouts; five runs, one after the other on a CPU."""
  name, losses = navigation.parse(agent, (_BASE, _POSE))
  if losses is None or name not in (_BASE, _POSE) or (name == _POSE and losses):
    raise ValueError(f"jaco_auxiliary.py:{agent} is no agent such as reacher, reacher_d2 or reacher_pose")
  config = jaco_talk.get_config()
  config.agent = agent
  config.train.evaluate_every = 0
  heads = jaco_corl2017.readouts() if name == _POSE else navigation.heads(losses, memory="lstm1", costs=_COSTS)
  config.train.auxiliary = config_dict.ConfigDict(heads)
  config.sweep = base.sweep(num_runs=5, top=5, sampled=())
  return config
