"""The worth of policy gradients by how far back they give credit, measured with a trained network that does not learn.

The gradient is that of the output layer's kernel and bias, which needs no backward pass: A_t d log pi(a_t) / d output_t
times the layer's inputs, averaged over an unroll of T steps of one world. So all unrolls and lambdas use the same
steps. The worth of a gradient shows when the policy follows it: the policy is moved along the mean gradient by a given
divergence, and played again in new episodes.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, distributions, evaluation, heads, losses, returns, trajectory, unroll
from analysis import credit
from environments import batch as batch_lib
from environments import core
from progressive import column, network, partition

_WORLDS, _AT_ONCE = 64, 100  # Worlds, and steps in each world that one program plays.
_HALVINGS = 60


class Steps(NamedTuple):
  """S consecutive steps of B worlds, numpy."""

  features: np.ndarray  # [S, B, F + 1] the output layer's inputs, and a 1 for its bias.
  score: np.ndarray  # [S, B, O] d log pi(a) / d output
  output: np.ndarray  # [S+1, B, O]
  timesteps: core.TimeStep  # Every leaf [S+1, B]; without observations and signals.


class Worth(NamedTuple):
  """The result of one way of giving credit."""

  num_steps: int  # T
  lambda_: float
  steps: float  # Agent steps until the gradient is as much signal as noise.
  episodes: evaluation.Episodes  # Of the policy that has followed the gradient.


def play(
  agent: actor_critic.Agent, params: network.Params, batch: batch_lib.Batch, key: jax.Array, steps: int
) -> Steps:
  """Plays at least `steps` steps of all worlds together."""
  num_chunks = -(-steps // (batch.num_worlds * _AT_ONCE))
  begin_key, *keys = jax.random.split(key, num_chunks + 1)
  now, chunks = (batch_lib.begin(batch, begin_key), actor_critic.initial_state(agent, batch.num_worlds)), []
  for chunk_key in keys:
    *now, seen = _chunk(agent, params, batch, *now, chunk_key)
    chunks.append(jax.tree.map(np.asarray, seen))
  features, score = (np.concatenate([getattr(one, name) for one in chunks]) for name in ("features", "score"))
  # A chunk ends where the next one begins.
  ends = [(one.output, one.timesteps) for one in chunks]
  begun, *rest = [jax.tree.map(lambda x: x[:1], ends[0]), *(jax.tree.map(lambda x: x[1:], one) for one in ends)]
  return Steps(features, score, *jax.tree.map(lambda *x: np.concatenate(x), begun, *rest))


@functools.partial(jax.jit, static_argnames="batch")
def _chunk(
  agent: actor_critic.Agent, params: network.Params, batch: batch_lib.Batch, begun: Any, state: Any, key: jax.Array
) -> tuple[Any, Any, Steps]:
  after, state, played = unroll.unroll(
    agent, *_sides(params), batch, begun, state, key, _AT_ONCE, keeps_activations=True
  )
  spec, own = agent.spec.columns[-1], played.activations[-1]
  layer = spec.layer(column.OUTPUT)
  inputs = [own[name] if name in own else played.timesteps.observation[name] for name in layer.inputs]
  read = jax.vmap(layer.join, in_axes=1, out_axes=1)(inputs)[:-1]
  output = own[column.OUTPUT]

  def log_prob(output: jax.Array) -> jax.Array:
    return jnp.sum(distributions.log_prob(heads.split(output, agent.num_choices)[0], played.actions))

  features = jnp.concatenate([read, jnp.ones_like(read[..., :1])], axis=-1)
  bare = played.timesteps.replace(observation={}, privileged={})
  return after, state, Steps(features, jax.grad(log_prob)(output[:-1]), output, bare)


def _sides(params: network.Params) -> tuple[Any, Any]:
  """(trainable, frozen) of a network that does not learn."""
  return partition.split(params, lambda path: False)


def gradients(steps: Steps, num_steps: int, lambda_: float, *, discount: float, reward_scale: float) -> np.ndarray:
  """`[n, (F + 1) O]`: for every whole unroll of `num_steps` steps of every world; returns by `returns.lambda_returns`.

  Raises:
    ValueError: if there is no whole unroll.
  """
  num_unrolls = len(steps.score) // num_steps
  if num_unrolls == 0:
    raise ValueError(f"num_steps={num_steps}: each world has {len(steps.score)} steps in all; give more --sample_steps")
  made = []
  for start in range(0, num_unrolls * num_steps, num_steps):
    own = slice(start, start + num_steps)
    timesteps = jax.tree.map(lambda x, start=start: x[start : start + num_steps + 1], steps.timesteps)
    values = steps.output[start : start + num_steps + 1, :, -1]
    timesteps = timesteps.replace(reward=np.float32(reward_scale) * timesteps.reward)
    targets = _targets(timesteps, values, jnp.float32(discount), jnp.float32(lambda_))
    weights = trajectory.weights(jnp.asarray(timesteps.step_type))
    advantages = np.asarray((targets - values[:-1]) * weights)
    made.append(np.einsum("tb,tbf,tbo->bfo", advantages, steps.features[own], steps.score[own], optimize=True))
  return np.concatenate(made).reshape(num_unrolls * steps.score.shape[1], -1) / num_steps


@jax.jit
def _targets(timesteps: core.TimeStep, values: jax.Array, discount: jax.Array, lambda_: jax.Array) -> jax.Array:
  own = functools.partial(returns.lambda_returns, discount=discount, lambda_=lambda_)
  return jax.vmap(own, in_axes=1, out_axes=1)(timesteps, values)


def moved(
  agent: actor_critic.Agent, params: network.Params, steps: Steps, direction: np.ndarray, nats: float
) -> network.Params:
  """The network whose output layer is moved along `direction` `[(F + 1) O]` until its policy is `nats` away.

  The distance is KL(before || after), a mean over the steps; 0 nats if the direction does not change the policy.
  """
  change = jnp.asarray(direction.reshape(steps.features.shape[-1], -1), jnp.float32)
  change = change / (jnp.linalg.norm(change) + 1e-30)
  every = max(1, len(steps.score) // 100)
  output = jnp.asarray(steps.output[:-1:every])
  turn = jnp.asarray(steps.features[::every]) @ change

  def divergence(length: float) -> float:
    return float(_divergence(output, output + jnp.float32(length) * turn, agent.num_choices))

  low, high = 0.0, 1.0
  while divergence(high) < nats and high < 1e6:
    high *= 2.0
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    low, high = (middle, high) if divergence(middle) < nats else (low, middle)
  own = params[-1][column.OUTPUT]
  output_layer = {**own, "kernel": own["kernel"] + low * change[:-1], "bias": own["bias"] + low * change[-1]}
  return (*params[:-1], {**params[-1], column.OUTPUT: output_layer})


@functools.partial(jax.jit, static_argnames="num_choices")
def _divergence(output: jax.Array, other: jax.Array, num_choices: tuple[int, ...]) -> jax.Array:
  before, after = (heads.split(one, num_choices)[0] for one in (output, other))
  return losses.divergence(before, after, jnp.ones(output.shape[:-1]))


def measure(
  agent: actor_critic.Agent,
  params: network.Params,
  make_batch: Any,
  key: jax.Array,
  *,
  steps: int,
  ways: list[tuple[int, float]],
  discount: float,
  reward_scale: float,
  nats: float,
  episodes: int,
) -> Iterator[Worth]:
  """The result of each of `ways` (T, lambda); the first result, (0, 0), is the unchanged network.

  Args:
    agent, params: the network's.
    make_batch: number of worlds -> batch.
    key: for worlds and actions; all policies play the same episodes.
    steps: agent steps from which gradients are taken.
    ways: unroll lengths and lambdas.
    discount, reward_scale: those with which the network has learned.
    nats: how far the policy is moved.
    episodes: number for each policy, to measure its worth.
  """
  play_key, test_key = jax.random.split(key)
  test = functools.partial(evaluation.evaluate, batch=make_batch(episodes), key=test_key)
  yield Worth(0, 0.0, 0.0, test(agent, *_sides(params)))
  seen = play(agent, params, make_batch(_WORLDS), play_key, steps)
  for num_steps, lambda_ in ways:
    found = credit.of_samples(gradients(seen, num_steps, lambda_, discount=discount, reward_scale=reward_scale))
    after = moved(agent, params, seen, found.mean, nats)
    yield Worth(num_steps, lambda_, found.noise_scale * num_steps, test(agent, *_sides(after)))
