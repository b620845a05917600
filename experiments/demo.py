"""The main job, end to end: a column learned in simulation is transferred to an arm behind a bridge.

    make demo                    # from the released column, five to eleven minutes on two cores
    make demo FROM_SCRATCH=1     # trains a column on `reach/fixed` first

The demo serves the twin arm and plays `jaco_corl2017` there unchanged. It then transfers that column through the bridge
for 10,000 arm steps with each of three methods, and plays in simulation again with what each has left
(`studies.corl2017.demo`). It writes `runs/demo/report.html` (`demo_report`). A second call continues a stopped one. The
folder is `--workdir`: runs/demo, or runs/demo_from_scratch.
"""

import pathlib

from absl import flags

from analysis import records
from experiments import binary
from experiments.configs import jaco_corl2017
from experiments.store import run_directory
from experiments.studies.corl2017 import demo, demo_report

READS = (binary.WORKDIR,)  # Flags that other modules define.

_COLUMN = flags.DEFINE(
  binary.PATH, "column", None, "Released column or run directory to start from; else the config's."
)
_FROM_SCRATCH = flags.DEFINE_bool("from_scratch", False, "Train a column on reach/fixed first, and start from that.")
_STEPS = flags.DEFINE_integer("steps", 10_000, "Arm steps of each method.")
_TRAIN_STEPS = flags.DEFINE_integer("train_steps", 2_500_000, "Steps in simulation, with --from_scratch.")
_EPISODES = flags.DEFINE_integer("evaluation_episodes", 40, "Episodes on the arm after learning.", lower_bound=1)


def main() -> None:
  """Trains if asked, transfers, reports."""
  is_from_scratch = _FROM_SCRATCH.value
  if is_from_scratch and _COLUMN.value:
    raise ValueError(
      f"--column={_COLUMN.value} is not read with --from_scratch, which trains its own; give one of both"
    )
  if _TRAIN_STEPS.present and not is_from_scratch:
    raise ValueError(
      f"--train_steps={_TRAIN_STEPS.value} is not read without --from_scratch; add it, or leave both out"
    )
  workdir = pathlib.Path(binary.WORKDIR.value or ("runs/demo_from_scratch" if is_from_scratch else "runs/demo"))
  task = "reach/fixed" if is_from_scratch else "reach/random"
  source = run_directory.present(_COLUMN.value or jaco_corl2017.get_config("progressive").source)
  if is_from_scratch:
    source = demo.train(workdir, task=task, steps=_TRAIN_STEPS.value)
  demo.run(workdir, task=task, source=str(source), steps=_STEPS.value, episodes=_EPISODES.value)
  summary = demo_report.write(workdir, task=task, source=source)
  steps = min(records.num_steps(records.read(workdir / method)) for method in demo.METHODS)
  print(f"\n{task} on the twin arm, {steps:,} steps by each method:")
  for what, how_much in summary.items():
    print(f"  {what}: {how_much}")
  print(f"report: {(workdir / 'report.html').resolve()}")


if __name__ == "__main__":
  binary.run(main, reads=READS)
