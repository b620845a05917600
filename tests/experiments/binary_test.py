"""A mistake on the command line ends in one line that names the thing and the fix, and in exit code 1."""

import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from environments.arm import protocol
from experiments import binary, evaluate, matrix

CONFIG = "experiments/configs/jaco_corl2017.py"


@pytest.mark.parametrize(
  ("argument", "expected"),
  [
    ("--config.train.hyper.lerning_rate=1", "nearest is --config.train.hyper.learning_rate"),
    ("--config.metod=finetune", "nearest is --config.method"),
    ("--config.learning_rate=1", "nearest is --config.train.hyper.learning_rate"),
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
  config = "--config=experiments/configs/navigation.py:laptop,nav,static_small"
  given = "--config.train.hyper.learning_rate=1e-3"
  with pytest.raises(ValueError, match="learning_rate would change nothing: sweep.sampled draws it"):
    binary.check_fields(["train", config, given])
  binary.check_fields(["train", config, given, "--config.sweep.sampled=()"])


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


def test_what_is_read_passes():
  with flagsaver.flagsaver():
    arguments = ["--source=x", "--seed=3", "--traceback", "--v=1", f"--config={CONFIG}"]
    argv = ["experiments/arm.py", *arguments]
    binary.check_read(argv, flags.FLAGS(argv)[1:], (binary.CONFIG, binary.SOURCE, evaluate.SEED))


BINARIES = sorted(p for p in pathlib.Path(binary.__file__).parent.glob("*.py") if "  binary.run(" in p.read_text())
SHARED = {
  f"{module.__name__.rpartition('.')[2]}.{name}"
  for module in (binary, evaluate, matrix)
  for name, value in vars(module).items()
  if isinstance(value, flags.FlagHolder)
}


@pytest.mark.parametrize("file", BINARIES, ids=lambda file: file.stem)
def test_a_binary_says_what_it_reads(file):
  body, _, said = file.read_text().partition("binary.run(main, reads=(")
  used = {flag for flag in SHARED if f"{flag}.value" in body}
  used |= {"binary.WORKDIR"} if "binary.workdir()" in body else set()
  used |= {"binary.CONFIG"} if "binary.config()" in body else set()
  assert set(re.findall(r"\w+\.[A-Z]+", said)) == used


@pytest.mark.parametrize(
  "error", [ValueError("a\nb"), OSError(28, "disk full"), protocol.BridgeError("no server"), FloatingPointError("nan")]
)
def test_a_callers_mistake_is_one_line_and_exit_code_1(error, capsys, monkeypatch):
  def fail(argv):
    raise error

  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  with flagsaver.flagsaver(traceback=False), pytest.raises(SystemExit) as stopped:
    binary.guard(fail, [])
  assert stopped.value.code == 1
  assert capsys.readouterr().err.count("\n") == 1


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
  def fail(argv):
    raise AssertionError("a bug")

  monkeypatch.setattr(binary, "keep_compiled_programs", lambda: None)
  with flagsaver.flagsaver(traceback=False), pytest.raises(AssertionError):
    binary.guard(fail, [])


def test_a_whole_binary_refuses_a_flag_of_another_s():
  command = [
    sys.executable,
    "-m",
    "experiments.train",
    f"--config={CONFIG}:progressive",
    "--workdir=unused",
    "--source=nowhere",
  ]
  result = subprocess.run(command, capture_output=True, text=True, timeout=300)
  expected = "error: --source is not read by experiments.train; nearest it reads is --config.source\n"
  assert result.returncode == 1 and result.stderr.endswith(expected)


def test_a_whole_binary_says_what_is_missing():
  command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}:progressive", "--workdir=unused"]
  command.append("--config.source=nowhere")
  result = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert result.returncode == 1
  errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1 and "nowhere does not exist; train a column" in errors[0]
  assert "Traceback" not in result.stderr
