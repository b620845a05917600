"""The results of a navigator's test episodes, as files beside its sweep: episodes.json and episodes.npz.

The first holds table 1 for the sweep's best member and how it was measured, for people and for tables; missing values
are null. The second holds the one shown episode step by step, the frames of a few moments, and features of the other
episodes with the place of their goal. This is enough to draw figures 4 to 7 without the network, in a few hundred kB.
"""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from analysis import decoding, intervals
from environments.maze import layout as layout_lib
from experiments.store import run_directory
from experiments.studies.navigation import episodes

NAME, ARRAYS = "episodes.json", "episodes.npz"
NUM_FRAMES = 6
NUM_FEATURES = 400  # Number of steps whose features are kept, spread evenly over all episodes.
_SUMMARY = ("episodes", "score", "goal_percent", "first_s", "later_s", "position_percent", "loop_closure", "depth")
_SAID = "said/"  # Prefix of the arrays that hold the heads' outputs in the shown episode.


class Shown(NamedTuple):
  """One episode of T steps, on which no decoder was fitted, and F features of others. Time 0 is its start."""

  position: np.ndarray  # [T + 1, 2] x and y, cells
  cell: np.ndarray  # [T + 1] int16
  decoded: np.ndarray  # [T + 1] int16 the position decoder's most likely cell; -1 if none was fitted.
  value: np.ndarray  # [T + 1] float32
  reward: np.ndarray  # [T + 1] float32
  goals_reached: np.ndarray  # [T + 1] int16
  goal_position: np.ndarray  # [2]
  loop: np.ndarray  # [T + 1] bool
  depth: np.ndarray  # [T + 1, 4, 16] int8 bands
  frame_steps: np.ndarray  # [K] int32
  frames: np.ndarray  # [K, 84, 84, 3] uint8
  features: np.ndarray  # [F, D] float16
  feature_goals: np.ndarray  # [F, 2] float32: the goal's place in their episode.
  said: Mapping[str, np.ndarray]  # head -> [T + 1, ...]: see `episodes.Played`.


class Tested(NamedTuple):
  """A sweep's best member, tested."""

  summary: Mapping[str, Any]  # episodes.json
  layout: layout_lib.Layout
  shown: Shown

  @property
  def score(self) -> intervals.Interval:
    """Mean return and its 95 % interval."""
    score = self.summary["score"]
    return intervals.Interval(*(np.asarray(score[name], np.float64) for name in ("mean", "low", "high")))


def summary(measures: episodes.Measures) -> dict[str, Any]:
  """Table 1 as plain JSON values."""
  score = measures.score
  latency, position, loop = measures.latency, measures.position, measures.loop
  return {
    "episodes": len(measures.scores),
    "score": {name: run_directory.finite(x) for name, x in zip(score._fields, score, strict=True)},
    "goal_percent": latency.goal_percent,
    "first_s": run_directory.finite(latency.first_s),
    "later_s": run_directory.finite(latency.later_s),
    "goals": latency.num_goals,
    "position_layer": measures.layer,
    "position_percent": None if position is None else 100.0 * position.accuracy,
    "position_majority_percent": None if position is None else 100.0 * position.majority,
    "loop_percent": measures.loop_percent,
    "loop_closure": None if loop is None else {name: run_directory.finite(x) for name, x in loop._asdict().items()},
    "depth": {
      name: {"accuracy_percent": 100.0 * one.accuracy, "prior_percent": 100.0 * one.prior}
      for name, one in measures.depth.items()
    },
    "scores": [float(x) for x in measures.scores],
  }


def shown(played: episodes.Played, position: decoding.Decoding | None) -> Shown:
  """What is kept from the first episode, and features from the others."""
  first = played.part(slice(0, 1))
  signals = {name: values[0] for name, values in first.signals.items()}
  num_times = len(signals["cell"])
  frame_steps = np.linspace(0, num_times - 1, NUM_FRAMES + 2).astype(np.int32)[1:-1]
  others = played.part(slice(1, None))
  size = others.features.shape[-1]
  goals = others.signals["goal_position"].reshape(-1, 2)
  kept = np.unique(np.linspace(0, len(goals) - 1, NUM_FEATURES).astype(int))
  decoded = np.full(num_times, -1)
  if position is not None:
    decoded = position.decoder.predict(first.features[0].astype(np.float64))
  return Shown(
    position=signals["position"],
    cell=signals["cell"].astype(np.int16),
    decoded=decoded.astype(np.int16),
    value=first.value[0],
    reward=first.reward[0],
    goals_reached=signals["goals_reached"].astype(np.int16),
    goal_position=signals["goal_position"][0],
    loop=signals["loop_closure"].astype(bool),
    depth=signals["depth"].astype(np.int8),
    frame_steps=frame_steps,
    frames=played.frames[frame_steps],
    features=others.features.reshape(-1, size)[kept].astype(np.float16),
    feature_goals=goals[kept],
    said={name: values[0] for name, values in first.said.items()},
  )


def write(
  folder: pathlib.Path,
  measures: episodes.Measures,
  kept: Shown,
  *,
  layout: layout_lib.Layout,
  about: Mapping[str, Any],
) -> None:
  """Writes both files, the summary last; `about`: anything else for a reader, including provenance."""
  arrays: dict[str, Any] = {name: value for name, value in kept._asdict().items() if name != "said"}
  arrays |= {_SAID + name: value for name, value in kept.said.items()}
  temporary = folder / f"unfinished_{ARRAYS}"
  np.savez_compressed(temporary, **arrays)
  temporary.replace(folder / ARRAYS)
  maze = {"layout": layout.name, "layout_text": layout.text}
  run_directory.write_json(folder / NAME, {**about, **summary(measures), **maze})


def read(folder: pathlib.Path) -> Tested | None:
  """The contents of the two files in `folder`; None if there are none.

  Raises:
    ValueError: if they are not as `write` writes them.
  """
  file = folder / NAME
  if not file.exists():
    return None
  try:
    saved = run_directory.read_json(file)
    layout = layout_lib.parse(saved["layout_text"], name=saved["layout"])
    missing = [name for name in ("agent", "world", *_SUMMARY) if name not in saved]
    if missing:
      raise ValueError(f"it has no {missing[0]!r}")
    with np.load(folder / ARRAYS) as arrays:
      said = {name.removeprefix(_SAID): arrays[name] for name in arrays if name.startswith(_SAID)}
      kept = Shown(**{name: arrays[name] for name in Shown._fields if name != "said"}, said=said)
  except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"{file} cannot be read ({error}); remove it and run experiments.navigate again") from None
  return Tested(saved, layout, kept)
