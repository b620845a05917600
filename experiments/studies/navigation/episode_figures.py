"""What a navigator represents, from episodes.npz of every tested sweep: figures 4 to 7 of Mirowski et al. 2017.

Figure 4 shows depth as heads read it from the agent's features, beside the true depth, and loop closures along a path.
Figures 5 and 6 show a path with its value and the place decoded from the features. Figure 7 shows the features in a
plane by t-SNE, coloured by the goal's place. The drawn episode was played beside those that count: nobody chose it, and
no decoder was fitted on it.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import path_plots, projection_plots
from environments.maze import constants, depth_target, top_view
from environments.maze import layout as layout_lib
from experiments.report import drawing
from experiments.studies.navigation import episodes_file, folder
from experiments.studies.navigation import figures as navigation_figures

_CELL_PX = 24
_MOST_STEPS = 450  # Of a path: 30 s; longer paths become a tangle.
_LOOP = "loop_closure"


def fig4(navigators: folder.Navigation) -> drawing.Drawn:
  """Depth and loop closures, with a picture each for every agent that has heads for them."""
  pictures: dict[str, mpl_figure.Figure] = {}
  statistics: dict[str, dict[str, drawing.Cell]] = {}
  gaps = navigators.untested
  for sweep, tested in navigation_figures.tested_sweeps(navigators):
    shown, stem = tested.shown, f"{sweep.maze}_{sweep.agent}"
    depths = {head: said for head, said in shown.said.items() if not head.startswith(_LOOP)}
    loops = [said for head, said in shown.said.items() if head.startswith(_LOOP)]
    if not shown.said:
      gaps[sweep.name] = "has no auxiliary heads"
      continue
    if depths:
      pictures[f"{stem}_depth"] = path_plots.depths(sweep.name, _moments(shown, depths))
    if loops:
      pictures[f"{stem}_loops"] = path_plots.loop_closures(
        sweep.name, maze_map(tested.layout), shown.position, shown.loop, loops[0], step_s=constants.CONTROL_S
      )
    numbers = navigation_figures.test_numbers(tested)
    statistics[sweep.name] = {name: cell for name, cell in numbers.items() if name.startswith(("loop", "depth"))}
  if not pictures:
    raise ValueError("no tested sweep has heads for depth or loop closures; test one such as nav_d1d2l")
  first, *others = pictures
  more = {name: pictures[name] for name in others}
  return drawing.Drawn(pictures[first], statistics, more_pictures=more, gaps=gaps)


def fig56(navigators: folder.Navigation) -> drawing.Drawn:
  """Paths of all tested agents, one row for each."""
  paths, statistics = [], {}
  for sweep, tested in navigation_figures.tested_sweeps(navigators):
    path = _path(sweep.name, tested)
    paths.append(path)
    right = "no decoder" if path.is_right is None else drawing.number(100.0 * float(path.is_right.mean()))
    statistics[sweep.name] = {
      "seconds shown": drawing.number(constants.CONTROL_S * (len(path.value) - 1)),
      "goals reached": drawing.number(float(path.is_goal.sum())),
      "mean value": drawing.number(float(path.value.mean())),
      "decoded right %": right,
    }
  return drawing.Drawn(path_plots.paths(paths), statistics, gaps=navigators.untested)


def fig7(navigators: folder.Navigation) -> drawing.Drawn:
  """Features of every tested agent; only of those in the I-maze, as in the paper, if any was tested there."""
  tested = navigation_figures.tested_sweeps(navigators)
  tested = [pair for pair in tested if pair[0].maze == "i_maze"] or tested
  panels, statistics = [], {}
  for sweep, one in tested:
    labels = goal_labels(one.shown.feature_goals, one.layout.shape)
    panels.append(projection_plots.Panel(sweep.name, one.shown.features.astype(np.float64), labels))
    counts: dict[str, drawing.Cell] = {name: drawing.number(labels.count(name)) for name in sorted(set(labels))}
    statistics[sweep.name] = {"layer": one.summary["position_layer"], **counts}
  return drawing.Drawn(projection_plots.maps(panels), statistics, gaps=navigators.untested, places=0)


def goal_labels(goals: np.ndarray, shape: tuple[int, int]) -> list[str]:
  """The quarter of the maze with each goal `[F, 2]` (on middle lines: south, west); the I-maze has 4 alcoves."""
  rows, columns = shape
  return [f"goal {'north' if y > rows / 2 else 'south'}-{'east' if x > columns / 2 else 'west'}" for x, y in goals]


def maze_map(layout: layout_lib.Layout) -> path_plots.Map:
  """A layout as a picture in the world's coordinates."""
  picture = top_view.draw(layout, cell_px=_CELL_PX)
  rows, columns = layout.shape
  half = 0.5 * (picture.shape[1] / _CELL_PX - columns)  # Half a wall, around the outermost lines.
  return path_plots.Map(picture, (-half, columns + half, -half, rows + half))


def _moments(shown: episodes_file.Shown, said: Mapping[str, np.ndarray]) -> path_plots.Moments:
  at = shown.frame_steps
  named = {f"read off\n{head.rpartition('_from_')[2]}": bands[at] for head, bands in said.items()}
  bands = {"depth": shown.depth[at]} | named
  return path_plots.Moments(shown.frames, constants.CONTROL_S * at, bands, depth_target.NUM_BANDS)


def _path(title: str, tested: episodes_file.Tested) -> path_plots.Path:
  shown = tested.shown
  pick = slice(0, _MOST_STEPS + 1)
  has_decoder = bool((shown.decoded >= 0).all())
  return path_plots.Path(
    title=title,
    maze=maze_map(tested.layout),
    position=shown.position[pick],
    goal=shown.goal_position,
    value=shown.value[pick],
    is_goal=np.diff(shown.goals_reached[pick], prepend=0) > 0,
    decoded=tested.layout.centre(shown.decoded[pick]) if has_decoder else None,
    is_right=(shown.decoded == shown.cell)[pick] if has_decoder else None,
    step_s=constants.CONTROL_S,
  )
