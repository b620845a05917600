"""The bridge: dm_env_rpc's and dm_env's own conformance suites, and what happens when things go wrong.

One twin in its own process serves most tests. Where a test must look at the driver, the server runs on a thread.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import grpc
import jax
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils
from dm_env_rpc.v1 import connection, dm_env_rpc_pb2_grpc, error, tensor_utils
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1.compliance import create_destroy_world, join_leave_world, reset, reset_world, step

from environments import core, host, registry
from environments.arm import client, desk, protocol, recording, replay, safety, server, twin, world
from environments.arm import gap as gap_lib
from environments.jaco import constants, tasks
from environments.jaco import world as simulation
from experiments.setup import place as place_lib
from tests.environments import arm_rig

REST = np.ones(9, np.int32)
FORWARD = np.full(9, 2, np.int32)
TURN = np.array([2, 1, 1, 1, 1, 1, 1, 1, 1], np.int32)  # Joint 1 alone.
SLACK_S = arm_rig.SLACK_S
VARIABLES = server.child_environment()
ONE_SERVER = {}  # Shared with the unittest classes of the compliance suite, which take no fixtures.


@pytest.fixture(scope="module", autouse=True)
def address(tmp_path_factory):
  folder = tmp_path_factory.mktemp("recording")
  with server.launch(server.ServerConfig(driver=twin.TwinConfig(), seed=5, record=str(folder))) as address:
    ONE_SERVER.update(address=address, recording=folder)
    yield address


@contextlib.contextmanager
def connected(address, **options):
  environment = client.connect(address, **options)
  try:
    yield environment
  finally:
    environment.close()


@contextlib.contextmanager
def served_here(config):
  """Serves on a thread of this process, so that a test can reach the driver."""
  ready, stop, addresses = threading.Event(), threading.Event(), []

  def on_ready(address):
    addresses.append(address)
    ready.set()

  thread = threading.Thread(target=server.serve, args=(config,), kwargs=dict(on_ready=on_ready, stop=stop))
  thread.start()
  try:
    assert ready.wait(200)
    yield addresses[0]
  finally:
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def rig(tmp_path):
  """An arm in this process, on the wall clock, for a server to drive."""
  yield from arm_rig.made(tmp_path)


@pytest.fixture
def rig_config(rig):
  """The config of the rig's server. A command holds for so long that only what is tested stops it."""
  return server.ServerConfig(driver=arm_rig.RigConfig(rig.path), watchdog_s=30.0)


@pytest.fixture
def rig_server(rig_config):
  with arm_rig.served(rig_config) as served:
    yield served


def set_going(environment, rig):
  """Takes three steps. The arm then moves until it is stopped."""
  for _ in range(3):
    environment.step(TURN)
  assert rig.velocity[0] > 0.2


# --- dm_env_rpc's compliance suite ---


class Connected:
  """A raw connection for every test."""

  def setUp(self):
    super().setUp()
    self._channel = grpc.insecure_channel(ONE_SERVER["address"])
    self._connection = connection.Connection(self._channel)

  def tearDown(self):
    super().tearDown()
    self._connection.send(rpc.LeaveWorldRequest())
    self._connection._stream.write(None)  # Otherwise its thread waits for the next request for ever.
    self._channel.close()

  @property
  def connection(self):
    return self._connection

  @property
  def world_name(self):
    return protocol.WORLD_NAME

  def join(self):
    return self._connection.send(rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME)).specs


class CreateDestroyWorldTest(Connected, create_destroy_world.CreateDestroyWorld):
  required_world_settings = {}
  invalid_world_settings = {"colour": tensor_utils.pack_tensor("red")}
  has_multiple_world_support = False


class JoinLeaveWorldTest(join_leave_world.JoinLeaveWorld, Connected, absltest.TestCase):
  invalid_join_settings = {
    "colour": tensor_utils.pack_tensor("red"),
    protocol.SEED: tensor_utils.pack_tensor(-1),
    protocol.TASK: tensor_utils.pack_tensor("reach/nothing"),
  }
  connection, world_name = Connected.connection, Connected.world_name

  def tearDown(self):
    self.leave_world()
    self._connection._stream.write(None)  # Otherwise its thread waits for the next request for ever.
    self._channel.close()


class ResetTest(Connected, reset.Reset):
  def join_world(self):
    return self.join()


class ResetWorldTest(Connected, reset_world.ResetWorld):
  pass


class StepTest(Connected, step.Step):
  def setUp(self):
    super().setUp()
    self._specs = self.join()

  @property
  def specs(self):
    return self._specs


# --- dm_env's ---


class DmEnvTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  def make_object_under_test(self):
    environment = client.connect(ONE_SERVER["address"])
    self.addCleanup(environment.close)
    return environment

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    for _ in range(70):
      yield rng.integers(0, 3, 9, dtype=np.int32)


# --- Episodes through the bridge ---


def test_specs_are_the_simulations(address):
  expected = simulation.Jaco(tasks.TASKS["reach/random"], num_threads=1)
  with connected(address) as environment:
    assert environment.action_spec() == expected.action_spec()
    assert environment.observation_spec() == expected.observation_spec()


def test_the_same_seed_gives_the_same_episodes(address):
  episodes = []
  for seed in (3, 4, 3):
    with connected(address, seed=seed) as environment:
      timesteps = [environment.reset(), *(environment.step(TURN) for _ in range(5)), environment.reset()]
      episodes.append([t.observation for t in timesteps])
  for one, same, other in zip(episodes[0], episodes[2], episodes[1], strict=True):
    for name, value in one.items():
      np.testing.assert_array_equal(value, same[name])
      assert not np.array_equal(value, other[name]), name


def test_the_step_after_last_starts_an_episode(address):
  with connected(address, observations=["proprioception"]) as environment:
    environment.reset()
    for _ in range(50):
      timestep = environment.step(REST)
    assert timestep.last()
    assert timestep.discount == 1.0  # Truncated, not terminated.
    assert environment.step(FORWARD).first()
    assert environment.step(FORWARD).mid()


def test_an_empty_action_holds_still(address):
  with connected(address, observations=["proprioception"]) as environment:
    environment.reset()
    for _ in range(5):
      moving = environment.step(TURN)
    for _ in range(3):
      held = environment.step({})
    assert moving.observation["proprioception"][18] > 0.5  # Velocity over commanded speed.
    assert abs(held.observation["proprioception"][18:24]).max() < 0.2


def test_only_what_is_asked_for_is_sent(address):
  with connected(address, observations=["target"]) as environment:
    assert set(environment.observation_spec()) == {"target"}
    assert set(environment.reset().observation) == {"target"}


def test_jitter_is_for_who_names_it_and_nothing_on_simulated_time(address):
  with connected(address) as environment:
    assert set(environment.observation_spec()) == {"pixels", "proprioception", "target"}
    assert set(environment.reset().observation) == {"pixels", "proprioception", "target"}
  with connected(address, observations=["jitter", "target"]) as environment:
    assert set(environment.observation_spec()) == {"jitter", "target"}
    for timestep in [environment.reset(), environment.step(TURN), environment.step(TURN)]:
      environment.observation_spec()["jitter"].validate(timestep.observation["jitter"])
      np.testing.assert_array_equal(timestep.observation["jitter"], [0.0, 0.0])


def test_jitter_on_the_wall_clock_is_what_client_and_arm_were_late_by(rig, rig_config):
  """The client sleeps for a second. Then the process that sends commands is frozen for half a second."""
  with server.launch(rig_config) as address, connected(address, observations=["jitter"]) as environment:
    environment.reset()
    environment.step(REST)
    before_s = time.monotonic()
    time.sleep(1.0)
    period_s, _ = environment.step(REST).observation["jitter"]
    assert 0.9 <= period_s <= time.monotonic() - before_s + SLACK_S
    os.kill(rig.driver_pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(rig.driver_pid, signal.SIGCONT)
    _, late_s = environment.step(REST).observation["jitter"]
    _, late_next_s = environment.step(REST).observation["jitter"]
    assert 0.45 <= late_s < 0.5 + SLACK_S
    assert late_next_s < late_s


# --- Recorded, and played again through the bridge ---


def test_what_a_client_saw_is_recorded_and_served_again(address, tmp_path):
  """This module's server goes on. What it has recorded so far is served, and this test's episode is the last one."""
  with connected(address, seed=11) as environment:
    specs = environment.observation_spec(), environment.action_spec(), environment.reward_spec()
    seen = [environment.reset(), *(environment.step(TURN) for _ in range(3)), environment.step({})]
    with pytest.raises(ValueError, match="NaN"):
      environment.step(np.full(9, np.nan, np.float32))
  until_s, said = time.monotonic() + 60, []
  while "the client left" not in said:
    assert time.monotonic() < until_s
    time.sleep(0.3)
    items = list(recording.read(ONE_SERVER["recording"], pictures=False))
    said = [item.text if isinstance(item, recording.Event) else "" for item in items]
    start = said.index("a client joined, seed=11") if "a client joined, seed=11" in said else len(said)
    items, said = items[start:], said[start:]
  assert any("NaN" in words for words in said)
  told = [item for item in items if isinstance(item, safety.Told)]
  steps = [item for item in items if isinstance(item, recording.Step)]
  np.testing.assert_allclose(np.diff([one.time_s for one in steps]), 0.1, atol=1e-5)
  assert [None if one.action is None else one.action[0] for one in steps] == [None, 2, 2, 2, None]
  np.testing.assert_allclose([one.asked_rad_s for one in steps[1:4]], [simulation.command(TURN)] * 3, rtol=1e-6)
  during = [one for one in told if steps[0].time_s - 1e-6 <= one.time_s < steps[3].time_s and not one.why]
  assert during[0].time_s == pytest.approx(steps[0].time_s, abs=1e-6)  # At once, though the server polls between steps.
  np.testing.assert_allclose([one.asked_rad_s for one in during[:2]], [steps[1].asked_rad_s] * 2, atol=1e-6)
  np.testing.assert_allclose([one.allowed_rad_s[0] for one in during[:2]], [0.2, steps[1].asked_rad_s[0]], atol=1e-6)

  (file,) = recording.files(ONE_SERVER["recording"])
  shutil.copy(file, tmp_path)
  num_before = len(list(replay.Replay(str(tmp_path)).episodes())) - 1
  with served_here(server.ServerConfig(driver=replay.ReplayConfig(str(tmp_path)))) as replayed:
    with connected(replayed) as environment:
      assert (environment.observation_spec(), environment.action_spec(), environment.reward_spec()) == specs
      for _ in range(num_before):
        environment.reset()
      again = [environment.reset(), *(environment.step(REST) for _ in range(4))]
    with connected(replayed, observations=["jitter"]) as environment:  # It was recorded, though nobody asked for it.
      np.testing.assert_array_equal(environment.reset().observation["jitter"], [0.0, 0.0])
  assert again[-1].last()  # Where the client left.
  for one, other in zip(seen, again, strict=True):
    assert (one.reward, one.discount) == (other.reward, other.discount)
    for name, value in one.observation.items():
      np.testing.assert_array_equal(value, other.observation[name])


def test_a_step_is_recorded_though_its_camera_hangs(rig, rig_config, tmp_path):
  with served_here(dataclasses.replace(rig_config, record=str(tmp_path))) as address:
    with connected(address) as environment:
      environment.reset()
      rig.fault = "image raises"
      with pytest.raises(ValueError, match="the cable is out"):
        environment.step(TURN)
  (episode,) = recording.episodes(tmp_path)
  assert [set(one.observation) for one in episode] == [
    {"proprioception", "target", "jitter", "pixels"},
    {"proprioception", "target", "jitter"},
  ]
  assert any(one.allowed_rad_s.any() for one in recording.read(tmp_path) if isinstance(one, safety.Told))


class FlakyCamera:
  """A twin's camera that raises `fault` while there is one."""

  fault: Exception | None = None

  def __init__(self, config):
    self._camera = twin.TwinCamera(config)
    self.close = self._camera.close

  def image(self, reading):
    if FlakyCamera.fault:
      raise FlakyCamera.fault
    return self._camera.image(reading)


class FlakyConfig(twin.TwinConfig):
  def make_camera(self):
    return FlakyCamera(self)


@pytest.mark.parametrize("is_real_time", [False, True])
def test_a_picture_that_cannot_be_had_is_the_bridge_s_error(monkeypatch, is_real_time):
  """Whatever the camera raises: only after this error is a step that has moved the arm recorded as cut short."""
  monkeypatch.setattr(FlakyCamera, "fault", OSError("the cable is out"))
  with server._camera(FlakyConfig(is_real_time=is_real_time)) as image:
    with pytest.raises(protocol.BridgeError, match=r"the camera gave no picture \(OSError: the cable is out\)"):
      image(None)


def test_a_setting_takes_no_more_room_than_its_message(address):
  """A tensor of one number may ask to be repeated in any shape."""
  greedy = tensor_utils.pack_tensor(1)
  greedy.shape.extend([2**30, 2**10])
  with grpc.insecure_channel(address) as channel:
    stream = connection.StreamReaderWriter(dm_env_rpc_pb2_grpc.EnvironmentStub(channel))
    join = rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME, settings={"seed": greedy})
    stream.write(rpc.EnvironmentRequest(join_world=join))
    assert stream.read().error.message == "setting 'seed' has the shape [1073741824, 1024]; give one value"


def test_an_arm_of_other_joints_is_refused():
  limits = types.SimpleNamespace(low_rad=(0.0,) * 6)
  with pytest.raises(protocol.BridgeError, match="the driver's limits are of 6 joints, a Jaco has 9, fingers included"):
    world.ArmWorld(types.SimpleNamespace(limits=limits), lambda reading: None, tasks.TASKS["reach/fixed"])


@pytest.mark.parametrize("is_real_time", [False, True])
def test_a_camera_that_cannot_be_made_is_one_line(is_real_time):
  class Dark(twin.TwinConfig):
    def make_camera(self):
      raise OSError("no such device")

  with pytest.raises(protocol.BridgeError, match=r"^the camera cannot be had \(OSError: no such device\)$"):
    server.serve(server.ServerConfig(driver=Dark(is_real_time=is_real_time)), on_ready=print)


@pytest.mark.parametrize("num_before", [0, 1, 4, 50])
@pytest.mark.parametrize("fault", [protocol.BridgeError("no picture"), RuntimeError("the cable is out")])
def test_an_answer_that_is_lost_ends_the_episode_at_both_ends(tmp_path, monkeypatch, num_before, fault):
  """The answer is that of a FIRST step, a step in the middle, or the LAST one. The arm has moved all the same."""
  config = server.ServerConfig(driver=FlakyConfig(), num_joints=6, record=str(tmp_path))
  with served_here(config) as address, connected(address) as environment:
    world = host.adapt(environment, name="arm")
    before = [world.step(REST[:6]).step_type for _ in range(num_before)]
    assert before == [core.FIRST, *[core.MID] * (num_before - 1)][:num_before]
    monkeypatch.setattr(FlakyCamera, "fault", fault)
    with pytest.raises(ValueError, match=str(fault)):
      world.step(REST[:6])
    monkeypatch.setattr(FlakyCamera, "fault", None)
    first, *after = [world.step(REST[:6]) for _ in range(constants.NUM_EPISODE_STEPS + 1)]
    assert first.first() and first.reward is None
    assert [one.step_type for one in after] == [core.MID] * 49 + [core.LAST]
  lost, whole = recording.episodes(tmp_path)
  assert [one.is_cut_short for one in lost] == [False] * num_before + [True]
  assert [one.is_cut_short for one in whole] == [False] * 51
  np.testing.assert_array_equal(whole[0].observation["proprioception"], first.observation["proprioception"])


def test_a_refused_action_leaves_the_episode_as_it_is(address):
  with connected(address) as environment:
    environment.reset()
    environment.step(REST)
    with pytest.raises(ValueError, match="action"):
      environment.step(np.full(9, 7, np.int32))
    assert environment.step(REST).mid()


@pytest.mark.parametrize("who", ["the server ends", "the client vanishes"])
def test_a_step_that_is_cut_short_is_recorded_as_what_it_was(rig, rig_config, tmp_path, monkeypatch, who):
  """The last step would take five seconds. In it joint 1 rests and joint 2 begins to move."""
  action = np.array([1, 2, 1, 1, 1, 1, 1, 1, 1], np.int32)
  asked = simulation.command(action)
  with contextlib.ExitStack() as at_last, served_here(dataclasses.replace(rig_config, record=str(tmp_path))) as address:
    channel = at_last.enter_context(grpc.insecure_channel(address))
    stream = connection.StreamReaderWriter(dm_env_rpc_pb2_grpc.EnvironmentStub(channel))
    stream.write(rpc.EnvironmentRequest(join_world=rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME)))
    stream.read()
    for _ in range(4):  # The first starts the episode.
      stream.write(rpc.EnvironmentRequest(step=rpc.StepRequest(actions={1: tensor_utils.pack_tensor(TURN)})))
      stream.read()
    monkeypatch.setattr(constants, "CONTROL_DT_S", 5.0)
    stream.write(rpc.EnvironmentRequest(step=rpc.StepRequest(actions={1: tensor_utils.pack_tensor(action)})))
    while not rig.velocity[1]:
      time.sleep(0.001)
    time.sleep(0.2)  # A reading is 20 ms old, and older on a busy machine.
    if who == "the client vanishes":
      channel.close()
      assert rig.stood_after(time.monotonic()) < 0.1 + SLACK_S
  (episode,) = recording.episodes(tmp_path)
  assert [one.is_cut_short for one in episode] == [False] * 4 + [True]
  *_, before, last = episode
  assert last.step_type.mid() and last.discount == 1.0 and last.action.tolist() == action.tolist()
  np.testing.assert_allclose(last.asked_rad_s, asked, rtol=1e-6)
  took_s, moved_rad = last.reading.time_s - before.reading.time_s, last.reading.qpos_rad - before.reading.qpos_rad
  assert 0.0 < took_s < 5.0 and 0.0 < moved_rad[1] <= took_s * asked[1]
  assert set(last.observation) == {"proprioception", "target", "jitter"}
  (jitter_s, _) = last.observation["jitter"]
  assert jitter_s == pytest.approx(last.time_s - before.time_s - 5.0, abs=0.1 + SLACK_S)  # The step is cut, so below 0.
  assert [len(one) for one in replay.Replay(str(tmp_path), ["proprioception"]).episodes()] == [5]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / "taken").touch()
  config = server.ServerConfig(driver=twin.TwinConfig(), record=str(tmp_path / "taken"))
  with pytest.raises(protocol.BridgeError, match="nothing can be recorded in .*taken .*; name another folder"):
    server.serve(config)


# --- Safety, seen through the bridge ---


@pytest.mark.parametrize(
  ("action", "word"),
  [
    (np.full(9, np.nan, np.float32), "NaN"),
    (np.ones(9, np.float64), "float64"),
    (np.ones(5, np.int32), r"\[5\]"),
    (np.full(9, 3, np.int32), "from 0 to 2"),
    (np.full(9, 2**40), "int64"),
  ],
)
def test_what_is_not_an_action_is_refused_and_the_arm_held(address, action, word):
  with connected(address, observations=["proprioception"]) as environment:
    environment.reset()
    for _ in range(3):
      environment.step(TURN)
    with pytest.raises(ValueError, match=word) as refusal:
      environment.step(action)
    assert "\n" not in str(refusal.value)
    for _ in range(2):  # In the first step it brakes.
      after = environment.step({}).observation["proprioception"]
    assert abs(after[18:24]).max() < 0.2


def test_a_refusal_alone_stops_the_arm(rig, rig_config):
  """Nothing follows the refused action: the arm itself must have come to rest."""
  with served_here(rig_config) as address:
    with connected(address, observations=["proprioception"]) as environment:
      environment.reset()
      set_going(environment, rig)
      with pytest.raises(ValueError, match="NaN"):
        environment.step(np.full(9, np.nan))
      assert rig.stood_after(time.monotonic()) < 0.1 + SLACK_S


def test_the_watchdog_stops_the_arm_of_a_silent_client(rig, rig_config):
  with served_here(dataclasses.replace(rig_config, watchdog_s=0.15)) as address:
    with connected(address, observations=["proprioception"]) as environment:
      environment.reset()
      for _ in range(2):  # The second time the client is back, and so is the arm.
        set_going(environment, rig)
        assert rig.stood_after(time.monotonic()) < 0.2 + SLACK_S


def test_a_client_that_vanishes_leaves_the_arm_at_rest_and_free(rig, rig_config):
  with served_here(rig_config) as address:
    environment = client.connect(address, observations=["proprioception"])
    environment.reset()
    set_going(environment, rig)
    start_s = time.monotonic()
    environment._stream.close()  # Without saying that it leaves.
    assert rig.stood_after(start_s) < 0.2 + SLACK_S
    with connected(address) as other:
      assert other.reset().first()


@contextlib.contextmanager
def on_its_way(address, rig):
  """(stream, channel) of a client whose arm is on its way to a start. The way takes longer than a test waits."""
  rig.is_placed = False
  rig.turn(1.5)
  with grpc.insecure_channel(address) as channel:
    stream = connection.StreamReaderWriter(dm_env_rpc_pb2_grpc.EnvironmentStub(channel))
    stream.write(rpc.EnvironmentRequest(join_world=rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME)))
    stream.read()
    stream.write(rpc.EnvironmentRequest(step=rpc.StepRequest()))
    while not rig.velocity.any():
      time.sleep(0.001)
    yield stream, channel


@pytest.mark.parametrize("how", ["vanishes", "leaves", "asks for a reset", "says no more"])
def test_a_client_stops_the_arm_on_the_way_to_a_start(rig, rig_config, how):
  """At 0.15 rad/s the way takes ten seconds."""
  with served_here(rig_config) as address, on_its_way(address, rig) as (stream, channel):
    start_s = time.monotonic()
    if how == "vanishes":
      channel.close()
    elif how == "says no more":
      stream._requests.put(None)
    else:
      requests = {"leaves": {"leave_world": rpc.LeaveWorldRequest()}, "asks for a reset": {"reset": rpc.ResetRequest()}}
      stream.write(rpc.EnvironmentRequest(**requests[how]))
    assert rig.stood_after(start_s) < 0.1 + SLACK_S
    if how != "vanishes":
      assert "nobody waits for the step any more" in stream.read().error.message
    rig.is_placed = True
    with connected(address, observations=["target"]) as other:
      assert other.reset().first()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_an_operator_stops_the_arm_on_the_way_to_a_start(rig, rig_server, kind):
  process, address = rig_server
  with on_its_way(address, rig) as (stream, _):
    start_s = time.monotonic()
    process.send_signal(kind)
    assert rig.stood_after(start_s) < 0.1 + SLACK_S
    with pytest.raises((StopIteration, grpc.RpcError)):  # No answer: the client is told that the server is gone.
      stream.read()
    assert process.wait(20) == 0


def test_a_stranger_who_keeps_asking_does_not_starve_the_watchdog(rig, rig_config):
  is_over = threading.Event()

  def ask(address):
    with grpc.insecure_channel(address) as channel:
      stream = connection.Connection(channel)
      while not is_over.is_set():
        with pytest.raises(error.DmEnvRpcError, match="in use"):
          stream.send(rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME))

  with served_here(dataclasses.replace(rig_config, watchdog_s=0.5)) as address:
    with connected(address, observations=["proprioception"]) as environment:
      environment.reset()
      stranger = threading.Thread(target=ask, args=(address,))
      stranger.start()
      set_going(environment, rig)
      stood_s = rig.stood_after(time.monotonic())
      is_over.set()
      stranger.join()
  assert stood_s < 0.5 + SLACK_S


@pytest.mark.parametrize("fault", ["image hangs", "image hangs alone"])
def test_a_camera_that_hangs_leaves_the_arm_in_charge_of_itself(rig, rig_config, fault):
  """The picture is asked for after the control period, 0.1 s after its command."""
  config = dataclasses.replace(rig_config, watchdog_s=0.15)
  with server.launch(config) as address, connected(address) as environment:
    environment.reset()
    set_going(environment, rig)
    rig.fault, start_s = fault, time.monotonic()
    refused = pytest.raises(ValueError, match="the camera gave no picture for 2 s; the arm was held")
    with refused if fault == "image hangs" else contextlib.suppress(ValueError):  # Else the clock hangs too.
      environment.step(TURN)
    assert rig.changes[-1][0] - start_s < 0.1 + 0.2 + SLACK_S and not rig.velocity.any()
    rig.fault = ""
    time.sleep(arm_rig.HANG_S / 2)
    while environment.step(TURN).first():  # It goes on, with a new episode if the step was refused.
      pass
    assert rig.velocity[0] > 0.2


def test_who_would_join_while_the_arm_goes_to_a_start_waits_no_longer_than_asked(rig, rig_config):
  """The first client's way takes seconds, and its server answers nobody meanwhile."""
  rig.is_placed = False
  with served_here(rig_config) as address, connected(address, observations=["target"]) as environment:
    way = threading.Thread(target=lambda: environment.step(TURN))
    way.start()
    while not rig.velocity.any():
      time.sleep(0.001)
    start_s = time.monotonic()
    with pytest.raises(
      protocol.BridgeError, match="has not answered for 0.5 s: it is busy, as with the arm of another"
    ):
      client.connect(address, timeout_s=0.5)
    assert time.monotonic() - start_s < 0.5 + SLACK_S and way.is_alive()
    way.join()


def test_a_fault_of_the_arm_is_told_to_every_client(rig, rig_config):
  strict = dataclasses.replace(rig_config.driver, is_patient=False)
  with served_here(dataclasses.replace(rig_config, driver=strict)) as address:
    for _ in range(2):
      with connected(address, observations=["target"]) as environment:
        rig.fault = "frozen"
        time.sleep(0.7)
        with pytest.raises(ValueError, match="ArmFaultError: arm stopped: its instruments show nothing newer than"):
          environment.reset()


@pytest.mark.parametrize("is_moving", [False, True])
def test_a_server_whose_arm_is_lost_says_so_and_ends(rig, rig_server, is_moving):
  """One line for the client, one on stderr, and the exit code."""
  process, address = rig_server
  environment = client.connect(address, observations=["target"])
  environment.reset()
  if is_moving:
    set_going(environment, rig)
  os.kill(rig.driver_pid, signal.SIGKILL)
  if is_moving:
    with pytest.raises((ValueError, protocol.BridgeError), match="was ended by SIGKILL|lost the server"):
      environment.step(TURN)
  assert process.wait(20) == 1
  environment.close()
  said = process.stderr.read().decode().strip()
  assert said.endswith(
    "the process that owns the arm was ended by SIGKILL; look at the arm, then start the server again"
  )


def test_a_client_that_writes_ahead_is_cut_off(rig, rig_config):
  with served_here(rig_config) as address:
    with grpc.insecure_channel(address) as channel:
      stream = connection.StreamReaderWriter(dm_env_rpc_pb2_grpc.EnvironmentStub(channel))
      stream.write(rpc.EnvironmentRequest(join_world=rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME)))
      assert stream.read().WhichOneof("payload") == "join_world"
      for _ in range(1000):
        stream.write(rpc.EnvironmentRequest(step=rpc.StepRequest(actions={1: tensor_utils.pack_tensor(TURN)})))
      answers = []
      with contextlib.suppress(StopIteration):
        while True:
          answers.append(stream.read())
      assert len(answers) <= 2 and "before the last one was answered" in answers[-1].error.message
    with connected(address) as other:
      assert other.reset().first()
    assert rig.stood_after(time.monotonic()) < 0.1 + SLACK_S


def test_a_malformed_request_is_refused_and_the_server_can_still_stop(rig_config):
  with served_here(rig_config) as address:  # Fails if it does not stop.
    for _ in range(50):
      with grpc.insecure_channel(address) as channel:
        process = channel.stream_stream("/dm_env_rpc.v1.Environment/Process")
        answer = rpc.EnvironmentResponse.FromString(next(process(iter([b"\xff\xff\xff"]))))
        assert "no dm_env_rpc request" in answer.error.message


class Unstoppable(twin.Twin):
  """A twin that takes no stop once it has moved."""

  def command(self, velocity_rad_s):
    super().command(velocity_rad_s)
    if np.any(velocity_rad_s):
      self.stop = lambda: 1 / 0

  def close(self):
    self.is_closed = True
    super().close()


@dataclasses.dataclass(frozen=True)
class MadeOnce:
  """A twin's configuration that always gives the same driver."""

  driver: object
  is_real_time = False
  limits, make_camera = twin.TwinConfig().limits, twin.TwinConfig().make_camera

  def make(self):
    return self.driver


def test_an_arm_that_takes_no_stop_ends_the_server_with_one_line():
  driver = Unstoppable(twin.TwinConfig())
  ready, failures = threading.Event(), []

  def serve():
    try:
      server.serve(server.ServerConfig(driver=MadeOnce(driver)), on_ready=lambda a: (addresses.append(a), ready.set()))
    except protocol.BridgeError as failure:
      failures.append(str(failure))

  addresses = []
  thread = threading.Thread(target=serve, daemon=True)
  thread.start()
  assert ready.wait(200)
  environment = client.connect(addresses[0], observations=["target"])
  environment.reset()
  environment.step(TURN)
  with pytest.raises((ValueError, protocol.BridgeError), match="takes no stop|lost the server"):
    environment.reset()
  thread.join(20)
  assert not thread.is_alive() and driver.is_closed
  assert failures == ["the arm takes no stop (ZeroDivisionError: division by zero); press its emergency stop"]
  environment.close()


@pytest.fixture
def own_server():
  """(process, address) of a twin's server that a test may harm."""
  with arm_rig.served(server.ServerConfig(driver=twin.TwinConfig())) as served:
    yield served


def test_a_frozen_client_loses_the_arm(own_server):
  _, address = own_server
  code = (
    "import sys, time\n"
    "from environments.arm import client\n"
    "environment = client.connect(sys.argv[1], observations=['target'])\n"
    "environment.reset()\n"
    "print('joined', flush=True)\n"
    "time.sleep(300)"
  )
  frozen = subprocess.Popen([sys.executable, "-c", code, address], stdout=subprocess.PIPE, text=True, env=VARIABLES)
  try:
    assert frozen.stdout.readline() == "joined\n"
    frozen.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 60
    while True:
      try:
        return client.connect(address).close()
      except protocol.BridgeError as failure:
        assert "in use" in str(failure) and time.monotonic() < until
        time.sleep(0.5)
  finally:
    frozen.kill()
    frozen.stdout.close()


FROZEN = (
  "import sys\n"
  "import numpy as np\n"
  "from environments.arm import client, protocol\n"
  "environment = client.connect(sys.argv[1], observations=['target'])\n"
  "environment.reset()\n"
  "for _ in range(10):\n"
  "  environment.step(np.array([2, 1, 1, 1, 1, 1, 1, 1, 1], np.int32))\n"
  "print('moved', flush=True)\n"
  "sys.stdin.readline()\n"
  "try:\n"
  "  environment.step({})\n"
  "except protocol.BridgeError as failure:\n"
  "  print(failure)\n"
)


@contextlib.contextmanager
def another_process(address):
  """A client process that has moved joint 1 for a second, and steps again when it is told to."""
  pipe = subprocess.PIPE
  process = subprocess.Popen([sys.executable, "-c", FROZEN, address], stdin=pipe, stdout=pipe, text=True, env=VARIABLES)
  try:
    assert process.stdout.readline() == "moved\n"
    yield process
  finally:
    process.kill()
    process.communicate()


def until(is_so, *, timeout_s=60.0):
  """Waits until `is_so()`, however busy the machine is."""
  give_up_s = time.monotonic() + timeout_s
  while not is_so():
    assert time.monotonic() < give_up_s
    time.sleep(0.01)


def is_free(address):
  """Whether another client may join."""
  try:
    client.connect(address).close()
  except protocol.BridgeError as failure:
    assert "in use" in str(failure)
    return False
  return True


def events(folder):
  return [item.text for item in recording.read(folder, pictures=False) if isinstance(item, recording.Event)]


def test_a_silent_client_loses_the_arm_and_is_told(tmp_path, monkeypatch):
  """The test sets the wall clock, since the twin's clock stands still. The lease is half an hour."""
  clock_s = [50.0]
  monkeypatch.setattr(desk, "time", types.SimpleNamespace(monotonic=lambda: clock_s[0]))
  with served_here(server.ServerConfig(driver=twin.TwinConfig(), record=str(tmp_path))) as address:
    with connected(address, observations=["target"]) as silent:
      silent.reset()
      for _ in range(3):  # Each request starts a new lease.
        clock_s[0] += 1799.0
        time.sleep(0.2)
        assert not is_free(address)
        assert silent.step(TURN).mid()
      clock_s[0] += 1801.0
      until(lambda: is_free(address))
      for call in (lambda: silent.step(TURN), silent.reset):
        with pytest.raises(protocol.BridgeError) as failure:
          call()
        assert str(failure.value) == (
          f"lost the arm at {address}: this client asked for nothing for 1800 s, and others may have the arm; "
          "reconnect, and if a client must think for longer, serve with a longer --lease_s"
        )
      with connected(address) as other:
        assert other.reset().first()
        with pytest.raises(protocol.BridgeError, match="lost the arm"):
          silent.step(TURN)
        assert other.step(TURN).mid()  # A client that speaks again disturbs nobody.
  said = events(tmp_path)
  assert said.count("the client lost the arm: it asked for nothing for 1800 s") == 1
  assert said[0] == "a client joined, seed=0" and said[1].startswith("the arm is in use")


def test_who_lost_the_arm_may_join_again_and_a_lease_may_be_for_ever(monkeypatch):
  clock_s = [50.0]
  monkeypatch.setattr(desk, "time", types.SimpleNamespace(monotonic=lambda: clock_s[0]))
  join = rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME)
  for lease_s in (10.0, np.inf):
    config = server.ServerConfig(driver=twin.TwinConfig(), lease_s=lease_s)
    with served_here(config) as address, grpc.insecure_channel(address) as channel:
      stream = connection.Connection(channel)
      stream.send(join)
      clock_s[0] += 1e9
      if lease_s < np.inf:
        until(lambda at=address: is_free(at))
        with pytest.raises(error.DmEnvRpcError, match="asked for nothing for 10 s"):
          stream.send(rpc.StepRequest())
        stream.send(join)
      else:
        time.sleep(0.2)
      assert stream.send(rpc.StepRequest()).state == rpc.EnvironmentStateType.RUNNING


def test_a_process_that_is_frozen_loses_the_arm_to_its_lease_and_is_told(rig, rig_config, tmp_path):
  """The lease ends before gRPC gives the client up, after ten seconds."""
  config = dataclasses.replace(rig_config, watchdog_s=0.15, lease_s=3.0, record=str(tmp_path / "recording"))
  with server.launch(config) as address:
    with another_process(address) as frozen:
      frozen.send_signal(signal.SIGSTOP)
      until(lambda: is_free(address))
      assert not rig.velocity.any()
      frozen.send_signal(signal.SIGCONT)
      said, _ = frozen.communicate("\n", timeout=60.0)
    assert said.count("\n") == 1 and re.match("lost the (arm|server) at", said)  # By gRPC, on a busy machine.
    with connected(address) as other:
      assert other.reset().first()
  assert events(tmp_path / "recording").count("the client lost the arm: it asked for nothing for 3 s") == 1


# --- The way home ---


def is_home(rig):
  return np.abs(rig.qpos() - constants.HOME_RAD).max() < 0.03


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_server_of_an_arm_goes_before_others_and_behind_its_driver(rig, rig_server):
  process, _ = rig_server
  nice = {int(path.name): os.getpriority(os.PRIO_PROCESS, int(path.name)) for path in _threads(process.pid)}
  assert nice.pop(process.pid) == -10
  assert -10 in nice.values()  # gRPC's threads.
  assert os.getpriority(os.PRIO_PROCESS, rig.driver_pid) == -20


def _threads(pid):
  return pathlib.Path(f"/proc/{pid}/task").iterdir()


@pytest.fixture
def going_home(rig, rig_config, tmp_path):
  """(process, address, folder) of a server whose arm, which nobody places anywhere, goes home after a second."""
  config = dataclasses.replace(
    rig_config, task="reach/fixed", watchdog_s=0.3, home_after_s=1.0, record=str(tmp_path / "recording")
  )
  with arm_rig.served(config) as (process, address):
    with connected(address, observations=["target"]) as environment:
      environment.reset()
      rig.is_placed = False
      for _ in range(15):
        environment.step(TURN)
    yield process, address, tmp_path / "recording"


@contextlib.contextmanager
def in_mid_way(rig):
  """Waits until the arm, which was held, is on its way home. At 0.15 rad/s the way takes two seconds or more."""
  until(lambda: not rig.velocity.any())
  until(lambda: rig.velocity[0] < -0.1)
  yield time.monotonic()


def test_an_arm_that_a_killed_client_leaves_is_held_and_then_goes_home(rig, rig_config, tmp_path):
  config = dataclasses.replace(rig_config, watchdog_s=0.3, home_after_s=1.5, record=str(tmp_path / "recording"))
  with server.launch(config) as address:
    rig.is_placed = False
    with another_process(address) as process:
      assert not is_home(rig)
      process.kill()
      killed_s = time.monotonic()
      until(lambda: not rig.velocity.any())
    until(lambda: is_home(rig) and not rig.velocity.any())
    moves = [bool(velocity.any()) for _, velocity in rig.changes]
    (goes, *_) = [i for i, (time_s, _) in enumerate(rig.changes) if time_s > killed_s and moves[i] > moves[i - 1]]
    (rests_s, _), (goes_s, _) = rig.changes[goes - 1 : goes + 1]
    assert rests_s - killed_s < 0.1 + SLACK_S and 1.5 <= goes_s - killed_s
    fastest = np.abs([velocity for time_s, velocity in rig.changes if time_s >= goes_s]).max(0)
    assert (fastest <= constants.COMMAND_RAD_S / 2 + 1e-9).all()
    num_changes = len(rig.changes)
    time.sleep(2.0)
    assert len(rig.changes) == num_changes  # It stays there.
  said = events(tmp_path / "recording")
  assert said == [
    "a client joined, seed=0",
    "the client left",
    "the arm goes home",
    "the arm is home",
    "the server ends",
  ]


def test_who_joins_finds_the_arm_held_in_mid_way(rig, going_home):
  _, address, _ = going_home
  with in_mid_way(rig), connected(address) as environment:
    assert rig.stood_after(time.monotonic()) < 0.2 + SLACK_S  # Since it joined, as joining takes a while.
    num_changes = len(rig.changes)
    time.sleep(2.0)
    assert len(rig.changes) == num_changes and not is_home(rig)
    assert environment.reset().first()  # Its own way to a start.


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_an_operator_stops_the_arm_on_the_way_home(rig, going_home, kind):
  process, _, folder = going_home
  with in_mid_way(rig) as start_s:
    process.send_signal(kind)
    assert rig.stood_after(start_s) < 0.1 + SLACK_S
    assert process.wait(20) == 0
  assert events(folder)[-2:] == ["the arm goes home", "the server ends"] and not is_home(rig)


def test_a_fault_ends_the_way_home_and_is_said_once(rig, going_home):
  process, address, folder = going_home
  with in_mid_way(rig) as start_s:
    rig.fault = "read raises"
    assert rig.stood_after(start_s) < 0.1 + SLACK_S
  time.sleep(1.0)
  rig.fault = ""
  time.sleep(1.0)
  assert not rig.velocity.any() and process.poll() is None
  with connected(address) as environment, pytest.raises(ValueError, match="the cable is out"):
    environment.reset()
  process.send_signal(signal.SIGTERM)
  assert process.wait(20) == 0
  (at_fault,) = [words for words in events(folder) if words.startswith("on the way home: ")]
  assert "the cable is out" in at_fault


def test_an_arm_that_is_lost_on_the_way_home_ends_the_server_with_one_line(rig, going_home):
  process, _, folder = going_home
  with in_mid_way(rig) as start_s:
    os.kill(rig.driver_pid, signal.SIGKILL)
    assert rig.stood_after(start_s) < 0.1 + SLACK_S
  assert process.wait(20) == 1
  line = "the process that owns the arm was ended by SIGKILL; look at the arm, then start the server again"
  assert process.stderr.read().decode().strip().endswith(line)
  assert events(folder)[-2:] == ["the arm goes home", line]


def test_nothing_goes_home_before_a_client_has_moved_it(rig, rig_config):
  rig.is_placed = False
  rig.turn(1.5)
  with served_here(dataclasses.replace(rig_config, home_after_s=0.0)) as address:
    time.sleep(1.0)
    with connected(address):
      pass
    time.sleep(1.0)
  assert len(rig.changes) == 1


def test_a_twin_goes_home_on_simulated_time():
  """Simulated time passes in parts, though nobody asks for it."""
  driver = twin.Twin(twin.TwinConfig(qpos_noise_rad=0.0))
  with served_here(server.ServerConfig(driver=MadeOnce(driver), home_after_s=10.0)) as address:
    with connected(address, observations=["target"]) as environment:
      environment.reset()
      for _ in range(20):
        environment.step(TURN)
    left_s, away = driver.now_s(), driver.read().qpos_rad
    until(lambda: driver.now_s() > left_s + 8.0)
    np.testing.assert_allclose(driver.read().qpos_rad[:6], away[:6], atol=0.1)  # It sags, and has braked.
    until(lambda: np.abs(driver.read().qpos_rad - constants.HOME_RAD).max() < 0.03)
    assert driver.now_s() > left_s + 10.0 + 2.0


def test_a_frozen_server_loses_its_client(own_server):
  process, address = own_server
  environment = client.connect(address, observations=["target"])
  environment.reset()
  process.send_signal(signal.SIGSTOP)
  with pytest.raises(protocol.BridgeError, match="lost the server"):
    environment.step(REST)
  environment.close()


def test_a_client_that_thinks_and_pings_keeps_the_arm(address, monkeypatch):
  often = {**dict(protocol.KEEPALIVE), "grpc.keepalive_time_ms": 50}
  monkeypatch.setattr(protocol, "KEEPALIVE", tuple(often.items()))
  with connected(address, observations=["target"]) as environment:
    environment.reset()
    time.sleep(6.0)  # gRPC lets a second pass between two pings.
    assert environment.step(REST).mid()


def test_latency_delays_the_action_through_the_bridge():
  paths = []
  for latency_s in (0.0, 0.2):
    config = twin.TwinConfig(action_latency_s=latency_s, qpos_noise_rad=0.0, qvel_noise_rad_s=0.0)
    with served_here(server.ServerConfig(driver=config)) as address:
      with connected(address, seed=1, observations=["proprioception"]) as environment:
        environment.reset()
        paths.append([environment.step(TURN).observation["proprioception"][18] for _ in range(5)])
  assert paths[0][0] > 0.5
  np.testing.assert_allclose(paths[1][:2], 0.0, atol=0.02)
  np.testing.assert_allclose(paths[1][2:], paths[0][:3], atol=0.05)


# --- What a person meets ---


def test_a_second_client_is_told_that_the_arm_is_in_use(address):
  with connected(address), pytest.raises(protocol.BridgeError, match="in use"):
    client.connect(address)
  with connected(address) as environment:
    assert environment.reset().first()


def test_who_has_left_leaves_no_thread(address):
  before = set(threading.enumerate())
  with connected(address) as environment:
    environment.reset()
    with pytest.raises(protocol.BridgeError, match="in use"):
      client.connect(address)
  with pytest.raises(protocol.BridgeError, match="not offered"):
    client.connect(address, observations=["sound"])
  for thread in set(threading.enumerate()) - before:
    thread.join(5.0)
  assert set(threading.enumerate()) <= before


def test_the_arm_has_a_name_among_the_worlds(address):
  environment = registry.make(f"arm://{address}", seed=3, observations=("target", "proprioception"), num_joints=9)
  try:
    assert core.num_choices(environment.action_spec()) == (3,) * 9
    assert set(environment.observation_spec()) == {"target", "proprioception"}
    first = environment.reset()
    after = environment.step(REST)
    assert first.first() and first.reward is None and after.mid() and after.reward in (0.0, 1.0)
  finally:
    environment.close()
  with connected(address, seed=3) as same:
    np.testing.assert_array_equal(same.reset().observation["target"], first.observation["target"])


def test_a_twin_of_ones_own_is_what_is_asked_for_and_ends_with_its_environment(address, monkeypatch):
  launched, ended = [], []

  @contextlib.contextmanager
  def launch(config):
    launched.append(config)
    try:
      yield address
    finally:
      ended.append(config)

  monkeypatch.setattr(server, "launch", launch)
  environment = registry.make("twin/reach/random", gap="camera:full", num_joints=9, observations=("target",))
  (config,) = launched  # A lease that no learner loses, however long it thinks.
  assert config == server.ServerConfig(
    driver=gap_lib.make_twin("camera:full"), task="reach/random", num_joints=9, lease_s=np.inf
  )
  assert environment.reset().first() and not ended
  environment.close()
  assert ended == launched
  with pytest.raises(protocol.BridgeError, match="'depth' is not offered"):
    registry.make("twin/reach/random", observations=("depth",))
  assert len(ended) == 2


def test_who_has_joined_can_ask_which_task_is_played(address):
  with contextlib.closing(client.connect(address)) as environment:
    assert environment.task_name == "reach/random"
    for call, word in (
      (lambda: environment._properties.read("speed"), "property 'speed' does not exist; there is 'task'"),
      (lambda: environment._properties.write("task", "reach/fixed"), "properties are understood, which can be read"),
    ):
      with pytest.raises(ValueError) as refusal:
        call()
      assert word in refusal.value.__cause__.message


def test_a_server_that_does_not_say_its_task_is_one_line(address, monkeypatch):
  monkeypatch.setattr(protocol, "TASK", "speed")
  with contextlib.closing(client.connect(address)) as environment:
    with pytest.raises(protocol.BridgeError, match="says no task .property 'speed'.*; serve by this version"):
      _ = environment.task_name


def test_a_run_learns_in_several_twins_each_with_a_server_of_its_own():
  """The twins are real ones: what one does moves no other, and all end with the place."""
  there = place_lib.make("twin/reach/random", {"gap": "none"}, observations=("target", "proprioception"), num_worlds=2)
  assert isinstance(there, place_lib.Host)
  one, other = there.worlds
  try:
    targets = [each.reset().observation["target"] for each in (one, other)]
    assert not np.array_equal(*targets)  # Their seeds differ.
    still = other.step(np.ones(9, np.int32)).observation["proprioception"]
    before = one.step(np.ones(9, np.int32)).observation["proprioception"]
    for _ in range(3):
      moved = one.step(np.full(9, 2, np.int32)).observation["proprioception"]
    after = other.step(np.ones(9, np.int32)).observation["proprioception"]
    assert np.abs(moved - before).max() > 10 * np.abs(after - still).max()
  finally:
    there.close()
  for each in there.worlds:
    with pytest.raises(ValueError):
      each.step(np.ones(9, np.int32))


def test_another_task_is_refused(address):
  with pytest.raises(protocol.BridgeError, match="plays reach/random, the client expects reach/fixed"):
    client.connect(address, task="reach/fixed")


@pytest.mark.parametrize(
  ("wanted", "message"),
  [
    ({"observations": ["depth"]}, "'depth' is not offered"),
    ({"num_joints": 6}, "takes commands for 9 joints, num_joints=6 here; serve it with --num_joints=6"),
  ],
)
def test_an_arm_other_than_expected_is_refused_by_name(address, wanted, message):
  with pytest.raises(protocol.BridgeError, match=message) as mismatch:
    client.connect(address, **wanted)
  assert "\n" not in str(mismatch.value)
  with connected(address) as environment:  # The arm was let go.
    assert environment.reset().first()


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


@pytest.mark.parametrize("address", ["", "localhost", "localhost:"])
def test_what_is_no_address_is_refused_at_once(address):
  with pytest.raises(protocol.BridgeError, match=f"'{address}' is no HOST:PORT of a server, such as localhost:5005"):
    client.connect(address, timeout_s=60.0)


def test_an_unreachable_server_is_one_line_within_seconds():
  start_s = time.monotonic()
  with pytest.raises(protocol.BridgeError, match="no server answers at 127.0.0.1:.* after 1 s") as failure:
    client.connect(f"127.0.0.1:{free_port()}", timeout_s=1.0)
  assert time.monotonic() - start_s < 60
  assert "\n" not in str(failure.value)


def test_a_busy_port_is_one_line(address):
  config = server.ServerConfig(driver=twin.TwinConfig(), port=int(address.split(":")[1]))
  with pytest.raises(protocol.BridgeError, match=f"cannot listen on {address}") as failure:
    server.serve(config)
  assert "\n" not in str(failure.value)


def test_launch_passes_on_why_the_server_did_not_start(address):
  config = server.ServerConfig(driver=twin.TwinConfig(), port=int(address.split(":")[1]))
  with pytest.raises(protocol.BridgeError, match=f"cannot listen on {address}"), server.launch(config):
    pass


def test_wrong_configurations_are_refused():
  with pytest.raises(ValueError, match="task='reach/randm' is unknown; the nearest is 'reach/random'"):
    server.ServerConfig(driver=twin.TwinConfig(), task="reach/randm")
  with pytest.raises(ValueError, match="num_joints=7"):
    server.ServerConfig(driver=twin.TwinConfig(), num_joints=7)
  for seed in (-1, 2**32):
    words = rf"seed={seed} must be a whole number from 0 to 2\*\*32 - 1"
    with pytest.raises(protocol.BridgeError, match=words):
      server.ServerConfig(driver=twin.TwinConfig(), seed=seed)
    with pytest.raises(protocol.BridgeError, match=words):
      client.connect("localhost:1", seed=seed)
  with pytest.raises(ValueError, match="watchdog_s=0.1 must be more than a control step"):
    server.ServerConfig(driver=twin.TwinConfig(), watchdog_s=0.1)
  for lease_s in (0.15, -1.0, np.nan):
    with pytest.raises(
      ValueError, match="lease_s=.* must be more than watchdog_s=0.15, for which a command holds; or inf"
    ):
      server.ServerConfig(driver=twin.TwinConfig(), lease_s=lease_s)
  for home_after_s in (-1.0, np.nan):
    with pytest.raises(ValueError, match="home_after_s=.* must be 0 or more; inf holds the arm for good"):
      server.ServerConfig(driver=twin.TwinConfig(), home_after_s=home_after_s)
  with pytest.raises(ValueError, match="home_after_s=1.0: a recording has no arm to move; serve it without"):
    server.ServerConfig(driver=replay.ReplayConfig("runs/x"), home_after_s=1.0)


def test_what_a_server_was_started_to_ignore_does_not_end_it():
  """As `nohup python -m experiments.arm ... &` does in a script, whose shell has no job control."""
  code = (
    "import os, signal, threading\n"
    "from environments.arm import server\n"
    "stop = threading.Event()\n"
    "with server._signals(stop):\n"
    "  for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):\n"
    "    os.kill(os.getpid(), kind)\n"
    "    print(kind.name, stop.is_set())\n"
  )
  command = ["sh", "-c", 'trap "" HUP INT; exec "$0" -c "$1"', sys.executable, code]
  printed = subprocess.run(command, capture_output=True, text=True, env=VARIABLES, check=True)
  assert printed.stdout.splitlines() == ["SIGHUP False", "SIGINT False", "SIGTERM True"]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_dies_is_one_line_for_its_client_and_ends_with(own_server, kind):
  process, address = own_server
  environment = client.connect(address, observations=["target"])
  environment.reset()
  process.send_signal(kind)
  assert process.wait(timeout=120) == 0  # `serve` has returned.
  with pytest.raises(protocol.BridgeError, match="lost the server") as failure:
    environment.step(REST)
  assert "\n" not in str(failure.value)
  environment.close()


def test_a_launched_server_ends_with_the_process_that_launched_it():
  code = (
    "import os\n"
    "from environments.arm import server, twin\n"
    "with server.launch(server.ServerConfig(driver=twin.TwinConfig())) as address:\n"
    "  print(address, flush=True)\n"
    "  os.kill(os.getpid(), 9)"
  )
  process = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=VARIABLES, check=False)
  assert process.returncode == -9
  for _ in range(20):
    try:
      client.connect(process.stdout.strip(), timeout_s=0.5).close()
    except protocol.BridgeError as failure:
      assert "no server answers" in str(failure) or "lost the server" in str(failure)
      return
    time.sleep(0.5)
  pytest.fail("the server is still there")


def test_it_moves_as_the_simulation_does_only_without_the_gap():
  """Task, start and actions are the same. Servo and friction differ, and the command is late."""
  simulated = simulation.Jaco(tasks.TASKS["reach/random"], num_threads=1)
  state = jax.jit(simulated.reset)(jax.random.key(0))
  drivers = [twin.Twin(gap_lib.make_twin(gap)) for gap in ("full", "none")]
  for driver in drivers:
    driver.reset(np.asarray(state.qpos), seed=0)
  move, velocity = jax.jit(simulated.step), np.asarray(simulation.command(TURN))
  for _ in range(5):
    state = move(state, TURN)
    for driver in drivers:
      driver.command(velocity)
      driver.wait(driver.now_s() + constants.CONTROL_DT_S)
  full, none = (np.abs(np.asarray(state.qpos) - driver.read().qpos_rad) for driver in drivers)
  assert 0.01 < full[0] < 0.15
  assert none.max() < 2e-3
