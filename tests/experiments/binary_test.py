"""A mistake on the command line ends in one line that names the thing and the fix, and in exit code 1."""

import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from environments.arm import protocol
from experiments import binary

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
    binary.parse(["train", *arguments])
  assert stopped.value.code == 1
  error = capsys.readouterr().err
  assert error.startswith("error: ") and expected in error and error.count("\n") == 1


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


def test_a_whole_binary_says_what_is_missing():
  command = [sys.executable, "-m", "experiments.transfer", f"--config={CONFIG}", "--workdir=unused"]
  command.append("--config.source=nowhere")
  result = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert result.returncode == 1
  errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1 and "nowhere does not exist; train a column" in errors[0]
  assert "Traceback" not in result.stderr
