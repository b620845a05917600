"""What lies on disk: run directories, checkpoints, networks, released ones; sweeps, read."""
