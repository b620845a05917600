"""Progressive networks: columns that learn one task each and keep what the earlier ones know.

Arrays only: no reinforcement learning, no world, no optimiser. `network` is the table of contents: it joins columns
(`column`) by laterals (`lateral`); `partition` says which parameters learn; `baselines` are other partitions of the
same machinery; `growth` reports what each column costs.
"""
