"""Measures how fast every stage is, next to its aim and, if one is installed, next to a peer in the same run.

    python -m experiments.benchmark --suite=jaco
    python -m experiments.benchmark --suite=pong --stages=worlds,train

`suites.stages` says how a number is measured. This is never a test: nothing here passes or fails. The table is written
to `--workdir` (default runs/benchmark) as <suite>.json, or for selected stages as <suite>_<stages>.json, e.g.
pong_worlds_train.json. The aims are for two CPU cores, or for one H200 if JAX has a GPU.
"""

import pathlib
import sys

import jax
from absl import flags

from experiments import binary
from experiments.store import run_directory
from experiments.suites import benchmark, stages

READS = (binary.WORKDIR,)  # Flags that other modules define.

_SUITE = flags.DEFINE_string("suite", "jaco", "Which suite: a name in SUITES.")
_STAGES = flags.DEFINE_list("stages", [], "Only these stages of the suite; empty for all.")
_NUM_WORLDS = flags.DEFINE_integer(
  "num_worlds", 0, "Worlds in a batch; 0: 128 on a CPU, 4096 on an accelerator.", lower_bound=0
)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds of timing for each number, after warming up.")


def main() -> None:
  """Measures, prints, writes."""
  is_cpu = jax.default_backend() == "cpu"
  settings = stages.Settings(_NUM_WORLDS.value or (128 if is_cpu else 4096), _SECONDS.value, is_cpu)
  name = "_".join((_SUITE.value, *_STAGES.value))  # Selected stages do not overwrite the file of all stages.
  file = pathlib.Path(binary.WORKDIR.value or "runs/benchmark") / f"{name}.json"
  about = {"num_worlds": settings.num_worlds, "num_steps": stages.NUM_STEPS, "seconds": settings.seconds}
  provenance = run_directory.provenance()
  rows: list[stages.Row] = []
  for row in benchmark.measure(_SUITE.value, _STAGES.value, settings):
    print(f"{row.stage}: {benchmark.number(row.measured)} {row.unit}", file=sys.stderr, flush=True)
    rows.append(row)  # Written each time, so that a stage that fails loses none of the others.
    file.parent.mkdir(parents=True, exist_ok=True)
    run_directory.write_json(file, {"rows": [r._asdict() for r in rows], **about, "provenance": provenance})
  if not rows:
    raise ValueError(f"--stages={','.join(_STAGES.value)} measured nothing; see above what it needs")
  print(benchmark.table(rows))
  print(f"wrote {file}")


if __name__ == "__main__":
  binary.run(main, reads=READS)
