"""How often 95 % intervals hold the truth: `python -m tests.environments.arm_coverage --of=motion --out=FILE`.

For motion, each twin's speed, latency, gain, friction, mass and carried weight are drawn. For the camera, each twin's
camera is drawn, as far from where the search begins as the whole gap is, and all else is that of the whole gap. Each
twin gets its own recording, in which the arm is driven at random from starts of `reach/random`. Each fit adds a line
to the file, and the table covers all its lines.
"""

import argparse
import itertools
import json
import pathlib
import tempfile

import jax
import numpy as np

from environments.arm import by_hand, calibration, gap, identify, twin, viewpoint
from environments.jaco import constants, tasks
from tests.environments import arm_recordings

_GAP_M, _GAP_DEG, _GAP_VIEW_DEG = 0.038, 1.9, 1.0  # As in the whole gap.
_HELD_STEPS = 8  # A joint keeps its velocity this long, on average.


# The ranges that motion's fields are drawn from. A twin's latency is a whole number of physics steps.
_RANGES = {
  "servo_speed_scale": (0.8, 1.1),
  "action_latency_s": (0.01, 0.1),
  "servo_gain_scale": (0.3, 1.5),
  "friction_scale": (0.5, 2.5),
  "gravity_compensation": (0.7, 1.05),
  "mass_scale": (0.7, 1.4),
}
_SIMULATION = {name: 0.0 if name == "action_latency_s" else 1.0 for name in _RANGES}


def drawn(rng):
  """A twin with the whole gap and a camera that far off, in random directions, and its viewpoint."""

  def way(length):
    direction = rng.normal(size=3)
    return tuple((length * direction / np.linalg.norm(direction)).tolist())

  view = viewpoint.Viewpoint(way(_GAP_M), way(_GAP_DEG), float(rng.choice([-1.0, 1.0]) * _GAP_VIEW_DEG))
  return identify.with_fields(gap.make_twin("full"), vars(view)), view


def driven(config, rng, *, num_episodes, num_steps, is_to_and_fro=False, has_pictures=True):
  """Records random motion. With `is_to_and_fro` no joint rests, as in `by_hand.random_actions`."""
  task, key = tasks.TASKS["reach/random"], jax.random.key(int(rng.integers(2**31)))
  starts = jax.vmap(lambda key: tasks.draw_start(task, key))(jax.random.split(key, num_episodes))
  shape = num_episodes, num_steps, constants.NUM_JOINTS
  ways, is_new = rng.integers(-1, 2, shape), rng.random(shape) < 1.0 / _HELD_STEPS
  for i in range(1, num_steps):
    ways[:, i] = np.where(is_new[:, i], ways[:, i], ways[:, i - 1])
  if is_to_and_fro:
    actions = itertools.islice(by_hand.random_actions(rng, constants.NUM_JOINTS), num_episodes * num_steps)
    ways = np.reshape(list(actions), shape) - 1
  return arm_recordings.driven(
    config,
    constants.COMMAND_RAD_S * ways,
    starts_rad=np.asarray(starts.qpos, np.float64),
    targets_m=np.asarray(starts.target.position, np.float64) if has_pictures else None,
  )


def motion_trial(rng, *, num_episodes, num_steps, is_to_and_fro):
  """Truth, estimate and interval ends, `[4]` per field, and errors of other rollouts, rad, before and after the fit.

  The errors are first against readings, then against where the joints were, starting from where they were.
  """
  fields = {name: rng.uniform(*ends) for name, ends in _RANGES.items()}
  fields["action_latency_s"] = round(fields["action_latency_s"] / 0.005) * 0.005
  hidden, begin = twin.TwinConfig(**fields), twin.TwinConfig(**_SIMULATION)
  options = {"num_episodes": num_episodes, "num_steps": num_steps, "is_to_and_fro": is_to_and_fro}
  fitted, tried = identify.split(arm_recordings.motion(driven(hidden, rng, has_pictures=False, **options)))
  try:
    found = identify.fit(begin, fitted)
  except ValueError:
    return None
  if identify.MASS not in found:  # The carried weight then accounts for the mass: as much is not carried.
    fields["gravity_compensation"] = 1.0 - (1.0 - fields["gravity_compensation"]) * fields[identify.MASS]
  end = identify.with_fields(begin, {name: estimate.value for name, estimate in found.items()})
  # The hidden twin's rollouts show where its joints were, except for the noise that they start from.
  exact = [
    episode._replace(qpos_rad=path) for episode, path in zip(tried, identify.roll_out(hidden, tried), strict=True)
  ]
  errors = [[identify.error_rad(config, episodes) for config in (begin, end)] for episodes in (tried, exact)]
  return {name: [fields[name], *estimate] for name, estimate in found.items()}, errors


def motion_table(lines):
  """Lines of Markdown: each field's error, interval width and how often the truth is inside, then the rollouts."""
  came = [found for found in lines if found is not None]
  yield f"{len(came)} fits, {len(lines) - len(came)} refused"
  yield "| field | fits | wrong by, root mean square | at most | half of the interval, middle | holds the truth |"
  yield "|---|---|---|---|---|---|"
  for name in _RANGES:
    every = [fields[name] for fields, _ in came if name in fields]
    if not every:
      continue
    truth, value, low, high = np.transpose(every)
    is_latency = name == "action_latency_s"
    scale, unit = (1e3, "ms") if is_latency else (100.0 / truth, "%")
    wrong, half = scale * np.abs(value - truth), np.median(scale * (high - low) / 2)
    inside = f"{((low <= truth) & (truth <= high)).sum()} of {truth.size}"
    yield (
      f"| `{name}` | {truth.size} | {np.sqrt(np.mean(wrong**2)):.2f} {unit} | {wrong.max():.2f} {unit} "
      f"| {half:.2f} {unit} | {inside} |"
    )
  for kind, errors in zip(("readings", "where the joints were"), np.swapaxes([e for _, e in came], 0, 1), strict=True):
    before, after = 1e3 * errors.T
    times = before / after
    yield (
      f"beside {kind}: {before.min():.1f} to {before.max():.1f} mrad before, {after.min():.2f} to "
      f"{after.max():.2f} after: {times.min():.1f} to {times.max():.1f} times less, middle {np.median(times):.1f}"
    )


def trial(rng, *, num_episodes, num_steps, is_view_known):
  """Truth, estimate and interval ends `[7]` of one fit, or None if the fit was refused."""
  config, view = drawn(rng)
  fov_y_deg = view.fov_y_deg if is_view_known else None
  with tempfile.TemporaryDirectory() as folder:
    every = driven(config, rng, num_episodes=num_episodes, num_steps=num_steps)
    shots = calibration.shots(arm_recordings.write(pathlib.Path(folder) / "recording", every))
  try:
    found = calibration.fit(gap.make_twin("full,camera:none"), shots, fov_y_deg=fov_y_deg)
  except ValueError:
    return None
  numbers = np.array([one for group in found.values() for one in group])  # [7, 3]
  truth = [*view.camera_shift_m, *view.camera_rotation_deg, view.camera_fov_shift_deg]
  return [truth, *numbers.T.tolist()]


def table(lines):
  """Lines of Markdown: for shift, rotation and view the error, interval width and how often the truth is inside."""
  yield "| view | fits, refused | of | wrong by, root mean square | half of the interval, middle | holds the truth |"
  yield "|---|---|---|---|---|---|"
  for is_known in (False, True):
    every = [found for known, found in lines if known == is_known]
    came = np.array([found for found in every if found is not None])  # [N, 4, 7]
    if not len(came):
      continue
    truth, value, low, high = came.transpose(1, 0, 2)
    is_inside = (low <= truth) & (truth <= high)
    parts = (
      ("shift, mm", slice(0, 3), 1e3),
      ("rotation, degrees", slice(3, 6), 1.0),
      ("view, degrees", slice(6, 7), 1),
    )
    for name, part, scale in parts[: 2 if is_known else 3]:
      wrong = scale * np.sqrt(np.mean((value - truth)[:, part] ** 2))
      half = scale * np.median((high - low)[:, part]) / 2
      share = f"{is_inside[:, part].sum()} of {is_inside[:, part].size}, {100 * is_inside[:, part].mean():.0f} %"
      kind = "known" if is_known else "found"
      yield f"| {kind} | {len(came)}, {len(every) - len(came)} | {name} | {wrong:.2f} | {half:.2f} | {share} |"


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--of", choices=("motion", "camera"), required=True)
  parser.add_argument("--fits", type=int, default=50, help="0 only shows what is in the file.")
  parser.add_argument("--episodes", type=int, default=9)
  parser.add_argument("--steps", type=int, default=22)
  parser.add_argument("--to_and_fro", action="store_true", help="As `random` in --mode=drive; of motion.")
  parser.add_argument("--view_known", action="store_true", help="Of the camera.")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, required=True, help="File that each fit is added to.")
  options = parser.parse_args()
  for number in range(options.fits):
    rng = np.random.default_rng([options.seed, number])
    size = {"num_episodes": options.episodes, "num_steps": options.steps}
    if options.of == "motion":
      line = motion_trial(rng, is_to_and_fro=options.to_and_fro, **size)
    else:
      line = options.view_known, trial(rng, is_view_known=options.view_known, **size)
    with options.out.open("a") as file:
      file.write(json.dumps(line) + "\n")
  rows = motion_table if options.of == "motion" else table
  print(*rows([json.loads(line) for line in options.out.read_text().splitlines()]), sep="\n")


if __name__ == "__main__":
  main()
