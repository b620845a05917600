"""The transfer matrix: every method from every source to every target (Rusu et al. 2016, figure 4a).

A cell is a sweep (`running.run`) in `<workdir>/<cell>`. Its best member becomes a network in `<cell>/best`, from which
other cells start: the cell that learns a task from scratch is baseline 1 of that target and the source column of other
cells. A cell is done when `outcome.json` exists. The same command continues an interrupted matrix where it stopped. On
a cluster, each machine runs its own cells in one shared folder.
"""

import contextlib
import difflib
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import config_dict

from experiments.running import play, run
from experiments.setup import checks, column, learn, place
from experiments.store import lock as lock_lib
from experiments.store import released, run_directory, sweep_folder
from progressive import baselines, partition

OUTCOME = "outcome.json"
PLAN = "matrix.json"
_CELLS_OWN = ("world", "method", "source")  # Fields in which a cell's config differs from the matrix's.
MANY_COLUMNS = ("progressive", "random_column")  # The methods whose networks have several columns.


class Cell(NamedTuple):
  """One method of learning `target` after `sources`, which are in the order in which they were learned."""

  method: str
  sources: tuple[str, ...]
  target: str

  @property
  def name(self) -> str:
    """The name of its folder."""
    return (
      f"{self.method}_{'+'.join(self.sources)}_to_{self.target}" if self.sources else f"{self.method}_{self.target}"
    )

  @property
  def before(self) -> "Cell | None":
    """The cell from whose best network this one starts; None if it starts from nothing."""
    if not self.sources:
      return None
    *earlier, newest = self.sources
    return Cell("progressive", tuple(earlier), newest) if earlier else Cell("scratch", (), newest)


def plan(config: config_dict.ConfigDict) -> tuple[Cell, ...]:
  """All cells, each after the cell from which it starts.

  Raises:
    ValueError: for an unknown method.
  """
  matrix = config.matrix
  unknown = [method for method in matrix.methods if method not in baselines.METHODS]
  if unknown:
    raise ValueError(f"matrix.methods names {unknown[0]!r}; there are {', '.join(baselines.METHODS)}")
  first_sources = (first for first, *_ in matrix.source_pairs)
  cells = [Cell("scratch", (), task) for task in dict.fromkeys((*matrix.sources, *first_sources, *matrix.targets))]
  for method in matrix.methods:
    if method == "random_column":
      cells += [Cell(method, (), target) for target in matrix.targets]
    elif method != "scratch":
      cells += [Cell(method, (s,), target) for s in matrix.sources for target in matrix.targets if s != target]
  for sources in map(tuple, matrix.source_pairs if "progressive" in matrix.methods else ()):
    cells += [Cell("progressive", sources[:num], sources[num]) for num in range(1, len(sources))]
    cells += [Cell("progressive", sources, target) for target in matrix.targets if target not in sources]
  return tuple(dict.fromkeys(cells))


def choose(cells: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
  """The cells with these names, or all if none is named.

  Raises:
    ValueError: for a name that no cell has; the message names the nearest.
  """
  by_name = {cell.name: cell for cell in cells}
  for name in names:
    if name not in by_name:
      nearest = difflib.get_close_matches(name, by_name, n=1, cutoff=0.0)[0]
      raise ValueError(f"--cell={name} is not in this matrix; nearest is {nearest}, all are {', '.join(by_name)}")
  return [by_name[name] for name in names] or list(cells)


def write_plan(config: config_dict.ConfigDict, workdir: pathlib.Path) -> None:
  """Writes the config to `workdir`, so that readers of the matrix know all its cells, finished or not.

  Cells may be added to a matrix, but all cells share the same settings.

  Raises:
    ValueError: if the matrix was begun with a config whose shared settings differ, or that had more cells.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  ours = json.loads(config.to_json())
  if (workdir / PLAN).exists():
    before = read_plan(workdir)
    theirs = json.loads(before.to_json())
    cells_own = dict.fromkeys(("matrix", *_CELLS_OWN))
    changes = run_directory.difference(theirs | cells_own, ours | cells_own)
    if before.matrix.world != config.matrix.world:
      changes = [*changes, f"matrix.world: {before.matrix.world} there, {config.matrix.world} here"]
    if changes:
      raise ValueError(f"{workdir} was made with another config ({'; '.join(changes)}); use another --workdir")
    lost = [cell.name for cell in plan(before) if cell not in plan(config)]
    if lost:
      raise ValueError(
        f"{workdir} has cells that this config's matrix lacks ({', '.join(lost)}); --cell runs some only"
      )
    if theirs == ours:
      return
  run_directory.write_json(workdir / PLAN, ours)


def read_plan(workdir: pathlib.Path) -> config_dict.ConfigDict:
  """The config of the last run in `workdir`.

  Raises:
    ValueError: if there is none, or it is not the config of a matrix.
  """
  try:
    config = config_dict.ConfigDict(run_directory.read_json(workdir / PLAN))
  except FileNotFoundError:
    raise ValueError(
      f"{workdir} holds no matrix ({PLAN} is missing); give the --workdir of experiments.matrix"
    ) from None
  except ValueError as error:
    raise ValueError(f"{workdir / PLAN} cannot be read ({error}); run experiments.matrix there again") from None
  if "matrix" not in config:
    raise ValueError(f"{workdir / PLAN} has no section 'matrix'; run experiments.matrix there again")
  return config


def floors(config: config_dict.ConfigDict, task: str = "") -> tuple[float, ...]:
  """The scores that count as nothing, the leading one first: the matrix's, or the task's own score.

  Raises:
    ValueError: if the config names none.
  """
  named = tuple(float(floor) for floor in config.matrix.get("floors", ()))
  if not named:
    raise ValueError("the config's matrix.floors names no score that counts as nothing (Pong: -21); add it")
  own = config.matrix.get("own_floors", {}).get(task)
  return named if own is None else (float(own),)


def cell_config(config: config_dict.ConfigDict, cell: Cell, workdir: pathlib.Path) -> config_dict.ConfigDict:
  """The config of a cell's sweep."""
  own = config_dict.ConfigDict({name: value for name, value in config.items() if name != "matrix"})
  own = own.copy_and_resolve_references()
  own.method, own.world = cell.method, config.matrix.world + cell.target
  own.sources = cell.sources
  own.source = str(workdir / cell.before.name / "best") if cell.before else ""
  return own


class Failed(Exception):
  """A cell that cannot be completed, or that starts from such a cell: it stays a gap, and the matrix goes on."""


def run_cell(config: config_dict.ConfigDict, cell: Cell, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, chooses the best member and measures forgetting; returns the outcome. Repeats nothing that is done.

  Raises:
    Failed: if no member's loss is a number any more, or none ended an episode in its last tenth, now or in an
      earlier attempt; or if the cell starts from a failed cell.
    ValueError: if the cell from which it starts is not done, or holds a network whose columns are not this config's.
  """
  path = workdir / cell.name
  with lock_lib.alone(path) as lock:
    if is_done(path):
      return run_directory.read_json(path / OUTCOME)
    if reason := run_directory.failure(path):
      raise Failed(f"{reason} (remove {path / run_directory.FAILURE} to try again)")
    try:
      return _run_cell(config, cell, workdir, lock)
    except (FloatingPointError, sweep_folder.TooShort) as error:
      lock.check()
      run_directory.write_failure(path, error)
      raise Failed(str(error)) from error


def _run_cell(config: config_dict.ConfigDict, cell: Cell, workdir: pathlib.Path, lock: lock_lib.Lock) -> dict[str, Any]:
  path, own = workdir / cell.name, cell_config(config, cell, workdir)
  source = None
  if cell.before is not None:
    if run_directory.failure(workdir / cell.before.name):
      raise Failed(f"it starts from {cell.before.name}, which failed")
    if not is_done(workdir / cell.before.name):
      raise ValueError(
        f"{cell.name} starts from {cell.before.name}, which is not done in {workdir}; run that cell first"
      )
    source = released.load_source(own.source)
    _check_source(own, source)
  run.run_alone(own, path, lock, source=source)
  return _finish(own, cell, path, source)


def is_done(path: pathlib.Path) -> bool:
  """Whether the cell in `path` has ended."""
  return (path / OUTCOME).exists()


def _check_source(config: config_dict.ConfigDict, source: released.Source) -> None:
  """Refuses a source whose columns are not this config's: the cells of a matrix are compared with each other."""
  inputs = config.train.column.inputs
  with contextlib.closing(place.make(config.world, config.world_options.to_dict(), observations=inputs)) as there:
    ours = column.make(config.train.column, there.world.observation_spec(), place.num_choices(there))
  for k, theirs in enumerate(source.spec.columns):
    if theirs != ours:
      raise ValueError(
        f"{config.source}: column {k} is of another architecture than this config's ({theirs.layers} there, "
        f"{ours.layers} here); use another --workdir, or the config that the source was made with"
      )


def _finish(
  config: config_dict.ConfigDict, cell: Cell, path: pathlib.Path, source: released.Source | None
) -> dict[str, Any]:
  best, scores = sweep_folder.best(sweep_folder.run_paths(path, config.sweep.num_runs))
  trained = sweep_folder.trained(path, best)
  outcome: dict[str, Any] = {
    "method": cell.method,
    "sources": list(cell.sources),
    "target": cell.target,
    "scores": [score if np.isfinite(score) else None for score in scores],
    "best": best,
    "evaluation": _evaluate(config, trained, config.world),
  }
  if source is not None:
    outcome["forgetting"] = _forgetting(config, cell, source, trained)
  about = outcome["evaluation"] | {"world": config.world, "world_options": config.world_options.to_dict()}
  sweep_folder.save_best(path, best, trained, evaluation=about)
  run_directory.write_json(path / OUTCOME, outcome)
  return outcome


def _forgetting(
  config: config_dict.ConfigDict, cell: Cell, source: released.Source, trained: released.Source
) -> dict[str, Any]:
  """Plays the source task before and after learning the target, with the columns that had learned it.

  `earlier` has the same for the tasks before the source's, which its first columns had learned.
  """
  measured = []
  for num, task in enumerate(cell.sources, start=1):  # The first `num` columns had learned this task.
    world = config.world.removesuffix(cell.target) + task
    before, after = (one.first(num) for one in (source, trained))
    measured.append(
      {
        "task": task,
        "before": _evaluate(config, before, world),
        "after": _evaluate(config, after, world),
        "is_unchanged": partition.content_hash(after.params) == partition.content_hash(before.params),
      }
    )
  *earlier, newest = measured
  return newest | {"earlier": earlier}


def _evaluate(config: config_dict.ConfigDict, trained: released.Source, world: str) -> dict[str, float]:
  """Plays whole episodes, always the same ones, so that equal networks get equal numbers.

  They are played in a separate place: behind `dm_env` the runs have closed theirs, and episodes depend on earlier ones.
  """
  task = learn.player(trained, world, config.world_options.to_dict(), seed=config.seed)
  with contextlib.closing(task.place):
    played = play.play(
      task,
      *partition.split(task.params, task.is_trainable),
      learn.make_key(config.seed, "evaluation"),
      num_episodes=config.train.evaluation_episodes,
      is_greedy=config.train.evaluation_is_greedy,
    )
    return play.summarise(task.place, played.episodes)


def run_cells(config: config_dict.ConfigDict, names: Sequence[str], workdir: pathlib.Path) -> None:
  """Runs the cells with these names (all if none is named) that are not done, and prints the result of each.

  Raises:
    ValueError: for an unknown cell, target or method, before anything is learned; as in `run_cell`; or at the end, if
      some cells failed.
  """
  checks.check(config)
  cells = plan(config)
  for task in dict.fromkeys(cell.target for cell in cells):
    place.make(config.matrix.world + task, config.world_options.to_dict()).close()
  chosen = choose(cells, names)
  write_plan(config, workdir)
  failed = []
  for number, cell in enumerate(chosen, start=1):
    try:
      score = run_cell(config, cell, workdir)["evaluation"]["return_mean"]
      what = f"best member's return {score:.2f}"
    except Failed as error:
      failed.append(cell.name)
      what = f"failed: {error}"
    print(f"[{number}/{len(chosen)}] {cell.name}: {what}", flush=True)
  if failed:
    raise ValueError(f"{len(failed)} of {len(chosen)} cells failed, the others are done: {', '.join(failed)}")
