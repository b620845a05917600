"""The target domain: an arm behind a dm_env bridge.

agent - client (`dm_env.Environment`) - dm_env_rpc - server - world (a task's episodes) - safety (the gate) - driver.
In the server, requests come through `streams`, wait in a `mailbox`, and are answered at the `desk`.

`recorder` keeps what the arm did, `recording` reads it, `replay` plays it again, and `export` passes it on. A driver is
anything that meets `protocol.Driver`. `twin` is a simulated driver that differs from the simulation.
"""
