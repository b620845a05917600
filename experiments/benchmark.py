"""Measures how fast every stage is, beside its aim and, where one installs, beside a peer in the same run.

    python -m experiments.benchmark --suite=jaco
    python -m experiments.benchmark --suite=pong --stages=worlds,train

How a number is measured: `suites.stages`. Never a test: nothing here passes or fails. The table is written to
`--workdir`, runs/benchmark, as <suite>.json; that of some stages as <suite>_<stages>.json, as pong_worlds_train.json.
Aims are those of two CPU cores, or of one H200 where JAX has a GPU.
"""

import pathlib
import sys

import jax
from absl import flags

from experiments import binary
from experiments.store import run_directory
from experiments.suites import benchmark, stages

_SUITE = flags.DEFINE_string("suite", "jaco", "Which suite: a name in SUITES.")
_STAGES = flags.DEFINE_list("stages", [], "Only these stages of the suite; all where empty.")
_NUM_WORLDS = flags.DEFINE_integer(
  "num_worlds", 0, "Worlds in a batch; 0: 128 on a CPU, 4096 on an accelerator.", lower_bound=0
)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds of timing for each number, after warming up.")


def main() -> None:
  """Measures, prints, writes."""
  is_cpu = jax.default_backend() == "cpu"
  settings = stages.Settings(_NUM_WORLDS.value or (128 if is_cpu else 4096), _SECONDS.value, is_cpu)
  name = "_".join((_SUITE.value, *_STAGES.value))  # Some stages leave what was measured of all as it is.
  file = pathlib.Path(binary.WORKDIR.value or "runs/benchmark") / f"{name}.json"
  about = {"num_worlds": settings.num_worlds, "num_steps": stages.NUM_STEPS, "seconds": settings.seconds}
  provenance = run_directory.provenance()
  rows: list[stages.Row] = []
  for row in benchmark.measure(_SUITE.value, _STAGES.value, settings):
    print(f"{row.stage}: {benchmark.number(row.measured)} {row.unit}", file=sys.stderr, flush=True)
    rows.append(row)  # Written each time: a stage that fails takes none of the others with it.
    file.parent.mkdir(parents=True, exist_ok=True)
    run_directory.write_json(file, {"rows": [r._asdict() for r in rows], **about, "provenance": provenance})
  print(benchmark.table(rows))
  print(f"wrote {file}")


if __name__ == "__main__":
  binary.run(main, reads=(binary.WORKDIR,))
