"""Made-up matrices on disk: every run of a cell scores the same from its first point to its last."""

import json

import numpy as np
from ml_collections import config_dict

from analysis import perturbation
from experiments.store import network_file
from experiments.studies.pnn import matrix, sensitivity, sensitivity_file
from progressive import column, layers, network

STEPS = 10_000
FLOORS = (-21.0, -20.0)


def write_plan(path, *, targets=("pong", "white", "h_flip"), source_pairs=(), own_floors=None):
  """A matrix with one source, pong. The top 2 of a cell's runs count."""
  config = config_dict.ConfigDict(
    {
      "seed": 0,
      "matrix": {
        "world": "pong/",
        "methods": ("scratch", "finetune", "random_column", "progressive"),
        "sources": ("pong",),
        "source_pairs": source_pairs,
        "targets": targets,
        "floors": FLOORS,
        "own_floors": own_floors or {},
      },
      "train": {"steps": STEPS},
      "sweep": {"top": 2, "num_runs": 3},
    }
  )
  matrix.write_plan(config, path)


def write_cell(path, name, levels, *, steps=STEPS, is_done=True, forgetting=None, num_columns=1):
  """Runs that score `levels`, with two episodes every hundred steps up to `steps`."""
  for i, level in enumerate(levels):
    run = path / name / "runs" / f"{i:02}"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "provenance.json").write_text(json.dumps({"command": name, "commit": "abc", "seed": i}))
    with (run / "metrics.jsonl").open("w") as file:
      for step in range(100, steps + 1, 100):
        record = {"step": step, "wall_s": 1.0, "kind": "train", "episodes": 2.0, "return_mean": level}
        file.write(json.dumps(record) + "\n")
  if is_done:
    (path / name / "best").mkdir(parents=True)
    network_file.write_spec(path / name / "best", spec(num_columns))
    outcome = {"scores": levels} | ({"forgetting": forgetting} if forgetting else {})
    (path / name / matrix.OUTCOME).write_text(json.dumps(outcome))


def forgetting(before, after):
  """What an outcome says about the source task."""
  evaluations = {
    when: {"return_mean": mean, "return_ci_low": mean - 1.0, "return_ci_high": mean + 1.0}
    for when, mean in (("before", before), ("after", after))
  }
  return evaluations | {"is_unchanged": before == after, "task": "pong"}


def spec(num_columns):
  """conv1 of 2 maps, conv2 of 2 maps, output."""
  chain = (
    layers.Conv("conv1", ("pixels",), features=2, kernel=2, stride=1),
    layers.Conv("conv2", ("conv1",), features=2, kernel=2, stride=1),
    layers.Dense("output", ("conv2",), 4, activation=None, laterals="linear"),
  )
  return network.Network((column.Column((("pixels", (4, 4, 1)),), chain),) * num_columns)


def write_sensitivity(path, name, diagonals, *, criticals=None, fault=""):
  """`diagonals`: (column, layer) -> Fisher diagonal; `criticals`: (column, layer) -> scores at scales 1, 10, 100."""
  aps = None
  if criticals:
    found = {
      place: perturbation.of_scores((1.0, 10.0, 100.0), scores, clean_score=19.0, floor=-21.0)
      for place, scores in criticals.items()
    }
    aps = sensitivity.Aps(10, 19.0, -21.0, found)
  diagonals = {place: np.asarray(values) for place, values in diagonals.items()}
  aps_fault = sensitivity_file.Fault(10, -21.0, fault) if fault else None
  sensitivity_file.write(path / name, sensitivity_file.Sensitivity(128, 20, diagonals, aps, aps_fault), about={})
