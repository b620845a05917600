"""Auxiliary heads: their loss by hand, what they teach, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs

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


def test_loss_is_half_the_mean_square():
  rng = np.random.default_rng(0)
  features, signal = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 5))
  kernel, bias = rng.normal(size=(4, 5)), rng.normal(size=5)
  params = ({auxiliary.NAME: {HEAD.name: [{"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}]}},)
  ours = auxiliary.loss(params, HEAD, jnp.float32(features), jnp.float32(signal))
  np.testing.assert_allclose(ours, 0.5 * ((features @ kernel + bias - signal) ** 2).mean(), rtol=1e-5)


def test_features_come_to_hold_the_signal():
  """If the head weighs most, memory learns to keep the cue: the error falls far below the prior's 1/8."""
  strong = (HEAD.replace(cost=100.0),)
  agent, trainable, frozen, played = make(heads=strong, value_cost=0.0, entropy_cost=0.0, learning_rate=1e-2)
  played = played.replace(timesteps=played.timesteps.replace(reward=jnp.zeros_like(played.timesteps.reward)))
  optimizer_state = actor_critic.init(agent, trainable)
  for _ in range(150):
    trainable, optimizer_state, metrics = actor_critic.update(agent, trainable, frozen, optimizer_state, played)
  assert metrics["auxiliary_cue_from_memory"] < 0.01


def test_gradient_reaches_the_layers_below_and_only_them():
  """The head changes no gradient above its layer, but some in its layer and below."""
  agent, trainable, frozen, played = make()
  gradient = jax.jit(jax.grad(lambda t, a: actor_critic.loss(t, frozen, a, played)[0]))
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
  [
    (auxiliary.Head("deepth", "memory", 1.0), "deepth.*cue"),
    (auxiliary.Head("cue", "fc", 1.0), "'fc'.*memory"),
    (auxiliary.Head("cue", "signal", 1.0), r"'signal' is none of the column's \['hidden', 'memory', 'output'\]"),
  ],
)
def test_unknown_signals_and_layers_are_refused(head, message):
  with pytest.raises(ValueError, match=message):
    make(heads=(head,))


def test_a_head_in_classes_is_a_softmax_for_each_entry_behind_a_hidden_layer():
  """By numpy: two entries of three classes, read through four hidden units."""
  rng = np.random.default_rng(0)
  head = auxiliary.Head("depth", "fc", 1.0, hidden=4, num_classes=3)
  features, signal = rng.normal(size=(3, 2, 5)), rng.integers(0, 3, (3, 2, 2))
  shapes = ((5, 4), (4, 6))
  layers = [{"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[1])} for shape in shapes]
  hidden = np.maximum(features @ layers[0]["kernel"] + layers[0]["bias"], 0)
  logits = (hidden @ layers[1]["kernel"] + layers[1]["bias"]).reshape(3, 2, 2, 3)
  probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  expected = -np.log(np.take_along_axis(probabilities, signal[..., None], -1)).mean()
  params = ({auxiliary.NAME: {head.name: jax.tree.map(jnp.float32, layers)}},)
  ours = auxiliary.loss(params, head, jnp.float32(features), jnp.int32(signal))
  np.testing.assert_allclose(ours, expected, rtol=1e-5)
  np.testing.assert_allclose(auxiliary.read(params, head, jnp.float32(features), (2,)), logits, rtol=1e-4)


def test_num_classes_must_match_the_signal():
  depth = specs.BoundedArray((4, 16), np.int32, 0, 7, name="depth")
  agent, params, _ = agents_for_tests.make(worlds.CueRecall())
  for num_classes in (7, 9):
    head = auxiliary.Head("depth", "memory", 1.0, num_classes=num_classes)
    with pytest.raises(ValueError, match=f"'depth' cannot be told in num_classes={num_classes}"):
      auxiliary.init(jax.random.key(0), agent.spec, params, (head,), {"depth": depth})
  heads = tuple(auxiliary.Head("depth", layer, 1.0, hidden=9, num_classes=8) for layer in ("hidden", "memory"))
  made = auxiliary.init(jax.random.key(0), agent.spec, params, heads, {"depth": depth})
  sizes = {name: [layer["kernel"].shape for layer in layers] for name, layers in made[0][auxiliary.NAME].items()}
  assert sizes == {f"depth_from_{layer}": [(32, 9), (9, 512)] for layer in ("hidden", "memory")}
  with pytest.raises(ValueError, match="must differ"):
    auxiliary.init(jax.random.key(0), agent.spec, params, (heads[0], heads[0]), {"depth": depth})


def test_head_costs_change_updates_without_recompiling():
  agent, trainable, frozen, played = make()
  num_programs = actor_critic.update._cache_size()
  hashes = set()
  for cost in (0.0, 1.0):
    same = agent.replace(auxiliary_heads=(HEAD.replace(cost=cost),))
    hashes.add(
      partition.content_hash(
        actor_critic.update(same, trainable, frozen, actor_critic.init(agent, trainable), played)[0]
      )
    )
  assert len(hashes) == 2 and actor_critic.update._cache_size() <= num_programs + 1
