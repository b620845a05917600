"""A released network: a folder of a few MB that anyone can start a transfer from.

    params.safetensors  every parameter by its path        network.json     the network's shape
    evaluation.json     mean return, interval, episodes    provenance.json  command, commit, versions, device, seed

provenance.json also holds `reward_scale`, by which the network's value is multiplied, and `learned_in`, which the
network needs to be used elsewhere (`experiments.setup.place.described`). The hash of the parameters' content is stored
beside them and in provenance.json, and is compared on loading. `load_source` reads such a folder and a run directory
alike.
"""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from analysis import intervals
from experiments.store import arrays_file, checkpoint, network_file, run_directory
from progressive import network, partition

_PARAMS = "params.safetensors"
SOURCE_HASH = f"source_{arrays_file.HASH}"


class Evaluation(NamedTuple):
  """How a released network has played."""

  world: str
  returns: intervals.Interval  # Over episodes.
  episodes: int


class Source(NamedTuple):
  """A trained network, and what is recorded of its training; fields that are not recorded are None."""

  spec: network.Network
  params: Any
  step: int | None  # The step that it was trained to.
  heads: dict[str, Any] | None = None  # Its auxiliary heads by name; a release does not contain them.
  reward_scale: float | None = None  # Scale of the rewards that its value is learned from.
  learned_in: dict[str, Any] | None = None  # `place.described` of the place where its newest column learned.

  def about(self) -> dict[str, Any]:
    """What a release's provenance.json says about it."""
    return {"reward_scale": self.reward_scale, "learned_in": self.learned_in}

  def first(self, num_columns: int) -> "Source":
    """The network without its later columns: a progressive one as it was before they were added.

    Raises:
      ValueError: if it has fewer.
    """
    has = len(self.spec.columns)
    if not 1 <= num_columns <= has:
      raise ValueError(f"columns={num_columns}: the network has {has}; give 1 to {has}")
    if num_columns == has:
      return self
    return Source(network.Network(self.spec.columns[:num_columns]), self.params[:num_columns], None)


def save(
  folder: str | os.PathLike,
  spec: network.Network,
  params: Any,
  *,
  evaluation: dict[str, Any],
  provenance: dict[str, Any],
) -> None:
  """Writes a released folder; an existing one is overwritten file by file, each of them whole.

  Raises:
    ValueError: for the directory of a run, whose own network nobody would read any more; for parameters of another
      network, or of another type than float32, which nobody could read.
  """
  folder = run_directory.local(folder)
  refuse_folder(folder)
  network.check_params(params, spec)
  if others := sorted({str(x.dtype) for x in jax.tree.leaves(params) if x.dtype != np.float32}):
    raise ValueError(f"{folder} would hold {', '.join(others)}, and is read as float32; cast the parameters")
  folder.mkdir(parents=True, exist_ok=True)
  content_sha256 = partition.content_hash(params)
  arrays_file.write(folder / _PARAMS, checkpoint.flatten(params), content_sha256)
  network_file.write_spec(folder, spec)
  run_directory.write_json(folder / "evaluation.json", evaluation)
  run_directory.write_json(folder / "provenance.json", provenance | {arrays_file.HASH: content_sha256})


def refuse_folder(folder: str | os.PathLike) -> None:
  """Refuses to release a network to the directory of a run, or to what is no writable folder; raises as `save`."""
  path = run_directory.local(folder)
  if (path / "config.json").exists():
    raise ValueError(f"{folder} is the directory of a run; release its network to a folder of its own")
  there = next(one for one in (path, *path.absolute().parents) if one.exists())
  if not (there.is_dir() and os.access(there, os.W_OK)):
    raise ValueError(f"{folder} cannot be written: {there} is no folder, or not yours to write in; name another one")


def load(folder: str | os.PathLike) -> Source:
  """Reads a released folder.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is missing, damaged or another's, or if the parameters do not fit the network.
  """
  folder = run_directory.local(folder)
  spec, file = network_file.read_spec(folder), folder / _PARAMS
  if not file.exists():
    raise ValueError(f"{file} does not exist; {folder} is not a released network")
  try:
    arrays, beside = arrays_file.read(file)
  except ValueError as error:
    raise ValueError(f"{error}; copy it again, or release the network again") from error
  params = checkpoint.unflatten(arrays, network.params_like(spec), source=str(file))
  own = partition.content_hash(params)
  for expected in (beside, run_directory.read_provenance(folder).get(arrays_file.HASH)):
    if expected not in (None, own):
      raise ValueError(
        f"{file} is not what was released: its {arrays_file.HASH} is {own[:12]}..., not {expected[:12]}...; copy the "
        f"folder again, or release the network again"
      )
  about = run_directory.read_provenance(folder)
  return Source(spec, params, None, reward_scale=about.get("reward_scale"), learned_in=about.get("learned_in"))


def read_evaluation(folder: pathlib.Path) -> Evaluation:
  """What `folder/evaluation.json` says.

  Raises:
    OSError: if there is none.
    ValueError: if it is damaged, or says nothing about returns.
  """
  file = folder / "evaluation.json"
  known = run_directory.read_json(file)
  if missing := [name for name in ("mean_return", "episodes", "world") if name not in known]:
    raise ValueError(f"{file} has no {missing[0]!r}; name a folder that experiments.evaluate --release wrote")
  low, high = (np.nan if known.get(name) is None else known[name] for name in ("return_ci_low", "return_ci_high"))
  interval = intervals.Interval(*map(np.asarray, (known["mean_return"], low, high)))
  return Evaluation(known["world"], interval, known["episodes"])


def lineage(folder: pathlib.Path, *, steps: int | None = None) -> list[dict[str, Any]]:
  """Provenance and steps of every run that made the network in `folder`, the oldest first.

  Args:
    folder: a released network, or the directory of a run, which may have started from another run's network.
    steps: how far the run in `folder` had learned; None: as far as its newest checkpoint.

  Returns:
    For a run whose folder is gone, the steps are None and the commit is "unknown".
  """
  before, since = lineage_since_release(folder, steps=steps)
  return [*before, *since]


def lineage_since_release(
  folder: pathlib.Path, *, steps: int | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """`lineage` in two parts: the runs that made the newest released network in it, and the runs after that."""
  provenance = run_directory.read_provenance(folder)
  if "training" in provenance:  # A released network.
    return provenance["training"], []
  config = run_directory.read_json(folder / "config.json")
  has_before = "source" in provenance and config["method"] not in ("scratch", "random_column")
  steps = checkpoint.load_run(folder)[2] if steps is None else steps
  before, since = _lineage_before(folder / provenance["source"], provenance) if has_before else ([], [])
  return before, [*since, {"steps": steps, **provenance}]


def named(source: Source) -> dict[str, Any]:
  """Identifies in a run's provenance the network that it starts from: later there may be another at the same path."""
  return {"source_steps": source.step, SOURCE_HASH: partition.content_hash(source.params)}


def _lineage_before(
  source: pathlib.Path, about: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """`lineage_since_release` of the network that a run of this provenance started from, up to its steps at that time.

  That network may be gone by now, or made anew; the result and stderr say so.
  """
  why = "is gone"
  if source.is_dir():
    steps, here = about.get("source_steps"), run_directory.read_provenance(source).get(arrays_file.HASH)
    if here is None and steps is not None and steps == max(checkpoint.steps(source / "checkpoints"), default=None):
      try:
        here = partition.content_hash(checkpoint.load_run(source)[1])
      except ValueError:  # The source is a sweep now.
        here = "of several"
    if here is None or here == about.get(SOURCE_HASH, here):
      return lineage_since_release(source, steps=steps)
    why = "was made anew"
  print(f"warning: {source} {why}, and with it what is known of the network that this one began as", file=sys.stderr)
  return [], [{"steps": None, "commit": "unknown", "source": str(source)}]


def load_source(path: str | os.PathLike) -> Source:
  """A trained network from a released folder or from a run directory's newest checkpoint.

  Raises:
    ValueError: if there is nothing to read there.
  """
  if not os.fspath(path):  # An empty path would be the current folder.
    raise ValueError(
      "no network is named to start from, as all methods but scratch do; set --config.source to a run directory or a "
      "released network"
    )
  path = run_directory.present(path)
  if not path.is_dir():
    what = "is a file, neither a run directory nor a released network" if path.exists() else "does not exist"
    raise ValueError(f"{path} {what}; train a column (python -m experiments.train) or name a released one")
  if (path / _PARAMS).exists():
    return load(path)
  about = run_directory.read_provenance(path)
  return Source(*checkpoint.load_run(path), reward_scale=reward_scale(path), learned_in=about.get("learned_in"))


def trained_in(folder: pathlib.Path) -> tuple[str, dict[str, Any]]:
  """The world that a run or a released network was trained in, and its options.

  Raises:
    ValueError: if the folder does not say.
  """
  for name in ("config.json", "evaluation.json"):
    record = run_directory.read_json(folder / name) if (folder / name).exists() else {}
    if "world" in record:
      return record["world"], record.get("world_options", {})
  raise ValueError(f"{folder} does not say which world it was trained in: no config.json or evaluation.json there does")


def reward_scale(run: pathlib.Path) -> float | None:
  """The scale of the rewards that a run, or a member of a sweep, learned from; None if no config says."""
  return hyper(run, "reward_scale")


def hyper(run: pathlib.Path, name: str) -> Any:
  """A field of `Hyper` that a run, or a member of a sweep, learned with; None if no config says."""
  return run_directory.read_config(run).get("train", {}).get("hyper", {}).get(name)
