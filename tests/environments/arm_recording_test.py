"""Recordings: written and read back, whatever happens to the disk or the writer, then played again and exported."""

import errno
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import h5py
import mcap.reader
import mcap.writer
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import specs, test_utils

from environments.arm import driver, export, protocol, recorder, recording, replay, server
from tests.environments import arm_recordings

ITEMS = arm_recordings.items()
STEPS = [item for item in ITEMS if isinstance(item, recording.Step)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return arm_recordings.write(tmp_path_factory.mktemp("recording"), ITEMS)


def assert_same(got, expected):
  """Asserts equality except for the clock: what is read back is UNIX time."""
  for one, other in zip(got, expected, strict=True):
    assert type(one) is type(other)
    assert one.time_s - got[0].time_s == pytest.approx(other.time_s - expected[0].time_s, abs=1e-6)
    assert abs(one.time_s - time.time()) < 1000
    if isinstance(one, recording.Step):
      lag = one.time_s - one.reading.time_s
      assert lag == pytest.approx(other.time_s - other.reading.time_s, abs=1e-6)
      one, other = one._replace(reading=one.reading[1:]), other._replace(reading=other.reading[1:])
    fields, others = one._replace(time_s=0), other._replace(time_s=0)
    for value, known in zip(fields, others, strict=True):
      np.testing.assert_equal(value, known)


def test_what_is_recorded_is_read_back(folder):
  got = list(recording.read(folder))
  assert_same(got[:-1], ITEMS)
  assert got[-1].text == "the server ends"
  pixels = got[1].observation["pixels"]
  assert pixels.dtype == np.uint8 and got[1].observation["target"].dtype == np.float32
  assert "pixels" not in list(recording.read(folder, pictures=False))[1].observation
  about = recording.read_about(folder)
  assert (about.task, about.driver, about.control_dt_s) == ("reach/random", "a made-up arm", 0.1)
  assert about.action_spec == arm_recordings.ACTION
  assert about.observation_spec == {spec.name: spec for spec in arm_recordings.OBSERVATIONS[1:]}


def test_a_stranger_s_reader_finds_foxglove_s_schemas_in_order(folder):
  """The library's own reader reads by the index, as Foxglove does."""
  (file,) = recording.files(folder)
  with file.open("rb") as stream:
    reader = mcap.reader.SeekingReader(stream)
    schemas = {channel.topic: schema for schema, channel, _ in reader.iter_messages()}
    counts = reader.get_summary().statistics.channel_message_counts.values()
    picture = next(json.loads(message.data) for _, _, message in reader.iter_messages(topics="/camera"))
  assert schemas["/camera"].name == "foxglove.CompressedImage" and schemas["/log"].name == "foxglove.Log"
  assert {schema.encoding for schema in schemas.values()} == {"jsonschema"}
  assert sorted(counts) == sorted([15, 15, 6, 2])
  assert picture.keys() == {"timestamp", "frame_id", "data", "format"} and picture["format"] == "png"


def test_files_follow_each_other_and_each_stands_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(recorder, "_FLUSH_S", 0.0)
  arm_recordings.write(tmp_path, ITEMS, most_bytes=8_000)
  files = recording.files(tmp_path)
  assert len(files) > 2
  assert_same(list(recording.read(tmp_path))[:-1], ITEMS)
  assert recording.read_about(files[-1]) == recording.read_about(tmp_path)
  whole = [len(episode) for episode in recording.episodes(tmp_path)]
  assert whole == [5, 5, 5]
  (rest,) = [list(recording.episodes(file)) for file in files[-1:]]
  assert all(episode[0].step_type.first() for episode in rest)  # An episode that lacks its beginning is left out.


def test_a_session_without_its_first_file_is_not_joined_to_another(tmp_path):
  """The second session's first file was moved away."""
  first = arm_recordings.write(tmp_path, STEPS[:3])
  ((_, name),) = [file.name.split("_") for file in recording.files(first)]
  assert name == "0000.mcap"
  (second,) = recording.files(arm_recordings.write(tmp_path / "second", STEPS[3:10]))
  second.rename(tmp_path / second.name.replace("_0000", "_0001"))
  assert [len(list(items)) for items in recording.sessions(tmp_path)] == [4, 8]  # Each with its last event.
  assert [len(episode) for episode in recording.episodes(tmp_path)] == [3, 5]


def test_a_file_that_is_cut_anywhere_is_read_up_to_there(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(recorder, "_FLUSH_S", 0.0)
  (file,) = recording.files(arm_recordings.write(tmp_path / "whole", ITEMS))
  content, cut, counts = file.read_bytes(), tmp_path / "cut.mcap", []
  for size in range(0, len(content), 199):
    cut.write_bytes(content[:size])
    got = list(recording.read(cut))
    assert_same(got[:-1], ITEMS[: len(got) - 1]) if len(got) > len(ITEMS) else assert_same(got, ITEMS[: len(got)])
    counts.append(len(got))
  assert counts == sorted(counts) and counts[-1] > len(ITEMS) and len(set(counts)) > 10
  assert "ends in the middle; it is read up to its last whole chunk" in capsys.readouterr().err


def test_a_damaged_file_is_named(folder, tmp_path):
  (file,) = recording.files(folder)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 255
  damaged = tmp_path / "damaged.mcap"
  damaged.write_bytes(content)
  with pytest.raises(ValueError, match="damaged.mcap is no recording, or is damaged .*; `mcap recover` keeps"):
    list(recording.read(damaged))
  damaged.write_text("no recording at all, whatever its name may say of it")
  with pytest.raises(ValueError, match="damaged.mcap is no recording, or is damaged"):
    recording.read_about(damaged)


@pytest.mark.parametrize(
  ("topic", "message", "metadata"),
  [
    ("/step", b"\0\1", {}),
    ("/step", b"{}", {}),
    ("/step", b'{"step_type": 9}', {}),
    ("/log", b"[]", {}),
    ("/camera", b'{"data": "bm8gcGljdHVyZQ=="}', {}),
    ("/other", b"", {"task": "x", "specs": "y"}),
  ],
)
def test_a_stranger_s_file_is_named(tmp_path, topic, message, metadata):
  """Whole MCAP files whose topics or metadata have the names of ours."""
  with (tmp_path / "strange.mcap").open("wb") as stream:
    written = mcap.writer.Writer(stream)
    written.start()
    written.add_metadata(recording.ABOUT, metadata or arm_recordings.about())
    channel = written.register_channel(topic, "json", written.register_schema("x", "jsonschema", b"{}"))
    written.add_message(channel, 1, message, 1)
    written.finish()
  with pytest.raises(ValueError, match="strange.mcap is no recording, or is damaged"):
    list(recording.read(tmp_path))


def test_nan_and_non_contiguous_arrays_are_recorded(tmp_path):
  """NaN stands for a target that is not seen. A driver's columns lie scattered."""
  nothing, scattered = np.full(3, np.nan), np.arange(6.0)[::2]
  every = [
    step._replace(reward=np.nan, reading=step.reading._replace(target_in_base_m=nothing), asked_rad_s=scattered)
    for step in STEPS[:5]
  ]
  got = list(recording.read(arm_recordings.write(tmp_path, every)))
  assert_same(got[:-1], every)
  assert isinstance(got[0].reward, float) and got[0].reading.target_in_base_m.dtype == np.float64


def test_recordings_of_other_tasks_are_not_mixed(folder, tmp_path):
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  with recorder.Recorder(tmp_path, arm_recordings.about("conveyor"), now_s=time.monotonic):
    pass
  with pytest.raises(ValueError, match="is of conveyor with 3 joints, .* of reach/random with 3; name one"):
    recording.read_about(tmp_path)
  with pytest.raises(ValueError, match="there is no recording"):
    recording.read_about(tmp_path / "nowhere")


def test_a_killed_recorder_loses_less_than_a_second(tmp_path):
  """The last thing that it prints is the number of its last event."""
  code = (
    "import pathlib, sys, time\n"
    "from environments.arm import recorder, recording\n"
    "from tests.environments import arm_recordings\n"
    "opened = recorder.Recorder(pathlib.Path(sys.argv[1]), arm_recordings.about(), now_s=time.monotonic)\n"
    "for number in range(1000):\n"
    "  opened.put(recording.Event(time.monotonic(), recording.INFORMATION, str(number)))\n"
    "  print(number, flush=True)\n"
    "  time.sleep(0.02)\n"
  )
  command = [sys.executable, "-c", code, str(tmp_path)]
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=driver.environment_variables())
  try:
    for line in process.stdout:
      if int(line) == 75:
        break
    process.kill()
    last = int(([line, *process.stdout])[-1])
  finally:
    process.kill()
    process.communicate()
  got = [int(item.text) for item in recording.read(tmp_path)]
  assert got == list(range(len(got))) and last - got[-1] <= 50


def test_a_disk_that_is_full_is_one_warning(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(recorder, "_FLUSH_S", 0.0)
  add, calls = recorder.writer.Writer.add_message, []

  def fill(*arguments):
    calls.append(arguments)
    if len(calls) > 3:
      raise OSError(errno.ENOSPC, "No space left on device")
    add(*arguments)

  monkeypatch.setattr(recorder.writer.Writer, "add_message", fill)
  arm_recordings.write(tmp_path, ITEMS)
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "is no whole recording (OSError: [Errno 28] No space left on device)" in error
  assert_same(list(recording.read(tmp_path)), ITEMS[:2])  # Three messages.


def test_a_disk_that_hangs_delays_nobody(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(recorder, "_FLUSH_S", 0.0)
  is_free, hangs = threading.Event(), []
  flush = recorder.writer.Writer.flush

  def hang(writer):
    if hangs:
      is_free.wait()
    hangs.append(writer)
    flush(writer)

  monkeypatch.setattr(recorder.writer.Writer, "flush", hang)
  monkeypatch.setattr(recorder, "_MOST_WAITING", 7)
  with recorder.Recorder(tmp_path, arm_recordings.about(), now_s=lambda: 0.0) as opened:
    while not hangs:
      time.sleep(0.01)
    for _ in range(100):
      opened.put(ITEMS[0])  # This returns, or the test hangs.
    opened.put(STEPS[0])
    is_free.set()
    while opened._waiting.qsize():
      time.sleep(0.01)
    for step in STEPS[1:7]:  # The rest of an episode whose beginning is missing, and another one.
      opened.put(step)
      while opened._waiting.qsize():
        time.sleep(0.01)
  assert_same([step for step in recording.read(tmp_path) if isinstance(step, recording.Step)], STEPS[5:7])
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "(the disk does not keep up, and steps are missing); the arm goes on" in error


def test_what_is_not_written_in_the_end_is_one_warning(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(recorder, "_CLOSE_S", 0.05)
  is_free, add = threading.Event(), recorder.writer.Writer.add_message

  def hang(*arguments):
    is_free.wait()
    add(*arguments)

  monkeypatch.setattr(recorder.writer.Writer, "add_message", hang)
  with recorder.Recorder(tmp_path, arm_recordings.about(), now_s=lambda: 0.0) as opened:
    for step in STEPS[:3]:
      opened.put(step)
  error = capsys.readouterr().err
  is_free.set()
  opened._thread.join()
  assert error.count("\n") == 1 and " items were not written within 0.05 s of its end); the arm goes on" in error


# --- Played again ---


class DmEnvTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """dm_env's own conformance suite, over the cut episode and past the end of the recording."""

  def make_object_under_test(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    return replay.Replay(str(arm_recordings.write(pathlib.Path(folder.name), ITEMS)))

  def make_action_sequence(self):
    for _ in range(20):
      yield np.zeros(3, np.int32)


def test_a_replay_shows_what_was_recorded_over_and_over(folder):
  environment = replay.Replay(str(folder))
  for _ in range(2):
    for i, step in enumerate(STEPS):
      timestep = environment.step(None)
      assert timestep.first() == step.step_type.first()
      np.testing.assert_equal(timestep.observation, dict(step.observation))
      if i % 5:
        assert (timestep.reward, timestep.discount) == (step.reward, step.discount)
      assert timestep.last() == (i % 5 == 4)  # Also where the client left.
  assert environment.reset().observation["target"] == pytest.approx(STEPS[0].observation["target"])
  assert replay.Replay(str(folder), ["target"]).reset().observation.keys() == {"target"}
  with pytest.raises(ValueError, match="has no episode with depth; what it has is pixels, target"):
    replay.Replay(str(folder), ["depth"])


def test_recorded_jitter_is_replayed_only_on_request(tmp_path, monkeypatch):
  shown = (*arm_recordings.OBSERVATIONS, specs.Array((2,), np.float32, name="jitter"))
  monkeypatch.setattr(arm_recordings, "OBSERVATIONS", shown)
  jitter = np.array([0.004, 0.001], np.float32)
  every = [step._replace(observation={**step.observation, "jitter": jitter}) for step in STEPS[:5]]
  path = str(arm_recordings.write(tmp_path, every))
  assert set(replay.Replay(path).reset().observation) == {"pixels", "target"}
  np.testing.assert_array_equal(replay.Replay(path, ["jitter"]).reset().observation["jitter"], jitter)
  served = replay.ReplayWorld(replay.ReplayConfig(path), task="reach/random", num_joints=3)
  assert set(served.observation_spec()) == {"pixels", "target", "jitter"}
  served.step(None)
  np.testing.assert_array_equal(served.observe(["jitter"])["jitter"], jitter)


def test_an_episode_without_what_is_to_be_shown_is_left_out(tmp_path):
  """The second episode has no pictures. The third one has one step only."""
  blind = [step._replace(observation={"target": step.observation["target"]}) for step in STEPS[5:10]]
  path = str(arm_recordings.write(tmp_path / "some", [*STEPS[:5], *blind, STEPS[10]]))
  assert [len(list(replay.Replay(path, shown).episodes())) for shown in (None, ["target"])] == [1, 2]
  path = str(arm_recordings.write(tmp_path / "none", blind))
  with pytest.raises(ValueError, match="has no episode with pixels, target; what it has is target"):
    replay.Replay(path)
  path = str(arm_recordings.write(tmp_path / "first", STEPS[:1]))
  with pytest.raises(ValueError, match="has no episode with pixels, target; what it has is no whole step"):
    replay.Replay(path)


def test_a_recording_of_another_task_than_is_served_is_refused(folder):
  with pytest.raises(protocol.BridgeError, match="serve it with --task=reach/random --num_joints=3"):
    replay.ReplayWorld(replay.ReplayConfig(str(folder)), task="conveyor", num_joints=3)
  with pytest.raises(ValueError, match="record='x': what is replayed is recorded already"):
    server.ServerConfig(driver=replay.ReplayConfig(str(folder)), record="x")


def test_a_step_that_was_cut_short_is_told_from_others(tmp_path):
  """It is its episode's last step and has no picture: it is played where none is shown, and is in no data set."""
  short = STEPS[9]._replace(observation={"target": STEPS[9].observation["target"]}, is_cut_short=True)
  every = [*STEPS[:9], short, *STEPS[10:]]
  path = arm_recordings.write(tmp_path / "recording", every)
  assert_same(list(recording.read(path))[:-1], every)
  for shown, num_steps in ((None, [5, 4, 5]), (["target"], [5, 5, 5])):
    assert [len(episode) for episode in replay.Replay(str(path), shown).episodes()] == num_steps
  environment = replay.Replay(str(path), ["target"])
  (*_, last) = [environment.step(None) for _ in range(10)]
  assert last.last() and (last.reward, last.discount) == (short.reward, 1.0)
  np.testing.assert_array_equal(last.observation["target"], short.observation["target"])
  assert export.robomimic(path, tmp_path / "data.hdf5") == (3, 11)


def test_an_episode_whose_very_start_was_cut_short_is_none(tmp_path):
  firsts = [i for i, step in enumerate(STEPS) if step.step_type.first()]
  short = STEPS[firsts[1]]._replace(observation={"target": STEPS[firsts[1]].observation["target"]}, is_cut_short=True)
  path = arm_recordings.write(tmp_path / "recording", [*STEPS[: firsts[1]], short, *STEPS[firsts[2] :]])
  for shown in (None, ["target"]):
    assert [len(episode) for episode in replay.Replay(str(path), shown).episodes()] == [5, 5]
  assert export.robomimic(path, tmp_path / "data.hdf5") == (2, 8)


def test_a_recording_of_before_has_no_step_that_was_cut_short(tmp_path, monkeypatch):
  names = [name for name in recording.Step._fields if name != "is_cut_short"]
  monkeypatch.setattr(recording.Step, "_asdict", lambda step: {name: getattr(step, name) for name in names})
  assert_same(list(recording.read(arm_recordings.write(tmp_path, ITEMS)))[:-1], ITEMS)


# --- Exported ---


def test_robomimic_s_file_has_its_documented_layout(folder, tmp_path):
  """As robomimic's `SequenceDataset` reads it: numbered demonstrations, each with its `num_samples` as its length."""
  out = tmp_path / "new" / "data.hdf5"
  assert export.robomimic(folder, out) == (3, 12)
  with h5py.File(out) as file:
    data = file["data"]
    assert data.attrs["total"] == 12 and json.loads(data.attrs["env_args"])["env_name"] == "reach/random"
    assert sorted(data, key=lambda name: int(name[5:])) == ["demo_0", "demo_1", "demo_2"]
    for i, demo in enumerate(data[f"demo_{i}"] for i in range(3)):
      steps = STEPS[5 * i : 5 * i + 5]
      assert demo.attrs["num_samples"] == 4
      np.testing.assert_array_equal(demo["actions"], [step.action - 1.0 for step in steps[1:]])
      np.testing.assert_array_equal(demo["rewards"], [step.reward for step in steps[1:]])
      np.testing.assert_array_equal(demo["dones"], [0, 0, 0, int(i != 1)])
      for name in ("pixels", "target"):
        np.testing.assert_array_equal(demo[f"obs/{name}"], [step.observation[name] for step in steps[:-1]])
        np.testing.assert_array_equal(demo[f"next_obs/{name}"], [step.observation[name] for step in steps[1:]])
      assert demo["obs/pixels"].dtype == np.uint8 and demo["actions"].dtype == np.float32
  with pytest.raises(OSError, match="data.hdf5 exists; name another file"):
    export.robomimic(folder, out)
  shutil.copytree(folder, tmp_path / "two")
  (tmp_path / "two" / "z.mcap").write_bytes(b"no recording, whatever its name may say of it")
  with pytest.raises(ValueError, match="z.mcap is no recording"):
    export.robomimic(tmp_path / "two", tmp_path / "half.hdf5")
  assert not (tmp_path / "half.hdf5").exists()
