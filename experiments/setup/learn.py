"""What learns where: the one way from a config to a task, whatever the method, the heads and the place.

    source (a trained network, or none) + method + column + heads + place -> Task

`progressive.baselines` says which network a method starts from and which of its parameters learn. Heads read from the
newest column, whichever method made it. ConfigDicts are used no further down than `setup`.
"""

import contextlib
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from agents import actor_critic, auxiliary, trajectory, unroll
from agents import heads as heads_lib
from environments import batch as batch_lib
from environments import core, registry
from experiments.setup import column
from experiments.setup import place as place_lib
from experiments.setup import teacher as teacher_lib
from experiments.store import released
from progressive import baselines, network, partition, start
from progressive import column as progressive_column

FRAMES_TO_FIT = 640  # Of all worlds together.


class Task(NamedTuple):
  """What is learned, by whom, and where."""

  agent: actor_critic.Agent
  params: Any
  is_trainable: Callable[[tuple[Any, ...]], bool]
  place: place_lib.Place


def make(
  config: config_dict.ConfigDict,
  *,
  source: released.Source | None = None,
  spec: network.Network | None = None,
  first_step: int = 0,
  place: place_lib.Place | None = None,
) -> Task:
  """The network that `config.method` starts from, with the heads of `config.train`, in `config.world`.

  Args:
    config: from `configs.base.experiment`.
    source: the network to start from; None: that of `config.source`.
    spec: the network of a run that continues. Its parameters, zeros here, are in its checkpoint; no source is read.
    first_step: where that run continues: worlds behind `dm_env` begin with other episodes there than at step 0.
    place: `config.world` if it has been made already; None: it is made here.

  Raises:
    ValueError: if there is no source and the method needs one, or if method, heads and world do not go together.
  """
  heads = make_heads(config.train)
  if heads and config.method == "finetune_head":
    raise ValueError("method='finetune_head' learns the output alone, and heads teach features; set train.auxiliary={}")
  if source is None and spec is None:
    source = load_source(config)
  before = spec or (source.spec if source else None)
  teacher = teacher_lib.load(config.train.teacher) if config.train.teacher else None
  read = (*config.train.column.inputs, *(network.input_names(before) if before else ()))
  with contextlib.ExitStack() as refused:
    if place is None:
      place = place_lib.make(
        config.world,
        config.world_options.to_dict(),
        observations=None if teacher else (*read, *(head.signal for head in heads)),
        seed=config.seed,
        first_step=first_step,
        num_worlds=config.train.num_worlds,
      )
      refused.callback(place.close)  # An arm has one client at a time.
    num_choices = place_lib.num_choices(place)
    newest = column.make(config.train.column, place.world.observation_spec(), num_choices)
    params, spec, is_trainable = _goes_on(config, spec, newest) if spec else _starts(config, source, newest)
    place_lib.check_inputs(place, spec)
    if source:
      place_lib.check_alike(place, source.spec, source.learned_in, acts=_begins_as_source(config))
    if teacher and actor_critic.TEACHER not in place.signal_spec():  # A place that was passed in may have it.
      place = teacher_lib.taught(place, teacher)
    agent = actor_critic.Agent(spec, num_choices, make_hyper(config.train), heads, is_taught=bool(teacher))
    trained = source.heads if source and config.method == "finetune" else None
    key = make_key(config.seed, "auxiliary")
    params = auxiliary.init(key, spec, params, heads, place.signal_spec(), trained=trained)
    refused.pop_all()
  return Task(agent, params, is_trainable, place)


_Network: TypeAlias = tuple[network.Params, network.Network, partition.IsTrainable]  # And what learns.


def _starts(
  config: config_dict.ConfigDict, source: released.Source | None, newest: progressive_column.Column
) -> _Network:
  """What `config.method` makes of the source and a new column.

  A copied value is rescaled from the source's scaled rewards to this config's.
  """
  params, spec, is_trainable = baselines.prepare(
    make_key(config.seed, "network"),
    config.method,
    column_spec=newest,
    source_params=source.params if source else None,
    source_spec=source.spec if source else None,
    output_init=config.output_init,
    alpha=config.alpha,
  )
  if source is None or not _begins_as_source(config):
    return params, spec, is_trainable
  if source.reward_scale is None:
    raise ValueError(
      f"{config.source} does not say in what scale of rewards its value is; write the train.hyper.reward_scale that it "
      f'was learned with into its provenance.json, as "reward_scale": 1.0 for rewards as they are'
    )
  factor = config.train.hyper.reward_scale / source.reward_scale
  return heads_lib.scale_value(params, factor), spec, is_trainable


def _begins_as_source(config: config_dict.ConfigDict) -> bool:
  """Whether the network first plays as its source does, with outputs of the same meaning."""
  return config.method in baselines.FINETUNING or (config.method == "progressive" and config.output_init != "random")


def _goes_on(config: config_dict.ConfigDict, spec: network.Network, newest: progressive_column.Column) -> _Network:
  """Zeros in the form of `spec`, whose newest column must be the config's if the method makes one."""
  if config.method not in baselines.FINETUNING and spec.columns[-1] != newest:
    there, here = ({layer.name: layer for layer in one.layers} for one in (spec.columns[-1], newest))
    other = [name for name in {**there, **here} if there.get(name) != here.get(name)] or ["inputs"]
    raise ValueError(
      f"the run has learned with another network than train.column describes (it differs in {', '.join(other)}); use "
      f"the config it was made with, or another --workdir"
    )
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), network.params_like(spec))
  return zeros, spec, baselines.trainable(config.method, spec)


def is_fitted(config: config_dict.ConfigDict) -> bool:
  """Whether the newest column is to see data before it learns: it is new, and the config says so."""
  is_copy = config.method != "scratch" and config.output_init == "copy"  # From scratch there is none to copy.
  is_new = config.method not in baselines.FINETUNING and not is_copy
  return is_new and config.train.column.start == "data"


def fitted(task: Task, batch: batch_lib.Batch, key: jax.Array) -> Task:
  """The task with its newest column fitted to what the batch shows under the first policy (`progressive.start`)."""
  trainable, frozen = partition.split(task.params, task.is_trainable)
  start_key, act_key = jax.random.split(key)
  state = actor_critic.initial_state(task.agent, batch.num_worlds)
  num_steps = -(-FRAMES_TO_FIT // batch.num_worlds)
  begun = batch_lib.begin(batch, start_key)
  return fitted_to(task, unroll.unroll(task.agent, trainable, frozen, batch, begun, state, act_key, num_steps)[2])


def fitted_to(task: Task, played: trajectory.Trajectory) -> Task:
  """The task with its newest column fitted to what was seen in `played`, `[T+1, B, ...]`."""
  params = jax.jit(start.standardise, static_argnames="spec")(
    auxiliary.without(task.params),
    spec=task.agent.spec,
    inputs=played.timesteps.observation,
    state=played.initial_state,
    is_first=played.timesteps.step_type == core.FIRST,
  )
  return task._replace(params=(*params[:-1], {**task.params[-1], **params[-1]}))


def warn_unread(task: Task, config: config_dict.ConfigDict) -> None:
  """Warns on stderr if the newest column is not what `train.column` describes: finetuning keeps the source's."""
  described = column.make(config.train.column, task.place.world.observation_spec(), task.agent.num_choices)
  if task.agent.spec.columns[-1] != described:
    print(
      f"warning: train.column describes another column than the source's newest, and method={config.method!r} keeps "
      f"the source's",
      file=sys.stderr,
    )


def resolved(config: config_dict.ConfigDict, *, kept: Mapping[str, Any]) -> config_dict.ConfigDict:
  """A self-contained copy: files that the world's options name are replaced by what is in them.

  `kept` are the options of a run that continues, {} at a start. They stand in for a file that is gone, and stderr says
  so.
  """
  config = config.copy_and_resolve_references()
  options = config.world_options.to_dict()
  try:
    config.world_options.update(registry.resolve(config.world, options))
  except FileNotFoundError as error:
    both = [name for name in options if name in kept]
    name = next((name for name in both if _has_files(config.world, {**options, name: kept[name]})), None)
    if name is None:
      raise
    print(f"warning: the run goes on with the {name} that its config.json keeps: {error}", file=sys.stderr)
    config.world_options[name] = kept[name]
  return config


def _has_files(world: str, options: Mapping[str, Any]) -> bool:
  """Whether every file that the options name exists."""
  with contextlib.suppress(FileNotFoundError):
    registry.resolve(world, options)
    return True
  return False


def load_source(config: config_dict.ConfigDict) -> released.Source | None:
  """The network of `config.source`; None if the method starts from none.

  Raises:
    ValueError: if there is none and the method needs one, or if there is one that the method would not read.
  """
  if config.method == "scratch" and config.source:
    raise ValueError(f"source={config.source!r} is not read by method='scratch'; set source='', or another method")
  needs_none = config.method == "scratch" or (config.method == "random_column" and not config.source)
  return None if needs_none else released.load_source(config.source)


def player(source: released.Source, world: str, options: Mapping[str, Any], *, seed: int = 0) -> Task:
  """A trained network in a world; none of it learns.

  Raises:
    ValueError: if the network's inputs or outputs do not fit.
  """
  place = place_lib.make(world, options, observations=network.input_names(source.spec), seed=seed)
  with contextlib.ExitStack() as refused:
    refused.callback(place.close)
    place_lib.check_inputs(place, source.spec)
    agent = actor_critic.Agent(source.spec, place_lib.num_choices(place), actor_critic.Hyper())
    actor_critic.init(agent, ())  # Refuses an output of another size than the action needs.
    place_lib.check_alike(place, source.spec, source.learned_in, acts=True)
    refused.pop_all()
  return Task(agent, source.params, lambda path: False, place)


def input_names(task: Task) -> tuple[str, ...]:
  """The observations that the task's network reads."""
  return network.input_names(task.agent.spec)


def shown(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """What worlds must show for learning: the network's inputs, and the signals of auxiliary heads and of a teacher."""
  return input_names(task), actor_critic.signals(task.agent)


def make_hyper(phase: config_dict.ConfigDict) -> actor_critic.Hyper:
  """The hyper-parameters of a phase."""
  return actor_critic.Hyper(**phase.hyper.to_dict())


def make_heads(phase: config_dict.ConfigDict) -> tuple[auxiliary.Head, ...]:
  """The auxiliary heads of a phase."""
  return tuple(auxiliary.Head(**one.to_dict()) for one in phase.auxiliary.values())


def make_key(seed: int, purpose: str) -> jax.Array:
  """The key for one purpose; it does not depend on how many other purposes there are."""
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
