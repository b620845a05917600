"""Measures how fast every stage is, beside its aim and, where one installs, beside a peer in the same run.

    python -m experiments.benchmark --suite=jaco
    python -m experiments.benchmark --suite=pong --stages=worlds,train

How a number is measured: `stages`. Never a test: nothing here passes or fails. The table is written to `--workdir`,
runs/benchmark, as <suite>.json. Aims are those of two CPU cores, or of one H200 where JAX has a GPU.
"""

import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import jax
from absl import flags

from analysis import curves
from experiments import binary
from experiments.store import run_directory
from experiments.suites import jaco_stages, maze_stages, pong_stages, stages

_SUITE = flags.DEFINE_string("suite", "jaco", "Which suite: a name in SUITES.")
_STAGES = flags.DEFINE_list("stages", [], "Only these stages of the suite; all where empty.")
_NUM_WORLDS = flags.DEFINE_integer("num_worlds", 0, "Worlds in a batch; 0: 128 on a CPU, 4096 on an accelerator.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds of timing for each number, after warming up.")


SUITES: Mapping[str, Mapping[str, stages.Stage]] = {
  "jaco": jaco_stages.STAGES,
  "pong": pong_stages.STAGES,
  "maze": maze_stages.STAGES,
}


def measure(suite: str, names: Sequence[str], settings: stages.Settings) -> Iterator[stages.Row]:
  """Runs the stages of these names (all where none is given) of a suite; yields their rows as they come.

  Raises:
    ValueError: unknown suite or stage.
  """
  if suite not in SUITES:
    raise ValueError(f"--suite={suite} is not one of {', '.join(SUITES)}")
  unknown = [stage for stage in names if stage not in SUITES[suite]]
  if unknown:
    raise ValueError(f"--stages={unknown[0]} is not one of {', '.join(SUITES[suite])}")
  for name in names or SUITES[suite]:
    yield from SUITES[suite][name](settings)


def table(rows: Sequence[stages.Row]) -> str:
  """Markdown."""
  return curves.table(
    {r.stage: {"measured": _number(r.measured), "unit": r.unit, "aim": r.aim, "note": r.note} for r in rows}
  )


def _number(x: float) -> str:
  return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def main(argv: Sequence[str]) -> None:
  """Measures, prints, writes."""
  del argv
  is_cpu = jax.default_backend() == "cpu"
  settings = stages.Settings(_NUM_WORLDS.value or (128 if is_cpu else 4096), _SECONDS.value, is_cpu)
  out = pathlib.Path(binary.WORKDIR.value or "runs/benchmark")
  out.mkdir(parents=True, exist_ok=True)
  about: dict[str, object] = {
    "num_worlds": settings.num_worlds,
    "num_steps": stages.NUM_STEPS,
    "seconds": settings.seconds,
  }
  about["provenance"] = run_directory.provenance()
  rows: list[stages.Row] = []
  for row in measure(_SUITE.value, _STAGES.value, settings):
    print(f"{row.stage}: {_number(row.measured)} {row.unit}", file=sys.stderr, flush=True)
    rows.append(row)  # Written each time: a stage that fails takes none of the others with it.
    run_directory.write_json(out / f"{_SUITE.value}.json", {"rows": [r._asdict() for r in rows], **about})
  print(table(rows))
  print(f"wrote {out / _SUITE.value}.json")


if __name__ == "__main__":
  binary.run(main, reads=(binary.WORKDIR,))
