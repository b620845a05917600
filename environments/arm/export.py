"""Exports a recording as a robomimic data set: one HDF5 file with one demonstration per episode.

For T transitions, `data/demo_N` holds `obs/NAME` and `next_obs/NAME` `[T, ...]`, `actions` `[T, A]`, `rewards` and
`dones` `[T]`, as in robomimic's documentation (docs/datasets/overview). Robomimic's actions are from -1 to 1, and so
are these: a joint goes back, rests or goes forwards. In an episode that its client or the clock cut off, `dones` stays
0. A step that was cut short is left out, because all other steps are equally long.
"""

import json
import pathlib

import numpy as np

from environments.arm import recording

_GYM_TYPE = 2  # One of robomimic's kinds of environments.


def robomimic(path: pathlib.Path, out: pathlib.Path) -> tuple[int, int]:
  """Writes the recording `path` to `out`, a new file. Returns the numbers of demonstrations and transitions.

  Raises:
    ValueError: if there is no recording, or h5py is missing.
    OSError: if `out` exists already, or cannot be written.
  """
  try:
    import h5py
  except ModuleNotFoundError:
    raise ValueError('HDF5 needs h5py: pip install "progressive-robots[arm]"') from None
  about = recording.read_about(path)
  spec, num_demos, total = about.action_spec, 0, 0
  if out.exists():
    raise FileExistsError(f"{out} exists; name another file")
  out.parent.mkdir(parents=True, exist_ok=True)
  part = out.with_name(f"{out.name}.part")  # A file called `out` is thus always complete.
  with h5py.File(part, "w") as file:
    data = file.create_group("data")
    for steps in recording.episodes(path):
      episode = [step for step in steps if not step.is_cut_short]
      num_steps = len(episode) - 1
      if num_steps < 1:
        continue
      demo = data.create_group(f"demo_{num_demos}")
      demo.attrs["num_samples"] = num_steps
      rest = (spec.minimum + spec.maximum) / 2
      actions = np.stack([rest if step.action is None else step.action for step in episode[1:]])
      demo["actions"] = ((actions - rest) / (spec.maximum - rest)).astype(np.float32)
      demo["rewards"] = np.array([step.reward for step in episode[1:]], np.float32)
      demo["dones"] = np.array([step.discount == 0 for step in episode[1:]], np.int64)
      for name in sorted(set.intersection(*(set(step.observation) for step in episode))):
        values = np.stack([step.observation[name] for step in episode])
        packed = {"compression": "gzip", "chunks": (1, *values.shape[1:])} if name == recording.PIXELS else {}
        demo.create_dataset(f"obs/{name}", data=values[:-1], **packed)
        demo.create_dataset(f"next_obs/{name}", data=values[1:], **packed)
      num_demos, total = num_demos + 1, total + num_steps
    data.attrs["total"] = total
    data.attrs["env_args"] = json.dumps({"env_name": about.task, "type": _GYM_TYPE, "env_kwargs": {}})
  part.rename(out)
  return num_demos, total
