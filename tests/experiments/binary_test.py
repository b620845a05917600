"""A mistake on the command line ends in one line that names the mistake and the fix, and in exit code 1."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from absl import flags
from absl.testing import flagsaver

from environments.arm import protocol
from experiments import binary
from experiments import describe as describe_binary
from tests import conftest

CONFIG = "experiments/configs/jaco_corl2017.py"


@pytest.mark.parametrize(
  ("argument", "expected"),
  [
    ("--config.train.hyper.lerning_rate=1", "nearest is --config.train.hyper.learning_rate"),
    ("--config.metod=finetune", "nearest is --config.method"),
    ("--config.learning_rate=1", "nearest is --config.train.hyper.learning_rate"),
    ("--config.world_options.mode=0", """set all at once: --config.world_options="{'mode': ...}"$"""),
  ],
)
def test_an_unknown_field_names_the_nearest(argument, expected):
  with pytest.raises(ValueError, match=expected):
    binary.check_fields(["train", f"--config={CONFIG}", argument])


@pytest.fixture(autouse=True)
def parsed():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


def test_known_fields_pass():
  binary.check_fields(["train", f"--config={CONFIG}", "--config.train.hyper.learning_rate=1e-4", "--config.seed=3"])
  binary.check_fields(["train", "--config", "experiments/configs/jaco_talk.py", "--config.train.steps", "10"])


def test_a_field_that_the_sweep_draws_is_refused_and_can_be_set_without_it():
  config = "--config=experiments/configs/navigation.py:paper,nav,static_small"
  given = "--config.train.hyper.learning_rate=1e-3"
  with pytest.raises(ValueError, match="learning_rate would change nothing: sweep.sampled draws it"):
    binary.check_fields(["train", config, given])
  binary.check_fields(["train", config, given, "--config.sweep.sampled=()"])
  still = "--config.sweep.sampled=(('train.hyper.learning_rate','log_uniform',(1e-4,1e-3)),)"
  with pytest.raises(ValueError, match="learning_rate would change nothing: sweep.sampled draws it"):
    binary.check_fields(["train", config, given, still])
  for strange in ("3", "(3,)", "((),)", "(("):  # Refused by name when it is read.
    binary.check_fields(["train", config, given, f"--config.sweep.sampled={strange}"])


@pytest.mark.parametrize("field", ["world=pong/white", "method=finetune", "source=nowhere"])
def test_a_field_that_every_cell_of_a_matrix_has_of_its_own_is_refused(field):
  name = field.partition("=")[0]
  with pytest.raises(
    ValueError, match=f"--config.{name} would change nothing in a matrix: cells have their own; set matrix.{name}"
  ):
    binary.check_fields(["matrix", "--config=experiments/configs/pong_soup.py:smoke", f"--config.{field}"])


def test_paths_of_the_command_line_are_expanded_or_refused(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "own.py").write_text("from experiments.configs.pong_soup import get_config")
  given = ["--config=~/own.py:smoke", "--workdir=~/runs/a", "--source=~/b", "--video=~/c.mp4"]
  reads = (binary.CONFIG, binary.WORKDIR, binary.SOURCE, binary.VIDEO)
  with flagsaver.flagsaver():
    binary.parse(["train", *given], reads=reads)
    paths = [flag.value for flag in reads[1:]]
    assert paths == [f"{tmp_path}/runs/a", f"{tmp_path}/b", f"{tmp_path}/c.mp4"]
    with pytest.raises(SystemExit):
      binary.parse(["train", "--workdir=gs://bucket/run"], reads=reads)
  assert "gs://bucket/run is no path of this machine" in capsys.readouterr().err


def test_a_video_of_another_kind_is_refused_before_anything_is_played():
  with pytest.raises(flags.IllegalFlagValueError, match="film.avi does not end in .mp4"):
    flags.FLAGS["video"].parse("film.avi")


def test_a_missing_config_file_is_named():
  with pytest.raises(ValueError, match="nowhere.py does not exist"):
    binary.check_fields(["train", "--config=nowhere.py"])


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    ([f"--config={CONFIG}", "--config.sed=1"], "no field --config.sed; nearest is --config.seed"),
    (["--config=nowhere.py"], "nowhere.py does not exist"),
    (["--confi=1"], "Unknown command line flag 'confi'"),
  ],
)
def test_flags_that_cannot_be_parsed_are_one_line(arguments, expected, capsys):
  with pytest.raises(SystemExit) as stopped:
    binary.parse(["train", *arguments], reads=(binary.WORKDIR,))
  assert stopped.value.code == 1
  error = capsys.readouterr().err
  assert error.startswith("error: ") and expected in error and error.count("\n") == 1


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (
      ["--source=x", "config.train.steps=5", "--runs=x"],
      "'config.train.steps=5' is not a flag, which is --name=value$",
    ),
    (
      ["--runs", "runs/a", "runs/b", "--source=x"],
      "'runs/b' is not a flag.*; after --runs a glob is quoted .* repeated",
    ),
    (["--workdir=x"], "--workdir is not read by experiments.describe; nearest it reads is --source$"),
    (["--cell=x"], "--cell is not read by experiments.describe"),
    ([f"--config={CONFIG}"], "--config is not read by experiments.describe"),
    (["--nogreedy"], "--greedy is not read by experiments.describe"),
  ],
)
def test_what_would_change_nothing_is_refused(arguments, expected):
  with flagsaver.flagsaver():
    argv = ["experiments/describe.py", *arguments]
    _, *words = flags.FLAGS(argv)
    with pytest.raises(ValueError, match=expected):
      binary.check_read(argv, words, (binary.SOURCE,))


def test_flags_that_are_read_pass():
  with flagsaver.flagsaver():
    arguments = ["--source=x", "--seed=3", "--traceback", "--v=1", f"--config={CONFIG}"]
    argv = ["experiments/arm.py", *arguments]
    binary.check_read(argv, flags.FLAGS(argv)[1:], (binary.CONFIG, binary.SOURCE, binary.SEED))


BINARIES = sorted(p for p in pathlib.Path(binary.__file__).parent.glob("*.py") if "  binary.run(" in p.read_text())
SHARED = {
  f"{module.__name__.rpartition('.')[2]}.{name}"
  for module in (binary,)
  for name, value in vars(module).items()
  if isinstance(value, flags.FlagHolder)
}


@pytest.mark.parametrize("file", BINARIES, ids=lambda file: file.stem)
def test_a_binary_says_what_it_reads(file):
  body = file.read_text()
  (said,) = re.findall(r"^READS = (\(.*?\))", body, re.MULTILINE)
  assert "  binary.run(main, reads=READS)" in body
  used = {flag for flag in SHARED if f"{flag}.value" in body}
  used |= {"binary.WORKDIR"} if "binary.workdir()" in body else set()
  used |= {"binary.CONFIG"} if "binary.config(" in body else set()
  assert set(re.findall(r"\w+\.[A-Z]+", said)) - {"binary.HOSTS"} == used  # `guard` itself reads these.


@pytest.mark.parametrize(
  "error", [ValueError("a\nb"), OSError(28, "disk full"), protocol.BridgeError("no server"), FloatingPointError("nan")]
)
def test_a_callers_mistake_is_one_line_and_exit_code_1(error, capsys, monkeypatch):
  error.add_note("raised by world 1")

  def fail():
    raise error

  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  with flagsaver.flagsaver(traceback=False), pytest.raises(SystemExit) as stopped:
    binary.guard(fail)
  assert stopped.value.code == 1
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and line.endswith("; raised by world 1\n")


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
  def fail():
    raise AssertionError("a bug")

  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  with flagsaver.flagsaver(traceback=False), pytest.raises(AssertionError):
    binary.guard(fail)


def test_processes_without_a_coordinator_are_refused(capsys):
  with flagsaver.as_parsed(traceback="false", num_processes="2", process_id="1"), pytest.raises(SystemExit):
    binary.guard(lambda: None)
  assert capsys.readouterr().err == "error: --num_processes needs --coordinator=HOST:PORT of process 0\n"


def test_a_whole_binary_refuses_a_flag_of_another_s(tmp_path):
  command = [
    sys.executable,
    "-m",
    "experiments.train",
    f"--config={CONFIG}:progressive",
    f"--workdir={tmp_path}",
    "--source=nowhere",
  ]
  result = subprocess.run(command, capture_output=True, text=True, timeout=300)
  expected = "error: --source is not read by experiments.train; nearest it reads is --config.source\n"
  assert result.returncode == 1 and result.stderr.endswith(expected)


def test_a_whole_binary_says_what_is_missing(tmp_path):
  command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}:progressive", f"--workdir={tmp_path}"]
  command.append("--config.source=nowhere")
  result = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert result.returncode == 1
  errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1 and "nowhere does not exist; train a column" in errors[0]
  assert "Traceback" not in result.stderr


def test_help_lists_the_flags_that_are_read_and_the_fields_of_the_config():
  command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}", "--help"]
  result = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert result.returncode == 0 and result.stderr == ""
  flags = ["config", "workdir", "coordinator", "num_processes", "process_id", "traceback"]
  assert re.findall(r"^  --(?!config[.])(\w+)", result.stdout, re.M) == flags
  fields = set(re.findall(r"^  --config[.](\S+?)=", result.stdout, re.M))
  known = set(binary.field_names(binary.load(CONFIG)))
  assert fields and known - fields == {n for n in known if any(m.startswith(f"{n}.") for m in known)}
  assert "  --config.train.steps=50000000\n      agent steps, over all worlds.\n" in result.stdout


def test_a_closed_output_pipe_is_no_error():
  command = f"{sys.executable} -m experiments.train --config={CONFIG} --help | head -1"
  result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=300)
  assert result.stdout.count("\n") == 1 and result.stderr == ""


def test_help_without_a_config_says_how_to_see_its_fields(capsys):
  for flag in ("--help", "-h", "--helpfull"):
    with pytest.raises(SystemExit) as stopped:
      binary.parse(["experiments/train.py", flag], reads=(binary.CONFIG, binary.WORKDIR))
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "  --workdir\n" in out and "--config=FILE --help" in out and "--runs" not in out


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("x = 1\n", "own.py has no function get_config"),
    ("x = 1\ndef get_config(:\n", "own.py:2: "),
    ("def get_config():\n  x = 1\n  return x.y\n", "own.py:3: AttributeError: 'int' object has no attribute 'y'"),
    ("def get_config():\n  pass\n", r"own.py: get_config\(\) returns NoneType, not a ConfigDict"),
    ("def get_config():\n  return {'seed': 0}\n", r"own.py: get_config\(\) returns dict, not a ConfigDict"),
    ("import nowhere_at_all\n", "own.py:1: ModuleNotFoundError: No module named"),
    ("def get_config():\n  raise ValueError('said by the file')\n", "^said by the file$"),
  ],
)
def test_a_config_file_that_cannot_be_run_is_one_line(tmp_path, text, expected):
  (tmp_path / "own.py").write_text(text)
  with pytest.raises(ValueError, match=expected):
    binary.load(str(tmp_path / "own.py"))


def test_a_variant_of_a_config_that_has_none_is_refused():
  with pytest.raises(ValueError, match="own_world_config.py has no variants; leave out :smoke"):
    binary.load("examples/own_world_config.py:smoke")


def test_a_config_of_another_binary_names_that_binary():
  argv = ["experiments/train.py", "--config=experiments/configs/pong_soup.py:smoke"]
  with flagsaver.flagsaver():
    flags.FLAGS(argv)
    with pytest.raises(ValueError, match="this config is a matrix: run it by python -m experiments.matrix"):
      binary.config(is_matrix=False)
    assert binary.config(is_matrix=True) is binary.config()
    flags.FLAGS(["experiments/matrix.py", f"--config={CONFIG}"])
    with pytest.raises(ValueError, match="no section 'matrix'; it is for python -m experiments.train"):
      binary.config(is_matrix=True)


@pytest.mark.parametrize(
  ("field", "value", "expected"),
  [
    ("train.column.memory", "foo", "train.column.memory='foo' is not one of lstm, gru"),
    ("train.column.conv", ((16, 8),), "train.column.conv=.* is not of the form"),
    ("seed", -1, "seed=-1 must be an integer from 0"),
  ],
)
def test_an_invalid_config_is_not_described(monkeypatch, field, value, expected):
  config = binary.load("experiments/configs/jaco_talk.py")
  config.update_from_flattened_dict({field: value})
  monkeypatch.setattr(binary, "config", lambda: config)
  with pytest.raises(ValueError, match=expected):
    describe_binary.main()


def describe(**environment):
  command = [sys.executable, "-m", "experiments.describe", "--source=experiments/released/jaco_talk"]
  variables = {**os.environ, **environment}
  return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)


def test_a_platform_that_is_not_here_and_64_bits_are_one_line():
  for environment, expected in (
    ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS=nonsense: JAX has no such device here"),
    ({"JAX_PLATFORMS": "rocm"}, "JAX_PLATFORMS=rocm: JAX has no such device here"),
    ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64 is set"),
    ({"JAX_ENABLE_X64": "maybe"}, "invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'; correct or unset it"),
  ):
    result = describe(**environment)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and f"error: {expected}" in result.stderr


def test_the_backend_of_a_notebook_changes_nothing():
  command = [sys.executable, "-m", "experiments.figures", "--figure=nav", "--runs=nowhere"]
  result = subprocess.run(
    command, capture_output=True, text=True, timeout=300, env={**os.environ, "MPLBACKEND": "nonsense"}
  )
  why = "error: nav_fig3, nav_fig4, nav_fig56, nav_fig7, nav_table1: --runs=nowhere: no sweep"
  assert result.returncode == 1 and result.stderr.startswith(why)
  assert result.stderr.count("\n") == 1


def test_a_package_that_is_not_installed_is_one_line(capsys, monkeypatch):
  from environments.atari import emulator

  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  monkeypatch.setitem(sys.modules, "ale_py", None)  # As if it were not installed.
  with flagsaver.flagsaver(traceback=False), pytest.raises(SystemExit) as stopped:
    binary.guard(lambda: emulator.load("pong", seed=0))
  assert stopped.value.code == 1
  assert capsys.readouterr().err == 'error: Atari games need ale-py: pip install "progressive-robots[atari]"\n'


@pytest.mark.parametrize("error", [None, ValueError("RESOURCE_EXHAUSTED: as device_put says it"), MemoryError()])
@pytest.mark.parametrize("has_config", [True, False])
def test_out_of_memory_is_one_line_that_says_what_to_lower(capsys, monkeypatch, has_config, error):
  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  monkeypatch.setattr(flags.FLAGS["config"], "present", has_config)
  monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # Restored afterwards.

  def main():
    if error:
      raise error
    jax.jit(lambda x: jnp.sort(x[:, None] * x[None, :], axis=0))(jnp.ones(2**21)).block_until_ready()  # 16 TiB.

  with flagsaver.flagsaver(traceback=False), pytest.raises(SystemExit) as stopped:
    binary.guard(main)
  assert stopped.value.code == 1
  what = "--config.train.num_worlds, train.num_steps or sweep.num_runs" if has_config else "the number of worlds"
  said = capsys.readouterr().err
  assert re.fullmatch(rf"error: out of memory \((RESOURCE_EXHAUSTED: |MemoryError)[^\n]*\); lower {what}[^\n]*\n", said)


def test_another_error_of_jax_s_keeps_its_traceback(monkeypatch):
  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  main = mock.Mock(side_effect=jax.errors.JaxRuntimeError("INTERNAL: a bug"))
  with flagsaver.flagsaver(traceback=False), pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
    binary.guard(main)


def test_a_signal_while_a_binary_starts_leaves_no_traceback():
  command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}"]  # Ends by itself: --workdir is missing.
  process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  while "jaxlib" not in pathlib.Path(f"/proc/{process.pid}/maps").read_text():  # Its imports take seconds.
    time.sleep(0.01)
  process.send_signal(signal.SIGINT)
  _, error = process.communicate(timeout=300)
  assert process.returncode == 130 and error == "stopped; the same command goes on from what is saved, if anything is\n"


# XLA compiles for a while, and a signal comes in the middle of it.
COMPILES = """
import os, signal, threading
import jax, jax.numpy as jnp
from experiments import binary
def deep(x):
  for i in range(400):
    x = jnp.sin(x @ x) + i * jnp.sort(x)
  return x
def main():
  program = jax.jit(deep).lower(jnp.ones((8, 8)))
  compiled = threading.Event()
  threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
  try:
    program.compile()
    compiled.set()
  finally:
    print("in time" if not compiled.is_set() else "too late", flush=True)
  threading.Event().wait(60)
binary.run(main, reads=())
"""


def test_a_signal_while_xla_compiles_ends_the_program_and_not_with_a_crash(tmp_path):
  variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
  command = [sys.executable, "-c", COMPILES]
  result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables, cwd=conftest.ROOT)
  assert (result.returncode, result.stdout) == (130, "in time\n"), result.stderr
  assert result.stderr == "stopped; the same command goes on from what is saved, if anything is\n"


def test_configs_and_released_networks_have_the_same_names_in_any_folder(tmp_path):
  """As after `pip install .`: the packages are on Python's path, but the folder is another."""

  def start(module, *arguments):
    command = [sys.executable, "-m", f"experiments.{module}", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(conftest.ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    return result.stdout

  # The config's own source is a released column with as many parameters as the paper's (papers.md 2.2).
  assert "298,700" in start("describe", "--config=experiments/configs/jaco_corl2017.py:progressive")
  options = ("--target=pong/pong", "--option=num_actions=3", "--option=max_episode_steps=20", "--episodes=2")
  printed = start("evaluate", "--source=experiments/released/pong", *options)
  assert printed.startswith(f"{conftest.ROOT}/experiments/released/pong in pong/pong: mean return ")


def test_a_config_that_is_there_is_the_one_that_is_meant(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  there = str(conftest.ROOT / CONFIG)
  assert binary.with_config_present(["train", "--config", f"{CONFIG}:progressive", "--config.seed=3"]) == [
    "train",
    "--config",
    f"{there}:progressive",
    "--config.seed=3",
  ]
  (tmp_path / CONFIG).parent.mkdir(parents=True)
  (tmp_path / CONFIG).touch()
  for argument in (f"--config={CONFIG}", "--config=nowhere.py", "--config=experiments/configs/nowhere.py"):
    assert binary.with_config_present(["train", argument]) == ["train", argument]
