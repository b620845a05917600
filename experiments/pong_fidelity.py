"""How faithful our Pong is: the same measurements on the emulator and on ours, side by side (`fidelity`).

    python -m experiments.pong_fidelity --workdir=runs/pong_fidelity

It prints a table and writes `fidelity.json`, `pictures.png` and `variants.png`. The exit code is 1 if a quantity is out
of tolerance.
"""

import pathlib
import sys

from absl import flags

from experiments import binary
from experiments.studies.pong_fidelity import fidelity

READS = (binary.WORKDIR,)  # Flags that other modules define.

_GAMES = flags.DEFINE_integer("games", 3, "Games of each scripted player.", lower_bound=1)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", 20_000, "Emulated frames of a game at most.", lower_bound=100)


def main() -> None:
  """Compares, prints, writes."""
  folder = pathlib.Path(binary.workdir())
  rows = fidelity.compare(num_episodes=_GAMES.value, max_frames=_MAX_FRAMES.value)
  print(fidelity.table(rows))
  fidelity.write(rows, folder)
  num_wrong = sum(not row.is_ok for row in rows)
  print(f"\n{len(rows) - num_wrong} of {len(rows)} quantities within tolerance; pictures in {folder}")
  if num_wrong:
    sys.exit(1)


if __name__ == "__main__":
  binary.run(main, reads=READS)
