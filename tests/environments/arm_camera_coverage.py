"""How often a camera's 95 % intervals hold the truth: `python -m tests.environments.arm_camera_coverage --out=FILE`.

Twins with cameras that are drawn, as far from where the search begins as the whole gap is; of each a recording of its
own, in which the arm is driven at random from starts of `reach/random`; all else of the whole gap. Of each fit a line
is added to the file, and the table is of all its lines.
"""

import argparse
import json
import pathlib
import tempfile

import jax
import numpy as np

from environments.arm import calibration, gap, identify, viewpoint
from environments.jaco import constants, tasks
from tests.environments import arm_recordings

_GAP_M, _GAP_DEG, _GAP_VIEW_DEG = 0.038, 1.9, 1.0  # The whole gap's.
_HELD_STEPS = 8  # For which a joint keeps its velocity, on average.


def drawn(rng):
  """A twin with the whole gap and a camera so far off, in a random direction each."""

  def way(length):
    direction = rng.normal(size=3)
    return tuple((length * direction / np.linalg.norm(direction)).tolist())

  view = viewpoint.Viewpoint(way(_GAP_M), way(_GAP_DEG), float(rng.choice([-1.0, 1.0]) * _GAP_VIEW_DEG))
  return identify.with_fields(gap.make_twin("full"), vars(view)), view


def recorded(folder, config, rng, *, num_episodes, num_steps):
  """A recording of random motion, with pictures."""
  task, key = tasks.TASKS["reach/random"], jax.random.key(int(rng.integers(2**31)))
  starts = jax.vmap(lambda key: tasks.draw_start(task, key))(jax.random.split(key, num_episodes))
  shape = num_episodes, num_steps, constants.NUM_JOINTS
  ways, is_new = rng.integers(-1, 2, shape), rng.random(shape) < 1.0 / _HELD_STEPS
  for i in range(1, num_steps):
    ways[:, i] = np.where(is_new[:, i], ways[:, i], ways[:, i - 1])
  every = arm_recordings.driven(
    config,
    constants.COMMAND_RAD_S * ways,
    starts_rad=np.asarray(starts.qpos, np.float64),
    targets_m=np.asarray(starts.target.position, np.float64),
  )
  return arm_recordings.write(folder, every)


def trial(rng, *, num_episodes, num_steps, is_view_known):
  """Truth, estimate and ends of the intervals `[7]` of one fit; None for one that was refused."""
  config, view = drawn(rng)
  fov_y_deg = view.fov_y_deg if is_view_known else None
  with tempfile.TemporaryDirectory() as folder:
    path = recorded(pathlib.Path(folder) / "recording", config, rng, num_episodes=num_episodes, num_steps=num_steps)
    shots = calibration.shots(path)
  try:
    found = calibration.fit(gap.make_twin("full,camera:none"), shots, fov_y_deg=fov_y_deg)
  except ValueError:
    return None
  numbers = np.array([one for group in found.values() for one in group])  # [7, 3]
  truth = [*view.camera_shift_m, *view.camera_rotation_deg, view.camera_fov_shift_deg]
  return [truth, *numbers.T.tolist()]


def table(lines):
  """Lines of Markdown: of shift, rotation and view how wrong they are, how wide, and how often the truth is inside."""
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
  parser.add_argument("--fits", type=int, default=50, help="0 only shows what is in the file.")
  parser.add_argument("--episodes", type=int, default=9)
  parser.add_argument("--steps", type=int, default=22)
  parser.add_argument("--view_known", action="store_true")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, required=True, help="File that each fit is added to.")
  options = parser.parse_args()
  for number in range(options.fits):
    rng = np.random.default_rng([options.seed, number])
    found = trial(rng, num_episodes=options.episodes, num_steps=options.steps, is_view_known=options.view_known)
    with options.out.open("a") as file:
      file.write(json.dumps([options.view_known, found]) + "\n")
  print(*table([json.loads(line) for line in options.out.read_text().splitlines()]), sep="\n")


if __name__ == "__main__":
  main()
