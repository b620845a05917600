"""A network's shape as a file: network.json beside the parameters, so that they can be read without their config.

Columns and layers are frozen dataclasses; the file holds their fields, and the class of each layer under `type`.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax

from experiments.store import run_directory
from progressive import column, network

_LAYERS = {cls.__name__: cls for cls in (column.Dense, column.Conv, column.LSTM)}
NAME = "network.json"


def write_spec(folder: pathlib.Path, spec: network.NetworkSpec) -> None:
  """Writes `folder/network.json`."""
  run_directory.write_json(folder / NAME, to_json(spec))


def read_spec(folder: str | os.PathLike) -> network.NetworkSpec:
  """Reads `folder/network.json`.

  Raises:
    ValueError: if there is no such file, or it is damaged.
  """
  file = run_directory.local(folder) / NAME
  if not file.exists():
    raise ValueError(f"{folder} holds no network ({NAME} is missing); give a run directory or a released column")
  try:
    return from_json(json.loads(file.read_text()))
  except (ValueError, KeyError, TypeError) as error:
    what = f"{type(error).__name__}: {error}"
    raise ValueError(f"{file} is damaged ({what}); copy it again, or continue its run, which writes it anew") from error


def to_json(spec: network.NetworkSpec) -> dict[str, Any]:
  """The specification as plain JSON values."""
  columns = []
  for one in spec.columns:
    layers = [{"type": type(layer).__name__, **dataclasses.asdict(layer)} for layer in one.layers]
    columns.append({"inputs": {name: list(shape) for name, shape in one.inputs}, "layers": layers})
  return {"columns": columns}


def from_json(value: dict[str, Any]) -> network.NetworkSpec:
  """The inverse of `to_json`."""
  columns = []
  for one in value["columns"]:
    layers = []
    for fields in one["layers"]:
      fields = {name: _as_tuple(field) for name, field in fields.items()}
      layers.append(_LAYERS[fields.pop("type")](**fields))
    inputs = tuple((name, tuple(shape)) for name, shape in one["inputs"].items())
    columns.append(column.ColumnSpec(inputs=inputs, layers=tuple(layers)))
  return network.NetworkSpec(tuple(columns))


def params_like(spec: network.NetworkSpec) -> Any:
  """Shapes and dtypes of the network's parameters, without making any."""
  return jax.eval_shape(lambda: network.init(jax.random.key(0), spec))


def _as_tuple(value: Any) -> Any:
  return tuple(_as_tuple(v) for v in value) if isinstance(value, list) else value
