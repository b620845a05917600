"""Serves an arm behind the bridge, drives a served arm by hand, or looks at a recording.

python -m experiments.arm --mode=serve --port=5005                       # serves the twin until Ctrl-C
python -m experiments.arm --mode=serve --gap=camera:full,light:subtle    # a twin with a part of the reality gap
python -m experiments.arm --mode=serve --driver=kinova --set=library=/opt/kinova/Kinova.API.USBCommandLayerUbuntu.so
python -m experiments.arm --mode=serve --host=192.168.1.20 --certificates=server    # for other machines, over TLS
python -m experiments.arm --mode=serve --lease_s=600 --home_after_s=30   # a silent client loses the arm, it goes home
python -m experiments.arm --mode=drive --address=localhost:5005          # by hand: type ? for help
python -m experiments.arm --mode=serve --record=runs/recordings          # every step, as MCAP, which Foxglove opens
python -m experiments.arm --mode=inspect --recording=runs/recordings --out=runs/recordings.png
python -m experiments.arm --mode=replay --recording=runs/recordings --out=runs/recordings.mp4
python -m experiments.arm --mode=serve --driver=replay --recording=runs/recordings
python -m experiments.arm --mode=export --recording=runs/recordings --out=runs/recordings.hdf5
python -m experiments.arm --mode=identify --recording=runs/recordings --out=runs/twin.json
python -m experiments.arm --mode=serve --twin=runs/twin.json             # a twin that moves as in the recording
python -m experiments.arm --mode=serve --track=runs/twin.json            # locates the target by its colour
python -m experiments.arm --mode=attack                                  # attacks the gate: bad commands, 10,000 faults
"""

import ast
import dataclasses
import datetime
import importlib
import math
import pathlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from absl import flags

from analysis import arm_plots, plots
from environments import registry
from environments.arm import by_hand, client, protocol, recording, safety
from environments.arm import export as export_lib
from environments.arm import replay as replay_lib
from environments.jaco import constants, tasks
from experiments import binary
from experiments.report import video as video_lib
from experiments.store import run_directory

READS = (binary.EPISODES, binary.SEED, binary.VIDEO, binary.OUT)  # Flags that other modules define.

if TYPE_CHECKING:
  from environments.arm import tracking, twin

_MODE = flags.DEFINE_enum(
  "mode",
  "serve",
  ("serve", "drive", "replay", "inspect", "export", "identify", "attack"),
  "Serve an arm; drive what is served; of --recording, play and film it, tell and draw what it holds, write HDF5, or "
  "find the twin that moves so; attack the gate of a --driver's limits.",
)
_DRIVER = flags.DEFINE_string("driver", "twin", "Arm to serve: a name in DRIVERS, or package.module:Config.")
_SET = flags.DEFINE_multi_string("set", [], "A field of its config, as mass_scale=1.2; may be repeated.")
_PORT = flags.DEFINE_integer("port", 5005, "Port to serve at; 0 takes any free one.", lower_bound=0, upper_bound=65535)
_HOST = flags.DEFINE_string(
  "host", "127.0.0.1", "Address to serve at; one that other machines reach needs --certificates."
)
_CERTIFICATES = flags.DEFINE(
  binary.PATH, "certificates", "", "The server's folder of authority.pem, certificate.pem, key.pem, token; '': none."
)
_TASK = flags.DEFINE_string("task", "reach/random", "Task to serve.")
_NUM_JOINTS = flags.DEFINE_integer("num_joints", 9, "Joints that a client commands, 6 or 9.")
_LEASE_S = flags.DEFINE_float(
  "lease_s", 1800.0, "Seconds without a request after which a client loses the arm, or inf."
)
_HOME_AFTER_S = flags.DEFINE_float(
  "home_after_s", math.inf, "Seconds after which an arm that no client holds goes home; inf for never."
)
_REAL_TIME = flags.DEFINE_bool("real_time", False, "Run the twin on the wall clock; short for --set=is_real_time=True.")
_RECORD = flags.DEFINE(binary.PATH, "record", "", "Folder to record every step of the served arm into; '': none.")
_RECORDING = flags.DEFINE(binary.PATH, "recording", "", "A recording: a folder of --record, or one file of it.")
_GAP = flags.DEFINE_string("gap", None, "The twin's gap to the simulation (default: full); short for --set=gap=...")
_TWIN = flags.DEFINE(binary.PATH, "twin", "", "Fields of the twin, as --mode=identify wrote them.")
_TRACK = flags.DEFINE(
  binary.PATH, "track", "", "Camera file of --mode=identify: the target is located in the picture, not by the arm."
)
_CAMERA_VIEW = flags.DEFINE_float(
  "camera_view", None, "The camera's angle of view, degrees from top to bottom, if it is known to 0.1.", 20.0, 120.0
)
_TARGET_RGB = flags.DEFINE_list("target_rgb", ["0.9", "0.1", "0.1"], "The colour of the target that is tracked.")
_COMMANDS = flags.DEFINE_integer(
  "commands", 1_000_000, "Number of hostile commands; one fault is injected for every hundred.", 100
)
_ADDRESS = flags.DEFINE_string(
  "address", "localhost:5005", "Server to drive, host:port or host:port?certificates=FOLDER."
)


_MOVING_HOLD_S = 0.5  # How long the last position of a moving target is kept while it is not seen.

# Imported only when named: whoever serves a real arm needs no simulated one.
DRIVERS = {
  "twin": "environments.arm.gap:make_twin",
  "kinova": "environments.arm.kinova:KinovaConfig",
  "ros": "environments.arm.ros:RosConfig",
  "replay": "environments.arm.replay:ReplayConfig",
}


def driver_config(name: str, settings: Sequence[str]) -> protocol.DriverConfig:
  """The config of driver `name` with the fields in `settings`, each `field=value`, read by the field's annotation.

  Raises:
    ValueError: if there is no such driver or field, or if a field is missing or wrong.
  """
  module, _, maker = DRIVERS.get(name, name).partition(":")
  make = getattr(importlib.import_module(module), maker, None) if maker else None
  if make is None:
    raise ValueError(f"--driver={name} is unknown; give package.module:Config or one of {', '.join(DRIVERS)}")
  try:
    kinds, fields = _kinds(make), dict[str, Any]()
  except NameError as error:
    raise ValueError(f"--driver={name}: {error}, which an annotation of its config names; import it there") from None
  for setting in settings:
    field, _, text = setting.partition("=")
    kind = kinds.get(field, Any)
    try:
      literal = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      literal = text  # A path or a name.
    values = (text,) if kind is str else (literal, text)
    fitting = [value for value in values if _is_of(value, kind)]
    if not fitting:
      raise ValueError(
        f"--driver={name} --set={setting}: {field} must be {kind.__name__ if isinstance(kind, type) else kind}"
      )
    fields[field] = fitting[0]
  try:
    return make(**fields)
  except TypeError as error:
    raise ValueError(f"--driver={name} --set={' --set='.join(settings)}: {error}") from None


def _kinds(make: Callable[..., Any]) -> dict[str, Any]:
  """Field -> its annotation; for a function, those of its arguments and of the fields of the dataclass it returns."""
  hints = get_type_hints(make)
  return (get_type_hints(made) if dataclasses.is_dataclass(made := hints.get("return")) else {}) | hints


def _is_of(value: Any, kind: Any) -> bool:
  """Like `registry.fits`, but also checks the entries of a tuple, where `registry.fits` takes any tuple for another."""
  inner = get_args(kind)
  if get_origin(kind) in (types.UnionType, Union):
    return any(_is_of(value, one) for one in inner)
  if get_origin(kind) is tuple:
    kinds = inner[:1] * len(value) if isinstance(value, tuple) and inner[-1] is ... else inner
    return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_of, value, kinds))
  return registry.fits(value, kind)


def _settings() -> list[str]:
  """The driver's fields, from --gap, --twin and --set; of several values of a field, the last one counts."""
  settings = [f"gap={_GAP.value}"] if _GAP.value is not None else []
  if _TWIN.value:
    from environments.arm import identify as identify_lib

    settings += [f"{field}={value}" for field, value in identify_lib.read(pathlib.Path(_TWIN.value)).items()]
  return settings + _SET.value


def _tracker() -> "tracking.Tracker | None":
  """The tracker that finds the target in pictures, from --track and --target_rgb."""
  if not _TRACK.value:
    if _TARGET_RGB.present:
      raise ValueError(f"--target_rgb={','.join(_TARGET_RGB.value)} is read with --track=FILE alone; add that")
    return None
  from environments.arm import identify as identify_lib
  from environments.arm import tracking, viewpoint

  fields = identify_lib.read(pathlib.Path(_TRACK.value))
  if not fields.keys() >= identify_lib.CAMERA.keys():
    raise ValueError(f"--track={_TRACK.value} says nothing of the camera; identify a recording that has pictures")
  task = tasks.TASKS.get(_TASK.value)
  if task and task.target_low_m[2] != task.target_high_m[2]:
    raise ValueError(f"--track: the target of {task.name} has no fixed height, without which one camera is not enough")
  try:
    rgb = tuple(float(channel) for channel in _TARGET_RGB.value)
    (red, green, blue) = rgb
  except ValueError:
    raise ValueError(f"--target_rgb={','.join(_TARGET_RGB.value)}: give red, green and blue, as 0.9,0.1,0.1") from None
  return tracking.Tracker(
    viewpoint.Viewpoint(**{name: fields[name] for name in identify_lib.CAMERA}),
    height_m=task.target_low_m[2] if task else 0.0,
    rgb=(red, green, blue),
    **{"hold_s": _MOVING_HOLD_S} if task and task.is_moving else {},
  )


def serve() -> None:
  """Serves an arm until interrupted."""
  from environments.arm import server

  settings = _settings()
  settings += ["is_real_time=True"] if _REAL_TIME.value else []
  settings += [f"recording={_RECORDING.value}"] if _RECORDING.value else []
  config = server.ServerConfig(
    driver=driver_config(_DRIVER.value, settings),
    task=_TASK.value,
    num_joints=_NUM_JOINTS.value,
    seed=binary.SEED.value,
    host=_HOST.value,
    port=_PORT.value,
    certificates=_CERTIFICATES.value,
    lease_s=_LEASE_S.value,
    home_after_s=_HOME_AFTER_S.value,
    record=_RECORD.value,
    tracker=_tracker(),
  )
  kept = f"recorded in {config.record}" if config.record else "not recorded (--record=FOLDER)"
  server.serve(
    config, on_ready=lambda address: print(f"the {_DRIVER.value} plays {config.task} at {address}, {kept}", flush=True)
  )


def drive() -> None:
  """Drives the arm by hand; `experiments.evaluate --target=arm://HOST:PORT` plays a policy."""
  arm = client.connect(_ADDRESS.value)
  environment = video_lib.Filmed(arm, max_frames=sys.maxsize if binary.VIDEO.value else 0)
  try:
    by_hand.drive(environment, sys.stdin)
  finally:
    arm.close()  # The arm is at rest and free for others while the film is written.
    if environment.frames:
      video = pathlib.Path(binary.VIDEO.value)
      frames_per_s = 1.0 / constants.CONTROL_DT_S
      video_lib.write(video, environment.frames, frames_per_s=frames_per_s, captions=environment.captions)


def replay() -> None:
  """Plays the first `--episodes` of a recording, and films them."""
  path = _recording()
  recorded = replay_lib.Replay(str(path))
  environment = video_lib.Filmed(recorded, max_frames=sys.maxsize if binary.OUT.value else 0)
  for number, _ in zip(range(1, binary.EPISODES.value + 1), recorded.episodes(), strict=False):
    timestep, total, num_steps = environment.reset(), 0.0, 0
    while not timestep.last():
      timestep = environment.step(None)
      total, num_steps = total + timestep.reward, num_steps + 1
    print(f"episode {number}: {num_steps} steps, return {total:g}")
  if binary.OUT.value:
    frames_per_s = 1.0 / recorded.control_dt_s
    video_lib.write(
      pathlib.Path(binary.OUT.value), environment.frames, frames_per_s=frames_per_s, captions=environment.captions
    )


def inspect() -> None:
  """Prints what a recording holds, and draws it."""
  path = _recording()
  about, items, happened = recording.read_about(path), list[recording.Item](), list[tuple[float, str]]()
  episodes = [0]  # A 0, then each step's episode number: 0 as well if its session lacks the FIRST step.
  for session in map(list, recording.sessions(path, pictures=False)):
    happened += sorted(filter(None, map(_happened, session)))
    begun = np.cumsum([item.step_type.first() for item in session if isinstance(item, recording.Step)], dtype=int)
    episodes += np.where(begun, begun + max(episodes), 0).tolist()
    # If the times of sessions overlap, the figure shows one session after the other.
    late_s = max(0.0, items[-1].time_s - session[0].time_s) if items and session else 0.0
    items += [item._replace(time_s=item.time_s + late_s) for item in session]
  steps = [item for item in items if isinstance(item, recording.Step)]
  told = [item for item in items if isinstance(item, safety.Told)]
  said = [item for item in items if isinstance(item, recording.Event)]
  print(f"{path}: {about.task}, {about.driver}")
  traces = arm_plots.Steps(
    np.array([step.time_s for step in steps]),
    np.array(episodes[1:]),
    np.array([step.reward for step in steps]),
    np.array([step.reading.qpos_rad for step in steps]),
    np.array([step.is_cut_short for step in steps], bool),
    np.array([step.step_type.last() for step in steps], bool),
  )
  for line in arm_plots.summary(traces, control_dt_s=about.control_dt_s):
    print(line)
  refused = sum(event.level == recording.REFUSAL for event in said)
  faults = [one for one in told if _is_fault(one)]
  expired = sum(one.why == "expired" for one in told)
  print(f"{len(faults)} faults, {refused} refusals, {expired} commands that expired")
  for time_s, what in happened:
    print(f"  {datetime.datetime.fromtimestamp(time_s).isoformat(timespec='milliseconds')} {what}")
  if binary.OUT.value and steps:
    shape = len(told), traces.qpos_rad.shape[1]
    commands = arm_plots.Commands(
      np.array([one.time_s for one in told]),
      np.reshape([one.asked_rad_s for one in told], shape),
      np.reshape([one.allowed_rad_s for one in told], shape),
    )
    fault_s = [one.time_s for one in faults]
    plots.save(
      arm_plots.figure(traces, commands, control_dt_s=about.control_dt_s, fault_s=fault_s),
      pathlib.Path(binary.OUT.value),
    )


def _happened(item: recording.Item) -> tuple[float, str] | None:
  """The time and text of a fault, or of an event in a session other than a refusal; None for anything else."""
  if isinstance(item, recording.Event):
    return (item.time_s, item.text) if item.level != recording.REFUSAL else None
  return (item.time_s, item.why) if isinstance(item, safety.Told) and _is_fault(item) else None


def _is_fault(told: safety.Told) -> bool:
  return told.why.startswith("fault")


def export() -> None:
  """Writes a recording as robomimic's HDF5."""
  if not binary.OUT.value:
    raise ValueError("--out is missing; name the file to write, as --out=recording.hdf5")
  num_demos, num_steps = export_lib.robomimic(_recording(), pathlib.Path(binary.OUT.value))
  print(f"{binary.OUT.value}: {num_demos} demonstrations, {num_steps:,} transitions")


def identify() -> None:
  """Prints the twin that moves and looks as recorded, its error, and what covers it in training; writes `--out`."""
  from environments.arm import twin  # Whoever serves a real arm needs no simulated one.

  out = pathlib.Path(binary.OUT.value) if binary.OUT.value else None
  if out and out.exists():
    raise ValueError(f"--out={out} is there already; name another file")
  if out:
    out.parent.mkdir(parents=True, exist_ok=True)  # Now, rather than fail after minutes.
  config = driver_config("twin", _settings())
  assert isinstance(config, twin.TwinConfig)
  print(f"{'field of the twin':<24}{'estimate':>9}  {'95 % interval':<18}{'the twin has':>12}")
  fields: dict[str, Any] = _identify_motion(config)
  try:
    fields |= _identify_camera(config)
  except (ValueError, protocol.BridgeError) as error:  # What is known of the motion is kept.
    print(f"the camera is as in the twin: {error}")
  if out:
    run_directory.write_json(out, fields)
    print(f"{out}: --mode=serve --twin={out} serves it")


def _identify_motion(config: "twin.TwinConfig") -> dict[str, float]:
  from environments.arm import identify as identify_lib

  found = identify_lib.episodes(_recording())
  fitted, tried = identify_lib.split(found)
  estimates = identify_lib.fit(config, fitted)
  for name, estimate in estimates.items():
    print(_row(name, estimate, getattr(config, name)))
  dt_s, latency_s = config.physics_dt_s, estimates["action_latency_s"].value
  print(f"a twin has the latency in whole physics steps of {dt_s:g} s: {dt_s * round(latency_s / dt_s):g} s")
  if (reaction_s := safety.reaction_s(estimates["action_latency_s"].high)) > protocol.Limits.reaction_s + dt_s:
    print(
      f"this arm answers later than its gate looks ahead ({protocol.Limits.reaction_s:g} s): serve it with "
      f"--set=reaction_s={reaction_s:.3f}, or it may leave its limits"
    )
  if identify_lib.MASS not in estimates:
    print(
      f"{identify_lib.MASS} is as in the twin, and carried weight is given it: the recording does not say it to 10 %; "
      "five minutes to and fro do, 'random 3000' in --mode=drive"
    )
  fields = {name: estimate.value for name, estimate in estimates.items()}
  identified = identify_lib.with_fields(config, fields)
  before, after = (1e3 * identify_lib.error_rad(one, tried) for one in (config, identified))
  longest_s = max(episode.time_s[-1] for episode in tried)
  print(
    f"fitted to {len(fitted)} episodes; of {len(tried)} others, open-loop rollouts of {longest_s:.1f} s are "
    f"{after:.1f} mrad from the arm's joints, where the twin is {before:.1f} mrad: {before / after:.1f} times less"
  )
  print("training covers estimates and intervals with " + " ".join(_randomization(estimates)))
  return fields


def _identify_camera(config: "twin.TwinConfig") -> dict[str, Any]:
  from environments.arm import calibration

  shots = calibration.shots(_recording())
  if not shots:
    print("the camera is as in the twin: no pictures were recorded, since no client asked for them")
    return {}
  estimates = calibration.fit(config, shots, fov_y_deg=_CAMERA_VIEW.value)
  for name, numbers in estimates.items():
    for axis, estimate, has in zip("xyz", numbers, np.atleast_1d(getattr(config, name)), strict=False):
      print(_row(f"{name} {axis}" if len(numbers) > 1 else name, estimate, has))
  view = calibration.view(estimates)
  (before, _), (after, count) = (
    calibration.reprojection_px(one, shots, config.target_rgb) for one in (config.viewpoint, view)
  )
  seen = (
    f"in {count} of them the target was seen whole, {after:.2f} pixels from where it should be, before {before:.2f}"
  )
  print(f"fitted to the arm in {len(shots)} pictures; {seen if count else 'the target was seen whole in none of them'}")
  return dataclasses.asdict(view)


def _row(name: str, estimate: Sequence[float], has: float) -> str:
  value, low, high = estimate
  return f"{name:<24}{value:>9.4f}  {f'[{low:.4f}, {high:.4f}]':<18}{has:>12g}"


def attack() -> None:
  """Prints what the gate let through with the driver's limits."""
  from environments.arm import attack as attack_lib

  config = driver_config(_DRIVER.value, _SET.value)
  if isinstance(config, replay_lib.ReplayConfig):
    raise ValueError(f"--driver={_DRIVER.value} is a recording, which has no limits to attack; name an arm")
  limits = config.limits()
  for line in attack_lib.table(limits, num_commands=_COMMANDS.value, seed=binary.SEED.value):
    print(line, flush=True)


def _randomization(estimates: Mapping[str, Sequence[float]]) -> Iterator[str]:
  """The flags with which the simulation draws worlds that widely, about its own friction and gain of 1."""
  for name, field in (("friction", "friction_scale"), ("gain", "servo_gain_scale")):
    farthest = max(abs(end - 1.0) for end in estimates[field])  # Infinite if a servo may be as stiff as can be.
    if farthest <= 0.99:
      yield f"--config.world_options.randomization.{name}={math.ceil(100 * farthest) / 100:g}"
    else:
      yield f"(no half-width below 1 covers the {name})"


def _recording() -> pathlib.Path:
  if not _RECORDING.value:
    raise ValueError("--recording is missing; name a folder of --record, or one .mcap file of it")
  return pathlib.Path(_RECORDING.value)


# Mode -> its function, and the flags that it reads.
_MODES = {
  "serve": (
    serve,
    (
      _DRIVER,
      _SET,
      _HOST,
      _PORT,
      _CERTIFICATES,
      _TASK,
      _NUM_JOINTS,
      _LEASE_S,
      _HOME_AFTER_S,
      _REAL_TIME,
      _RECORD,
      _RECORDING,
      _GAP,
      _TWIN,
      _TRACK,
      _TARGET_RGB,
      binary.SEED,
    ),
  ),
  "drive": (drive, (_ADDRESS, binary.VIDEO)),
  "replay": (replay, (_RECORDING, binary.EPISODES, binary.OUT)),
  "inspect": (inspect, (_RECORDING, binary.OUT)),
  "export": (export, (_RECORDING, binary.OUT)),
  "identify": (identify, (_RECORDING, _SET, _GAP, _TWIN, _CAMERA_VIEW, binary.OUT)),
  "attack": (attack, (_DRIVER, _SET, _COMMANDS, binary.SEED)),
}


def main() -> None:
  """Entry point; refuses flags of other modes: with an ignored --record, for example, nothing would be recorded."""
  function, reads = _MODES[_MODE.value]
  for mode, (_, others) in _MODES.items():
    for flag in others:
      if flag.present and flag.name not in [one.name for one in reads]:
        raise ValueError(f"--{flag.name} is not read by --mode={_MODE.value}; it is by --mode={mode}")
  function()


if __name__ == "__main__":
  binary.run(main, reads=READS)
