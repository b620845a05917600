"""Who may import whom, checked by parsing every file: the arrows of the house point down.

`progressive` and `environments.core` import nothing of ours; `agents` sees `progressive` and the protocol of worlds;
worlds see `core`, `raycast` and `loop_closure`, never each other (save that the arm plays the Jaco's tasks);
`analysis` gets functions passed in; `experiments` imports all and nothing imports it. In it are rooms, each of which
imports those below it alone, and above them binaries, which nothing imports. Heavy outside packages stay where they
belong.
"""

import ast
import fnmatch
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("progressive", "agents", "environments", "experiments", "analysis")

# The rooms of `experiments`, the lowest first: each may import itself, what is below it, and all other packages.
ROOMS = ("configs", "store", "setup", "report", "running", "suites", "studies")
_OTHERS = tuple(f"{package}*" for package in PACKAGES if package != "experiments")

# importer -> what of ours it may import; the first pattern that fits an importer decides.
ALLOWED = (
  ("progressive*", ("progressive*",)),
  ("agents*", ("agents*", "progressive*", "environments.core", "environments.batch")),
  ("environments", ("environments.*",)),
  ("environments.core", ()),
  ("environments.raycast", ()),
  ("environments.loop_closure", ()),
  ("environments.host", ()),
  ("environments.batch", ("environments.core",)),
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
  *(
    (f"experiments.{room}*", (*_OTHERS, *(f"experiments.{below}*" for below in ROOMS[: i + 1])))
    for i, room in enumerate(ROOMS)
  ),
  ("experiments", ("experiments.running*",)),
  ("experiments.*", (*_OTHERS, "experiments.binary", *(f"experiments.{room}*" for room in ROOMS))),
)

# An outside package -> the only modules of ours that may import it.
CONFINED = {
  "mujoco": ("environments.jaco*", "environments.arm*", "experiments.suites.jaco_stages"),
  "dm_control": ("environments.arm.twin", "environments.*.derive_*", "environments.*.assets.*"),
  "ale_py": ("environments.atari*",),
  "dm_env_rpc": ("environments.arm*",),
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
    ("agents.unroll", "def f():\n  from experiments import loop"),
    ("agents.unroll", "import mujoco"),
    ("agents.unroll", "from absl import flags"),
    ("environments.jaco.model", "from dm_control import mjcf"),
    ("environments.maze.appearance", "import labmaze.assets"),
    ("environments.maze.world", "from environments.jaco import camera"),
    ("experiments.train", "import tests.conftest"),
    ("experiments.train", "from experiments import matrix"),
    ("experiments.store.released", "from experiments.running import run"),
    ("experiments.running.run", "from experiments import binary"),
    ("experiments.setup.learn", "from experiments.studies.pnn import matrix"),
  ],
)
def test_a_forbidden_edge_is_found(importer, source):
  known = {
    "agents.returns",
    "environments.registry",
    "environments.arm.twin",
    "progressive.network",
    "experiments.loop",
    "experiments.matrix",
    "experiments.binary",
    "experiments.running.run",
    "experiments.studies.pnn.matrix",
  }
  assert violations(importer, imports(source, known.__contains__))


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_nothing_imports_the_tests(path):
  assert not [name for name in imports(path.read_text(), is_our_module) if name.split(".")[0] == "tests"]


@pytest.mark.parametrize("path", [p for p in sources() if p.read_text().strip()], ids=module_name)
def test_every_module_opens_with_a_lesson(path):
  assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_top_level_is_fixed():
  folders = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
  assert folders == set(PACKAGES)
