"""Every field of every config has a meaning, in the words of the code that makes it."""

import dataclasses

import pytest

from experiments.configs import continual, jaco_auxiliary, jaco_corl2017, jaco_talk, navigation, pong_soup
from experiments.setup import fields

CONFIGS = {
  "talk": jaco_talk.get_config(),
  "continual": continual.get_config(),
  "corl": jaco_corl2017.get_config(),
  "auxiliary": jaco_auxiliary.get_config("reacher_d1d2l"),
  "navigation": navigation.get_config("paper,nav_d1d2l_clip,static_1"),
  "pong": pong_soup.get_config("paper"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_means_something(name):
  described = list(fields.describe(CONFIGS[name]))
  assert len(described) > 30
  assert [one.name for one in described if not one.meaning] == []


def test_words_and_values_are_those_of_the_code():
  by_name = {one.name: one for one in fields.describe(CONFIGS["talk"])}
  assert by_name["train.steps"] == fields.Field("train.steps", 320_000, "agent steps, over all worlds.")
  assert by_name["world_options.num_joints"].meaning == "9, or 6 without the fingers."
  assert by_name["train.hyper.anneal_updates"].meaning.startswith("Optimiser steps over which")
  assert by_name["train.column.joins"].meaning.endswith("not named here join above the convolutions.")  # Two lines.
  pong = {one.name: one.meaning for one in fields.describe(CONFIGS["pong"])}
  assert pong["world_options.noise_sigma"].startswith("standard deviation of the frozen noise, in grey levels")


def test_what_is_written_in_a_class_is_read():
  @dataclasses.dataclass
  class Thing:
    """A thing.

    Attributes:
      height: how high,
        in metres.
      other: not a field.
    """

    height: float = 1.0
    width: float = 2.0  # How wide.
    depth: float = 3.0

  assert fields.documented(Thing) == {"height": "how high, in metres.", "width": "How wide."}
