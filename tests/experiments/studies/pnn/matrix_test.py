"""The matrix on a small world: what it plans, what it leaves, and that it continues where it stopped."""

import collections
import json

import pytest

from environments import dm_env_adapter, registry
from experiments.configs import base
from experiments.running import run
from experiments.store import released, run_directory, sweep_folder
from experiments.studies.pnn import matrix, matrix_folder
from progressive import partition
from tests.agents import worlds
from tests.experiments.running import run_test


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  worlds.serve(monkeypatch, lambda name, **options: worlds.CueRecall(length=4 + len(name) % 3))


def make_config(*, source_pairs=(), lstm=()):
  config = run_test.next_config("scratch", lstm=lstm)
  config.output_init = "random"
  config.train.steps, config.train.evaluation_episodes = 400, 8
  config.sweep = base.sweep(num_runs=2, top=1, sampled=(("train.hyper.learning_rate", "choice", (1e-2, 1e-3)),))
  config.matrix = {
    "world": "recall/",
    "methods": ("scratch", "finetune", "random_column", "progressive"),
    "sources": ("a",),
    "source_pairs": source_pairs,
    "targets": ("a", "bb"),
  }
  return config


def test_the_paper_s_matrix_has_the_paper_s_cells():
  from experiments.configs import pong_soup

  cells = matrix.plan(pong_soup.get_config("paper"))
  assert len({cell.name for cell in cells}) == len(cells)
  by_method = {method: [c for c in cells if c.method == method] for method in {c.method for c in cells}}
  # papers.md 1.6: 21 source-target cells for B2, B3 and two columns, 8 for B4, 6 for three columns.
  assert {method: len(of) for method, of in by_method.items()} == {
    "scratch": 8, "finetune_head": 21, "finetune": 21, "random_column": 8, "progressive": 21 + 6,
  }  # fmt: skip
  for cell in cells:
    assert cell.before is None or cells.index(cell.before) < cells.index(cell)


def test_pairs_of_sources_are_of_progressive_columns_alone():
  config = make_config(source_pairs=(("a", "bb"),))
  config.matrix.methods = ("scratch", "finetune")
  assert {cell.method for cell in matrix.plan(config)} == {"scratch", "finetune"}


def test_the_paper_s_atari_has_the_paper_s_networks():
  """papers.md 1.6: 12 targets by 3 sources, 72 networks of three columns, and one order for four columns."""
  from experiments.configs import atari

  cells = matrix.plan(atari.get_config("paper"))
  on_targets = collections.Counter(matrix_folder.row_of(c).method for c in cells if c.target in atari.TARGETS)
  assert on_targets == {
    "scratch": 12, "finetune_head": 36, "finetune": 36, "random_column": 12, "progressive2": 36, "progressive3": 72,
    "progressive4": 12,
  }  # fmt: skip
  for cell in cells:
    assert cell.before is None or cells.index(cell.before) < cells.index(cell)


def test_all_cells_run_and_nothing_is_forgotten_by_progressive_columns(tmp_path):
  config = make_config(source_pairs=(("a", "bb"),))
  config.matrix.targets = ("a", "bb", "ccc")
  cells = {cell.name: cell for cell in matrix.plan(config)}
  outcomes = {name: matrix.run_cell(config, cell, tmp_path) for name, cell in cells.items()}
  assert set(outcomes) == {
    "scratch_a", "scratch_bb", "scratch_ccc", "finetune_a_to_bb", "finetune_a_to_ccc", "random_column_a",
    "random_column_bb", "random_column_ccc", "progressive_a_to_bb", "progressive_a_to_ccc", "progressive_a+bb_to_ccc",
  }  # fmt: skip
  for name in ("progressive_a_to_bb", "progressive_a_to_ccc", "progressive_a+bb_to_ccc"):
    forgetting = outcomes[name]["forgetting"]
    for one in (forgetting, *forgetting["earlier"]):
      assert one["is_unchanged"] and one["before"] == one["after"]
  assert [one["task"] for one in (forgetting, *forgetting["earlier"])] == ["bb", "a"]  # With three columns.
  assert not outcomes["finetune_a_to_bb"]["forgetting"]["is_unchanged"]
  assert "forgetting" not in outcomes["scratch_bb"]
  best = released.load_source(tmp_path / "progressive_a+bb_to_ccc" / "best")
  assert len(best.spec.columns) == 3
  source = released.load_source(tmp_path / "progressive_a_to_bb" / "best").params
  assert partition.content_hash(best.params[:2]) == partition.content_hash(source)
  outcome = outcomes["scratch_bb"]
  assert outcome["best"] == max(range(2), key=lambda i: outcome["scores"][i])


class Watched(dm_env_adapter.DmEnv):
  """A world behind `dm_env` that cannot be played once it is closed."""

  is_open = True

  def reset(self):
    assert self.is_open
    return super().reset()

  def step(self, action):
    assert self.is_open
    return super().step(action)

  def close(self):
    self.is_open = False


def test_behind_dm_env_no_closed_world_is_played_and_none_stays_open(tmp_path, monkeypatch):
  made = []

  def make(name, *, seed, **options):
    made.append(Watched(worlds.CueRecall(length=4 + len(name) % 3), seed=seed))
    return made[-1]

  monkeypatch.setattr(registry, "make", make)
  config = make_config()
  matrix.run_cells(config, ["scratch_a", "progressive_a_to_bb", "finetune_a_to_bb"], tmp_path)
  assert made and not any(world.is_open for world in made)
  forgetting = json.loads((tmp_path / "progressive_a_to_bb/outcome.json").read_text())["forgetting"]
  assert forgetting["is_unchanged"] and forgetting["before"] == forgetting["after"]  # Of the same episodes.


def test_a_done_cell_is_not_repeated_and_a_half_written_one_is_finished(tmp_path):
  config = make_config()
  cell = matrix.Cell("scratch", (), "a")
  first = matrix.run_cell(config, cell, tmp_path)
  file = tmp_path / "scratch_a" / "outcome.json"
  file.write_text(json.dumps(first | {"best": 7}))
  assert matrix.run_cell(config, cell, tmp_path)["best"] == 7
  file.unlink()
  assert matrix.run_cell(config, cell, tmp_path) == first


def test_mistakes_are_refused_by_name(tmp_path):
  config = make_config()
  cell = matrix.Cell("progressive", ("a",), "bb")
  with pytest.raises(ValueError, match="progressive_a_to_bb starts from scratch_a, which is not done"):
    matrix.run_cell(config, cell, tmp_path)
  matrix.run_cell(config, matrix.Cell("scratch", (), "a"), tmp_path)
  with pytest.raises(ValueError, match="column 0 is of another architecture"):
    matrix.run_cell(make_config(lstm=(3,)), cell, tmp_path)


def test_the_plan_is_kept_beside_the_cells_and_may_only_grow(tmp_path):
  config = make_config(source_pairs=(("a", "bb"),))
  matrix.write_plan(config, tmp_path)
  assert matrix.plan(matrix.read_plan(tmp_path)) == matrix.plan(config)
  config.matrix.targets = ("a", "bb", "ccc")
  matrix.write_plan(config, tmp_path)
  assert matrix.Cell("scratch", (), "ccc") in matrix.plan(matrix.read_plan(tmp_path))
  config.matrix.targets = ("a",)
  with pytest.raises(ValueError, match="has cells that this config's matrix lacks .*scratch_ccc"):
    matrix.write_plan(config, tmp_path)
  config.matrix.targets, config.matrix.world = ("a", "bb", "ccc"), "maze/"
  with pytest.raises(ValueError, match="matrix.world: recall/ there, maze/ here"):
    matrix.write_plan(config, tmp_path)
  config.matrix.world = "recall/"
  config.train.steps = 7
  with pytest.raises(ValueError, match="another config .train.steps: 400 there, 7 here"):
    matrix.write_plan(config, tmp_path)
  with pytest.raises(ValueError, match="holds no matrix"):
    matrix.read_plan(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="matrix.floors names no score"):
    matrix.floors(config)
  with pytest.raises(ValueError, match="nearest is progressive_a_to_bb"):
    matrix.choose(matrix.plan(config), ["progressiv_a_to_bb"])


def test_a_plan_has_what_its_cells_start_from_and_no_unknown_method():
  config = make_config(source_pairs=(("d", "bb"),))
  cells = matrix.plan(config)
  assert all(cell.before is None or cells.index(cell.before) < cells.index(cell) for cell in cells)
  config.matrix.methods = ("scratch", "progresive")
  with pytest.raises(ValueError, match="matrix.methods names 'progresive'; there are progressive, "):
    matrix.plan(config)


def test_a_best_network_is_evaluated_by_its_folder_alone_and_a_sweep_names_it(tmp_path):
  matrix.run_cell(make_config(), matrix.Cell("scratch", (), "a"), tmp_path)
  assert released.trained_in(tmp_path / "scratch_a/best")[0] == "recall/a"
  (run,) = released.lineage(tmp_path / "scratch_a/best")
  assert run["steps"] >= 400 and "commit" in run
  with pytest.raises(
    ValueError, match="scratch_a is a sweep; give one of its runs, as .*scratch_a/runs/00, or .*scratch_a/best"
  ):
    released.load_source(tmp_path / "scratch_a")


def test_a_cell_is_nobody_else_s_until_its_outcome_is_there(tmp_path, monkeypatch):
  finish, tries = matrix._finish, []

  def finish_while_another_tries(config, cell, *args):
    with pytest.raises(ValueError, match="another process is at work in .*scratch_a"):
      matrix.run_cell(config, cell, tmp_path)
    tries.append(cell)
    return finish(config, cell, *args)

  monkeypatch.setattr(matrix, "_finish", finish_while_another_tries)
  cell = matrix.Cell("scratch", (), "a")
  assert matrix.run_cell(make_config(), cell, tmp_path) == matrix.run_cell(make_config(), cell, tmp_path)
  assert tries == [cell]


def test_a_member_s_score_counts_episodes_not_records(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  (tmp_path / "provenance.json").write_text("{}")
  lines = [(50, 2, 100.0), (96, 1, 4.0), (97, 0, None), (100, 3, 8.0)]
  with (tmp_path / "metrics.jsonl").open("w") as file:
    for step, episodes, mean in lines:
      record = {"step": step, "wall_s": 1.0, "kind": "train", "episodes": float(episodes)}
      file.write(json.dumps(record | ({"return_mean": mean} if episodes else {})) + "\n")
  assert sweep_folder.score(tmp_path) == 7.0  # (4 + 3 * 8) / 4
  (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 5, "wall_s": 1.0, "kind": "train", "episodes": 0}) + "\n")
  with pytest.raises(ValueError, match="no episode ended in the last tenth"):
    sweep_folder.score(tmp_path)


def test_a_cell_whose_loss_is_no_number_is_a_gap_and_the_others_go_on(tmp_path, capsys, monkeypatch):
  config = make_config()
  config.sweep.sampled = ()
  learn_ = run.run_alone

  def fail_on_bb(own, path, lock, *, source):
    if own.world == "recall/bb":
      own.train.hyper.learning_rate = 1e30
    return learn_(own, path, lock, source=source)

  monkeypatch.setattr(run, "run_alone", fail_on_bb)
  for name in ("scratch_bb", "progressive_a_to_bb"):
    assert name in [cell.name for cell in matrix.plan(config)]
  for word in (
    "lower the learning rate",
    "to try again",
  ):  # The first start, then the second, which tries nothing.
    with pytest.raises(ValueError, match="4 of 6 cells failed, the others are done: scratch_bb, "):
      matrix.run_cells(config, [], tmp_path)
    out = capsys.readouterr().out
    assert "scratch_bb: failed: the loss is" in out and word in out
    assert "scratch_a: best member's return" in out
  config.matrix.floors = (-1.0,)
  matrix.write_plan(config, tmp_path)
  read = matrix_folder.read(tmp_path)
  assert set(read.gaps) == {cell.name for cell in matrix.plan(config) if cell.target == "bb"}
  assert all(gap.startswith("failed: the loss is") for gap in read.gaps.values())


def test_a_cell_without_a_late_episode_is_a_gap_and_the_others_go_on(tmp_path, capsys, monkeypatch):
  """Episodes of `bb` are longer than its runs. Nothing is learned again, even when its failure file is removed."""

  def make(name, **options):
    return worlds.CueRecall(length=1_000 if name == "recall/bb" else 4)

  monkeypatch.setattr(registry, "make", make)
  config, cells = make_config(), ["scratch_bb", "scratch_a", "progressive_a_to_bb", "random_column_a"]
  for _ in range(2):
    with pytest.raises(ValueError, match="2 of 4 cells failed, the others are done: scratch_bb, progressive_a_to_bb$"):
      matrix.run_cells(config, cells, tmp_path)
    out = capsys.readouterr().out
    assert "scratch_bb: failed: " in out and "no episode ended in the last tenth of its steps" in out
    assert "[4/4] random_column_a: best member's return" in out
    (tmp_path / "scratch_bb" / run_directory.FAILURE).unlink()
  assert "scratch_bb is finished: 400 of 400 steps" in out and "compiling" not in out
