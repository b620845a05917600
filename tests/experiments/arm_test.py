"""The arm that is served is chosen by name or by module, with the fields that are set."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys

import dm_env
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from dm_env import specs

from environments.arm import (
  attack,
  calibration,
  client,
  driver,
  gap,
  identify,
  kinova,
  protocol,
  recording,
  replay,
  ros,
  safety,
  server,
  tracking,
  twin,
  viewpoint,
)
from environments.jaco import constants
from experiments import arm
from experiments.report import video
from tests.environments import arm_recordings


@dataclasses.dataclass(frozen=True)
class Unreadable:
  far: "Nowhere"  # noqa: F821


def test_a_driver_is_chosen_by_name_and_its_fields_by_theirs():
  assert arm.driver_config("twin", []) == twin.TwinConfig()
  settings = ["is_real_time=True", "mass_scale=1.5", "table_rgb=(0.5, 0.5, 0.5)"]
  expected = twin.TwinConfig(is_real_time=True, mass_scale=1.5, table_rgb=(0.5, 0.5, 0.5))
  assert arm.driver_config("twin", settings) == expected
  part = ["gap=camera:full,light:subtle", "mass_scale=1.5"]
  assert arm.driver_config("twin", part) == gap.make_twin("camera:full,light:subtle", mass_scale=1.5)
  assert arm.driver_config("kinova", ["library=/opt/kinova.so"]).library == "/opt/kinova.so"
  words = arm.driver_config("kinova", ["library=1", "serial=12345", "camera=0", "target_in_base_m=(1, 0, 0.2)"])
  assert (words.library, words.serial, words.camera) == ("1", "12345", "0") and words.target_in_base_m == (1, 0, 0.2)
  assert arm.driver_config("replay", ["recording=2026"]) == replay.ReplayConfig("2026")
  shown = ["recording=runs/x", "observations=('target',)"]
  assert arm.driver_config("replay", shown) == replay.ReplayConfig("runs/x", ("target",))
  assert arm.driver_config("tests.environments.arm_rig:RigConfig", ["path=/tmp/rig"]).path == "/tmp/rig"


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("twn", [], "--driver=twn is unknown; give package.module:Config or one of twin, kinova, ros, replay"),
    ("twin", ["mass=2"], "--driver=twin --set=mass=2: .* unexpected keyword argument 'mass'"),
    ("twin", ["mass_scale=heavy"], "--driver=twin --set=mass_scale=heavy: mass_scale must be float"),
    ("twin", ["mass_scale=1,2"], "mass_scale must be float"),
    ("twin", ["mass_scale=True"], "mass_scale must be float"),
    ("twin", ["is_real_time=1"], "is_real_time must be bool"),
    ("twin", ["table_rgb=(0.5, 0.5)"], r"table_rgb must be tuple\[float, float, float\]"),
    ("kinova", ["library=a", "target_in_base_m=0.45"], r"target_in_base_m must be tuple\[float, float, float\]"),
    ("kinova", ["library=a", "target_in_base_m=(0.45, 0, 'x')"], r"target_in_base_m must be tuple"),
    ("replay", ["recording=a", "observations=target"], r"observations must be tuple\[str, \.\.\.\] | None"),
    ("twin", ["gap=huge"], "gap=huge: no level is called 'huge'"),
    ("twin", ["gap=0.5"], "gap=0.5: no level is called '0.5'"),
    ("tests.experiments.arm_test:Unreadable", ["far=1"], "name 'Nowhere' is not defined, which an annotation of its"),
    ("os:nothing", [], "--driver=os:nothing is unknown"),
    ("kinova", ["library=a", "gap=none"], "unexpected keyword argument 'gap'"),
    ("kinova", [], "missing 1 required positional argument: 'library'"),
  ],
)
def test_a_mistake_is_one_line(name, settings, message):
  with pytest.raises(ValueError, match=message) as mistake:
    arm.driver_config(name, settings)
  assert "\n" not in str(mistake.value)


def test_the_flags_say_what_is_served(monkeypatch):
  served = []
  monkeypatch.setattr(server, "serve", lambda config, on_ready: served.append(config))
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  for given in ({}, {"gap": "none", "real_time": True}, {"lease_s": 600.0, "home_after_s": 30.0}):
    with flagsaver.flagsaver(**given):
      arm.serve()
  with flagsaver.flagsaver(driver="replay", recording="2026"):
    arm.serve()
  defaults = {"port": 5005, "lease_s": 1800.0, "home_after_s": np.inf}
  assert served == [
    server.ServerConfig(driver=twin.TwinConfig(), **defaults),
    server.ServerConfig(driver=gap.make_twin("none", is_real_time=True), **defaults),
    server.ServerConfig(driver=twin.TwinConfig(), port=5005, lease_s=600.0, home_after_s=30.0),
    server.ServerConfig(driver=replay.ReplayConfig("2026"), **defaults),
  ]


def test_who_serves_a_real_arm_imports_no_simulated_one():
  code = (
    "import sys\n"
    "from environments.arm import server\n"
    "from experiments import arm\n"
    "arm.driver_config('kinova', ['library=/opt/kinova.so'])\n"
    "print([name for name in sys.modules if name in ('environments.arm.twin', 'dm_control')])"
  )
  command = [sys.executable, "-c", code]
  variables = driver.environment_variables() | {"JAX_PLATFORMS": "cpu"}
  printed = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
  assert printed.stdout == "[]\n"


def test_a_recording_is_told_drawn_filmed_and_exported(tmp_path, capsys):
  fault = safety.Told(arm_recordings.CLOCK_S + 40.0, np.zeros(3), np.zeros(3), "fault: it is hot")
  said = [
    recording.Event(arm_recordings.CLOCK_S + at_s, level, text)
    for at_s, level, text in ((30.0, recording.INFORMATION, "left"), (50.0, recording.ERROR, "lost on the way home"))
  ]
  folder = arm_recordings.write(tmp_path / "recording", [*arm_recordings.items(), fault, *said])

  def run(mode, out):
    with parsed(f"--mode={mode}", f"--recording={folder}", f"--out={tmp_path / out}"):
      arm.main()
    assert (tmp_path / out).stat().st_size > 1000
    return capsys.readouterr().out

  told = run("inspect", "figure.png")
  assert "reach/random, a made-up arm" in told and "12 steps in 3 episodes" in told
  assert "1 faults, 1 refusals, 0 commands that expired" in told
  assert re.findall(r":\d\d\.\d{3} (.+)", told) == [
    "left",
    "fault: it is hot",
    "lost on the way home",
    "the server ends",
  ]
  assert run("replay", "film.mp4").count(": 4 steps, return ") == 3
  assert "3 demonstrations, 12 transitions" in run("export", "data.hdf5")


def test_steps_whose_start_is_in_a_file_before_are_no_episode(tmp_path, capsys):
  every = arm_recordings.items()
  cut = 3 + next(i for i, item in enumerate(every) if isinstance(item, recording.Step))  # Two of episode 1 are left.
  paid = [sum(step.reward for step in one) for one in recording.in_episodes(every)]
  folders = [arm_recordings.write(tmp_path / "recording", every[cut:]) for _ in range(2)]
  with parsed("--mode=inspect", f"--recording={folders[0]}"):
    arm.main()
  told = capsys.readouterr().out
  assert (
    "16 steps in 4 episodes" in told
  )  # Each session has two episodes of four steps; what is left of a third is none.
  assert f"return {paid[2]:.2f}, from {paid[2]:g} to {paid[2]:g}; 2 more episodes did not end" in told


def test_sessions_that_overlap_in_time_are_told_one_after_the_other(tmp_path, capsys):
  for number in range(2):
    said = [recording.Event(arm_recordings.CLOCK_S + at_s, recording.INFORMATION, f"{number}") for at_s in (0, 100)]
    said[1:1] = arm_recordings.items()
    folder = arm_recordings.write(tmp_path / "recording", said)
  with parsed("--mode=inspect", f"--recording={folder}", f"--out={tmp_path / 'figure.png'}"):
    arm.main()
  told = capsys.readouterr().out
  assert re.findall(r":\d\d\.\d{3} (.+)", told) == ["0", "0", "the server ends", "1", "1", "the server ends"]
  # After a session's first step its last event is 100 s away, and its last step 20.4 s.
  assert f"24 steps in 6 episodes: 0.001 h of {120.4 / 3600:.3f} h" in told


def test_a_camera_that_cannot_be_drawn_leaves_what_is_known_of_the_motion(tmp_path, capsys, monkeypatch):
  def no_camera(config):
    raise protocol.BridgeError("the twin's camera found no OpenGL")

  monkeypatch.setattr(arm, "_identify_motion", lambda config: {"friction_scale": 1.5})
  monkeypatch.setattr(arm, "_identify_camera", no_camera)
  out = tmp_path / "twin.json"
  with parsed("--mode=identify", "--recording=x", f"--out={out}"):
    arm.main()
  assert json.loads(out.read_text()) == {"friction_scale": 1.5}
  assert "the camera is as in the twin: the twin's camera found no OpenGL" in capsys.readouterr().out
  assert [file.name for file in tmp_path.iterdir()] == ["twin.json"]


def test_a_hidden_twin_is_found_and_served(tmp_path, capsys, monkeypatch):
  hidden = twin.TwinConfig(physics_dt_s=0.01)
  ways = np.repeat(np.random.default_rng(1).integers(-1, 2, (4, 10, 9)), 5, axis=1)
  recorded = arm_recordings.driven(hidden, constants.COMMAND_RAD_S * ways)
  folder, out = arm_recordings.write(tmp_path / "recording", recorded), tmp_path / "twin.json"
  wrong = {
    "servo_speed_scale": 1.0,
    "action_latency_s": 0.0,
    "servo_gain_scale": 1.0,
    "friction_scale": 1.0,
    "gravity_compensation": 1.0,
  }
  settings = [f"--set={name}={value}" for name, value in wrong.items()] + ["--set=physics_dt_s=0.01"]
  with parsed("--mode=identify", f"--recording={folder}", f"--out={out}", *settings):
    arm.main()
    with pytest.raises(ValueError, match=r"twin.json is there already; name another file"):
      arm.main()
  expected = {name: pytest.approx(getattr(hidden, name), rel=0.05) for name in wrong}
  expected["action_latency_s"] = pytest.approx(hidden.action_latency_s, abs=0.01)
  found = json.loads(out.read_text())
  assert found == expected
  printed = capsys.readouterr().out
  (times_less,) = re.findall(r": ([0-9.]+) times less", printed)
  assert float(times_less) > 5
  assert re.search(r"randomization.friction=0\.(6|7)\d?", printed)  # From 1.6 and its interval.
  assert re.search(r"randomization.gain=0\.5\d", printed)
  assert "the camera is as in the twin: no pictures were recorded" in printed
  assert "a twin has the latency in whole physics steps of 0.01 s: 0.04 s" in printed

  monkeypatch.setattr(server, "serve", lambda config, on_ready: served.append(config.driver))
  served = []
  with parsed(f"--twin={out}", "--set=friction_scale=2.0"):
    arm.main()
  assert served == [twin.TwinConfig(**found | {"friction_scale": 2.0})]


def test_flags_of_training_stand_where_an_interval_has_no_end():
  estimates = {"friction_scale": (1.1, 0.9, 1.255), "servo_gain_scale": (12.0, 6.0, np.inf)}
  flag, words = arm._randomization(estimates)
  assert flag == "--config.world_options.randomization.friction=0.26"
  assert words == "(no half-width below 1 covers the gain)"


CAMERA = {"camera_shift_m": [0.1, 0, 0], "camera_rotation_deg": [0, 1.0, 0], "camera_fov_shift_deg": 0.5}


def test_a_known_angle_of_view_reaches_the_fit(monkeypatch, tmp_path):
  monkeypatch.setattr(arm, "_identify_motion", lambda config: {})
  monkeypatch.setattr(calibration, "shots", lambda path: ["a picture"])
  monkeypatch.setattr(calibration, "fit", lambda config, found, *, fov_y_deg: pytest.fail(f"{fov_y_deg} degrees"))
  with parsed("--mode=identify", f"--recording={tmp_path}", "--camera_view=45.5"):
    with pytest.raises(pytest.fail.Exception, match="45.5 degrees"):
      arm.main()


@pytest.mark.parametrize(("high_s", "said"), [(0.15, "--set=reaction_s=0.190"), (0.042, "")])
def test_identify_says_what_the_gate_of_a_slow_arm_needs(monkeypatch, capsys, high_s, said):
  """Besides the latency there are 0.04 s for the motors' lag and a poll, as in the 80 ms of gates."""
  episode = identify.Episode(*[np.zeros((2, 9))] * len(identify.Episode._fields))._replace(time_s=np.arange(2.0))
  estimates = {name: identify.Estimate(1.0, 0.9, 1.1) for name in identify.FIELDS}
  estimates["action_latency_s"] = identify.Estimate(high_s - 0.01, high_s - 0.02, high_s)
  for name, made in (
    ("episodes", [episode]),
    ("split", ([episode], [episode])),
    ("fit", estimates),
    ("error_rad", 0.001),
  ):
    monkeypatch.setattr(identify, name, lambda *_, made=made: made)
  monkeypatch.setattr(arm, "_recording", lambda: None)
  arm._identify_motion(twin.TwinConfig())
  lines = [line for line in capsys.readouterr().out.splitlines() if "looks ahead" in line]
  assert len(lines) == bool(said) and all(said in line for line in lines)
  assert ros.RosConfig(reaction_s=0.19).limits().reaction_s == 0.19
  assert kinova.KinovaConfig("library.so", reaction_s=0.19).limits().reaction_s == 0.19


def test_motion_that_was_found_is_written_though_the_camera_is_refused(monkeypatch, tmp_path, capsys):
  """The folder is made before minutes are spent."""
  out = tmp_path / "new" / "twin.json"

  def identify_motion(config):
    assert out.parent.is_dir()
    return {"friction_scale": 1.5}

  monkeypatch.setattr(arm, "_identify_motion", identify_motion)
  monkeypatch.setattr(calibration, "shots", lambda path: ["one picture"])
  with parsed("--mode=identify", f"--recording={tmp_path}", f"--out={out}"):
    arm.main()
  assert json.loads(out.read_text()) == {"friction_scale": 1.5}
  assert (
    "the camera is as in the twin: there are 1 pictures of the arm; finding its camera needs" in capsys.readouterr().out
  )


class Filmed(dm_env.Environment):
  """A world with one joint that is lost after `num_steps` steps."""

  def __init__(self, num_steps):
    self.num_left, self.is_closed = num_steps, False

  def reset(self):
    return dm_env.restart({"pixels": np.zeros((8, 8, 3), np.uint8)})

  def step(self, action):
    self.num_left -= 1
    if self.num_left < 0:
      raise protocol.BridgeError("lost the server")
    return dm_env.transition(1.0, {"pixels": np.zeros((8, 8, 3), np.uint8)})

  def observation_spec(self):
    return {"pixels": specs.BoundedArray((8, 8, 3), np.uint8, 0, 255)}

  def action_spec(self):
    return specs.BoundedArray((1,), np.int32, 0, 2)

  def close(self):
    self.is_closed = True


def test_a_drive_is_filmed_to_its_end_however_it_ends(monkeypatch, tmp_path):
  world, written = Filmed(600), []

  def write(path, frames, *, frames_per_s, captions):
    assert world.is_closed and len(captions) == len(frames)
    written.append((path, len(frames)))

  monkeypatch.setattr(client, "connect", lambda address: world)
  monkeypatch.setattr(video, "write", write)
  monkeypatch.setattr(sys, "stdin", ["random 3000\n"])
  with parsed("--mode=drive", f"--video={tmp_path / 'film.mp4'}"):
    with pytest.raises(protocol.BridgeError, match="lost the server"):
      arm.main()
  assert written == [(tmp_path / "film.mp4", 601)]
  monkeypatch.setattr(sys, "stdin", [])
  with parsed("--mode=drive"):
    arm.main()
  assert len(written) == 1


def test_the_target_is_tracked_by_the_camera_that_was_identified(tmp_path, monkeypatch):
  served = []
  monkeypatch.setattr(server, "serve", lambda config, on_ready: served.append(config))
  camera = tmp_path / "twin.json"
  camera.write_text(json.dumps(CAMERA | {"friction_scale": 2.0}))
  with parsed(f"--track={camera}", f"--twin={camera}", "--task=conveyor", "--target_rgb=0.1,0.2,0.8"):
    arm.main()
  (config,) = served
  view = viewpoint.Viewpoint((0.1, 0, 0), (0, 1.0, 0), 0.5)
  assert config.tracker == tracking.Tracker(view, height_m=0.2, rgb=(0.1, 0.2, 0.8), hold_s=0.5)
  assert config.driver.viewpoint == view and config.driver.friction_scale == 2.0


@pytest.mark.parametrize(
  ("fields", "words", "message"),
  [
    (CAMERA, ["--task=catch"], "the target of catch has no fixed height, without which one camera is not enough"),
    (CAMERA, ["--target_rgb=red"], "--target_rgb=red: give red, green and blue, as 0.9,0.1,0.1"),
    (CAMERA, ["--target_rgb=0.5,0.5,0.5"], "is nearly grey"),
    ({"friction_scale": 1.0}, [], "says nothing of the camera; identify a recording that has pictures"),
  ],
)
def test_what_cannot_be_tracked_is_refused(tmp_path, fields, words, message):
  camera = tmp_path / "twin.json"
  camera.write_text(json.dumps(fields))
  with parsed(f"--track={camera}", *words), pytest.raises(ValueError, match=message):
    arm.main()


def test_a_colour_that_nothing_tracks_is_refused(monkeypatch):
  monkeypatch.setattr(server, "serve", lambda config, on_ready: pytest.fail("it serves"))
  with (
    parsed("--target_rgb=0.1,0.2,0.8"),
    pytest.raises(ValueError, match="--target_rgb=0.1,0.2,0.8 is read with --tr"),
  ):
    arm.main()


@pytest.mark.parametrize("mode", ["replay", "inspect", "export", "identify"])
def test_what_looks_at_a_recording_needs_one(mode):
  with parsed(f"--mode={mode}", "--out=out"), pytest.raises(ValueError, match="--recording is missing"):
    arm.main()


@pytest.mark.parametrize(("mode", "flag", "reader"), [("drive", "record", "serve"), ("serve", "out", "replay")])
def test_a_flag_of_another_mode_is_refused(mode, flag, reader):
  message = f"--{flag} is not read by --mode={mode}; it is by --mode={reader}"
  with parsed(f"--mode={mode}", f"--{flag}=x"), pytest.raises(ValueError, match=message):
    arm.main()


def test_a_recording_cannot_be_attacked():
  with parsed("--mode=attack", "--driver=replay", "--set=recording=x"):
    with pytest.raises(ValueError, match="--driver=replay is a recording, which has no limits to attack; name an arm"):
      arm.main()


def test_an_attack_prints_a_row_for_each_fault(capsys):
  with parsed("--mode=attack", "--commands=100"):
    arm.main()
  rows = capsys.readouterr().out.splitlines()
  assert len(rows) == 2 + len(attack.CLIENT_FAULTS | attack.DRIVER_FAULTS) + 1
  assert all(row.endswith("| 0, 0, 0, 0, 0 |") for row in rows[2:]) and rows[-1].startswith(
    "| hostile commands | 100 |"
  )


@contextlib.contextmanager
def parsed(*words):
  with flagsaver.flagsaver():
    flags.FLAGS(["arm", *words])
    yield
