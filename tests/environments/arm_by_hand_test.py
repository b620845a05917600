"""Typed commands become actions, and drive a world."""

import pytest

from environments import dm_env_adapter
from environments.arm import by_hand
from experiments.report import video as video_lib
from tests.agents import worlds


def test_commands_by_hand():
  action, num_steps = by_hand.parse_command("2+ 3- 10", 6)
  assert action.tolist() == [1, 2, 0, 1, 1, 1] and num_steps == 10
  assert by_hand.parse_command("hold 5", 2)[0].tolist() == [1, 1]
  with pytest.raises(ValueError, match="'7[+]' is no command: joints are 1 to 6"):
    by_hand.parse_command("7+", 6)


def test_driving_by_hand_plays_the_commands(capsys):
  environment = video_lib.Filmed(dm_env_adapter.DmEnv(worlds.Bandit(), seed=0))
  by_hand.drive(environment, ["1-", "nonsense", "reset", "hold", "quit", "1+"])
  out = capsys.readouterr().out
  assert "the episode ends with return" in out and "'nonsense' is no command" in out and "a new episode" in out
