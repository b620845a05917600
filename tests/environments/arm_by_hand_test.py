"""Typed commands become actions, and drive a world."""

import dataclasses
import itertools

import numpy as np
import pytest

from environments import dm_env_adapter
from environments.arm import by_hand
from experiments.report import video as video_lib
from tests.agents import worlds


@dataclasses.dataclass(frozen=True)
class Joints(worlds.Bandit):
  num_choices: tuple[int, ...] = (3, 3)


def test_commands_by_hand():
  action, num_steps = by_hand.parse_command("2+ 3- 10", 6)
  assert action.tolist() == [1, 2, 0, 1, 1, 1] and num_steps == 10
  assert by_hand.parse_command("hold 5", 2)[0].tolist() == [1, 1]
  with pytest.raises(ValueError, match="'7[+]' is no command: joints are 1 to 6"):
    by_hand.parse_command("7+", 6)
  with pytest.raises(ValueError, match="99999999999999999999 steps are more than a day; give at most 1000000"):
    by_hand.parse_command("2+ 99999999999999999999", 6)


def test_driving_by_hand_plays_the_commands(capsys):
  environment = video_lib.Filmed(dm_env_adapter.DmEnv(worlds.Bandit(), seed=0))
  by_hand.drive(environment, ["1-", "nonsense", "reset", "hold", "quit", "1+"])
  out = capsys.readouterr().out
  assert "the episode ends with return" in out and "'nonsense' is no command" in out and "a new episode" in out


def test_random_commands_go_on_over_episodes(capsys):
  by_hand.drive(dm_env_adapter.DmEnv(Joints(), seed=0), ["random 2+", "random 10"])
  out = capsys.readouterr().out
  assert "'random' is no command" in out and out.count("the episode ends with return") > 1


def test_at_random_every_joint_moves_always_and_keeps_its_way_for_six_steps():
  """On average it draws anew every third step, half the time the same direction."""
  actions = np.stack(list(itertools.islice(by_hand.random_actions(np.random.default_rng(0), 4), 3000)))
  assert actions.dtype == np.int32 and set(actions.ravel().tolist()) == {0, 2}
  np.testing.assert_allclose(np.mean(actions[1:] != actions[:-1], axis=0), 1 / 6, rtol=0.15)
