"""Many runs of one make-up side by side: seeds and sampled hyper-parameters are one more axis.

The protocol of the papers is a sample of hyper-parameters, of which the best few count (Rusu et al. 2016: 25 jobs a
cell, top 3; Mirowski et al. 2017: 64, top 5). Members share network, world and shapes, so one program trains all of
them and is compiled once; a machine's devices share them out. What a member may have of its own are the leaves of its
agent: numbers, which are data.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, trajectory
from environments import batch as batch_lib
from experiments.running import loop

_AXIS = "members"  # That runs are shared out along.


def stack(trees: list[Any]) -> Any:
  """Trees of the same form as one, every leaf `[N, ...]`."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def share_out(num_members: int) -> tuple[jax.sharding.Mesh, int]:
  """This process's devices, as many as have something to do, and how many members each of them trains."""
  devices = jax.local_devices()
  share = -(-num_members // len(devices))
  return jax.sharding.Mesh(np.array(devices[: -(-num_members // share)]), (_AXIS,)), share


def spread(members: Any, mesh: jax.sharding.Mesh, share: int) -> Any:
  """Trees `[N, ...]` over devices, `[mesh.size * share, ...]`: the first one again fills the last device's share."""

  def fill(leaf: jax.Array) -> jax.Array:
    missing = mesh.size * share - len(leaf)
    return jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, axis=0)]) if missing else leaf

  return jax.device_put(jax.tree.map(fill, members), jax.NamedSharding(mesh, jax.P(_AXIS)))


@functools.partial(jax.jit, static_argnames=("batch", "num_steps", "width", "mesh"), donate_argnames="states")
def train_step(
  states: loop.TrainState,
  *,
  agents: actor_critic.Agent,
  batch: batch_lib.Batch,
  num_steps: int,
  width: int,
  mesh: jax.sharding.Mesh,
) -> tuple[loop.TrainState, dict[str, jax.Array], trajectory.EpisodeStatistics]:
  """`loop.train_step` of N members, every leaf `[N, ...]`, shared out over the devices of `mesh`.

  A device trains `width` of its members at once (all of its own, or 1: one after the other).
  """

  def one(member: tuple[loop.TrainState, actor_critic.Agent]) -> Any:
    return loop.train_step(member[0], agent=member[1], batch=batch, num_steps=num_steps)

  def own(*members: Any) -> Any:
    return jax.lax.map(one, members, batch_size=width if width > 1 else None)

  along = jax.P(_AXIS)
  return jax.shard_map(own, mesh=mesh, in_specs=along, out_specs=along, check_vma=False)(states, agents)
