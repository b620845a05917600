import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

from agents import actor_critic, auxiliary, evaluation, heads, trajectory, unroll
from environments import batch as batch_lib
from environments import core
from progressive import network, partition
from tests.agents import agents_for_tests, worlds


def _learn(agent, trainable, frozen, world, *, num_updates, num_steps=20, num_worlds=32, seed=0):
  """Trains from scratch in one jitted scan. Returns the last tenth's mean episode return, and the parameters."""
  batch = batch_lib.Batch(world, num_worlds, ("signal",))

  def one(carry, key):
    trainable, optimizer_state, batch_state, recurrent, progress = carry
    batch_state, recurrent, played = unroll.unroll(
      agent, trainable, frozen, batch, batch_state, recurrent, key, num_steps
    )
    trainable, optimizer_state, _ = actor_critic.update(agent, trainable, frozen, optimizer_state, played)
    progress, ends = trajectory.track_episodes(progress, played.timesteps)
    episodes = trajectory.statistics(ends)
    return (trainable, optimizer_state, batch_state, recurrent, progress), episodes

  world_key, key = jax.random.split(jax.random.key(seed))
  start = (
    trainable,
    actor_critic.init(agent, trainable),
    batch.init(world_key),
    actor_critic.initial_state(agent, num_worlds),
    trajectory.init_progress(num_worlds),
  )
  end, episodes = jax.jit(functools.partial(jax.lax.scan, one))(start, jax.random.split(key, num_updates))
  last = jax.tree.map(lambda x: float(x[-num_updates // 10 :].sum()), episodes)
  return last.return_sum / last.num_episodes, end[0]


def _played(agent, trainable, frozen, world, *, num_steps=12, num_worlds=3, seed=7):
  batch = batch_lib.Batch(world, num_worlds, ("signal",), ("cue",))
  state_key, key = jax.random.split(jax.random.key(seed))
  state = actor_critic.initial_state(agent, num_worlds)
  return unroll.unroll(agent, trainable, frozen, batch, batch.init(state_key), state, key, num_steps)[2]


@functools.partial(jax.jit, static_argnums=0)
def _gradient(agent, trainable, frozen, played):
  return jax.grad(actor_critic.loss, has_aux=True)(trainable, frozen, agent, played)[0]


def test_bandit_is_solved():
  world = worlds.Bandit()
  mean_return, _ = _learn(*agents_for_tests.make(world, memory=False), world, num_updates=200, num_steps=5)
  assert mean_return > 0.95  # By chance: (1/2 + 1/3) / 2.


def test_bandit_is_solved_by_a3cs_rmsprop():
  world = worlds.Bandit()
  rmsprop = dict(optimizer="rmsprop", second_moment_decay=0.99, learning_rate=2e-3, epsilon=1e-5)
  mean_return, _ = _learn(*agents_for_tests.make(world, memory=False, **rmsprop), world, num_updates=200, num_steps=5)
  assert mean_return > 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_cue_recall_is_solved_with_memory(seed):
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make(world, memory=True, seed=seed, learning_rate=2e-3)
  mean_return, trained = _learn(agent, trainable, frozen, world, num_updates=250, seed=seed)
  assert mean_return > 0.95
  batch = batch_lib.Batch(world, 50, ("signal",))
  greedy = evaluation.evaluate(agent, trained, frozen, batch, jax.random.key(9), greedy=True)
  assert greedy.returns.mean() == 1.0


def test_cue_recall_is_a_coin_toss_without_memory():
  world = worlds.CueRecall()
  mean_return, _ = _learn(*agents_for_tests.make(world, memory=False, learning_rate=2e-3), world, num_updates=250)
  assert 0.4 < mean_return < 0.6


@pytest.mark.parametrize("terminates", [False, True])
def test_values_converge_to_the_analytic_ones(terminates):
  discount, world = 0.8, worlds.Chain(terminates=terminates)
  settings = dict(discount=discount, learning_rate=5e-3, entropy_cost=0.0, max_gradient_norm=10.0)
  agent, trainable, frozen = agents_for_tests.make(world, memory=False, **settings)
  _, trained = _learn(agent, trainable, frozen, world, num_updates=600, num_steps=7, num_worlds=8)
  played = _played(agent, trained, frozen, world, num_steps=world.length, num_worlds=1)
  values = _values(agent, trained, frozen, played)
  left = world.length - np.arange(world.length)
  expected = (1 - discount**left) / (1 - discount) if terminates else np.full(world.length, 1 / (1 - discount))
  np.testing.assert_allclose(values[:-1, 0], expected, rtol=0.05)


def _values(agent, trainable, frozen, played):
  """The network's own values, world by world."""
  params, values = partition.merge(trainable, frozen), []
  for b in range(played.actions.shape[1]):
    state = jax.tree.map(lambda x, b=b: x[b], played.initial_state)
    inputs = {"signal": played.timesteps.observation["signal"][:, b]}
    activations, _ = network.apply(
      params, agent.spec, inputs=inputs, state=state, is_first=played.timesteps.step_type[:, b] == core.FIRST
    )
    values.append(activations[-1]["output"][:, -1])
  return np.stack(values, axis=1)


@pytest.mark.parametrize(
  ("memory", "scale", "learns_policy", "is_taught", "correction"),
  [
    (False, 1.0, True, False, "none"),
    (True, 0.1, True, True, "none"),
    (True, 1.0, False, False, "none"),
    (True, 1.0, True, False, "vtrace"),
  ],
)
def test_gradient_equals_one_built_from_rlax_world_by_world(memory, scale, learns_policy, is_taught, correction):
  """Builds the whole loss again from rlax's parts and a head by hand, on a terminating world with one softmax.

  Rewards stay unscaled, and the value's output is divided by `scale`. So the value term is multiplied by the square
  of `scale`, and all other terms by `scale`. V-trace corrects actions that another policy chose.
  """
  world, head = worlds.CueRecall(), auxiliary.Head("cue", "memory", 3.0)
  agent, params, _ = agents_for_tests.make(world, memory=memory, reward_scale=scale, correction=correction)
  params = auxiliary.init(jax.random.key(1), agent.spec, params, (head,), world.privileged_spec())
  trainable, frozen = partition.split(params, lambda path: True)
  played = _played(agent.replace(auxiliary_heads=(head,)), trainable, frozen, world)
  agent, hyper = agent.replace(auxiliary_heads=(head,), learns_policy=learns_policy, is_taught=is_taught), agent.hyper
  taught = jax.random.normal(jax.random.key(2), (*played.timesteps.reward.shape, 1, *agent.num_choices))
  played.timesteps.privileged[actor_critic.TEACHER] = taught
  if correction == "vtrace":
    moved = jax.random.normal(jax.random.key(3), played.behaviour_log_prob.shape)
    played = played.replace(behaviour_log_prob=played.behaviour_log_prob + moved)
  num_counting = float((played.timesteps.step_type[:-1] != core.LAST).sum())

  def expected_loss(trainable):
    params, total = partition.merge(trainable, frozen), 0.0
    for b in range(played.actions.shape[1]):
      state = jax.tree.map(lambda x, b=b: x[b], played.initial_state)
      timesteps = jax.tree.map(lambda x, b=b: x[:, b], played.timesteps)
      activations, _ = network.apply(
        auxiliary.without(params),
        agent.spec,
        inputs=timesteps.observation,
        state=state,
        is_first=timesteps.step_type == core.FIRST,
      )
      logits, values = activations[-1]["output"][:, :-1], activations[-1]["output"][:, -1] / scale
      lambda_ = jnp.where(timesteps.step_type[1:] == core.LAST, 0.0, hyper.lambda_)
      discounts = hyper.discount * timesteps.discount[1:]
      targets = rlax.lambda_returns(timesteps.reward[1:], discounts, values[1:], lambda_)
      if correction == "vtrace":
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits[:-1]), played.actions[:, b], axis=1)[:, 0]
        rhos = jnp.exp(log_prob - played.behaviour_log_prob[:, b])
        with jax.numpy_dtype_promotion("standard"):
          errors = rlax.vtrace(values[:-1], values[1:], timesteps.reward[1:], discounts, rhos, lambda_)
        targets = values[:-1] + errors
      advantages = jax.lax.stop_gradient(targets) - values[:-1]
      w = (timesteps.step_type[:-1] != core.LAST).astype(jnp.float32)
      if learns_policy:
        total += scale * w.size * rlax.policy_gradient_loss(logits[:-1], played.actions[:, b, 0], advantages, w)
        total += scale * hyper.entropy_cost * w.size * rlax.entropy_loss(logits[:-1], w)
      if is_taught:
        apart = rlax.categorical_kl_divergence(taught[:-1, b, 0], logits[:-1])
        total += scale * hyper.teacher_cost * jnp.sum(w * apart)
      total += scale**2 * hyper.value_cost * 0.5 * jnp.sum(w * advantages**2)
      (readout,) = params[-1][auxiliary.NAME][head.name]
      read = activations[-1]["memory"] @ readout["kernel"] + readout["bias"][None]
      square = 0.5 * jnp.mean((read - timesteps.privileged["cue"]) ** 2)
      total += num_counting * scale * head.cost * square / played.actions.shape[1]
    return total / num_counting

  expected = jax.jit(jax.grad(expected_loss))(trainable)
  for e, a in zip(jax.tree.leaves(expected), jax.tree.leaves(_gradient(agent, trainable, frozen, played)), strict=True):
    np.testing.assert_allclose(a, e, atol=1e-6)
  assert optax.global_norm(expected) > 1e-2


def test_act_and_update_see_the_same_policy():
  """Log-probabilities recomputed over the unroll equal the actor's, recurrent state included."""
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make_progressive(world)
  batch = batch_lib.Batch(world, 3, ("signal",))
  carry = batch.init(jax.random.key(0)), actor_critic.initial_state(agent, 3)
  for seed in range(2):  # The second unroll begins in the middle of episodes.
    *carry, played = unroll.unroll(agent, trainable, frozen, batch, *carry, jax.random.key(seed), 7)
  params = partition.merge(trainable, frozen)
  (*_, activations), _ = actor_critic.apply(agent, params, played.timesteps, played.initial_state)
  logits, _ = heads.split(activations["output"], agent.num_choices)
  log_probs = jax.nn.log_softmax(logits[:-1, :, 0])
  expected = np.take_along_axis(np.asarray(log_probs), np.asarray(played.actions), axis=-1)[..., 0]
  np.testing.assert_allclose(played.behaviour_log_prob, expected, atol=1e-5)
  assert np.abs(jax.tree.leaves(played.initial_state)[0]).max() > 0


def test_the_transition_between_episodes_has_no_effect():
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make(world)
  played = _played(agent, trainable, frozen, world)
  between = played.timesteps.step_type[:-1] == core.LAST
  after = jnp.concatenate([jnp.zeros_like(between[:1]), between])
  assert between.any()
  altered = played.replace(
    actions=jnp.where(between[..., None], 1 - played.actions, played.actions),
    timesteps=played.timesteps.replace(
      reward=jnp.where(after, 9.0, played.timesteps.reward), discount=jnp.where(after, 0.3, played.timesteps.discount)
    ),
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    _gradient(agent, trainable, frozen, altered),
    _gradient(agent, trainable, frozen, played),
  )
  # The same alteration one transition earlier does matter.
  moved = played.replace(actions=jnp.where(jnp.roll(between, -1, 0)[..., None], 1 - played.actions, played.actions))
  difference = jax.tree.map(
    jnp.subtract, _gradient(agent, trainable, frozen, moved), _gradient(agent, trainable, frozen, played)
  )
  assert optax.global_norm(difference) > 1e-4


def test_update_moves_trainable_alone():
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make_progressive(world)
  optimizer_state = actor_critic.init(agent, trainable)
  played = _played(agent, trainable, frozen, world)
  after, optimizer_state, metrics = actor_critic.update(agent, trainable, frozen, optimizer_state, played)
  assert partition.content_hash(after) != partition.content_hash(trainable)
  assert partition.paths(after) == partition.paths(trainable)
  # Two moments per trainable parameter, two counters at most, and nothing for frozen parameters.
  moments = sum(x.size for x in jax.tree.leaves(optimizer_state) if x.ndim)
  assert moments == 2 * sum(x.size for x in jax.tree.leaves(trainable))
  assert all(np.isfinite(value) for value in metrics.values())


def test_same_seed_same_result():
  world = worlds.CueRecall()
  hashes = {
    partition.content_hash(_learn(*agents_for_tests.make(world), world, num_updates=3, seed=seed)[1])
    for seed in (0, 0, 1)
  }
  assert len(hashes) == 2


def test_annealed_learning_stops():
  world = worlds.Bandit()
  agent, trainable, frozen = agents_for_tests.make(world, memory=False, anneal_updates=3)
  _, three = _learn(agent, trainable, frozen, world, num_updates=3)
  assert partition.content_hash(three) != partition.content_hash(trainable)
  played = _played(agent, three, frozen, world)
  optimizer_state = actor_critic.init(agent, three)
  for _ in range(4):
    *_, optimizer_state, _ = actor_critic.update(agent, three, frozen, optimizer_state, played)
  still, _, _ = actor_critic.update(agent, three, frozen, optimizer_state, played)
  assert partition.content_hash(still) == partition.content_hash(three)


@pytest.mark.parametrize(
  ("hyper", "message"),
  [
    ({"reduction": "summ"}, "reduction='summ' is not one of mean, sum"),
    ({"correction": "v-trace"}, "correction='v-trace' is not one of none, vtrace"),
    ({"epochs": 0}, "epochs=0 and minibatches=1 must be at least 1"),
    ({"has_unit_advantages": True}, "has_unit_advantages=True goes with epochs or minibatches above 1"),
    ({"reduction": "sum", "epochs": 4}, "epochs=4 and minibatches=1 go with reduction='mean'"),
    (
      {"correction": "vtrace", "minibatches": 2},
      "minibatches=2 go with .* correction='none', not with 'mean' and 'vtr",
    ),
  ],
)
def test_options_that_would_do_nothing_are_refused(hyper, message):
  agent, trainable, _ = agents_for_tests.make(worlds.Bandit(), memory=False, **hyper)
  with pytest.raises(ValueError, match=message):
    actor_critic.init(agent, trainable)


def test_an_output_of_the_wrong_size_is_refused():
  agent, trainable, _ = agents_for_tests.make(worlds.Bandit())
  with pytest.raises(ValueError, match="6 units.*7"):
    actor_critic.init(agent.replace(num_choices=(3, 3)), trainable)


def test_a_layer_named_like_the_auxiliary_heads_is_refused():
  agent, trainable, _ = agents_for_tests.make(worlds.Bandit(), memory=False)
  hidden, memory, output = agent.spec.columns[0].layers
  renamed = (hidden, dataclasses.replace(memory, name="auxiliary"), dataclasses.replace(output, inputs=("auxiliary",)))
  spec = network.Network((dataclasses.replace(agent.spec.columns[0], layers=renamed),))
  with pytest.raises(ValueError, match="a layer of the newest column is called 'auxiliary', as the heads are"):
    actor_critic.init(agent.replace(spec=spec), trainable)


def test_agents_of_other_hyper_parameters_share_one_program_and_learn_side_by_side_as_alone():
  world = worlds.CueRecall()
  agent, trainable, frozen = agents_for_tests.make(world)
  played = _played(agent, trainable, frozen, world)
  values = ({"learning_rate": 1e-2, "max_gradient_norm": 0.01}, {"entropy_cost": 1.0, "anneal_updates": 2.0})
  agents = [agent.replace(hyper=agent.hyper.replace(**fields)) for fields in values]
  optimizer_state = actor_critic.init(agent, trainable)
  alone = [actor_critic.update(agents[0], trainable, frozen, optimizer_state, played)[0]]
  num_programs = actor_critic.update._cache_size()
  alone.append(actor_critic.update(agents[1], trainable, frozen, optimizer_state, played)[0])
  assert actor_critic.update._cache_size() == num_programs
  assert partition.content_hash(alone[0]) != partition.content_hash(alone[1])
  stacked = jax.tree.map(lambda *x: jnp.stack([jnp.float32(v) for v in x]), *agents)
  update = jax.vmap(actor_critic.update, in_axes=(0, None, None, None, None))
  together, _, _ = update(stacked, trainable, frozen, optimizer_state, played)
  for i, expected in enumerate(alone):
    jax.tree.map(lambda e, t, i=i: np.testing.assert_allclose(t[i], e, atol=1e-5), expected, together)


def test_rewards_are_scaled_and_cut_for_learning_alone():
  world = worlds.Chain()  # One point a step.
  agent, trainable, frozen = agents_for_tests.make(world, memory=False, entropy_cost=0.0)
  played = _played(agent, trainable, frozen, world)
  by_hand = played.replace(timesteps=played.timesteps.replace(reward=jnp.minimum(3.0 * played.timesteps.reward, 2.0)))
  hyper = agent.hyper.replace(reward_scale=3.0, reward_clip=2.0)
  ours = _gradient(agent.replace(hyper=hyper), trainable, frozen, played)
  jax.tree.map(np.testing.assert_array_equal, ours, _gradient(agent, trainable, frozen, by_hand))
  *_, metrics = actor_critic.update(
    agent.replace(hyper=hyper), trainable, frozen, actor_critic.init(agent, trainable), played
  )
  np.testing.assert_allclose(metrics["reward"], 1.0, rtol=1e-6)
