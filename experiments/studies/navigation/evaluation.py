"""Measures a trained navigator: the best member of a sweep plays whole episodes of its maze.

The best member is the one with the highest mean return in the last tenth of its steps. Its table 1 of Mirowski et al.
2017 is written to `<sweep>/episodes.json`, and the data for figures to `episodes.npz` (`episodes_file`). A video shows
the first episode: what the agent sees beside its path on the map. A measurement that already exists for the same
checkpoint and the same number of episodes is not repeated. A new measurement without a video removes an old video.
"""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import config_dict

from environments.maze import constants, top_view
from environments.maze import world as world_lib
from experiments.report import video as video_lib
from experiments.setup import learn
from experiments.setup import sweep as sweep_lib
from experiments.store import checkpoint, network_file, run_directory, sweep_folder
from experiments.studies.navigation import episodes, episodes_file

VIDEO = "episode.mp4"
_VIDEO_STEPS = 900  # At most: one minute.
_TRAIL_STEPS = 300  # Of the path in a frame: older steps would hide newer ones.
_CELL_PX, _VIDEO_HEIGHT = 48, 400


class Best(NamedTuple):
  """The member of a sweep that is tested."""

  member: int
  late_return: float  # By which it was chosen.
  step: int  # The checkpoint's, in agent steps.
  task: learn.Task  # Trained, including heads.


def best_member(path: pathlib.Path) -> Best:
  """The best member of the sweep in `path`, at the newest checkpoint.

  Raises:
    ValueError: if the sweep has no checkpoint, or no run has finished an episode in its last tenth.
  """
  config = _config(path)
  if not checkpoint.steps(path / "checkpoints"):
    raise ValueError(f"{path} has no checkpoint; train it first")
  index, returns = sweep_folder.best(sweep_folder.run_paths(path, config.sweep.num_runs))
  task = learn.make(sweep_lib.sample(config, index), spec=network_file.read_spec(path))
  episodes.check_heads(task.agent)
  trained = sweep_folder.trained(path, index, like=task.params)
  assert trained.step is not None  # A checkpoint has one.
  return Best(index, returns[index], trained.step, task._replace(params=trained.params))


def measure(path: pathlib.Path, *, num_episodes: int, has_video: bool = False) -> episodes_file.Tested:
  """Measures the sweep in `path` unless that is done, writes and returns the result; raises as `best_member`."""
  if (tested := episodes_file.read(path)) is not None and _is_same(tested, path, num_episodes, has_video=has_video):
    return tested
  best, config = best_member(path), _config(path)
  maze = best.task.place.world
  assert isinstance(maze, world_lib.Maze)
  key = learn.make_key(config.seed, "navigation")
  is_greedy = bool(config.train.evaluation_is_greedy)
  played = episodes.play(best.task, key, num_episodes=num_episodes, is_greedy=is_greedy)
  rows, _ = maze.layout.shape
  layer = episodes.feature_layer(best.task.agent.spec)
  measures = episodes.measure(played, layer=layer, bounds=maze.return_bounds, seed=config.seed)
  about: dict[str, Any] = {
    "agent": config.agent,
    "world": config.world,
    "world_options": config.world_options.to_dict(),
  }
  about |= {"member": best.member, "late_return": best.late_return, "trained_steps": best.step, "is_greedy": is_greedy}
  about |= {"provenance": run_directory.provenance(config.seed)}
  kept = episodes_file.shown(played, measures.position)
  (path / VIDEO).unlink(missing_ok=True)  # From an earlier test: it shows another episode, and maybe another network.
  if has_video:
    scale = max(1, round(_VIDEO_HEIGHT / (_CELL_PX * rows)))
    video_lib.try_write(path / VIDEO, film(maze, played), frames_per_s=1.0 / constants.CONTROL_S, scale=scale)
  episodes_file.write(path, measures, kept, layout=maze.layout, about=about)
  tested = episodes_file.read(path)
  assert tested is not None
  return tested


def film(maze: world_lib.Maze, played: episodes.Played) -> Iterator[np.ndarray]:
  """Frames of the first episode: what the agent sees, beside the map with the path so far."""
  signals = {name: values[0] for name, values in played.signals.items()}
  for t, frame in enumerate(played.frames[:_VIDEO_STEPS]):
    above = top_view.draw_path(
      maze.layout,
      signals["position"][max(0, t - _TRAIL_STEPS) : t + 1],
      heading=float(signals["heading"][t]),
      goal=signals["goal_position"][t],
      fruit=signals["fruit"][t],
      kinds=maze.fruit_kinds,
      cell_px=_CELL_PX,
    )
    yield top_view.side_by_side(frame, above)


def _is_same(tested: episodes_file.Tested, path: pathlib.Path, num_episodes: int, *, has_video: bool) -> bool:
  """Whether a test is of the newest checkpoint, has as many episodes as asked for, and the video if asked for."""
  is_newest = tested.summary.get("trained_steps") in checkpoint.steps(path / "checkpoints")[-1:]
  has_files = not has_video or (path / VIDEO).exists()
  return is_newest and tested.summary["episodes"] == num_episodes and has_files


def _config(path: pathlib.Path) -> config_dict.ConfigDict:
  return config_dict.ConfigDict(run_directory.read_json(path / "config.json"))
