"""What the documentation promises about the code: citations, figures, links, commands and the Python in its pages."""

import ast
import importlib
import json
import pathlib
import re
import shlex
from typing import Any

import pytest
from absl import flags

from experiments import binary
from experiments.running import plan as plan_lib
from experiments.setup import checks
from experiments.studies import figures

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("progressive", "agents", "environments", "experiments", "analysis", "tests")
PAPERS = (ROOT / "docs" / "papers.md").read_text()
# `papers.md 2.1-2.3` and `papers.md 3.4, 4` are lists of sections; a sentence may end in a full stop.
CITATION = re.compile(r"papers\.md (\d(?:\.\d+)?(?:(?:, |-| and )\d(?:\.\d+)?)*)")


def sections(text: str) -> set[str]:
  return {match for found in CITATION.findall(text) for match in re.findall(r"\d(?:\.\d+)?", found)}


def test_a_citation_may_name_several_sections():
  assert sections("as papers.md 2.1-2.3 say, and (papers.md 3.4, 4). papers.md 1.10") == {
    "2.1",
    "2.3",
    "3.4",
    "4",
    "1.10",
  }


def test_every_cited_section_is_a_heading():
  headings = set(re.findall(r"^#{2,3} (\d(?:\.\d+)?)\.? ", PAPERS, re.MULTILINE))
  files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
  files += [path for path in (ROOT / "docs").rglob("*.md")]
  cited = {section: path for path in files for section in sections(path.read_text())}
  assert len(cited) >= 15, "the pattern does not find the citations any more"
  missing = {section: str(path) for section, path in cited.items() if section not in headings}
  assert not missing, f"cited, but no heading of docs/papers.md: {missing}"


@pytest.mark.parametrize("name", sorted(figures.FIGURES))
def test_every_figure_stands_in_the_table(name):
  assert f"`{name}`" in (ROOT / "docs" / "figures.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])  # `make docs` checks the links of docs/.
def test_links_lead_to_what_is_there(page):
  links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
  assert links
  assert not [link for link in links if not (ROOT / link).exists()]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [
  path for place in ("experiments", "experiments/configs", "examples") for path in (ROOT / place).glob("*.py")
]
TEXTS = [
  block
  for page in PAGES
  for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
  if not kind
]
TEXTS += [ast.get_docstring(ast.parse(path.read_text())) or "" for path in PROGRAMS]
COMMANDS = sorted(
  {
    command.strip()
    for text in TEXTS
    for command in re.sub(r"\\\n *", "", text).splitlines()
    if "python -m experiments." in command and "`" not in command and "..." not in command
  }
)


def test_results_are_json():
  def refuse(name):
    raise AssertionError(f"{name} is no JSON (RFC 8259, section 6)")

  files = [file for folder in ("docs", "experiments") for file in (ROOT / folder).rglob("*.json")]
  assert len(files) > 100
  for file in files:
    json.loads(file.read_text(), parse_constant=refuse)


def test_commands_of_docstrings_and_pages_are_seen():
  for start in ("experiments.train --config=experiments/configs/jaco_talk.py:arm", "experiments.evaluate --source"):
    assert any(start in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_flags_and_fields_that_are_there(command):
  words = shlex.split(command[command.index("experiments.") :], comments=True)
  module = importlib.import_module(words[0])
  assert hasattr(module, "main")
  names = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")]
  assert not [name for name in names if not name.startswith("config.") and name not in (*flags.FLAGS, "help")]
  if any(word.startswith(("--config=experiments/", "--config=examples/")) for word in words):
    binary.check_fields(words)


@pytest.mark.parametrize(
  "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
  for name, text in re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
    (tmp_path / name).write_text(text)
  monkeypatch.syspath_prepend(tmp_path)
  blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
  defined: dict[str, Any] = {"__name__": "page"}
  exec(compile("\n".join(blocks), page.name, "exec"), defined)
  if "get_config" in defined:
    checks.check(defined["get_config"]())
  if "get_plan" in defined:
    plan_lib.check(list(defined["get_plan"]()))
