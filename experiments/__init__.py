"""Wiring: the only place with flags, configs and files.

Binaries, each `python -m experiments.NAME`: train, transfer, matrix (learning), evaluate, navigate, analyse (reading
networks), figures, describe, benchmark, arm (the bridge), pong_fidelity, demo. They are thin. `session` is what
training and transfer share, `population` the same for many runs, `loop` their inner loop, `sinks` and `film` what it
feeds. `configuration` turns configs of `configs/` into networks, agents and worlds.
"""
