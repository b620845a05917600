"""Checkpoints for an exact resume: every array of the training state in one file, written whole or not at all.

A checkpoint is a file named by its step. It appears under that name only when it is complete, and is read back before
an older one is deleted. It carries a hash of its content, so a damaged checkpoint is noticed, reported and passed over
for the one before. PRNG keys are saved as their data.
"""

import os
import pathlib
import sys
from typing import Any, TypeVar

import jax
import numpy as np

from agents import auxiliary
from experiments.store import arrays_file, network_file, run_directory
from progressive import network, partition

State = TypeVar("State")
Arrays = dict[str, np.ndarray]


def flatten(state: Any) -> Arrays:
  """Every leaf of a pytree as a numpy array, named by its path; PRNG keys as their data."""
  leaves = jax.tree_util.tree_leaves_with_path(state)
  data = jax.device_get([jax.random.key_data(leaf) if is_key(leaf) else leaf for _, leaf in leaves])
  names = [name_of(path) for path, _ in leaves]
  return {name: np.asarray(value) for name, value in zip(names, data, strict=True)}


def unflatten(arrays: Arrays, like: State, *, source: str) -> State:
  """The inverse of `flatten`, in the form of `like` (arrays or shapes).

  Raises:
    ValueError: if names, shapes or dtypes differ from those of `like`.
  """
  leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
  names = [name_of(path) for path, _ in leaves]
  extra = sorted(set(arrays) - set(names))
  if extra:
    raise ValueError(f"{source} holds {extra[0]}, which this config's network has not; use the config it was made with")
  values = []
  for name, (_, leaf) in zip(names, leaves, strict=True):
    if name not in arrays:
      raise ValueError(f"{source} lacks {name}, which this config's network has; use the config it was made with")
    wanted = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    array = arrays[name]
    if array.shape != wanted.shape or array.dtype != wanted.dtype:
      raise ValueError(
        f"{source} holds {name} as {array.dtype}{list(array.shape)}, this config's network needs "
        f"{wanted.dtype}{list(wanted.shape)}; use the config it was made with"
      )
    value = jax.numpy.asarray(array)
    values.append(jax.random.wrap_key_data(value) if is_key(leaf) else value)
  return jax.tree.unflatten(treedef, values)


def save(folder: pathlib.Path, step: int, state: Any, *, keep: int = 3) -> None:
  """Writes the checkpoint of `step` to `folder`, then deletes those older than the newest `keep`.

  Raises:
    OSError: if it cannot be written, or reads back differently; the older checkpoints stay.
  """
  assert keep >= 1, keep
  arrays = flatten(state)
  before = [one for one in steps(folder) if one < step]
  try:
    folder.mkdir(exist_ok=True)  # Not its parents: a run directory that is gone is not made again.
    arrays_file.write(file_of(folder, step), arrays, partition.content_hash(arrays))
  except OSError as error:
    kept, where = "no checkpoint was saved before", "in another --workdir"
    if before:
      kept, where = f"the checkpoint of step {before[-1]} is whole", "with the same command"
    raise OSError(
      f"cannot save step {step} in {folder} ({error.strerror or error}); {kept}: mend that, then start again {where}"
    ) from error
  for old in before[: 1 - keep or None]:
    file_of(folder, old).unlink()


def steps(folder: pathlib.Path) -> list[int]:
  """Steps of the checkpoints in `folder`, oldest first.

  Raises:
    ValueError: if they were saved by a version that wrote another format.
  """
  return run_directory.saved_steps(folder)


def file_of(folder: pathlib.Path, step: int) -> pathlib.Path:
  """The file of a checkpoint."""
  return folder / f"{step}{run_directory.CHECKPOINT}"


def load(folder: pathlib.Path, step: int) -> Arrays:
  """All arrays of one checkpoint.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is damaged.
  """
  file = file_of(folder, step)
  arrays, content_sha256 = arrays_file.read(file)
  if partition.content_hash(arrays) != content_sha256:
    raise ValueError(f"{file} is damaged (its content does not match its hash)")
  return arrays


def load_newest(folder: pathlib.Path) -> tuple[int, Arrays] | None:
  """The newest undamaged checkpoint and its step; damaged ones are reported on stderr. None if there never was one.

  Raises:
    OSError: if the newest cannot be read: it may well be whole, so the run must not go back to an older one.
    ValueError: if there are checkpoints and all of them are damaged.
  """
  saved = steps(folder)
  for step in reversed(saved):
    try:
      return step, load(folder, step)
    except ValueError as error:
      print(f"warning: {error}; trying the one before", file=sys.stderr)
    except OSError as error:
      raise OSError(f"cannot read {file_of(folder, step)} ({error.strerror or error}); mend that first") from error
  if saved:
    raise ValueError(f"every checkpoint in {folder} is damaged; start again in another --workdir, or bring back a copy")
  return None


def load_run(path: str | os.PathLike) -> tuple[network.Network, Any, int, dict[str, Any]]:
  """The network of a run directory at its newest checkpoint: spec, params, step, and its auxiliary heads.

  Raises:
    ValueError: if there is none, or it is a sweep.
  """
  path = run_directory.local(path)
  spec = network_file.read_spec(path)
  if "sweep" in run_directory.read_config(path):
    best = path / "best"
    of_best = f"the network of its best, {best}" if best.is_dir() else "wait for its end, which writes that of its best"
    raise ValueError(f"{path} is a sweep; give one of its runs, as {path / 'runs/00'}, or {of_best}")
  step, arrays, file = load_own(path)
  return spec, network_params(arrays, spec, source=str(file)), step, auxiliary_heads(arrays)


def load_own(path: pathlib.Path) -> tuple[int, Arrays, pathlib.Path]:
  """Step, arrays and file of a run's newest checkpoint: its own, or its part of the checkpoint of its sweep.

  Raises:
    OSError, ValueError: as `load_newest`, and if there is none.
  """
  own, above = path / "checkpoints", path.absolute().parent
  if newest := load_newest(own):
    return *newest, file_of(own, newest[0])
  of_all = above.parent / "checkpoints"
  is_member = above.name == "runs" and path.name.isdigit() and "sweep" in run_directory.read_config(above.parent)
  if is_member and (newest := load_newest(of_all)):
    step, arrays = newest
    if int(path.name) >= (num_runs := min(map(len, arrays.values()))):
      raise ValueError(f"{path} is no run of its sweep, which has {num_runs}: those are 00 to {num_runs - 1:02}")
    return step, {name: array[int(path.name)] for name, array in arrays.items()}, file_of(of_all, step)
  raise ValueError(f"{path} has no checkpoint; give a run directory that has saved one, or a released column")


def network_params(arrays: Arrays, spec: network.Network, *, source: str) -> Any:
  """The network's parameters among a training state's arrays, without auxiliary heads.

  Raises:
    ValueError: if they are not those of `spec`.
  """
  newest = str(len(spec.columns) - 1)
  without_heads = {
    name: array for name, array in arrays.items() if name.split("/")[1:3] != [newest, auxiliary.NAME]
  }  # A frozen column may have a layer of that name.
  return all_params(without_heads, network.params_like(spec), source=source)


def all_params(arrays: Arrays, like: Any, *, source: str) -> Any:
  """Every parameter among a training state's arrays, auxiliary heads included, in the form of `like`.

  Raises:
    ValueError: if they are not of that form.
  """
  params = {
    name.partition("/")[2]: array for name, array in arrays.items() if name.split("/")[0] in ("trainable", "frozen")
  }
  return unflatten(params, like, source=source)


def auxiliary_heads(arrays: Arrays) -> dict[str, list[dict[str, jax.Array]]]:
  """The parameters of the auxiliary heads among a training state's arrays: head -> layers, as in `auxiliary.init`."""
  found: dict[str, dict[int, dict[str, jax.Array]]] = {}
  params = {
    tuple(name.split("/")): array for name, array in arrays.items() if name.startswith(("trainable/", "frozen/"))
  }
  newest = max((path[1] for path in params), key=int, default="")
  for path, array in params.items():
    if path[1:3] == (newest, auxiliary.NAME):
      *head, index, field = path[3:]
      found.setdefault("/".join(head), {}).setdefault(int(index), {})[field] = jax.numpy.asarray(array)
  return {head: [layers[index] for index in sorted(layers)] for head, layers in found.items()}


def name_of(path: tuple[Any, ...]) -> str:
  """A pytree path as `trainable/0/conv1/w`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def is_key(leaf: Any) -> bool:
  """Whether a leaf is a PRNG key, which is saved and sent as its data."""
  return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
