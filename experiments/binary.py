"""How every binary starts: flags, one config, and errors of one line.

A mistake of the caller's (an unknown field, a missing file, a server that does not answer) is raised as `ValueError`,
`OSError` or `BridgeError` by the code that notices it, and printed here as one line that names the thing and the fix;
the exit code is 1. `--traceback` shows where it came from. Flags that a binary shares with others it must say that it
reads: the rest, and words that are no flags, are refused. JAX's compiled programs are kept between runs.
"""

import ctypes
import difflib
import functools
import os
import pathlib
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from environments.arm import protocol

# The flags that binaries share.
CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file; any field: --config.field=value.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory, made or continued.")
SOURCE = flags.DEFINE_string("source", None, "Run directory or released network to read.")
RUNS = flags.DEFINE_multi_string(
  "runs", None, "Run directories, folders of them (a matrix's), or globs; may be repeated."
)
CELL = flags.DEFINE_multi_string("cell", [], "Only this cell of a matrix, by its name; may be repeated.")
_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where an error came from.")


def config() -> config_dict.ConfigDict:
  """The config of this command line.

  Raises:
    ValueError: if none is given.
  """
  if not CONFIG.present:
    raise ValueError("--config is missing; give a file of experiments/configs/")
  return CONFIG.value


def workdir() -> str:
  """The run directory of this command line.

  Raises:
    ValueError: if none is given.
  """
  if not WORKDIR.value:
    raise ValueError("--workdir is missing; give a directory to make or to continue, e.g. --workdir=runs/first")
  return WORKDIR.value


def run(main: Callable[[Sequence[str]], None], *, reads: Sequence[flags.FlagHolder]) -> None:
  """Parses the flags and runs `main`; the caller's mistakes end in one line and exit code 1.

  Args:
    main: of the binary.
    reads: the flags that it reads of those defined in other modules of ours; its own need no mention.
  """
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # What concerns a person arrives as an exception.
  try:
    app.run(lambda argv: guard(main, argv), flags_parser=functools.partial(parse, reads=reads))
  except KeyboardInterrupt:
    print("\ninterrupted; the same command continues from the last checkpoint", file=sys.stderr)
    sys.exit(130)


def guard(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
  """Runs `main(argv)`; turns a caller's mistake into one line on stderr and exit code 1."""
  logging.set_verbosity(logging.ERROR)
  keep_freed_memory()
  keep_compiled_programs()
  try:
    main(argv)
  except (ValueError, OSError, FloatingPointError, protocol.BridgeError) as error:
    if _TRACEBACK.value:
      raise
    _exit(str(error))


def parse(argv: Sequence[str], *, reads: Sequence[flags.FlagHolder]) -> list[str]:
  """`flags.FLAGS(argv)` with one line for every mistake, and the nearest field for an unknown one."""
  try:
    check_fields(argv)
    left = flags.FLAGS(argv)
    check_read(argv, left[1:], reads)
    return left
  except (flags.Error, ValueError, OSError, AttributeError, KeyError) as error:
    _exit(str(error))
    raise


def keep_freed_memory() -> None:
  """Makes glibc keep what XLA frees instead of handing it back to the system and asking for it again at every update.

  On a CPU every update allocates a few hundred MB; mapping them anew took a third of learning's time (see README).
  """
  if sys.platform != "linux":
    return
  trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h
  libc = ctypes.CDLL(None)
  if hasattr(libc, "mallopt"):  # musl has none, and nothing to set.
    for option, value in ((trim_threshold, 2**31 - 1), (top_pad, 2**28), (mmap_max, 0), (arena_max, 1)):
      libc.mallopt(option, value)


def keep_compiled_programs() -> None:
  """Switches JAX's persistent compilation cache on, under the user's cache folder unless told otherwise."""
  import jax

  cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
  folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.join(cache, "progressive-robots", "jax")
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def check_fields(argv: Sequence[str]) -> None:
  """Refuses a `--config.field` that the config file does not have, or that its sweep draws for every run anew."""
  arguments = list(argv[1:])
  file = None
  for i, argument in enumerate(arguments):
    if argument.lstrip("-") == "config" and i + 1 < len(arguments):
      file = arguments[i + 1]
    elif argument.lstrip("-").startswith("config="):
      file = argument.split("=", 1)[1]
  if file is None:
    return
  path, _, variant = file.partition(":")
  if not pathlib.Path(path).is_file():
    raise ValueError(f"config file {path} does not exist; the project's own are in experiments/configs/")
  get_config = runpy.run_path(path)["get_config"]
  config = get_config(variant) if variant else get_config()
  known = list(field_names(config))
  names = [argument.lstrip("-").split("=", 1)[0] for argument in arguments if argument.startswith("-")]
  given = [name.removeprefix("config.") for name in names if name.startswith("config.")]
  drawn = {name for name, *_ in config.sweep.sampled} if "sweep" in config and "sweep.sampled" not in given else set()
  for name in given:
    if name not in known:
      raise ValueError(unknown_field(name, known, path))
    if name in drawn:
      raise ValueError(f"--config.{name} would change nothing: sweep.sampled draws it; add --config.sweep.sampled='()'")


def check_read(argv: Sequence[str], words: Sequence[str], reads: Sequence[flags.FlagHolder]) -> None:
  """Refuses what would change nothing: a word that is no flag, and a flag of another binary's.

  Args:
    argv: the command line, parsed, the program first.
    words: what parsing has left of it.
    reads: as `run`'s.

  Raises:
    ValueError: naming the word or the flag, and the nearest that is read.
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
  """The message for a field that is not there, with the nearest."""
  return f"{path} has no field --config.{name}; nearest is --config.{nearest(name, known)}"


def nearest(name: str, known: Sequence[str]) -> str:
  """The one of `known` that is nearest to `name`: by its last word where that exists, or by spelling."""
  same_end = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]
  return difflib.get_close_matches(name, same_end or known, n=1, cutoff=0.0)[0]


def _exit(message: str) -> None:
  """Prints the first line of `message` as an error of this binary and exits with code 1."""
  line = next((line for line in message.splitlines() if line.strip()), message)
  print(f"error: {line}", file=sys.stderr)
  sys.exit(1)
