"""Many runs of one make-up side by side: seeds and sampled hyper-parameters are one more axis.

The protocol of the papers is a sample of hyper-parameters, of which the best few count (Rusu et al. 2016: 25 jobs a
cell, top 3; Mirowski et al. 2017: 64, top 5). Members share network, world and shapes, so one program trains all of
them and is compiled once; a machine's devices share them out. Each member has an ordinary run directory,
`runs/00` and on, whose config alone repeats it; all of them are one checkpoint, so that a sweep resumes as exactly as a
run, on as many devices as there are then. `best` holds the best member's network, from which others start.
"""

import functools
import os
import pathlib
import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from agents import actor_critic, trajectory
from environments import batch as batch_lib
from experiments.running import loop, recorder, session
from experiments.setup import configuration
from experiments.store import checkpoint, network_file, released, run_directory, sweep_folder
from progressive import partition

MakeTask = Callable[[config_dict.ConfigDict], session.Task]
_KINDS = ("choice", "log_uniform")
# What a run may have of its own: numbers of the learner's, which are data. The rest makes a program or a world.
_OWN = re.compile(r"((train|transfer)\.(hyper\.\w+|auxiliary\.\w+\.cost)|alpha)")
_MEMBERS = "members"  # The axis that runs are shared out along.


class Member(NamedTuple):
  """One run of a sweep."""

  config: config_dict.ConfigDict  # Of an ordinary run: what was sampled is filled in.
  path: pathlib.Path  # Its run directory.
  task: session.Task


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
      value = owner[field]
    except KeyError:
      raise ValueError(f"sweep.sampled names {name}, which is no field of the config") from None
    if not _OWN.fullmatch(name) or not isinstance(value, float):
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


def run(
  make_task: MakeTask, config: config_dict.ConfigDict, phase_name: str, workdir: str | os.PathLike
) -> list[Member]:
  """Trains `config.sweep.num_runs` members as `config[phase_name]` says, from where `workdir` stands to the end.

  Raises:
    ValueError: as `session.run`; or if members differ in more than numbers.
  """
  with run_directory.alone(workdir):
    return run_alone(make_task, config, phase_name, pathlib.Path(workdir))


def run_and_keep_best(
  make_task: MakeTask, config: config_dict.ConfigDict, phase_name: str, workdir: str | os.PathLike
) -> None:
  """`run`, then `save_best` by late returns, if the members got as far as to end episodes.

  Raises:
    ValueError: as `run`.
  """
  path = pathlib.Path(workdir)
  with run_directory.alone(path):
    members = run_alone(make_task, config, phase_name, path)
    try:
      scores = [sweep_folder.score(member.path) for member in members]
    except ValueError as error:
      print(f"no network is kept in {path / 'best'}: {error}")
      return
    world, options = ("world", "world_options") if phase_name == "train" else ("target", "target_options")
    index = int(np.argmax(scores))
    told = {"late_return": scores[index], "world": config[world], "world_options": config[options].to_dict()}
    save_best(path, members[index], trained(path, index), evaluation=told)


def save_best(path: pathlib.Path, member: Member, best: released.Source, *, evaluation: dict[str, Any]) -> None:
  """Writes a sweep's best member to `path/best` as a released network.

  Args:
    path: of the sweep.
    member: the best.
    best: the same, from `trained`.
    evaluation: what is told of it.
  """
  training = released.lineage(member.path, steps=best.step)
  released.save(path / "best", best.spec, best.params, evaluation=evaluation, provenance={"training": training})


def trained(path: pathlib.Path, index: int, *, like: Any = None) -> released.Source:
  """Member `index` of the sweep in `path`, at the newest checkpoint that is whole.

  Args:
    path: of the sweep.
    index: of the member.
    like: parameters of the same make-up (arrays or shapes), auxiliary heads included; None: the network's alone.

  Raises:
    ValueError: if there is none, or it does not fit `like`.
  """
  newest = checkpoint.load_newest(path / "checkpoints")
  if newest is None:
    raise ValueError(f"{path} has no checkpoint; run it first")
  step, arrays = newest
  own = {name: array[index] for name, array in arrays.items()}
  source, spec = str(path / "checkpoints" / str(step)), network_file.read_spec(path)
  if like is not None:
    return released.Source(spec, checkpoint.all_params(own, like, source=source), step)
  return released.Source(spec, checkpoint.network_params(own, spec, source=source), step)


def run_alone(make_task: MakeTask, config: config_dict.ConfigDict, phase_name: str, path: pathlib.Path) -> list[Member]:
  """`run` for a caller who has `path` to itself (`run_directory.alone`), and keeps it for what comes after."""
  phase = config[phase_name]
  session.check_annealing(phase, phase.num_worlds)
  members = [_member(make_task, sample(config, i), path / "runs" / f"{i:02}") for i in range(config.sweep.num_runs)]
  _check_alike(members, path)
  batch = session.make_batch(members[0].task, phase.num_worlds)
  if batch is None:
    raise ValueError(f"{path}: many runs side by side need a world in JAX; learn behind a bridge one run at a time")
  run_directory.claim(path, config, phase_name)
  network_file.write_spec(path, members[0].task.agent.spec)
  state, first_step = session.restore(path, stack([_init(member, batch) for member in members]), phase.steps)
  for member in members:
    run_directory.claim(member.path, member.config, phase_name)
    network_file.write_spec(member.path, member.task.agent.spec)
  if first_step >= phase.steps:
    return members
  metrics = [recorder.Metrics(member.path / "metrics.jsonl", step=first_step) for member in members]
  tensorboards = [recorder.TensorBoard(member.path / "tensorboard", step=first_step) for member in members]
  console = recorder.Console(name=path.name, first_step=first_step, until_step=phase.steps, every_s=30.0)

  def route(record: loop.Record) -> None:
    assert record.member is not None
    if record.member >= len(members):
      return
    metrics[record.member](record)
    tensorboards[record.member](record)
    if record.member == 0:
      console(record)

  def save(state: loop.TrainState, step: int) -> None:
    for one in metrics:
      one.sync()
    own = jax.tree.map(lambda leaf: leaf[: len(members)], state)
    checkpoint.save(path / "checkpoints", step, own, keep=phase.keep_checkpoints)

  mesh, share = share_out(len(members))
  agents = stack([jax.tree.map(jnp.float32, member.task.agent) for member in members])
  state, agents = spread((state, agents), mesh, share)
  # A CPU has no idle lanes to fill: there one member after the other is fastest (measured: see `benchmark`).
  width = 1 if jax.default_backend() == "cpu" else share
  train = functools.partial(train_step, agents=agents, batch=batch, num_steps=phase.num_steps, width=width, mesh=mesh)
  loop.consume(
    loop.in_batch(
      state,
      train,
      steps_per_update=phase.num_steps * phase.num_worlds,
      until_step=phase.steps,
      updates_per_record=phase.updates_per_record,
    ),
    first_step=first_step,
    until_step=phase.steps,
    sinks=(route,),
    evaluate=lambda state, step: [],
    evaluate_every=0,
    save=save,
    save_every=phase.save_every,
  )
  return members


def share_out(num_members: int) -> tuple[jax.sharding.Mesh, int]:
  """This process's devices, as many as have something to do, and how many members each of them trains."""
  devices = jax.local_devices()
  share = -(-num_members // len(devices))
  return jax.sharding.Mesh(np.array(devices[: -(-num_members // share)]), (_MEMBERS,)), share


def spread(members: Any, mesh: jax.sharding.Mesh, share: int) -> Any:
  """Trees `[N, ...]` over devices, `[mesh.size * share, ...]`: the first one again fills the last device's share."""

  def fill(leaf: jax.Array) -> jax.Array:
    missing = mesh.size * share - len(leaf)
    return jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, axis=0)]) if missing else leaf

  return jax.device_put(jax.tree.map(fill, members), jax.NamedSharding(mesh, jax.P(_MEMBERS)))


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

  along = jax.P(_MEMBERS)
  return jax.shard_map(own, mesh=mesh, in_specs=along, out_specs=along, check_vma=False)(states, agents)


def _member(make_task: MakeTask, config: config_dict.ConfigDict, path: pathlib.Path) -> Member:
  return Member(config, path, make_task(config))


def _init(member: Member, batch: batch_lib.Batch) -> loop.TrainState:
  trainable, frozen = partition.split(member.task.params, member.task.is_trainable)
  key = configuration.make_key(member.config.seed, "learning")
  return loop.init(member.task.agent, trainable, frozen, key, batch=batch)


def stack(trees: list[Any]) -> Any:
  """Trees of the same form as one, every leaf `[N, ...]`."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _check_alike(members: list[Member], path: pathlib.Path) -> None:
  first = jax.tree.structure(members[0].task.agent)
  for member in members[1:]:
    if jax.tree.structure(member.task.agent) != first:
      changes = run_directory.difference(members[0].config.to_dict(), member.config.to_dict())
      raise ValueError(
        f"{path}: members side by side may differ in numbers alone, not in what makes a program; these differ: "
        f"{'; '.join(changes)}"
      )
