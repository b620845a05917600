"""How any runs learn, beside their scores: the numbers of `agents.diagnostics` over steps (docs/learning.md)."""

import collections
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from analysis import curves, plots, records
from experiments.report import drawing

_MEASURES = ("return_mean", "explained_variance", "information", "entropy", "clipped")
_OF_LAYERS = ("dead/", "silent/", "step/")
_NUM_BINS = 50  # In a curve.
_BOUNDS = drawing.Bounds(low=0.0, but_for=("return_mean", "explained_variance"))  # Shares, lengths and nats.
_LATE = 0.75  # Tables show the mean from this share of the steps on.


def learning(runs: Sequence[records.Run]) -> drawing.Drawn:
  """A panel for each measure and layer, a line for each run, or for each sweep with its members; a table of late means.

  Raises:
    ValueError: if the runs have no such records.
  """
  folders: dict[pathlib.Path, list[records.Run]] = {}
  for run in runs:
    folders.setdefault(_folder(run), []).append(run)
  groups = dict(zip(_labels(list(folders)), folders.values(), strict=True))
  measured, gaps = dict[str, Mapping[str, curves.Curve]](), dict[str, str]()
  for label, each in groups.items():
    measured[label], lacking = _measured(each)
    gaps |= lacking
  names = sorted({name for each in measured.values() for name in each}, key=_order)
  if not names:
    raise ValueError(f"{runs[0].path}: no 'train' record has {_MEASURES[0]} or {_OF_LAYERS[0]}<layer>")
  panels = {}
  for name in names:
    lines = [
      plots.Line(label, f"C{i % 10}", measured[label][name], style=plots.STYLES[i // 10 % len(plots.STYLES)])
      for i, label in enumerate(groups)
      if name in measured[label]
    ]
    if name in _MEASURES or any(np.any(line.solid.values) for line in lines):  # No panel for a layer that cannot die.
      panels[name] = plots.Panel(name.replace("_", " ").replace("/", ", "), lines)
  picture = plots.learning_curves(
    list(panels.values()), x_label="agent steps", y_label="", panels_per_row=5, has_shared_legend=True
  )
  for axis, name in zip(picture.axes, panels, strict=False):
    if name not in _BOUNDS.but_for:
      axis.set_ylim(bottom=0.0)
  late = {
    label: {
      name: curves.mean_within(each[name], _LATE * each[name].steps[-1], each[name].steps[-1])
      for name in names
      if name in each
    }
    for label, each in measured.items()
  }
  return drawing.Drawn(picture, late, places=4, gaps=gaps, bounds=_BOUNDS)


def _folder(run: records.Run) -> pathlib.Path:
  """The folder of the run, or of the sweep of which it is a member."""
  path = run.path.absolute()
  is_member = path.parent.name == "runs" and path.name.isdigit() and len(path.name) > 1
  return path.parent.parent if is_member else path


def _labels(folders: Sequence[pathlib.Path]) -> list[str]:
  """The shortest ending of each path that no other path has; the whole path if it is another path's ending."""
  endings = [["/".join(path.parts[-n:]) for n in range(1, len(path.parts) + 1)] for path in folders]
  num_with = collections.Counter(ending for each in endings for ending in each)
  return [next((ending for ending in each if num_with[ending] == 1), each[-1]) for each in endings]


def _measured(runs: Sequence[records.Run]) -> tuple[Mapping[str, curves.Curve], dict[str, str]]:
  """Measure -> its curve in bins up to the end of the shortest run, over the runs that have it; and the gaps.

  A gap is a run that has no number for a measure (for example because it diverged) and is left out of it; or a run
  without any numbers yet; or a run that is shorter than others.
  """
  gaps = {str(run.path): "no 'train' record yet" for run in runs if not records.last(run, kind="train")}
  runs = [run for run in runs if str(run.path) not in gaps]
  if not runs:
    return {}, gaps
  lengths = [records.num_steps(run) for run in runs]
  until, longest = min(lengths), max(lengths)
  for run, length in zip(runs, lengths, strict=True):
    if length < longest * (1.0 - 0.5 / _NUM_BINS):
      gaps[str(run.path)] = f"stops at step {length:,} of {longest:,}; so do the others of its line"
  names = [
    {
      name
      for block in run.blocks
      if block.kind == "train"
      for name in block.names
      if name in _MEASURES or name.startswith(_OF_LAYERS)
    }
    | ({"return_mean"} if records.has_episodes(run) else set())
    for run in runs
  ]
  edges = np.linspace(0.0, until, _NUM_BINS + 1)
  binned = {
    name: [_binned(run, name, edges) if name in own else None for run, own in zip(runs, names, strict=True)]
    for name in set.union(*names)
  }
  for i, run in enumerate(runs):
    if lacking := sorted((name for name, each in binned.items() if not each[i]), key=_order):
      said = gaps.get(str(run.path)), f"no number of {', '.join(lacking)}"
      gaps[str(run.path)] = "; ".join(filter(None, said))
  numbers = {name: [one for one in each if one] for name, each in binned.items()}
  return {name: curves.stack(each) for name, each in numbers.items() if each}, gaps


def _binned(run: records.Run, name: str, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
  """Ends of bins `[G]`, and the mean of the records in each bin; an empty bin is interpolated from its neighbours.

  None if no number was recorded.
  """
  if name == "return_mean" and records.has_episodes(run):
    steps, values = records.episodes(run)
  else:
    steps, values = records.series(run, kind="train", name=name)
  which = np.digitize(steps, edges[:-1], right=True) - 1
  has = np.isfinite(values) & (steps > 0) & (steps <= edges[-1])
  if not has.any():
    return None
  count = np.bincount(which[has], minlength=len(edges) - 1)
  total = np.bincount(which[has], values[has], minlength=len(edges) - 1)
  filled = count > 0
  return edges[1:], np.interp(edges[1:], edges[1:][filled], total[filled] / count[filled])


def _order(name: str) -> tuple[int, str]:
  kinds = (*_MEASURES, *_OF_LAYERS)
  return next(i for i, kind in enumerate(kinds) if name.startswith(kind)), name
