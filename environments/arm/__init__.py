"""The target domain: an arm behind a dm_env bridge.

agent - client (`dm_env.Environment`) - dm_env_rpc - server - world (a task's episodes) - safety (the gate) - driver.

A driver is anything that meets `protocol.Driver`; `twin` is a simulated one that differs from the simulation.
"""
