"""Plans: jobs in order of priority (`running.plan` says how to write one; `experiments.launch` runs it)."""
