"""Plans: jobs in order of worth (`running.plan` says how to write one; `experiments.launch` runs it)."""
