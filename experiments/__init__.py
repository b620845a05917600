"""Wiring: the only place with flags, configs and files.

The binaries, each run by `python -m experiments.NAME`, are train, matrix, launch (learning), evaluate, navigate,
analyse, credit (reading networks), figures, describe, benchmark, arm (the bridge), pong_fidelity and demo. They hold
the flags, and nothing imports them. The folders below them each import only those further below: `studies` (one paper's
plan, measures and figures), `suites` (of the benchmark), `running` (one run or many, from start to end), `report`
(output for people), `setup` (from configs to objects), `store` (files on disk). `configs` and `plans` say what is run.
"""

import os
import sys

if sys.argv[:1] == ["-m"]:  # A binary is starting; its imports take seconds.
  from experiments.running import stop

  stop.install(is_importing=True)
  try:
    import jax  # noqa: F401
  except ValueError as error:  # JAX reads variables when imported, such as JAX_ENABLE_X64=maybe.
    sys.exit(f"error: {error}; correct or unset it")
  os.environ["MPLBACKEND"] = "agg"  # Figures go to files; no window opens, whatever backend a notebook asked for.
