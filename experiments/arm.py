"""Serves an arm behind the bridge, or drives an arm that is served, by hand or by a policy.

python -m experiments.arm --mode=serve --port=5005                       # the twin, until Ctrl-C
python -m experiments.arm --mode=serve --driver=kinova --set=library=/opt/kinova/Kinova.API.USBCommandLayerUbuntu.so
python -m experiments.arm --mode=drive --address=localhost:5005          # by hand: type ? for help
python -m experiments.arm --mode=drive --address=localhost:5005 --source=runs/arm --episodes=10
"""

import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from environments.arm import by_hand, client, protocol
from environments.jaco import constants
from experiments import binary
from experiments.report import video as video_lib
from experiments.running import play
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.store import released
from progressive import partition

_MODE = flags.DEFINE_enum("mode", "serve", ("serve", "drive"), "Serve an arm, or drive what is served.")
_DRIVER = flags.DEFINE_string("driver", "twin", "Arm to serve: a name in DRIVERS, or package.module:Config.")
_SET = flags.DEFINE_multi_string("set", [], "A field of its config, as mass_scale=1.2; may be repeated.")
_PORT = flags.DEFINE_integer("port", 5005, "Port to serve at; 0 takes any free one.", lower_bound=0, upper_bound=65535)
_TASK = flags.DEFINE_string("task", "reach/random", "Task to serve.")
_NUM_JOINTS = flags.DEFINE_integer("num_joints", 9, "Joints that a client commands, 6 or 9.")
_REAL_TIME = flags.DEFINE_bool("real_time", False, "The twin on the wall clock: --set=is_real_time=True.")
_ADDRESS = flags.DEFINE_string("address", "localhost:5005", "Server to drive.")


# Imported when named: who serves a real arm needs no simulated one.
DRIVERS = {"twin": "environments.arm.twin:TwinConfig", "kinova": "environments.arm.kinova:KinovaConfig"}


def driver_config(name: str, settings: Sequence[str]) -> protocol.DriverConfig:
  """The config of the driver `name` with fields `settings`, each `field=value`.

  Raises:
    ValueError: there is no such driver or field, or a field is missing or wrong.
  """
  module, _, maker = DRIVERS.get(name, name).partition(":")
  if not maker:
    raise ValueError(f"--driver={name} is unknown; give package.module:Config or one of {', '.join(DRIVERS)}")
  make = getattr(importlib.import_module(module), maker)
  fields = {}
  for setting in settings:
    field, _, text = setting.partition("=")
    try:
      fields[field] = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      fields[field] = text  # A path, a name.
  try:
    return make(**fields)
  except TypeError as error:
    raise ValueError(f"--driver={name} --set={' --set='.join(settings)}: {error}") from None


def serve() -> None:
  """Serves an arm until interrupted."""
  from environments.arm import server

  settings = [*_SET.value, "is_real_time=True"] if _REAL_TIME.value else _SET.value
  config = server.ServerConfig(
    driver=driver_config(_DRIVER.value, settings),
    task=_TASK.value,
    num_joints=_NUM_JOINTS.value,
    seed=binary.SEED.value,
    port=_PORT.value,
  )
  server.serve(
    config, on_ready=lambda address: print(f"the {_DRIVER.value} plays {config.task} at {address}", flush=True)
  )


def drive() -> None:
  """By the policy of `--source`, or by hand."""
  video = pathlib.Path(binary.VIDEO.value) if binary.VIDEO.value else None
  if binary.SOURCE.value:
    source = released.load_source(binary.SOURCE.value)
    task = learn.player(source, f"arm://{_ADDRESS.value}", {}, seed=binary.SEED.value)
    trainable, frozen = partition.split(task.params, task.is_trainable)
    key = learn.make_key(binary.SEED.value, "evaluation")
    count, is_greedy = binary.EPISODES.value, binary.GREEDY.value
    played = play.play(
      task, trainable, frozen, key, num_episodes=count, is_greedy=is_greedy, has_film=video is not None
    )
    returns = played.episodes.returns
    print(f"returns {returns.tolist()}, mean {returns.mean():.2f}")
    if video and played.frames:
      video_lib.write(video, played.frames, frames_per_s=place_lib.frames_per_s(task.place), captions=played.captions)
    return
  environment = video_lib.Filmed(client.connect(_ADDRESS.value))
  by_hand.drive(environment, sys.stdin)
  if video:
    video_lib.write(video, environment.frames, frames_per_s=1.0 / constants.CONTROL_DT_S, captions=environment.captions)


def main() -> None:
  """Entry point."""
  serve() if _MODE.value == "serve" else drive()


if __name__ == "__main__":
  binary.run(main, reads=(binary.SOURCE, binary.EPISODES, binary.GREEDY, binary.SEED, binary.VIDEO))
