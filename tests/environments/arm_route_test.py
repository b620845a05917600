"""Routes to a start, and home, that the gate accepts."""

import dataclasses

import numpy as np
import pytest

from environments.arm import route, safety
from environments.jaco import constants

LIMITS = safety.jaco_limits()
FOLDED = np.array([1.8, 4.5, 0.9, 4.5, -1.7, -2.6, 0.8, 0.8, 0.8])  # The straight way home leads through the arm.


def clearances(here, way, *, num_joints=9):
  """Clearances in metres on straight lines between poses, in steps of a hundredth."""
  found, here = [], here.copy()
  for pose in way:
    gap = route.Routes(LIMITS, num_joints).gap(here, pose)
    found += [LIMITS.clearance_m(here + part * gap) for part in np.linspace(0.0, 1.0, 101)]
    here = here + gap
  return np.array(found)


def test_a_gap_is_the_short_way_and_joints_that_rest_have_none():
  here = np.array([0.1, 3.0, 1.0, 6.2, 0.0, -6.2, 0.5, 0.5, 0.5])
  there = np.array([6.2, 2.0, 2.0, 0.1, 7.0, 0.1, 0.1, 0.1, 0.1])
  turn = 2 * np.pi
  expected = [6.1 - turn, -1.0, 1.0, -6.1 + turn, 7.0 - turn, 6.3 - turn, 0.0, 0.0, 0.0]
  np.testing.assert_allclose(route.Routes(LIMITS, 6).gap(here, there), expected, atol=1e-12)


def test_what_is_clear_is_gone_to_straight():
  there = constants.HOME_RAD + 0.3 * np.array([1, -1, 1, 1, -1, 1, 0, 0, 0])
  routes = route.Routes(LIMITS)
  np.testing.assert_allclose(routes.clear_part(constants.HOME_RAD, there), there, atol=1e-12)
  np.testing.assert_array_equal(routes.way(constants.HOME_RAD, there), [there])


@pytest.mark.parametrize("num_joints", [6, 9])
def test_a_blocked_way_is_left_by_steps_that_stay_clear(num_joints):
  assert clearances(FOLDED, [constants.HOME_RAD], num_joints=num_joints).min() < 0.0
  way = route.Routes(LIMITS, num_joints).way(FOLDED, constants.HOME_RAD)
  assert clearances(FOLDED, way, num_joints=num_joints).min() > LIMITS.margin_m
  for pose in way[:-1]:
    np.testing.assert_array_equal(pose[num_joints:], FOLDED[num_joints:])


def test_a_blocked_goal_is_approached_while_clear():
  """The last part of the line from home to the folded pose is not clear. Here the test searches that line."""
  there = constants.HOME_RAD + route.Routes(LIMITS).gap(constants.HOME_RAD, FOLDED)
  parts = np.linspace(0.0, 1.0, 1001)
  along = [LIMITS.clearance_m(constants.HOME_RAD + part * (there - constants.HOME_RAD)) for part in parts]
  until = parts[np.argmax(np.less(along, 0.03))]
  assert 0.1 < until < 0.9
  pose = route.Routes(LIMITS).clear_part(constants.HOME_RAD, there)
  part = (pose - constants.HOME_RAD)[0] / (there - constants.HOME_RAD)[0]
  np.testing.assert_allclose(pose, constants.HOME_RAD + part * (there - constants.HOME_RAD), atol=1e-9)
  assert until - 0.05 < part < until


def test_uncommanded_joints_keep_their_angles_in_routes():
  here = constants.HOME_RAD + 0.2
  pose = route.Routes(LIMITS, 6).clear_part(here, constants.HOME_RAD + np.repeat([0.1, 0.0], [6, 3]))
  np.testing.assert_allclose(pose, constants.HOME_RAD + np.repeat([0.1, 0.2], [6, 3]))


def test_an_arm_without_obstacles_goes_straight_everywhere():
  free = route.Routes(dataclasses.replace(LIMITS, clearance_m=None))
  np.testing.assert_array_equal(free.way(FOLDED, constants.HOME_RAD), [constants.HOME_RAD])
