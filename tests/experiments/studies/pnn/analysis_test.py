"""The binary on a matrix that was never trained: handmade networks on a world with one choice."""

import json
from unittest import mock

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from environments import dm_env_adapter, registry
from experiments import analyse
from experiments.store import released
from experiments.studies.pnn import analysis, matrix, sensitivity, sensitivity_file
from progressive import network
from tests.agents import worlds
from tests.experiments.studies.pnn import matrices, sensitivity_test

FLOOR = 0.5
SETTINGS = analysis.Settings(num_samples=128, every=2, aps_scales=sensitivity_test.SCALES)


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  worlds.serve(monkeypatch, lambda name, **options: sensitivity_test.WORLD)


@pytest.fixture
def soup(tmp_path):
  """Two done cells, whose networks use their first column not at all and by a fifth, and one with one column."""
  matrices.write_plan(tmp_path)
  config = {"seed": 3, "world": "pong/white", "world_options": {}, "method": "progressive", "sources": ["pong"]}
  config["train"] = {"evaluation_is_greedy": True}
  for name, lateral in (("progressive_pong_to_white", 0.0), ("random_column_white", 3.0), ("scratch_white", None)):
    player = sensitivity_test.make_player(own=6.0, lateral=lateral or 0.0)
    spec, params = player.agent.spec, player.params
    if lateral is None:
      spec, params = network.Network(spec.columns[:1]), params[:1]
    released.save(tmp_path / name / "best", spec, params, evaluation={}, provenance={})
    (tmp_path / name / "config.json").write_text(json.dumps(config))
    (tmp_path / name / matrix.OUTCOME).write_text("{}")
  return tmp_path


def test_main_measures_what_is_done_and_repeats_nothing(soup, capsys):
  arguments = {"runs": [str(soup)], "samples": 128, "sample_every": 2}
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(**arguments):
    analyse.main()
    first = (soup / "progressive_pong_to_white" / sensitivity_file.NAME).stat().st_mtime_ns
    analyse.main()
  printed = capsys.readouterr().out
  assert "[1/2] random_column_white: AFS of column 1: hidden 0.80" in printed
  assert "[2/2] progressive_pong_to_white: AFS of column 1: hidden 1.00" in printed
  file = soup / "progressive_pong_to_white" / sensitivity_file.NAME
  assert file.stat().st_mtime_ns == first
  assert not (soup / "scratch_white" / sensitivity_file.NAME).exists()
  value = json.loads(file.read_text())
  assert value["target"] == "pong/white" and {"command", "commit", "seed"} <= set(value["provenance"])
  places = {(one["column"], one["layer"]): one for one in value["afs"]["places"]}
  assert places[0, "hidden"]["share"] == places[0, "hidden"]["sum"] == 0.0
  assert places[1, "hidden"]["share"] == 1.0 and places[1, "hidden"]["sum"] == 2.0
  np.testing.assert_array_equal(places[1, "hidden"]["per_feature"], [1.0, 1.0])


def test_behind_dm_env_there_is_afs_alone(soup, monkeypatch):
  closed = []
  monkeypatch.setattr(dm_env_adapter.DmEnv, "close", lambda self: closed.append(self))
  monkeypatch.setattr(registry, "make", lambda name, **options: dm_env_adapter.DmEnv(sensitivity_test.WORLD, seed=0))
  path = soup / "random_column_white"
  with pytest.raises(
    ValueError, match="pong/white is behind dm_env, where episodes .* cannot start alike.*leave --aps"
  ):
    analysis.analyse(path, SETTINGS._replace(has_aps=True), floor=FLOOR)
  assert "AFS of column 1: hidden 0.80" in analysis.describe(analysis.analyse(path, SETTINGS, floor=FLOOR))
  assert len(closed) == 2


def test_aps_is_added_to_what_is_there(soup):
  path = soup / "progressive_pong_to_white"
  alone = analysis.analyse(path, SETTINGS, floor=FLOOR)
  assert alone.aps is None
  both = analysis.analyse(path, SETTINGS._replace(has_aps=True), floor=FLOOR)
  np.testing.assert_array_equal(both.diagonals[1, "hidden"], alone.diagonals[1, "hidden"])
  shares = {
    (p["column"], p["layer"]): p["share"] for p in json.loads((path / "sensitivity.json").read_text())["aps"]["places"]
  }
  assert shares == {(0, "hidden"): 0.0, (1, "hidden"): 1.0}
  assert "APS of column 1: hidden 1.00" in analysis.describe(both)
  again = analysis.analyse(path, SETTINGS._replace(has_aps=True), floor=FLOOR)
  np.testing.assert_array_equal(again.diagonals[1, "hidden"], both.diagonals[1, "hidden"])
  with pytest.raises(ValueError, match="measured with --samples=128, not 256; give that, or remove it"):
    analysis.analyse(path, SETTINGS._replace(num_samples=256), floor=FLOOR)
  with pytest.raises(ValueError, match="measured with --aps_episodes=.*, not 50"):
    analysis.analyse(path, SETTINGS._replace(has_aps=True, aps_episodes=50), floor=FLOOR)
  with pytest.raises(ValueError, match="measured with --sample_every=2, not 20; give that, or remove it"):
    analysis.analyse(path, SETTINGS._replace(every=20), floor=FLOOR)
  with pytest.raises(ValueError, match="measured with --aps_scales=0.01,0.1,1,10,100, not 0.1,10; give that"):
    analysis.analyse(path, SETTINGS._replace(has_aps=True, aps_scales=(0.1, 10.0)), floor=FLOOR)
  # AFS alone uses no episodes and no scales.
  assert analysis.analyse(path, SETTINGS._replace(aps_episodes=50, aps_scales=(0.1, 10.0)), floor=FLOOR).aps is not None


def test_aps_that_is_stopped_leaves_afs_and_is_all_that_is_measured_then(soup, monkeypatch):
  path, settings = soup / "random_column_white", SETTINGS._replace(has_aps=True)
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(sensitivity, "aps", mock.Mock(side_effect=KeyboardInterrupt))
    analysis.analyse(path, settings, floor=FLOOR)
  assert sensitivity_file.read(path).aps is None
  monkeypatch.setattr(sensitivity, "fisher_diagonals", mock.Mock(side_effect=AssertionError("AFS is there")))
  said = analysis.describe(analysis.analyse(path, settings, floor=FLOOR))
  assert "AFS of column 1: hidden 0.80" in said and "APS of column 1" in said


@pytest.mark.parametrize("scales", ["abc", "1,0.5", "0,1", "1,1", "1,inf", "nan"])
def test_scales_that_are_no_grid_are_refused_before_anything_is_measured(soup, scales):
  flags.FLAGS.mark_as_parsed()
  given = {"runs": [str(soup)], "samples": 128, "sample_every": 2, "aps_scales": scales.split(",")}
  with (
    flagsaver.flagsaver(**given, aps=True),
    pytest.raises(ValueError, match=f"--aps_scales={scales} must be finite numbers that rise from above 0"),
  ):
    analyse.main()
  assert not list(soup.rglob(sensitivity_file.NAME))


@pytest.mark.parametrize("name", ["aps_scales", "aps_episodes"])
def test_options_of_aps_are_refused_without_it(soup, name):
  flags.FLAGS.mark_as_parsed()
  with (
    flagsaver.as_parsed(**{name: "3"}),
    flagsaver.flagsaver(runs=[str(soup)]),
    pytest.raises(ValueError, match=f"--{name} is of APS, which is not asked for; give --aps"),
  ):
    analyse.main()
  assert not list(soup.rglob(sensitivity_file.NAME))


def test_a_network_at_the_floor_says_so_in_its_file(soup):
  path = soup / "progressive_pong_to_white"
  found = analysis.analyse(path, SETTINGS._replace(has_aps=True), floor=1.0)
  assert found.aps is None and "no better than the floor 1" in found.aps_fault.why
  assert "no better than the floor" in json.loads((path / "sensitivity.json").read_text())["aps"]["fault"]
  assert "no APS: without noise" in analysis.describe(found)
  again = analysis.analyse(path, SETTINGS._replace(has_aps=True), floor=1.0)
  assert again.aps_fault == found.aps_fault  # It comes from the file.
  with pytest.raises(ValueError, match="measured with --aps_episodes=10, not 20"):
    analysis.analyse(path, SETTINGS._replace(has_aps=True, aps_episodes=20), floor=1.0)
  # The fault says nothing about another floor.
  other = analysis.analyse(path, SETTINGS._replace(has_aps=True), floor=FLOOR)
  assert other.aps_fault is None and other.aps.floor == FLOOR


def test_mistakes_are_refused_in_one_line(soup):
  with pytest.raises(ValueError, match="scratch_white: its network has one column"):
    analysis.analyse(soup / "scratch_white", SETTINGS, floor=FLOOR)
  with pytest.raises(ValueError, match="finetune_pong_to_white is not done .* run experiments.matrix --cell=finetune"):
    analysis.choose(soup, ["finetune_pong_to_white"])
  with pytest.raises(ValueError, match="nearest is progressive_pong_to_white"):
    analysis.choose(soup, ["progressive_pong_to_whit"])
  (soup / "random_column_white/config.json").write_text("{")
  with pytest.raises(ValueError, match="config.json cannot be read"):
    analysis.analyse(soup / "random_column_white", SETTINGS, floor=FLOOR)
  for name in ("progressive_pong_to_white", "random_column_white"):
    (soup / name / matrix.OUTCOME).unlink()
  with pytest.raises(ValueError, match="no cell with more than one column is done"):
    analysis.choose(soup, [])


def test_mistakes_on_the_command_line_are_named(tmp_path):
  flags.FLAGS.mark_as_parsed()
  for runs, said in (
    ([str(tmp_path)], "holds no matrix"),
    (None, "--runs is not given; give the folder of one matrix"),
  ):
    with flagsaver.flagsaver(runs=runs), pytest.raises(ValueError, match=said):
      analyse.main()
