"""What a sweep draws, and that its mistakes are refused by name."""

import pytest
from ml_collections import config_dict

from experiments.configs import pong_soup
from experiments.setup import sweep


def test_a_whole_number_of_the_config_may_be_drawn():
  config = pong_soup.get_config("paper")
  assert isinstance(config.train.hyper.anneal_updates, int)
  config.sweep.sampled = (("train.hyper.anneal_updates", "choice", (50, 50.5)), ("alpha", "choice", (0.5,)))
  members = [sweep.sample(config, i) for i in range(2)]
  assert {member.train.hyper.anneal_updates for member in members} == {50.0, 50.5}
  assert {member.alpha for member in members} == {0.5}


def test_mistakes_are_refused_by_name():
  config = pong_soup.get_config("smoke")
  config.sweep.sampled = (("train.hyper.lerning_rate", "choice", (1.0,)),)
  below_a_number = config.copy_and_resolve_references()
  below_a_number.sweep.sampled = (("train.steps.many", "choice", (1.0,)),)
  with pytest.raises(ValueError, match="train.steps.many, which is no field"):
    sweep.sample(below_a_number, 0)
  with pytest.raises(ValueError, match="train.hyper.lerning_rate, which is no field"):
    sweep.sample(config, 0)
  for name in ("train.num_worlds", "train.hyper.optimizer", "world", "world_options.far"):
    config.world_options.far = 1.0
    config.sweep.sampled = ((name, "choice", (1.0, 2.0)),)
    with pytest.raises(ValueError, match=f"draws {name}, in which runs side by side cannot differ"):
      sweep.sample(config, 0)
  config.sweep.sampled = (("alpha", "choice", ()),)
  with pytest.raises(ValueError, match="no values for alpha"):
    sweep.sample(config, 0)
  config.sweep.sampled = (("alpha", "uniform", (1.0, 2.0)),)
  with pytest.raises(ValueError, match="alpha by 'uniform'"):
    sweep.sample(config, 0)
  assert isinstance(sweep.sample(pong_soup.get_config("smoke"), 0), config_dict.ConfigDict)
