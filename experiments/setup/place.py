"""Where something is learned or played: copies of a world in JAX, or environments behind `dm_env`.

Both show the same: what is observed, what an action is, which signals auxiliary heads may be trained on. What differs
(one batch inside a jit, or steps on the host) is known to `running.actors` and `running.play` alone.
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

_DEFAULT_CONTROL_DT_S = 0.1  # Of worlds that do not say.


@dataclasses.dataclass(frozen=True, eq=False)
class Simulation:
  """A world in JAX, of which a batch has as many copies as are asked for."""

  name: str
  world: core.Environment

  def signal_spec(self) -> Mapping[str, specs.Array]:
    """What auxiliary heads may be trained on: all that is observed, and what no policy may read."""
    return {**self.world.observation_spec(), **self.world.privileged_spec()}

  def batch(self, num_worlds: int, observations: Iterable[str], signals: Iterable[str] = ()) -> batch_lib.Batch:
    """`num_worlds` copies that show these alone."""
    return batch_lib.Batch(self.world, num_worlds, tuple(observations), tuple(signals))

  def close(self) -> None:
    """Nothing of it is open."""


@dataclasses.dataclass(frozen=True, eq=False)
class Host:
  """Environments behind `dm_env`: an arm behind its bridge, games of the emulator, some of a user's own."""

  name: str
  world: dm_env.Environment
  others: tuple[dm_env.Environment, ...] = ()  # Made alike, but for their seeds.

  @property
  def worlds(self) -> tuple[dm_env.Environment, ...]:
    """All of them; evaluations are played in the first."""
    return (self.world, *self.others)

  def signal_spec(self) -> Mapping[str, specs.Array]:
    """What auxiliary heads may be trained on: what is observed."""
    return self.world.observation_spec()

  def close(self) -> None:
    """Closes all of them: arms are left, twins end."""
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
  """The place called `name`, of `num_worlds` environments where it is behind `dm_env`.

  `observations` are those that will be read, None for all: a world behind `dm_env` may leave the others out. Who goes
  on at `first_step` begins other episodes there than at step 0. In JAX they come from keys: a seed shapes the world.

  Raises:
    ValueError: for more worlds than there can be, or as `registry.make` for an unknown name or option.
  """
  for key in {"seed", "observations"} & options.keys():
    raise ValueError(f'"{name}" has no option "{key}": seed and inputs of whoever plays there say it')
  shown = None if observations is None else tuple(sorted(set(observations)))
  make_one = functools.partial(registry.make, name, observations=shown, **options)
  own_seed = int(np.random.SeedSequence((seed, first_step)).generate_state(1)[0] >> 1) if first_step else seed
  world = make_one(seed=own_seed)
  if not isinstance(world, dm_env.Environment):
    return Simulation(name, make_one(seed=seed) if first_step else world)
  if num_worlds > 1 and getattr(world, "is_unique", False):
    world.close()
    raise ValueError(f"train.num_worlds={num_worlds}: {name} is one arm; set train.num_worlds=1")
  seeds = np.random.SeedSequence(own_seed).generate_state(num_worlds - 1) >> 1  # An emulator takes 31 bits.
  return Host(name, world, tuple(make_one(seed=int(one)) for one in seeds))


def num_choices(place: Place) -> tuple[int, ...]:
  """Number of values of each entry of an action."""
  return core.num_choices(place.world.action_spec())


def frames_per_s(place: Place) -> float:
  """At which a video runs as fast as the world does."""
  return 1.0 / getattr(place.world, "control_dt_s", _DEFAULT_CONTROL_DT_S)


def return_bounds(place: Place) -> tuple[float, float]:
  """The lowest and the highest return of an episode; infinite where the world does not say."""
  return getattr(place.world, "return_bounds", (-float("inf"), float("inf")))


def described(place: Place) -> dict[str, Any]:
  """What of a place a network cannot be without elsewhere, and its own file does not say.

  `num_choices` of each entry of an action: outputs of one size are cut otherwise by others. `pixels`: observations that
  are uint8, and divided by 255.
  """
  pixels = [name for name, one in place.world.observation_spec().items() if one.dtype == np.uint8]
  return {"num_choices": list(num_choices(place)), "pixels": sorted(pixels)}


def check_alike(place: Place, spec: network.Network, learned_in: Mapping[str, Any] | None, *, acts: bool) -> None:
  """Refuses a place whose pixels, or actions where the network `acts` there, are of another kind than it has learned.

  Args:
    learned_in: `described` of where it has learned; None, of older networks: nothing is known.

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
