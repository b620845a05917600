"""What two cores can show of the three papers, some 20 hours of one core: a part of it is PLAN:learning, mazes or pong.

python -m experiments.launch --plan=experiments/plans/laptop.py --workdir=runs/laptop --hours=2
"""

from experiments.configs import navigation
from experiments.running import plan

_NAVIGATION = "experiments/configs/navigation.py:laptop"
_AGENTS = ("nav", "nav_d1", "nav_d2", "nav_l", "nav_d1d2", "nav_d1d2l")
_MAZES = ("static_small", "static_1", "random_goal_small")
_STEPS_PER_HOUR = 660 * 3_600  # Of one core.


def get_plan(variant: str = "") -> list[plan.Job]:
  """All parts, or one of them."""
  return plan.of_parts(__file__, variant, {"learning": _learning(), "mazes": _mazes(), "pong": _pong()})


def _learning() -> list[plan.Job]:
  """Does every seed learn? Five runs of each; the mazes' are below."""
  agents = ("reacher", "reacher_pose")  # Without helper losses, and with.
  config = "experiments/configs/jaco_auxiliary.py"
  return [plan.Job(agent, config=f"{config}:{agent}", hours=0.5) for agent in agents]


def _mazes() -> list[plan.Job]:
  """Table 1 and figure 3 of Mirowski et al. 2017."""
  jobs = []
  for maze in _MAZES:
    hours = 5 * navigation.get_config(f"laptop,nav,{maze}").train.steps / _STEPS_PER_HOUR
    for agent in _AGENTS:
      name = f"{maze}_{agent}"
      jobs.append(plan.Job(name, config=f"{_NAVIGATION},{agent},{maze}", hours=round(hours, 2)))
      jobs.append(plan.Job(f"{name}_test", "navigate", flags={"runs": f"{{{name}}}"}, hours=0.1))
  tested = [f"{{{job.name}}}" for job in jobs if job.binary == "train"]
  figures = {"figure": "nav", "runs": tested, "out": "{mazes_figures}"}
  return [*jobs, plan.Job("mazes_figures", "figures", flags=figures, hours=0.1)]


def _pong() -> list[plan.Job]:
  """Figures of Rusu et al. 2016: ten cells, three runs of each."""
  config, fields = "experiments/configs/pong_soup.py:laptop", {"sweep.num_runs": 3, "sweep.top": 3}
  return [
    plan.Job("soup", "matrix", config=config, fields=fields, hours=6.0),
    plan.Job("soup_features", "analyse", flags={"runs": "{soup}", "aps": True}, hours=0.5),
    plan.Job("soup_figures", "figures", flags={"figure": "pnn", "runs": "{soup}", "out": "{soup_figures}"}, hours=0.1),
  ]
