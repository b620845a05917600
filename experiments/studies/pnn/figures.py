"""The figures of Rusu et al. 2016 on all its worlds, from the folder of a matrix; the paper's numbers beside ours.

4a is the transfer matrix with table 1; 4b and 12 are learning curves. Atari's figures 6 and 11 and Labyrinth's 8 and 13
are drawn as 4a and 12. Another figure shows what was forgotten. `sensitivity_figures` has the figures that show what
was transferred. A cell that is missing, empty or half written is a marked gap, never a zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import curves, forgetting_plots, intervals, matrix_plots, paper, plots, speedup, transfer, transfer_matrix
from experiments.report import colors, drawing
from experiments.store import sweep_folder
from experiments.studies.pnn import matrix as matrix_lib
from experiments.studies.pnn import matrix_folder

COLORS = {
  "scratch": colors.METHODS["scratch"][0],
  "finetune_head": colors.METHODS["finetune_head"][0],
  "finetune": colors.METHODS["finetune"][0],
  "random_column": colors.METHODS["random_column"][0],
  "progressive2": colors.METHODS["progressive"][0],
  "progressive3": colors.METHODS["progressive"][1],
  "progressive4": "#9cc7ee",
}
_MORE_COLUMNS = "#c9e0f5"
_PONG = "pong/"  # The world of the paper's numbers.
_PONG_LIMITS = (-21.0, 21.0)
_BOUNDS = drawing.Bounds(*_PONG_LIMITS, but_for=("lost",))
_SHORTER = 0.775  # Of the horizon: the paper's figure 4a follows from its 4b at 3.1e7 of 4e7 steps (papers.md 1.5).
_MOST_PAIRS = 4
_FIG4B_METHODS = ("scratch", "finetune", "progressive2")
_Panel = tuple[tuple[str, ...], str]  # Sources in the order in which they were learned, target.


def fig4a(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """Transfer scores of every method from every source to every target; table 1; scores under other readings."""
  ours = scores(matrix, definition(matrix))
  panels = [matrix_plots.Panel(f"ours, top {matrix.top}, {matrix.steps:,} steps", ours)]
  beside: dict[str, Mapping[str, tuple[float, float]]] = {}
  if matrix.world == _PONG:
    theirs = paper.pnn_fig4a()
    panels.append(matrix_plots.Panel("Rusu et al. 2016, figure 4a", _on(ours, theirs), is_clipped=True))
    same = transfer_matrix.summarise(transfer_matrix.same_cells(theirs, ours))
    percent = {method: (100 * float(one.mean.mean), 100 * float(one.median.mean)) for method, one in same.items()}
    beside["paper, same cells, clipped at 2 (mean / median)"] = percent
  if matrix.world in paper.PNN_TABLE1:
    beside["paper, table 1 (mean / median)"] = paper.PNN_TABLE1[matrix.world]
  table1 = transfer_matrix.table(transfer_matrix.summarise(ours), beside)
  return drawing.Drawn(
    matrix_plots.heat_maps(panels),
    _score_table(ours),
    more_tables={"table1": table1, "readings": _readings(matrix)},
    gaps=matrix.gaps,
    places=2,
  )


def fig4b(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """Learning curves of the paper's two pairs of source and target, or of the first few, for its three methods only."""
  every = [(sources[0], target) for sources, target in _panels(matrix) if len(sources) == 1]
  if not every:
    raise ValueError(f"{matrix.path}: no cell of this matrix goes from one source to a target")
  pairs = [pair for pair in paper.PNN_FIG4B if pair in every] or every[:_MOST_PAIRS]
  return _learning_curves(matrix, [((source,), target) for source, target in pairs], _FIG4B_METHODS)


def fig12(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """Learning curves of all cells by all methods, with a panel for each target and each list of sources."""
  panels = _panels(matrix)
  if not panels:
    raise ValueError(f"{matrix.path}: no cell of this matrix goes from a source to a target")
  return _learning_curves(matrix, panels)


def _learning_curves(
  matrix: matrix_folder.Matrix, panels_of: Sequence[_Panel], methods: Sequence[str] | None = None
) -> drawing.Drawn:
  """One curve for each method of a panel (None: for all): the mean of the cell's top runs."""
  panels = []
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  gaps: dict[str, str] = {}
  for sources, target in panels_of:
    pair = f"{'+'.join(sources)} → {target}"
    lines = []
    for result in _methods_of(matrix, sources, target):
      method = matrix_folder.row_of(result.cell).method
      if methods is not None and method not in methods:
        continue
      if result.gap:
        gaps[result.cell.name] = result.gap
      if result.curve is None:
        continue
      top = sweep_folder.top_runs(result.curve, matrix.top, matrix.floor(target))
      best = result.curve._replace(values=result.curve.values[top])
      until = f", {result.note}" if result.note else ""
      label = f"{method} (top {len(best.values)} of {len(result.curve.values)}{until})"
      lines.append(plots.Line(label, color(method), best))
      statistics[f"{pair}, {method} (ours)"] = _curve_numbers(best, matrix)
      theirs = paper.PNN_FIG4B.get(("+".join(sources), target), {}).get(method) if matrix.world == _PONG else None
      if theirs is not None:
        statistics[f"{pair}, {method} (paper)"] = _paper_numbers(theirs)
    panels.append(plots.Panel(pair, lines))
  limits = _PONG_LIMITS if matrix.world == _PONG else None
  picture = plots.learning_curves(
    panels,
    x_label="agent steps",
    y_label="score",
    y_limits=limits,
    panels_per_row=2 if len(panels) <= _MOST_PAIRS else 4,
    has_shared_legend=True,
  )
  return drawing.Drawn(picture, statistics, gaps=gaps, bounds=_bounds(matrix))


def forgetting(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """The score on the source task before and after learning the target, in all cells that have both; bars by method.

  Intervals in the table are over the episodes of one evaluation.
  """
  by_method: dict[str, list[matrix_folder.Result]] = {}
  gaps: dict[str, str] = {}
  for cell, result in matrix.results.items():
    if not cell.sources:
      continue
    if result.outcome is None or "forgetting" not in result.outcome:
      gaps[cell.name] = result.gap or f"its {matrix_lib.OUTCOME} says nothing of forgetting"
    else:
      by_method.setdefault(matrix_folder.row_of(cell).method, []).append(result)
  if not by_method:
    raise ValueError(f"{matrix.path}: no cell that starts from a source is done; run experiments.matrix first")
  changes, statistics = [], {}
  for method in sorted(by_method, key=_place):
    measured: dict[str, Mapping[str, Any]] = {}  # Row -> one task before and after.
    for result in by_method[method]:
      newest = (result.outcome or {})["forgetting"]
      measured |= {f"{result.cell.name}: {one['task']}": one for one in (newest, *newest.get("earlier", ()))}
    before, after = (
      np.asarray([one[when]["return_mean"] for one in measured.values()]) for when in ("before", "after")
    )
    changes.append(forgetting_plots.Change(f"{method}\n({len(by_method[method])} cells)", before, after))
    for (row, one), lost in zip(measured.items(), before - after, strict=True):
      statistics[row] = {
        **{when: _evaluated(one[when]) for when in ("before", "after")},
        "lost": drawing.number(lost),
        "source's parameters": "unchanged" if one["is_unchanged"] else "changed",
      }
  lowest = min(matrix.floor(source) for cell in matrix.results for source in cell.sources)
  picture = forgetting_plots.bars(changes, y_label="score on the source task", floor=lowest)
  return drawing.Drawn(picture, statistics, gaps=gaps, bounds=_bounds(matrix))


def _evaluated(evaluation: Mapping[str, float]) -> intervals.Interval:
  """The mean return of an evaluation, with its interval over episodes."""
  numbers = (evaluation.get(f"return_{name}", np.nan) for name in ("mean", "ci_low", "ci_high"))
  return intervals.Interval(*map(np.asarray, numbers))


def color(method: str) -> str:
  """The colour of a method, or of a progressive network by its number of columns: "progressive3"."""
  return COLORS.get(method, _MORE_COLUMNS)


def _place(method: str) -> tuple[int, int]:
  """The order of methods; networks with more columns than the paper's come last."""
  known = list(COLORS)
  return (known.index(method), 0) if method in COLORS else (len(known), int(method.removeprefix("progressive")))


def definition(matrix: matrix_folder.Matrix) -> transfer.Definition:
  """The leading score: the first floor, unless a task has its own; the whole run; the config's top."""
  return transfer.Definition(floor=matrix.floors[0], horizon=float(matrix.steps), top_k=matrix.top)


def scores(
  matrix: matrix_folder.Matrix, how: transfer.Definition, *, num_resamples: int = 2000
) -> transfer_matrix.Matrix:
  """The transfer matrix; a cell that is not complete has no score, and a note says why."""
  baselines = {cell.target: result for cell, result in matrix.results.items() if cell.method == "scratch"}
  others = {
    (matrix_folder.row_of(cell), cell.target): result
    for cell, result in matrix.results.items()
    if cell.method != "scratch" and cell.target in matrix.targets
  }
  rows = sorted(dict.fromkeys(row for row, _ in others), key=lambda row: _place(row.method))
  scored = transfer_matrix.build(
    _complete(others),
    _complete(baselines),
    rows=rows,
    targets=matrix.targets,
    definition=how,
    own_floors=matrix.own_floors,
    num_resamples=num_resamples,
  )
  notes = scored.notes.astype(object)
  for m, row in enumerate(rows):
    for t, target in enumerate(matrix.targets):
      own, baseline = others.get((row, target)), baselines.get(target)
      if own is not None and own.note:
        notes[m, t] = own.note
      elif own is not None and baseline is not None and baseline.note:
        notes[m, t] = f"scratch: {baseline.note}"
  return scored._replace(notes=notes.astype(str))


def _complete(results: Mapping[Any, matrix_folder.Result]) -> dict[Any, curves.Curve]:
  return {key: result.curve for key, result in results.items() if not result.gap and result.curve is not None}


def _on(ours: transfer_matrix.Matrix, theirs: transfer_matrix.Matrix) -> transfer_matrix.Matrix:
  """The paper's scores on our rows and targets, including cells that we lack."""
  values = np.full(ours.values.shape, np.nan)
  notes = np.full(ours.values.shape, "not in\npaper", object)
  for m, row in enumerate(ours.rows):
    for t, target in enumerate(ours.targets):
      if row in theirs.rows and target in theirs.targets:
        at = theirs.rows.index(row), theirs.targets.index(target)
        values[m, t], notes[m, t] = theirs.values[at], theirs.notes[at]
  return transfer_matrix.of_values(ours.rows, ours.targets, values, notes.astype(str))


def _score_table(scored: transfer_matrix.Matrix) -> dict[str, dict[str, drawing.Cell]]:
  table: dict[str, dict[str, drawing.Cell]] = {}
  for m, row in enumerate(scored.rows):
    table[f"{row.method} ← {row.source}"] = {
      target: str(scored.notes[m, t]) or intervals.Interval(scored.values[m, t], scored.low[m, t], scored.high[m, t])
      for t, target in enumerate(scored.targets)
    }
  return table


def _readings(matrix: matrix_folder.Matrix) -> dict[str, dict[str, str]]:
  """Mean / median of every method in %, under every reading of the score that the paper leaves open."""
  table = {}
  own = ", ".join(f"{target} {floor:g}" for target, floor in matrix.own_floors.items() if target in matrix.targets)
  for floor in matrix.floors:
    leading = transfer.Definition(floor=floor, horizon=float(matrix.steps), top_k=matrix.top)
    for label, how in transfer.readings(leading, (_SHORTER * matrix.steps,)).items():
      summaries = transfer_matrix.summarise(scores(matrix, how, num_resamples=10))
      table[f"floor {floor:g}{f' ({own})' if own else ''}, {label}"] = {
        method: f"{100 * float(one.mean.mean):.0f} / {100 * float(one.median.mean):.0f}" if one.num_cells else "–"
        for method, one in summaries.items()
      }
  return table


def _panels(matrix: matrix_folder.Matrix) -> list[_Panel]:
  """(sources, target) of all planned cells that have sources."""
  planned = [(cell.sources, cell.target) for cell in matrix.results if cell.sources and cell.target in matrix.targets]
  return list(dict.fromkeys(planned))


def _methods_of(matrix: matrix_folder.Matrix, sources: tuple[str, ...], target: str) -> list[matrix_folder.Result]:
  """The cells in a panel, in the order of the colours."""
  own = [result for cell, result in matrix.results.items() if cell.target == target and cell.sources in ((), sources)]
  return sorted(own, key=lambda result: _place(matrix_folder.row_of(result.cell).method))


def _bounds(matrix: matrix_folder.Matrix) -> drawing.Bounds:
  """Bounds of scores: known for games of Pong; none for other worlds."""
  return _BOUNDS if matrix.world == _PONG else drawing.Bounds()


def _curve_numbers(curve: curves.Curve, matrix: matrix_folder.Matrix) -> dict[str, drawing.Cell]:
  """`end`: mean of the last tenth, NaN if the curve stops earlier; `mean`: over the curve as far as it goes.

  A curve ends with its shortest run. It does not contain what the other runs reach later.
  """
  reaches = curves.at(curve, matrix.steps)
  is_whole = bool(np.isfinite(reaches).all())
  last = transfer.final_scores(curve, matrix.steps) if is_whole else reaches
  half_way = {"steps to 0": speedup.steps_in_words(curve, 0.0) if is_whole else "–"} if matrix.world == _PONG else {}
  return {"end": last, "mean": curves.mean_height(curve), **half_way}


def _paper_numbers(theirs: paper.PongCurve) -> dict[str, drawing.Cell]:
  zero = "never" if theirs.zero_step is None else f"{theirs.zero_step:,.0f}"
  return {"end": drawing.number(theirs.end), "mean": drawing.number(theirs.mean), "steps to 0": zero}
