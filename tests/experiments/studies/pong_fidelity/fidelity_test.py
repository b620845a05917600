"""Compares our Pong with the emulator on a small budget, and shows that a wrong number of ours is noticed."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from environments.pong import constants as c
from experiments import pong_fidelity
from experiments.studies.pong_fidelity import consoles, fidelity, players


@pytest.fixture(autouse=True)
def parsed():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def emulated():
  return consoles.Emulated()


def _rng() -> np.random.Generator:
  return np.random.default_rng(0)


def test_every_quantity_is_within_tolerance_and_the_table_says_so():
  rows = fidelity.compare(num_episodes=1, max_frames=1600)
  wrong = [row for row in rows if not row.is_ok]
  assert not wrong and len(rows) > 50
  text = fidelity.table(rows)
  assert text.splitlines()[0].split() == ["quantity", "emulator", "ours", "tolerance", "ok"]
  assert len(text.splitlines()) == len(rows) + 1 and "NO" not in text
  by_name = {row.quantity: row for row in rows}
  # By hand, from shared facts about the emulator: 63 frames to a serve in the middle, at most 2 rows per frame.
  assert by_name["frames from point to serve"].emulator == 63
  assert abs(by_name["serve, column"].emulator - 79.5) < 1
  assert by_name["opponent, most rows a frame"].emulator == 2
  assert by_name["noop: score"].emulator < -5
  assert by_name["fire: ball, columns a frame"].emulator > 1.5 > by_name["follow: ball, columns a frame"].emulator == 1


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("OPPONENT_DY", 1),
    ("OPPONENT_PERIOD", 16),
    ("MIDDLE_OF_PADDLE", 7),
    ("KNOB_TURN_OHM", 23_500),
    ("SERVE_WAIT", 62),
    ("RIGHT_GOAL_X", 204),
    ("LATE_COLUMN_EVEN", 152),
    ("PLAYER_GREY", 148),
  ],
)
def test_a_wrong_number_is_noticed(name, value, emulated, monkeypatch):
  monkeypatch.setattr(c, name, value)
  same = fidelity.lockstep(emulated, consoles.Ours(), players.follow(_rng()), num_steps=400)
  assert max(same.values()) > 0


def test_a_slower_opponent_is_noticed_by_its_row(emulated, monkeypatch):
  def quantities(console):
    return fidelity.physics([consoles.play(console, players.follow(_rng()), start_frames=2, max_frames=1200)])

  theirs, same = quantities(emulated), quantities(consoles.Ours())
  monkeypatch.setattr(c, "OPPONENT_PERIOD", 4)  # Stands still on one frame in four instead of one in eight.
  wrong = quantities(consoles.Ours())
  name = "opponent, rows a frame"
  assert same[name] == theirs[name]
  rows = {row.quantity: row for row in fidelity._pair(theirs, wrong)}
  assert not rows[name].is_ok


def test_the_player_that_foresees_wins_and_others_lose():
  ours = consoles.Ours()

  def lead(name: str, seed: int) -> int:
    player = players.ALL[name](np.random.default_rng(seed))
    game = consoles.play(ours, player, start_frames=2 + seed, max_frames=12_000)
    return int(game.player_score[-1] - game.opponent_score[-1])

  assert all(lead("foresee", seed) > 0 for seed in range(3))
  assert lead("noop", 0) == -21 and lead("random", 0) <= -19


def test_events_are_counted_by_hand():
  # A serve in frame 2, hits in 5 and 8, a goal in 10, the next serve in 12.
  game = consoles.Frame(
    wait=np.array([2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 63, 1, 0, 0]),
    ball_x=np.array([0, 0, 60, 61, 62, 63, 62, 61, 60, 62, 62, 62, 70, 69]),
    ball_y=np.array([0, 0, 50, 50, 50, 50, 51, 52, 53, 55, 55, 0, 70, 70]),
    opponent_y=np.zeros(14, int),
    player_y=np.full(14, 45),
    opponent_score=np.array([0] * 10 + [1] * 4),
    player_score=np.zeros(14, int),
  )
  found = fidelity.events(game)
  assert found.dx.tolist() == [0, 0, 1, 1, 1, -1, -1, -1, 2, 0, 0, 0, -1]
  assert found.hits.tolist() == [5, 8] and found.serves.tolist() == [2, 12] and found.points.tolist() == [10]
  quantities = fidelity.physics([game])
  assert quantities["frames from start to serve"] == 2 and quantities["frames from point to serve"] == 2
  assert quantities["serves to who lost the point, share"] == 0.0  # The opponent scored, and the serve flew left.
  assert quantities["ball, rows a frame after a hit at 3 to 8"] == 1.0
  assert fidelity.character([game])["hits a point"] == 2.0


def test_a_quantity_missing_on_one_side_is_not_ok():
  assert not fidelity.Row("q", 1.0, float("nan"), 1.0).is_ok
  assert fidelity.Row("q", 1.0, 1.5, 0.5).is_ok and not fidelity.Row("q", 1.0, 1.51, 0.5).is_ok


def test_main_writes_a_table_and_pictures_and_fails_where_something_is_wrong(tmp_path, capsys, monkeypatch):
  with flagsaver.flagsaver(workdir=str(tmp_path), games=1, max_frames=400):
    pong_fidelity.main()
    rows = json.loads((tmp_path / "fidelity.json").read_text())
    assert f"{len(rows)} of {len(rows)} quantities" in capsys.readouterr().out
    assert all(row["is_ok"] for row in rows)
    pictures, sheet = imageio.imread(tmp_path / "pictures.png"), imageio.imread(tmp_path / "variants.png")
    assert pictures.shape == (5 * 4 * 84, 3 * 4 * 84) and sheet.shape == (2 * 4 * 84, 4 * 4 * 84)
    np.testing.assert_array_equal(pictures[:, : 4 * 84], pictures[:, 4 * 84 : 8 * 84])
    assert (pictures[:, 8 * 84 :] == 0).all() and len(np.unique(pictures)) > 20
    monkeypatch.setattr(c, "KNOB_TURN_OHM", 30_000)
    with pytest.raises(SystemExit) as stopped:
      pong_fidelity.main()
    assert stopped.value.code == 1 and "NO" in capsys.readouterr().out
