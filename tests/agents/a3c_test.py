"""The batched learner against numpy: A3C's worker (Mnih et al. 2016, algorithm S3) where it sums, and PPO's passes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents import actor_critic, trajectory, unroll
from environments import batch as batch_lib
from environments import core
from progressive import partition
from tests.agents import agents_for_tests, worlds

A3C = dict(
  reduction="sum", optimizer="rmsprop", second_moment_decay=0.99, lambda_=1.0, value_cost=0.5, entropy_cost=0.01
)
LAYERS = ("hidden", "memory", "output")


def forward(params, observations):
  """Returns both hidden layers, logits and values, over time."""
  (w1, b1), (w2, b2), (w3, b3) = ((params[name]["kernel"], params[name]["bias"]) for name in LAYERS)
  h1 = np.maximum(observations @ w1 + b1, 0.0)
  h2 = np.maximum(h1 @ w2 + b2, 0.0)
  out = h2 @ w3 + b3
  return h1, h2, out[:, :-1], out[:, -1]


def estimates_of(params, played, *, discount):
  """Returns up to the end of the unroll or the episode, and advantages, `[T]` each."""
  observations, _, rewards, step_types, discounts = played
  values = forward(params, observations)[-1]
  returns = values[:-1].copy()
  value = values[-1]  # Bootstrapped: R <- V(s_T), or what the end of an episode gives.
  for t in reversed(range(len(returns))):
    if step_types[t] == core.LAST:  # The transition to the next episode's first step.
      value = values[t]
      continue
    after = values[t + 1] if step_types[t + 1] == core.LAST else value
    returns[t] = value = rewards[t + 1] + discount * discounts[t + 1] * after
  return returns, returns - values[:-1]


def gradient_of(params, played, returns, advantages, *, entropy_cost, value_cost):
  """A worker's gradient, summed over its unroll of T steps, by backpropagation written out."""
  observations, actions, _, step_types, _ = played
  h1, h2, logits, values = forward(params, observations)
  d_out = np.zeros((len(observations), logits.shape[1] + 1))
  for t in range(len(actions)):
    if step_types[t] == core.LAST:
      continue
    p = probabilities(logits[t])
    chosen = np.eye(len(p))[actions[t]]
    entropy = -np.sum(p * np.log(p))
    d_out[t, :-1] = -(chosen - p) * advantages[t] + entropy_cost * p * (np.log(p) + entropy)
    d_out[t, -1] = -value_cost * (returns[t] - values[t])  # The gradient of 1/2 (R - V)^2, times 0.5.
  d_h2 = (d_out @ params[LAYERS[2]]["kernel"].T) * (h2 > 0)
  d_h1 = (d_h2 @ params[LAYERS[1]]["kernel"].T) * (h1 > 0)
  pairs = ((observations, d_h1), (h1, d_h2), (h2, d_out))
  return {name: {"kernel": x.T @ d, "bias": d.sum(axis=0)} for name, (x, d) in zip(LAYERS, pairs, strict=True)}


def probabilities(logits):
  p = np.exp(logits - logits.max())
  return p / p.sum()


def of_world(played, b):
  """Observations, actions, rewards, step types and discounts of one world."""
  t = jax.tree.map(np.asarray, played.timesteps)
  actions = np.asarray(played.actions)[:, b, 0]
  return t.observation["signal"][:, b], actions, t.reward[:, b], t.step_type[:, b], t.discount[:, b]


def twelve_steps(agent, trainable, frozen, world, num_worlds):
  """An unroll from the first steps of `num_worlds` episodes."""
  batch = batch_lib.Batch(world, num_worlds, ("signal",))
  begun = batch.init(jax.random.key(1)), actor_critic.initial_state(agent, num_worlds), jax.random.key(2), 12
  return unroll.unroll(agent, trainable, frozen, batch, *begun)[2]


class Worker:
  """Parameters and the shared statistics of A3C's RMSProp."""

  def __init__(self, params, *, learning_rate, epsilon, max_norm, num_updates, decay=0.99):
    self.params = jax.tree.map(np.float64, params)
    self.g = jax.tree.map(np.zeros_like, self.params)
    self.rate, self.epsilon, self.max_norm, self.num_updates, self.decay = (
      learning_rate, epsilon, max_norm, num_updates, decay
    )  # fmt: skip
    self.count = 0

  def apply(self, gradient):
    norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(gradient)))
    d = jax.tree.map(lambda x: x * min(1.0, self.max_norm / norm), gradient)
    rate = self.rate * max(self.num_updates - self.count, 0) / self.num_updates
    self.g = jax.tree.map(lambda g, d: self.decay * g + (1 - self.decay) * d**2, self.g, d)
    self.params = jax.tree.map(lambda p, g, d: p - rate * d / np.sqrt(g + self.epsilon), self.params, self.g, d)
    self.count += 1
    return norm


@pytest.mark.parametrize("num_worlds", [1, 3])
@pytest.mark.parametrize("max_norm", [40.0, 0.5])
def test_summed_updates_are_those_of_workers_in_numpy(num_worlds, max_norm):
  world, num_updates, epsilon = worlds.CueRecall(), 6, 0.1
  agent, trainable, frozen = agents_for_tests.make(
    world, memory=False, learning_rate=0.05, epsilon=epsilon, max_gradient_norm=max_norm, anneal_updates=20.0, **A3C
  )
  batch = batch_lib.Batch(world, num_worlds, ("signal",))
  batch_state, state = batch.init(jax.random.key(1)), actor_critic.init(agent, trainable)
  recurrent = actor_critic.initial_state(agent, num_worlds)
  worker = Worker(trainable[0], learning_rate=0.05, epsilon=epsilon, max_norm=max_norm, num_updates=20)
  before = trainable
  for key in jax.random.split(jax.random.key(2), num_updates):
    batch_state, recurrent, played = unroll.unroll(agent, trainable, frozen, batch, batch_state, recurrent, key, 7)
    trainable, state, metrics = actor_critic.update(agent, trainable, frozen, state, played)
    seen = worker.params  # All workers use these: none has seen the others' steps.
    norms = []
    for b in range(num_worlds):
      own = of_world(played, b)
      estimates = estimates_of(seen, own, discount=0.97)
      norms.append(worker.apply(gradient_of(seen, own, *estimates, entropy_cost=0.01, value_cost=0.5)))
    np.testing.assert_allclose(metrics["gradient_norm"], np.mean(norms), rtol=1e-4)
    np.testing.assert_allclose(metrics["clipped"], np.mean(np.array(norms) > max_norm), rtol=1e-6)
  for mine, theirs in zip(jax.tree.leaves(trainable[0]), jax.tree.leaves(worker.params), strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-6)
  moved = max(float(abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (before, trainable)), strict=True))
  assert moved > 1e-2  # There was something to compare.


@pytest.mark.parametrize("epochs, minibatches, has_unit", [(3, 1, False), (1, 2, False), (4, 3, False), (4, 3, True)])
def test_passes_over_an_unroll_are_those_of_ppo_in_numpy(epochs, minibatches, has_unit):
  world, num_worlds, clip_ratio = worlds.CueRecall(), 6, 0.02
  agent, trainable, frozen = agents_for_tests.make(
    world, memory=False, learning_rate=0.02, epsilon=0.1, max_gradient_norm=0.3, anneal_updates=100.0,
    epochs=epochs, minibatches=minibatches, clip_ratio=clip_ratio, has_unit_advantages=has_unit,
    **{**A3C, "reduction": "mean"},
  )  # fmt: skip
  batch = batch_lib.Batch(world, num_worlds, ("signal",))
  batch_state, state = batch.init(jax.random.key(1)), actor_critic.init(agent, trainable)
  recurrent = actor_critic.initial_state(agent, num_worlds)
  worker = Worker(trainable[0], learning_rate=0.02, epsilon=0.1, max_norm=0.3, num_updates=100)
  num_beyond = 0
  for key in jax.random.split(jax.random.key(2), 3):
    batch_state, recurrent, played = unroll.unroll(agent, trainable, frozen, batch, batch_state, recurrent, key, 7)
    trainable, state, metrics = actor_critic.update(agent, trainable, frozen, state, played)
    owns = [of_world(played, b) for b in range(num_worlds)]
    estimates = [estimates_of(worker.params, own, discount=0.97) for own in owns]
    norms = []
    for first in list(range(minibatches)) * epochs:
      gradients, count = [], 0
      counted = [estimates[b][1][owns[b][3][:-1] != core.LAST] for b in range(first, num_worlds, minibatches)]
      mean, deviation = (np.mean(np.concatenate(counted)), np.std(np.concatenate(counted))) if has_unit else (0.0, 1.0)
      for b in range(first, num_worlds, minibatches):
        logits, actions = forward(worker.params, owns[b][0])[2][:-1], owns[b][1]
        chosen = np.array([probabilities(x)[action] for x, action in zip(logits, actions, strict=True)])
        ratios, (returns, advantages) = chosen / np.exp(played.behaviour_log_prob[:, b]), estimates[b]
        advantages = (advantages - mean) / deviation
        is_beyond = np.where(advantages > 0, ratios > 1 + clip_ratio, ratios < 1 - clip_ratio)
        weighed = np.where(is_beyond, 0.0, ratios * advantages)  # The surrogate's gradient with respect to log pi.
        gradients.append(gradient_of(worker.params, owns[b], returns, weighed, entropy_cost=0.01, value_cost=0.5))
        count += np.sum(owns[b][3][:-1] != core.LAST)
        num_beyond += is_beyond.sum()
      norms.append(worker.apply(jax.tree.map(lambda *each, n=count: sum(each) / n, *gradients)))
    np.testing.assert_allclose(metrics["gradient_norm"], np.mean(norms), rtol=1e-4)
  assert num_beyond or epochs * minibatches < 4  # The bound had an effect.
  for mine, theirs in zip(jax.tree.leaves(trainable[0]), jax.tree.leaves(worker.params), strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-6)


def test_metrics_are_those_of_numpy():
  world, num_worlds = worlds.CueRecall(), 3
  agent, trainable, frozen = agents_for_tests.make(world, memory=False, **{**A3C, "reduction": "mean"})
  played = twelve_steps(agent, trainable, frozen, world, num_worlds)
  said = actor_critic.update(agent, trainable, frozen, actor_critic.init(agent, trainable), played)[2]
  params, steps = jax.tree.map(np.float64, trainable[0]), []
  for b in range(num_worlds):
    own = of_world(played, b)
    returns, advantages = estimates_of(params, own, discount=0.97)
    for t in np.flatnonzero(own[3][:-1] != core.LAST):
      p = probabilities(forward(params, own[0])[2][t])
      log_p = np.log(p)
      steps.append(
        (returns[t], returns[t] - advantages[t], advantages[t], -log_p[own[1][t]], -p @ log_p, own[2][t + 1])
      )
  targets, values, advantages, surprise, entropy, rewards = np.array(steps).T
  expected = {
    "loss": np.mean(surprise * advantages + 0.5 * 0.5 * advantages**2 - 0.01 * entropy),
    "value_loss": np.mean(0.5 * advantages**2),
    "entropy": np.mean(entropy),
    "value": np.mean(values),
    "reward": np.mean(rewards),
    "explained_variance": 1.0 - np.var(advantages) / np.var(targets),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(said[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_fan_in_slows_the_kernels_of_many_inputs():
  world, steps = worlds.CueRecall(), {}
  for fan_in in (float("inf"), 4.0):
    agent, trainable, frozen = agents_for_tests.make(
      world, memory=False, fan_in=fan_in, **{**A3C, "reduction": "mean", "optimizer": "adam"}
    )
    played = twelve_steps(agent, trainable, frozen, world, 3)
    after, *_ = actor_critic.update(agent, trainable, frozen, actor_critic.init(agent, trainable), played)
    steps[fan_in] = jax.tree.map(lambda new, old: np.asarray(new - old), after, trainable)[0]
  for name in LAYERS:
    free, slow = (one[name] for one in steps.values())
    num_inputs = free["kernel"].shape[0]
    np.testing.assert_allclose(slow["kernel"], free["kernel"] * min(1.0, 4.0 / num_inputs), rtol=1e-2, atol=1e-7)
    np.testing.assert_array_equal(slow["bias"], free["bias"])
  assert steps[4.0]["memory"]["kernel"].shape[0] > 4


def test_minibatches_that_do_not_divide_the_worlds_are_refused():
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make(world, memory=False, minibatches=4)
  played = twelve_steps(agent, trainable, frozen, world, 6)
  with pytest.raises(ValueError, match="minibatches=4: 6 worlds cannot be dealt out to so many"):
    actor_critic.update(agent, trainable, frozen, actor_critic.init(agent, trainable), played)


def test_metrics_are_those_of_the_whole_batch():
  """A batch's metrics before the first step are the same whether it is summed or not, in one step or several."""
  world = worlds.CueRecall()
  said = {}
  ways = {"mean": {"reduction": "mean"}, "sum": {}, "passes": {"reduction": "mean", "epochs": 2, "minibatches": 5}}
  for way, hyper in ways.items():
    agent, trainable, frozen = agents_for_tests.make(world, memory=True, **{**A3C, **hyper})
    played = twelve_steps(agent, trainable, frozen, world, 5)
    assert np.ptp(np.asarray(trajectory.weights(played.timesteps.step_type)).sum(axis=0)) == 0  # Worlds weigh the same.
    said[way] = actor_critic.update(agent, trainable, frozen, actor_critic.init(agent, trainable), played)[2]
  assert said["sum"].keys() == said["mean"].keys() == said["passes"].keys()
  for name, value in said["mean"].items():
    if not name.startswith(("step/", "gradient_norm", "clipped")):
      for way in ("sum", "passes"):
        np.testing.assert_allclose(said[way][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("way", ["mean", "sum", "passes"])
def test_kept_activations_do_not_change_updates(way):
  world = worlds.CueRecall()
  hyper = {"mean": {"reduction": "mean"}, "sum": {}, "passes": {"reduction": "mean", "epochs": 2, "minibatches": 3}}
  agent, trainable, frozen = agents_for_tests.make_progressive(world, **{**A3C, **hyper[way], "learning_rate": 0.02})
  batch = batch_lib.Batch(world, 6, ("signal",))
  start, state = actor_critic.initial_state(agent, 6), actor_critic.init(agent, trainable)
  begun = batch.init(jax.random.key(1)), start, jax.random.key(2), 12
  played = unroll.unroll(agent, trainable, frozen, batch, *begun, keeps_activations=True)[2]
  assert [set(of_one) for of_one in played.activations] == [{"hidden", "memory", "output"}] * 2
  expected = actor_critic.update(agent, trainable, frozen, state, played.replace(activations=()))
  jax.tree.map(
    lambda mine, theirs: np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5),
    actor_critic.update(agent, trainable, frozen, state, played),
    expected,
  )
  # Every pass reads the frozen column's activations, and at most the first pass those of the column that learns.
  bent = jax.tree.map(lambda x: x + 1, played.activations)
  others = actor_critic.update(agent, trainable, frozen, state, played.replace(activations=(bent[0], {})))[0]
  assert optax.global_norm(jax.tree.map(jnp.subtract, others, expected[0])) > 1e-3


def test_output_only_training_reuses_activations_in_every_pass():
  world = worlds.CueRecall()
  hyper = {**A3C, "reduction": "mean", "epochs": 2, "minibatches": 3, "learning_rate": 0.02}
  agent, *params = agents_for_tests.make_progressive(world, **hyper)
  trainable, frozen = partition.split(partition.merge(*params), lambda path: path[:2] == (1, "output"))
  batch = batch_lib.Batch(world, 6, ("signal",))
  begun = batch.init(jax.random.key(1)), actor_critic.initial_state(agent, 6), jax.random.key(2), 12
  played = unroll.unroll(agent, trainable, frozen, batch, *begun, keeps_activations=True)[2]
  state = actor_critic.init(agent, trainable)

  def learned(activations):
    return actor_critic.update(agent, trainable, frozen, state, played.replace(activations=activations))[0]

  expected = learned(())
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), learned(played.activations), expected
  )
  first, newest = played.activations  # Returns come from the recorded output, steps from the layers below.
  bent = learned((first, {**newest, "memory": newest["memory"] + 1}))
  assert optax.global_norm(jax.tree.map(jnp.subtract, bent, expected)) > 1e-3
