"""How a trained network uses its columns on its target: AFS and APS (Rusu et al. 2016, section 3.2, appendix A).

The trained policy plays. AFS differentiates its choices with respect to its activations. APS adds noise to the
activations and measures the score. `analysis.fisher` and `analysis.perturbation` hold the measures and know nothing
about agents; this module plays the world with the network for them. Parameters, noise and the place of the noise are
data: networks of one shape on one world share one program.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, evaluation, heads, unroll
from analysis import fisher, moments, perturbation
from environments import batch as batch_lib
from environments import core
from progressive import column, layers, network, partition

BATCH_SIZE = 128  # Samples that are differentiated at once.
SCALES = tuple(float(scale) for scale in np.geomspace(1e-3, 1e3, 13))  # A factor of the square root of 10 apart.


class NothingToLose(ValueError):
  """The network scores no better than the floor even without noise, so no noise can be critical."""


class Samples(NamedTuple):
  """N time steps at which the trained policy chose an action. Legend: `N` samples."""

  inputs: dict[str, Any]  # name -> [N, ...]
  state: network.State  # Every leaf [N, ...]: the recurrent state before the step.
  is_first: Any  # [N] bool


def features(spec: network.Network) -> tuple[moments.Place, ...]:
  """Every representation after its activation (papers.md 1.8), sorted: the order of a dictionary's keys in JAX.

  This leaves out outputs, and layers whose values are yet to be normalised.
  """
  return tuple(sorted((k, name) for k, name in network.layer_names(spec) if not _is_unfinished(spec.columns[k], name)))


def _is_unfinished(spec: column.Column, name: str) -> bool:
  """Whether a layer is the output, or has no activation and is read only by normalisation layers."""
  layer, readers = spec.layer(name), [one for one in spec.layers if name in one.inputs]
  has_activation = not isinstance(layer, layers.Activated) or layer.activation is not None
  return not has_activation and all(isinstance(one, layers.LayerNorm) for one in readers)


class Player(NamedTuple):
  """A trained network and its world: copies in JAX, or environments behind `dm_env`."""

  agent: actor_critic.Agent
  params: network.Params
  worlds: batch_lib.Batch | tuple[dm_env.Environment, ...]

  @property
  def places(self) -> tuple[moments.Place, ...]:
    """The network's `features`."""
    return features(self.agent.spec)

  @property
  def sides(self) -> tuple[Any, Any]:
    """(trainable, frozen); nothing is trainable here."""
    return partition.split(self.params, lambda path: False)


class Aps(NamedTuple):
  """Noise in every representation, and its effect on the score."""

  num_episodes: int  # At each scale.
  clean_score: float
  floor: float
  criticals: dict[moments.Place, perturbation.Critical]


def record(player: Player, key: jax.Array, *, num_samples: int, every: int) -> list[Samples]:
  """Plays until `num_samples` choices were seen, one in `every` steps of each world; equal batches, on the host.

  The last step of an episode is left out, because nothing is chosen there.

  Raises:
    ValueError: if the samples do not fill whole batches of `BATCH_SIZE`.
  """
  if num_samples % BATCH_SIZE or num_samples < BATCH_SIZE:
    raise ValueError(f"samples={num_samples} is no multiple of {BATCH_SIZE}, the samples differentiated at once")
  kept: list[Samples] = []
  steps = _play(player, key, every)
  while sum(len(one.is_first) for one in kept) < num_samples:
    kept.append(next(steps))
  together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *kept)
  starts = range(0, num_samples, BATCH_SIZE)
  return [jax.tree.map(lambda x, i=i: x[i : i + BATCH_SIZE], together) for i in starts]


def fisher_diagonals(player: Player, samples: Sequence[Samples]) -> dict[moments.Place, np.ndarray]:
  """The normalised Fisher diagonal of every representation, exact over actions: place -> `[D]`."""
  log_prob_fn, activations_fn = _functions(player.agent.spec, player.agent.num_choices, player.places)
  return fisher.diagonals(log_prob_fn, activations_fn, [(player.params, one) for one in samples])


def variances(player: Player, samples: Sequence[Samples]) -> dict[moments.Place, np.ndarray]:
  """The variance of every feature over the samples: place -> `[D]`."""
  _, activations_fn = _functions(player.agent.spec, player.agent.num_choices, player.places)
  return moments.variances(activations_fn, [(player.params, one) for one in samples])


def aps(
  player: Player,
  key: jax.Array,
  *,
  variance: dict[moments.Place, np.ndarray],
  scales: Sequence[float] = SCALES,
  floor: float,
  is_greedy: bool = False,
) -> Aps:
  """The critical noise of every representation; each world of the batch plays one episode per scale.

  Episodes with and without noise start the same and draw actions from the same random numbers. So noise in a
  representation that nothing reads leaves the score exactly unchanged.

  Args:
    player: has one world for each episode of the average (10 in the paper). Its worlds are in JAX: others never start
      the same.
    variance: place -> `[D]`, of every feature's activation on this world.
    scales: `[G]`, the rising grid, in units of that variance.
    floor: the score that counts as nothing.

  Raises:
    NothingToLose: if the network scores no better than the floor without noise.
    ValueError: if an episode does not end, or the scales do not rise.
  """
  assert isinstance(player.worlds, batch_lib.Batch)
  float_variance = {place: jnp.asarray(variance[place], jnp.float32) for place in player.places}
  all_scales = jnp.asarray([0.0, *scales], jnp.float32)
  criticals: dict[moments.Place, perturbation.Critical] = {}
  clean_score = np.nan
  for index, place in enumerate(player.places):
    returns, is_over = _noisy_returns(
      player.agent, player.params, player.worlds, key, jnp.int32(index), float_variance, all_scales, is_greedy
    )
    if not is_over.all():
      raise ValueError(f"{int((~is_over).sum())} episodes under noise in column {place[0]}, {place[1]} did not end")
    scores = np.asarray(returns, np.float64).mean(axis=1)
    clean_score = float(scores[0])
    if clean_score <= floor:
      raise NothingToLose(f"without noise it scores {clean_score:g}, no better than the floor {floor:g}")
    criticals[place] = perturbation.of_scores(scales, scores[1:], clean_score=clean_score, floor=floor)
  return Aps(player.worlds.num_worlds, clean_score, floor, criticals)


def _play(player: Player, key: jax.Array, every: int) -> Iterator[Samples]:
  """Yields what was seen at every `every`-th step, without end."""
  agent, worlds = player.agent, player.worlds
  world_key, key = jax.random.split(key)
  play: Any
  if isinstance(worlds, batch_lib.Batch):
    play, begun, num_worlds = unroll.unroll, batch_lib.begin(worlds, world_key), worlds.num_worlds
  else:
    play, begun, num_worlds = unroll.host_unroll, unroll.host_init(agent, worlds), len(worlds)
  carry = [begun, actor_critic.initial_state(agent, num_worlds)]
  while True:
    play_key, key = jax.random.split(key)
    *carry, played = play(agent, *player.sides, worlds, *carry, play_key, every)
    now = jax.tree.map(lambda x: x[0], played.timesteps)
    inputs = {name: now.observation[name] for name in network.input_names(agent.spec)}
    seen = Samples(inputs, played.initial_state, now.step_type == core.FIRST)
    is_choice = np.asarray(now.step_type != core.LAST)
    yield jax.tree.map(lambda x, keep=is_choice: np.asarray(x)[keep], seen)


@functools.cache
def _functions(
  spec: network.Network, num_choices: tuple[int, ...], places: tuple[moments.Place, ...]
) -> tuple[fisher.LogProbFn, Callable[[Any], moments.Activations]]:
  """(log-probabilities of all actions, activations), both functions of batches (params, samples)."""

  def run(batch: tuple[network.Params, Samples], additions: Any) -> network.Activations:
    params, samples = batch

    def one(sample: Samples, additions: Any) -> network.Activations:
      inputs, is_first, added = jax.tree.map(lambda x: x[None], (sample.inputs, sample.is_first, additions))
      activations, _ = network.apply(
        params, spec, inputs=inputs, state=sample.state, is_first=is_first, additions=added
      )
      return jax.tree.map(lambda x: x[0], activations)

    return jax.vmap(one)(samples, additions)

  def log_prob_fn(additions: moments.Activations, batch: Any) -> jax.Array:
    logits, _ = heads.split(run(batch, dict(additions))[-1][column.OUTPUT], num_choices)
    return jax.nn.log_softmax(logits)

  def activations_fn(batch: Any) -> moments.Activations:
    activations = run(batch, None)
    return {(k, layer): activations[k][layer] for k, layer in places}

  return log_prob_fn, activations_fn


@functools.partial(jax.jit, static_argnames=("batch", "is_greedy"))
def _noisy_returns(
  agent: actor_critic.Agent,
  params: network.Params,
  batch: batch_lib.Batch,
  key: jax.Array,
  place_index: jax.Array,
  variance: dict[moments.Place, jax.Array],
  scales: jax.Array,
  is_greedy: bool,
) -> tuple[jax.Array, jax.Array]:
  """Returns `[G, B]` of one episode in each world at each scale of noise, and whether each episode ended."""
  episode_key, noise_key = jax.random.split(key)
  sides = partition.split(params, lambda path: False)
  noise_fn = _noise_fn(agent.spec, tuple(sorted(variance)), batch.num_worlds)

  def play(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    additions_fn = jax.tree_util.Partial(noise_fn, noise_key, place_index, variance, scale)
    returns, _, is_over = evaluation.episode(
      agent, *sides, batch, episode_key, greedy=is_greedy, additions_fn=additions_fn
    )
    return returns, is_over

  return jax.vmap(play)(scales)


def _noise_fn(
  spec: network.Network, places: tuple[moments.Place, ...], num_worlds: int
) -> Callable[..., dict[moments.Place, jax.Array]]:
  """(key, index of a place, variances, scale, step) -> noise there, new at every step, and zeros elsewhere."""
  shapes = {(k, layer): (num_worlds, *column.shapes(spec.columns[k])[layer]) for k, layer in places}

  def draw(place: moments.Place, key: jax.Array, variance: Any, scale: jax.Array) -> dict[moments.Place, jax.Array]:
    zeros = {p: jnp.zeros(shape, jnp.float32) for p, shape in shapes.items()}
    return zeros | {place: perturbation.noise(key, shapes[place], variance[place], scale)}

  def noise_fn(
    key: jax.Array, place_index: jax.Array, variance: Any, scale: jax.Array, step: jax.Array
  ) -> dict[moments.Place, jax.Array]:
    branches = [functools.partial(draw, place) for place in places]
    return jax.lax.switch(place_index, branches, jax.random.fold_in(key, step), variance, scale)

  return noise_fn
