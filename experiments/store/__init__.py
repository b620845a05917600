"""Files on disk: run directories, checkpoints, networks, released networks; reading of sweeps."""
