"""A mistake on the command line ends in one line that names the thing and the fix, and in exit code 1."""

import subprocess
import sys

import pytest

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


def test_known_fields_pass():
  binary.check_fields(["train", f"--config={CONFIG}", "--config.train.hyper.learning_rate=1e-4", "--config.seed=3"])
  binary.check_fields(["train", "--config", "experiments/configs/jaco_talk.py:fast", "--config.train.steps", "10"])


def test_a_missing_config_file_is_named():
  with pytest.raises(ValueError, match="nowhere.py does not exist"):
    binary.check_fields(["train", "--config=nowhere.py"])


@pytest.mark.parametrize(
  ("module", "arguments", "expected"),
  [
    ("train", [f"--config={CONFIG}", "--config.sed=1", "--workdir=unused"], "no field --config.sed; nearest is"),
    ("train", [f"--config={CONFIG}"], "--workdir is missing"),
    (
      "transfer",
      [f"--config={CONFIG}", "--workdir=unused", "--config.source=nowhere"],
      "nowhere does not exist; train",
    ),
    ("evaluate", ["--source=nowhere"], "nowhere does not exist; train"),
    ("arm", ["--mode=drive", "--address=localhost:1"], "no server answers at localhost:1"),
  ],
)
def test_a_mistake_is_one_line_and_exit_code_1(module, arguments, expected):
  command = [sys.executable, "-m", f"experiments.{module}", *arguments]
  result = subprocess.run(command, capture_output=True, text=True, timeout=120)
  assert result.returncode == 1
  errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1 and expected in errors[0]
  assert "Traceback" not in result.stderr
