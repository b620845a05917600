"""Plans: what is run, in order of worth (`running.plan` says how one is written; `experiments.launch` runs it)."""
