import jax
import numpy as np

from agents import actor_critic, evaluation, trajectory, unroll
from environments import batch as batch_lib
from environments import core, dm_env_adapter
from tests.agents import agents_for_tests, worlds


def _both(world, *, num_unrolls, num_steps, num_worlds=2):
  """Plays one agent with the same keys in JAX worlds and behind dm_env. Returns the last unroll of each."""
  agent, trainable, frozen = agents_for_tests.make(world)
  batch = batch_lib.Batch(world, num_worlds, ("signal",))
  environments = [dm_env_adapter.DmEnv(world, seed=i) for i in range(num_worlds)]
  jax_carry = batch.init(jax.random.key(0)), actor_critic.initial_state(agent, num_worlds)
  host_carry = unroll.host_init(agent, environments), actor_critic.initial_state(agent, num_worlds)
  for seed in range(num_unrolls):
    key = jax.random.key(seed)
    both = {"key": key, "num_steps": num_steps, "keeps_activations": True}
    *jax_carry, in_jax = unroll.unroll(agent, trainable, frozen, batch, *jax_carry, **both)
    *host_carry, on_host = unroll.host_unroll(agent, trainable, frozen, environments, *host_carry, **both)
  return agent, trainable, frozen, in_jax, on_host


def test_host_and_jax_unrolls_are_the_same():
  """Across episode ends, with a carried state, in a world without chance: the chain shows nothing that it draws.

  The chain shows the last action, so a wrong action or a wrong order would show.
  """
  *_, in_jax, on_host = _both(worlds.Chain(terminates=True), num_unrolls=2, num_steps=7)
  assert jax.tree.structure(in_jax) == jax.tree.structure(on_host)
  for expected, actual in zip(jax.tree.leaves(in_jax), jax.tree.leaves(on_host), strict=True):
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
  assert {core.FIRST, core.MID, core.LAST} == set(np.unique(on_host.timesteps.step_type))
  assert len(np.unique(on_host.actions)) == 2


def test_an_update_accepts_jax_and_host_unrolls():
  agent, trainable, frozen, in_jax, on_host = _both(worlds.Chain(), num_unrolls=1, num_steps=7)
  optimizer_state = actor_critic.init(agent, trainable)
  expected, _, _ = actor_critic.update(agent, trainable, frozen, optimizer_state, in_jax)
  actual, _, _ = actor_critic.update(agent, trainable, frozen, optimizer_state, on_host)
  jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=1e-5), actual, expected)


def test_unrolls_follow_each_other_without_a_gap():
  """Two unrolls of 3 steps see what one unroll of 6 sees: the last timestep of the first begins the second."""
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make(world)
  batch = batch_lib.Batch(world, 4, ("signal",))
  carry = batch.init(jax.random.key(0)), actor_critic.initial_state(agent, 4)

  def play(carry):
    return unroll.unroll(agent, trainable, frozen, batch, *carry, jax.random.key(1), 3, greedy=True)

  *middle, first = play(carry)
  *end, second = play(middle)
  *whole_end, whole = unroll.unroll(agent, trainable, frozen, batch, *carry, jax.random.key(1), 6, greedy=True)
  for a, b, c in zip(*(jax.tree.leaves(t.timesteps) for t in (first, second, whole)), strict=True):
    np.testing.assert_array_equal(np.concatenate([a, b[1:]]), c)
  for a, b in zip(jax.tree.leaves(end[1]), jax.tree.leaves(whole_end[1]), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  # The recurrent state is carried, not begun anew: the second unroll starts with what the first one remembered.
  assert all(np.abs(x).min(axis=0).max() > 1e-3 for x in jax.tree.leaves(second.initial_state))
  log_probs = np.concatenate([first.behaviour_log_prob, second.behaviour_log_prob])
  np.testing.assert_allclose(log_probs, whole.behaviour_log_prob, atol=1e-6)


def test_running_means_of_episodes_equal_evaluated_ones():
  world = worlds.Chain(length=3)
  agent, trainable, frozen, _, on_host = _both(world, num_unrolls=1, num_steps=8)
  _, ends = trajectory.track_episodes(trajectory.init_progress(2), on_host.timesteps)
  episodes = trajectory.statistics(ends)
  # 8 transitions: 3 of an episode, 1 between, 3 of the next, 1 between.
  assert (int(episodes.num_episodes), float(episodes.return_sum), int(episodes.length_sum)) == (4, 12.0, 12)
  environment = dm_env_adapter.DmEnv(world, seed=0)
  ended = []
  played = evaluation.host_evaluate(
    agent,
    trainable,
    frozen,
    environment,
    jax.random.key(0),
    num_episodes=2,
    on_end=lambda *one: ended.append(one),
  )
  assert ended == [(0, 3.0), (1, 3.0)]
  np.testing.assert_array_equal(played.returns, [3.0, 3.0])
  np.testing.assert_array_equal(played.lengths, [3, 3])
