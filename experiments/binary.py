"""How every binary starts: flags, one config, and errors of one line.

A mistake of the caller's (an unknown field, a missing file, a server that does not answer) is raised as `ValueError`,
`OSError` or `BridgeError` by the code that notices it. Here it is printed as one line that names the thing and the fix,
and the exit code is 1. Running out of memory ends in the same way. `--traceback` shows where the error came from. A
binary must name the shared flags that it reads; the other shared flags are refused, and so are words that are not
flags. `--help` lists the flags that are read and, with a config, its fields. JAX's compiled programs are kept between
runs.
"""

import ast
import contextlib
import copy
import ctypes
import difflib
import functools
import inspect
import os
import pathlib
import re
import runpy
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from environments.arm import protocol
from experiments.running import stop
from experiments.store import run_directory


class _Path(flags.ArgumentParser):
  """A path on this machine. A shell does not expand `~` after `=`."""

  def parse(self, argument: str) -> str:
    """`argument` with `~` expanded; raises ValueError for gs:// and the like."""
    return str(run_directory.local(argument)) if argument else argument


class _VideoPath(_Path):
  """A path of a video to write."""

  def parse(self, argument: str) -> str:
    """Like `_Path`; raises ValueError, before anything is played, if the path does not end in .mp4."""
    if argument and not argument.endswith(".mp4"):
      raise ValueError(f"{argument} does not end in .mp4, the one kind of video that is written")
    return super().parse(argument)


PATH = _Path()
# Flags that binaries share.
CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file; any field: --config.field=value.")
WORKDIR = flags.DEFINE(PATH, "workdir", None, "Run directory, made or continued.")
SOURCE = flags.DEFINE(PATH, "source", None, "Run directory or released network to read.")
RUNS = flags.DEFINE_multi_string(
  "runs", None, "Run directories, folders of them (a matrix's), or globs; may be repeated."
)
CELL = flags.DEFINE_multi_string("cell", [], "Only this cell of a matrix, by its name; may be repeated.")
EPISODES = flags.DEFINE_integer("episodes", 200, "Episodes to play.", lower_bound=1)
GREEDY = flags.DEFINE_bool("greedy", False, "Play the most probable actions.")
SEED = flags.DEFINE_integer(
  "seed",
  0,
  "Seed of worlds and actions. Behind dm_env, a training run's seed plays the episodes with which it began.",
  lower_bound=0,
  upper_bound=2**32 - 1,
)  # The range of JAX's keys.
VIDEO = flags.DEFINE(_VideoPath(), "video", "", "Write a video here (mp4).")
OUT = flags.DEFINE(
  PATH, "out", "", "Where to write: a folder of figures (runs/figures where empty), one file of an arm's."
)
COORDINATOR = flags.DEFINE_string(
  "coordinator", "", 'One run on many hosts: HOST:PORT of the first process, or "auto" under SLURM or MPI.'
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes that share the run.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process; process 0 writes.", lower_bound=0)
HOSTS = (COORDINATOR, NUM_PROCESSES, PROCESS_ID)
_HELP = ("help", "helpfull", "helpshort", "h", "?")
_MISTAKES = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, protocol.BridgeError)
# What every cell of a matrix sets itself (`studies.pnn.matrix`) -> the fields that determine it.
_CELLS_OWN = {"world": "matrix.world and matrix.targets", "method": "matrix.methods", "source": "matrix.sources"}
_IS_MATRIX = (
  "is a matrix: run it by python -m experiments.matrix, all of it or one cell, such as --cell=scratch_pong of Pong's"
)
_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where an error came from.")


def config(*, is_matrix: bool | None = None) -> config_dict.ConfigDict:
  """The config of this command line; `is_matrix` says if the binary runs matrices, and is None if it reads any config.

  Raises:
    ValueError: if none is given, or it is for another binary.
  """
  return _checked(CONFIG, is_matrix)


def _checked(flag: flags.Flag | flags.FlagHolder, is_matrix: bool | None) -> config_dict.ConfigDict:
  if not flag.present:
    raise ValueError("--config is missing; give a file of experiments/configs/")
  found: config_dict.ConfigDict = flag.value
  if is_matrix is not None and is_matrix != ("matrix" in found):
    other = "has no section 'matrix'; it is for python -m experiments.train"
    raise ValueError(f"this config {other if is_matrix else _IS_MATRIX}")
  return found


def workdir() -> str:
  """The run directory of this command line; ValueError if none is given."""
  if not WORKDIR.value:
    raise ValueError("--workdir is missing; give a directory to make or to continue, e.g. --workdir=runs/first")
  return WORKDIR.value


def run(main: Callable[[], None], *, reads: Sequence[flags.FlagHolder]) -> None:
  """Parses the flags and runs `main`; the caller's mistakes end in one line and exit code 1.

  `reads` are the flags that the binary reads and that our other modules define; its own flags need no mention.
  """
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # What concerns the user arrives as an exception.
  stop.install()
  with stop.ended():
    app.run(lambda argv: guard(main), flags_parser=functools.partial(parse, reads=reads))


def guard(main: Callable[[], None]) -> None:
  """Runs `main()`; turns a caller's mistake, or too little memory, into one line on stderr and exit code 1."""
  logging.set_verbosity(logging.ERROR)
  keep_freed_memory()
  keep_compiled_programs()
  with contextlib.ExitStack() as stack:
    _guard(main, stack)


def _guard(main: Callable[[], None], stack: contextlib.ExitStack) -> None:
  """`guard` once the program is set up; after an error, the other processes of its run, in `stack`, are left last."""
  try:
    for flag in HOSTS[1:]:
      if flag.present and not COORDINATOR.value:
        raise ValueError(f"--{flag.name} needs --coordinator=HOST:PORT of process 0")
    if COORDINATOR.value:
      from experiments.running import hosts

      stack.enter_context(hosts.joined(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value))
    check_platform()
    main()
  except Exception as error:
    is_full = _is_out_of_memory(error)
    if _TRACEBACK.value or not (is_full or isinstance(error, _MISTAKES)):
      raise
    if is_full:
      sys.unraisablehook = lambda _: None  # At exit JAX waits for what failed, and would report it again.
    _exit(_what_to_lower(error) if is_full else error)


def _is_out_of_memory(error: Exception) -> bool:
  """Whether an allocation failed: Python and NumPy have a type for it, JAX says it in exceptions of several types."""
  import jax

  is_jax_s = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
  return isinstance(error, MemoryError) or is_jax_s and bool(re.search("RESOURCE_EXHAUSTED|Out of memory", str(error)))


def _what_to_lower(error: Exception) -> MemoryError:
  fields = "--config.train.num_worlds, train.num_steps or sweep.num_runs"
  why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
  return MemoryError(f"out of memory ({why}); lower {fields if CONFIG.present else 'the number of worlds or episodes'}")


def parse(argv: Sequence[str], *, reads: Sequence[flags.FlagHolder]) -> list[str]:
  """`flags.FLAGS(argv)`, but every mistake gives one line, and an unknown field is answered with the nearest one."""
  home = str(pathlib.Path.home())
  argv = [re.sub(r"^(--?config=)~(?=/)", lambda match: match[1] + home, argument) for argument in argv]
  try:
    argv = with_config_present(argv)
    if any(argument.lstrip("-") in _HELP for argument in argv[1:] if argument.startswith("-")):
      print(help_text(argv, reads))
      sys.exit(0)
    check_fields(argv)
    left = flags.FLAGS(argv)
    check_read(argv, left[1:], reads)
    return left
  except (flags.Error, ValueError, OSError, AttributeError, KeyError) as error:
    _exit(error)
    raise


def keep_freed_memory() -> None:
  """Makes glibc keep what XLA frees instead of handing it back to the system and asking for it again at every update.

  On a CPU every update allocates a few hundred MB; mapping them anew took a third of the learning time.
  """
  if sys.platform != "linux":
    return
  trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h
  libc = ctypes.CDLL(None)
  if hasattr(libc, "mallopt"):  # musl has no mallopt, and needs none.
    for option, value in ((trim_threshold, 2**31 - 1), (top_pad, 2**28), (mmap_max, 0), (arena_max, 1)):
      libc.mallopt(option, value)


def keep_compiled_programs() -> None:
  """Switches JAX's persistent compilation cache on, under the user's cache folder unless told otherwise."""
  import jax

  cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
  folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.join(cache, "progressive-robots", "jax")
  jax.config.update("jax_compilation_cache_dir", folder)


def check_platform() -> None:
  """Refuses a platform of JAX that this machine lacks, and 64-bit numbers.

  Raises:
    ValueError: naming the variable to unset.
  """
  import jax

  if jax.config.jax_enable_x64:
    raise ValueError("JAX_ENABLE_X64 is set, but worlds and networks are made of 32 bits; unset it")
  for platform in filter(None, (jax.config.jax_platforms or "").split(",")):
    if platform != "cpu":  # The CPU is always there; looking would start the others.
      try:
        jax.devices(platform)
      except (RuntimeError, AssertionError):  # JAX asserts that some backend started.
        raise ValueError(f"JAX_PLATFORMS={platform}: JAX has no such device here; unset it, or set it to cpu") from None


def help_text(argv: Sequence[str], reads: Sequence[flags.FlagHolder]) -> str:
  """What the binary does, the flags that it reads and, if a config is given, every field of it."""
  names = [*(flag.name for flag in reads), *_own(argv[0]), _TRACEBACK.name]
  lines = [(sys.modules["__main__"].__doc__ or "").strip(), "", "Flags:"]
  lines += [
    _entry(name, flags.FLAGS[name].default, (flags.FLAGS[name].help or "").partition(";     repeat this option")[0])
    for name in names
  ]
  file = config_file(argv)
  if file is not None:
    from experiments.setup import fields  # JAX is imported when it is needed.

    lines += ["", f"Fields of {file}, each --config.NAME=VALUE:"]
    lines += [_entry(f"config.{one.name}", one.value, one.meaning) for one in fields.describe(load(file))]
  elif CONFIG.name in names:
    lines += ["", "A config's fields are listed by --config=FILE --help; files stand in experiments/configs/."]
  return "\n".join(lines)


def _entry(name: str, value: object, meaning: str) -> str:
  words = textwrap.fill(meaning, 110, initial_indent="      ", subsequent_indent="      ")
  return f"  --{name}" + ("" if value is None else f"={value}") + (f"\n{words}" if words else "")


def config_file(argv: Sequence[str]) -> str | None:
  """The value of `--config`, variant included; None if it is not given."""
  arguments = list(argv[1:])
  file = None
  for i, argument in enumerate(arguments):
    if argument.lstrip("-") == "config" and i + 1 < len(arguments):
      file = arguments[i + 1]
    elif argument.lstrip("-").startswith("config="):
      file = argument.split("=", 1)[1]
  return file


def with_config_present(argv: Sequence[str]) -> Sequence[str]:
  """`argv` with the full path of a config of the project, for programs that are started in another folder."""
  file = config_file(argv)
  if not file:
    return argv
  path, colon, variant = file.partition(":")
  there = f"{run_directory.present(path)}{colon}{variant}"
  renamed = {file: there, f"--config={file}": f"--config={there}", f"-config={file}": f"-config={there}"}
  return [renamed.get(argument, argument) for argument in argv]


def load(file: str) -> config_dict.ConfigDict:
  """The config of a file, FILE or FILE:VARIANT.

  Raises:
    ValueError: if there is no such file, or if it cannot be run; gives the line and Python's message.
  """
  path, _, variant = file.partition(":")
  if not pathlib.Path(path).is_file():
    raise ValueError(f"config file {path} does not exist; the project's own are in experiments/configs/")
  config = call(path, "get_config", variant)
  if not isinstance(config, config_dict.ConfigDict):
    raise ValueError(f"{path}: get_config() returns {type(config).__name__}, not a ConfigDict; see configs/base.py")
  return config


def call(path: str, name: str, variant: str) -> Any:
  """What the function `name` of a Python file returns, called with `variant` if there is one.

  Raises:
    ValueError: if there is no such function, if it knows no variants, or if it fails; then it gives the line and
      Python's message.
  """
  try:
    function = runpy.run_path(path).get(name)
    if function is None:
      raise ValueError(f"{path} has no function {name}(); add it")
    if variant and not inspect.signature(function).parameters:
      raise ValueError(f"{path} has no variants; leave out :{variant}")
    return function(variant) if variant else function()
  except ValueError:
    raise  # The file's own refusals.
  except SyntaxError as error:
    raise ValueError(f"{error.filename}:{error.lineno}: {error.msg}") from error
  except Exception as error:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    raise ValueError(f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}") from error


def check_fields(argv: Sequence[str]) -> None:
  """Refuses a `--config.field` that the config file does not have, or that changes nothing.

  A field changes nothing if a sweep draws it for every run, or if every cell of a matrix has its own.
  """
  file = config_file(argv)
  if file is None:
    return
  config = load(file)
  known = list(field_names(config))
  words = [argument.lstrip("-").partition("=") for argument in argv[1:] if argument.startswith("-")]
  given = {name.removeprefix("config."): value for name, _, value in words if name.startswith("config.")}
  drawn: set[str] = set()
  if "sweep" in config:
    sampled = config.sweep.sampled
    with contextlib.suppress(ValueError, SyntaxError, TypeError, LookupError):  # Refused by name where it is read.
      sampled = ast.literal_eval(given["sweep.sampled"]) if "sweep.sampled" in given else sampled
      drawn = {one[0] for one in sampled}
  for name in given:
    if name not in known:
      raise ValueError(unknown_field(name, known, file.partition(":")[0]))
    if "matrix" in config and name in _CELLS_OWN:
      raise ValueError(
        f"--config.{name} would change nothing in a matrix: cells have their own; set {_CELLS_OWN[name]}, or run one "
        f"cell by python -m experiments.matrix, such as --cell=scratch_pong of Pong's"
      )
    if name in drawn:
      raise ValueError(f"--config.{name} would change nothing: sweep.sampled draws it; add --config.sweep.sampled='()'")


def check_command(
  module: types.ModuleType, argv: Sequence[str], *, is_matrix: bool | None = None
) -> config_dict.ConfigDict | None:
  """The config of a command line `argv` of the binary `module`, or None if `is_matrix` is None; checks all flags.

  Args:
    module: has the flags that it reads in `READS`, as `run` takes them; its own flags need no mention.
    argv: its words, the first one for the program. The flags of this process stay as they are.
    is_matrix: as in `config`, for a binary that learns by a config.

  Raises:
    ValueError: naming the flag or field that does not exist or cannot have its value.
  """
  argv = with_config_present(argv)
  check_fields(argv)
  values = flags.FlagValues()
  for name in (*(flag.name for flag in module.READS), *_own(module.__name__), _TRACEBACK.name):
    if name == CONFIG.name:
      config_flags.DEFINE_config_file(name, None, flag_values=values, sys_argv=list(argv))
    else:
      values[name] = copy.deepcopy(flags.FLAGS[name])
      values[name].unparse()
  try:
    values(list(argv))
  except (flags.Error, AttributeError, KeyError) as error:
    raise ValueError(str(error)) from error
  return None if is_matrix is None else _checked(values[CONFIG.name], is_matrix)


def _own(module: str) -> list[str]:
  """The flags that a module defines."""
  return [flag.name for flag in flags.FLAGS.flags_by_module_dict().get(module, [])]


def check_read(argv: Sequence[str], words: Sequence[str], reads: Sequence[flags.FlagHolder]) -> None:
  """Refuses what would change nothing: other binaries' flags, and `words`, non-flags that parsing `argv` left over.

  Raises:
    ValueError: naming the word or the flag, and the nearest flag that is read.
  """
  if words:
    before = [argument.lstrip("-").partition("=")[0] for argument in argv[: argv.index(words[0])]]
    glob = "; after --runs a glob is quoted (--runs='runs/*') or --runs repeated" if RUNS.name in before else ""
    raise ValueError(f"{words[0]!r} is not a flag, which is --name=value{glob}")
  by_module = {module: [flag.name for flag in own] for module, own in flags.FLAGS.flags_by_module_dict().items()}
  known = [flag.name for flag in reads] + by_module.get(argv[0], [])  # A flag of `__main__` is filed under argv[0].
  fields = [f"config.{name}" for name in field_names(CONFIG.value)] if CONFIG.present and CONFIG.name in known else []
  shared = [name for module, names in by_module.items() if module.startswith("experiments.") for name in names]
  for name in shared:
    if flags.FLAGS[name].present and name not in (*known, _TRACEBACK.name):
      near, binary = nearest(name, [*known, *fields] or [_TRACEBACK.name]), pathlib.Path(argv[0]).stem
      raise ValueError(f"--{name} is not read by experiments.{binary}; nearest it reads is --{near}")


def field_names(config: config_dict.ConfigDict, prefix: str = "") -> Iterator[str]:
  """Dotted names of all fields, inner dictionaries included."""
  for key, value in config.items():
    yield prefix + key
    if isinstance(value, config_dict.ConfigDict):
      yield from field_names(value, f"{prefix}{key}.")


def unknown_field(name: str, known: Sequence[str], path: str) -> str:
  """The message for a field that does not exist, with the nearest one."""
  parent, _, own = name.rpartition(".")
  if parent in ("sweep", "matrix") and parent not in known:
    made = f"config.{parent} = base.{parent}(...)"
    return f"{path} has no --config.{name}, as it has no {parent}; in its get_config set {made}"
  siblings = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == parent]
  if parent == "world_options" and not difflib.get_close_matches(own, siblings):  # Worlds have more options than those.
    return f"{path} has no field --config.{name}; set all at once: --config.{parent}=\"{{'{own}': ...}}\""
  return f"{path} has no field --config.{name}; nearest is --config.{nearest(name, known)}"


def nearest(name: str, known: Sequence[str]) -> str:
  """The entry of `known` nearest to `name`: among those with the same last word if there are any, by spelling."""
  same_end = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]
  return difflib.get_close_matches(name, same_end or known, n=1, cutoff=0.0)[0]


def _exit(error: BaseException) -> None:
  """Prints the first line of `error` and its notes as an error of this binary, and exits with code 1.

  If the reader of the output has left, nothing is printed.
  """
  if isinstance(error, BrokenPipeError):  # Such as head; what is buffered for it is discarded.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  message = str(error)
  line = next((line for line in message.splitlines() if line.strip()), message)
  notes = (note for note in getattr(error, "__notes__", ()) if "\n" not in note)  # JAX's own notes are pages long.
  print("; ".join((f"error: {line}", *notes)), file=sys.stderr)
  sys.exit(1)
