"""Policy gradients of the output layer equal those of the agent's own loss, and following them pays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from agents import actor_critic, unroll
from environments import batch as batch_lib
from environments import registry
from experiments import credit as binary
from experiments.configs import base
from experiments.running import run
from experiments.setup import learn
from experiments.store import released
from experiments.studies import credit
from progressive import column
from tests.agents import worlds
from tests.experiments.running import run_test

DISCOUNT, LAMBDA, SCALE = 0.9, 0.7, 0.5
WORLD = worlds.CueRecall()


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
  worlds.serve(monkeypatch, lambda name, **options: WORLD)
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Two runs side by side, hardly trained."""
  folder = tmp_path_factory.mktemp("trained")
  config = run_test.make_config()
  config.train.update({"steps": 40, "evaluation_episodes": 0})
  config.sweep = base.sweep(num_runs=2, top=2, sampled=())
  with pytest.MonkeyPatch.context() as patch:
    worlds.serve(patch, lambda name, **options: WORLD)
    run.run(config, folder)
  return folder


@pytest.fixture(scope="module")
def player(trained):
  """(agent, params, make_batch)"""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "make", lambda name, **options: WORLD)
    source = released.load_source(trained / "runs" / "01")
    task = learn.player(source, "recall", {})
  return task.agent, source.params, lambda n: task.place.batch(n, learn.input_names(task))


def test_gradients_are_those_of_the_loss(player):
  agent, params, make_batch = player
  batch, num_steps = make_batch(3), 7  # Episodes of 5 steps: one ends in every unroll.
  key = jax.random.key(3)
  state = actor_critic.initial_state(agent, 3)
  nothing = jax.tree.map(lambda x: None, params)
  seen = credit.play(agent, params, batch, key, 3 * credit._AT_ONCE)
  # The same steps by hand, with the study's own keys.
  begin_key, chunk_key = jax.random.split(key, 2)
  begun = batch_lib.begin(batch, begin_key)
  *_, played = unroll.unroll(agent, params, nothing, batch, begun, state, chunk_key, credit._AT_ONCE)
  hyper = actor_critic.Hyper(discount=DISCOUNT, lambda_=LAMBDA, reward_scale=SCALE, entropy_cost=0.0, value_cost=0.0)
  own = agent.replace(hyper=hyper)
  found = credit.gradients(seen, num_steps, LAMBDA, discount=DISCOUNT, reward_scale=SCALE)
  assert found.shape == (3 * (credit._AT_ONCE // num_steps), 5 * 3)  # 4 units and a bias; two logits and a value.
  # The agent's own loss is taken on each world's first unroll, because that begins with a known state.
  cut = jax.tree.map(lambda x: x[: num_steps + 1], played.timesteps)
  for world in range(3):
    one = dataclasses.replace(
      played,
      timesteps=jax.tree.map(lambda x, k=world: x[:, k : k + 1], cut),
      actions=played.actions[:num_steps, world : world + 1],
      behaviour_log_prob=played.behaviour_log_prob[:num_steps, world : world + 1],
      initial_state=jax.tree.map(lambda x, k=world: x[k : k + 1], played.initial_state),
    )
    gradient, outcome = jax.grad(actor_critic.loss, has_aux=True)(params, nothing, own, one)
    layer = gradient[-1][column.OUTPUT]
    expected = jnp.concatenate([layer["kernel"], layer["bias"][None]]).ravel()
    share = float(jnp.sum(outcome.weights)) / num_steps  # The loss is a mean over transitions that count.
    np.testing.assert_allclose(found[world], -share * expected, atol=1e-6)


def test_the_policy_moves_by_as_many_nats_as_asked(player):
  agent, params, make_batch = player
  seen = credit.play(agent, params, make_batch(8), jax.random.key(0), 8 * credit._AT_ONCE)
  direction = np.random.default_rng(0).standard_normal(seen.features.shape[-1] * seen.output.shape[-1])
  after = credit.moved(agent, params, seen, direction, 0.1)
  assert all(
    (a == b).all()
    for name in after[-1]
    if name != column.OUTPUT
    for a, b in zip(*map(jax.tree.leaves, (after[-1][name], params[-1][name])), strict=True)
  )

  def log_policy(params):
    layer = params[-1][column.OUTPUT]
    logits = seen.features[..., :-1] @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    logits = logits[..., :2].astype(np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))

  before, now = log_policy(params), log_policy(after)
  np.testing.assert_allclose(before, np.log(jax.nn.softmax(seen.output[:-1, ..., :2])), atol=1e-5)
  np.testing.assert_allclose(np.mean(np.sum(np.exp(before) * (before - now), axis=-1)), 0.1, rtol=1e-3)


@dataclasses.dataclass(frozen=True)
class Patience(worlds.CueRecall):
  """Action 1 earns 0.3 at once, action 0 earns 1 at the end of the episode. Observations are constant."""

  def reset(self, key):
    return super().reset(key).replace(cue=jnp.int32(0))

  def step(self, state, action):
    return super().step(state.replace(cue=state.cue + (action[0] == 0).astype(jnp.int32)), action)

  def reward(self, state, action):
    now, later = action[0] == 1, state.time == self.length
    return jnp.where(now, 0.3, 0.0) + jnp.where(later, state.cue.astype(jnp.float32), 0.0)

  def signal(self, state):
    return jnp.ones(3, jnp.float32)


def test_too_short_credit_lowers_the_return(player):
  agent, params, _ = player

  def make_batch(num_worlds):
    return batch_lib.Batch(Patience(), num_worlds, ("signal",))

  before, short, long = credit.measure(
    agent,
    params,
    make_batch,
    jax.random.key(5),
    steps=20_000,
    ways=[(1, 1.0), (6, 1.0)],
    discount=1.0,
    reward_scale=1.0,
    nats=0.1,
    episodes=1000,
  )
  # At first each action is half of the five choices: 5 x 0.65. 0.1 nats move a fair coin to 0.71.
  np.testing.assert_allclose(before.episodes.returns.mean(), 3.25, atol=0.1)
  np.testing.assert_allclose(short.episodes.returns.mean(), 5 * (0.71 * 0.3 + 0.29), atol=0.15)
  np.testing.assert_allclose(long.episodes.returns.mean(), 5 * (0.29 * 0.3 + 0.71), atol=0.15)
  assert (short.num_steps, long.num_steps) == (1, 6)
  assert 0 < short.steps < 20_000 and 0 < long.steps < 20_000


def test_the_binary_prints_a_line_for_each_way(trained, capsys):
  given = {"source": str(trained / "runs" / "00"), "episodes": 16, "sample_steps": 6400}
  with flagsaver.flagsaver(**given, num_steps=["5", "10"], lambdas=["1"]):
    binary.main()
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(str(trained / "runs" / "00")) and "as it is" in lines[2]
  assert [line.split()[:2] for line in lines[-2:]] == [["5", "1"], ["10", "1"]]
  with flagsaver.flagsaver(**given, num_steps=["200"], lambdas=["1"]):
    with pytest.raises(ValueError, match="num_steps=200: each world has 100 steps in all; give more --sample_steps"):
      binary.main()


def test_a_network_that_does_not_say_its_discount_needs_one(trained):
  with flagsaver.flagsaver(source=str(trained / "best")):
    with pytest.raises(ValueError, match="best does not say what discount it learned with; give --discount"):
      binary.main()


@pytest.mark.parametrize(
  ("given", "words"),
  [
    ({"num_steps": ["0"]}, "--num_steps=0 must be integers >= 1"),
    ({"num_steps": ["2.5"]}, "--num_steps=2.5 must be integers >= 1"),
    ({"lambdas": ["1.5"]}, r"--lambdas=1.5 must be numbers in \[0, 1\]"),
    ({"lambdas": ["nan"]}, "--lambdas=nan must be numbers"),
    ({"source": None}, "--source is missing"),
  ],
)
def test_bad_input_is_refused_before_it_plays(trained, given, words):
  with flagsaver.flagsaver(**{"source": str(trained / "runs" / "00"), **given}), pytest.raises(ValueError, match=words):
    binary.main()
