"""Many runs of one make-up side by side: seeds and sampled hyper-parameters are one more axis.

The protocol of the papers is a sample of hyper-parameters, of which the best few count (Rusu et al. 2016: 25 jobs a
cell, top 3; Mirowski et al. 2017: 64, top 5). Members share network, world and shapes, so one program trains all of
them and is compiled once; a machine's devices share them out. What a member may have of its own are the leaves of its
agent: numbers, which are data.
"""

import dataclasses
import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from agents import actor_critic, auxiliary, trajectory
from environments import batch as batch_lib
from experiments.running import loop

_KINDS = ("choice", "log_uniform")
_AXIS = "members"  # That runs are shared out along.


def own_fields(config: config_dict.ConfigDict) -> set[str]:
  """The fields that runs side by side may differ in: numbers that are data, not what makes a program or a world."""
  hyper, head = (
    [field.name for field in dataclasses.fields(data) if field.metadata.get("pytree_node", True)]
    for data in (actor_critic.Hyper, auxiliary.Head)
  )
  heads = [f"train.auxiliary.{name}.{field}" for name in config.train.auxiliary for field in head]
  return {"alpha", *(f"train.hyper.{field}" for field in hyper), *heads}


def sample(config: config_dict.ConfigDict, index: int) -> config_dict.ConfigDict:
  """The config of member `index`: its own seed, and a value drawn for each of `config.sweep.sampled`.

  `sampled` lists (field, kind, values): "choice" deals the values like cards, so that a few members see all of them;
  "log_uniform" draws between two. More members leave the earlier ones what they are.

  Raises:
    ValueError: for an unknown field or kind, one that is not a run's own, or nothing to draw from.
  """
  if config.sweep.num_runs < 1:
    raise ValueError(f"sweep.num_runs={config.sweep.num_runs} must be above 0")
  member = config_dict.ConfigDict({name: value for name, value in config.items() if name != "sweep"})
  member = member.copy_and_resolve_references()
  for name, kind, values in config.sweep.sampled:
    if kind not in _KINDS:
      raise ValueError(f"sweep.sampled draws {name} by {kind!r}; choose one of {', '.join(_KINDS)}")
    section, _, field = name.rpartition(".")
    try:
      owner = functools.reduce(lambda at, part: at[part], section.split(".") if section else [], member)
      owner[field]
    except KeyError:
      raise ValueError(f"sweep.sampled names {name}, which is no field of the config") from None
    if name not in own_fields(member):
      raise ValueError(
        f"sweep.sampled draws {name}, in which runs side by side cannot differ: only numbers of hyper, costs of "
        "auxiliary heads and alpha are a run's own; make a sweep for each value"
      )
    if not values:
      raise ValueError(f"sweep.sampled gives no values for {name}")
    rng = np.random.default_rng((config.seed, zlib.crc32(name.encode())))
    if kind == "choice":
      dealt = [value for _ in range(index // len(values) + 1) for value in rng.permutation(values)]
    else:
      low, high = np.log(values)
      dealt = list(np.exp(rng.uniform(low, high, size=index + 1)))
    owner[field] = float(dealt[index])
  member.seed = config.seed + index
  return member


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
  is_recorded: jax.Array | bool = True,
) -> tuple[loop.TrainState, dict[str, jax.Array], trajectory.EpisodeStatistics]:
  """`loop.train_step` of N members, every leaf `[N, ...]`, shared out over the devices of `mesh`.

  A device trains `width` of its members at once (all of its own, or 1: one after the other).
  """

  def own(is_recorded: jax.Array, *members: Any) -> Any:
    def one(member: tuple[loop.TrainState, actor_critic.Agent]) -> Any:
      return loop.train_step(member[0], agent=member[1], batch=batch, num_steps=num_steps, is_recorded=is_recorded)

    return jax.lax.map(one, members, batch_size=width if width > 1 else None)

  along, whole = jax.P(_AXIS), jax.P()
  mapped = jax.shard_map(own, mesh=mesh, in_specs=(whole, along, along), out_specs=along, check_vma=False)
  return mapped(jnp.asarray(is_recorded), states, agents)
