"""Which parameters learn: a tree of arrays is split in two by a predicate on the path of each array.

Whether an array is frozen depends on the argument that holds it. `split` makes (trainable, frozen). Only `trainable` is
differentiated and given to the optimiser, and `merge` joins both inside the loss. Each half keeps the structure of the
whole tree, with None where the other half has an array. None is not a leaf, so it has no gradients, no optimiser state
and no updates.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Path = tuple[str | int, ...]  # For example (1, "fc", "kernel") or (1, "fc", "laterals", "column_0", "conv2", "U").
Tree = Any
IsTrainable = Callable[[Path], bool]


def split(params: Tree, is_trainable: IsTrainable) -> tuple[Tree, Tree]:
  """Splits `params` into (trainable, frozen) by `is_trainable(path)` of each array."""

  def half(trainable: bool) -> Tree:
    is_in = lambda path: bool(is_trainable(_path(path))) == trainable  # noqa: E731
    return jax.tree_util.tree_map_with_path(lambda path, x: x if is_in(path) else None, params)

  return half(True), half(False)


def merge(trainable: Tree, frozen: Tree) -> Tree:
  """Joins the two halves that `split` made."""
  return jax.tree.map(lambda t, f: f if t is None else t, trainable, frozen, is_leaf=lambda x: x is None)


def paths(tree: Tree) -> tuple[Path, ...]:
  """The path of every array."""
  return tuple(_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree))


def count(params: Tree, *, include_alpha: bool = False) -> int:
  """Number of parameters.

  Adapters' scales (alpha) learn too but, as in the published counts, are left out unless `include_alpha`.
  """
  arrays = {_path(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)}
  is_scale = lambda path: path[-1] == "alpha" and "laterals" in path  # noqa: E731
  return sum(int(np.prod(x.shape)) for path, x in arrays.items() if include_alpha or not is_scale(path))


def content_hash(tree: Tree) -> str:
  """SHA-256, in hexadecimal, of the path, dtype, shape and bytes of every array; equal only if all of these are."""
  digest = hashlib.sha256()
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(x)
    digest.update(repr((_path(path), str(array.dtype), array.shape)).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _path(path: tuple[Any, ...]) -> Path:
  """JAX's path entries as plain strings and integers."""
  names = ("key", "idx", "name")
  return tuple(next(getattr(entry, name) for name in names if hasattr(entry, name)) for entry in path)
