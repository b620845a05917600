"""The figures of Pong Soup from made-up matrices: known levels give known scores, and what is missing is a gap."""

import json
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from analysis import intervals
from experiments import figures as figures_binary
from experiments.report import drawing
from experiments.store import run_directory
from experiments.studies import figures
from experiments.studies.pnn import figures as pnn_figures
from experiments.studies.pnn import matrix_folder
from tests.experiments.studies.pnn import matrices


def add_cells(path):
  """Heights of the top 2 above -21: scratch 6, 9, 12; finetune on white 18; progressive on white 27, on h_flip 30."""
  matrices.write_plan(path)
  matrices.write_cell(path, "scratch_pong", (-16.0, -14.0, -21.0))
  matrices.write_cell(path, "scratch_white", (-21.0, -11.0, -13.0))
  matrices.write_cell(path, "scratch_h_flip", (-9.0, -9.0, -20.0))
  matrices.write_cell(path, "finetune_pong_to_white", (-3.0, -3.0, -21.0), forgetting=matrices.forgetting(19.0, -21.0))
  lost = matrices.forgetting(19.0, 19.0)
  matrices.write_cell(path, "progressive_pong_to_white", (6.0, 6.0, 6.0), forgetting=lost, num_columns=2)
  matrices.write_cell(path, "progressive_pong_to_h_flip", (9.0, 8.0, 10.0), forgetting=lost, num_columns=2)
  matrices.write_cell(path, "random_column_white", (-12.0, -12.0, -12.0), num_columns=2)


def add_broken_cells(path):
  """One cell for each way to be incomplete."""
  matrices.write_cell(path, "finetune_pong_to_h_flip", (5.0, 5.0, 5.0), steps=4_000, is_done=False)
  (path / "random_column_pong/runs/00").mkdir(parents=True)
  matrices.write_cell(path, "random_column_h_flip", (5.0, 5.0, 5.0), num_columns=2)
  (path / "random_column_h_flip/runs/01/metrics.jsonl").write_text('{"step": 1}\n')


@pytest.fixture
def soup(tmp_path):
  add_cells(tmp_path)
  return tmp_path


def scores_of(path):
  found = matrix_folder.read(path)
  return found, pnn_figures.scores(found, pnn_figures.definition(found))


def at(scored, row, target):
  m = [f"{r.method} ← {r.source}" for r in scored.rows].index(row)
  t = scored.targets.index(target)
  return scored.values[m, t], scored.notes[m, t]


def test_known_levels_give_known_scores(soup):
  _, scored = scores_of(soup)
  assert [row.method for row in scored.rows] == ["finetune", "random_column", "progressive2"]
  assert at(scored, "finetune ← pong", "white") == (pytest.approx(2.0), "")
  assert at(scored, "progressive2 ← pong", "white") == (pytest.approx(3.0), "")
  assert at(scored, "progressive2 ← pong", "h_flip") == (pytest.approx(2.542, abs=1e-3), "")  # 30.5 / 12
  assert at(scored, "random_column ← random", "white") == (pytest.approx(1.0), "")
  assert at(scored, "progressive2 ← pong", "pong")[1] == "source"


def test_a_target_can_have_a_floor_of_its_own(soup):
  """Above -30 scratch has 18 (its top two runs), finetune 27, progressive 36. h_flip counts from -21 as before."""
  matrices.write_plan(soup, own_floors={"white": -30.0})
  found, scored = scores_of(soup)
  assert at(scored, "finetune ← pong", "white") == (pytest.approx(27 / 18), "")
  assert at(scored, "progressive2 ← pong", "white") == (pytest.approx(36 / 18), "")
  assert at(scored, "progressive2 ← pong", "h_flip") == (pytest.approx(2.542, abs=1e-3), "")
  scratch = next(r for cell, r in found.results.items() if cell.name == "scratch_white")
  np.testing.assert_array_equal(scratch.curve.values[:, 0], -30.0)  # The score before anything is learned.
  readings = figures.make("pnn_fig4a", found).more_tables["readings"]
  assert readings["floor -20 (white -30), top by area, area of each run, to 10000"]["finetune"] == "150 / 150"


def test_what_is_missing_is_a_gap_that_says_why_and_never_a_zero(soup):
  add_broken_cells(soup)
  found, scored = scores_of(soup)
  for row, target, note in (
    ("finetune ← pong", "h_flip", "at 40%"),
    ("random_column ← random", "pong", "empty"),
    ("random_column ← random", "h_flip", "unreadable"),
  ):
    value, why = at(scored, row, target)
    assert np.isnan(value) and why == note
  assert found.gaps["finetune_pong_to_h_flip"] == "half written: at step 4,000 of 10,000"
  assert "runs/01/metrics.jsonl:1: 'wall_s' is missing" in found.gaps["random_column_h_flip"]
  drawn = figures.make("pnn_fig4a", found)
  assert drawn.statistics["finetune ← pong"]["h_flip"] == "at 40%"
  assert drawn.more_tables["table1"]["finetune"]["cells"] == "1 (1 missing)"
  assert "- random_column_pong: empty: no episode has ended" in drawing.markdown(drawn)
  said = " ".join(text.get_text() for text in drawn.picture.texts)
  assert "missing:" in said and "random_column_pong" in said
  assert "at 40%" in [text.get_text() for text in drawn.picture.axes[0].texts]


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_run_that_is_missing_or_emptied_is_a_gap(soup, is_emptied):
  lost = soup / "finetune_pong_to_white/runs/01"
  if is_emptied:
    (lost / "metrics.jsonl").write_text("")
  else:
    shutil.rmtree(lost)
  found, scored = scores_of(soup)
  assert found.gaps["finetune_pong_to_white"] == "2 of 3 runs have ended episodes, not 01"
  value, why = at(scored, "finetune ← pong", "white")
  assert np.isnan(value) and why == "2 of 3 runs"  # The top of fewer runs cannot be compared.
  labels = [text.get_text() for text in figures.make("pnn_fig12", found).picture.legends[0].get_texts()]
  assert "finetune (top 2 of 2, 2 of 3 runs)" in labels


def test_a_run_that_failed_is_the_worst_of_its_cell(soup):
  """The top 2 of 3 runs are the same without it, and with two such runs there is no top 2."""
  runs = soup / "finetune_pong_to_white/runs"
  run_directory.write_failure(runs / "02", FloatingPointError("the loss is nan"))
  (runs / "02/metrics.jsonl").write_text("")
  found, scored = scores_of(soup)
  assert "finetune_pong_to_white" not in found.gaps
  assert at(scored, "finetune ← pong", "white") == (pytest.approx(2.0), "")
  run_directory.write_failure(runs / "01", FloatingPointError("the loss is nan"))
  found, scored = scores_of(soup)
  assert found.gaps["finetune_pong_to_white"] == "1 of 3 runs have ended episodes, not 01 (failed), 02 (failed)"
  assert at(scored, "finetune ← pong", "white")[1] == "1 of 3 runs"


def test_runs_of_a_larger_sweep_that_was_given_up_are_not_read(soup):
  own = matrix_folder.read(soup).gaps
  shutil.copytree(soup / "finetune_pong_to_white/runs/00", soup / "finetune_pong_to_white/runs/03")
  (soup / "finetune_pong_to_white/runs/04").mkdir()
  (soup / "finetune_pong_to_white/runs/04/metrics.jsonl").write_text("")
  found = matrix_folder.read(soup)
  assert found.gaps == own
  (cell,) = (one for one in found.results if one.name == "finetune_pong_to_white")
  assert [run.path.name for run in found.results[cell].runs] == ["00", "01", "02"]


def test_a_cell_that_was_not_run_and_one_that_stops_early_are_gaps(soup):
  matrices.write_cell(soup, "random_column_pong", (5.0, 5.0, 5.0), steps=5_000, num_columns=2)
  found, scored = scores_of(soup)
  assert at(scored, "random_column ← random", "pong")[1] == "at 50%"
  assert found.gaps["random_column_pong"] == "stops at step 5,000 of 10,000"
  assert found.gaps["finetune_pong_to_h_flip"] == "not run"
  assert at(scored, "finetune ← pong", "h_flip")[1] == "not run"


def test_a_missing_or_dead_baseline_leaves_no_score(soup):
  (soup / "scratch_white/outcome.json").unlink()
  for i in range(3):
    file = soup / f"scratch_h_flip/runs/0{i}/metrics.jsonl"
    file.write_text(file.read_text().replace("-9.0", "-21.0").replace("-20.0", "-21.0"))
  _, scored = scores_of(soup)
  assert at(scored, "progressive2 ← pong", "white")[1] == "scratch: not done"
  assert at(scored, "progressive2 ← pong", "h_flip")[1] == "scratch: at floor"


def test_figure_4a_shows_the_paper_s_numbers_and_every_reading(soup):
  drawn = figures.make("pnn_fig4a", matrix_folder.read(soup))
  table1 = drawn.more_tables["table1"]
  assert table1["progressive2"]["paper, table 1 (mean / median)"] == "209 / 169"
  assert table1["progressive2"]["paper, same cells, clipped at 2 (mean / median)"] == "179 / 179"  # From 2.00 and 1.58.
  assert table1["finetune"]["mean %"].startswith("200 ")
  readings = drawn.more_tables["readings"]
  assert len(readings) == 2 * 2 * 2 * 2  # Floors, rankings, averages, horizons.
  of_white = {label: row["finetune"] for label, row in readings.items()}
  assert of_white["floor -21, top by area, area of each run, to 10000"] == "200 / 200"
  # 17 / 8 above -20. The first point is cut where the curve rises through -20.
  assert of_white["floor -20, top by area, area of each run, to 10000"] == "213 / 213"
  assert {text.get_text() for text in drawn.picture.axes[1].texts} >= {"≥2", "1.58", "1.89"}


def test_figure_4b_averages_the_top_runs(soup):
  drawn = figures.make("pnn_fig4b", matrix_folder.read(soup))
  ours = drawn.statistics["pong → white, finetune (ours)"]
  np.testing.assert_allclose(ours["end"], [-3, -3])
  assert ours["steps to 0"] == "> 10,000 (never; never)"
  np.testing.assert_allclose(drawn.statistics["pong → white, scratch (ours)"]["end"], [-11, -13])
  # The curve rises from -21 at 0 to 6 at 100, and crosses 0 at 77.8.
  assert drawn.statistics["pong → white, progressive2 (ours)"]["steps to 0"] == "78 (78; 78)"
  assert drawn.statistics["pong → white, progressive2 (paper)"]["steps to 0"] == "8,000,000"
  assert drawn.statistics["pong → white, progressive2 (paper)"]["end"].mean == 19.5
  # This figure has only the paper's three methods; figure 12 has all.
  assert set(drawn.gaps) == {"finetune_pong_to_h_flip"}
  assert not any("random_column" in row for row in drawn.statistics)
  twelve = figures.make("pnn_fig12", matrix_folder.read(soup))
  assert "pong → white, random_column (ours)" in twelve.statistics and "random_column_h_flip" in twelve.gaps
  labels = [text.get_text() for legend in drawn.picture.legends for text in legend.get_texts()]
  assert "finetune (top 2 of 3)" in labels


def test_figure_4b_draws_a_half_written_cell_as_far_as_it_goes(soup):
  add_broken_cells(soup)
  drawn = figures.make("pnn_fig4b", matrix_folder.read(soup))
  half = drawn.statistics["pong → h_flip, finetune (ours)"]
  assert np.isnan(half["end"]).all()
  assert np.isfinite(half["mean"]).all()
  assert half["steps to 0"] == "–"  # Runs that get there later are not in it.
  labels = [text.get_text() for legend in drawn.picture.legends for text in legend.get_texts()]
  assert "finetune (top 2 of 3, at 40%)" in labels


def test_figure_12_draws_every_cell_once(tmp_path):
  """Each target has a panel for each source or pair of sources. The methods without a source are in each panel."""
  matrices.write_plan(tmp_path, targets=("white", "h_flip", "black"), source_pairs=(("pong", "h_flip"),))
  for name in ("scratch_white", "random_column_white", "progressive_pong_to_white", "progressive_pong+h_flip_to_white"):
    matrices.write_cell(tmp_path, name, (1.0, 2.0, 3.0))
  drawn = figures.make("pnn_fig12", matrix_folder.read(tmp_path))
  shown = [axis.get_title(loc="left") for axis in drawn.picture.axes if axis.get_visible()]
  assert shown == ["pong → white", "pong → h_flip", "pong → black", "pong+h_flip → white", "pong+h_flip → black"]
  of_white = {row.partition(", ")[2] for row in drawn.statistics if row.startswith("pong+h_flip → white")}
  assert of_white == {"scratch (ours)", "random_column (ours)", "progressive3 (ours)"}
  np.testing.assert_allclose(drawn.statistics["pong → white, progressive2 (ours)"]["end"], [3.0, 2.0])
  assert {"scratch_h_flip", "progressive_pong_to_black"} <= set(drawn.gaps)


def test_networks_of_more_columns_than_the_paper_s_stand_last(tmp_path):
  four = ("pong", "noisy", "black", "zoom")
  matrices.write_plan(tmp_path, targets=("white",), source_pairs=(four,))
  for name in ("scratch_white", "progressive_pong+noisy+black+zoom_to_white", "finetune_pong_to_white"):
    matrices.write_cell(tmp_path, name, (1.0, 2.0, 3.0))
  read = matrix_folder.read(tmp_path)
  rows = list(figures.make("pnn_fig4a", read).statistics)
  assert any("progressive5" in row for row in rows)
  assert any("progressive5 (ours)" in row for row in figures.make("pnn_fig12", read).statistics)


def test_forgetting_measured_by_one_episode_has_no_interval(soup):
  outcome = soup / "finetune_pong_to_white/outcome.json"
  values = json.loads(outcome.read_text())
  for when in ("before", "after"):
    for end in ("low", "high"):
      del values["forgetting"][when][f"return_ci_{end}"]
  outcome.write_text(json.dumps(values))
  before = figures.make("pnn_forgetting", matrix_folder.read(soup)).statistics["finetune_pong_to_white: pong"]["before"]
  assert float(before.mean) == 19.0 and np.isnan([before.low, before.high]).all()


def test_forgetting_is_shown_cell_by_cell_and_drawn_by_method(soup):
  drawn = figures.make("pnn_forgetting", matrix_folder.read(soup))
  pairs = ("progressive_pong_to_h_flip", "progressive_pong_to_white")
  assert set(drawn.statistics) == {"finetune_pong_to_white: pong", *(f"{pair}: pong" for pair in pairs)}
  finetune, progressive = (drawn.statistics[f"{name}: pong"] for name in ("finetune_pong_to_white", pairs[0]))
  assert [float(finetune[name].mean) for name in ("before", "after", "lost")] == [19.0, -21.0, 40.0]
  assert [float(x) for x in progressive["after"]] == [19.0, 18.0, 20.0]  # The evaluation's own interval.
  assert progressive["source's parameters"] == "unchanged" and finetune["source's parameters"] == "changed"
  bars = [patch.get_height() for patch in drawn.picture.axes[0].patches]
  np.testing.assert_allclose(bars, [40.0, 0.0, 40.0, 40.0])  # Above -21, before and after: finetune, then progressive.
  assert drawn.gaps == {"finetune_pong_to_h_flip": "not run"}


def test_writes_every_table_and_adds_to_the_provenance(soup, tmp_path):
  found = matrix_folder.read(soup)
  out = tmp_path / "out"
  for name in ("pnn_fig4a", "pnn_forgetting"):
    drawing.write(name, figures.make(name, found), found.runs, out)
  names = {path.name for path in out.iterdir()}
  assert {"pnn_fig4a.png", "pnn_fig4a.svg", "pnn_fig4a.md", "pnn_fig4a.json", "pnn_fig4a_table1.json"} <= names
  provenance = json.loads((out / "provenance.json").read_text())
  assert set(provenance) == {"pnn_fig4a", "pnn_forgetting"}
  assert len(provenance["pnn_fig4a"]["runs"]) == 7 * 3
  numbers = json.loads((out / "pnn_fig4a.json").read_text())["finetune ← pong"]
  assert (
    numbers["white"]["mean"] == pytest.approx(2.0) and numbers["h_flip"] == "not run" and numbers["pong"] == "source"
  )
  forgetting = json.loads((out / "pnn_forgetting.json").read_text())["finetune_pong_to_white: pong"]
  assert forgetting["lost"]["mean"] == 40.0


def test_cells_of_a_table_in_words():
  table = {
    "a": {"runs' numbers": np.asarray([1.0, 3.0]), "estimate": intervals.Interval(0.5, 0.25, 0.75), "word": "at 3%"}
  }
  assert drawing.cells(table, places=2, bounds=drawing.Bounds(0.0, 50.0)) == {  # Student's t of two values is 12.706.
    "a": {"runs": "2", "runs' numbers": "2.00 [0.00, 14.71]", "estimate": "0.50 [0.25, 0.75]", "word": "at 3%"}
  }
  assert drawing.cells({"a": {"x": drawing.number(float("nan")), "y": drawing.number(12.0)}}) == {
    "a": {"x": "–", "y": "12.0"}
  }


def test_mistakes_are_refused_in_one_line(tmp_path):
  with pytest.raises(ValueError, match="holds no matrix"):
    matrix_folder.read_one([str(tmp_path)])
  with pytest.raises(ValueError, match="names 2 folders"):
    matrix_folder.read_one(["a", "b"])
  matrices.write_plan(tmp_path)
  with pytest.raises(ValueError, match="no cell has a run with finished episodes"):
    matrix_folder.read(tmp_path)
  matrices.write_cell(tmp_path, "scratch_pong", (1.0, 1.0))
  with pytest.raises(ValueError, match="no cell that starts from a source is done"):
    figures.make("pnn_forgetting", matrix_folder.read(tmp_path))
  with pytest.raises(ValueError, match="nearest is pnn_fig4"):
    figures.make("pnn_fig4", ())


def test_the_beginning_of_a_name_draws_all_that_can_be_drawn(soup, capsys, tmp_path):
  flags.FLAGS.mark_as_parsed()
  out = tmp_path / "out"
  with flagsaver.flagsaver(figure="pnn", runs=[str(soup)], out=str(out)):
    with pytest.raises(
      ValueError, match="^pnn_fig5, pnn_fig7a, pnn_fig7b, pnn_fig9, pnn_fig10: .*no cell was analysed; run [^;]*$"
    ):
      figures_binary.main()
  assert {path.name for path in out.glob("*.png")} == {
    "pnn_fig4a.png",
    "pnn_fig4b.png",
    "pnn_fig12.png",
    "pnn_forgetting.png",
  }
  assert "| finetune ← pong |" in capsys.readouterr().out


def test_a_matrix_with_one_cell_draws_its_gaps_and_no_figure_takes_another_with_it(tmp_path, monkeypatch, capsys):
  matrices.write_plan(tmp_path)
  matrices.write_cell(tmp_path, "scratch_pong", (1.0, 1.0))

  def fail(found):
    return 1 // 0

  broken = figures.FIGURES["pnn_fig4a"]._replace(draw=fail)
  monkeypatch.setattr(figures, "FIGURES", {**figures.FIGURES, "pnn_fig4a": broken})
  flags.FLAGS.mark_as_parsed()
  out = tmp_path / "out"
  with flagsaver.flagsaver(figure="pnn", runs=[str(tmp_path)], out=str(out)):
    with pytest.raises(
      ValueError, match="pnn_fig4a: ZeroDivisionError.*; pnn_fig5, pnn_fig7a, .*: .*no cell was analysed"
    ):
      figures_binary.main()
  assert {path.name for path in out.glob("*.png")} == {"pnn_fig4b.png", "pnn_fig12.png"}
  assert "- scratch_white: not run" in (out / "pnn_fig4b.md").read_text()
  assert "in fail" in capsys.readouterr().err  # A bug of ours shows where it is.
