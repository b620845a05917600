"""All suites by name, and a run through the stages of one; `stages` explains how a number is measured."""

from collections.abc import Iterator, Mapping, Sequence

from analysis import curves
from experiments.suites import jaco_stages, maze_stages, pong_stages, stages

SUITES: Mapping[str, Mapping[str, stages.Stage]] = {
  "jaco": jaco_stages.STAGES,
  "pong": pong_stages.STAGES,
  "maze": maze_stages.STAGES,
}


def measure(suite: str, names: Sequence[str], settings: stages.Settings) -> Iterator[stages.Row]:
  """Runs the named stages of a suite (all if none is named); yields their rows as they come.

  Raises:
    ValueError: for an unknown suite or stage.
  """
  if suite not in SUITES:
    raise ValueError(f"--suite={suite} is not one of {', '.join(SUITES)}")
  unknown = [stage for stage in names if stage not in SUITES[suite]]
  if unknown:
    raise ValueError(f"--stages={unknown[0]} is not one of {', '.join(SUITES[suite])}")
  for name in names or SUITES[suite]:
    yield from SUITES[suite][name](settings)


def table(rows: Sequence[stages.Row]) -> str:
  """The rows as a Markdown table."""
  return curves.table(
    {r.stage: {"measured": number(r.measured), "unit": r.unit, "aim": r.aim, "note": r.note} for r in rows}
  )


def number(x: float) -> str:
  """Three digits, or all digits before the point."""
  return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
