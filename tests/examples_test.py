"""The examples run unchanged, and what they print is true."""

import ast
import json
import os
import re
import subprocess
import sys

from tests import conftest

EXAMPLES = conftest.ROOT / "examples"
NOTEBOOK = EXAMPLES / "grow_a_released_column.ipynb"


def run(*command):
  """Returns what `python command` prints, in its own process that imports this checkout."""
  environment = os.environ | {"PYTHONPATH": str(conftest.ROOT)}
  done = subprocess.run(
    [sys.executable, *map(str, command)], env=environment, cwd=EXAMPLES, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def test_the_first_column_is_kept_and_helps_with_the_second_task():
  printed = run(EXAMPLES / "two_columns.py")
  assert "first column kept, bit for bit: True" in printed
  laterals, scratch = (float(number) for number in re.findall(r"task 2, error .*: +([\d.]+)", printed))
  assert laterals < 0.5 * scratch


def test_the_toy_needs_progressive_jax_and_optax_alone():
  tree = ast.parse((EXAMPLES / "two_columns.py").read_text())
  assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
  imported = {
    alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
  }
  assert imported == {"jax", "optax", "progressive"}


def test_the_notebook_runs_and_holds_no_outputs():
  cells = json.loads(NOTEBOOK.read_text())["cells"]
  assert not [cell for cell in cells if cell.get("outputs")]
  assert "1 passed" in run("-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "--rootdir", EXAMPLES, NOTEBOOK)
