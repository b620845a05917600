"""Wiring: the only place with flags, configs and files.

Binaries, each `python -m experiments.NAME`: train, transfer, matrix (learning), evaluate, navigate, analyse (reading
networks), figures, describe, benchmark, arm (the bridge), pong_fidelity, demo. They hold flags, and nothing imports
them. `setup` makes objects of the configs in `configs`, `running` runs them, `store` keeps files, `studies` has what
belongs to one paper, `suites` the benchmark's stages, `report` pictures and pages.
"""

import os
import sys

if sys.argv[:1] == ["-m"]:  # A binary is starting; its imports take seconds.
  from experiments.running import stop

  stop.install()
  os.environ["MPLBACKEND"] = "agg"  # Figures go to files; no window opens, whatever backend a notebook asked for.
