"""The benchmark counts right and its stages run; how fast they are is not for a test to say."""

import time

import pytest

from experiments import benchmark

TINY = benchmark.Settings(num_worlds=4, seconds=0.01, is_cpu=True)


def test_rates_are_those_of_the_clock():
  blocks = benchmark._blocks([lambda: time.sleep(0.02), lambda: time.sleep(0.04)], TINY)
  assert len(blocks) >= 5
  assert 20 < benchmark._median([ours for ours, _ in blocks], 1) <= 50
  assert 1.5 < benchmark._median_ratio(blocks) < 2.5


@pytest.mark.parametrize("stage", ["physics", "pixels"])
def test_a_stage_runs_beside_its_peer(stage):
  rows = list(benchmark.measure("jaco", [stage], TINY))
  ours, peer, ratio = rows
  assert ours.stage == stage and ours.aim and all(row.measured > 0 for row in rows)
  assert ratio.measured == pytest.approx(ours.measured / peer.measured, rel=0.9)  # Medians of ratios and of rates.
  assert "| measured | unit | aim |" in benchmark.table(rows)


def test_every_stage_is_named_once_and_others_are_refused():
  assert set(benchmark.SUITES["jaco"]) == {"physics", "pixels", "act", "learn", "play", "train", "bridge"}
  with pytest.raises(ValueError, match="--suite=chess is not one of jaco"):
    next(benchmark.measure("chess", [], TINY))
  with pytest.raises(ValueError, match="--stages=sleep is not one of physics"):
    next(benchmark.measure("jaco", ["sleep"], TINY))
