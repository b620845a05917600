"""Makes a column from its section of a config and what is observed where it learns.

A column has convolutions on pictures, dense layers on these and on all other inputs, memories, and one linear output.
Layers have the same names whatever their kind, so that joins, heads and laterals find them. A normalised `dense1`
stands above a linear layer, and laterals and joins go into that linear layer.
"""

from collections.abc import Mapping

from dm_env import specs
from ml_collections import config_dict

from agents import heads
from progressive import column, layers

MEMORIES = {"lstm": layers.LSTM, "gru": layers.GRU}
_LINEAR, _EMBEDDED = "_linear", "_dense"  # Suffixes of a normalised layer's linear part and of an input's layer.


def make(
  config: config_dict.ConfigDict, observation_spec: Mapping[str, specs.Array], num_choices: tuple[int, ...]
) -> column.Column:
  """The column that a section (`configs.base.column`) describes, for these observations.

  Raises:
    ValueError: if the world does not offer an input, or if the layers do not fit the inputs.
  """
  for name in config.inputs:
    if name not in observation_spec:
      raise ValueError(f"column input {name!r} is not observed in this world; it offers {sorted(observation_spec)}")
  pictures = tuple(name for name in config.inputs if len(observation_spec[name].shape) == 3)
  if bool(pictures) != bool(config.conv):
    raise ValueError(f"column.inputs={tuple(config.inputs)} and column.conv={tuple(config.conv)}: give both or neither")
  joined = {what for what, _ in config.joins}
  made: list[layers.Layer] = [layers.Dense(name + _EMBEDDED, (name,), size=size) for name, size in config.embed]
  stands_for = {layer.inputs[0]: layer.name for layer in made}
  vectors = tuple(stands_for.get(name, name) for name in config.inputs if name not in pictures and name not in joined)

  def reads(layer: str) -> tuple[str, ...]:
    return (*below, *(stands_for.get(what, what) for what, into in config.joins if into == layer))

  below = pictures
  for i, (features, kernel, stride) in enumerate(config.conv):
    name = f"conv{i + 1}"
    init = config.pixel_init if below == pictures else "lecun"
    size = kernel if isinstance(kernel, int) else tuple(kernel)
    made.append(layers.Conv(name, reads(name), features, size, stride, kernel_init=init, laterals=config.laterals))
    below = (made[-1].name,)
  below += vectors
  for i, size in enumerate(config.dense):
    name = f"dense{i + 1}"
    if config.norm == "layer":
      made.append(layers.Dense(name + _LINEAR, reads(name), size=size, activation=None, laterals=config.laterals))
      made.append(layers.LayerNorm(name, (name + _LINEAR,)))
    else:
      made.append(layers.Dense(name, reads(name), size=size, laterals=config.laterals))
    below = (made[-1].name,)
  for i, size in enumerate(config.lstm):
    made.append(MEMORIES[config.memory](f"lstm{i + 1}", reads(f"lstm{i + 1}"), size=size))
    below = (made[-1].name,)
  size = heads.output_size(num_choices)
  into_output = "blind" if config.laterals == "blind" else config.output_laterals
  made.append(layers.Dense("output", reads("output"), size=size, activation=None, laterals=into_output))
  names = [layer.name for layer in made if not layer.name.endswith(_LINEAR)]
  unknown = [into for _, into in config.joins if into not in names]
  if unknown:
    raise ValueError(f"column.joins names layer {unknown[0]!r}; this column has {', '.join(names)}")
  inputs = tuple((name, tuple(observation_spec[name].shape)) for name in config.inputs)
  return column.Column(inputs=inputs, layers=tuple(made))
