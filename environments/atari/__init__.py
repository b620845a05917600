"""The emulator itself behind dm_env: Atari games as agents know them, to judge in what was learned elsewhere."""
