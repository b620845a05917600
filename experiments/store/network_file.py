"""A network's shape as a file: network.json beside the parameters, so that they can be read without their config.

The file holds the fields of columns and layers, and the class of each layer under `type` (`progressive.layers.naming`).
"""

import os
import pathlib
from typing import Any

from experiments.store import run_directory
from progressive import column, layers, network
from progressive.layers import naming

NAME = "network.json"


def write_spec(folder: pathlib.Path, spec: network.Network) -> None:
  """Writes `folder/network.json`."""
  run_directory.write_json(folder / NAME, to_json(spec))


def read_spec(folder: str | os.PathLike) -> network.Network:
  """Reads `folder/network.json`.

  Raises:
    ValueError: if there is no such file, or it is damaged.
  """
  file = run_directory.local(folder) / NAME
  if not file.exists():
    raise ValueError(f"{folder} holds no network ({NAME} is missing); give a run directory or a released column")
  value = run_directory.read_json(file)
  try:
    return from_json(value)
  except naming.UnknownName as error:
    raise ValueError(f"{file} names a layer of another package: {error}") from error
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    what = f"{type(error).__name__}: {error}"
    raise ValueError(f"{file} is damaged ({what}); copy it again") from error


def to_json(spec: network.Network) -> dict[str, Any]:
  """The specification as plain JSON values."""
  columns = []
  for one in spec.columns:
    inputs = {name: list(shape) for name, shape in one.inputs}
    columns.append({"inputs": inputs, "layers": [layers.to_json(layer) for layer in one.layers]})
  return {"columns": columns}


def from_json(value: dict[str, Any]) -> network.Network:
  """The inverse of `to_json`."""
  columns = []
  for one in value["columns"]:
    inputs = tuple((name, tuple(shape)) for name, shape in one["inputs"].items())
    columns.append(column.Column(inputs=inputs, layers=layers.from_json(one["layers"])))
  return network.Network(tuple(columns))
