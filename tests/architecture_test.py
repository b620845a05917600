"""Which module may import which, checked by parsing every file. Imports only point down.

`progressive` and `environments.core` import nothing of ours. `agents` imports `progressive` and the protocol of
worlds. Worlds import `core`, `raycast` and `loop_closure`, never each other, except that the arm plays the Jaco's
tasks. `analysis` gets functions passed in. Nothing imports `experiments`. Inside `experiments`, nothing imports the
binaries. They stand above studies and suites, which stand above running, setup and store. No folders import each
other in a circle. Heavy outside packages stay where they belong.
"""

import ast
import fnmatch
import graphlib
import pathlib
from collections.abc import Iterable

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("progressive", "agents", "environments", "experiments", "analysis")

# The layers of `experiments`, each with the layers below it.
_STORE = ("experiments.store*", "agents*", "progressive*")
_SETUP = ("experiments.setup*", "environments.core", "environments.batch", "environments.registry", *_STORE)
_RUNNING = ("experiments.running*", "experiments.report.text_table", "experiments.report.video", "analysis*", *_SETUP)
_STUDY = ("experiments.configs*", "experiments.report*", "environments*", *_RUNNING)
STUDIES = ("corl2017", "navigation", "pnn", "pong_fidelity")

# importer -> our modules that it may import. The first pattern that fits an importer decides.
ALLOWED = (
  ("progressive*", ("progressive*",)),
  ("agents*", ("agents*", "progressive*", "environments.core", "environments.batch")),
  ("environments", ("environments.*",)),
  ("environments.core", ()),
  ("environments.raycast", ()),
  ("environments.loop_closure", ()),
  ("environments.host", ()),
  ("environments.batch", ("environments.core",)),
  ("environments.conformance", ("environments.core", "environments.batch", "environments.host")),
  ("environments.dm_env_adapter", ("environments.core",)),
  ("environments.registry", ("environments.*",)),
  ("environments.arm*", ("environments.arm*", "environments.jaco*", "environments.core", "environments.raycast")),
  (
    "environments.jaco*",
    ("environments.jaco*", "environments.core", "environments.raycast", "environments.loop_closure"),
  ),
  ("environments.maze*", ("environments.maze*", "environments.core", "environments.loop_closure")),
  ("environments.pong*", ("environments.pong*", "environments.core")),
  ("environments.atari*", ("environments.atari*", "environments.core")),
  ("analysis*", ("analysis*",)),
  ("experiments", ("experiments.running.stop",)),  # Lazily, where a binary starts.
  (
    "experiments.binary",
    (
      "experiments.running.hosts",
      "experiments.running.stop",
      "experiments.setup.fields",
      "experiments.store.run_directory",
      "environments.arm.protocol",
    ),
  ),
  ("experiments.store*", ("analysis*", *_STORE)),
  (
    "experiments.configs*",
    ("experiments.configs*", "environments.*.constants", "environments.*.variants", "agents*", "progressive*"),
  ),
  ("experiments.setup*", ("experiments.configs.base", *_SETUP)),
  ("experiments.report*", ("experiments.report*", "experiments.store*", "progressive*", "analysis*")),
  ("experiments.running*", _RUNNING),
  (
    "experiments.studies.figures",
    ("experiments.studies*", "experiments.report*", "experiments.store.run_directory", "analysis*"),
  ),
  *((f"experiments.studies.{study}*", (f"experiments.studies.{study}*", *_STUDY)) for study in STUDIES),
  ("experiments.studies", ()),
  *((f"experiments.studies.{study}", _STUDY) for study in ("continual", "credit", "learning")),  # One file each.
  (
    "experiments.plans*",
    ("experiments.configs*", "experiments.running.plan", "experiments.studies*", "environments.arm.gap"),
  ),
  ("experiments.suites*", ("experiments.suites*", *_STUDY)),
  # Binaries may import how they start, and modules in subfolders.
  ("experiments.*", ("experiments.binary", "experiments.*.*", "environments*", "agents*", "progressive*", "analysis*")),
)
# A file that is a table of the folders beside it, and stands above them.
TABLES = ("environments.registry",)

# An outside package -> the only modules of ours that may import it.
CONFINED = {
  "mujoco": ("environments.jaco*", "environments.arm*", "experiments.suites.jaco_stages"),
  "dm_control": ("environments.arm.twin", "environments.*.derive_*", "environments.*.assets.*"),
  "ale_py": ("environments.atari*", "experiments.suites.a2c_peer"),
  "stable_baselines3": ("experiments.suites.a2c_peer",),
  "dm_env_rpc": ("environments.arm*",),
  "mcap": ("environments.arm.record*",),
  "h5py": ("environments.arm.export",),
  "labmaze": ("environments.maze.derive_*",),
  "ml_collections": ("experiments*",),
  "absl": ("experiments*",),
  "orbax": (),
  "safetensors": ("experiments.store*",),
  "tensorboardX": ("experiments*",),
  "matplotlib": ("analysis*", "experiments*"),
  "rlax": (),
}


def module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[pathlib.Path]:
  return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(source: str, is_module) -> set[str]:
  """Dotted names a file imports; `from a import b` is `a.b` where that is a module, else `a`."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "relative import: write the whole name"
      for alias in node.names:
        name = f"{node.module}.{alias.name}"
        found.add(name if is_module(name) else str(node.module))
  return found


def is_our_module(name: str) -> bool:
  path = ROOT / name.replace(".", "/")
  return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def fits(name: str, patterns) -> bool:
  return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def folder_of(name: str) -> str:
  """The folder that holds a module's file, or the module itself where it is a table."""
  is_package = (ROOT / name.replace(".", "/")).is_dir()
  return name if is_package or name in TABLES else name.rpartition(".")[0]


def circle(edges: Iterable[tuple[str, str]]) -> list[str]:
  """Folders that import each other, with the first folder again at the end. Empty where there is no circle.

  Args:
    edges: (importer, imported), modules of ours.
  """
  below: dict[str, set[str]] = {}
  for importer, imported in edges:
    if folder_of(importer) != folder_of(imported):
      below.setdefault(folder_of(importer), set()).add(folder_of(imported))
  try:
    graphlib.TopologicalSorter(below).prepare()
  except graphlib.CycleError as error:
    return error.args[1][::-1]
  return []


def violations(importer: str, imported: set[str]) -> list[str]:
  allowed = next((patterns for module, patterns in ALLOWED if fnmatch.fnmatchcase(importer, module)), None)
  assert allowed is not None, f"{importer} has no place in the import rules"
  wrong = [name for name in imported if name.split(".")[0] in (*PACKAGES, "tests") and not fits(name, allowed)]
  wrong += [name for name in imported if not fits(importer, CONFINED.get(name.split(".")[0], ("*",)))]
  return sorted(f"{importer} imports {name}" for name in wrong)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_down(path):
  assert not violations(module_name(path), imports(path.read_text(), is_our_module))


@pytest.mark.parametrize(
  ("importer", "source"),
  [
    ("progressive.network", "from agents import returns"),
    ("agents.losses", "from environments import registry"),
    ("environments.jaco.tasks", "import environments.arm.twin"),
    ("analysis.records", "from progressive import network"),
    ("agents.unroll", "def f():\n  from experiments.running import loop"),
    ("agents.unroll", "import mujoco"),
    ("agents.unroll", "from absl import flags"),
    ("environments.jaco.model", "from dm_control import mjcf"),
    ("environments.maze.appearance", "import labmaze.assets"),
    ("environments.maze.world", "from environments.jaco import camera"),
    ("experiments.train", "import tests.conftest"),
    ("experiments", "from experiments.setup import learn"),
    ("experiments.train", "from experiments import matrix"),
    ("experiments.studies.pnn.matrix", "from experiments import train"),
    ("experiments.studies.pnn.matrix", "from experiments import binary"),
    ("experiments.studies.pnn.matrix", "from experiments.suites import stages"),
    ("experiments.studies.pnn.matrix", "from experiments.studies import figures"),
    ("experiments.studies.pnn.matrix", "from experiments.studies.navigation import folder"),
    ("experiments.studies.figures", "from experiments.running import run"),
    ("experiments.studies.continual", "from experiments.studies.pnn import matrix"),
    ("experiments.plans.paper", "from experiments.running import run"),
    ("experiments.suites.stages", "from experiments.studies.pnn import matrix"),
    ("experiments.suites.stages", "from experiments import binary"),
    ("experiments.running.run", "from experiments.studies.pnn import matrix"),
    ("experiments.running.run", "from experiments.report import html"),
    ("experiments.running.run", "from experiments.configs import base"),
    ("experiments.running.run", "from experiments import binary"),
    ("experiments.running.loop", "import environments.arm.twin"),
    ("experiments.report.html", "from experiments.running import run"),
    ("experiments.report.html", "from experiments.setup import learn"),
    ("experiments.setup.learn", "from experiments.running import run"),
    ("experiments.setup.learn", "from experiments.report import video"),
    ("experiments.setup.learn", "from experiments.configs import navigation"),
    ("experiments.setup.learn", "from analysis import records"),
    ("experiments.configs.base", "from experiments.setup import learn"),
    ("experiments.configs.base", "from environments.jaco import world"),
    ("experiments.store.released", "from experiments.setup import learn"),
    ("experiments.store.released", "from experiments.configs import base"),
    ("experiments.store.released", "from environments import registry"),
    ("experiments.binary", "from experiments.setup import learn"),
  ],
)
def test_a_forbidden_edge_is_found(importer, source):
  assert violations(importer, imports(source, is_our_module))


def test_no_folders_import_each_other():
  edges = [(module_name(path), name) for path in sources() for name in imports(path.read_text(), is_our_module)]
  ours = [(importer, name) for importer, name in edges if name.split(".")[0] in PACKAGES]
  assert len(ours) > len(sources())
  assert not circle(ours)


@pytest.mark.parametrize(
  ("edges", "folders"),
  [
    ([("agents.unroll", "progressive.network"), ("agents.unroll", "agents.returns")], set()),
    ([("agents.unroll", "progressive.network"), ("progressive.network", "agents.returns")], {"agents", "progressive"}),
    (  # A circle over a third folder. No two files import each other.
      [
        ("experiments.store.released", "experiments.setup.learn"),
        ("experiments.setup.place", "experiments.running.play"),
        ("experiments.running.run", "experiments.store.checkpoint"),
      ],
      {"experiments.store", "experiments.setup", "experiments.running"},
    ),
    (  # A folder and a folder inside it.
      [("progressive.network", "progressive.layers"), ("progressive.layers.layer", "progressive.cost")],
      {"progressive", "progressive.layers"},
    ),
    ([("environments.registry", "environments.jaco.tasks"), ("environments.jaco.tasks", "environments.core")], set()),
  ],
)
def test_a_circle_is_found(edges, folders):
  assert set(circle(edges)) == folders


def test_every_study_folder_is_listed():
  assert set(STUDIES) == {path.parent.name for path in (ROOT / "experiments/studies").glob("*/__init__.py")}


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_nothing_imports_the_tests(path):
  assert not [name for name in imports(path.read_text(), is_our_module) if name.split(".")[0] == "tests"]


@pytest.mark.parametrize("path", [p for p in sources() if p.read_text().strip()], ids=module_name)
def test_every_module_has_a_docstring(path):
  assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_top_level_is_fixed():
  folders = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
  assert folders == set(PACKAGES)
