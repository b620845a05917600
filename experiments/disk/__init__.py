"""What lies on disk: run directories, checkpoints, released networks; folders of sweeps, matrices and navigators."""
