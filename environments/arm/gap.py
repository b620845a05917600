"""The reality gap as data: the differences between simulation and twin, and how large each of them is.

    field = (1 - share) * the simulation's number + share * the twin's own

A difference is a group of fields of `twin.TwinConfig`, whose defaults are the twin's own numbers. A level names a
share. Whatever no field holds is the same at every level: true meshes, a table without planks, contacts, OpenGL, and
the safety gate.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from environments.arm import twin
from environments.jaco import constants

LEVELS = {"none": 0.0, "subtle": 0.25, "significant": 0.5, "full": 1.0}
_NOWHERE, _SAME = (0.0, 0.0, 0.0), 1.0
_DARK, _LIGHT, _BALL, _PLANK, _OTHER_PLANK, _BORDER, _FLOOR = (tuple(rgb) for rgb in constants.COLORS.tolist())
# Difference -> its fields, each with the simulation's number.
DIFFERENCES: Mapping[str, Mapping[str, Any]] = {
  "camera": {"camera_shift_m": _NOWHERE, "camera_rotation_deg": _NOWHERE, "camera_fov_shift_deg": 0.0},
  "color": {
    "arm_dark_rgb": _DARK,
    "arm_light_rgb": _LIGHT,
    "table_rgb": tuple(np.mean([_PLANK, _OTHER_PLANK], axis=0).tolist()),
    "floor_rgb": _FLOOR,
    "target_rgb": _BALL,
    "post_rgb": _BORDER,
  },
  "light": {
    "light_position_m": tuple((2.7 * constants.LIGHT_DIRECTION).tolist()),  # About as far away as the twin's light.
    "light_rgb": (1.0 - constants.AMBIENT,) * 3,
    "ambient_rgb": (constants.AMBIENT,) * 3,
    "specular": 0.0,
  },
  "shadow": {"shadow": 1.0},
  "latency": {"action_latency_s": 0.0},
  "noise": {"qpos_noise_rad": 0.0, "qvel_noise_rad_s": 0.0, "target_noise_m": 0.0, "pixel_noise": 0.0},
  "mass": {"mass_scale": _SAME, "gravity_compensation": _SAME},
  "friction": {"friction_scale": _SAME, "damping_scale": _SAME},
  "servo": {"servo_gain_scale": _SAME, "servo_speed_scale": _SAME},
}


def make_twin(gap: str = "full", **fields: Any) -> twin.TwinConfig:
  """The twin with this much of the gap, and with the given `fields` of `twin.TwinConfig`.

  Args:
    gap: a level for all differences, levels for single ones (all others: none), or a level and exceptions:
      "significant", "camera:full,light:subtle", "full,camera:none". If something is said twice, the last one counts.

  Raises:
    ValueError: for an unknown level or difference; the error gives the nearest one.
  """
  shares = _shares(gap)
  numbers = {
    field: _between(simulated, getattr(twin.TwinConfig, field), shares[difference])
    for difference, of in DIFFERENCES.items()
    for field, simulated in of.items()
  }
  return twin.TwinConfig(**(numbers | fields))


def _shares(gap: str) -> dict[str, float]:
  """Maps each difference to its share in `gap`."""
  shares = dict.fromkeys(DIFFERENCES, LEVELS["none"])
  for part in str(gap).split(","):  # Also a number, as a command line reads it.
    difference, colon, level = part.rpartition(":")
    if colon and difference not in DIFFERENCES:
      raise _unknown(gap, "difference", difference, DIFFERENCES)
    if level not in LEVELS:
      raise _unknown(gap, "level", level, LEVELS)
    shares |= dict.fromkeys([difference] if colon else DIFFERENCES, LEVELS[level])
  return shares


def _unknown(gap: str, kind: str, name: str, known: Mapping[str, Any]) -> ValueError:
  nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
  return ValueError(f"gap={gap}: no {kind} is called {name!r}; the nearest is {nearest!r}, all are {', '.join(known)}")


def _between(simulated: Any, twins: Any, share: float) -> Any:
  """A number, or each of a tuple's, at a share of the gap; exactly one end or the other at 0 and 1."""
  if isinstance(simulated, tuple):
    return tuple(_between(*pair, share) for pair in zip(simulated, twins, strict=True))
  return (1.0 - share) * simulated + share * twins
