"""Serves the twin arm behind the bridge, or drives an arm that is served, by hand or by a policy.

python -m experiments.arm --mode=serve --port=5005                       # until Ctrl-C
python -m experiments.arm --mode=drive --address=localhost:5005          # by hand: type ? for help
python -m experiments.arm --mode=drive --address=localhost:5005 --source=runs/arm --episodes=10
"""

import pathlib
import sys
from collections.abc import Iterable, Sequence

import dm_env
import numpy as np
from absl import flags

from environments.arm import client
from environments.jaco import constants
from experiments import binary, evaluate
from experiments.report import video as video_lib
from experiments.running import play
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.store import released
from progressive import partition

_MODE = flags.DEFINE_enum("mode", "serve", ("serve", "drive"), "Serve the twin, or drive what is served.")
_PORT = flags.DEFINE_integer("port", 5005, "Port to serve at; 0 takes any free one.", lower_bound=0, upper_bound=65535)
_TASK = flags.DEFINE_string("task", "reach/random", "Task to serve.")
_NUM_JOINTS = flags.DEFINE_integer("num_joints", 9, "Joints that a client commands, 6 or 9.")
_REAL_TIME = flags.DEFINE_bool("real_time", False, "Serve on the wall clock; else as fast as it goes.")
_ADDRESS = flags.DEFINE_string("address", "localhost:5005", "Server to drive.")

HELP = """2+      joint 2 forwards for one step; 2- backwards; 2+ 10 for ten steps; several joints: 2+ 3- 10
hold 5  rest for five steps; reset  a new episode; quit"""


def serve() -> None:
  """Serves the twin until interrupted."""
  from environments.arm import server, twin  # Who drives a real arm needs no simulated one.

  config = server.ServerConfig(
    driver=twin.TwinConfig(is_real_time=_REAL_TIME.value),
    task=_TASK.value,
    num_joints=_NUM_JOINTS.value,
    seed=evaluate.SEED.value,
    port=_PORT.value,
  )
  server.serve(config, on_ready=lambda address: print(f"the twin plays {config.task} at {address}", flush=True))


def parse_command(text: str, num_joints: int) -> tuple[np.ndarray, int]:
  """An action, int32 `[num_joints]`, and for how many steps, from a line such as `2+ 3- 10` or `hold 5`.

  Raises:
    ValueError: if the line says neither.
  """
  action = np.ones(num_joints, np.int32)
  num_steps = 1
  for word in text.split():
    joint, sign = word[:-1], word[-1]
    if word.isdigit():
      num_steps = int(word)
    elif sign in "+-" and joint.isdigit() and 1 <= int(joint) <= num_joints:
      action[int(joint) - 1] = 2 if sign == "+" else 0
    elif word != "hold":
      raise ValueError(f"{word!r} is no command: joints are 1 to {num_joints}, e.g. 2+ or 3- 10; ? helps")
  return action, num_steps


def drive_by_hand(environment: dm_env.Environment, commands: Iterable[str]) -> None:
  """Plays typed commands, one line each, until `quit` or the last one."""
  num_joints = environment.action_spec().shape[0]
  timestep, total = environment.reset(), 0.0
  print(HELP)
  for text in commands:
    text = text.strip()
    if text == "quit":
      break
    if text == "?":
      print(HELP)
    elif text == "reset":
      timestep, total = environment.reset(), 0.0
      print("a new episode")
    elif text:
      try:
        action, num_steps = parse_command(text, num_joints)
      except ValueError as error:
        print(error)
        continue
      for _ in range(num_steps):
        timestep = environment.step(action)
        if timestep.first():
          total = 0.0
          print("a new episode")
        total += timestep.reward or 0.0
        if timestep.last():
          print(f"the episode ends with return {total:g}; the next step starts another")
          break
      shown = {name: np.round(value, 2).tolist() for name, value in timestep.observation.items() if value.ndim == 1}
      print(f"return {total:g}  {shown}")


def drive() -> None:
  """By the policy of `--source`, or by hand."""
  video = pathlib.Path(evaluate.VIDEO.value) if evaluate.VIDEO.value else None
  if binary.SOURCE.value:
    source = released.load_source(binary.SOURCE.value)
    task = learn.player(source, f"arm://{_ADDRESS.value}", {}, seed=evaluate.SEED.value)
    trainable, frozen = partition.split(task.params, task.is_trainable)
    key = learn.make_key(evaluate.SEED.value, "evaluation")
    count, is_greedy = evaluate.EPISODES.value, evaluate.GREEDY.value
    played = play.play(
      task, trainable, frozen, key, num_episodes=count, is_greedy=is_greedy, has_film=video is not None
    )
    episodes = played.episodes
    if video and played.frames:
      video_lib.write(video, played.frames, frames_per_s=place_lib.frames_per_s(task.place))
    print(f"returns {episodes.returns.tolist()}, mean {episodes.returns.mean():.2f}")
    return
  environment = video_lib.Filmed(client.connect(_ADDRESS.value))
  drive_by_hand(environment, sys.stdin)
  if video:
    video_lib.write(video, environment.frames, frames_per_s=1.0 / constants.CONTROL_DT_S)


def main(argv: Sequence[str]) -> None:
  """Entry point."""
  del argv
  serve() if _MODE.value == "serve" else drive()


if __name__ == "__main__":
  binary.run(main, reads=(binary.SOURCE, evaluate.EPISODES, evaluate.GREEDY, evaluate.SEED, evaluate.VIDEO))
