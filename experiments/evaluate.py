"""Plays a trained network for whole episodes, prints its mean return, and releases it if asked to.

    python -m experiments.evaluate --source=runs/column --episodes=1000 --video=runs/column/evaluation.mp4
    python -m experiments.evaluate --source=runs/column --episodes=1000 --release=experiments/released/jaco_corl2017

The world is the one in which the run was trained, unless `--target` names another (or `arm://host:port`, or a game of
the emulator: `--target=atari/pong --option=num_actions=3`). `--columns=1` plays the first column of a progressive
network, as it was before others were added.
"""

import json
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from analysis import intervals
from environments.arm import protocol
from experiments import binary
from experiments.report import video as video_lib
from experiments.running import play
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.store import released, run_directory
from progressive import partition

READS = (binary.SOURCE, binary.EPISODES, binary.GREEDY, binary.SEED, binary.VIDEO)  # Flags that other modules define.

_TARGET = flags.DEFINE_string("target", "", "World or arm://host:port; by default the world of its training.")
_COLUMNS = flags.DEFINE_integer(
  "columns", None, "Play only this many first columns of a progressive network, as before it grew; by default all."
)
_OPTIONS = flags.DEFINE_multi_string("option", [], "Option of the world as name=value, a JSON value; may be repeated.")
_RELEASE = flags.DEFINE(
  binary.PATH, "release", "", "Write the network, its evaluation and its provenance to this folder."
)


def player(
  source: released.Source, folder: pathlib.Path, world: str, options: dict[str, Any], *, seed: int
) -> learn.Task:
  """`learn.player`, whose ValueError says what to add if options of the network's training would make the world fit."""

  def fits(options: Mapping[str, Any]) -> bool:
    try:
      learn.player(source, world, options, seed=seed).place.close()
    except ValueError:
      return False
    return True

  try:
    return learn.player(source, world, options, seed=seed)
  except ValueError as error:
    try:
      hint = options_that_fit(fits, options, released.trained_in(folder)[1])
    except ValueError:  # The folder does not say how it was trained.
      hint = ""
    except protocol.BridgeError as refusal:  # A served arm has its server's options.
      raise ValueError(f"{error}; as it was trained, {refusal}") from None
    raise ValueError(f"{error}; add {hint}" if hint else str(error)) from None


def options_that_fit(fits: Callable[[Mapping[str, Any]], bool], given: Mapping[str, Any], trained: Any) -> str:
  """What to add to a command whose world the network does not fit; '' if no option of its training would help.

  `given` are the command's options, `trained` those of the world that the network was trained in.
  """
  own = {name: value for name, value in trained.items() if given.get(name) != value}
  for name, value in own.items():
    if fits({**given, name: value}):
      return _option(name, value)
  return " ".join(_option(name, value) for name, value in own.items()) if fits({**given, **own}) else ""


def _option(name: str, value: Any) -> str:
  """An option as written in a shell, for `options_of`."""
  return "--option=" + shlex.quote(f"{name}={json.dumps(value)}")


def options_of(pairs: Sequence[str]) -> dict[str, Any]:
  """`name=value` pairs as options of a world; a value that begins with a letter and is not JSON is taken as a word.

  Raises:
    ValueError: for a word that is not such a pair.
  """
  options = {}
  for pair in pairs:
    name, _, value = pair.partition("=")
    try:
      options[name] = json.loads(value)
    except json.JSONDecodeError:
      if re.fullmatch(r"[A-Za-z][\w:./-]*", value):  # A word, which as JSON would need nested quotes in a shell.
        options[name] = value
        continue
      raise ValueError(
        f"--option={pair} is not name=value with a word or a JSON value, such as num_actions=3"
      ) from None
  return options


def main() -> None:
  """Entry point."""
  if not binary.SOURCE.value:
    raise ValueError("--source is missing; give a run directory or a released network")
  folder = run_directory.present(binary.SOURCE.value)
  source = released.load_source(folder)
  if _RELEASE.value:
    released.refuse_folder(_RELEASE.value)
  if _COLUMNS.value is not None:
    if _RELEASE.value:
      raise ValueError("--columns cannot be released: release the run that learned them; leave one of both flags out")
    source = source.first(_COLUMNS.value)
  try:
    world, options = (_TARGET.value, {}) if _TARGET.value else released.trained_in(folder)
  except ValueError as error:
    raise ValueError(f"{error}; give --target") from error
  options = {**options, **options_of(_OPTIONS.value)}
  task = player(source, folder, world, options, seed=binary.SEED.value)
  if binary.VIDEO.value and "pixels" not in task.place.world.observation_spec():
    raise ValueError(f"--video={binary.VIDEO.value}: {world} shows this network no pixels to film; leave --video out")
  trainable, frozen = partition.split(task.params, task.is_trainable)
  key = learn.make_key(binary.SEED.value, "evaluation")
  played = play.play(
    task,
    trainable,
    frozen,
    key,
    num_episodes=binary.EPISODES.value,
    is_greedy=binary.GREEDY.value,
    has_film=bool(binary.VIDEO.value),
    on_end=lambda episode, episode_return: print(f"episode {episode + 1}: {episode_return:g}", flush=True),
  )
  result = play.summarise(task.place, played.episodes)
  low, high = result.get("return_ci_low"), result.get("return_ci_high")
  mean = intervals.words(result["return_mean"], low, high, places=2)
  print(f"{folder} in {world}: mean return {mean} over {binary.EPISODES.value} episodes")
  if _RELEASE.value:
    release(source, folder, world, options, result)
  if binary.VIDEO.value and played.frames:  # Last, since it may fail.
    rate = place_lib.frames_per_s(task.place)
    video_lib.write(pathlib.Path(binary.VIDEO.value), played.frames, frames_per_s=rate, captions=played.captions)


def _unknown_commits(runs: Sequence[dict[str, Any]]) -> list[str]:
  """Of the commits of runs, and of the starts that resumed them, those that nobody can check out."""
  commits = dict.fromkeys(run["commit"] for about in runs for run in (about, *about.get("resumed", [])))
  return [commit for commit in commits if commit == "unknown" or commit.endswith("+changes")]


def release(
  source: released.Source, folder: pathlib.Path, world: str, options: dict[str, Any], result: dict[str, float]
) -> None:
  """Writes the released folder, including the provenance of the training."""
  now = run_directory.provenance(binary.SEED.value)
  before, since = released.lineage_since_release(folder, steps=source.step)
  runs = [*before, *since]
  unknown = _unknown_commits((*since, now))
  if unknown:  # For earlier runs it was said when their network was released.
    print(
      f"warning: no commit holds the code of this release ({', '.join(unknown)}); nobody else can repeat it",
      file=sys.stderr,
    )
  evaluation = {
    "mean_return": result["return_mean"],
    "return_ci_low": result.get("return_ci_low"),
    "return_ci_high": result.get("return_ci_high"),
    "episodes": int(result["episodes"]),
    "length_mean": result["length_mean"],
    "is_greedy": binary.GREEDY.value,
    "world": world,
    "world_options": options,
    "steps_trained": None if any(run["steps"] is None for run in runs) else sum(run["steps"] for run in runs),
    "command": now["command"],
    "commit": now["commit"],
    "is_repeatable": not _unknown_commits((*runs, now)),
  }
  provenance = {"training": runs, "evaluation": now, **source.about()}
  released.save(_RELEASE.value, source.spec, source.params, evaluation=evaluation, provenance=provenance)
  print(f"released as {_RELEASE.value}")


if __name__ == "__main__":
  binary.run(main, reads=READS)
