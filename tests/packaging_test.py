"""What `pip install .` installs: five packages with every file that they read, and nothing else at the top level."""

import pathlib

import pytest
import setuptools  # Imported before distutils, which it replaces where Python has none of its own.

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = {"progressive", "agents", "environments", "experiments", "analysis"}


@pytest.fixture(scope="module")
def build():
  from distutils import core

  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    command = core.run_setup(str(ROOT / "setup.py"), stop_after="init").get_command_obj("build_py")
    assert isinstance(command, setuptools.Command)
    command.ensure_finalized()
    modules = {str(file) for _, _, file in command.find_all_modules()}
    data = {f"{source}/{name}" for _, source, _, names in command.data_files for name in names}
  return command.distribution.packages, modules, data


def files(pattern: str) -> set[str]:
  """Matching files of the five packages, relative to the repository."""
  return {
    str(path.relative_to(ROOT))
    for package in PACKAGES
    for path in (ROOT / package).rglob(pattern)
    if path.is_file() and "__pycache__" not in path.parts
  }


def test_no_other_package_lands_at_the_top_level(build):
  packages, _, _ = build
  assert {name.partition(".")[0] for name in packages} == PACKAGES


def test_every_module_is_installed(build):
  _, modules, _ = build
  assert modules == files("*.py")


def test_every_other_file_is_installed(build):
  _, _, data = build
  expected = files("*") - files("*.py")
  assert any(name.endswith(".safetensors") for name in expected) and any(name.endswith(".csv") for name in expected)
  assert data == expected
