"""Pictures of what was transferred: AFS, APS and their spectra (Rusu et al. 2016, figures 5, 7, 9 and 10).

A bar is a layer. Its sections show how much of the policy's sensitivity falls on each column. Each column has the same
colour in all figures; the newest is orange. Functions take arrays and return figures; nothing is shown or written.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.axes
import matplotlib.patches
import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import layout_engine

from analysis import curves, fisher, intervals, moments, perturbation, plots

NEWEST = "#d9661f"
SOURCES = ("#1f4e9c", "#5aa0e6", "#9cc7ee", "#c9def3")  # Column 0, 1, ...
SPECTRA = ("#e0a030", "#3f9c78", "#2d5fa8", "#5b2d82")  # 2, 3, 4, 5 columns.
_INVISIBLE = 0.005  # Bars up to this height cannot be seen.
_METHODS = {"APS": "#7a5aa6", "AFS": "#2f8f5b"}


class Net(NamedTuple):
  """One network's shares."""

  title: str
  shares: Mapping[moments.Place, float]  # AFS(i, k) or APS(i, k), in [0, 1].


class Dot(NamedTuple):
  """One network in the scatter of transfer against use of the new column."""

  new_column_afs: float  # Mean over the convolutions of the newest column's share.
  score: float
  group: str  # Determines its colour: a method, a target.


def shares_by_layer(nets: Sequence[Net], *, layers: Sequence[str]) -> mpl_figure.Figure:
  """Stacked bars, one panel per net and one bar per layer, from the first column (bottom) to the newest (top).

  A layer whose shares are NaN has 'n/a' instead of a bar.

  Raises:
    ValueError: if a net lacks a layer in all columns.
  """
  width = max(1.6, 0.55 * len(layers) + 0.7)
  fig, (axes,) = plots.axes((width * len(nets) + 0.8, 3.6), 1, len(nets), sharey=True)
  for axis, net in zip(axes, nets, strict=True):
    newest = max(k for k, _ in net.shares)
    for x, layer in enumerate(layers):
      _stack(axis, x, layer, net, newest)
    _name_bars(axis, layers, net.title)
  axes[0].set_ylabel("AFS, share of column")
  lasts = {max(k for k, _ in net.shares) for net in nets}
  earlier = {_name(k, max(lasts)): _color(k, max(lasts)) for k in range(max(lasts))}
  _legend(fig, {**earlier, _name(*lasts, *lasts) if len(lasts) == 1 else "newest column": NEWEST})
  return fig


def feature_use(shares: Mapping[moments.Place, np.ndarray], *, layer: str, title: str) -> mpl_figure.Figure:
  """The share of every map or neuron in one layer's sensitivity, a panel per column (figure 5b)."""
  places = fisher.by_layer(shares).get(layer, [])
  if not places:
    raise ValueError(f"no column has a layer {layer!r}; there are {sorted(fisher.by_layer(shares))}")
  fig, (axes,) = plots.axes((3.4 * len(places) + 0.6, 3.0), 1, len(places), sharey=True)
  for axis, place in zip(axes, places, strict=True):
    values = shares[place]
    axis.bar(range(len(values)), values, color=_color(place[0], places[-1][0]), width=0.8)
    largest = float(np.max(values))
    if largest < _INVISIBLE:
      words = f"nearly dead: the largest\nshare is {largest:.1g}" if largest > 0 else "dead: the policy\nuses none"
      axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", fontsize=9, color="0.4")
    axis.set_title(_name(place[0], places[-1][0]), fontsize=10)
    axis.set_xlabel(f"feature of {layer}")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(0.0, 1.0)
  axes[0].set_ylabel("share of the layer's sensitivity")
  fig.suptitle(title, fontsize=11)
  return fig


def score_against_new_column(dots: Sequence[Dot], *, colors: Mapping[str, str]) -> mpl_figure.Figure:
  """Transfer score over the newest column's mean AFS, one dot per net (figure 7b); the line means no transfer."""
  fig, ((axis,),) = plots.axes((5.6, 4.2))
  for group in dict.fromkeys(dot.group for dot in dots):
    points = np.asarray([(dot.new_column_afs, dot.score) for dot in dots if dot.group == group])
    axis.scatter(points[:, 0], points[:, 1], s=28, color=colors[group], alpha=0.85, linewidth=0, label=group)
  axis.axhline(1.0, color="0.6", linewidth=1.0, linestyle="--", zorder=0, label="as from scratch")
  axis.set_xlim(-0.02, 1.02)
  axis.set_ylim(bottom=0.0)
  axis.set_xlabel("mean AFS of the newest column's convolutions")
  axis.set_ylabel("transfer score")
  plots.legend_below(fig, plots.handles_of([axis]), ncols=4)
  return fig


def noise_curves(
  criticals: Mapping[moments.Place, perturbation.Critical], *, clean_score: float, floor: float, layer: str
) -> mpl_figure.Figure:
  """Score over the scale of noise in each column of a layer, and where half of the score is lost (figure 9, left)."""
  places = fisher.by_layer(criticals).get(layer, [])
  if not places:
    raise ValueError(f"no column has a layer {layer!r}; there are {sorted(fisher.by_layer(criticals))}")
  fig, ((axis,),) = plots.axes((5.6, 4.0))
  half = floor + perturbation.KEPT * (clean_score - floor)
  for place in places:
    one, color = criticals[place], _color(place[0], places[-1][0])
    ends = {"inside": f"half lost at {one.scale:.2g}", "above": "never half lost", "below": "half lost at once"}
    label = f"{_name(place[0], places[-1][0])}: {ends[one.where]}"
    axis.semilogx(one.scales, one.scores, color=color, marker="o", markersize=4, label=label)
    if one.where == perturbation.INSIDE:
      axis.plot([one.scale] * 2, [floor, half], color=color, linewidth=1.0, linestyle=":")
  axis.axhline(clean_score, color="0.6", linewidth=1.0)
  axis.axhline(half, color="0.6", linewidth=1.0, linestyle="--")
  axis.set_ylim(bottom=floor)
  axis.set_xlabel(f"noise in {layer}: variance, in units of the activation's own")
  axis.set_ylabel("score")
  plots.legend_below(fig, plots.handles_of([axis]), ncols=2)
  return fig


def aps_against_afs(nets: Sequence[tuple[Net, Net]], *, layers: Sequence[str]) -> mpl_figure.Figure:
  """The newest column's share as (APS, AFS): two bars per layer ('n/a': undetermined), a panel per net (figure 9)."""
  width = max(2.0, 0.75 * len(layers) + 0.8)
  fig, (axes,) = plots.axes((width * len(nets) + 0.8, 3.4), 1, len(nets), sharey=True)
  for axis, pair in zip(axes, nets, strict=True):
    for side, (net, name) in enumerate(zip(pair, _METHODS, strict=True)):
      newest = max(k for k, _ in net.shares)
      for x, layer in enumerate(layers):
        _bar(axis, x + 0.38 * (side - 0.5), 0.0, net.shares[newest, layer], 0.36, _METHODS[name])
    _name_bars(axis, layers, pair[0].title)
  axes[0].set_ylabel("share of the newest column")
  _legend(fig, _METHODS)
  return fig


def spectra(panels: Mapping[str, Mapping[str, curves.Curve]]) -> mpl_figure.Figure:
  """Sorted AFS over the fraction of features, mean over nets and its band (figure 10): title -> label -> `spectrum`."""
  layout = layout_engine.ConstrainedLayoutEngine(wspace=0.06)  # Between the 1.0 of one axis and the 0.0 of the next.
  fig, (axes,) = plots.axes((4.6 * len(panels), 3.6), 1, len(panels), layout=layout, sharey=True)
  for axis, (title, by_label) in zip(axes, panels.items(), strict=True):
    for color, (label, curve) in zip(itertools.cycle(SPECTRA), by_label.items(), strict=False):
      axis.plot(curve.steps, curve.mean, color=color, linewidth=1.8, label=f"{label} ({len(curve.values)} nets)")
      plots.spread(axis, curve, color)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel("fraction of features, most used first")
    axis.set_xlim(0.0, 1.0)
    axis.set_ylim(0.0, 1.0)
    axis.legend(fontsize=9, frameon=False)
  axes[0].set_ylabel("AFS")
  spread = intervals.name(len(curve.values) for by_label in panels.values() for curve in by_label.values())
  if spread:
    fig.suptitle(f"lines: mean over nets; {spread}", fontsize=8, color="0.35", x=0.01, ha="left")
  return fig


def _name_bars(axis: matplotlib.axes.Axes, layers: Sequence[str], title: str) -> None:
  axis.set_xticks(range(len(layers)), labels=[layer.replace("_", "\n") for layer in layers], fontsize=9)
  axis.set_xlim(-0.6, len(layers) - 0.4)
  axis.set_ylim(0.0, 1.0)
  axis.set_title(title, fontsize=10)


def _legend(fig: mpl_figure.Figure, colors: Mapping[str, str]) -> None:
  handles = {label: matplotlib.patches.Patch(color=color) for label, color in colors.items()}
  plots.legend_below(fig, handles, ncols=len(colors))


def _stack(axis: matplotlib.axes.Axes, x: int, layer: str, net: Net, newest: int) -> None:
  columns = [k for k in range(newest + 1) if (k, layer) in net.shares]
  if not columns:
    raise ValueError(f"{net.title}: no column has a layer {layer!r}")
  bottom = 0.0
  for k in columns:
    share = net.shares[k, layer]
    _bar(axis, x, bottom, share, 0.72, _color(k, newest))
    if np.isnan(share):
      return
    if share >= 0.08:
      axis.text(x, bottom + 0.5 * share, f"{share:.2f}", ha="center", va="center", fontsize=8, color="white")
    bottom += share


def _bar(axis: matplotlib.axes.Axes, x: float, bottom: float, height: float, width: float, color: str) -> None:
  if np.isnan(height):
    axis.text(x, 0.02, "n/a", ha="center", va="bottom", fontsize=8, color="0.4")
  else:
    axis.bar(x, height, width, bottom=bottom, color=color)


def _color(k: int, newest: int) -> str:
  return NEWEST if k == newest else SOURCES[min(k, len(SOURCES) - 1)]


def _name(k: int, newest: int) -> str:
  return f"column {k} (newest)" if k == newest else f"column {k}"
