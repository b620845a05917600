"""What an arm did, as stored on disk in MCAP files, which Foxglove opens, and the functions that read them back.

A server writes the files (`recorder`), one after the other, into a folder. Each file says by itself what it is about.
The files of one server are a session: their names differ only in the number after the last `_`. Messages are JSON: a
`Step` on /step, with its picture just before it on /camera (foxglove.CompressedImage, a PNG, so nothing is lost); what
the gate told the arm on /told (`safety.Told`); what clients were told on /log (foxglove.Log). Times are UNIX seconds
that advance with the driver's clock. A file that ends in the middle, because its server was killed, is read up to its
last complete chunk.
"""

import base64
import functools
import io
import itertools
import pathlib
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import dm_env
import numpy as np
import orjson
import PIL
from dm_env import specs
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import dm_env_utils
from google.protobuf import json_format
from PIL import Image

from environments.arm import protocol, safety

STEP, CAMERA, TOLD, LOG = "/step", "/camera", "/told", "/log"
ABOUT = "arm"  # The name of a file's metadata.
NEEDS = 'recordings need mcap: pip install "progressive-robots[arm]"'
INFORMATION, REFUSAL, ERROR = 2, 3, 4  # Levels of foxglove.Log.
PIXELS = "pixels"  # The observation that is a picture.
# What messages or metadata of other software may raise.
_STRANGE = (
  LookupError, TypeError, ValueError, OverflowError, MemoryError, json_format.ParseError, PIL.UnidentifiedImageError
)  # fmt: skip


class Step(NamedTuple):
  """A step of an episode as the server played it."""

  time_s: float  # When the step was over.
  step_type: dm_env.StepType
  reward: float
  discount: float
  action: np.ndarray | None  # [A] int32; None at FIRST, and if none was given.
  asked_rad_s: np.ndarray  # [J] The velocities that the action stands for.
  reading: protocol.Reading
  observation: Mapping[str, np.ndarray]
  # True if nobody waited any more for the step's end (the client was gone, or the server was told to end), or nobody
  # knew where the target was, or the camera gave no picture. Its reading is from then, with a target that is not seen
  # where it was last seen, and its reward is what the task pays for that. No client was told these. There is no
  # picture, and it is the last step of its episode.
  is_cut_short: bool = False


class Event(NamedTuple):
  """Something that was said."""

  time_s: float
  level: int  # INFORMATION, REFUSAL or ERROR.
  text: str


class About(NamedTuple):
  """What a file is about."""

  task: str
  driver: str  # Which arm: its config, in words.
  control_dt_s: float
  action_spec: specs.BoundedArray
  observation_spec: Mapping[str, specs.Array]


Item = Step | safety.Told | Event


def pack_about(*, task: str, driver: str, control_dt_s: float, offered: rpc.ActionObservationSpecs) -> dict[str, str]:
  """Converts `About` to a file's metadata."""
  text = json_format.MessageToJson(offered, indent=None)
  return {"task": task, "driver": driver, "control_dt_s": str(control_dt_s), "specs": text}


def files(path: pathlib.Path) -> list[pathlib.Path]:
  """The files of a recording (a folder, or one file of it), in the order in which they were written.

  Raises:
    ValueError: if there is none.
  """
  found = sorted(path.glob("*.mcap")) if path.is_dir() else [path]
  if not found or not found[0].exists():
    raise ValueError(f"{path}: there is no recording (.mcap); name one, or the folder of --record")
  return found


def read_about(path: pathlib.Path) -> About:
  """What the recording `path` is about.

  Raises:
    ValueError: if there is none, or its files have different tasks or joints.
  """
  every = {file: next(_read_file(file, pictures=False), None) for file in files(path)}
  known = {file: about for file, about in every.items() if isinstance(about, About)}  # Others were killed too early.
  if not known:
    raise ValueError(f"{path} holds nothing of an arm; if its server was killed at once, delete it")
  (first, about), *others = known.items()
  for file, other in others:
    if (other.task, other.action_spec) != (about.task, about.action_spec):
      raise ValueError(
        f"{file} is of {other.task} with {other.action_spec.shape[0]} joints, {first} of {about.task} with "
        f"{about.action_spec.shape[0]}; name one of them, or move them into two folders"
      )
  return about


def sessions(path: pathlib.Path, *, pictures: bool = True) -> Iterator[Iterator[Item]]:
  """What each server recorded, in the order in which it was written.

  Times of different sessions may overlap: those of a twin that is not on the wall clock run faster than that clock.

  Args:
    path: a file, or a folder of files.
    pictures: whether steps have their pictures, as the observation `pixels`.

  Raises:
    ValueError: if there is no recording, or a file is damaged.
  """
  for _, of_one in itertools.groupby(files(path), lambda file: re.sub(r"_\d+$", "", file.stem)):
    yield _items(list(of_one), pictures)


def read(path: pathlib.Path, *, pictures: bool = True) -> Iterator[Item]:
  """All that the recording `path` holds, one session after the other, as in `sessions`."""
  for items in sessions(path, pictures=pictures):
    yield from items


def episodes(path: pathlib.Path, *, pictures: bool = True) -> Iterator[list[Step]]:
  """The recorded episodes, each from its FIRST step on. Episodes that a client left early have no LAST step.

  Arguments and errors are those of `sessions`. Steps whose FIRST is missing, as in the second file of a folder alone,
  are left out.
  """
  for items in sessions(path, pictures=pictures):
    yield from in_episodes(items)


def in_episodes(items: Iterable[Item]) -> Iterator[list[Step]]:
  """The episodes of one session's items, as in `episodes`."""
  episode: list[Step] = []
  for item in items:
    if not isinstance(item, Step):
      continue
    if item.step_type.first() and episode:
      yield episode
      episode = []
    if item.step_type.first() or episode:
      episode.append(item)
  if episode:
    yield episode


def _items(of_one: Sequence[pathlib.Path], pictures: bool) -> Iterator[Item]:
  """What the files of a session contain."""
  for file in of_one:
    for item in _read_file(file, pictures):
      if not isinstance(item, About):
        yield item


def _read_file(file: pathlib.Path, pictures: bool) -> Iterator[About | Item]:
  """What a file contains, `About` first."""
  try:
    import zstandard  # A server that records nothing needs neither.
    from mcap import exceptions, records, stream_reader
  except ModuleNotFoundError:
    raise ValueError(NEEDS) from None
  topics: dict[int, str] = {}
  picture: dict[str, np.ndarray] = {}  # For the next step.
  try:
    with file.open("rb") as stream:
      for record in stream_reader.StreamReader(stream, validate_crcs=True).records:
        if isinstance(record, records.Metadata) and record.name == ABOUT:
          yield _about(record.metadata)
        elif isinstance(record, records.Channel):
          topics[record.id] = record.topic
        elif isinstance(record, records.Message):
          topic, time_s = topics[record.channel_id], record.log_time * 1e-9
          if topic == CAMERA:
            picture = {PIXELS: _pixels(record.data)} if pictures else {}
          elif topic in _ITEMS:
            yield _ITEMS[topic](time_s, orjson.loads(record.data), picture)
          if topic == STEP:
            picture = {}
  except (exceptions.EndOfFile, struct.error):
    _warn(file)
  except (*_STRANGE, exceptions.McapError, stream_reader.CRCValidationError, zstandard.ZstdError) as error:
    raise ValueError(
      f"{file} is no recording, or is damaged ({type(error).__name__}: {error}); `mcap recover` keeps what is whole"
    ) from error


@functools.cache
def _warn(file: pathlib.Path) -> None:
  """Prints one warning per file, however often it is read."""
  print(f"warning: {file} ends in the middle; it is read up to its last whole chunk", file=sys.stderr)


def _about(metadata: Mapping[str, str]) -> About:
  offered = json_format.Parse(metadata["specs"], rpc.ActionObservationSpecs())
  (action,) = map(dm_env_utils.tensor_spec_to_dm_env_spec, offered.actions.values())
  observations = map(dm_env_utils.tensor_spec_to_dm_env_spec, offered.observations.values())
  shown = {spec.name: spec for spec in observations if spec.name != protocol.REWARD}
  return About(metadata["task"], metadata["driver"], float(metadata["control_dt_s"]), action, shown)


def _step(time_s: float, fields: Mapping[str, Any], picture: Mapping[str, np.ndarray]) -> Step:
  reading = {name: np.array(value, np.float64) for name, value in fields["reading"].items()}  # Also None, JSON's NaN.
  observation = {name: np.array(value, np.float32) for name, value in fields["observation"].items()}
  return Step(
    time_s,
    dm_env.StepType(fields["step_type"]),
    float(np.array(fields["reward"], np.float64)),
    fields["discount"],
    None if fields["action"] is None else np.array(fields["action"], np.int32),
    np.array(fields["asked_rad_s"]),
    protocol.Reading(float(reading.pop("time_s")), **reading),
    {**observation, **picture},
    fields.get("is_cut_short", False),  # Older recordings lack it.
  )


_ITEMS: Mapping[str, Callable[[float, Mapping[str, Any], Mapping[str, np.ndarray]], Item]] = {
  STEP: _step,
  TOLD: lambda time_s, fields, _: safety.Told(
    time_s, np.array(fields["asked_rad_s"]), np.array(fields["allowed_rad_s"]), fields["why"]
  ),
  LOG: lambda time_s, fields, _: Event(time_s, fields["level"], fields["message"]),
}


def _pixels(message: bytes) -> np.ndarray:
  """Decodes a foxglove.CompressedImage to uint8 `[H, W, 3]`."""
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(orjson.loads(message)["data"]))))
