"""Worlds are found by name, and a wrong name is answered with the nearest."""

import pytest

from environments import registry


def test_every_name_makes_a_world():
  assert {"jaco/reach/fixed", "jaco/reach/random"} <= set(registry.names())
  for name in registry.names():
    world = registry.make(name)
    assert world.action_spec().shape and "pixels" in world.observation_spec()


def test_an_unknown_name_is_answered_with_the_nearest():
  with pytest.raises(ValueError, match='"jaco/reach/random"'):
    registry.make("jaco/reach/randon")
