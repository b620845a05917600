"""Who may reach an arm from another machine: TLS with certificates on both sides, and a token.

Each side has a folder of four files: `certificate.pem` and `key.pem`, its own; `authority.pem`, the certificate of the
authority that signed both; `token`, a word that both sides know. gRPC speaks TLS with them. If it refuses a
certificate, it only says that nobody answers. Both sides therefore first check their own files with a handshake in
memory, and a client that is refused asks again through Python's `ssl`, which gives the reason. docs/real_arm.md says
how the files are made.
"""

import hmac
import pathlib
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple

import grpc

from environments.arm import protocol

AUTHORITY, CERTIFICATE, KEY, TOKEN = "authority.pem", "certificate.pem", "key.pem", "token"
_SECRET = (KEY, TOKEN)
_SHORTEST = 32  # Characters of a token: as many as `openssl rand -hex 16` gives.
_PROBE_S = 2.0
_NO_TLS = "WRONG_VERSION_NUMBER"  # OpenSSL's reason if a server has no certificates.


class Credentials(NamedTuple):
  """The content of a server's or a client's folder."""

  folder: pathlib.Path
  authority: bytes
  certificate: bytes
  key: bytes
  token: str

  def for_server(self) -> grpc.ServerCredentials:
    """Credentials for opening a port: a client without a certificate of the authority's is not heard."""
    return grpc.ssl_server_credentials([(self.key, self.certificate)], self.authority, require_client_auth=True)

  def for_client(self) -> grpc.ChannelCredentials:
    """Credentials for opening a channel; the token goes with every call."""
    return grpc.composite_channel_credentials(
      grpc.ssl_channel_credentials(self.authority, self.key, self.certificate),
      grpc.access_token_call_credentials(self.token),
    )

  def refusal(self, metadata: Mapping[str, str | bytes]) -> str | None:
    """Why a call with this metadata is refused, or None."""
    said = metadata.get("authorization")
    if said is None:
      return "no token came with the call; the client's folder of certificates must hold the server's token"
    if not hmac.compare_digest(str(said).encode(), f"Bearer {self.token}".encode()):
      return "the token is not the server's; copy the server's file to the client's folder of certificates"
    return None


def read(folder: str, *, is_server: bool) -> Credentials:
  """The credentials in a folder.

  Raises:
    protocol.BridgeError: if a file is missing, may be read by others or is malformed; if the key is not the
      certificate's; or if the certificate is not signed by the authority, not for this side, or has expired.
  """
  path, content = pathlib.Path(folder).expanduser(), {}
  for name in (AUTHORITY, CERTIFICATE, KEY, TOKEN):
    file = path / name
    try:
      content[name] = file.read_bytes()
    except OSError as error:
      raise protocol.BridgeError(
        f"{file} cannot be read ({error.strerror}); a folder of certificates holds {AUTHORITY}, {CERTIFICATE}, {KEY} "
        f"and {TOKEN}, see docs/real_arm.md"
      ) from None
    if name in _SECRET and file.stat().st_mode & 0o077:
      raise protocol.BridgeError(f"{file} may be read by others on this machine; chmod 600 {file}")
  token = content[TOKEN].decode(errors="replace").strip()
  if len(token) < _SHORTEST or not (token.isascii() and token.isalnum()):
    raise protocol.BridgeError(
      f"{path / TOKEN} must be {_SHORTEST} or more letters and digits in one line; make it by openssl rand -hex 32"
    )
  _check_own(path, is_server=is_server)
  return Credentials(path, content[AUTHORITY], content[CERTIFICATE], content[KEY], token)


def why_refused(address: str, own: Credentials | None) -> str | None:
  """Why the server at `address` does not speak with these credentials; None if they are not the reason."""
  host, _, port = address.rpartition(":")
  host = host.strip("[]")
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
  context.set_alpn_protocols(["h2"])
  if own is None:
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
  else:
    context.load_verify_locations(cadata=own.authority.decode())
    context.load_cert_chain(own.folder / CERTIFICATE, own.folder / KEY)
  is_greeted = False
  try:
    with socket.create_connection((host, int(port)), _PROBE_S) as plain:
      with context.wrap_socket(plain, server_hostname=host) as secure:
        if own is None:
          return f"it speaks with certificates alone; name the folder of yours, {address}?certificates=FOLDER"
        is_greeted = True
        if secure.recv(1):
          return None  # It speaks with us.
  except ssl.SSLCertVerificationError as error:
    return f"its certificate is not trusted: {_words(error.verify_message)}; see docs/real_arm.md"
  except (TimeoutError, ConnectionRefusedError, ValueError):
    return None
  except OSError as error:  # Also TLS errors: an alert, or something other than TLS.
    if own is None:
      return None
    if not is_greeted:
      reason = getattr(error, "reason", None) or error.strerror or str(error)
      if reason == _NO_TLS:
        return "it speaks without certificates; leave them out, or serve with some"
      return f"the connection failed ({_words(reason)}); correct the address, or look at its server's messages"
  # Whether a server accepts a certificate shows after the handshake. The server says no more than that.
  return f"it does not trust {own.folder / CERTIFICATE}; let its authority sign that, see docs/real_arm.md"


def _check_own(path: pathlib.Path, *, is_server: bool) -> None:
  """Performs a handshake in memory with somebody who trusts the authority."""
  server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
  client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
  judge = client if is_server else server
  try:
    judge.load_verify_locations(path / AUTHORITY)
  except ssl.SSLError:
    raise protocol.BridgeError(f"{path / AUTHORITY} is no certificate (PEM); see docs/real_arm.md") from None
  judge.verify_mode = ssl.CERT_REQUIRED
  try:
    for side in (server, client):
      side.load_cert_chain(path / CERTIFICATE, path / KEY, password="")
  except (ssl.SSLError, ValueError) as error:
    raise protocol.BridgeError(
      f"{path / CERTIFICATE} and {path / KEY} are no certificate (PEM) and its key, without a password "
      f"({_words(getattr(error, 'reason', None) or str(error))}); see docs/real_arm.md"
    ) from None
  to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
  sides = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
  for end in (*sides, *sides):
    try:
      end.do_handshake()
    except ssl.SSLWantReadError:
      pass
    except ssl.SSLCertVerificationError as error:
      raise protocol.BridgeError(
        f"{path / CERTIFICATE} is of no use with {AUTHORITY} beside it: {_words(error.verify_message)}; "
        "see docs/real_arm.md"
      ) from None


def _words(reason: str) -> str:
  """OpenSSL's reason, in words."""
  return reason.replace("_", " ").lower() if reason.isupper() else reason.rstrip(".")
