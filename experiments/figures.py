"""Draws a paper's figures from run directories, with the paper's own curves and numbers beside ours.

    python -m experiments.figures --figure=corl2017_fig5 --runs='runs/fig5/*' --out=runs/fig5/figure
    python -m experiments.figures --figure=pnn --runs=runs/soup --out=runs/soup/figures
    python -m experiments.figures --figure=nav --runs=runs/nav --out=runs/nav/figures

All figures are in `studies.figures`; the beginning of several names draws all of those. Each figure writes
`<figure>.png`, `.svg`, `.md` (tables, and what is missing), `.json` (every number) and its part of `provenance.json`
(`report.drawing`).
"""

import contextlib
import functools
import pathlib
import traceback

from absl import flags

from experiments import binary
from experiments.report import drawing
from experiments.studies import figures

READS = (binary.RUNS, binary.OUT)  # Flags that other modules define.

_FIGURE = flags.DEFINE_string("figure", None, "Which figure: a name in FIGURES, or the beginning of some (pnn).")


def main() -> None:
  """Reads, draws and writes; of several figures it draws those that it can, and names the others at the end."""
  names, out = figures.names(_FIGURE.value or ""), pathlib.Path(binary.OUT.value or "runs/figures")
  patterns = binary.RUNS.value or ()
  if not patterns:
    raise ValueError(f"--figure={names[0]} needs run directories: give --runs")
  drawing.open_folder(out)
  read_once = functools.cache(lambda read: read(patterns))  # Figures of one study read the same folders.
  faults: dict[str, list[str]] = {}  # Why -> the figures that cannot be drawn.
  for name in names:
    try:
      read = read_once(figures.FIGURES[name].read)
      drawn = figures.make(name, read)
      runs = figures.runs_of(read)
      files = drawing.write(name, drawn, runs, out)
    except Exception as error:  # Whatever the error is, the other figures do not depend on it.
      is_ours = not isinstance(error, ValueError | OSError)
      if is_ours:
        traceback.print_exc()
      faults.setdefault(repr(error) if is_ours else str(error), []).append(name)
      continue
    print(f"{name}\n\n{drawing.markdown(drawn)}")
    print(f"{len(runs)} runs read; wrote {', '.join(files)} to {out}\n")
  if faults:
    with contextlib.suppress(OSError):
      out.rmdir()  # Succeeds if nothing was drawn, now or before.
    raise ValueError("; ".join(f"{', '.join(each)}: {why}" for why, each in faults.items()))


if __name__ == "__main__":
  binary.run(main, reads=READS)
