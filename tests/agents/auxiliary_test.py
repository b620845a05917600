"""Auxiliary heads: their loss by hand, what they teach, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import actor_critic, auxiliary, unroll
from environments import batch
from progressive import partition
from tests.agents import agents_for_tests, worlds

HEAD = auxiliary.Head("cue", "memory", 1.0)


def make(heads=(HEAD,), **hyper):
  """(agent, trainable, frozen, a trajectory of 5 steps in 16 worlds) with the heads on a recurrent column."""
  world = worlds.CueRecall()
  agent, params, _ = agents_for_tests.make(world, memory=True, **hyper)
  agent = agent.replace(auxiliary_heads=heads)
  params = auxiliary.init(jax.random.key(1), agent.spec, params, heads, world.privileged_spec())
  trainable, frozen = partition.split(params, lambda path: True)
  side_by_side = batch.Batch(world, 16, ("signal",), ("cue",))
  state = side_by_side.init(jax.random.key(2))
  recurrent = actor_critic.initial_state(agent, 16)
  played = unroll.unroll(agent, trainable, frozen, side_by_side, state, recurrent, jax.random.key(3), 5)[2]
  return agent, trainable, frozen, played


def test_loss_is_half_the_weighted_mean_square():
  rng = np.random.default_rng(0)
  features, signal = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 5))
  kernel, bias, weights = rng.normal(size=(4, 5)), rng.normal(size=5), np.array([[1, 0], [1, 1], [0, 1]])
  params = ({auxiliary.NAME: {"cue": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}},)
  squares = ((features @ kernel + bias - signal) ** 2).mean(-1)
  ours = auxiliary.loss(params, HEAD, jnp.float32(features), jnp.float32(signal), jnp.float32(weights))
  np.testing.assert_allclose(ours, 0.5 * (squares * weights).sum() / weights.sum(), rtol=1e-5)


def test_features_come_to_hold_the_signal():
  """Where it weighs most, memory learns to keep the cue: the error falls far below the prior's 1/8."""
  strong = (HEAD._replace(cost=100.0),)
  agent, trainable, frozen, played = make(heads=strong, value_cost=0.0, entropy_cost=0.0, learning_rate=1e-2)
  played = played.replace(timesteps=played.timesteps.replace(reward=jnp.zeros_like(played.timesteps.reward)))
  optimizer_state = actor_critic.init(agent, trainable)
  for _ in range(150):
    trainable, optimizer_state, metrics = actor_critic.update(agent, trainable, frozen, optimizer_state, played)
  assert metrics["auxiliary_cue"] < 0.01


def test_gradient_reaches_the_layers_below_and_only_them():
  """The difference that the head makes: nothing above its layer, something in it and below."""
  agent, trainable, frozen, played = make()
  gradient = jax.grad(lambda t, a: actor_critic.loss(t, frozen, a, played)[0])
  with_head = gradient(trainable, agent)[0]
  without = gradient(trainable, agent.replace(auxiliary_heads=()))[0]
  for layer, is_taught in (("hidden", True), ("memory", True), ("output", False)):
    pairs = zip(jax.tree.leaves(with_head[layer]), jax.tree.leaves(without[layer]), strict=True)
    assert any(np.abs(a - b).max() > 1e-6 for a, b in pairs) == is_taught, layer


def test_policy_never_reads_a_head():
  agent, trainable, frozen, played = make()
  first = jax.tree.map(lambda x: x[0], played.timesteps)
  recurrent = actor_critic.initial_state(agent, 16)
  changed = ({**trainable[0], auxiliary.NAME: jax.tree.map(lambda x: x + 1.0, trainable[0][auxiliary.NAME])},)
  ours, theirs = (
    actor_critic.act(agent, params, frozen, recurrent, first, jax.random.key(4)) for params in (trainable, changed)
  )
  np.testing.assert_array_equal(ours.log_prob, theirs.log_prob)


@pytest.mark.parametrize(
  ("head", "message"),
  [(auxiliary.Head("deepth", "memory", 1.0), "deepth.*cue"), (auxiliary.Head("cue", "fc", 1.0), "'fc'.*memory")],
)
def test_unknown_signals_and_layers_are_refused(head, message):
  with pytest.raises(ValueError, match=message):
    make(heads=(head,))
