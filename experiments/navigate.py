"""Tests trained navigators: the best member of every sweep below --runs plays whole episodes of its maze.

    python -m experiments.navigate --runs=runs/nav
    python -m experiments.navigate --runs=runs/nav/nav_d2 --videos

It writes `<sweep>/episodes.json` and `episodes.npz` (`studies.navigation.evaluation`), and with --videos also
`episode.mp4`.
"""

import time

from absl import flags

from experiments import binary
from experiments.studies.navigation import evaluation, figures, folder

READS = (binary.RUNS,)  # Flags that other modules define.

_EPISODES = flags.DEFINE_integer("test_episodes", 100, "Episodes that count.", lower_bound=1)
_VIDEOS = flags.DEFINE_bool("videos", False, "Write a video of the first episode.")


def main() -> None:
  """Tests sweep by sweep; sweeps that cannot be tested are named at the end."""
  if not binary.RUNS.value:
    raise ValueError("--runs is missing; give a folder of sweeps, e.g. --runs=runs/nav")
  paths, faults = folder.find(binary.RUNS.value, in_mazes_only=True), []
  for number, path in enumerate(paths, start=1):
    started = time.monotonic()
    try:
      line = figures.describe(evaluation.measure(path, num_episodes=_EPISODES.value, has_video=_VIDEOS.value))
    except ValueError as error:
      faults.append(f"{path.name}: {error}")
      continue
    print(f"[{number}/{len(paths)}] {path.name}: {line} ({time.monotonic() - started:.0f} s)", flush=True)
  if faults:
    raise ValueError("; ".join(faults))


if __name__ == "__main__":
  binary.run(main, reads=READS)
