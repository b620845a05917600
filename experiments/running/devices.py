"""Distributes runs and their worlds over all devices of all hosts: one mesh along runs and along worlds.

The papers sample hyper-parameters and count the best few runs (Rusu et al. 2016: 25 jobs a cell, top 3; Mirowski et al.
2017: 64, top 5). Runs side by side share network, world and shapes, so one program trains all of them and is compiled
once. Besides its seed and `alpha`, a run's own values can only be leaves of its agent: numbers, which are data. Devices
that are left over share each run's worlds. Parameters are whole on every device of a run. The compiler finds which sums
(of a gradient, of a metric) go over devices. One device runs the same program.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, trajectory
from environments import batch as batch_lib
from experiments.running import loop
from experiments.store import checkpoint

_RUNS, _WORLDS = "runs", "worlds"
_OF_WORLDS = ("batch_state", "recurrent_state", "progress")  # Fields of a state with an axis of worlds.


class Layout(NamedTuple):
  """Which devices train what."""

  mesh: jax.sharding.Mesh  # [devices along runs, devices along the worlds of each run].
  share: int  # Runs of each device.


def stack(trees: list[Any]) -> Any:
  """Trees of the same form as one tree, every leaf `[N, ...]`."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def lay_out(num_runs: int, num_worlds: int, *, is_split: bool = True) -> Layout:
  """Uses as many devices as have something to do; says on stderr if that is not all of them.

  Args:
    num_runs, num_worlds: N runs, and B worlds of each.
    is_split: whether a run's worlds may be split over devices; worlds that call the host may not.

  Raises:
    ValueError: if that is not all devices, and there are several processes: one would wait for ever.
  """
  devices = jax.devices()
  share = -(-num_runs // len(devices))
  along_runs = next(k for k in range(-(-num_runs // share), len(devices) + 1) if len(devices) % k == 0)
  left = len(devices) // along_runs
  along_worlds = max(k for k in range(1, left + 1) if num_worlds % k == 0) if is_split else 1
  mesh = make_mesh(devices[: along_runs * along_worlds], along_runs)
  if mesh.size < len(devices):
    runs = f"{num_runs} runs" if num_runs > 1 else "a run"
    fix = f"a multiple of {left} would occupy all" if is_split else "its worlds call the host, from one device alone"
    words = f"{mesh.size} of {len(devices)} devices can share out {runs} of train.num_worlds={num_worlds}; {fix}"
    if jax.process_count() > 1:
      raise ValueError(f"{words}, and every process must have something to do")
    print(f"warning: {words}", file=sys.stderr)
  return Layout(mesh, share)


def make_mesh(devices: Sequence[jax.Device], along_runs: int = 1) -> jax.sharding.Mesh:
  """A mesh of `devices`: `along_runs` of them along runs, and the others along the worlds of each run."""
  return jax.sharding.Mesh(np.array(devices).reshape(along_runs, -1), (_RUNS, _WORLDS))


def place(state: loop.TrainState, layout: Layout) -> loop.TrainState:
  """Places the state of a run, or of N runs (every leaf `[N, ...]`), on its devices.

  Of N runs, copies of the first one fill the last device's share: leaves are then `[devices along runs * share, ...]`.
  """
  if state.step.ndim:
    state = _fill(state, layout)
  return _put(state, _shardings(state, layout.mesh))


def place_agents(agents: actor_critic.Agent, layout: Layout) -> actor_critic.Agent:
  """Places the agents of N runs, every leaf `[N, ...]`, on their devices, filled up as in `place`."""
  agents = _fill(agents, layout)
  along = jax.NamedSharding(layout.mesh, jax.P(_RUNS))
  return _put(agents, jax.tree.map(lambda _: along, agents))


@functools.partial(jax.jit, static_argnames=("batch", "num_steps", "width", "mesh"), donate_argnames="state")
def train_step(
  state: loop.TrainState,
  *,
  agent: actor_critic.Agent,
  batch: batch_lib.Batch,
  num_steps: int,
  mesh: jax.sharding.Mesh,
  width: int = 1,
) -> tuple[loop.TrainState, actor_critic.Metrics, trajectory.EpisodeStatistics]:
  """`loop.train_step` of a run, or of N (every leaf of `state` and `agent` `[N, ...]`), over the devices of `mesh`.

  A device trains `width` of its runs at once: all of its runs, or 1, and so one after the other.
  """

  def one(run: tuple[loop.TrainState, actor_critic.Agent]) -> Any:
    return loop.train_step(run[0], agent=run[1], batch=batch, num_steps=num_steps)

  def own(*runs: Any) -> Any:
    return jax.lax.map(one, runs, batch_size=width if width > 1 else None)

  if state.step.ndim:
    along = jax.P(_RUNS)
    # A program that the compiler has to split cannot call the host, as physics on a CPU does.
    manual = {_RUNS} | {axis for axis, size in mesh.shape.items() if size == 1}
    step = jax.shard_map(own, mesh=mesh, in_specs=along, out_specs=along, check_vma=False, axis_names=manual)
    state, *results = step(state, agent)
  else:
    state, *results = one((state, agent))
  metrics, episodes = jax.lax.with_sharding_constraint(results, jax.NamedSharding(mesh, jax.P()))
  return jax.lax.with_sharding_constraint(state, _shardings(state, mesh)), metrics, episodes


def _shardings(state: loop.TrainState, mesh: jax.sharding.Mesh) -> loop.TrainState:
  """Where every leaf of a state lies; every process has all step counters."""
  runs = (_RUNS,) if state.step.ndim else ()
  axes = dict.fromkeys(state.__dataclass_fields__, runs) | dict.fromkeys(_OF_WORLDS, (*runs, _WORLDS)) | {"step": ()}

  def everywhere(name: str) -> Any:
    sharding = jax.NamedSharding(mesh, jax.P(*axes[name]))
    return jax.tree.map(lambda _: sharding, getattr(state, name))

  return loop.TrainState(**{name: everywhere(name) for name in axes})


def _fill(tree: Any, layout: Layout) -> Any:
  def fill(leaf: jax.Array) -> jax.Array:
    missing = layout.mesh.shape[_RUNS] * layout.share - len(leaf)
    return jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, axis=0)]) if missing else leaf

  return jax.tree.map(fill, tree)


def unfilled(state: loop.TrainState, num_runs: int) -> loop.TrainState:
  """The first `num_runs` runs of a state of N, without the copies that fill a last device's share.

  It goes by way of the host. Slicing an array on several devices takes a program that gathers it, one for each leaf,
  and on a CPU such programs can wait for each other until XLA aborts the process.
  """

  def first(leaf: jax.Array) -> Any:
    if checkpoint.is_key(leaf):
      return jax.random.wrap_key_data(first(jax.random.key_data(leaf)))
    return np.asarray(leaf)[:num_runs]

  return jax.tree.map(lambda leaf: leaf if len(leaf) == num_runs else first(leaf), state)


def _put(tree: Any, shardings: Any) -> Any:
  """`jax.device_put` for trees with keys: over several processes it takes no keys, only their data."""
  data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if checkpoint.is_key(leaf) else leaf, tree)
  placed = jax.device_put(data, shardings)
  return jax.tree.map(lambda leaf, x: jax.random.wrap_key_data(x) if checkpoint.is_key(leaf) else x, tree, placed)
