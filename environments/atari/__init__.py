"""The emulator itself behind dm_env: Atari games as agents know them, to evaluate agents trained elsewhere."""
