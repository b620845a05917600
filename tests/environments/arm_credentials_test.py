"""Who may reach an arm from other machines. Every mistake is reported in one line.

OpenSSL's own program makes certificates, as docs/real_arm.md says. Servers serve a twin.
"""

import contextlib
import dataclasses
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
from dm_env_rpc.v1 import connection, dm_env_rpc_pb2_grpc
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc

from environments import registry
from environments.arm import client, credentials, protocol, server, twin
from tests.environments import arm_rig

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "real_arm.md"
CONFIG = server.ServerConfig(driver=twin.TwinConfig())


def make(folder):
  """Makes a new authority, and the folders `server` and `client`."""
  (lines,) = re.findall(r"^```\n(mkdir [^`]*openssl.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
  folder.mkdir()
  subprocess.run(["bash", "-ec", lines], cwd=folder, check=True, capture_output=True)
  return folder


def expire(side, authority):
  """Signs a certificate again, so that it ended yesterday."""
  again = (
    "openssl x509 -x509toreq -in certificate.pem -signkey key.pem -copy_extensions copyall | "
    "openssl x509 -req -days -1 -copy_extensions copyall "
    '-CA "$1/authority.pem" -CAkey "$1/key.pem" -out certificate.pem'
  )
  subprocess.run(["bash", "-ec", again, "-", authority], cwd=side, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp("certificates")
  return make(folder / "ours"), make(folder / "theirs")


@pytest.fixture(scope="module")
def address(made):
  config = dataclasses.replace(CONFIG, host="0.0.0.0", certificates=str(made[0] / "server"))
  with server.launch(config) as address:
    yield address.replace("0.0.0.0", "127.0.0.1")


@pytest.fixture
def mine(made, tmp_path):
  """A client's folder that a test may spoil."""
  return pathlib.Path(shutil.copytree(made[0] / "client", tmp_path / "client"))


def refused(address, folder, **options):
  with pytest.raises(protocol.BridgeError) as refusal:
    client.connect(f"{address}?certificates={folder}" if folder else address, timeout_s=1.0, **options)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def test_who_has_certificates_and_the_token_drives_the_arm_alone(address, made):
  folder = str(made[0] / "client")
  environment = registry.make(f"arm://{address}?certificates={folder}", observations=("target",))
  try:
    assert environment.reset().first() and environment.step(np.ones(9, np.int32)).mid()
    assert "in use by another client" in refused(address, folder)
  finally:
    environment.close()
  client.connect(f"{address}?certificates={folder}".replace("127.0.0.1", "localhost")).close()
  with pytest.raises(
    protocol.BridgeError, match="certificate=x: behind an address stands certificates=FOLDER or nothing"
  ):
    client.connect(f"{address}?certificate=x")


def test_a_client_without_certificates_is_told_so_and_gets_nowhere(address):
  assert "it speaks with certificates alone; name the folder of yours, " in refused(address, None)


def test_a_server_that_has_none_is_told_from_one_that_has(mine):
  with server.launch(CONFIG) as address:
    assert "it speaks without certificates; leave them out, or serve with some" in refused(address, mine)
  assert "no server answers" in refused(address, mine)


def test_a_host_that_is_unknown_or_hangs_up_is_not_taken_for_one_without_certificates(mine):
  """A client that believed that would send the arm's commands to whoever answers."""
  unknown = refused("nowhere.invalid:5005", mine)
  assert re.search(r"the connection failed \(.*[Nn]ame.*\); correct the address", unknown)
  at_once = struct.pack("ii", 1, 0)  # SO_LINGER: a reset.
  for hang_up, words in (
    (lambda one: one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once), "Connection reset by peer"),
    (lambda one: one.recv(10_000), "unexpected eof while reading"),
  ):
    with answered(hang_up) as address:
      assert f"the connection failed ({words}); correct the address" in refused(address, mine)


@contextlib.contextmanager
def answered(how):
  """The address of a server that calls `how` on each connection and closes it."""
  with socket.create_server(("127.0.0.1", 0)) as listener:

    def run():
      with contextlib.suppress(OSError):
        while True:
          connection, _ = listener.accept()
          with connection:
            how(connection)

    threading.Thread(target=run, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)


def test_another_token_is_refused(address, mine):
  (mine / "token").write_text(32 * "0")
  assert "refused: the token is not the server's; copy the server's file" in refused(address, mine)


def test_no_token_is_refused(address, mine):
  """A client that is not ours, with a certificate that is trusted."""
  own = credentials.read(str(mine), is_server=False)
  trusted = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
  with grpc.secure_channel(address, trusted) as channel:
    stream = connection.StreamReaderWriter(dm_env_rpc_pb2_grpc.EnvironmentStub(channel))
    assert "no token came with the call" in stream.read().error.message  # Before it has said anything.
    with pytest.raises(StopIteration):
      stream.read()


def test_a_client_of_another_authority_is_told_who_distrusts_whom(address, made, mine):
  theirs = made[1] / "client"
  assert "its certificate is not trusted: unable to get local issuer certificate" in refused(address, theirs)
  for name in ("certificate.pem", "key.pem"):
    shutil.copy(theirs / name, mine)
  assert "unable to get local issuer certificate" in refused(address, mine)  # Its own authority did not sign it.
  with (mine / "authority.pem").open("a") as file:
    file.write((theirs / "authority.pem").read_text())
  assert f"it does not trust {mine}/certificate.pem; let its authority sign that" in refused(address, mine)


def test_a_server_of_another_name_is_not_trusted(address, mine):
  elsewhere = address.replace("127.0.0.1", "127.0.0.2")
  assert "its certificate is not trusted: IP address mismatch" in refused(elsewhere, mine)


@pytest.mark.parametrize("side", ["server", "client"])
def test_an_expired_certificate_is_named(made, mine, address, side, tmp_path):
  folder = mine if side == "client" else shutil.copytree(made[0] / "server", tmp_path / "server")
  expire(folder, made[0] / "authority")
  with pytest.raises(protocol.BridgeError, match="certificate.pem is of no use .*: certificate has expired"):
    credentials.read(str(folder), is_server=side == "server")
  if side == "client":
    assert "certificate has expired" in refused(address, folder)
  else:
    with pytest.raises(protocol.BridgeError, match="certificate has expired"):
      server.serve(dataclasses.replace(CONFIG, certificates=str(folder)))


def test_a_certificate_that_expires_while_it_is_served_is_named_by_the_client(made, mine, tmp_path, monkeypatch):
  folder = shutil.copytree(made[0] / "server", tmp_path / "server")
  expire(folder, made[0] / "authority")
  own = credentials.Credentials(
    folder, *((folder / name).read_bytes() for name in ("authority.pem", "certificate.pem", "key.pem")), "x"
  )
  config = dataclasses.replace(CONFIG, certificates=str(folder))
  grpc_server, address = server._listen(config, own)
  grpc_server.start()
  try:
    assert "its certificate is not trusted: certificate has expired" in refused(address, mine)
  finally:
    grpc_server.stop(None).wait()


@pytest.mark.parametrize(
  ("spoil", "message"),
  [
    (lambda mine: (mine / "key.pem").unlink(), "key.pem cannot be read .No such file or directory.; a folder of"),
    (lambda mine: (mine / "token").chmod(0o644), "token may be read by others on this machine; chmod 600 .*token"),
    (lambda mine: (mine / "token").write_text("secret"), "token must be 32 or more letters and digits in one line"),
    (lambda mine: (mine / "authority.pem").write_text("-"), "authority.pem is no certificate .PEM."),
    (lambda mine: (mine / "certificate.pem").write_text("-"), "certificate.pem and .*key.pem are no certificate .PEM."),
    (lambda mine: shutil.copy(mine.parent / "theirs.pem", mine / "key.pem"), "key values mismatch"),
  ],
)
def test_a_spoiled_folder_is_one_line(made, mine, spoil, message):
  shutil.copy(made[1] / "client" / "key.pem", mine.parent / "theirs.pem")
  spoil(mine)
  with pytest.raises(protocol.BridgeError, match=message) as refusal:
    credentials.read(str(mine), is_server=False)
  assert "\n" not in str(refusal.value)


def test_the_other_side_s_folder_is_refused(made):
  for side in ("server", "client"):
    with pytest.raises(protocol.BridgeError, match="unsuitable certificate purpose"):
      credentials.read(str(made[0] / side), is_server=side == "client")


def test_without_certificates_nobody_else_is_served():
  for host in ("0.0.0.0", "192.168.1.20", "::"):
    with pytest.raises(ValueError, match=f"host={host} is reached from other machines, .*certificates=FOLDER"):
      dataclasses.replace(CONFIG, host=host)
  for host in ("127.0.0.1", "127.3.2.1", "::1"):
    dataclasses.replace(CONFIG, host=host)
  with pytest.raises(ValueError, match="host='arm.lab' is no address; give one of this machine's"):
    dataclasses.replace(CONFIG, host="arm.lab")


def test_a_request_larger_than_a_command_is_refused_and_the_arm_freed(address, made):
  folder = str(made[0] / "client")
  environment = client.connect(f"{address}?certificates={folder}", observations=["target"])
  environment.reset()
  with pytest.raises(protocol.BridgeError, match="refused .*larger than max .* vs. 4096.*; send one action a step"):
    environment.step(np.ones(4096, np.int32))
  environment.close()
  client.connect(f"{address}?certificates={folder}").close()


def test_a_stream_too_many_is_refused_at_once(address, made):
  own = credentials.read(str(made[0] / "client"), is_server=False)
  with grpc.secure_channel(address, own.for_client()) as channel:
    streams = [connection.StreamReaderWriter(dm_env_rpc_pb2_grpc.EnvironmentStub(channel)) for _ in range(33)]
    for stream in streams:
      stream.write(rpc.EnvironmentRequest(create_world=rpc.CreateWorldRequest()))
    refusals = 0
    for stream in streams:
      try:
        assert stream.read().WhichOneof("payload") == "create_world"
      except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        refusals += 1
    assert refusals == 1


def test_a_client_that_vanishes_behind_tls_leaves_the_arm_at_rest_and_free(made, tmp_path):
  with contextlib.closing(arm_rig.Rig(str(tmp_path / "rig"))) as rig:
    driver = arm_rig.RigConfig(rig.path)
    config = server.ServerConfig(driver=driver, certificates=str(made[0] / "server"), watchdog_s=30.0)
    with arm_rig.served(config) as (_, address):
      address = f"{address}?certificates={made[0] / 'client'}"
      environment = client.connect(address, observations=["target"])
      environment.reset()
      for _ in range(3):
        environment.step(np.full(9, 2, np.int32))
      assert rig.velocity.all()
      start_s = time.monotonic()
      environment._stream.close()  # Without saying that it leaves.
      assert rig.stood_after(start_s) < 0.2 + arm_rig.SLACK_S
      client.connect(address).close()
