"""The three papers at their own size, for accelerators, in order of worth; a part is PLAN:NAME, as paper.py:columns.

  python -m experiments.launch --plan=experiments/plans/paper.py --workdir=runs/paper --hours=0.4

Parts: benchmark, columns, changes, soup, mazes, atari. Hours are worked out from the aims of one card in docs/speed.md:
no job of this plan has run on a card yet. A job that has not ended when time is up goes on at the next start, on a CPU
as well. Where there is no network, `offline.sh` beside this file carries it there and back; a state has 12 bytes a
parameter and run, 2.5 MB in Pong, 4 MB on the Jaco, 16 MB in a maze.
"""

from ml_collections import config_dict

from experiments.configs import atari, jaco_corl2017, navigation, pong_soup
from experiments.running import plan
from experiments.studies.pnn import matrix

_STEPS_PER_HOUR = 100_000 * 3_600  # Of one card, over all runs of a sweep, pixels and learning included: a guess.
_EMULATOR_STEPS_PER_HOUR = 1_000 * 3_600  # Of a machine of 16 CPUs: a guess, from A3C of others (1,097 a second).
_RANDOMIZED = {
  f"world_options.randomization.{name}": value
  for name, value in {
    "camera_m": 0.07,
    "field_of_view": 0.05,
    "light": 0.4,
    "ambient": 0.2,
    "shadow": 1.0,
    "color": 0.15,
  }.items()
}


def get_plan(variant: str = "") -> list[plan.Job]:
  """All parts, or one of them."""
  parts = {
    "benchmark": _benchmark(),
    "columns": _columns(),
    "changes": _changes(),
    "soup": _soup(),
    "mazes": _mazes(),
    "atari": _atari(),
  }
  return plan.of_parts(__file__, variant, parts)


def _hours(sweep: config_dict.ConfigDict) -> float:
  return round(sweep.train.steps * sweep.sweep.num_runs / _STEPS_PER_HOUR, 2)


def _benchmark() -> list[plan.Job]:
  """How fast each stage is at growing batches; the Jaco last, since it compiles longest."""
  sizes = {"pong": (1024, 4096, 16384), "maze": (1024, 4096, 16384), "jaco": (256, 1024, 4096)}
  return [
    plan.Job(
      f"{suite}_{size}",
      "benchmark",
      flags={"suite": suite, "num_worlds": size, "seconds": 3, "workdir": f"{{{suite}_{size}}}"},
      hours=0.02,
    )
    for suite, of in sizes.items()
    for size in of
  ]


def _columns() -> list[plan.Job]:
  """Rusu et al. 2017: the wide column, plain and with looks that differ; the others of figure 4. Five runs each."""
  config, hours = "experiments/configs/jaco_corl2017.py", _hours(jaco_corl2017.get_config("wide"))
  return [
    plan.Job("wide", config=f"{config}:wide", hours=hours),
    plan.Job("wide_randomized", config=f"{config}:wide", fields=_RANDOMIZED, hours=hours),
    *(plan.Job(kind, config=f"{config}:{kind}", hours=hours) for kind in ("wide_ff", "narrow", "narrow_ff")),
    plan.Job("wide_best", "evaluate", flags={"source": "{wide}/best", "episodes": 500}, hours=0.05),
  ]


def _changes() -> list[plan.Job]:
  """Rusu et al. 2017, figure 6: 300 runs a cell, of a length that the paper does not give."""
  jobs = []
  for cell in jaco_corl2017.FIGURE_6:
    sweep, fields = jaco_corl2017.get_config(cell), {"sweep.num_runs": 300, "sweep.top": 300}
    sweep.update_from_flattened_dict(fields)
    config = f"experiments/configs/jaco_corl2017.py:{cell}"
    jobs.append(plan.Job(cell, config=config, fields=fields, hours=_hours(sweep)))
  return [*jobs, plan.figures("changes_figure", "corl2017_fig6", jobs)]


def _soup() -> list[plan.Job]:
  """Rusu et al. 2016: 25 runs a cell; of the matrix White and H-flip from Pong."""
  config, hours = "experiments/configs/pong_soup.py:paper", _hours(pong_soup.get_config("paper"))
  cells = [
    "scratch_pong",
    *(f"{how}_{to}" for to in ("white", "h_flip") for how in ("scratch", "progressive_pong_to", "finetune_pong_to")),
  ]
  soup = plan.Job("soup", "matrix", config=config, flags={"cell": cells}, hours=round(hours * len(cells), 1))
  return [soup, plan.figures("soup_figures", "pnn", [soup])]


def _mazes() -> list[plan.Job]:
  """Mirowski et al. 2017: 64 runs an agent; D1D2L and Nav in the static and in the random maze before the others."""
  hours = _hours(navigation.get_config("paper,nav,static_1"))
  return [
    plan.Job(f"{maze}_{agent}", config=f"experiments/configs/navigation.py:paper,{agent},{maze}", hours=hours)
    for agents in (("nav", "nav_d1d2l"), ("nav_d2", "nav_d1"))
    for maze in ("static_1", "random_goal_1")
    for agent in agents
  ]


def _atari() -> list[plan.Job]:
  """Rusu et al. 2016, figures 6 and 11: 226 cells, 25 runs of each, one after the other on CPUs.

  Many machines share them out by `experiments.matrix --cell` in one folder: this job alone is years of one machine.
  """
  config = atari.get_config("paper")
  steps = config.train.steps * config.sweep.num_runs * len(matrix.plan(config))
  hours = round(steps / _EMULATOR_STEPS_PER_HOUR)
  games = plan.Job("atari", "matrix", config="experiments/configs/atari.py:paper", hours=hours)
  return [games, *(plan.figures(name, name, [games]) for name in ("pnn_fig4a", "pnn_fig4b", "pnn_fig12"))]
