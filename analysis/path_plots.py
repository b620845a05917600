"""Pictures of one episode in a maze: its path on the map, and what the agent represented along it.

These are figures 4 to 6 of Mirowski et al. 2017. The map is given as a picture and the coordinates of its edges, in
cells, with x to the right and y up. A path is given as positions. A step longer than half a cell is a new start and is
not drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import collections as mpl_collections
from matplotlib import figure as mpl_figure

from analysis import plots

_RIGHT, _WRONG, _MISSED, _QUIET = "#2f8f5b", "#c0392b", "#d9661f", "#b5b5b5"
_LONGEST_STEP = 0.5


class Map(NamedTuple):
  """A maze from above."""

  picture: np.ndarray  # [h, w, 3] uint8
  extent: tuple[float, float, float, float]  # Left, right, bottom, top edge.


class Path(NamedTuple):
  """What one agent did and represented at N steps."""

  title: str
  maze: Map
  position: np.ndarray  # [N, 2]
  goal: np.ndarray  # [2]
  value: np.ndarray  # [N]
  is_goal: np.ndarray  # [N] bool: the goal was reached with that step.
  decoded: np.ndarray | None  # [N, 2] the middle of the decoded cell; None without a decoder.
  is_right: np.ndarray | None  # [N] bool: whether the agent is in that cell.
  step_s: float


class Moments(NamedTuple):
  """What an agent saw at K moments, and the depth that its heads read out."""

  frames: np.ndarray  # [K, H, W, 3] uint8
  seconds: np.ndarray  # [K] since the episode began
  bands: Mapping[str, np.ndarray]  # row name -> [K, h, w] int; the truth first
  num_bands: int


def paths(agents: Sequence[Path]) -> mpl_figure.Figure:
  """A row per agent: the path coloured by value, the decoded places, and the value over time with the reached goals."""
  fig, axes = plots.axes((12.0, 3.3 * len(agents)), len(agents), 3, width_ratios=(1, 1, 1.2))
  for row, one in zip(axes, agents, strict=True):
    lines = _draw_path(row[0], one.maze, one.position, values=one.value)
    fig.colorbar(lines, ax=row[0], label="value", shrink=0.8)
    row[0].set_title(one.title, fontsize=11, loc="left")
    _draw_decoded(row[1], one)
    seconds = one.step_s * np.arange(len(one.value))
    row[2].plot(seconds, one.value, color="#1f4e9c", linewidth=1.2)
    for at in seconds[one.is_goal]:
      row[2].axvline(at, color="#d9a60b", linewidth=1.0)
    row[2].set_title(f"value; {int(one.is_goal.sum())} goals reached (yellow)", fontsize=9, loc="left")
    row[2].set_xlabel("seconds")
    row[2].margins(x=0.01)
    for axis in row[:2]:
      axis.plot(*one.goal, "*", color="#d9a60b", markersize=13, markeredgecolor="black", markeredgewidth=0.6)
  return fig


def depths(title: str, moments: Moments) -> mpl_figure.Figure:
  """A column per moment: what was seen, then its true depth and the depth from each head."""
  num_rows, num_moments = 1 + len(moments.bands), len(moments.frames)
  ratios = [1.0] + [0.4] * len(moments.bands)
  size = (1.5 + 1.7 * num_moments, 0.9 + 1.7 * sum(ratios))
  fig = mpl_figure.Figure(figsize=size, layout="constrained")
  axes = fig.subplots(num_rows, num_moments, squeeze=False, gridspec_kw={"height_ratios": ratios})
  for k, frame in enumerate(moments.frames):
    axes[0, k].imshow(frame, aspect="auto")
    axes[0, k].set_title(f"{moments.seconds[k]:.1f} s", fontsize=9)
    for r, bands in enumerate(moments.bands.values(), start=1):
      image = axes[r, k].imshow(bands[k], cmap="viridis", vmin=-0.5, vmax=moments.num_bands - 0.5, aspect="auto")
  for r, name in enumerate(("seen", *moments.bands)):
    axes[r, 0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
  for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
  bar = fig.colorbar(image, ax=axes[1:].ravel().tolist(), ticks=(0, moments.num_bands - 1))
  bar.ax.set_yticklabels(("near", "far"))
  fig.suptitle(title, fontsize=11, x=0.01, ha="left")
  return fig


def loop_closures(
  title: str, maze: Map, position: np.ndarray, truth: np.ndarray, probability: np.ndarray, *, step_s: float
) -> mpl_figure.Figure:
  """The path with detected and missed loop closures and false alarms; beside it, truth and probability over time.

  `position` is `[N, 2]`, `truth` bool `[N]`, and `probability` `[N]` is the agent's probability of a loop closure.
  """
  fig, ((left, right),) = plots.axes((11.0, 4.2), 1, 2, width_ratios=(1, 1.3))
  said = probability >= 0.5
  left.set_title(title, fontsize=11, loc="left")
  _show(left, maze)
  for label, color, which in (
    ("none, none said", _QUIET, ~truth & ~said),
    ("loop closed, and said so", _RIGHT, truth & said),
    ("missed", _MISSED, truth & ~said),
    ("false alarm", _WRONG, ~truth & said),
  ):
    left.scatter(*position[which].T, s=7, color=color, linewidth=0, label=f"{label} ({int(which.sum())})", zorder=3)
  plots.legend_below(fig, plots.handles_of([left]), ncols=4)
  seconds = step_s * np.arange(len(truth))
  right.fill_between(seconds, 0.0, truth.astype(np.float64), color="0.85", step="mid", linewidth=0)
  right.plot(seconds, probability, color="#1f4e9c", linewidth=1.0)
  right.axhline(0.5, color="0.6", linestyle="--", linewidth=0.8)
  right.set_ylim(-0.02, 1.02)
  right.set_xlabel("seconds")
  right.set_title("probability of a loop closure; grey: there was one", fontsize=9, loc="left")
  right.margins(x=0.01)
  return fig


def _draw_decoded(axis: Any, one: Path) -> None:
  """Draws the path, and lines from it to every decoded place that is wrong."""
  _draw_path(axis, one.maze, one.position, values=None)
  if one.decoded is None or one.is_right is None:
    axis.set_title("no position decoder", fontsize=9, loc="left")
    return
  wrong = np.stack([one.position[~one.is_right], one.decoded[~one.is_right]], axis=1)
  axis.add_collection(mpl_collections.LineCollection(list(wrong), colors=_WRONG, linewidths=0.5, alpha=0.35))
  axis.scatter(*one.position[one.is_right].T, s=4, color=_RIGHT, linewidth=0, zorder=3)
  axis.scatter(*one.decoded[~one.is_right].T, s=6, color=_WRONG, linewidth=0, zorder=3)
  axis.set_title(f"cell decoded from features: {one.is_right.mean():.0%} right", fontsize=9, loc="left")


def _draw_path(axis: Any, maze: Map, position: np.ndarray, *, values: np.ndarray | None) -> Any:
  """Draws the map and a path on it, coloured by values if there are any."""
  _show(axis, maze)
  pieces = np.stack([position[:-1], position[1:]], axis=1)
  is_walk = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=-1) <= _LONGEST_STEP
  lines = mpl_collections.LineCollection(list(pieces[is_walk]), linewidths=1.6 if values is not None else 0.8)
  if values is None:
    lines.set_color("0.6")
  else:
    lines.set_array(np.asarray(values)[1:][is_walk])
    lines.set_cmap("viridis")
  axis.add_collection(lines)
  return lines


def _show(axis: Any, maze: Map) -> None:
  axis.imshow(maze.picture, extent=maze.extent, interpolation="nearest")
  axis.set_xticks([])
  axis.set_yticks([])
  axis.spines[:].set_visible(False)
