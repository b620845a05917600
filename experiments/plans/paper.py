"""For accelerators, in order of priority: what one card can do in an hour, then the three papers at their own size.

  python -m experiments.launch --plan=experiments/plans/paper.py:card --workdir=runs/card --share=4
  python -m experiments.launch --plan=experiments/plans/paper.py --workdir=runs/paper --hours=24

Parts, named as paper.py:columns: card, benchmark, columns, changes, soup, mazes, atari. Hours are computed from
measurements of an H100 (docs/speed.md), or guessed if a comment says so. No job of this plan has been run to its end. A
job that has not ended when time is up goes on at the next start, also on a CPU. If the machine has no network,
`offline.sh` beside this file carries the work there and back. A state has 12 bytes per parameter and run (2.5 MB in
Pong, 4 MB on the Jaco, 16 MB in a maze), plus what all worlds show.
"""

from ml_collections import config_dict

from experiments.configs import atari, jaco_corl2017, navigation, pong_soup
from experiments.running import plan
from experiments.studies.pnn import matrix

# Steps an hour on one H100, over all runs of a sweep, including pixels and learning.
_PONG, _PONG_A3C = 270_000 * 3_600, 31_000 * 3_600  # Five runs with passes; 25 of the paper's runs.
_MAZE, _JACO = 38_000 * 3_600, 16_000 * 3_600  # Five runs of 64 worlds; one run of 1,024; both with passes.
_COMPILED_HOURS = 0.02  # For each program.
_EMULATOR_STEPS_PER_HOUR = 1_000 * 3_600  # On 16 CPUs: a guess, from others' A3C (1,097 a second).
_RANDOMIZED = {f"world_options.randomization.{name}": value for name, value in jaco_corl2017.LOOKS.items()}


def get_plan(variant: str = "") -> list[plan.Job]:
  """All parts, or one of them."""
  parts = {
    "card": _card(),
    "benchmark": _benchmark(),
    "columns": _columns(),
    "changes": _changes(),
    "soup": _soup(),
    "mazes": _mazes(),
    "atari": _atari(),
  }
  return plan.of_parts(__file__, variant, parts)


def _hours(sweep: config_dict.ConfigDict, steps_per_hour: int) -> float:
  return round(sweep.train.steps * sweep.sweep.num_runs / steps_per_hour + _COMPILED_HOURS, 2)


def _card() -> list[plan.Job]:
  """Runs large enough for a card: the figure of Pong Soup, a column with varied looks, navigators in static_1.

  Jobs share the card, because each leaves it idle while it compiles. Figures are drawn at home.
  """
  soup_config, arm_config = "experiments/configs/pong_soup.py:accelerator", "experiments/configs/jaco_corl2017.py"
  hours = _hours(pong_soup.get_config("accelerator"), _PONG)
  soup = plan.Job("card_soup", "matrix", config=soup_config, flags={"cell": "scratch_pong"}, hours=hours)
  cells = {
    **{f"card_soup_{to}": [f"{how}_pong_to_{to}" for how in ("progressive", "finetune")] for to in ("white", "h_flip")},
    "card_soup_scratch": ["scratch_white", "scratch_h_flip"],
    "card_soup_random": [f"random_column_{to}" for to in ("pong", "white", "h_flip")],
    "card_soup_heads": [f"finetune_head_pong_to_{to}" for to in ("white", "h_flip")],
  }
  others = [
    plan.Job(
      name,
      "matrix",
      config=soup_config,
      flags={"cell": of, "workdir": "{card_soup}"},
      hours=round(hours * len(of), 2),
    )
    for name, of in cells.items()
  ]
  randomized = jaco_corl2017.get_config(jaco_corl2017.RANDOMIZED)
  column = plan.Job(
    "card_randomized",
    config=f"{arm_config}:{jaco_corl2017.RANDOMIZED}",
    hours=_hours(randomized, 3 * _JACO),  # The factor 3 is a guess for so many worlds.
  )
  sweep = navigation.get_config("accelerator,nav,static_1")
  mazes = [
    plan.Job(
      f"card_static_1_{agent}",
      config=f"experiments/configs/navigation.py:accelerator,{agent},static_1",
      hours=_hours(sweep, 3 * _MAZE),  # The same guess.
    )
    for agent in ("nav_d2", "nav", "nav_d1d2l")
  ]
  return [soup, column, *mazes[:2], *others, *mazes[2:]]


def _benchmark() -> list[plan.Job]:
  """How fast each stage is in 4,096 worlds, without peers and the twin; the Jaco is last, as it compiles longest."""
  learner = ("act", "learn", "play", "train")
  stages = {
    "pong": ("worlds", *learner, "sweep"),
    "maze": ("worlds", *learner),
    "jaco": ("physics", "pixels", *learner),
  }
  return [
    plan.Job(
      suite,
      "benchmark",
      flags={"suite": suite, "stages": ",".join(of), "num_worlds": 4096, "seconds": 3, "workdir": f"{{{suite}}}"},
      hours=0.03,
    )
    for suite, of in stages.items()
  ]


def _columns() -> list[plan.Job]:
  """Rusu et al. 2017: the wide column, plain and with varied looks; figure 4's other columns. Five runs each."""
  config, hours = "experiments/configs/jaco_corl2017.py", _hours(jaco_corl2017.get_config("wide"), _JACO)
  return [
    plan.Job("wide", config=f"{config}:wide", hours=hours),
    plan.Job("wide_randomized", config=f"{config}:wide", fields=_RANDOMIZED, hours=hours),
    *(plan.Job(kind, config=f"{config}:{kind}", hours=hours) for kind in ("wide_ff", "narrow", "narrow_ff")),
    plan.Job("wide_best", "evaluate", flags={"source": "{wide}/best", "episodes": 500}, hours=0.05),
  ]


def _changes() -> list[plan.Job]:
  """Rusu et al. 2017, figure 6: 300 runs a cell; the paper does not give their length."""
  jobs = []
  for cell in jaco_corl2017.FIGURE_6:
    sweep, fields = jaco_corl2017.get_config(cell), {"sweep.num_runs": 300, "sweep.top": 300}
    sweep.update_from_flattened_dict(fields)
    config = f"experiments/configs/jaco_corl2017.py:{cell}"
    jobs.append(plan.Job(cell, config=config, fields=fields, hours=_hours(sweep, _JACO)))
  return [*jobs, plan.figures("changes_figure", "corl2017_fig6", jobs)]


def _soup() -> list[plan.Job]:
  """Rusu et al. 2016: 25 runs a cell; from the matrix only White and H-flip, from Pong."""
  config, hours = "experiments/configs/pong_soup.py:paper", _hours(pong_soup.get_config("paper"), _PONG_A3C)
  cells = [
    "scratch_pong",
    *(f"{how}_{to}" for to in ("white", "h_flip") for how in ("scratch", "progressive_pong_to", "finetune_pong_to")),
  ]
  soup = plan.Job("soup", "matrix", config=config, flags={"cell": cells}, hours=round(hours * len(cells), 1))
  features = plan.Job("soup_features", "analyse", flags={"runs": "{soup}", "aps": True}, hours=0.5)  # A guess.
  return [soup, features, plan.figures("soup_figures", "pnn", [soup], after=[features])]


def _mazes() -> list[plan.Job]:
  """Mirowski et al. 2017: 64 runs an agent; D1D2L and Nav in the static and the random maze come before the others."""
  hours = _hours(navigation.get_config("paper,nav,static_1"), _MAZE)
  return [
    plan.Job(f"{maze}_{agent}", config=f"experiments/configs/navigation.py:paper,{agent},{maze}", hours=hours)
    for agents in (("nav", "nav_d1d2l"), ("nav_d2", "nav_d1"))
    for maze in ("static_1", "random_goal_1")
    for agent in agents
  ]


def _atari() -> list[plan.Job]:
  """Rusu et al. 2016, figures 6 and 11: 226 cells, 25 runs each, one after the other on CPUs.

  Many machines can share the cells by `experiments.matrix --cell` in one folder: this job alone is years of one
  machine.
  """
  config = atari.get_config("paper")
  steps = config.train.steps * config.sweep.num_runs * len(matrix.plan(config))
  hours = round(steps / _EMULATOR_STEPS_PER_HOUR)
  games = plan.Job("atari", "matrix", config="experiments/configs/atari.py:paper", hours=hours)
  return [games, *(plan.figures(name, name, [games]) for name in ("pnn_fig4a", "pnn_fig4b", "pnn_fig12"))]
