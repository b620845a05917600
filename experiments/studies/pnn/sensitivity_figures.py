"""What was transferred: figures 5, 7, 9 and 10 of Rusu et al. 2016, from the `sensitivity.json` files of a matrix.

`experiments.analyse` writes those files. A cell that is not done, or done but not analysed, is named as missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis import curves, fisher, intervals, moments, perturbation, sensitivity_plots, spectra, transfer_matrix
from experiments.report import drawing
from experiments.studies.pnn import figures as pnn_figures
from experiments.studies.pnn import matrix as matrix_lib
from experiments.studies.pnn import matrix_folder, sensitivity, sensitivity_file
from progressive import column, network

# (source, target) in the paper's figure 5, and in its text about conv1, conv2 and the dense layer.
_PAPER_PAIRS = (("pong", "h_flip"), ("pong", "zoom"), ("pong", "noisy"), ("noisy", "pong"))
_MOST_NETS = 6  # In a row of panels.


class _Net(NamedTuple):
  """The best network of a cell, analysed."""

  cell: matrix_lib.Cell
  row: transfer_matrix.Row
  spec: network.Network
  sensitivity: sensitivity_file.Sensitivity

  @property
  def title(self) -> str:
    return f"{' + '.join(self.cell.sources) or 'random'} → {self.cell.target}"

  @property
  def newest(self) -> int:
    return len(self.spec.columns) - 1

  @property
  def layers(self) -> list[str]:
    """The layers of its newest column that have `sensitivity.features`, from the lowest up."""
    places = sensitivity.features(self.spec)
    return [layer.name for layer in self.spec.columns[-1].layers if (self.newest, layer.name) in places]

  @property
  def afs(self) -> dict[moments.Place, float]:
    return fisher.per_column(self.sensitivity.diagonals)

  @property
  def aps(self) -> dict[moments.Place, float]:
    assert self.sensitivity.aps is not None
    return perturbation.shares(self.sensitivity.aps.criticals)

  @property
  def fault(self) -> str:
    """Why it has no APS; '' if it has APS, or if APS was not measured."""
    return self.sensitivity.aps_fault.why if self.sensitivity.aps_fault else ""


def fig5(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """AFS of every layer and column, and the features of the first layer on which the policy depends."""
  nets, gaps = _analysed(matrix)
  shown = _shown(nets)
  first, *_ = layers = shown[0].layers
  bars = [sensitivity_plots.Net(net.title, net.afs) for net in shown]
  uses = {
    f"{first}_{net.cell.name}": sensitivity_plots.feature_use(_shares_of_layer(net), layer=first, title=net.title)
    for net in shown
  }
  return drawing.Drawn(
    sensitivity_plots.shares_by_layer(bars, layers=layers),
    _share_table(nets, "share"),
    more_pictures=uses,
    more_tables={"sum_reading": _share_table(nets, "sum"), "features_used": _used_table(nets)},
    gaps=gaps | _unshown(nets),
    places=2,
  )


def fig7a(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """AFS of every layer and column in the progressive networks with the best and the worst transfer."""
  nets, gaps = _analysed(matrix)
  scored = pnn_figures.scores(matrix, pnn_figures.definition(matrix))
  by_score: dict[float, _Net] = {}
  for net in nets:
    if net.cell.method == "progressive" and net.cell.target in scored.targets:
      score = float(scored.values[scored.rows.index(net.row), scored.targets.index(net.cell.target)])
      by_score |= {} if np.isnan(score) else {score: net}
  if not by_score:
    raise ValueError(f"{matrix.path}: no progressive cell that was analysed has a transfer score; pnn_fig4a says why")
  ends = dict.fromkeys((max(by_score), min(by_score)))
  bars = [sensitivity_plots.Net(f"{by_score[score].title}\nscore {score:.2f}", by_score[score].afs) for score in ends]
  layers = by_score[max(by_score)].layers
  picture = sensitivity_plots.shares_by_layer(bars, layers=layers)
  table = _share_table([by_score[score] for score in ends], "share")
  return drawing.Drawn(picture, table, gaps=gaps, places=2)


def fig7b(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """Transfer score over the use of the newest column's own convolutions."""
  nets, gaps = _analysed(matrix)
  scored = pnn_figures.scores(matrix, pnn_figures.definition(matrix))
  dots = []
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for net in nets:
    if net.cell.target not in scored.targets:
      continue
    at = scored.rows.index(net.row), scored.targets.index(net.cell.target)
    if np.isnan(scored.values[at]):
      gaps[net.cell.name] = f"no score: {scored.notes[at]}"
      continue
    own = float(np.mean([net.afs[net.newest, layer] for layer in _convolutions(net)]))
    if np.isnan(own):
      gaps[net.cell.name] = "no convolution matters in any column"
      continue
    dots.append(sensitivity_plots.Dot(own, float(scored.values[at]), net.row.method))
    statistics[net.cell.name] = {
      "AFS of the newest column's convolutions": drawing.number(own),
      "transfer score": intervals.Interval(scored.values[at], scored.low[at], scored.high[at]),
    }
  if not dots:
    raise ValueError(f"{matrix.path}: no cell that was analysed has a transfer score; pnn_fig4a says why")
  colors = {method: pnn_figures.color(method) for method in (*pnn_figures.COLORS, *(dot.group for dot in dots))}
  picture = sensitivity_plots.score_against_new_column(dots, colors=colors)
  return drawing.Drawn(picture, statistics, gaps=gaps, places=2)


def fig9(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """APS against AFS of the newest column, and the score under noise in each column of the second layer."""
  analysed, gaps = _analysed(matrix)
  nets = [net for net in analysed if net.sensitivity.aps is not None]
  lacking = [net for net in analysed if net.sensitivity.aps is None]
  gaps |= {net.cell.name: f"no APS: {net.fault or 'not measured'}" for net in lacking}
  if not nets:
    raise ValueError(f"{matrix.path}: no cell has APS; run python -m experiments.analyse --runs={matrix.path} --aps")
  shown = _shown(nets)
  layers = shown[0].layers
  pairs = [(sensitivity_plots.Net(net.title, net.aps), sensitivity_plots.Net(net.title, net.afs)) for net in shown]
  return drawing.Drawn(
    sensitivity_plots.aps_against_afs(pairs, layers=layers),
    _agreement_table(nets),
    more_pictures={f"noise_{net.cell.name}": _noise_curves(net, _second(layers)) for net in shown},
    gaps=gaps | _unshown(nets),
    places=2,
  )


def fig10(matrix: matrix_folder.Matrix) -> drawing.Drawn:
  """AFS spectra of the second layer by number of columns, for the source columns and for the newest."""
  analysed, gaps = _analysed(matrix)
  nets = [net for net in analysed if net.cell.method == "progressive"]
  if not nets:
    raise ValueError(f"{matrix.path}: no progressive cell was analysed; run experiments.analyse on one")
  layer = _second(nets[0].layers)
  panels: dict[str, dict[str, curves.Curve]] = {"source columns": {}, "newest column": {}}
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  for num_columns in sorted({len(net.spec.columns) for net in nets}):
    of_size = [fisher.per_feature(n.sensitivity.diagonals) for n in nets if len(n.spec.columns) == num_columns]
    for title, values_of in zip(panels, (spectra.source_values, spectra.newest_values), strict=True):
      values = [values_of(afs, layer) for afs in of_size]
      panels[title][f"{num_columns} columns"] = spectra.spectrum(values)
      statistics[f"{num_columns} columns, {title}"] = {
        "area": np.asarray([one.mean() for one in values]),
        "fraction of features used": np.asarray([spectra.used_fraction(one) for one in values]),
      }
  picture = sensitivity_plots.spectra({f"{title}, {layer}": lines for title, lines in panels.items()})
  return drawing.Drawn(picture, statistics, gaps=gaps, places=2, bounds=drawing.Bounds(0.0, 1.0))


def _analysed(matrix: matrix_folder.Matrix) -> tuple[list[_Net], dict[str, str]]:
  """The analysed networks of several columns (ValueError if there is none), and the other cells: name -> why."""
  nets = []
  gaps: dict[str, str] = {}
  for cell, result in matrix.results.items():
    if cell.method not in matrix_lib.MANY_COLUMNS:
      continue
    if result.sensitivity is None or result.spec is None:
      gaps[cell.name] = result.gap or "not analysed"
    else:
      nets.append(_Net(cell, matrix_folder.row_of(cell), result.spec, _of_features(result.sensitivity, result.spec)))
  if not nets:
    raise ValueError(f"{matrix.path}: no cell was analysed; run python -m experiments.analyse --runs={matrix.path}")
  return nets, gaps


def _of_features(measured: sensitivity_file.Sensitivity, spec: network.Network) -> sensitivity_file.Sensitivity:
  """The measurements of the features; earlier versions measured more than these."""
  places, aps = sensitivity.features(spec), measured.aps
  return measured._replace(
    diagonals={place: measured.diagonals[place] for place in places},
    aps=aps and aps._replace(criticals={place: aps.criticals[place] for place in places}),
  )


def _shown(nets: Sequence[_Net]) -> list[_Net]:
  """The networks that fit into a row of panels: the paper's pairs first, then other progressive networks."""

  def rank(net: _Net) -> int:
    pairs = list(_PAPER_PAIRS)
    pair = (*net.cell.sources, net.cell.target)
    return pairs.index(pair) if pair in pairs else len(pairs) + (net.cell.method != "progressive")

  return sorted(nets, key=rank)[:_MOST_NETS]


def _unshown(nets: Sequence[_Net]) -> dict[str, str]:
  return {"pictures": f"of {_MOST_NETS} networks; tables have all {len(nets)}"} if len(nets) > _MOST_NETS else {}


def _second(layers: Sequence[str]) -> str:
  """The layer of the paper's figures 9 and 10, conv2; if there is only one layer, that one."""
  return layers[min(1, len(layers) - 1)]


def _convolutions(net: _Net) -> list[str]:
  """The convolutions of its newest column; all layers if it has none."""
  maps = [name for name in net.layers if len(column.shapes(net.spec.columns[-1])[name]) == 3]
  return maps or net.layers


def _noise_curves(net: _Net, layer: str) -> sensitivity_plots.mpl_figure.Figure:
  aps = net.sensitivity.aps
  assert aps is not None
  picture = sensitivity_plots.noise_curves(aps.criticals, clean_score=aps.clean_score, floor=aps.floor, layer=layer)
  picture.axes[0].set_title(net.title, fontsize=11, loc="left")
  return picture


def _shares_of_layer(net: _Net) -> dict[moments.Place, np.ndarray]:
  """Each feature's share of the total sensitivity of its layer over all columns; 0 if no feature matters."""
  diagonals = net.sensitivity.diagonals
  shares: dict[moments.Place, np.ndarray] = {}
  for places in fisher.by_layer(diagonals).values():
    total = sum(float(diagonals[place].sum()) for place in places)
    shares |= {place: diagonals[place] / (total or 1.0) for place in places}
  return shares


def _share_table(nets: Sequence[_Net], reading: str) -> dict[str, dict[str, drawing.Cell]]:
  table: dict[str, dict[str, drawing.Cell]] = {}
  for net in nets:
    shares = fisher.per_column(net.sensitivity.diagonals, reading)
    table[net.title] = {f"{layer}, column {k}": drawing.number(shares[k, layer]) for k, layer in sorted(shares)}
  return table


def _used_table(nets: Sequence[_Net]) -> dict[str, dict[str, drawing.Cell]]:
  """How many features of each representation carry its sensitivity, and how many there are."""

  def words(diagonal: np.ndarray) -> str:
    share = spectra.used_fraction(diagonal)
    return "none" if np.isnan(share) else f"{share * len(diagonal):.1f} of {len(diagonal)}"

  return {
    net.title: {
      f"{layer}, column {k}": words(values) for (k, layer), values in sorted(net.sensitivity.diagonals.items())
    }
    for net in nets
  }


def _agreement_table(nets: Sequence[_Net]) -> dict[str, dict[str, drawing.Cell]]:
  """Both shares of the newest column in every layer, and their mean difference over layers with a determined APS."""
  table: dict[str, dict[str, drawing.Cell]] = {}
  for net in nets:
    row: dict[str, drawing.Cell] = {}
    apart = []
    for layer in net.layers:
      aps, afs = net.aps[net.newest, layer], net.afs[net.newest, layer]
      row |= {f"{layer}, APS": drawing.number(aps), f"{layer}, AFS": drawing.number(afs)}
      apart += [] if np.isnan(aps) else [abs(aps - afs)]
    row["mean difference"] = drawing.number(float(np.mean(apart)) if apart else np.nan)
    assert net.sensitivity.aps is not None
    row["score without noise"] = drawing.number(net.sensitivity.aps.clean_score)
    row["outside of the grid"] = "; ".join(perturbation.describe(net.sensitivity.aps.criticals)) or "none"
    table[net.title] = row
  return table
