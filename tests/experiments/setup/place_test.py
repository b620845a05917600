"""Places where a run learns: what is refused, and how many worlds there are."""

import pytest

from environments import dm_env_adapter, registry
from environments.arm import client
from experiments.setup import place
from tests.agents import worlds


@pytest.mark.parametrize("option", ["seed", "observations"])
def test_seed_and_observations_are_not_world_options(option):
  with pytest.raises(ValueError, match=f'"pong/pong" has no option "{option}"'):
    place.make("pong/pong", {option: 3})


def test_without_names_all_that_a_world_shows_is_shown(monkeypatch):
  world = worlds.CueRecall()
  monkeypatch.setattr(registry, "make", lambda name, *, seed, observations: (world, observations))
  assert place.make("own", {}).world == (world, None)


def test_worlds_behind_dm_env_differ_in_their_seeds_and_an_arm_is_one(monkeypatch):
  seeds = []

  def make(name, *, seed, **_):
    seeds.append(seed)
    return dm_env_adapter.DmEnv(worlds.CueRecall(), seed=seed)

  monkeypatch.setattr(registry, "make", make)
  for count in (1, 3):
    assert len(place.make("own", {}, seed=7, num_worlds=count).worlds) == count
  assert seeds[:2] == [7, 7] and len(set(seeds[1:])) == 3 and max(seeds) < 2**31
  place.make("own", {}, seed=7, first_step=100, num_worlds=3)
  assert len(set(seeds)) == 6 and max(seeds) < 2**31  # Other episodes when a run continues.
  closed = []
  monkeypatch.setattr(dm_env_adapter.DmEnv, "is_unique", client.ArmEnvironment.is_unique, raising=False)
  monkeypatch.setattr(dm_env_adapter.DmEnv, "close", lambda self: closed.append(self))
  with pytest.raises(ValueError, match="train.num_worlds=2: own is one arm; set train.num_worlds=1"):
    place.make("own", {}, num_worlds=2)
  assert len(closed) == 1  # A refused run has left the arm.
