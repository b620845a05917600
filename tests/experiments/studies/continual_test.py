"""The measures of made-up runs by hand, and the whole chain on a game, from the plan's first job to the figure."""

import json

import numpy as np
import pytest

from analysis import records
from experiments import launch
from experiments.configs import continual as config_lib
from experiments.report import drawing
from experiments.running import run
from experiments.studies import continual, figures
from progressive import network

EARLY, LATE, HALF = [10.0] * 100, [0.0] * 50 + [10.0] * 50, [0.0, 10.0] * 50
AREAS = {"early": 1.0, "late": 0.495}  # The late curve rises to 1 over one of 100 bins.


def make(folder, method, mode, returns, *, seed=0, steps=1000):
  """A run whose episodes end every 10 steps, with these returns."""
  path = folder / f"{method}_{mode}_{seed}"
  path.mkdir()
  learns, laterals = config_lib.METHODS[method]
  train = {"steps": steps, "column": {"laterals": laterals}}
  config = {"world": "atari/freeway", "world_options": {"mode": mode}, "method": learns, "seed": seed, "train": train}
  (path / "config.json").write_text(json.dumps(config))
  (path / "provenance.json").write_text("{}")
  lines = [
    json.dumps({"step": 10 * i, "wall_s": float(i), "kind": "episode", "return": value})
    for i, value in enumerate(returns, start=1)
  ]
  (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
  return records.read(path)


def learned(folder, seed=0):
  """Two modes. `corrected` and `finetune` learn the second at once, `published` as late as `scratch`."""
  runs = [make(folder, "scratch", mode, LATE, seed=seed) for mode in (0, 1)]
  runs += [make(folder, method, 1, EARLY, seed=seed) for method in ("corrected", "finetune")]
  return [*runs, make(folder, "published", 1, LATE, seed=seed), make(folder, "retained", 0, HALF, seed=seed)]


def test_both_measures_by_method(tmp_path):
  drawn = figures.make("continual", learned(tmp_path))
  gained = (AREAS["early"] - AREAS["late"]) / (1 - AREAS["late"])  # In the second task; it is 0 in the first.
  expected = {
    "scratch": (1.0, 0.0),
    "as published": (1.0, 0.0),
    "corrected": (1.0, gained / 2),
    "finetune": (0.75, gained / 2),  # In the end every other episode of the first task succeeds.
  }
  for method, (performance, transfer) in expected.items():
    cells = drawn.statistics[f"freeway: {method}"]
    np.testing.assert_allclose([*cells["average performance"], *cells["forward transfer"]], [performance, transfer])
  change = drawn.more_tables["changes"]["freeway: corrected less as published"]
  cells = [*change["more average performance"], *change["more forward transfer"]]
  np.testing.assert_allclose(cells, [0.0, gained / 2])
  task = drawn.more_tables["tasks"]["freeway, mode 1: corrected"]
  assert float(task["score to reach"].mean) == 10.0
  np.testing.assert_allclose([*task["area"], *task["success in the end"]], [AREAS["early"], 1.0])
  kept = drawn.more_tables["tasks"]["freeway, mode 0: scratch"]["success after the last task, finetuned"]
  np.testing.assert_allclose(kept, 0.5)
  assert drawn.statistics["freeway: with adapters"]["forward transfer"] == "lacks mode 1"
  assert drawn.gaps == {"freeway, mode 1, with adapters": "not run"}
  lines = [{line.get_label() for line in axis.lines} for axis in drawn.picture.axes]
  assert [len(labels & set(continual.COLORS)) for labels in lines] == [1, 4]


def test_seeds_are_measured_each_against_its_own_scratch(tmp_path):
  runs = [*learned(tmp_path), *learned(tmp_path, seed=1)]
  runs[runs.index(next(one for one in runs if one.path.name == "scratch_1_1"))] = make(
    tmp_path, "scratch", 1, EARLY, seed=2
  )._replace(config=next(one for one in runs if one.path.name == "scratch_1_1").config)
  transfer = figures.make("continual", runs).more_tables["tasks"]["freeway, mode 1: corrected"]["forward transfer"]
  np.testing.assert_allclose(transfer, [1.0, np.nan], atol=1e-12)  # A scratch run that always succeeds leaves nothing.


def test_shares_have_intervals_of_shares(tmp_path):
  """Two seeds end with successes of 1/2 and 1; by Student's t their mean is 0.75 +- 3.2."""
  runs = [*learned(tmp_path), *learned(tmp_path, seed=1)]
  runs += [make(tmp_path, "adapters", 1, returns, seed=seed) for seed, returns in enumerate((HALF, EARLY))]
  drawn = figures.make("continual", runs)
  row = drawing.cells(drawn.more_tables["tasks"], bounds=drawn.bounds)["freeway, mode 1: with adapters"]
  assert row["success in the end"] == "0.8 [0.0, 1.0]" and row["return in the end"] == "7.5 [-24.3, 39.3]"
  row = drawing.cells(drawn.more_tables["changes"], bounds=drawn.bounds)["freeway: corrected less as published"]
  assert row["more average performance"] == "0.0 [0.0, 0.0]"


def test_missing_results_are_gaps(tmp_path):
  runs = learned(tmp_path)
  half = make(tmp_path, "adapters", 1, EARLY[:50])
  nothing = make(tmp_path, "scratch", 2, [0.0] * 100)
  drawn = figures.make("continual", [*(one for one in runs if "retained" not in one.path.name), half, nothing])
  assert drawn.gaps["freeway, mode 1, with adapters"] == "stops at step 500 of 1,000"
  assert drawn.gaps["freeway, mode 2"] == "methods return 0.0 in the end: no score to reach"
  assert drawn.gaps["freeway, mode 0, retained"] == "not run"
  assert drawn.statistics["freeway: corrected"]["average performance"] == "lacks mode 2"
  silent = make(tmp_path, "finetune", 2, [0.0])
  (silent.path / "metrics.jsonl").write_text(json.dumps({"step": 1000, "wall_s": 1.0, "kind": "train"}) + "\n")
  scratch = make(tmp_path, "scratch", 3, LATE)._replace(config=nothing.config)
  drawn = figures.make("continual", [*runs, scratch, records.read(silent.path)])
  assert drawn.gaps["freeway, mode 2, finetune"] == "empty: no episode has ended"


def test_a_task_that_scratch_does_not_learn_is_measured_by_what_others_reach(tmp_path):
  runs = [*learned(tmp_path), make(tmp_path, "scratch", 2, [0.0] * 100), make(tmp_path, "finetune", 2, LATE)]
  runs += [make(tmp_path, "corrected", 2, [4.0] * 100), make(tmp_path, "published", 2, [0.0] * 100)]
  drawn = figures.make("continual", runs)
  for method, success, area in (
    ("scratch", 0.0, 0.0),
    ("finetune", 1.0, AREAS["late"]),
    ("corrected", 1.0, AREAS["early"]),
    ("as published", 0.0, 0.0),
  ):
    task = drawn.more_tables["tasks"][f"freeway, mode 2: {method}"]
    assert float(task["score to reach"].mean) == 3.5  # The mean of 0, 10, 4 and 0.
    np.testing.assert_allclose(
      [*task["success in the end"], *task["area"], *task["forward transfer"]], [success, area, area]
    )
  assert len([axis for axis in drawn.picture.axes if axis.lines]) == 3


def test_other_runs_and_runs_that_are_there_twice_are_refused(tmp_path):
  runs = learned(tmp_path)
  with pytest.raises(ValueError, match="are runs of the same task, method and seed"):
    continual.draw([*runs, runs[0]._replace(path=tmp_path / "again")])
  other = runs[0]._replace(config={**runs[0].config, "world_options": {}})
  with pytest.raises(ValueError, match=r"no run of configs/continual.py: its method is 'scratch' and its mode None"):
    continual.draw([other])
  longer = make(tmp_path, "adapters", 1, EARLY, steps=2000)
  with pytest.raises(ValueError, match="adapters_1_0: train.steps=2000, but 1000 in .*scratch_0_0; areas are of"):
    continual.draw([*runs, longer])
  with pytest.raises(ValueError, match="no task that a method has learned.*not run"):
    continual.draw([one for one in runs if "corrected" in one.path.name])


def test_the_whole_chain_from_the_plan_to_the_figure(tmp_path):
  *jobs, last = launch.load("experiments/plans/continual.py:smoke")
  assert last.needs() == tuple(job.name for job in jobs)
  specs: dict[str, network.Network] = {}
  for job in jobs:
    config = config_lib.get_config(job.config.partition(":")[2])
    config.update_from_flattened_dict(
      {name: str(tmp_path / value[1:-1]) if name == "source" else value for name, value in job.fields.items()}
    )
    specs[job.name] = run.run(config, tmp_path / job.name).members[0].task.agent.spec
  kinds = {name: [layer.laterals for layer in spec.columns[-1].layers] for name, spec in specs.items()}
  assert kinds["space_invaders_1_published_0"] == ["blind"] * 4
  assert kinds["space_invaders_1_corrected_0"] == ["linear"] * 4
  assert kinds["space_invaders_1_adapters_0"] == ["adapter"] * 3 + ["linear"]
  assert {name: len(spec.columns) for name, spec in specs.items() if "_1_" in name} == {
    f"space_invaders_1_{method}_0": 1 + (method in ("published", "corrected", "adapters"))
    for method in ("scratch", "published", "corrected", "adapters", "finetune")
  }
  drawn = figures.make("continual", [records.read(path) for path in records.find([str(tmp_path)])])
  assert not drawn.gaps and all(np.isfinite(drawn.statistics["space_invaders: corrected"]["forward transfer"]))


def test_one_mode_alone_is_learned_from_scratch_alone(tmp_path):
  drawn = figures.make("continual", [make(tmp_path, "scratch", 0, LATE)])
  assert list(drawn.statistics) == ["freeway: scratch"] and "changes" not in drawn.more_tables
