"""The arm as round segments: one set of primitives for collision and drawing; masses are dm_control's (`model`).

Each link is a few capsules that we fitted to the bounding boxes of dm_control's Kinova meshes, with a light ring around
each joint as on the real arm. Rings are flat-ended cylinders. They are drawn but never collide.
"""

import itertools
from typing import NamedTuple

import numpy as np

from environments.jaco import constants

# Materials: rows of `constants.COLORS`.
DARK, LIGHT, TARGET = 0, 1, 2


class Segment(NamedTuple):
  """All points within `radius` of a line segment, in metres in the frame of `body`; `is_flat` cuts off its ends."""

  body: int
  start: tuple[float, float, float]
  end: tuple[float, float, float]
  radius: float
  material: int
  is_flat: bool = False


_FINGER = (((0.004, -0.006, 0.0), (0.044, -0.008, 0.0), 0.0105), ((0.048, -0.008, 0.0), (0.078, -0.012, 0.0), 0.0095))
# (body, half height, radius) of dm_control's rings.
_RINGS = ((1, 0.011, 0.044), (2, 0.011, 0.044), (3, 0.011, 0.044)) + ((4, 0.009, 0.035), (5, 0.009, 0.035))
_RING_6 = (6, 0.009, 0.035)

LINKS = (
  Segment(0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.157), 0.0413, DARK, is_flat=True),
  Segment(1, (0.0, 0.0, 0.0), (0.0, 0.0, -0.119), 0.0405, DARK),
  Segment(2, (0.0, 0.0, -0.0205), (0.0, -0.41, -0.0205), 0.034, DARK),
  Segment(3, (0.0, 0.0, -0.016), (0.0, 0.18, -0.0114), 0.0315, DARK),
  Segment(4, (0.0, 0.0, -0.01), (0.0, -0.02, -0.056), 0.0315, DARK),
  Segment(5, (0.0, 0.0, -0.01), (0.0, -0.02, -0.056), 0.0315, DARK),
  Segment(6, (0.0, 0.0, -0.01), (0.0, 0.0, -0.07), 0.034, DARK),
  Segment(6, (0.0, 0.018, -0.085), (0.0, -0.016, -0.085), 0.036, DARK),
) + tuple(Segment(finger, a, b, r, LIGHT) for finger in (7, 8, 9) for a, b, r in _FINGER)

RINGS = tuple(Segment(b, (0.0, 0.0, -h), (0.0, 0.0, h), r, LIGHT, is_flat=True) for b, h, r in (*_RINGS, _RING_6))

# Segments that cast the arm's shadow on the table: from body, to body (None: the palm), radius in metres. They are the
# upper arm, the forearm, and what lies between wrist and palm.
SHADOWS = ((2, 3, 0.035), (3, 4, 0.032), (4, 6, 0.032), (6, None, 0.04))


class Segments(NamedTuple):
  """Segments as arrays."""

  body: np.ndarray  # [N] int32
  start: np.ndarray  # [N, 3] float32, metres, body frame
  end: np.ndarray  # [N, 3]
  radius: np.ndarray  # [N]
  material: np.ndarray  # [N] int32


def segments(parts: tuple[Segment, ...]) -> Segments:
  """Stacks `parts` into arrays."""
  types = {"body": np.int32, "material": np.int32}
  columns = {field: [getattr(part, field) for part in parts] for field in Segments._fields}
  return Segments(**{field: np.array(column, types.get(field, np.float32)) for field, column in columns.items()})


# Neighbours along the chain overlap by construction. Around the short wrist, a link also overlaps the next but one.
_MIN_BODIES_APART = 3


def _order(body: int) -> int:
  """Position along the chain. Fingers have the position of the hand that carries them."""
  return min(body, 6)


PAIRS = np.array(  # [P, 2] indices of `LINKS` that must not touch each other
  [
    (a, b)
    for a, b in itertools.combinations(range(len(LINKS)), 2)
    if _order(LINKS[b].body) - _order(LINKS[a].body) >= _MIN_BODIES_APART
  ]
)
OVER_TABLE = np.array([i for i, link in enumerate(LINKS) if link.body >= 2])  # [M] links that can come down on it.
assert {segment.body for segment in LINKS} == set(range(len(constants.BODY_NAMES)))
