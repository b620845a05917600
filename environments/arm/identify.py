"""Which twin moves as an arm was recorded to: fields of `twin.TwinConfig` by least squares, and how sure they are.

    min over fields: sum of |q_twin(t - latency) - q_recorded(t) - offset|^2

From the start of each episode the twin's model is told what the gate told the arm, and nothing else (open loop). The
offset, the mean difference of a joint in an episode, takes up the noise of the reading that a rollout starts from. The
arm's six joints count, no fingers, whose damping looks like their gain. Mass shows in the weight that the firmware does
not carry, which is fitted, given the mass. Intervals are jackknifed over episodes: what no field explains widens them.
"""

import bisect
import dataclasses
import difflib
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np
from mujoco import rollout
from scipy import optimize, stats

from environments.arm import recording, safety, twin
from environments.jaco import constants


class _Search(NamedTuple):
  """How a field is found: itself, or one over it where rollouts are more nearly linear in that."""

  step: float  # Of central differences: long, since friction and torque limits make rollouts rough.
  low: float
  high: float
  is_inverse: bool = False


FIELDS: Mapping[str, _Search] = {
  "servo_speed_scale": _Search(0.01, 0.2, 2.0),
  "action_latency_s": _Search(0.005, 0.0, 0.3),
  "servo_gain_scale": _Search(0.15, 0.05, 10.0, is_inverse=True),  # A servo's lag is one over its gain.
  "friction_scale": _Search(0.15, 0.0, 10.0),
  "gravity_compensation": _Search(0.05, 0.0, 2.0),
}
# What `calibration` finds, field -> its shape.
CAMERA: Mapping[str, tuple[int, ...]] = {
  "camera_shift_m": (3,),
  "camera_rotation_deg": (3,),
  "camera_fov_shift_deg": (),
}
_IS_INVERSE = np.array([search.is_inverse for search in FIELDS.values()])
_STEP, _LOW, _HIGH = (np.array([getattr(s, name) for s in FIELDS.values()]) for name in ("step", "low", "high"))
_ARM = slice(constants.NUM_ARM_JOINTS)
_FEWEST, _MOST, _SHORTEST_S = 4, 48, 1.0  # Episodes.
_TRIED = 4  # Of so many episodes one is not fitted.
_WIDEST = 0.5  # An interval's half, as a share of the estimate or of two steps.
_TOLERANCE = 1e-3


class Episode(NamedTuple):
  """Where an arm was, and what it was told; times count from the first reading."""

  time_s: np.ndarray  # [T] Of readings.
  qpos_rad: np.ndarray  # [T, J]
  qvel_rad_s: np.ndarray  # [J] At the first one.
  told_s: np.ndarray  # [N] From when on the driver had a velocity; the first one is rest.
  told_rad_s: np.ndarray  # [N, J]


class Estimate(NamedTuple):
  """A field, and the ends of its 95 % interval."""

  value: float
  low: float
  high: float


def episodes(path: pathlib.Path) -> list[Episode]:
  """The episodes of the recording `path` that last for a second or more; of very many some, from all of it.

  Raises:
    ValueError: there is no recording; there are too few episodes, or none in which the arm was told to move.
  """
  every = list(recording.read(path, pictures=False))
  told = sorted((item for item in every if isinstance(item, safety.Told)), key=lambda one: one.time_s)
  told_s, stop_s = [one.time_s for one in told], [one.time_s for one in told if one.why == "stop"]
  found = []
  for steps in recording.episodes(path, pictures=False):
    if steps[-1].reading.time_s - steps[0].reading.time_s >= _SHORTEST_S:
      # Since the arm was last stopped: a simulated one was put there then, and what it was told before is forgotten.
      stop = bisect.bisect_right(stop_s, steps[0].time_s)
      begin = bisect.bisect_left(told_s, stop_s[stop - 1]) if stop else 0
      found.append(_episode(steps, told[begin : bisect.bisect_right(told_s, steps[-1].time_s)]))
  if len(found) < _FEWEST:
    raise ValueError(
      f"--recording={path} has {len(found)} episodes of {_SHORTEST_S:g} s or more; identification needs {_FEWEST}"
    )
  if not any(episode.told_rad_s[:, _ARM].any() for episode in found):
    raise ValueError(f"--recording={path}: the arm was never told to move, so nothing is identifiable; drive it")
  return found[:: math.ceil(len(found) / _MOST)]


def split(found: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
  """Those that are fitted, and every fourth, on which the fit is tried."""
  tried = list(found[_TRIED - 1 :: _TRIED])
  return [episode for index, episode in enumerate(found) if index % _TRIED != _TRIED - 1], tried


def fit(config: twin.TwinConfig, found: Sequence[Episode]) -> dict[str, Estimate]:
  """The fields of the twin that moves as in these episodes; `config` has the others, and those to begin with.

  Raises:
    ValueError: the episodes do not say what a field is.
  """
  low, high = _LOW / _STEP, _HIGH / _STEP

  def residuals(x: np.ndarray) -> np.ndarray:
    return np.concatenate([error.ravel() for error in _errors(with_fields(config, _fields(x)), found)])

  def jacobian(x: np.ndarray) -> np.ndarray:
    ends = [(np.maximum(x - step, low), x + step) for step in np.eye(x.size)]
    return np.stack([(residuals(b) - residuals(a)) / np.sum(b - a) for a, b in ends], axis=1)

  start = np.array([getattr(config, name) for name in FIELDS])
  start = np.where(_IS_INVERSE, 1.0 / np.where(_IS_INVERSE, start, 1.0), start) / _STEP
  start = np.clip(start, low + 2.0, high)  # At its lower end a search would stay there.
  end = optimize.least_squares(residuals, start, jacobian, bounds=(low, high), xtol=_TOLERANCE, ftol=_TOLERANCE)
  half = half_widths(end.fun, end.jac, [episode.time_s.size * constants.NUM_ARM_JOINTS for episode in found])
  vague = [name for name, is_vague in zip(FIELDS, half > _WIDEST * np.maximum(end.x, 2.0), strict=True) if is_vague]
  if vague:
    raise ValueError(f"the recording does not say what {', '.join(vague)} is; move every joint of the arm, both ways")
  values, *ends = (_fields(x) for x in (end.x, end.x - half, end.x + half))
  return {name: Estimate(values[name], *sorted(end[name] for end in ends)) for name in FIELDS}


def with_fields(config: twin.TwinConfig, fields: Mapping[str, Any]) -> twin.TwinConfig:
  """`config` with these of its fields."""
  return dataclasses.replace(config, **dict[str, Any](fields))


def error_rad(config: twin.TwinConfig, found: Sequence[Episode]) -> float:
  """How far the arm's joints are from where rollouts have them, root mean square, from the start of each episode on."""
  return float(np.sqrt(np.mean(np.concatenate([error.ravel() for error in _differences(config, found)]) ** 2)))


def write(path: pathlib.Path, fields: Mapping[str, Any]) -> None:
  """A new file of these fields of the twin, as JSON."""
  with path.open("x") as file:
    json.dump(fields, file, indent=2)


def read(path: pathlib.Path) -> dict[str, Any]:
  """The fields that `write` wrote.

  Raises:
    ValueError: it is no such file.
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
    is_numbers = all(isinstance(one, int | float) and np.isfinite(one) for one in numbers)
    if not is_numbers or ((len(numbers),) if isinstance(value, list) else ()) != shapes[name]:
      raise ValueError(f"{path}: {name}={value!r} is no {'list of three numbers' if shapes[name] else 'number'}")
  return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def roll_out(config: twin.TwinConfig, found: Sequence[Episode]) -> list[np.ndarray]:
  """Where the twin is at the readings' times, without noise: `[T, J]` for each episode."""
  model, dt_s = twin.build_model(config), config.physics_dt_s
  num_steps = max(int(np.ceil(episode.time_s[-1] / dt_s)) for episode in found)
  starts = np.stack([np.concatenate([[0.0], episode.qpos_rad[0], episode.qvel_rad_s]) for episode in found])
  velocities = np.stack([_held(episode, num_steps, dt_s) for episode in found])
  states, _ = rollout.rollout(model, mujoco.MjData(model), starts, config.servo_speed_scale * velocities)
  qpos = np.concatenate([starts[:, None], states], axis=1)[..., 1 : 1 + constants.NUM_JOINTS]
  # What is told later by the latency happens later by the latency: so rollouts are smooth in it.
  times = dt_s * np.arange(num_steps + 1)
  return [
    np.stack([np.interp(episode.time_s - config.action_latency_s, times, joint) for joint in path.T], axis=1)
    for episode, path in zip(found, qpos, strict=True)
  ]


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
  """Differences less their offsets."""
  return [difference - difference.mean(axis=0) for difference in _differences(config, found)]


def _fields(x: np.ndarray) -> dict[str, float]:
  """The fields at a place of the search."""
  values = np.maximum(x * _STEP, 0.0)
  with np.errstate(divide="ignore"):
    values = np.where(_IS_INVERSE, 1.0 / values, values)
  return dict(zip(FIELDS, values.tolist(), strict=True))


def half_widths(residuals: np.ndarray, jacobian: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
  """Half of each 95 % interval, by the jackknife: one Gauss-Newton step for each episode that is left out.

  Infinite where the episodes do not tell the fields apart.
  """
  ends, normal, num_episodes = np.cumsum(sizes)[:-1], jacobian.T @ jacobian, len(sizes)
  if np.linalg.cond(normal) > 1e12:
    return np.full(len(normal), np.inf)
  parts = zip(np.split(jacobian, ends), np.split(residuals, ends), strict=True)
  moves = np.stack([np.linalg.solve(normal - part.T @ part, part.T @ residual) for part, residual in parts])
  variance = (num_episodes - 1) * moves.var(axis=0)
  return stats.t.ppf(0.975, num_episodes - 1) * np.sqrt(variance)
