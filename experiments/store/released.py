"""A released network: a folder of a few MB that anyone can start a transfer from.

    params.npz         every parameter by its path        network.json     the network's shape
    evaluation.json    mean return, interval, episodes    provenance.json  command, commit, versions, device, seed

`load_source` reads such a folder and a run directory alike.
"""

import json
import os
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np

from experiments.store import checkpoint, network_file, run_directory
from progressive import network

_PARAMS = "params.npz"


class Source(NamedTuple):
  """A trained network and the step it was trained to (None if not recorded)."""

  spec: network.Network
  params: Any
  step: int | None


def save(
  folder: str | os.PathLike,
  spec: network.Network,
  params: Any,
  *,
  evaluation: dict[str, Any],
  provenance: dict[str, Any],
) -> None:
  """Writes a released folder; one that is there is overwritten file by file, each of them whole."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  temporary = folder / f"unfinished_{_PARAMS}"
  arrays: dict[str, Any] = checkpoint.flatten(params)
  np.savez(temporary, **arrays)
  os.replace(temporary, folder / _PARAMS)
  network_file.write_spec(folder, spec)
  run_directory.write_json(folder / "evaluation.json", evaluation)
  run_directory.write_json(folder / "provenance.json", provenance)


def load(folder: str | os.PathLike) -> Source:
  """Reads a released folder.

  Raises:
    ValueError: if a file is missing or damaged, or the parameters do not fit the network.
  """
  file = pathlib.Path(folder) / _PARAMS
  spec = network_file.read_spec(folder)
  if not file.exists():
    raise ValueError(f"{file} does not exist; {folder} is not a released network")
  try:
    with np.load(file) as saved:
      arrays = dict(saved)
  except (zipfile.BadZipFile, EOFError, ValueError) as error:
    raise ValueError(f"{file} is damaged ({error}); copy it again, or release the network again") from error
  return Source(spec, checkpoint.unflatten(arrays, network_file.params_like(spec), source=str(file)), None)


def lineage(folder: pathlib.Path, *, steps: int | None = None) -> list[dict[str, Any]]:
  """Provenance and steps of every run that made the network in `folder`, the oldest first.

  Args:
    folder: a released network, or a run directory, whose run may have started from another's network.
    steps: how far the run in `folder` has learned, where it has no checkpoints of its own: a member of a sweep.
  """
  provenance = run_directory.read_provenance(folder)
  if "training" in provenance:  # A released network.
    return provenance["training"]
  config = json.loads((folder / "config.json").read_text())
  if provenance.get("phase") == "transfer":
    before = "" if config["method"] in ("scratch", "random_column") else config["source"]
  else:
    before = config.get("train", {}).get("start_from", "")
  steps = checkpoint.load_run(folder)[2] if steps is None else steps
  return [*(lineage(pathlib.Path(before)) if before else []), {"steps": steps, **provenance}]


def load_source(path: str | os.PathLike) -> Source:
  """A trained network from a released folder or from a run directory's newest checkpoint.

  Raises:
    ValueError: if there is nothing to read there.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise ValueError(f"{path} does not exist; train a column (python -m experiments.train) or name a released one")
  if (path / _PARAMS).exists():
    return load(path)
  return Source(*checkpoint.load_run(path))
