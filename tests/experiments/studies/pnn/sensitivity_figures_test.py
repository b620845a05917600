"""What was transferred, drawn from made-up `sensitivity.json` files: figures show the numbers that were put in."""

import numpy as np
import pytest

from experiments.report import drawing
from experiments.studies import figures
from experiments.studies.pnn import matrix_folder, sensitivity_figures
from tests.experiments.studies.pnn import figures_test as cells
from tests.experiments.studies.pnn import matrices

# The newest column has a quarter of conv1 and three quarters of conv2. conv1's second map is not used.
DIAGONALS = {
  (0, "conv1"): [3.0, 0.0],
  (1, "conv1"): [1.0, 0.0],
  (0, "conv2"): [1.0, 1.0],
  (1, "conv2"): [3.0, 3.0],
}
# Half way from -21 to 19 is -1. conv1's columns lose it at 10 and at 100, so Lambda is 0.1 and 0.01. conv2's first
# column never breaks.
CRITICALS = {
  (0, "conv1"): (19.0, -1.0, -21.0),
  (1, "conv1"): (19.0, 19.0, -1.0),
  (0, "conv2"): (19.0, 19.0, 19.0),
  (1, "conv2"): (19.0, -1.0, -21.0),
}


@pytest.fixture
def soup(tmp_path):
  cells.add_cells(tmp_path)
  matrices.write_sensitivity(tmp_path, "progressive_pong_to_white", DIAGONALS, criticals=CRITICALS)
  used = DIAGONALS | {(1, "conv1"): [9.0, 0.0]}
  matrices.write_sensitivity(
    tmp_path, "progressive_pong_to_h_flip", used, fault="it scores -21, no better than the floor"
  )
  return tmp_path


def numbers(row):
  return {name: float(cell.mean) for name, cell in row.items() if not isinstance(cell, str)}


def test_figure_5_shares_by_layer_and_the_maps_of_conv1(soup):
  drawn = figures.make("pnn_fig5", matrix_folder.read(soup))
  assert numbers(drawn.statistics["pong → white"]) == {
    "conv1, column 0": 0.75, "conv1, column 1": 0.25, "conv2, column 0": 0.25, "conv2, column 1": 0.75,
  }  # fmt: skip
  # The formula's own reading gives 0.25 for the first map, 0 for a map that no column uses, and 0.75 for each of conv2.
  by_sum = numbers(drawn.more_tables["sum_reading"]["pong → white"])
  assert by_sum == {"conv1, column 0": 0.75, "conv1, column 1": 0.25, "conv2, column 0": 0.5, "conv2, column 1": 1.5}
  assert drawn.more_tables["features_used"]["pong → white"]["conv1, column 0"] == "1.0 of 2"
  assert drawn.more_tables["features_used"]["pong → white"]["conv2, column 1"] == "2.0 of 2"
  assert [axis.get_title() for axis in drawn.picture.axes] == ["pong → h_flip", "pong → white"]  # The paper's first.
  heights = [bar.get_height() for bar in drawn.more_pictures["conv1_progressive_pong_to_white"].axes[0].patches]
  assert heights == [0.75, 0.0]
  assert drawn.gaps == {"random_column_pong": "not run", "random_column_white": "not analysed",
                        "random_column_h_flip": "not run"}  # fmt: skip
  assert "not analysed" in " ".join(text.get_text() for text in drawn.picture.texts)


def test_networks_that_a_picture_has_no_room_for_are_said(soup, monkeypatch):
  monkeypatch.setattr(sensitivity_figures, "_MOST_NETS", 1)
  drawn = figures.make("pnn_fig5", matrix_folder.read(soup))
  assert len(drawn.picture.axes) == 1 and len(drawn.statistics) == 2
  assert drawn.gaps["pictures"] == "of 1 networks; tables have all 2"


def test_figure_7a_has_the_best_transfer_and_the_worst(soup):
  drawn = figures.make("pnn_fig7a", matrix_folder.read(soup))
  assert [axis.get_title() for axis in drawn.picture.axes] == ["pong → white\nscore 3.00", "pong → h_flip\nscore 2.54"]
  assert numbers(drawn.statistics["pong → h_flip"])["conv1, column 1"] == pytest.approx(9 / 12)
  (soup / "progressive_pong_to_h_flip/outcome.json").unlink()
  drawn = figures.make("pnn_fig7a", matrix_folder.read(soup))
  assert list(drawn.statistics) == ["pong → white"]


def test_figure_7b_has_a_dot_for_each_network_that_has_both(soup):
  (soup / "progressive_pong_to_h_flip/outcome.json").unlink()
  drawn = figures.make("pnn_fig7b", matrix_folder.read(soup))
  assert list(drawn.statistics) == ["progressive_pong_to_white"]
  row = drawn.statistics["progressive_pong_to_white"]
  assert float(row["AFS of the newest column's convolutions"].mean) == pytest.approx(0.5)  # From 0.25 and 0.75.
  assert float(row["transfer score"].mean) == pytest.approx(3.0)
  dots = drawn.picture.axes[0].collections[0].get_offsets()
  np.testing.assert_allclose(dots, [[0.5, 3.0]])
  assert "half written" in drawn.gaps["progressive_pong_to_h_flip"]


def test_figure_7b_marks_a_network_without_a_score(soup):
  (soup / "scratch_h_flip/outcome.json").unlink()
  drawn = figures.make("pnn_fig7b", matrix_folder.read(soup))
  assert drawn.gaps["progressive_pong_to_h_flip"] == "no score: scratch: not done"


def test_figure_9_lays_aps_beside_afs(soup):
  drawn = figures.make("pnn_fig9", matrix_folder.read(soup))
  row = numbers(drawn.statistics["pong → white"])
  assert row["conv1, APS"] == pytest.approx(0.01 / 0.11) and row["conv1, AFS"] == 0.25
  assert row["conv2, APS"] == 1.0 and row["conv2, AFS"] == 0.75
  assert row["mean difference"] == pytest.approx((0.25 - 0.01 / 0.11 + 0.25) / 2)
  said = drawn.statistics["pong → white"]["outside of the grid"]
  assert said == "column 0, conv2: noise of scale 100 does not break the policy; taken as unused"
  assert drawn.gaps["progressive_pong_to_h_flip"] == "no APS: it scores -21, no better than the floor"
  (noise,) = drawn.more_pictures.values()
  lines = {line.get_label(): list(line.get_ydata()) for line in noise.axes[0].lines}
  assert lines["column 0: never half lost"] == [19.0, 19.0, 19.0]


def test_figure_10_has_a_spectrum_for_each_number_of_columns(soup):
  drawn = figures.make("pnn_fig10", matrix_folder.read(soup))
  assert list(drawn.statistics) == ["2 columns, source columns", "2 columns, newest column"]
  np.testing.assert_allclose(drawn.statistics["2 columns, newest column"]["area"], [0.75, 0.75])
  np.testing.assert_allclose(drawn.statistics["2 columns, source columns"]["fraction of features used"], [1.0, 1.0])
  drawn.statistics["2 columns, newest column"]["area"] = np.array([0.5, 0.9])  # By t(1), 0.7 with 2.54 on either side.
  assert "| 0.70 [0.00, 1.00] |" in drawing.markdown(drawn)  # Bounds of shares.


def test_nothing_analysed_is_refused_with_the_command(tmp_path):
  cells.add_cells(tmp_path)
  found = matrix_folder.read(tmp_path)
  for name in ("pnn_fig5", "pnn_fig7a", "pnn_fig7b", "pnn_fig9", "pnn_fig10"):
    with pytest.raises(ValueError, match="no cell was analysed; run python -m experiments.analyse --runs="):
      figures.make(name, found)
  matrices.write_sensitivity(tmp_path, "random_column_white", DIAGONALS)
  found = matrix_folder.read(tmp_path)
  with pytest.raises(ValueError, match="no cell has APS; run python -m experiments.analyse .* --aps"):
    figures.make("pnn_fig9", found)
  with pytest.raises(ValueError, match="no progressive cell was analysed"):
    figures.make("pnn_fig10", found)
