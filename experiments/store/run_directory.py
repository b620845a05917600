"""A run directory: what was run (config.json), from what (provenance.json, network.json), and the results.

    config.json  provenance.json  network.json  metrics.jsonl  checkpoints/  videos/  tensorboard/  failure.json

From its first checkpoint on, a directory belongs to one config. A second start with the same config continues it, and
so does one with more steps. A start with another config is refused, and the difference is printed. The directory may be
moved.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import platform
import re
import secrets
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
from ml_collections import config_dict

from analysis import records

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "mujoco", "mujoco-mjx", "dm_control", "dm-env-rpc")
FAILURE = "failure.json"  # Why a run or a matrix cell failed.
CHECKPOINT = ".safetensors"  # A checkpoint is named by its step and this suffix.
_ROOT = pathlib.Path(__file__).resolve().parents[2]  # The folder that holds our packages.
_OURS = ("progressive", "agents", "environments", "experiments", "analysis")
# Fields that configs of earlier versions lack, and the values for what was done without them.
_ADDED = {
  "train.column.embed": [],
  "train.column.laterals": "adapter",
  "train.column.memory": "lstm",
  "train.column.norm": "none",
  "train.column.output_laterals": "linear",
  "train.column.start": "random",
  "train.hyper.clip_ratio": 0.2,
  "train.hyper.correction": "none",
  "train.hyper.epochs": 1,
  "train.hyper.fan_in": math.inf,
  "train.hyper.has_unit_advantages": False,
  "train.hyper.minibatches": 1,
  "train.hyper.reduction": "mean",
  "train.recording": "",
  "train.recording_updates": 1000,
  "train.replay_size": 200,
  "train.lag": 0,
  "train.free_running": False,
  "train.replay_updates": 0,
  "train.teacher": "",
  "train.hyper.teacher_cost": 10.0,
  "world_options.randomization.shadow": 0.0,
}
_NOT_THERE = object()  # No field has this value.
_MAY_MOVE = ("teacher", "recording")  # Of `train`: what a run reads but does not contain.
_FREE = {"wandb"}  # Where records go; learning does not depend on it.


def local(path: str | os.PathLike) -> pathlib.Path:
  """`path` with `~` expanded.

  Raises:
    ValueError: for a place that is no folder of this machine, such as gs://bucket/run.
  """
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
    raise ValueError(f"{os.fspath(path)} is no path of this machine; name a folder that is mounted here")
  return pathlib.Path(path).expanduser()


def present(path: str | os.PathLike) -> pathlib.Path:
  """`local` for reading: a path that does not exist and begins with `experiments/` is taken from the package.

  Configs and released networks thus have the same names in a clone and where the package is installed.
  """
  here = local(path)
  own = _ROOT / here
  return own if not here.exists() and here.parts[:1] == ("experiments",) and own.exists() else here


def claim(
  workdir: str | os.PathLike,
  config: config_dict.ConfigDict,
  *,
  sweep: pathlib.Path | None = None,
  about: Mapping[str, Any] | None = None,
  step: int | None = None,
) -> pathlib.Path:
  """Makes the directory for a config, or checks that it is this config's; writes config and provenance.

  A start that has nothing left to learn is not added to the provenance.

  Until there is a checkpoint nothing depends on the config, and another config may take its place. `train.steps` may
  change, as long as no more steps than that have been learned. Source, teacher and recording may be given by another
  path to the same place. If a teacher or a recording is no longer at its old path, it is assumed to have moved.

  Args:
    workdir, config: of a run or of a sweep.
    sweep: the directory of the sweep that the run is a member of; the checkpoints are there.
    about: this start's `provenance`, from callers that claim many directories at once: it asks git and reads all code.
    step: the step that a run continues from; None: that of the newest checkpoint, which may be damaged.

  Raises:
    ValueError: if the directory has learned with another config, or holds what no checkpoint of its own can bring back.
  """
  path = local(workdir)
  path.mkdir(parents=True, exist_ok=True)
  ours = json.loads(config.to_json())
  learned = saved_steps((sweep or path) / "checkpoints")
  if not learned:
    _refuse_what_would_be_lost(path)
    (path / FAILURE).unlink(missing_ok=True)
  refuse_another(path, config, sweep=sweep)
  source = present(ours["source"]).resolve() if ours.get("source") else None
  # The path as seen from here: both may be moved together.
  where = {"source": os.path.relpath(source, path.resolve())} if source else {}
  now = {**(about or provenance()), "seed": ours.get("seed")}
  first, before = (read_provenance(path), read_config(path)) if learned else ({}, {})
  for name in _MAY_MOVE:
    called, now_called = (one.get("train", {}).get(name) for one in (before, ours))
    if called and now_called and not _is_same(called, now_called):
      print(f"warning: {path} goes on with the {name} {now_called}, {called} before", file=sys.stderr)
  write_json(path / "config.json", ours)
  begins = step if step is not None else max(learned, default=0)
  if first and begins < ours.get("train", {}).get("steps", math.inf):  # Else nothing is left to learn.
    first = _resumed(first, now | {"step": begins}, path)
  write_json(path / "provenance.json", (first or now) | where)
  return path


def refuse_another(path: pathlib.Path, config: config_dict.ConfigDict, *, sweep: pathlib.Path | None = None) -> None:
  """Refuses a directory that has learned with another config, except for the changes that `claim` accepts.

  Args: as for `claim`.

  Raises:
    ValueError: naming every field that differs.
  """
  learned = saved_steps((sweep or path) / "checkpoints")
  if learned and (changes := _changes(path, config, learned[-1])):
    raise ValueError(f"{path} was made with another config ({'; '.join(changes)}); use another --workdir")


def _changes(path: pathlib.Path, config: config_dict.ConfigDict, step: int) -> list[str]:
  """What differs in a directory's config, except for the changes that `claim` accepts after `step` steps."""
  theirs = read_config(path)
  if not theirs:
    return []
  ours, first = json.loads(config.to_json()), read_provenance(path)
  if (
    "source" in first and ours.get("source") and present(ours["source"]).resolve() == (path / first["source"]).resolve()
  ):
    theirs["source"] = ours["source"]
  before, phase = theirs.get("train", {}), ours.get("train", {})
  for name in _MAY_MOVE:
    called, now_called = before.get(name), phase.get(name)
    if called and now_called and (_is_same(called, now_called) or not present(called).exists()):
      before[name] = now_called
  if "steps" in before and phase.get("steps", 0) >= min(step, before["steps"]):  # The last update overshoots.
    before["steps"] = phase["steps"]
  return difference(theirs, ours)


def _is_same(one: str, other: str) -> bool:
  """Whether two paths name the same place."""
  return present(one).resolve() == present(other).resolve()


def _refuse_what_would_be_lost(path: pathlib.Path) -> None:
  """Refuses a directory without checkpoints that holds somebody else's work."""
  held = {
    "a released network": ("params.safetensors",),
    "what a run has learned, without its checkpoints": ("best",),
    "a sweep whose runs have checkpoints of their own": (f"runs/*/checkpoints/*{CHECKPOINT}",),
  }
  for what, patterns in held.items():
    if any(any(path.glob(pattern)) for pattern in patterns):
      raise ValueError(f"{path} holds {what}; use another --workdir")
  if _has_saved_once(path):
    raise ValueError(f"{path} holds the records of a run, without its checkpoints; use another --workdir")


def _has_saved_once(path: pathlib.Path) -> bool:
  """Whether the records in `path` go further than a run gets before its first checkpoint."""
  phase, metrics = read_config(path).get("train", {}), path / "metrics.jsonl"
  record = math.prod(phase.get(name, 0) for name in ("updates_per_record", "num_worlds", "num_steps"))
  last = max(records.last_step(metrics, kind=kind) for kind in ("train", "episode"))
  steps, save_every = phase.get("steps", 0), phase.get("save_every", 0)
  return last >= max(1, steps) or 0 < save_every < last - 2 * record  # A run always saves at its end.


def read_config(path: pathlib.Path) -> dict[str, Any]:
  """The config with which a run directory was last started; {} if there is none."""
  file = path / "config.json"
  return read_json(file) if file.exists() else {}


def failure(path: pathlib.Path, config: config_dict.ConfigDict | None = None) -> str:
  """Why the run or the matrix cell in `path` failed; '' if it did not.

  Args:
    config: the one that is to learn there. If another config failed and saved nothing, that failure does not count.
  """
  file = path / FAILURE
  if not file.exists():
    return ""
  if config is not None and not saved_steps(path / "checkpoints") and _changes(path, config, 0):
    return ""
  return str(read_json(file)["reason"])


def write_failure(path: pathlib.Path, error: Exception) -> None:
  """Writes why `path` failed. It is tried again once the file is removed."""
  write_json(path / FAILURE, {"reason": str(error)})


def saved_steps(checkpoints: pathlib.Path) -> list[int]:
  """Steps of the checkpoints in a folder of them, oldest first.

  Raises:
    ValueError: if they were saved by a version that wrote another format.
  """
  paths = list(checkpoints.iterdir()) if checkpoints.is_dir() else []
  if older := [path for path in paths if path.name.isdigit()]:
    raise ValueError(
      f"{older[0]} was saved by an older version of this project; continue with the commit that provenance.json names, "
      f"or use another --workdir"
    )
  return sorted(int(path.stem) for path in paths if path.suffix == CHECKPOINT and path.stem.isdigit())


def is_evaluated(path: pathlib.Path, step: int) -> bool:
  """Whether the run in `path` was evaluated at `step` or later."""
  return records.last_step(path / "metrics.jsonl", kind="eval") >= step


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
  """Every field in which two configs differ, as `name: OLD there, NEW here`, except where records go.

  A field that one of them lacks, being of an earlier version, has the value of what was done without it.
  """
  changes = []
  for key in sorted({*old, *new} - _FREE):
    a, b = (one.get(key, _ADDED.get(prefix + key, _NOT_THERE)) for one in (old, new))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      changes += difference(a, b, f"{prefix}{key}.")
    elif a != b:
      there, here = (textwrap.shorten(repr(None if one is _NOT_THERE else one), 200) for one in (a, b))
      changes.append(f"{prefix}{key}: {there} there, {here} here")
  return changes


def provenance(seed: int | None = None) -> dict[str, Any]:
  """Command, commit, code, versions, device and seed: what it takes to repeat a result."""
  device = jax.devices()[0]
  return {
    "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
    "commit": commit(),
    "code_sha256": code_hash(),
    "packages": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
    "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    "cpu_cores": os.cpu_count(),
    "seed": seed,
    "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
  }


def read_provenance(folder: pathlib.Path) -> dict[str, Any]:
  """What `folder/provenance.json` says of a run or a released network; {} if there is no such file."""
  file = folder / "provenance.json"
  return read_json(file) if file.exists() else {}


def commit() -> str:
  """The commit this code is at, with `+changes` when the working tree differs; `unknown` if git does not track it."""
  try:
    _git("ls-files", "--error-unmatch", __file__)  # Fails in an environment inside another project's checkout.
    head, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    new = _git("ls-files", "--others", "--exclude-standard", "--", *(f":(glob){one}/**/*.py" for one in _OURS))
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
  return head + ("+changes" if changed or new else "")


def code_hash() -> str:
  """SHA-256 over the names and bytes of our Python files and mazes; it sees uncommitted edits."""
  files = [f for name in _OURS for kind in ("*.py", "levels/*") for f in (_ROOT / name).rglob(kind)]
  digest = hashlib.sha256()
  for file in sorted(files):
    digest.update(f"{file.relative_to(_ROOT)} {file.stat().st_size} ".encode() + file.read_bytes())
  return digest.hexdigest()


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all; infinity, which JSON lacks, is written "Infinity" (as in protobuf's JSON).

  Raises:
    OSError: naming the file, if it cannot be written; what was there before stays.
  """
  temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")  # Other hosts have the same numbers.
  try:
    with temporary.open("w") as file:
      file.write(json.dumps(records.as_written(value), indent=2, allow_nan=False) + "\n")
      file.flush()
      os.fsync(file.fileno())  # Otherwise a power cut may leave the name without the content.
    os.replace(temporary, path)
  except OSError as error:  # The system's message for a full disk names no file.
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise OSError(error.errno, f"cannot write {path} ({error.strerror})") from error


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads an object that `write_json` wrote.

  Raises:
    ValueError: naming the file, if it is no JSON object.
  """
  try:
    value = json.loads(path.read_text())
  except ValueError as error:  # Not JSON, or not text.
    raise ValueError(f"{path} is damaged ({error}); copy it again") from error
  if not isinstance(value, dict):
    raise ValueError(f"{path} holds {type(value).__name__}, not an object; copy it again")
  return records.as_read(value)


def finite(x: Any) -> float | None:
  """`x` for a JSON file; None, i.e. null, if it is not finite."""
  return float(x) if math.isfinite(x) else None


def _resumed(first: dict[str, Any], now: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
  """`first` with `now` added as one more start; a change of code or versions is reported on stderr."""
  before = {**first, **[first, *first.get("resumed", [])][-1]}
  changes = []
  if before.get("code_sha256", now["code_sha256"]) != now["code_sha256"]:
    changes.append(f"other code than it has learned with (commit {before['commit']} before, {now['commit']} now)")
  if versions := difference(before.get("packages", now["packages"]), now["packages"]):
    changes.append(f"other versions ({'; '.join(versions)})")
  if (path / "checkpoints").is_dir():  # Once for a sweep.
    for change in changes:
      print(f"warning: {path} goes on with {change}; provenance.json says so", file=sys.stderr)
  keys = ("step", "command", "commit", "code_sha256", "packages", "device", "started")
  return first | {"resumed": [*first.get("resumed", []), {key: now[key] for key in keys}]}


def _git(*arguments: str) -> str:
  done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True)
  return done.stdout.strip()


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def _module() -> str:
  """The module this program was started as, e.g. `experiments.train`."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  return spec.name if spec else pathlib.Path(sys.argv[0]).stem
