"""The benchmark counts correctly and its stages run. Tests do not judge how fast they are."""

import json
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from environments import dm_env_adapter
from experiments import benchmark as benchmark_binary
from experiments.configs import base, pong_soup
from experiments.suites import benchmark, pong_stages, stages
from tests.agents import worlds
from tests.experiments.running import run_test

TINY = stages.Settings(num_worlds=4, seconds=0.01, is_cpu=True)


class Clock:
  """Stands in for `time`: `tick_s`, a second by default, passes between two readings, and `sleep` adds to it."""

  def __init__(self):
    self.now_s, self.tick_s = 0.0, 1.0

  def perf_counter(self):
    self.now_s += self.tick_s
    return self.now_s

  def sleep(self, seconds):
    self.now_s += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(stages, "time", clock)
  return clock


def test_rates_are_those_of_the_clock(clock):
  clock.tick_s = 0.0
  blocks = stages.blocks([lambda: clock.sleep(0.02), lambda: clock.sleep(0.04)], TINY)
  assert len(blocks) == 5
  assert stages.rate([ours for ours, _ in blocks], 3) == pytest.approx(150)
  assert stages.ratio(blocks) == pytest.approx(2)


@pytest.mark.parametrize("stage", ["physics", "pixels"])
def test_a_stage_runs_beside_its_peer(stage):
  rows = list(benchmark.measure("jaco", [stage], TINY))
  ours, peer, ratio = rows
  assert ours.stage == stage and ours.aim and all(row.measured > 0 for row in rows)
  assert ratio.measured == pytest.approx(ours.measured / peer.measured)
  assert "| measured | unit | aim |" in benchmark.table(rows)


def test_pong_s_worlds_run_beside_the_emulator_s():
  pytest.importorskip("ale_py")
  ours, peer, ratio = benchmark.measure("pong", ["worlds"], TINY)
  assert ratio.aim == ">= 30" and min(ours.measured, peer.measured) > 0
  assert ratio.measured == pytest.approx(ours.measured / peer.measured)


def test_learning_pong_runs_beside_a2c():
  pytest.importorskip("stable_baselines3")
  ours, *rest = benchmark.measure("pong", ["peer"], TINY)
  assert len(rest) == 4
  for peer, ratio in (rest[:2], rest[2:]):
    assert min(ours.measured, peer.measured) > 0
    assert ratio.measured == pytest.approx(ours.measured / peer.measured)


def test_without_a2c_its_stage_says_what_to_install(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "stable_baselines3", None)
  assert not list(benchmark.measure("pong", ["peer"], TINY))
  assert 'pip install "progressive-robots[peer]"' in capsys.readouterr().err


def test_learning_in_the_emulator_is_measured_without_a_lag_and_with_one(monkeypatch):
  config, made = run_test.make_config(), []
  monkeypatch.setattr(pong_soup, "get_config", lambda: config)
  monkeypatch.setattr(pong_stages, "_PEER_ENVS", 2)
  monkeypatch.setitem(sys.modules, "stable_baselines3", None)

  def make(name, *, seed, **options):
    made.append((name, options["num_actions"]))
    return dm_env_adapter.DmEnv(worlds.CueRecall(), seed=seed)

  worlds.serve(monkeypatch, make)
  waiting, lagging, ratio = benchmark.measure("pong", ["emulator"], TINY)
  assert made == 2 * 2 * [("atari/pong", 3)] and config.train.lag == 1
  assert waiting.measured == lagging.measured == 2 * stages.NUM_STEPS  # The clock's second an update.
  assert ratio.measured == 1.0 and "learning takes" in lagging.note


def test_mazes_of_two_sizes_are_measured():
  worlds_, cost = benchmark.measure("maze", ["worlds"], TINY)
  assert worlds_.measured == 4 * stages.WORLD_STEPS and worlds_.aim == ">= 15,000" and cost.measured == 1.0


def test_a_sweep_is_measured_against_a_run_alone(monkeypatch):
  config = run_test.make_config(lstm=())
  config.sweep = base.sweep(num_runs=3, top=1, sampled=())
  monkeypatch.setattr(pong_soup, "get_config", lambda: config)
  worlds.serve(monkeypatch, lambda name, **options: worlds.CueRecall())
  alone, in_turn, at_once = benchmark.measure("pong", ["sweep"], TINY)
  assert alone.unit == "steps/s" and in_turn.unit == at_once.unit == "x"
  assert alone.measured == 4 * stages.NUM_STEPS  # Steps of an update, which takes a second.
  assert in_turn.measured == at_once.measured == pytest.approx(1 / 3)  # Three runs in the time of one.


def test_some_stages_leave_the_file_of_all_as_it_is(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(
    benchmark.SUITES, "own", {name: lambda settings, name=name: iter([stages.Row(name, 2.0, "x", "")]) for name in "ab"}
  )
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  for chosen in ([], ["b"]):
    with flagsaver.flagsaver(suite="own", stages=chosen, workdir=str(tmp_path)):
      benchmark_binary.main()
  measured = {file.name: json.loads(file.read_text()) for file in tmp_path.iterdir()}
  rows = {name: [row["stage"] for row in one["rows"]] for name, one in measured.items()}
  assert rows == {"own.json": ["a", "b"], "own_b.json": ["b"]}
  assert all({"command", "commit"} <= set(one["provenance"]) for one in measured.values())
  with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match="num_worlds"):
    flags.FLAGS(["benchmark", "--num_worlds=-5"])


def test_every_stage_is_named_once_and_others_are_refused():
  assert set(benchmark.SUITES["jaco"]) == {"physics", "pixels", "act", "learn", "play", "train", "bridge"}
  assert set(benchmark.SUITES["pong"]) == {"worlds", "act", "learn", "play", "train", "peer", "emulator", "sweep"}
  assert set(benchmark.SUITES["maze"]) == {"worlds", "act", "learn", "play", "train"}
  with pytest.raises(ValueError, match="--suite=chess is not one of jaco, pong, maze"):
    next(benchmark.measure("chess", [], TINY))
  with pytest.raises(ValueError, match="--stages=sleep is not one of physics"):
    next(benchmark.measure("jaco", ["sleep"], TINY))
