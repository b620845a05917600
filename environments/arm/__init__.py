"""The target domain: an arm behind a dm_env bridge.

agent - client (`dm_env.Environment`) - dm_env_rpc - server - world (a task's episodes) - safety (the gate) - driver.
In the server, requests come by `streams`, wait in a `mailbox`, and are answered at the `desk`.

What it did is kept by `recorder`, read by `recording`, played again by `replay`, and passed on by `export`.
A driver is anything that meets `protocol.Driver`; `twin` is a simulated one that differs from the simulation.
"""
