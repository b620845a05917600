"""Strict mode for every test, and a check that the code under test is this checkout.

JAX is told to refuse implicit rank and dtype promotion, where silent bugs of shape and precision come from. Tests run
on the CPU backend, because exactness (bitwise resume, equal seeds) is promised there. The backend pretends to be two
devices, so that sweeps are distributed as on a machine with several. Most of a first run's time is compilation, so
nothing is optimised: LLVM does nothing, and XLA's older emitters write the loops, in a third of the time. Compiled
programs are kept between runs in JAX's persistent cache. BLAS and OpenMP get one thread, as others wait by spinning.
"""

import os
import pathlib
from collections.abc import Callable, Iterator

# Set in the environment, so that processes that tests start get the same settings.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
  "XLA_FLAGS",
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
  " --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_multi_thread_eigen=false",
)
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # Fork support would write into a forked ffmpeg's output.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_configure() -> None:
  """Refuses to test any copy of the packages except the one beside these tests."""
  import agents
  import analysis
  import environments
  import experiments
  import progressive

  for package in (agents, analysis, environments, experiments, progressive):
    found = pathlib.Path(package.__path__[0]).resolve().parent
    if found != ROOT:
      raise RuntimeError(f"package {package.__name__} comes from {found}, not from this checkout {ROOT}")


@pytest.fixture(scope="module", autouse=True)
def programs_go_with_their_module() -> Iterator[None]:
  """A whole suite's compiled programs need more memory maps than a Linux process may have (65,530), and LLVM aborts."""
  yield
  jax.clear_caches()


@pytest.fixture
def as_if_on() -> Iterator[Callable[[str], None]]:
  """`as_if_on("gpu")` makes JAX report a GPU machine. Traces for one backend serve no other, so caches are cleared."""
  with pytest.MonkeyPatch.context() as patch:

    def become(backend: str) -> None:
      jax.clear_caches()
      patch.setattr(jax, "default_backend", lambda: backend)

    yield become
  jax.clear_caches()
