"""Finds the twin that moves as a recorded arm did: fields of `twin.TwinConfig` by least squares, with intervals.

    min over fields: sum of |q_twin(t - latency) - q_recorded(t) - offset|^2

From the start of each episode the twin's model is told what the gate told the arm, and nothing else (open loop). The
offset is the mean difference of a joint in an episode. It absorbs the noise of the reading from which a rollout starts.
Only the arm's six joints count. The fingers do not, because their damping looks like their gain. The weight that the
firmware does not carry shows mass and carried share only together. Mass alone shows in the little that it adds to the
motors' inertia, in motion to and fro. If that is too little, the mass stays as it was. Intervals are jackknifed over
episodes, and what no field explains widens them.
"""

import bisect
import dataclasses
import difflib
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np
import scipy
from mujoco import rollout

from environments.arm import recording, safety, twin
from environments.jaco import constants


class _Search(NamedTuple):
  """How a field is found: as itself, or as its inverse, if rollouts are more nearly linear in that."""

  step: float  # Of central differences: long, since friction and torque limits make rollouts rough.
  low: float
  high: float
  is_inverse: bool = False
  widest: float = 0.5  # Largest half-interval, as a share of the estimate or of two steps; a wider one says nothing.


FIELDS: Mapping[str, _Search] = {
  "servo_speed_scale": _Search(0.01, 0.2, 2.0),
  "action_latency_s": _Search(0.005, 0.0, 0.3),
  "servo_gain_scale": _Search(0.15, 0.05, 10.0, is_inverse=True),  # A servo's lag is the inverse of its gain.
  "friction_scale": _Search(0.15, 0.0, 10.0),
  "gravity_compensation": _Search(0.05, 0.0, 2.0),
  "mass_scale": _Search(0.1, 0.1, 10.0, widest=0.1),
}
MASS = "mass_scale"  # The episodes need not determine it.
# The fields that `calibration` finds, each with its shape.
CAMERA: Mapping[str, tuple[int, ...]] = {
  "camera_shift_m": (3,),
  "camera_rotation_deg": (3,),
  "camera_fov_shift_deg": (),
}
_ARM = slice(constants.NUM_ARM_JOINTS)
_FEWEST, _MOST, _SHORTEST_S = 4, 64, 1.0  # Fewest and most episodes, and the shortest one's length.
_TRIED = 4  # One of this many episodes is not fitted.
_ROUGH, _ROUGH_TOLERANCE = 8, 1e-3  # A search begins with this many episodes.
_STIFF = {"servo_gain_scale": 5.0}  # Started only from a soft servo, a search for a stiff one stops half-way.
_TOLERANCE = 1e-5  # Of the sum of squares. For thousands of readings, a thousandth of it is more than their noise.


class Episode(NamedTuple):
  """Where an arm was, and what it was told. Times count from the first reading."""

  time_s: np.ndarray  # [T] of the readings.
  qpos_rad: np.ndarray  # [T, J]
  qvel_rad_s: np.ndarray  # [J] at the first reading.
  told_s: np.ndarray  # [N] when the driver got each velocity; the first one is rest.
  told_rad_s: np.ndarray  # [N, J]


class Estimate(NamedTuple):
  """The value of a field, and the ends of its 95 % interval."""

  value: float
  low: float
  high: float


def episodes(path: pathlib.Path) -> list[Episode]:
  """The episodes of the recording `path` that last a second or more. Of very many, it takes some from all of it.

  Raises:
    ValueError: if there is no recording, or too few episodes, or none in which the arm was told to move.
  """
  found = [episode for items in recording.sessions(path, pictures=False) for episode in _of_session(list(items))]
  if len(found) < _FEWEST:
    raise ValueError(
      f"--recording={path} has {len(found)} episodes of {_SHORTEST_S:g} s or more; identification needs {_FEWEST}"
    )
  if not any(episode.told_rad_s[:, _ARM].any() for episode in found):
    raise ValueError(f"--recording={path}: the arm was never told to move, so nothing is identifiable; drive it")
  return found[:: math.ceil(len(found) / _MOST)]


def split(found: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
  """The episodes to fit, and every fourth one, on which the fit is tested."""
  tried = list(found[_TRIED - 1 :: _TRIED])
  return [episode for index, episode in enumerate(found) if index % _TRIED != _TRIED - 1], tried


def fit(config: twin.TwinConfig, found: Sequence[Episode]) -> dict[str, Estimate]:
  """The fields of the twin that moves as in these episodes. `config` has the other fields and the initial values.

  `MASS` is left out if the episodes do not determine it. The other fields are then found with the mass of `config`.

  Raises:
    ValueError: if the episodes do not determine another field.
  """
  without_mass = [name for name in FIELDS if name != MASS]
  # The search for mass starts where the rest is nearly right: an arm whose whole weight is carried moves
  # alike with any mass.
  some = found[:: math.ceil(len(found) / _ROUGH)]
  begins = config, with_fields(config, _STIFF)
  rough = [_search(begin, some, without_mass, tolerance=_ROUGH_TOLERANCE) for begin in begins]
  _, estimates, _ = min(rough, key=lambda one: one[0])
  config = with_fields(config, {name: estimate.value for name, estimate in estimates.items()})
  for names in (list(FIELDS), without_mass):
    _, estimates, vague = _search(config, found, names, tolerance=_TOLERANCE)
    if not vague:
      return estimates
  raise ValueError(f"the recording does not say what {', '.join(vague)} is; move every joint of the arm, both ways")


def with_fields(config: twin.TwinConfig, fields: Mapping[str, Any]) -> twin.TwinConfig:
  """`config` with these fields replaced."""
  return dataclasses.replace(config, **dict[str, Any](fields))


def error_rad(config: twin.TwinConfig, found: Sequence[Episode]) -> float:
  """Root mean square distance of the arm's joints from those of rollouts, from the start of each episode on."""
  return float(np.sqrt(np.mean(np.concatenate([error.ravel() for error in _differences(config, found)]) ** 2)))


def _is_finite(number: float) -> bool:
  try:
    return math.isfinite(number)
  except OverflowError:  # A whole number with hundreds of digits.
    return False


def read(path: pathlib.Path) -> dict[str, Any]:
  """Reads the fields that `arm --mode=identify` wrote, as JSON.

  Raises:
    ValueError: if it is not such a file.
  """
  try:
    fields = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f"{path} is no JSON ({error}); --mode=identify writes one") from None
  shapes: dict[str, tuple[int, ...]] = {**dict.fromkeys(FIELDS, ()), **CAMERA}
  for name, value in fields.items() if isinstance(fields, dict) else [(str(fields), None)]:
    if name not in shapes:
      nearest = difflib.get_close_matches(name, shapes, n=1, cutoff=0.0)[0]
      raise ValueError(f"{path}: {name!r} is unknown; the nearest is {nearest!r}, all are {', '.join(shapes)}")
    numbers = value if isinstance(value, list) else [value]
    is_numbers = all(isinstance(one, int | float) and _is_finite(one) for one in numbers)
    if not is_numbers or ((len(numbers),) if isinstance(value, list) else ()) != shapes[name]:
      raise ValueError(f"{path}: {name}={value!r} is no {'list of three numbers' if shapes[name] else 'number'}")
  return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def roll_out(config: twin.TwinConfig, found: Sequence[Episode]) -> list[np.ndarray]:
  """The twin's positions at the readings' times, without noise: `[T, J]` for each episode."""
  model, dt_s = twin.build_model(config), config.physics_dt_s
  num_steps = max(int(np.ceil(episode.time_s[-1] / dt_s)) for episode in found)
  starts = np.stack([np.concatenate([[0.0], episode.qpos_rad[0], episode.qvel_rad_s]) for episode in found])
  velocities = np.stack([_held(episode, num_steps, dt_s) for episode in found])
  threads = [mujoco.MjData(model) for _ in os.sched_getaffinity(0)]
  states, _ = rollout.rollout(model, threads, starts, config.servo_speed_scale * velocities)
  qpos = np.concatenate([starts[:, None], states], axis=1)[..., 1 : 1 + constants.NUM_JOINTS]
  # A command told later by the latency acts later by the latency. Shifting the times keeps rollouts smooth in it.
  times = dt_s * np.arange(num_steps + 1)
  return [
    np.stack([np.interp(episode.time_s - config.action_latency_s, times, joint) for joint in path.T], axis=1)
    for episode, path in zip(found, qpos, strict=True)
  ]


def _of_session(items: Sequence[recording.Item]) -> Iterator[Episode]:
  """The episodes of one session that are long enough."""
  told = sorted((item for item in items if isinstance(item, safety.Told)), key=lambda one: one.time_s)
  told_s, stop_s = [one.time_s for one in told], [one.time_s for one in told if one.why == "stop"]
  for steps in recording.in_episodes(items):
    if steps[-1].reading.time_s - steps[0].reading.time_s >= _SHORTEST_S:
      # Only commands since the arm's last stop count: a simulated arm was placed then, and earlier ones are forgotten.
      stop = bisect.bisect_right(stop_s, steps[0].time_s)
      begin = bisect.bisect_left(told_s, stop_s[stop - 1]) if stop else 0
      yield _episode(steps, told[begin : bisect.bisect_right(told_s, steps[-1].time_s)])


def _episode(steps: Sequence[recording.Step], told: Sequence[safety.Told]) -> Episode:
  start_s = steps[0].reading.time_s
  return Episode(
    np.array([step.reading.time_s for step in steps]) - start_s,
    np.array([step.reading.qpos_rad for step in steps]),
    steps[0].reading.qvel_rad_s,
    np.array([-np.inf, *(one.time_s - start_s for one in told)]),
    np.array([np.zeros(constants.NUM_JOINTS), *(one.allowed_rad_s for one in told)]),
  )


def _held(episode: Episode, num_steps: int, dt_s: float) -> np.ndarray:
  """The velocities that hold in each physics step, `[num_steps, J]`."""
  newest = np.searchsorted(np.round(episode.told_s / dt_s), np.arange(num_steps), side="right") - 1
  return episode.told_rad_s[newest]


def _differences(config: twin.TwinConfig, found: Sequence[Episode]) -> list[np.ndarray]:
  paths = roll_out(config, found)
  return [(path - episode.qpos_rad)[:, _ARM] for path, episode in zip(paths, found, strict=True)]


def _errors(config: twin.TwinConfig, found: Sequence[Episode]) -> list[np.ndarray]:
  """Differences minus their offsets."""
  return [difference - difference.mean(axis=0) for difference in _differences(config, found)]


def _search(
  config: twin.TwinConfig, found: Sequence[Episode], names: Sequence[str], *, tolerance: float
) -> tuple[float, dict[str, Estimate], list[str]]:
  """The least sum of squares over these fields, the fields there, and those that the episodes do not determine."""
  step, low, high, is_inverse, widest = np.array([FIELDS[name] for name in names], np.float64).T
  low, high = low / step, high / step

  def residuals(x: np.ndarray) -> np.ndarray:
    return np.concatenate([error.ravel() for error in _errors(with_fields(config, _fields(names, x)), found)])

  def jacobian(x: np.ndarray) -> np.ndarray:
    ends = [(np.maximum(x - one, low), x + one) for one in np.eye(x.size)]
    return np.stack([(residuals(b) - residuals(a)) / np.sum(b - a) for a, b in ends], axis=1)

  start = np.array([getattr(config, name) for name in names], np.float64) ** np.where(is_inverse, -1.0, 1.0) / step
  start = np.clip(start, low + np.where(is_inverse, 1.0, 2.0), high)  # At its lower end a search would stay.
  end = scipy.optimize.least_squares(residuals, start, jacobian, bounds=(low, high), xtol=tolerance, ftol=tolerance)
  half = half_widths(end.fun, end.jac, [episode.time_s.size * constants.NUM_ARM_JOINTS for episode in found])
  values, one_end, other = (_fields(names, x) for x in (end.x, end.x - half, end.x + half))
  estimates = {name: Estimate(values[name], *sorted((one_end[name], other[name]))) for name in names}
  is_vague = half > widest * np.maximum(end.x, 2.0)
  return 2.0 * end.cost, estimates, [name for name, is_so in zip(names, is_vague, strict=True) if is_so]


def _fields(names: Sequence[str], x: np.ndarray) -> dict[str, float]:
  """The fields at a point of the search."""
  step, _, _, is_inverse, _ = np.array([FIELDS[name] for name in names], np.float64).T
  with np.errstate(divide="ignore"):
    values = np.maximum(x * step, 0.0) ** np.where(is_inverse, -1.0, 1.0)
  return dict(zip(names, values.tolist(), strict=True))


def half_widths(residuals: np.ndarray, jacobian: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
  """Half of each 95 % interval, by the jackknife: one Gauss-Newton step for each episode that is left out.

  A half is at least as wide as with independent residuals, because a few episodes may happen to agree. It is infinite
  if the episodes cannot separate the fields.
  """
  ends, normal, num_episodes = np.cumsum(sizes)[:-1], jacobian.T @ jacobian, len(sizes)
  if np.linalg.cond(normal) > 1e12:
    return np.full(len(normal), np.inf)
  parts = zip(np.split(jacobian, ends), np.split(residuals, ends), strict=True)
  moves = np.stack([np.linalg.solve(normal - part.T @ part, part.T @ residual) for part, residual in parts])
  independent = residuals @ residuals / (residuals.size - len(normal)) * np.diag(np.linalg.inv(normal))
  variance = np.maximum((num_episodes - 1) * moves.var(axis=0), independent)
  return scipy.stats.t.ppf(0.975, num_episodes - 1) * np.sqrt(variance)
