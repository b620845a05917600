"""Ways to learn one task after another (Rusu et al. 2016, figure 3): other partitions of the same machinery.

    progressive    source columns are frozen, a new column and its laterals learn
    finetune       the whole source network goes on learning               (their baseline 3)
    finetune_head  the source network; only its `output` learns             (baseline 2)
    scratch        a new column alone                                       (baseline 1)
    random_column  progressive, but the source columns are random           (baseline 4)

`prepare` sets up each of them.
"""

import dataclasses

import jax
import jax.numpy as jnp

from progressive import column, network, partition

METHODS = ("progressive", "finetune", "finetune_head", "scratch", "random_column")
FINETUNING = ("finetune", "finetune_head")  # Methods that keep the source's columns and add none.


def prepare(
  key: jax.Array,
  method: str,
  *,
  column_spec: column.Column,
  source_params: network.Params | None = None,
  source_spec: network.Network | None = None,
  output_init: str = "previous",
  alpha: float = 1.0,
) -> tuple[network.Params, network.Network, partition.IsTrainable]:
  """(parameters, spec, which parameters learn) for learning the target task by `method`.

  `column_spec` is the target's new column. The finetuning methods keep the source's columns instead, and only check
  that the target offers what these columns read and has as many outputs. `output_init` and `alpha` are those of
  `network.grow`. "scratch" needs no source. "random_column" needs no source parameters; without a source spec, its
  random column is like the new one. A column that stands alone has no `sources` to read. The trainable parameters share
  no buffers with `source_params`.
  """
  if method not in METHODS:
    raise ValueError(f"method={method!r} is not one of {METHODS}.")
  if method == "scratch":
    spec = _alone(column_spec)
    return network.init(key, spec), spec, trainable(method, spec)
  if method == "random_column":
    source_spec = source_spec or _alone(column_spec)
  elif source_spec is None or source_params is None:
    raise ValueError(f"method={method!r} needs a source network: its spec and its parameters.")
  if method in FINETUNING:
    _check_finetune(method, source_spec, column_spec)
    assert source_params is not None
    network.check_params(source_params, source_spec)
    return jax.tree.map(jnp.array, source_params), source_spec, trainable(method, source_spec)
  spec = network.Network((*source_spec.columns, column_spec))
  source_key, grow_key = jax.random.split(key)
  if method == "random_column":
    source_params = network.init(source_key, source_spec, alpha=alpha)
  assert source_params is not None
  params = network.grow(grow_key, source_params, spec=spec, output_init=output_init, alpha=alpha)
  return params, spec, trainable(method, spec)


def trainable(method: str, spec: network.Network) -> partition.IsTrainable:
  """Which parameters of `spec` learn by `method`: those of the newest column, those of its output, or all."""
  newest = len(spec.columns) - 1
  if method in ("scratch", "finetune"):
    return lambda path: True
  if method == "finetune_head":
    return lambda path: path[:2] == (newest, column.OUTPUT)
  return lambda path: path[0] == newest


def _alone(column_spec: column.Column) -> network.Network:
  """The network of this column alone; its layers name no layer of an earlier column."""
  layers = tuple(dataclasses.replace(layer, sources=None) for layer in column_spec.layers)
  return network.Network((dataclasses.replace(column_spec, layers=layers),))


def _check_finetune(method: str, source: network.Network, target: column.Column) -> None:
  """The source network must be able to play the target task as it stands."""
  read = {name: shape for column_spec in source.columns for name, shape in column_spec.inputs}
  if not read.items() <= target.input_shapes.items():
    lacking = {name: shape for name, shape in read.items() if target.input_shapes.get(name) != shape}
    other = "" if lacking.keys() & target.input_shapes.keys() else "'progressive', or "
    raise ValueError(
      f"method={method!r} makes no sense here: the source network reads {lacking} and the target's column "
      f"{target.input_shapes}; use {other}a target column with the source's inputs."
    )
  outputs = [column.shapes(s)[column.OUTPUT][0] for s in (source.columns[-1], target)]
  if outputs[0] != outputs[1]:
    raise ValueError(
      f"method={method!r} makes no sense here: the source's 'output' has {outputs[0]} outputs, the target's "
      f"{outputs[1]}; give both tasks the same heads, or use 'progressive' with output_init='random'."
    )
