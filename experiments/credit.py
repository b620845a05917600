"""How far back an action should get credit: the worth of a trained network's policy gradient, by T and lambda.

    python -m experiments.credit --source=runs/static_1/runs/03 --num_steps=20,50,300 --lambdas=0.8,0.95,1

For every unroll length and lambda it prints how many agent steps it takes until the gradient is as much signal as
noise, and the return of new episodes after the policy has followed the mean gradient for `--nats`. A gradient that many
steps agree on may still lead down: credit that is too short rewards whatever comes right before a reward
(docs/learning.md). Only worlds in JAX can be used. Rewards are scaled as in the network's training, and not clipped.
"""

import itertools
import pathlib

from absl import flags

from analysis import intervals
from experiments import binary
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.store import released, run_directory
from experiments.studies import credit

READS = (binary.SOURCE, binary.EPISODES, binary.SEED)  # Flags that other modules define.

_STEPS = flags.DEFINE_integer("sample_steps", 200_000, "Agent steps to take gradients from.", lower_bound=1)
_NUM_STEPS = flags.DEFINE_list("num_steps", ["20", "50", "300"], "Unroll lengths T.")
_LAMBDAS = flags.DEFINE_list("lambdas", ["0.8", "0.95", "1"], "Values of lambda, the mixing of n-step returns.")
_DISCOUNT = flags.DEFINE_float(
  "discount",
  None,
  "Discount of the returns; by default the one that the network learned with.",
  lower_bound=0.0,
  upper_bound=1.0,
)
_NATS = flags.DEFINE_float("nats", 0.05, "KL divergence by which the policy is moved, in nats.", lower_bound=1e-6)
_LINE = "{:>8}  {:>6}  {:>26}  {}"


def main() -> None:
  """Prints a line for each T and lambda."""
  if not binary.SOURCE.value:
    raise ValueError("--source is missing; give a run directory, one run of a sweep, or a released network")
  ways = list(itertools.product(_parsed(_NUM_STEPS, int, 1, 10**6), _parsed(_LAMBDAS, float, 0, 1)))
  folder = run_directory.present(binary.SOURCE.value)
  source, discount = released.load_source(folder), _discount(folder)
  world, options = released.trained_in(folder)
  task = learn.player(source, world, options, seed=binary.SEED.value)
  if not isinstance(task.place, place_lib.Simulation):
    raise ValueError(f"{world} is no world in JAX, and this many steps of it cannot be had; name a run in another")
  place = task.place
  print(f"{folder} in {world}, {_STEPS.value:,} steps, {_NATS.value:g} nats, {binary.EPISODES.value} episodes each")
  measured = credit.measure(
    task.agent,
    source.params,
    lambda num_worlds: place.batch(num_worlds, learn.input_names(task)),
    learn.make_key(binary.SEED.value, "credit"),
    steps=_STEPS.value,
    ways=ways,
    discount=discount,
    reward_scale=source.reward_scale or 1.0,
    nats=_NATS.value,
    episodes=binary.EPISODES.value,
  )
  print(_LINE.format("T", "lambda", "steps until signal = noise", "return"))
  for worth in measured:
    way = (
      [str(worth.num_steps), f"{worth.lambda_:g}", f"{worth.steps:,.0f}"] if worth.num_steps else ["as it is", "", ""]
    )
    mean = intervals.of_mean(worth.episodes.returns, bounds=place_lib.return_bounds(place))
    print(_LINE.format(*way, intervals.words(*(float(x) for x in mean), places=2)), flush=True)


def _discount(folder: pathlib.Path) -> float:
  if _DISCOUNT.value is not None:
    return _DISCOUNT.value
  known = released.hyper(folder, "discount")
  if known is None:
    raise ValueError(f"{folder} does not say what discount it learned with; give --discount, as 0.99")
  return known


def _parsed(flag: flags.FlagHolder, kind: type, least: float, most: float) -> list:
  """The numbers of a flag; raises ValueError if one is not a valid number."""
  try:
    numbers = [kind(one) for one in flag.value]
  except ValueError:
    numbers = []
  if not numbers or not all(least <= one <= most for one in numbers):
    words = "integers >= 1" if kind is int else "numbers in [0, 1]"
    raise ValueError(f"--{flag.name}={','.join(flag.value)} must be {words}, as {','.join(flag.default)}")
  return numbers


if __name__ == "__main__":
  binary.run(main, reads=READS)
