"""From config files to the objects they describe: a column, an agent, a world.

A config has one section for each phase (`train`: the first column, in simulation; `transfer`: the next one, on the
target), the first with a few fields more, and the choices of an experiment (`seed`, `method`, `source`, `target`) on
top. ConfigDicts go no further than this file.
"""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import jax
from dm_env import specs
from ml_collections import config_dict

from agents import actor_critic, heads
from agents import auxiliary as auxiliary_lib
from environments import core, registry
from progressive import column, layers


def column_section(
  *,
  inputs: tuple[str, ...] = ("pixels",),
  conv: tuple[tuple[int, int, int], ...] = ((16, 8, 4), (32, 5, 2)),
  dense: tuple[int, ...] = (128,),
  lstm: tuple[int, ...] = (128,),
  joins: tuple[tuple[str, str], ...] = (),
  pixel_init: str = "lecun",
) -> config_dict.ConfigDict:
  """A column: convolutions on pictures, dense layers on them and all other inputs, LSTMs, one linear output.

  Args:
    inputs: names of the observations it reads; those `[H, W, C]` go to the first convolution.
    conv: (features, kernel, stride) of each convolution, `conv1` and on; none where no picture is read.
    dense: units of each dense layer, `dense1` and on.
    lstm: units of each LSTM, `lstm1` and on.
    joins: (what, layer): an input or an earlier layer that this layer reads beside the one below; inputs `[D]` that
      are not named here join above the convolutions.
    pixel_init: how kernels on pixels begin, "lecun" or "contrast": see `layers.Conv`.
  """
  return config_dict.ConfigDict(
    {"inputs": inputs, "conv": conv, "dense": dense, "lstm": lstm, "joins": joins, "pixel_init": pixel_init}
  )


def phase(
  *,
  column: config_dict.ConfigDict,
  steps: int,
  num_worlds: int,
  num_steps: int,
  evaluate_every: int,
  save_every: int,
  evaluation_episodes: int,
  updates_per_record: int = 10,
  **hyper: Any,
) -> config_dict.ConfigDict:
  """A phase of learning.

  Args:
    column: from `column_section`.
    steps: agent steps, over all worlds.
    num_worlds: B, for worlds in JAX; behind a bridge there is one.
    num_steps: T, the length of an unroll.
    evaluate_every: agent steps between evaluations; 0: only at the end.
    save_every: agent steps between checkpoints; 0: only at the end.
    evaluation_episodes: episodes of each evaluation; 0: no evaluation.
    updates_per_record: updates that one 'train' record sums up.
    **hyper: fields of `actor_critic.Hyper` that are not at their default.
  """
  return config_dict.ConfigDict(
    {
      "column": column,
      "steps": steps,
      "num_worlds": num_worlds,
      "num_steps": num_steps,
      "evaluate_every": evaluate_every,
      "evaluation_episodes": evaluation_episodes,
      "evaluation_is_greedy": False,
      "save_every": save_every,
      "keep_checkpoints": 3,
      "updates_per_record": updates_per_record,
      "video": True,
      "hyper": dataclasses.asdict(actor_critic.Hyper(**hyper)),
    }
  )


def head(signal: str, layer: str, cost: float, *, hidden: int = 0, num_classes: int = 0) -> config_dict.ConfigDict:
  """An auxiliary head: the fields of `auxiliary.Head`."""
  return config_dict.ConfigDict(
    {"signal": signal, "layer": layer, "cost": cost, "hidden": hidden, "num_classes": num_classes}
  )


def first_column(
  *, auxiliary: Mapping[str, config_dict.ConfigDict] | None = None, start_from: str = "", **fields: Any
) -> config_dict.ConfigDict:
  """The phase of the first column, in a world in JAX.

  Args:
    auxiliary: name -> `head`, in order.
    start_from: a run directory or released column of the same make-up, to go on from instead of from random weights.
    **fields: `phase`'s.
  """
  section = phase(**fields)
  section.auxiliary, section.start_from = config_dict.ConfigDict(dict(auxiliary or {})), start_from
  return section


def sweep(
  *, num_runs: int, top: int, sampled: tuple[tuple[str, str, tuple[float, ...]], ...]
) -> config_dict.ConfigDict:
  """Many runs side by side (`population`).

  Args:
    num_runs: members, each with its own seed.
    top: how many of them count: the best.
    sampled: (field, "choice" or "log_uniform", values) for each hyper-parameter that is drawn for each member.
  """
  return config_dict.ConfigDict({"num_runs": num_runs, "top": top, "sampled": sampled})


def make_column(
  config: config_dict.ConfigDict, observation_spec: Mapping[str, specs.Array], num_choices: tuple[int, ...]
) -> column.Column:
  """The column of a config section on a world's observations.

  Raises:
    ValueError: if the world does not offer an input, or the make-up does not fit the inputs.
  """
  for name in config.inputs:
    if name not in observation_spec:
      raise ValueError(f"column input {name!r} is not observed in this world; it offers {sorted(observation_spec)}")
  pictures = tuple(name for name in config.inputs if len(observation_spec[name].shape) == 3)
  if bool(pictures) != bool(config.conv):
    raise ValueError(f"column.inputs={tuple(config.inputs)} and column.conv={tuple(config.conv)}: give both or neither")
  joined = {what for what, _ in config.joins}
  vectors = tuple(name for name in config.inputs if name not in pictures and name not in joined)

  def reads(layer: str) -> tuple[str, ...]:
    return (*below, *(what for what, into in config.joins if into == layer))

  made: list[layers.Layer] = []
  below = pictures
  for i, (features, kernel, stride) in enumerate(config.conv):
    name = f"conv{i + 1}"
    init = config.pixel_init if below == pictures else "lecun"
    made.append(layers.Conv(name, reads(name), features, kernel, stride, kernel_init=init))
    below = (made[-1].name,)
  below += vectors
  for i, size in enumerate(config.dense):
    made.append(layers.Dense(f"dense{i + 1}", reads(f"dense{i + 1}"), size=size))
    below = (made[-1].name,)
  for i, size in enumerate(config.lstm):
    made.append(layers.LSTM(f"lstm{i + 1}", reads(f"lstm{i + 1}"), size=size))
    below = (made[-1].name,)
  size = heads.output_size(num_choices)
  made.append(layers.Dense("output", reads("output"), size=size, activation=None, laterals="linear"))
  names = [layer.name for layer in made]
  unknown = [into for _, into in config.joins if into not in names]
  if unknown:
    raise ValueError(f"column.joins names layer {unknown[0]!r}; this column has {', '.join(names)}")
  inputs = tuple((name, tuple(observation_spec[name].shape)) for name in config.inputs)
  return column.Column(inputs=inputs, layers=tuple(made))


def make_hyper(config: config_dict.ConfigDict) -> actor_critic.Hyper:
  """The hyper-parameters of a phase."""
  return actor_critic.Hyper(**config.hyper.to_dict())


def make_auxiliary(config: config_dict.ConfigDict) -> tuple[auxiliary_lib.Head, ...]:
  """The auxiliary heads of a first column's phase."""
  return tuple(auxiliary_lib.Head(**one.to_dict()) for one in config.auxiliary.values())


def make_world(name: str, options: config_dict.ConfigDict) -> core.Environment:
  """A world in JAX by its registered name."""
  return registry.make(name, **options.to_dict())


def make_key(seed: int, purpose: str) -> jax.Array:
  """The key of one purpose: independent of how many other purposes there are."""
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
