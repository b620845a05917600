"""Learning curves and scores of made-up runs."""

import json

import numpy as np
import pytest

from analysis import curves, records
from experiments.store import sweep_folder


def write_run(path, bunches):
  """Writes a run whose finished episodes are `bunches`: (step, episodes, mean return)."""
  path.mkdir()
  (path / "config.json").write_text("{}")
  (path / "provenance.json").write_text(json.dumps({"command": "a", "commit": "b", "seed": 0}))
  rows = [{"step": s, "wall_s": 1.0, "kind": "train", "episodes": float(n), "return_mean": x} for s, n, x in bunches]
  (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return records.read(path)


def test_what_ended_in_an_update_that_goes_beyond_the_last_step_counts(tmp_path):
  run = write_run(tmp_path / "run", [(500, 8, 1.0), (1_024, 8, 5.0)])
  steps, values = sweep_folder.points(run, 1_000, None)
  assert steps[-1] == 1_000
  np.testing.assert_array_equal(values[[0, 50, 99, 100]], [1, 1, 1, 5])
  assert sweep_folder.late_returns(run).mean() == 5.0


def test_the_first_of_runs_that_are_alike_is_the_top_one():
  curve = curves.Curve(np.array([0.0, 1.0, 2.0]), np.array([[-9.0] * 3, [2.0] * 3, [-5.0] * 3, [2.0] * 3]))
  np.testing.assert_array_equal(sweep_folder.top_runs(curve, 3, 0.0), [1, 3, 0])
  np.testing.assert_array_equal(sweep_folder.top_runs(curve, 3, -9.0), [1, 3, 2])


def test_the_best_run_is_one_that_has_a_late_return(tmp_path):
  """It is neither a run whose returns are NaN, nor one that is too short to say."""
  runs = {"nan": [(500, 8, 1.0), (1_000, 8, np.nan)], "good": [(1_000, 8, 3.0)], "less": [(1_000, 8, 2.0)]}
  paths = [write_run(tmp_path / name, bunches).path for name, bunches in runs.items()]
  short = write_run(tmp_path / "short", [(100, 8, 9.0), (1_000, 0, 0.0)]).path
  assert sweep_folder.best([short, *paths]) == (2, [-np.inf, -np.inf, 3.0, 2.0])
  with pytest.raises(sweep_folder.TooShort, match="short: no episode ended in the last tenth of its steps"):
    sweep_folder.best([short, short])
