"""A run directory: what was run (config.json), from what (provenance.json, network.json), and what came of it.

    config.json  provenance.json  network.json  metrics.jsonl  checkpoints/  videos/  tensorboard/

A directory belongs to one config: a second start with the same config continues it, one with another config is
refused with the difference printed.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import jax
from ml_collections import config_dict

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "mujoco", "mujoco-mjx", "dm_control", "dm-env-rpc")


@contextlib.contextmanager
def alone(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps other processes out of the directory; the lock goes with the process, however it ends.

  Raises:
    ValueError: if another process is at work there.
  """
  path = pathlib.Path(workdir)
  path.mkdir(parents=True, exist_ok=True)
  with open(path / "lock", "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(f"another process is at work in {path}; wait for it, or use another --workdir") from None
    yield


def claim(workdir: str | os.PathLike, config: config_dict.ConfigDict, phase: str) -> pathlib.Path:
  """Makes the directory or finds it made with an equal config; writes config and provenance.

  Raises:
    ValueError: if the directory was made with another config.
  """
  path = pathlib.Path(workdir)
  path.mkdir(parents=True, exist_ok=True)
  ours = json.loads(config.to_json())
  config_file = path / "config.json"
  if config_file.exists():
    theirs = json.loads(config_file.read_text())
    changes = difference(theirs, ours)
    if changes:
      raise ValueError(f"{path} was made with another config ({'; '.join(changes)}); use another --workdir")
  else:
    write_json(config_file, ours)
  record_start(path, seed=ours.get("seed"), phase=phase)
  return path


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
  """Every field in which two configs differ, as `name: old -> new`."""
  found = []
  for key in sorted(set(old) | set(new)):
    a, b = old.get(key), new.get(key)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      found += difference(a, b, f"{prefix}{key}.")
    elif a != b or (key in old) != (key in new):
      found.append(f"{prefix}{key}: {a!r} there, {b!r} here")
  return found


def provenance(seed: int | None = None) -> dict[str, Any]:
  """Command, commit, versions, device and seed: what it takes to repeat a result."""
  device = jax.devices()[0]
  return {
    "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
    "commit": commit(),
    "packages": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
    "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    "cpu_cores": os.cpu_count(),
    "seed": seed,
    "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
  }


def record_start(path: pathlib.Path, *, seed: int | None, phase: str) -> None:
  """Writes provenance.json; a later start of the same run is added under `resumed`."""
  file = path / "provenance.json"
  now = {"phase": phase, **provenance(seed)}
  if file.exists():
    first = json.loads(file.read_text())
    first.setdefault("resumed", []).append({key: now[key] for key in ("command", "commit", "device", "started")})
    now = first
  write_json(file, now)


def read_provenance(folder: pathlib.Path) -> dict[str, Any]:
  """What `folder/provenance.json` says, of a run or a released network; nothing where there is none."""
  file = folder / "provenance.json"
  return json.loads(file.read_text()) if file.exists() else {}


def commit() -> str:
  """The commit this code is at, with `+changes` when the working tree differs; `unknown` outside a checkout."""
  try:
    git = ["git", "-C", str(pathlib.Path(__file__).resolve().parent)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    status = [*git, "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
  return head + ("+changes" if changed else "")


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all."""
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  temporary.write_text(json.dumps(value, indent=2) + "\n")
  os.replace(temporary, path)


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def _module() -> str:
  """The module this program was started as, e.g. `experiments.train`."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  return spec.name if spec else pathlib.Path(sys.argv[0]).stem
