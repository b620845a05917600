"""Named arrays in one file, written whole or not at all, with the hash of their content in its header (safetensors).

safetensors is the format in which networks are exchanged: names, dtypes, shapes and bytes, nothing that runs. It takes
any path literally. Beside the arrays, the file holds the SHA-256 of their content. It tells a reader that the arrays
are those that were written.
"""

import os
import pathlib
import shutil

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

HASH = "content_sha256"
_UNFINISHED = "unfinished"
# Raised by a file of another format, or by one that is not as it was written.
_DAMAGE = (safetensors.SafetensorError, ValueError, KeyError, TypeError)


def write(file: pathlib.Path, arrays: dict[str, np.ndarray], content_sha256: str) -> None:
  """Writes `file` and reads it back; on return it is on the disk. It uses a folder `unfinished` beside the file.

  Raises:
    OSError: if it cannot be written, or reads back differently; what was there before stays.
  """
  whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
  unfinished = file.parent / _UNFINISHED
  shutil.rmtree(unfinished, ignore_errors=True)  # What a killed process left behind.
  try:
    unfinished.mkdir()
    with (unfinished / file.name).open("wb") as out:
      out.write(safetensors_numpy.save(whole, {HASH: content_sha256}))
      out.flush()
      os.fsync(out.fileno())
    _check(unfinished / file.name, whole)
    os.replace(unfinished / file.name, file)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
  folder = os.open(file.parent, os.O_RDONLY)  # The new name is on the disk once the folder is.
  try:
    os.fsync(folder)
  finally:
    os.close(folder)


def read(file: pathlib.Path) -> tuple[dict[str, np.ndarray], str]:
  """The arrays, and the hash that was written with them, which the caller compares.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is damaged.
  """
  with file.open("rb") as raw:  # If the system cannot read it, that is its own error, and no damage.
    while raw.read(2**24):
      pass
  try:
    with safetensors.safe_open(file, framework="np", backend="pread") as saved:
      return saved.get_tensors(), saved.metadata()[HASH]
  except _DAMAGE as error:
    raise ValueError(f"{file} is damaged ({error})") from error


def _check(file: pathlib.Path, written: dict[str, np.ndarray]) -> None:
  """Raises OSError unless names, dtypes, shapes and bytes read back as they were written."""
  try:
    arrays, _ = read(file)
  except ValueError as error:
    raise OSError(str(error)) from error
  pairs = [(array, written[name]) for name, array in arrays.items() if name in written]
  is_same = [a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs]
  if not all(is_same) or not len(is_same) == len(arrays) == len(written):
    raise OSError(f"{file} reads otherwise than it was written")
