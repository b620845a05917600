"""How the trained networks of a matrix use their columns: AFS and, if asked for, APS of a done cell.

The best network of a cell plays its own target; the result is `<cell>/sensitivity.json` (`sensitivity_file`). What is
already there is not measured again. APS plays 10 episodes at each of 13 scales of noise in each layer of each column
and is by far the slower half. Behind `dm_env`, where episodes need not start the same, there is only AFS.
"""

import contextlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from analysis import fisher, perturbation
from environments import batch as batch_lib
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.store import released, run_directory
from experiments.studies.pnn import matrix, sensitivity, sensitivity_file

_NUM_WORLDS = 16  # In which the samples for AFS are played.


class Settings(NamedTuple):
  """What is measured, and how much."""

  num_samples: int = 2048
  every: int = 20
  has_aps: bool = False
  aps_episodes: int = 10
  aps_scales: tuple[float, ...] = sensitivity.SCALES


def analyse(path: pathlib.Path, settings: Settings, *, floor: float) -> sensitivity_file.Sensitivity:
  """Measures what the cell in `path` still lacks, writes it beside the network and returns everything.

  `floor` is the score that counts as nothing on its target.

  Raises:
    ValueError: if its files cannot be read, if the existing measurements were not made as `settings` say, if the
      network has only one column, whose shares say nothing, or if APS is asked for behind `dm_env`.
  """
  measured = sensitivity_file.read(path)
  if measured is not None:
    at = measured.aps or measured.aps_fault
    has_aps = at is not None and at.floor == floor
    _check_same(path, measured, settings, has_aps=settings.has_aps and has_aps)
    if not settings.has_aps or has_aps:
      return measured
  config = _config(path / "config.json")
  source = released.load_source(path / "best")
  if len(source.spec.columns) < 2:
    raise ValueError(f"{path.name}: its network has one column, which has all of every share; name another --cell")
  player, close = _player(source, config, has_aps=settings.has_aps)
  record_key, aps_key = (learn.make_key(config.seed, purpose) for purpose in ("sensitivity", "perturbation"))
  with close:
    samples = sensitivity.record(player, record_key, num_samples=settings.num_samples, every=settings.every)
  about = {"target": config.world, "method": config.method, "sources": list(config.sources)}
  about |= {"provenance": run_directory.provenance(config.seed)}
  if measured is None:
    diagonals = sensitivity.fisher_diagonals(player, samples)
    measured = sensitivity_file.Sensitivity(settings.num_samples, settings.every, diagonals, None)
    sensitivity_file.write(path, measured, about=about)  # Before APS, which takes far longer and may be stopped.
  if settings.has_aps:
    is_greedy = config.train.evaluation_is_greedy
    measured = _with_aps(measured, player, samples, aps_key, settings, floor=floor, is_greedy=is_greedy)
    sensitivity_file.write(path, measured, about=about)
  return measured


def _check_same(
  path: pathlib.Path, measured: sensitivity_file.Sensitivity, settings: Settings, *, has_aps: bool
) -> None:
  """Refuses measurements that were made with other settings; `has_aps`: checks APS too."""
  flags_given: dict[str, tuple[object, object]] = {
    "--samples": (measured.num_samples, settings.num_samples),
    "--sample_every": (measured.every, settings.every),
  }
  if has_aps and (at := measured.aps or measured.aps_fault):
    flags_given["--aps_episodes"] = (at.num_episodes, settings.aps_episodes)
  if has_aps and measured.aps is not None:
    scales = next(iter(measured.aps.criticals.values())).scales
    if not np.array_equal(scales, settings.aps_scales):
      flags_given["--aps_scales"] = _words(scales), _words(settings.aps_scales)
  for flag, (there, asked) in flags_given.items():
    if there != asked:
      file = path / sensitivity_file.NAME
      raise ValueError(f"{file} was measured with {flag}={there}, not {asked}; give that, or remove it to measure anew")


def _words(scales: Iterable[float]) -> str:
  return ",".join(f"{scale:g}" for scale in scales)


def describe(measured: sensitivity_file.Sensitivity) -> str:
  """The newest column's share of every layer, in one line."""
  measures = {"AFS": fisher.per_column(measured.diagonals)}
  if measured.aps is not None:
    measures["APS"] = perturbation.shares(measured.aps.criticals)
  newest = max(k for k, _ in measured.diagonals)
  lines = [
    f"{name} of column {newest}: "
    + ", ".join(f"{layer} {share:.2f}" for (k, layer), share in shares.items() if k == newest)
    for name, shares in measures.items()
  ]
  if measured.aps is not None:
    lines += perturbation.describe(measured.aps.criticals)
  return "; ".join(lines) + (f"; no APS: {measured.aps_fault.why}" if measured.aps_fault else "")


def _with_aps(
  measured: sensitivity_file.Sensitivity,
  player: sensitivity.Player,
  samples: Sequence[sensitivity.Samples],
  key: jax.Array,
  settings: Settings,
  *,
  floor: float,
  is_greedy: bool,
) -> sensitivity_file.Sensitivity:
  """Adds APS, or the reason why there is none; the file keeps the reason, so asking again changes nothing."""
  assert isinstance(player.worlds, batch_lib.Batch)
  few = player._replace(worlds=player.worlds._replace(num_worlds=settings.aps_episodes))
  variance = sensitivity.variances(player, samples)
  try:
    aps = sensitivity.aps(few, key, variance=variance, scales=settings.aps_scales, floor=floor, is_greedy=is_greedy)
  except sensitivity.NothingToLose as error:
    return measured._replace(aps=None, aps_fault=sensitivity_file.Fault(settings.aps_episodes, floor, str(error)))
  return measured._replace(aps=aps, aps_fault=None)


def _player(
  source: released.Source, config: config_dict.ConfigDict, *, has_aps: bool
) -> tuple[sensitivity.Player, contextlib.ExitStack]:
  """The player, and a stack that closes worlds behind `dm_env`."""
  task, close = learn.player(source, config.world, config.world_options.to_dict()), contextlib.ExitStack()
  if isinstance(task.place, place_lib.Simulation):
    worlds = task.place.batch(_NUM_WORLDS, learn.input_names(task))
    return sensitivity.Player(task.agent, source.params, worlds), close
  close.callback(task.place.close)
  if has_aps:
    close.close()
    raise ValueError(
      f"{task.place.name} is behind dm_env, where episodes with and without noise cannot start alike, as APS needs; "
      f"leave --aps out"
    )
  return sensitivity.Player(task.agent, source.params, task.place.worlds), close


def _config(file: pathlib.Path) -> config_dict.ConfigDict:
  try:
    return config_dict.ConfigDict(run_directory.read_json(file))
  except (FileNotFoundError, ValueError) as error:
    raise ValueError(f"{file} cannot be read ({error}); run experiments.matrix there again") from None


def choose(workdir: pathlib.Path, names: Sequence[str]) -> list[matrix.Cell]:
  """The done cells with these names; if none is named, all that are done and have more than one column.

  Raises:
    ValueError: for a name that no cell has, or a cell that is not done; or if there is nothing to analyse.
  """
  config = matrix.read_plan(workdir)
  chosen = matrix.choose(matrix.plan(config), names)
  if not names:
    chosen = [c for c in chosen if c.method in matrix.MANY_COLUMNS and matrix.is_done(workdir / c.name)]
  for cell in chosen:
    if not matrix.is_done(workdir / cell.name):
      raise ValueError(f"{cell.name} is not done in {workdir}; run experiments.matrix --cell={cell.name} first")
  if not chosen:
    raise ValueError(f"{workdir}: no cell with more than one column is done; run experiments.matrix first")
  return chosen
