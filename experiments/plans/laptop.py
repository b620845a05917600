"""What two cores can show of the three papers, some 74 hours of one core; a part is PLAN:NAME, such as laptop.py:mazes.

python -m experiments.launch --plan=experiments/plans/laptop.py --workdir=runs/laptop --hours=2

Parts: learning, columns, mazes, pong, changes, conveyor, arm, randomized, gap, taught, ladder, labyrinth, atari.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from environments.arm import gap
from experiments.configs import base, jaco_corl2017, jaco_talk, navigation
from experiments.running import plan

_SIM_TO_REAL = "experiments/configs/jaco_corl2017.py"
_NAVIGATION = "experiments/configs/navigation.py:laptop"
_AGENTS = ("nav", "nav_d1", "nav_d2", "nav_l", "nav_d1d2", "nav_d1d2l")
_MAZES = {"static_small": 500, "static_1": 590, "random_goal_small": 500}  # Maze -> steps a second of one core.


def get_plan(variant: str = "") -> list[plan.Job]:
  """All parts, or one of them."""
  parts = {
    "learning": _learning(),
    "columns": _columns(),
    "mazes": _mazes(),
    "pong": _pong(),
    "changes": _changes(),
    "conveyor": _conveyor(),
    "arm": _arm(),
    "randomized": _randomized(),
    "gap": _gap(),
    "taught": _taught(),
    "ladder": _ladder(),
    "labyrinth": _labyrinth(),
    "atari": _atari(),
  }
  return plan.of_parts(__file__, variant, parts)


def _learning() -> list[plan.Job]:
  """Does every seed learn? Five runs of each agent; runs in mazes are below."""
  agents = ("reacher", "reacher_pose")  # Without and with helper losses.
  config = "experiments/configs/jaco_auxiliary.py"
  return [plan.Job(agent, config=f"{config}:{agent}", hours=0.5) for agent in agents]


def _columns() -> list[plan.Job]:
  """Figure 4 of Rusu et al. 2017: three runs of each kind of first column, for a twenty-fifth of the paper's steps."""
  fields = {"train.steps": 2_000_000, "sweep.num_runs": 3, "sweep.top": 3}
  jobs = [plan.Job(kind, config=f"{_SIM_TO_REAL}:{kind}", fields=fields, hours=1.5) for kind in jaco_corl2017.FIGURE_4]
  return [*jobs, plan.figures("columns_figure", "corl2017_fig4", jobs)]


def _mazes() -> list[plan.Job]:
  """Table 1 and figure 3 of Mirowski et al. 2017."""
  jobs = []
  for maze, steps_per_s in _MAZES.items():
    hours = 5 * navigation.get_config(f"laptop,nav,{maze}").train.steps / (3_600 * steps_per_s)
    for agent in _AGENTS:
      name = f"{maze}_{agent}"
      jobs.append(plan.Job(name, config=f"{_NAVIGATION},{agent},{maze}", hours=round(hours, 2)))
      jobs.append(plan.Job(f"{name}_test", "navigate", flags={"runs": f"{{{name}}}"}, hours=0.1))
  learned, tested = ([job for job in jobs if job.binary == binary] for binary in ("train", "navigate"))
  return [*jobs, plan.figures("mazes_figures", "nav", learned, after=tested)]


def _pong() -> list[plan.Job]:
  """Figures of Rusu et al. 2016: twelve cells, three runs each."""
  config, fields = "experiments/configs/pong_soup.py:laptop", {"sweep.num_runs": 3, "sweep.top": 3}
  soup = plan.Job("soup", "matrix", config=config, fields=fields, hours=4.0)
  features = plan.Job("soup_features", "analyse", flags={"runs": "{soup}", "aps": True}, hours=4.0)  # Five cells.
  return [soup, features, plan.figures("soup_figures", "pnn", [soup], after=[features])]


def _changes() -> list[plan.Job]:
  """Figure 6 of Rusu et al. 2017: eight cells, 30 runs each."""
  jobs = [plan.Job(cell, config=f"{_SIM_TO_REAL}:{cell}", hours=0.5) for cell in jaco_corl2017.FIGURE_6]
  return [*jobs, plan.figures("changes_figure", "corl2017_fig6", jobs)]


def _conveyor() -> list[plan.Job]:
  """Figure 7 of Rusu et al. 2017, three runs each: on the twin with a teacher; on it by rewards; in simulation.

  In the runs by rewards on the twin, only the shadow differs. The third column starts from its own run's second one.
  """
  jobs = []
  shadow: dict[str, Any] = {"world_options.gap": "shadow:full"}
  for name, where, steps, twin in (
    ("twin", "_taught_twin", 20_000, {}),
    ("rewards", "_twin", 60_000, shadow),
    ("simulation", "", 60_000, {}),
  ):
    learned = []
    for seed in range(3):
      for variant in jaco_corl2017.FIGURE_7:
        own = {"source": f"{{fig7_static{where}_{seed}}}"} if variant == "fig7_three" else {}
        fields = {"seed": seed, "train.steps": steps, **twin, **own}
        config = f"{_SIM_TO_REAL}:{variant}{where}"
        learned.append(plan.Job(f"{variant}{where}_{seed}", config=config, fields=fields, hours=0.1))
    jobs += [*learned, plan.figures(f"conveyor_{name}", "corl2017_fig7", learned)]
  return jobs


def _gap() -> list[plan.Job]:
  """The reality gap by level and by difference: the released column, unchanged, and figure 5's learners.

  The learners learn at each level, and where only the camera or only the light differs; these cost the column much.
  `_arm` has the shadow.
  """
  alone = [f"{difference}:full" for difference in gap.DIFFERENCES]
  unchanged = {"train.steps": 10_000, "train.hyper.learning_rate": base.LEAST_RATE}
  jobs = [_on_the_twin("unchanged", "finetune_head", one, unchanged, 0.04) for one in (*gap.LEVELS, *alone)]
  for size in (*gap.LEVELS, "camera:full", "light:full"):
    for method in ("progressive", "finetune"):
      jobs += [_on_the_twin(f"{method}_{seed}", method, size, {"seed": seed}, 0.15) for seed in range(3)]
  return [*jobs, plan.figures("gap_figure", "corl2017_gap", jobs)]


def _arm() -> list[plan.Job]:
  """Figure 5 of Rusu et al. 2017, five runs a line, without shadow: the frozen column then starts as the paper's."""
  lines = ("progressive_wide", "progressive", "finetune", "scratch_wide", "scratch")
  jobs = [_on_the_twin(f"{line}_{i}", line, "shadow:full", {"seed": i}, 0.15) for i in range(5) for line in lines]
  return [*jobs, plan.figures("arm_figure", "corl2017_fig5", jobs)]


def _randomized() -> list[plan.Job]:
  """Figure 5 on the whole gap, from a column that went on learning with varied looks: the column, then five runs."""
  looks = {f"world_options.randomization.{name}": width for name, width in jaco_corl2017.LOOKS.items()}
  fields = {"method": "finetune", "source": "experiments/released/jaco_corl2017_plain", "train.steps": 1_000_000}
  fields |= {"train.hyper.anneal_updates": 782, "sweep.num_runs": 1, "sweep.top": 1}  # Updates: 64 worlds x 20 steps.
  column = plan.Job("randomized", config=f"{_SIM_TO_REAL}:wide", fields=fields | looks, hours=0.6)
  source = {"source": "experiments/released/jaco_corl2017_randomized"}  # The same column, released.
  alike = source | {"train.column.norm": "layer"}  # The same kinds of layers as in that column.
  copy = alike | {"output_init": "copy", "train.hyper.learning_rate": 3e-5}
  lines: dict[str, tuple[str, dict[str, Any]]] = {
    "progressive": ("progressive", source),
    "progressive_wide": ("progressive_wide", source),
    "copy": ("progressive_wide", copy),
    "finetune": ("finetune", alike),
    "scratch": ("scratch", {}),
    "scratch_wide": ("scratch_wide", {}),
  }
  jobs = [
    _on_the_twin(f"randomized_{line}_{i}", method, "full", {"seed": i, **own}, 0.2)
    for i in range(5)
    for line, (method, own) in lines.items()
  ]
  return [column, *jobs, plan.figures("randomized_figure", "corl2017_fig5", jobs)]


def _taught() -> list[plan.Job]:
  """Figure 5's learners with a teacher, for a third of its steps, and then their returns in simulation."""
  learned, played = [], []
  for seed in range(5):
    for method in ("progressive", "finetune", "scratch"):
      name = f"{method}_{seed}"
      fields = {"seed": seed, "train.steps": 20_000, "train.evaluation_episodes": 0}
      learned.append(plan.Job(name, config=f"{_SIM_TO_REAL}:{method}_taught_twin", fields=fields, hours=0.1))
      if method == "progressive":  # Its first column is frozen.
        continue
      flags = {"source": f"{{{name}}}", "target": "jaco/reach/random", "episodes": 100}
      played.append(plan.Job(f"{name}_back", "evaluate", flags=flags | {"release": f"{{{name}_back}}"}, hours=0.02))
  return [*learned, *played, plan.figures("taught_figure", "corl2017_fig5", learned)]


def _on_the_twin(name: str, method: str, size: str, fields: Mapping[str, Any], hours: float) -> plan.Job:
  fields = {"world_options.gap": size, "train.evaluation_episodes": 0, **fields}
  return plan.Job(
    f"{name}_{size.replace(':', '_')}", config=f"{_SIM_TO_REAL}:{method}_twin", fields=fields, hours=hours
  )


def _ladder() -> list[plan.Job]:
  """The talks' four columns, one task after the other, and every network on every task, in simulation and on the twin.

  On the twin, the columns learned in simulation are the teachers. Column 2 in simulation is learned three times. It is
  compared with column 2 from the start that the paper gives an arm, and from scratch.
  """
  config, first = "experiments/configs/jaco_talk.py", "experiments/released/jaco_talk"
  columns, before, played = [], first, [*_played("vision", first, "jaco")]
  for variant in jaco_talk.LADDER:
    columns.append(plan.Job(variant, config=f"{config}:{variant}", fields={"source": before}, hours=0.2))
    before = f"{{{variant}}}"
    played += _played(variant, before, "jaco")
  on_arm, before, arm_played = [], first, [*_played("vision", first, "twin")]
  for variant, task in jaco_talk.LADDER.items():
    fields = {"world": f"twin/{task}", "source": before, "train.teacher": f"{{{variant}}}"}
    on_arm.append(plan.Job(f"arm_{variant}", config=f"{config}:arm", fields=fields, hours=0.05))
    before = f"{{arm_{variant}}}"
    arm_played += _played(f"arm_{variant}", before, "twin")
  others: dict[str, dict[str, Any]] = {
    "random": {},
    "previous": {"output_init": "previous"},
    "scratch": {"method": "scratch", "source": "", "train.hyper.learning_rate": 5e-3},
  }
  learned = [
    plan.Job(f"reach_{name}_{seed}", config=f"{config}:reach", fields={"seed": seed, **fields}, hours=0.2)
    for seed in range(3)
    for name, fields in others.items()
    if seed or name != "random"  # That run is column 2 of the four.
  ]
  return [
    *columns,
    *on_arm,
    *played,
    *arm_played,
    plan.figures("ladder_figure", "talk_ladder", played),
    plan.figures("ladder_arm_figure", "talk_ladder", arm_played),
    *learned,
    plan.figures("ladder_starts", "learning", [columns[0], *learned]),
  ]


def _played(name: str, source: str, place: str) -> Iterator[plan.Job]:
  """A network on every task of the ladder, in simulation (jaco) or on the twin."""
  for task in ("reach/fixed", *jaco_talk.LADDER.values()):
    job = f"{name}_on_{place}_{task.replace('/', '_')}"
    flags = {"source": source, "target": f"{place}/{task}", "option": "num_joints=6", "episodes": 100}
    yield plan.Job(job, "evaluate", flags=flags | {"release": f"{{{job}}}"}, hours=0.02)


def _labyrinth() -> list[plan.Job]:
  """Figures 8 and 13 of Rusu et al. 2016 from Maze Y, one run a cell: 22 of one column; 15 of two, half as fast."""
  labyrinth = plan.Job("labyrinth", "matrix", config="experiments/configs/labyrinth.py:laptop", hours=9.0)
  return [labyrinth, *(plan.figures(f"labyrinth_{name}", f"pnn_{name}", [labyrinth]) for name in ("fig4a", "fig12"))]


def _atari() -> list[plan.Job]:
  """Figures 6 and 11 of Rusu et al. 2016: from Seaquest to two games, one run a cell, some at two columns' speed."""
  matrix = plan.Job("atari", "matrix", config="experiments/configs/atari.py:laptop", hours=9.0)
  return [matrix, *(plan.figures(name, name, [matrix]) for name in ("pnn_fig4a", "pnn_fig4b", "pnn_fig12"))]
