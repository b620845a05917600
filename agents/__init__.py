"""Learning: a batched advantage actor-critic that knows trajectories, not games.

`actor_critic` is the table of contents (init, act, update); `unroll` makes the trajectories it learns from, in JAX
worlds and in `dm_env` ones; `evaluation` plays whole episodes. Everything is a pure function of
`(trainable, frozen)` parameters, in that order, and only the first is ever differentiated.
"""
