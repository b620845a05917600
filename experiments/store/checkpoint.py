"""Saving is exact resume: every array of the training state, written by Orbax whole or not at all.

A checkpoint is a folder named by its step. It appears under that name only when complete (Orbax writes beside it and
renames), and carries a hash of its content, so that a damaged one is noticed, reported and passed over for the one
before. PRNG keys are saved as their data. Nothing old is deleted before the new one is whole.
"""

import errno
import hashlib
import os
import pathlib
import shutil
import sys
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from agents import auxiliary
from experiments.store import network_file
from progressive import network

State = TypeVar("State")
Arrays = dict[str, np.ndarray]

_HASH = "content_sha256"


def flatten(state: Any) -> Arrays:
  """Every leaf of a pytree as numpy, named by its path; PRNG keys as their data."""
  leaves = jax.tree_util.tree_leaves_with_path(state)
  data = jax.device_get([jax.random.key_data(leaf) if _is_key(leaf) else leaf for _, leaf in leaves])
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
    wanted = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    array = arrays[name]
    if array.shape != wanted.shape or array.dtype != wanted.dtype:
      raise ValueError(
        f"{source} holds {name} as {array.dtype}{list(array.shape)}, this config's network needs "
        f"{wanted.dtype}{list(wanted.shape)}; use the config it was made with"
      )
    value = jax.numpy.asarray(array)
    values.append(jax.random.wrap_key_data(value) if _is_key(leaf) else value)
  return jax.tree.unflatten(treedef, values)


def content_hash(arrays: Arrays) -> str:
  """SHA-256 over names, dtypes, shapes and bytes."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name])
    digest.update(f"{name} {array.dtype} {array.shape} ".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def save(folder: pathlib.Path, step: int, state: Any, *, keep: int = 3) -> None:
  """Writes `folder/<step>` atomically and then deletes all but the newest `keep`.

  Raises:
    OSError: if it cannot be written; what was there before stays.
  """
  arrays = flatten(state)
  folder.mkdir(parents=True, exist_ok=True)
  _remove_unfinished(folder)
  target = folder.resolve() / str(step)
  if target.exists():  # A damaged one that a resumed run has come back to.
    shutil.rmtree(target)
  try:
    with ocp.PyTreeCheckpointer() as checkpointer:
      checkpointer.save(target, {"arrays": arrays, _HASH: np.frombuffer(bytes.fromhex(content_hash(arrays)), np.uint8)})
  except Exception as error:  # Orbax passes on whatever its storage raised.
    _remove_unfinished(folder)
    if _is_disk_full(error):
      newest = steps(folder)[-1:]
      kept = f"the checkpoint of step {newest[0]} is whole" if newest else "no checkpoint was saved before"
      raise OSError(
        errno.ENOSPC, f"disk full while saving step {step} under {folder}; {kept}: free some space, then start again"
      ) from error
    raise
  for old in steps(folder)[:-keep]:
    shutil.rmtree(folder / str(old))


def steps(folder: pathlib.Path) -> list[int]:
  """Steps of the checkpoints in `folder`, oldest first."""
  return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def load(path: pathlib.Path) -> Arrays:
  """All arrays of one checkpoint.

  Raises:
    ValueError: if it is damaged.
  """
  try:
    with ocp.PyTreeCheckpointer() as checkpointer:
      saved = checkpointer.restore(path.resolve())
    arrays = {name: np.asarray(value) for name, value in saved["arrays"].items()}
    is_whole = bytes(np.asarray(saved[_HASH])).hex() == content_hash(arrays)
  except Exception as error:  # A damaged file surfaces as almost anything.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    raise ValueError(f"checkpoint {path} is damaged ({reason})") from error
  if not is_whole:
    raise ValueError(f"checkpoint {path} is damaged (its content does not match its hash)")
  return arrays


def load_newest(folder: pathlib.Path) -> tuple[int, Arrays] | None:
  """The newest undamaged checkpoint and its step; damaged ones are reported on stderr. None if there never was one.

  Raises:
    ValueError: if there are checkpoints and all of them are damaged.
  """
  found = steps(folder)
  for step in reversed(found):
    try:
      return step, load(folder / str(step))
    except ValueError as error:
      print(f"warning: {error}; trying the one before", file=sys.stderr)
  if found:
    raise ValueError(f"every checkpoint in {folder} is damaged; delete the folder to start again")
  return None


def load_run(path: str | os.PathLike) -> tuple[network.Network, Any, int]:
  """The network of a run directory at its newest checkpoint: spec, params, step.

  Raises:
    ValueError: if there is none, or it is a sweep.
  """
  path = pathlib.Path(path)
  spec = network_file.read_spec(path)
  if (path / "runs").is_dir():
    raise ValueError(f"{path} is a sweep of several runs; give the network of its best, {path / 'best'}")
  newest = load_newest(path / "checkpoints")
  if newest is None:
    raise ValueError(f"{path} has no checkpoint; give a run directory that has saved one, or a released column")
  step, arrays = newest
  return spec, network_params(arrays, spec, source=str(path / "checkpoints" / str(step))), step


def network_params(arrays: Arrays, spec: network.Network, *, source: str) -> Any:
  """The network's parameters among a training state's arrays, auxiliary heads left out.

  Raises:
    ValueError: if they are not those of `spec`.
  """
  without_heads = {name: array for name, array in arrays.items() if auxiliary.NAME not in name.split("/")}
  return all_params(without_heads, network_file.params_like(spec), source=source)


def all_params(arrays: Arrays, like: Any, *, source: str) -> Any:
  """Every parameter among a training state's arrays, auxiliary heads included, in the form of `like`.

  Raises:
    ValueError: if they are not of that form.
  """
  params = {
    name.partition("/")[2]: array for name, array in arrays.items() if name.split("/")[0] in ("trainable", "frozen")
  }
  return unflatten(params, like, source=source)


def name_of(path: tuple[Any, ...]) -> str:
  """A pytree path as `trainable/0/conv1/w`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(leaf: Any) -> bool:
  return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_disk_full(error: BaseException | None) -> bool:
  """Whether `error`, or what caused it, says that no space is left."""
  while error is not None:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
      return True
    error = error.__cause__ or error.__context__
  return False


def _remove_unfinished(folder: pathlib.Path) -> None:
  """Deletes what a killed or failed save has left: Orbax marks its name. Whatever else lies there is not ours."""
  for path in folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
    shutil.rmtree(path, ignore_errors=True)
