"""Made-up navigators on disk: sweeps whose runs learn along a straight line, and test episodes of known numbers."""

import json

import numpy as np

from environments.maze import layout as layout_lib
from experiments.configs import jaco_auxiliary, navigation
from experiments.store import run_directory
from experiments.studies.navigation import episodes, episodes_file

STEPS = 10_000  # Agent steps: 40,000 of the environment's.
LAYOUT = layout_lib.load("static_small")
NUM_EPISODES, NUM_STEPS = 5, 60
HEADS = ("depth_from_lstm2", "loop_closure_from_lstm2")


def write_sweep(path, agent, maze, lines, *, name=None, top=2, num_runs=None, options=None, steps=STEPS, until=STEPS):
  """Writes one run for each of `lines`, whose score rises evenly from its first to its second number.

  Two episodes end every 100 steps. The column, heads and clip are those of `agent`. `name` is what the agent is called,
  by default `agent`. `num_runs` is the config's number, by default the number of runs. `options` are the world's.
  """
  path.mkdir(parents=True)
  config = jaco_auxiliary.get_config(agent) if "/" in maze else navigation.get_config(f"smoke,{agent},{maze}")
  value = config.to_dict() | {"agent": name or agent, "world_options": options or {}}
  value |= {"sweep": {"top": top, "num_runs": num_runs or len(lines)}}
  value["train"]["steps"] = steps
  run_directory.write_json(path / "config.json", value)
  for i, (first, last) in enumerate(lines):
    run = path / "runs" / f"{i:02}"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"agent": agent}))
    (run / "provenance.json").write_text(json.dumps({"command": agent, "commit": "abc", "seed": i}))
    with (run / "metrics.jsonl").open("w") as file:
      for step in range(100, until + 1, 100):
        level = first + (last - first) * step / steps
        record = {"step": step, "wall_s": 1.0, "kind": "train", "episodes": 2.0, "return_mean": level}
        file.write(json.dumps(record) + "\n")
  return path


def played(*, heads=HEADS, num_steps=NUM_STEPS):
  """A shown episode and `NUM_EPISODES` that count.

  Episode n returns n: 1 at each of its steps 1 to n. The agent alternates between two cells, 0 and 1, a step in each.
  Its first feature is the cell. Goals are reached at steps 15 and 30 of all episodes except the last. Every 4th step
  closes a loop; the head says so there and at the step after it. Depth is band 3 everywhere except in the upper row of
  places, where it is band 0 in every other step. The head always says band 3.
  """
  times = np.arange(num_steps + 1)
  num = NUM_EPISODES + 1
  every = (num, num_steps + 1)
  cell = np.broadcast_to(times % 2, every)
  reward = np.stack([((times >= 1) & (times <= n)).astype(np.float32) for n in range(num)])
  goals = np.tile((times >= 15).astype(np.int32) + (times >= 30), (num, 1))
  goals[-1] = 0
  depth = np.full((*every, 4, 16), 3, np.int32)
  depth[:, 1::2, 0] = 0
  noise = np.random.default_rng(0).normal(size=(*every, 2)).astype(np.float32)
  goal = np.where(np.arange(num)[:, None] % 2, (0.5, 0.5), (4.5, 2.5)).astype(np.float32)
  signals = {
    "position": np.stack([0.4 + 0.2 * cell, np.full(every, 0.5)], axis=-1).astype(np.float32),
    "heading": np.zeros(every, np.float32),
    "cell": cell.astype(np.int32),
    "goal_position": np.broadcast_to(goal[:, None], (*every, 2)),
    "goals_reached": goals,
    "fruit": np.zeros((*every, 1, 3), np.float32),
    "depth": depth,
    "loop_closure": np.broadcast_to((times % 4 == 0).astype(np.int32), every),
  }
  said = {}
  for head in heads:
    loops = np.where((times % 4 == 0) | (times % 4 == 1), 0.9, 0.1)
    said[head] = np.full((*every, 4, 16), 3, np.int8) if head.startswith("depth") else np.broadcast_to(loops, every)
  features = np.concatenate([cell[..., None], noise], axis=-1).astype(np.float32)
  frames = np.random.default_rng(1).integers(0, 256, (num_steps + 1, 84, 84, 3), np.uint8)
  return episodes.Played(reward, reward * 2.0, features, signals, said, frames)


def write_test(path, agent, maze, **options):
  """Writes the files of a sweep's test, from `played`."""
  all_played = played(**options)
  measures = episodes.measure(all_played, layer="lstm2", bounds=(0.0, np.inf))
  kept = episodes_file.shown(all_played, measures.position)
  about = {"agent": agent, "world": maze if "/" in maze else f"maze/{maze}", "provenance": {}}
  episodes_file.write(path, measures, kept, layout=LAYOUT, about=about)
