"""How a matrix's trained networks use the columns they were given: AFS and, with --aps, APS of every done cell.

    python -m experiments.analyse --runs=runs/soup
    python -m experiments.analyse --runs=runs/soup --cell=progressive_pong_to_white --aps

It writes `<cell>/sensitivity.json` (`studies.pnn.analysis`), from which `experiments.figures` draws. What is already
there is not measured again.
"""

import itertools
import math
import time

from absl import flags

from experiments import binary
from experiments.studies.pnn import analysis, matrix, matrix_folder, sensitivity

READS = (binary.RUNS, binary.CELL)  # Flags that other modules define.

_APS = flags.DEFINE_bool("aps", False, "Measure APS too.")
_SAMPLES = flags.DEFINE_integer(
  "samples", 2048, f"Choices that AFS averages over, a multiple of {sensitivity.BATCH_SIZE}.", lower_bound=1
)
_EVERY = flags.DEFINE_integer("sample_every", 20, "Steps of a world between two samples of it.", lower_bound=1)
_APS_EPISODES = flags.DEFINE_integer("aps_episodes", 10, "Episodes for each scale of noise.", lower_bound=1)
_APS_SCALES = flags.DEFINE_list(
  "aps_scales", [], "Variances of the noise to try, in units of the activations' own; empty: 13 from 1e-3 to 1e3."
)


def main() -> None:
  """Measures what is missing, cell by cell."""
  scales = _scales()
  for flag in (_APS_EPISODES, _APS_SCALES):
    if flag.present and not _APS.value:
      raise ValueError(f"--{flag.name} is of APS, which is not asked for; give --aps beside it")
  workdir = matrix_folder.find_one(binary.RUNS.value or ())
  chosen = analysis.choose(workdir, binary.CELL.value)
  settings = analysis.Settings(
    num_samples=_SAMPLES.value,
    every=_EVERY.value,
    has_aps=_APS.value,
    aps_episodes=_APS_EPISODES.value,
    aps_scales=scales or sensitivity.SCALES,
  )
  plan = matrix.read_plan(workdir)
  for number, cell in enumerate(chosen, start=1):
    started = time.monotonic()
    measured = analysis.analyse(workdir / cell.name, settings, floor=matrix.floors(plan, cell.target)[0])
    line = analysis.describe(measured)
    print(f"[{number}/{len(chosen)}] {cell.name}: {line} ({time.monotonic() - started:.0f} s)", flush=True)


def _scales() -> tuple[float, ...]:
  """The values of --aps_scales; raises ValueError if they are not a grid."""
  try:
    scales = tuple(float(scale) for scale in _APS_SCALES.value)
    is_grid = all(low < high for low, high in itertools.pairwise((0.0, *scales, math.inf)))
  except ValueError:
    is_grid = False
  if not is_grid:
    given = ",".join(_APS_SCALES.value)
    raise ValueError(f"--aps_scales={given} must be finite numbers that rise from above 0, as 0.1,1,10")
  return scales


if __name__ == "__main__":
  binary.run(main, reads=READS)
