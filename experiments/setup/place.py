"""Where an agent learns or plays: copies of a world in JAX, or environments behind `dm_env`.

Both show the same: what is observed, what an action is, and which signals auxiliary heads may be trained on. Only
`running.actors` and `running.play` know the difference (one batch inside a jit, or steps on the host).
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from environments import batch as batch_lib
from environments import core, registry
from progressive import network

_DEFAULT_CONTROL_DT_S = 0.1  # For worlds that do not say.


@dataclasses.dataclass(frozen=True, eq=False)
class Simulation:
  """A world in JAX; a batch has as many copies of it as are asked for."""

  name: str
  world: core.Environment

  def signal_spec(self) -> Mapping[str, specs.Array]:
    """What auxiliary heads may be trained on: all observations, and signals that no policy may read."""
    return {**self.world.observation_spec(), **self.world.privileged_spec()}

  def batch(self, num_worlds: int, observations: Iterable[str], signals: Iterable[str] = ()) -> batch_lib.Batch:
    """`num_worlds` copies that show only these observations and signals."""
    return batch_lib.Batch(self.world, num_worlds, tuple(observations), tuple(signals))

  def close(self) -> None:
    """Does nothing: nothing is open."""


@dataclasses.dataclass(frozen=True, eq=False)
class Host:
  """Environments behind `dm_env`: an arm behind its bridge, games of the emulator, or a user's own."""

  name: str
  world: dm_env.Environment
  others: tuple[dm_env.Environment, ...] = ()  # Made alike, except for their seeds.

  @property
  def worlds(self) -> tuple[dm_env.Environment, ...]:
    """All of them; evaluations are played in the first."""
    return (self.world, *self.others)

  def signal_spec(self) -> Mapping[str, specs.Array]:
    """What auxiliary heads may be trained on: the observations."""
    return self.world.observation_spec()

  def close(self) -> None:
    """Closes all of them: it leaves arms and ends twins."""
    for world in self.worlds:
      world.close()


Place = Simulation | Host


def make(
  name: str,
  options: Mapping[str, Any],
  *,
  observations: Iterable[str] | None = None,
  seed: int = 0,
  first_step: int = 0,
  num_worlds: int = 1,
) -> Place:
  """The place called `name`, with `num_worlds` environments if it is behind `dm_env`.

  `observations` are those that will be read, None for all; a world behind `dm_env` may leave out the others. A run that
  continues at `first_step` begins other episodes there than at step 0. In JAX episodes come from keys.

  Raises:
    ValueError: for more worlds than there can be, for options `seed` and `observations`, or as `registry.make` for an
      unknown name or option.
  """
  for key in {"seed", "observations"} & options.keys():
    raise ValueError(f'"{name}" has no option "{key}": seed and inputs of whoever plays there say it')
  shown = None if observations is None else tuple(sorted(set(observations)))
  make_one = functools.partial(registry.make, name, observations=shown, **options)
  own_seed = int(np.random.SeedSequence((seed, first_step)).generate_state(1)[0] >> 1) if first_step else seed
  world = make_one(seed=own_seed)
  if not isinstance(world, dm_env.Environment):
    return Simulation(name, world)
  if num_worlds > 1 and getattr(world, "is_unique", False):
    world.close()
    raise ValueError(f"train.num_worlds={num_worlds}: {name} is one arm; set train.num_worlds=1")
  seeds = np.random.SeedSequence(own_seed).generate_state(num_worlds - 1) >> 1  # An emulator takes 31 bits.
  return Host(name, world, tuple(make_one(seed=int(one)) for one in seeds))


def num_choices(place: Place) -> tuple[int, ...]:
  """Number of values of each entry of an action."""
  return core.num_choices(place.world.action_spec())


def frames_per_s(place: Place) -> float:
  """The frame rate at which a video runs as fast as the world."""
  return 1.0 / getattr(place.world, "control_dt_s", _DEFAULT_CONTROL_DT_S)


def return_bounds(place: Place) -> tuple[float, float]:
  """The lowest and the highest return of an episode; infinite if the world does not say."""
  return getattr(place.world, "return_bounds", (-float("inf"), float("inf")))


def described(place: Place) -> dict[str, Any]:
  """What a network needs to know about a place to be used elsewhere, if its own file does not say it.

  `num_choices` of each entry of an action: outputs of the same size may be split differently. `pixels`: observations
  that are uint8, and divided by 255.
  """
  pixels = [name for name, one in place.world.observation_spec().items() if one.dtype == np.uint8]
  return {"num_choices": list(num_choices(place)), "pixels": sorted(pixels)}


def check_alike(place: Place, spec: network.Network, learned_in: Mapping[str, Any] | None, *, acts: bool) -> None:
  """Refuses a place whose pixels, or whose actions if the network `acts` there, differ in kind from what it learned.

  Args:
    learned_in: `described` of the place where it learned; None for older networks, for which nothing is known.

  Raises:
    ValueError: naming the observation or the actions.
  """
  if learned_in is None:
    return
  here, read = described(place), network.input_names(spec)
  for name in sorted({*here["pixels"], *learned_in["pixels"]} & set(read)):
    if (name in here["pixels"]) != (name in learned_in["pixels"]):
      there, now = ("uint8, divided by 255" if name in one["pixels"] else "floats" for one in (learned_in, here))
      raise ValueError(f"the network has learned from {name} as {there}, and {place.name} shows {now}; make both alike")
  if acts and here["num_choices"] != list(learned_in["num_choices"]):
    raise ValueError(
      f"the network has learned actions of {learned_in['num_choices']} values, and {place.name} takes "
      f"{here['num_choices']}; name another world, or options that make them alike"
    )


def check_inputs(place: Place, spec: network.Network) -> None:
  """Refuses a place that does not show what the network reads.

  Raises:
    ValueError: naming the observation and both shapes.
  """
  offered = {name: tuple(one.shape) for name, one in place.world.observation_spec().items()}
  for name, shape in ((name, shape) for column in spec.columns for name, shape in column.inputs):
    if offered.get(name) != shape:
      raise ValueError(f"the network reads {name} {list(shape)}, but {place.name} offers {offered}; name another world")
