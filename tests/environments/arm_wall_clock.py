"""How long an arm moves on after a fault: `python -m tests.environments.arm_wall_clock --minutes=20 --out=FILE`.

The arm is the rig of the tests, which keeps a velocity until it is told another one. A trial drives it at the speeds of
actions, each joint to and fro at random. It breaks one thing at a random instant, and waits until the arm stands still.
Trials run in parallel lanes, each in its own process. Client faults go through one server that goes on. Faults of the
server and of what it needs get a new server each. Faults of the driver happen behind its gate alone. Each run adds its
trials to the file, and the table covers all trials in the file.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import queue
import signal
import tempfile
import time
from concurrent import futures

import grpc
import numpy as np
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import tensor_utils

from environments.arm import credentials, driver, protocol, safety, server
from environments.jaco import constants
from tests.environments import arm_rig

_STANDS_S = 0.1  # It must stand still this long.
_GIVE_UP_S = 6.0


class Client:
  """A stream of messages, or of bytes."""

  def __init__(self, address, config):
    """Joins the arm at `address`. The client's certificates are in the folder `client` beside the server's."""
    self._messages = queue.SimpleQueue()
    if config.certificates:
      own = credentials.read(str(pathlib.Path(config.certificates).with_name("client")), is_server=False)
      self.channel = grpc.secure_channel(address, own.for_client())
    else:
      self.channel = grpc.insecure_channel(address)
    process = self.channel.stream_stream(
      "/dm_env_rpc.v1.Environment/Process",
      request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
      response_deserializer=rpc.EnvironmentResponse.FromString,
    )
    self._answers = process(iter(self._messages.get, None))
    give_up_s = time.monotonic() + _GIVE_UP_S
    while not (offered := self._join()):  # The previous client may not have left yet.
      if time.monotonic() > give_up_s:
        raise ConnectionError("the arm stays in use")
    (self._pixels,) = (uid for uid, spec in offered.items() if spec.name == "pixels")

  def _join(self):
    """The observations that are offered, or none if joining is refused."""
    self.say(rpc.EnvironmentRequest(join_world=rpc.JoinWorldRequest(world_name=protocol.WORLD_NAME)))
    return self.hear().join_world.specs.observations

  def hear(self):
    """The next answer."""
    answer = next(self._answers, None)
    if answer is None:
      raise ConnectionError("the server says no more")
    return answer

  def say(self, message):
    """Sends a message, or bytes; None ends."""
    self._messages.put(message)

  def move(self, action, *, has_picture=False):
    """Sends a step, which is answered later."""
    actions, asked = {1: tensor_utils.pack_tensor(action)}, [self._pixels] if has_picture else []
    self.say(rpc.EnvironmentRequest(step=rpc.StepRequest(actions=actions, requested_observations=asked)))

  def step(self, action):
    """Takes a step. Returns when it was asked for."""
    start_s = time.monotonic()
    self.move(action)
    self.hear()
    return start_s

  def close(self):
    self.channel.close()


def _in_mid_step(say):
  def fault(client, action, rng):
    client.move(action)
    time.sleep(rng.uniform(0.0, 0.5 * constants.CONTROL_DT_S))  # A busy machine may make it twice as long.
    start_s = time.monotonic()
    say(client, action)
    return start_s

  return fault


def _instead_of_a_step(say):
  def fault(client, action, rng):
    start_s = client.step(action) if say is None else time.monotonic()
    if say:
      say(client, action)
    return start_s

  return fault


def _leave(client, _):
  client.say(rpc.EnvironmentRequest(leave_world=rpc.LeaveWorldRequest()))


# What a client does. Each function returns when that began.
CLIENT = {
  "falls silent (since its last command)": _instead_of_a_step(None),
  "sends NaN": _instead_of_a_step(lambda client, action: client.move(action * np.nan)),
  "sends no request": _instead_of_a_step(lambda client, _: client.say(b"\xff\xff\xff")),
  "vanishes between steps": _instead_of_a_step(lambda client, _: client.close()),
  "vanishes in mid-step": _in_mid_step(lambda client, _: client.close()),
  "leaves in mid-step": _in_mid_step(_leave),
  "says no more in mid-step": _in_mid_step(lambda client, _: client.say(None)),
  "writes ahead": _in_mid_step(lambda client, action: client.move(action)),
}
ON_THE_WAY = {
  "vanishes on the way to a start": lambda client, _: client.close(),
  "leaves on the way to a start": _leave,
}
# Faults of the driver, as the rig names them.
DRIVER = {
  "`read` hangs": "read hangs",
  "`read` shows the past": "frozen",
  "`read` raises": "read raises",
  "`read` gives NaN": "read gives NaN",
  "`command` raises": "command raises",
  "`command` hangs": "command hangs",
  "`command` hangs with the interpreter's lock": "command hangs alone",
  "`read` hangs with the interpreter's lock": "read hangs alone",
}
DRIVER_SIGNALS = {
  "the driver's process gets SIGKILL": signal.SIGKILL,
  "the driver's process gets SIGTERM": signal.SIGTERM,
  "the driver's process gets SIGSTOP": signal.SIGSTOP,
}
CAMERA = {"the camera hangs": "image hangs", "the camera hangs with the interpreter's lock": "image hangs alone"}
SERVER_SIGNALS = {
  f"the server gets {kind.name}": kind
  for kind in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
}
SERVER_ON_THE_WAY = "the server gets SIGTERM on the way to a start"
JOINS_ON_THE_WAY_HOME = "a client joins on the way home"
SERVER_ON_THE_WAY_HOME = "the server gets SIGTERM on the way home"
HOME = (JOINS_ON_THE_WAY_HOME, SERVER_ON_THE_WAY_HOME)
# Fault -> the row of docs/results/arm.md that it counts in. A fault that is not here has its own row.
ROWS = {
  name: row
  for row, names in {
    "the client vanishes, leaves, says no more or writes ahead, in mid-step": [
      *(f"the client {what} in mid-step" for what in ("vanishes", "leaves", "says no more")),
      "the client writes ahead",
    ],
    "the client vanishes between steps, or sends what is no action or no request": [
      f"the client {what}" for what in ("vanishes between steps", "sends NaN", "sends no request")
    ],
    "the client vanishes or leaves on the way to a start": [f"the client {what}" for what in ON_THE_WAY],
    "the camera hangs, even with the interpreter's lock": CAMERA,
    "`read` hangs, or shows the past": ["`read` hangs", "`read` shows the past"],
    "`read` or `command` raises, or a joint reads NaN": ["`read` raises", "`read` gives NaN", "`command` raises"],
    "a call hangs in the driver's process": [name for name in DRIVER if "command` hangs" in name or "lock" in name],
    "SIGTERM, SIGINT, SIGHUP, SIGQUIT to the server, also on the way to a start": [
      *(name for name, kind in SERVER_SIGNALS.items() if kind not in (signal.SIGKILL, signal.SIGSTOP)),
      SERVER_ON_THE_WAY,
    ],
  }.items()
  for name in names
}


def _actions(rng):
  return rng.choice(np.array([0, 2], np.int32), constants.NUM_JOINTS)


def _in_turn(names, rng, end_s):
  """Yields `names` again and again, each time in another order, until the time is up."""
  while True:
    for name in rng.permutation(names):
      if time.time() > end_s:
        return
      yield name


def _until(is_so):
  give_up_s = time.monotonic() + _GIVE_UP_S
  while not is_so() and time.monotonic() < give_up_s:
    time.sleep(0.001)
  return is_so()


def _rest_s(rig, start_s):
  """Seconds from `start_s` until the arm stood still, or infinite if it did not."""

  def stands():
    when_s, velocity = rig.changes[-1]
    return not velocity.any() and time.monotonic() > when_s + _STANDS_S

  return max(0.0, rig.changes[-1][0] - start_s) if _until(stands) else np.inf


def clients(rig, config, rng, end_s):
  """Uses one server for all trials, until it is lost to the load."""
  with arm_rig.served(config) as (_, address):
    for name in _in_turn([*CLIENT, *ON_THE_WAY], rng, end_s):
      rig.is_placed = name not in ON_THE_WAY
      with contextlib.closing(Client(address, config)) as client:
        action = _actions(rng)
        if rig.is_placed:
          for _ in range(rng.integers(2, 4)):
            client.step(action)
          moved = rig.velocity.any()
          start_s = CLIENT[name](client, action, rng)
        else:
          rig.turn(1.5)
          client.move(action)
          moved = _until(lambda: rig.velocity.any())
          time.sleep(rng.uniform(0.1, 0.3))
          start_s = time.monotonic()
          ON_THE_WAY[name](client, action)
        yield f"the client {name}", _rest_s(rig, start_s) if moved else None
        if not moved:
          return


def servers(rig, config, rng, end_s):
  """Uses a server for each trial."""
  for name in _in_turn([*SERVER_SIGNALS, *CAMERA, SERVER_ON_THE_WAY, *HOME], rng, end_s):
    if name in HOME:
      yield name, _on_the_way_home(rig, config, rng, name)
      continue
    rig.is_placed, rig.fault = name != SERVER_ON_THE_WAY, ""
    with arm_rig.served(config) as (process, address), contextlib.closing(Client(address, config)) as client:
      action = _actions(rng)
      if not rig.is_placed:
        rig.turn(1.5)
      for _ in range(rng.integers(2, 4) if rig.is_placed else 0):
        client.step(action)
      client.move(action)
      moved = _until(lambda: rig.velocity.any())
      time.sleep(rng.uniform(0.0, 0.5 * constants.CONTROL_DT_S))
      start_s = time.monotonic()
      if name in CAMERA:
        client.hear()
        rig.fault, start_s = CAMERA[name], time.monotonic()
        client.move(action, has_picture=True)
      else:
        process.send_signal(SERVER_SIGNALS.get(name, signal.SIGTERM))
      yield name, _rest_s(rig, start_s) if moved else None


def _on_the_way_home(rig, config, rng, name):
  """How long the arm moves on, or None if it did not move. A client that joins connects first."""
  rig.is_placed, rig.fault = True, ""
  with arm_rig.served(dataclasses.replace(config, home_after_s=0.3)) as (process, address):
    with contextlib.closing(Client(address, config)) as client:
      action = _actions(rng)
      for _ in range(8):
        client.step(action)
    if not (_until(lambda: not rig.velocity.any()) and _until(lambda: rig.velocity.any())):
      return None
    time.sleep(rng.uniform(0.1, 0.3))
    start_s = time.monotonic()
    if name == SERVER_ON_THE_WAY_HOME:
      process.send_signal(signal.SIGTERM)
      return _rest_s(rig, start_s)
    with contextlib.closing(Client(address, config)):
      return _rest_s(rig, start_s)


def drivers(rig, config, rng, end_s):
  """Uses a process that owns the arm for each trial, without a server."""
  for name in _in_turn([*DRIVER, *DRIVER_SIGNALS], rng, end_s):
    rig.fault = ""
    gate = driver.connect(config.driver)
    try:
      velocity = (_actions(rng) - 1) * constants.COMMAND_RAD_S
      gate.command(velocity, expires_s=gate.now_s() + 60.0)
      moved = _until(lambda: rig.velocity.any())
      time.sleep(rng.uniform(0.1, 0.3))
      start_s = time.monotonic()
      if name in DRIVER:
        rig.fault = DRIVER[name]
      else:
        os.kill(rig.driver_pid, DRIVER_SIGNALS[name])
        with contextlib.suppress(safety.ArmLostError):
          gate.read()  # As the server asks.
      yield name, _rest_s(rig, start_s) if moved else None
    finally:
      with contextlib.suppress(safety.ArmLostError):
        gate.close()


def lane(trials, seed, end_s, out, certificates):
  """Runs trials of one kind one by one, and writes a line for each: name and time, None if it did not come about."""
  rng = np.random.default_rng(seed)
  with contextlib.suppress(OSError):  # The watcher must not be late. What serves the arm has its own sessions.
    os.setsid()
    pathlib.Path("/proc/self/autogroup").write_text("-20")

  def note(name, rest_s):
    with out.open("a") as file:
      file.write(json.dumps([name, rest_s, os.getloadavg()[0]]) + "\n")

  while time.time() < end_s:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(arm_rig.Rig(f"{folder}/rig")) as rig:
      strict = arm_rig.RigConfig(rig.path, is_patient=False)
      try:
        for name, rest_s in trials(rig, server.ServerConfig(driver=strict, certificates=certificates), rng, end_s):
          note(name, rest_s)
      except (grpc.RpcError, ConnectionError, protocol.BridgeError, safety.ArmFaultError, safety.ArmLostError) as error:
        note("lost to the load", None)
        print(f"{trials.__name__}: {type(error).__name__}: {error}".splitlines()[0], flush=True)


def table(times):
  """Lines of Markdown from each fault's times to rest, seconds: infinite for never, None if it did not come about."""
  yield "| fault | count | stands still after, ms: middle | 99 % | at most | never | did not come about |"
  yield "|---|---|---|---|---|---|---|"
  for name, found in times.items():
    came = np.array([one for one in found if one is not None], np.float64)
    rest_s = came[np.isfinite(came)]
    shown = (
      " | ".join(f"{1e3 * one:.0f}" for one in np.quantile(rest_s, [0.5, 0.99, 1.0])) if rest_s.size else "- | - | -"
    )
    yield f"| {name} | {came.size:,} | {shown} | {came.size - rest_s.size} | {len(found) - came.size} |"


def read(out):
  """Times of each fault, then of each row of `ROWS` and of all, then the machine's load at each trial."""
  trials = [json.loads(line) for line in out.read_text().splitlines()]
  times, rows = collections.defaultdict(list), collections.defaultdict(list)
  for name, rest_s, _ in trials:
    times[name].append(rest_s)
    rows[ROWS.get(name, name)].append(rest_s)
  rows["all"] = [rest_s for _, rest_s, _ in trials]
  return times, rows, [load for _, _, load in trials]


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--minutes", type=float, default=20.0, help="0 only shows what is in the file.")
  parser.add_argument("--lanes", type=int, nargs=3, default=(4, 1, 2), help="Of client, server and driver faults.")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, required=True, help="File that each trial is added to.")
  parser.add_argument("--certificates", default="", help="The server's folder; the client's is beside it. '': no TLS.")
  options = parser.parse_args()
  lanes = [each for each, count in zip((clients, servers, drivers), options.lanes, strict=True) for _ in range(count)]
  end_s, seeds = time.time() + 60.0 * options.minutes, range(options.seed, options.seed + len(lanes))
  alike = ([one] * len(lanes) for one in (end_s, options.out, options.certificates))
  with futures.ProcessPoolExecutor(len(lanes), mp_context=multiprocessing.get_context("spawn")) as pool:
    list(pool.map(lane, lanes, seeds, *alike))
  times, rows, load = read(options.out)
  print(*table(times), "", *table(rows), sep="\n")
  print(f"load of {os.cpu_count()} cores: {min(load):.1f} to {max(load):.1f}, middle {np.median(load):.1f}")


if __name__ == "__main__":
  main()
