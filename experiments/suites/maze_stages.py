"""The benchmark of mazes: worlds with their pictures, the cost of size, and learning with all auxiliary heads."""

from collections.abc import Iterator, Mapping

from environments import batch as batch_lib
from environments import registry
from experiments.configs import navigation
from experiments.setup import learn
from experiments.suites import stages

_SHOWN = ("pixels", "velocity", "last_reward", "last_action")  # What a navigation agent reads; its heads' signals.
_SIGNALS = ("depth", "loop_closure")


def _worlds(settings: stages.Settings) -> Iterator[stages.Row]:
  """Walking and looking with random actions and all signals; mazes of 9x15 and of 5x10 cells take turns."""
  small, large = (
    stages.random_play(
      batch_lib.Batch(registry.make(f"maze/{name}"), settings.num_worlds, _SHOWN, _SIGNALS), stages.WORLD_STEPS
    )
    for name in ("static_1", "static_2")
  )
  seconds = stages.blocks([small, large], settings)
  num = settings.num_worlds * stages.WORLD_STEPS
  aim = ">= 15,000" if settings.is_cpu else ">= 2,000,000"
  yield stages.Row("worlds + pixels", stages.rate([block[0] for block in seconds], num), "steps/s", aim, "5x10 cells")
  yield stages.Row("  a step in 9x15 cells / in 5x10", stages.ratio(seconds), "x", "<= 1.2")


_LEARNER = stages.Learner(
  lambda: learn.make(navigation.get_config("laptop,nav_d1d2l,static_1")), {"train": (">= 700", ">= 150,000")}
)
STAGES: Mapping[str, stages.Stage] = {"worlds": _worlds, **stages.of(_LEARNER)}
