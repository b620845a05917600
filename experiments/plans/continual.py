"""Modes of Atari games in sequence, as three papers compare them (docs/papers.md 9): their ProgNet and a corrected one.

  python -m experiments.launch --plan=experiments/plans/continual.py:laptop --workdir=runs/continual --hours=4

Scales: smoke, laptop, paper. All methods start from the same run of the first mode; every later mode is also learned
from scratch. Hours are estimates.
"""

from collections.abc import Iterator

from experiments.configs import continual
from experiments.running import plan

_CHAINS = ("published", "corrected", "adapters", "finetune")  # Each starts from its own run of the previous mode.
_STEPS_PER_HOUR = {"smoke": 30 * 3_600, "laptop": 300 * 3_600, "paper": 1_000 * 3_600}  # `paper`: on 16 CPUs.


def get_plan(variant: str = "laptop") -> list[plan.Job]:
  """All runs of a scale, mode by mode, and their figure."""
  variant = variant or "laptop"
  parts = {scale: list(_jobs(scale)) for scale in continual.SCALES}
  jobs = plan.of_parts(__file__, variant, parts)
  return [*jobs, plan.figures("continual_figure", "continual", jobs)]


def _jobs(scale: str) -> Iterator[plan.Job]:
  made = continual.SCALES[scale]
  for game, modes in made.modes.items():
    for seed in range(made.num_seeds):
      for i, mode in enumerate(modes):
        yield _job(scale, "scratch", game, mode, seed)
        for method in _CHAINS if i else ():
          before = "scratch" if i == 1 else method
          yield _job(scale, method, game, mode, seed, source=_name(before, game, modes[i - 1], seed))
      for mode in modes[:-1]:
        yield _job(scale, "retained", game, mode, seed, source=_name("finetune", game, modes[-1], seed))


def _job(scale: str, method: str, game: str, mode: int, seed: int, *, source: str = "") -> plan.Job:
  config = f"{scale},{method},{game}"
  hours = continual.get_config(config).train.steps / _STEPS_PER_HOUR[scale]
  fields = {"world_options.mode": mode, "seed": seed, **({"source": f"{{{source}}}"} if source else {})}
  name = _name(method, game, mode, seed)
  return plan.Job(name, config=f"experiments/configs/continual.py:{config}", fields=fields, hours=round(hours, 3))


def _name(method: str, game: str, mode: int, seed: int) -> str:
  return f"{game}_{mode}_{method}_{seed}"
