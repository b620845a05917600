"""Wiring: the only place with flags, configs and files.

Binaries, each `python -m experiments.NAME`: train, matrix, launch (learning), evaluate, navigate, analyse (reading
networks), figures, describe, benchmark, arm (the bridge), pong_fidelity, demo. They hold flags, and nothing imports
them. Under them lie, each importing those below alone: `studies` (one paper's plan, measures and figures), `suites` (of
the benchmark), `running` (one run or many, from start to end), `report` (for people), `setup` (from configs to
objects), `store` (what lies on disk). `configs` and `plans` say what is run.
"""

import os
import sys

if sys.argv[:1] == ["-m"]:  # A binary is starting; its imports take seconds.
  from experiments.running import stop

  stop.install(is_importing=True)
  try:
    import jax  # noqa: F401
  except ValueError as error:  # It reads variables on import: JAX_ENABLE_X64=maybe.
    sys.exit(f"error: {error}; correct or unset it")
  os.environ["MPLBACKEND"] = "agg"  # Figures go to files; no window opens, whatever backend a notebook asked for.
