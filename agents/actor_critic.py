"""The advantage actor-critic: `init`, `act`, `update`.

This is A3C (papers.md 4) with its workers turned into a batch of worlds: T steps in each of B worlds, then one update,
which is one step along the gradient, or several (PPO). Only `trainable`, the first argument, is differentiated.
`frozen` holds the columns that must not change; it has no gradient and no optimiser state. A step runs the network over
the unroll from the recurrent state that the actor had. Recurrent state is therefore carried exactly across unrolls, and
gradients reach back to the start of the unroll.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from agents import auxiliary as auxiliary_lib
from agents import diagnostics, distributions, heads, losses, optimizer, returns
from agents import trajectory as trajectory_lib
from environments import core
from progressive import column, layers, network, partition

Params = Any  # Pytree of arrays: one side of a `progressive.partition`.
RecurrentState = Any  # Pytree of arrays, every leaf [B, ...].
Metrics = dict[str, jax.Array]  # Name -> [] float32.
REDUCTIONS = ("mean", "sum")  # Values of `Hyper.reduction`.
CORRECTIONS = ("none", "vtrace")  # Values of `Hyper.correction`.
TEACHER = "teacher"  # The signal that holds a teacher's logits, [A, N] in each world.
Additions = Mapping[layers.Source, jax.Array]  # (column, layer) -> what is added to its activations.


@struct.dataclass
class Hyper:
  """Hyper-parameters of learning. Where the papers are silent, the defaults are this project's.

  All fields except strings, `has_unit_advantages`, `epochs` and `minibatches` are data: other values need no other
  program, and many runs, each with its own values, go through one `vmap`.

  `value_cost` decides whether a recurrent agent learns. With a reward of +1 per step, values reach 30, and in the
  features that policy and value share, the value's gradient drowns the policy's. The table shows mean returns (50 is
  the maximum) on a kinematic stand-in for the reacher: 6 joints, fixed target, state inputs, sparse reward, 64 worlds x
  20 steps, otherwise these defaults.

      network, value_cost         0.5 M steps   1.0 M     1.6 M
      dense 128, LSTM 128, 0.5    8, 11         19, 23    36, 40   (two seeds)
      dense 128, LSTM 128, 0.05   35, 27        44, 42    45, 45   (two seeds)
      dense 128, dense 128, 0.5   29            43        -        (one seed)

  With 0.5 and 128 worlds, one LSTM of two rose to 21 at 1.5 M steps and fell back to 8 at 2.1 M. With 0.05 the same
  seed was at 42 by 1.5 M and at 44 by 2.1 M. Dividing advantages by their deviation did not help (12 at 1 M with 0.5).

  `reward_scale` scales the losses of policy, entropy and heads alike, so the costs of entropy and heads are in units of
  the unscaled reward. (`has_unit_advantages` removes the scale from the policy's loss alone.) The value learns scaled
  returns, so its squared error, which `value_cost` weighs, grows with the square of the scale. `max_gradient_norm`
  applies to the gradient of the scaled loss.
  """

  discount: float = 0.97  # gamma: what a reward is worth one step earlier.
  lambda_: float = 0.95  # Mixing of n-step returns; 1 is A3C's.
  entropy_cost: float = 5e-3  # In rewards, per nat of entropy, which is summed over the entries of an action.
  teacher_cost: float = 10.0  # In rewards, per nat between the policy and its teacher's, if it has a teacher.
  value_cost: float = 0.05  # Weight of the value's loss on scaled returns; A3C has 0.5 (papers.md 4); see above.
  reward_scale: float = 1.0  # For learning only, rewards are multiplied by it, then clipped to +-`reward_clip`.
  reward_clip: float = float("inf")  # The largest reward that is learned from; A3C's on Atari is 1.
  correction: str = struct.field(pytree_node=False, default="none")  # 'vtrace' corrects steps of an older policy.
  epochs: int = struct.field(pytree_node=False, default=1)  # Passes over an unroll; more than one is PPO.
  minibatches: int = struct.field(pytree_node=False, default=1)  # Steps per pass, each on its share of the worlds.
  clip_ratio: float = 0.2  # With several steps per unroll: PPO's bound on how far they move the policy.
  has_unit_advantages: bool = struct.field(pytree_node=False, default=False)  # PPO: mean 0, deviation 1 per minibatch.
  reduction: str = struct.field(pytree_node=False, default="mean")  # Of gradients: 'mean', or 'sum' as in A3C.
  optimizer: str = struct.field(pytree_node=False, default="adam")  # 'adam', or 'rmsprop' as in A3C.
  learning_rate: float = 7e-4  # Of the optimiser, at the start.
  anneal_updates: float = 0.0  # Optimiser steps over which the learning rate falls to 0; 0: it never falls.
  max_gradient_norm: float = 0.5  # A longer gradient is scaled down to this norm; inf: never.
  second_moment_decay: float = 0.999  # Of the optimiser's mean of squared gradients; A3C's RMSProp has 0.99.
  epsilon: float = 1e-5  # Added to the root of that mean; A3C's has 0.1 inside the root, with sums of gradients.
  fan_in: float = float("inf")  # Kernels with more inputs learn at the rate times this / inputs; inf: none do.


@struct.dataclass
class Agent:
  """What defines an agent apart from its parameters: a pytree whose leaves are the numbers of `hyper` and the heads."""

  spec: network.Network = struct.field(pytree_node=False)
  num_choices: tuple[int, ...] = struct.field(pytree_node=False)  # Number of values of each entry of an action.
  hyper: Hyper
  auxiliary_heads: tuple[auxiliary_lib.Head, ...] = ()  # Readouts trained beside policy and value.
  is_taught: bool = struct.field(pytree_node=False, default=False)  # Whether `TEACHER` is among the signals.
  learns_policy: bool = struct.field(pytree_node=False, default=True)  # From actions: see `loss`.


class ActOutput(NamedTuple):
  """One decision in each of B worlds."""

  action: jax.Array  # [B, A] int32
  log_prob: jax.Array  # [B] float32
  value: jax.Array  # [B] float32
  recurrent_state: RecurrentState  # Every leaf [B, ...].
  activations: network.Activations  # Of each column: layer -> [B, ...].


def signals(agent: Agent) -> tuple[str, ...]:
  """What the agent learns from besides observations: the signals of auxiliary heads, and a teacher's."""
  teacher = [TEACHER] if agent.is_taught else []
  return tuple(dict.fromkeys([*(head.signal for head in agent.auxiliary_heads), *teacher]))


def initial_state(agent: Agent, num_worlds: int) -> RecurrentState:
  """Recurrent state of `num_worlds` worlds, every leaf `[B, ...]`."""
  return network.initial_state(agent.spec, batch_shape=(num_worlds,))


def check(hyper: Hyper) -> None:
  """Refuses options that do not exist or do not fit each other; the ValueError names them."""
  for name, words in (("reduction", REDUCTIONS), ("correction", CORRECTIONS)):
    if getattr(hyper, name) not in words:
      raise ValueError(f"{name}={getattr(hyper, name)!r} is not one of {', '.join(words)}")
  if min(hyper.epochs, hyper.minibatches) < 1:
    raise ValueError(f"epochs={hyper.epochs} and minibatches={hyper.minibatches} must be at least 1")
  if hyper.epochs * hyper.minibatches == 1 and hyper.has_unit_advantages:
    raise ValueError(
      "has_unit_advantages=True goes with epochs or minibatches above 1; set it to False, or one of these"
    )
  if hyper.epochs * hyper.minibatches > 1 and (hyper.reduction, hyper.correction) != ("mean", "none"):
    raise ValueError(
      f"epochs={hyper.epochs} and minibatches={hyper.minibatches} go with reduction='mean' and correction='none', "
      f"not with {hyper.reduction!r} and {hyper.correction!r}; set both to 1, or change these"
    )


def init(agent: Agent, trainable: Params) -> optax.OptState:
  """Optimiser state for `trainable`.

  Raises:
    ValueError: if the network's output layer does not fit the action, if one of its layers has the name under which
      auxiliary heads are kept, or if `check` refuses the agent's options.
  """
  check(agent.hyper)
  if auxiliary_lib.NAME in column.by_name(agent.spec.columns[-1]):
    raise ValueError(f"a layer of the newest column is called {auxiliary_lib.NAME!r}, as the heads are; rename it")
  (size,) = column.shapes(agent.spec.columns[-1])[column.OUTPUT]
  if size != heads.output_size(agent.num_choices):
    raise ValueError(
      f"the output layer has {size} units, but an action of num_choices={agent.num_choices} and a value need "
      f"{heads.output_size(agent.num_choices)}"
    )
  return _optimizer(agent.hyper).init(trainable)


@functools.partial(jax.jit, static_argnames="greedy")
def act(
  agent: Agent,
  trainable: Params,
  frozen: Params,
  recurrent_state: RecurrentState,
  timestep: core.TimeStep,
  key: jax.Array,
  greedy: bool = False,
  additions: Additions | None = None,
) -> ActOutput:
  """Chooses an action in each of B worlds, the most probable one if `greedy`.

  The network zeroes the recurrent state where an episode begins. `additions`, `[B, ...]`: see `network.apply`.
  """
  params = partition.merge(trainable, frozen)
  timesteps, additions = jax.tree.map(lambda x: x[None], (timestep, additions))
  activations, recurrent_state = apply(agent, params, timesteps, recurrent_state, additions=additions)
  activations = jax.tree.map(lambda x: x[0], activations)
  logits, value = heads.split(activations[-1][column.OUTPUT], agent.num_choices)
  action = distributions.mode(logits) if greedy else distributions.sample(key, logits)
  return ActOutput(action, distributions.log_prob(logits, action), value, recurrent_state, activations)


@jax.jit
def update(
  agent: Agent,
  trainable: Params,
  frozen: Params,
  optimizer_state: optax.OptState,
  trajectory: trajectory_lib.Trajectory,
) -> tuple[Params, optax.OptState, Metrics]:
  """Learns from one unroll `[T+1, B, ...]`, in one step or several (`Hyper`); `frozen` is only read."""
  steps = _steps_of_sums if agent.hyper.reduction == "sum" else _steps_of_means
  return steps(agent, trainable, frozen, optimizer_state, trajectory)


def _steps_of_means(
  agent: Agent, trainable: Params, frozen: Params, state: optax.OptState, trajectory: trajectory_lib.Trajectory
) -> tuple[Params, optax.OptState, Metrics]:
  """One step along the mean gradient, or PPO's (Schulman et al. 2017): `epochs` passes of `minibatches` steps.

  Worlds are dealt out to minibatches, and each world keeps its whole unroll with its first recurrent state. Returns and
  advantages come from the values before the first step. When each step took those of its own values, Pong learned later
  (docs/results/pong_soup/learning.md). Metrics are of the unroll before the first step, gradient norms of all steps.
  """
  num_shares, num_worlds = agent.hyper.minibatches, trajectory.actions.shape[1]
  if num_worlds % num_shares:
    raise ValueError(f"minibatches={num_shares}: {num_worlds} worlds cannot be dealt out to so many; choose a divisor")
  if (num_steps := agent.hyper.epochs * num_shares) == 1:
    after, state, norm, outcome = _step(agent, trainable, frozen, state, trajectory)
    return after, state, _metrics(agent, trainable, after, norm, outcome)
  _, outcome = loss(trainable, frozen, agent, trajectory)
  estimates = Estimates(outcome.targets, outcome.targets - outcome.values)
  lasting_activations = lasting(agent, trajectory.activations, trainable)
  steps = dataclasses.replace(trajectory, initial_state=(), activations=lasting_activations)

  def step(before: tuple[Params, optax.OptState], index: jax.Array) -> tuple[tuple[Params, optax.OptState], jax.Array]:
    own, own_estimates = trajectory_lib.share((steps, estimates), index, num_shares, axis=1)
    start = trajectory_lib.share(trajectory.initial_state, index, num_shares, axis=0)
    own = dataclasses.replace(own, initial_state=start)
    if agent.hyper.has_unit_advantages:
      weights = trajectory_lib.weights(own.timesteps.step_type)
      own_estimates = own_estimates._replace(advantages=losses.standardised(own_estimates.advantages, weights))
    after, state, norm, _ = _step(agent, before[0], frozen, before[1], own, own_estimates)
    return (after, state), norm

  (after, state), norms = jax.lax.scan(step, (trainable, state), jnp.arange(num_steps) % num_shares)
  return after, state, _metrics(agent, trainable, after, norms, outcome)


def lasting(agent: Agent, activations: network.Activations, trainable: Params) -> network.Activations:
  """The `activations` that learning does not change: those of the layers before the first one that learns."""
  all_kept, has_begun = [], False
  for spec, params, own in zip(agent.spec.columns, trainable, activations, strict=False):
    kept = {}
    for layer in spec.layers:
      has_begun = has_begun or bool(jax.tree.leaves(params[layer.name]))
      if not has_begun and layer.name in own:
        kept[layer.name] = own[layer.name]
    all_kept.append(kept)
  return tuple(all_kept)


def _step(
  agent: Agent,
  trainable: Params,
  frozen: Params,
  state: optax.OptState,
  trajectory: trajectory_lib.Trajectory,
  estimates: "Estimates | None" = None,
) -> tuple[Params, optax.OptState, jax.Array, "Outcome"]:
  """One step along the mean gradient: (parameters, optimiser state, norm [] of the gradient, outcome before)."""
  gradient, outcome = jax.grad(loss, has_aux=True)(trainable, frozen, agent, trajectory, estimates)
  change, state = _optimizer(agent.hyper).update(gradient, state, trainable)
  return optax.apply_updates(trainable, change), state, optax.global_norm(gradient), outcome


def _steps_of_sums(
  agent: Agent, trainable: Params, frozen: Params, state: optax.OptState, trajectory: trajectory_lib.Trajectory
) -> tuple[Params, optax.OptState, Metrics]:
  """A3C's steps: each world is a worker whose gradient is a sum over its unroll; workers step one after the other.

  All workers use the parameters from before the first of these steps, as A3C's workers use parameters that others
  change meanwhile. The optimiser's statistics are shared.
  """

  def of_worker(played: trajectory_lib.Trajectory, start: RecurrentState) -> tuple[Params, "Outcome"]:
    own = dataclasses.replace(jax.tree.map(lambda x: x[:, None], played), initial_state=start)
    gradient, outcome = jax.grad(loss, has_aux=True)(trainable, frozen, agent, own)
    return jax.tree.map(lambda g: g * jnp.sum(outcome.weights), gradient), outcome

  starts = jax.tree.map(lambda x: x[:, None], trajectory.initial_state)
  played = dataclasses.replace(trajectory, initial_state=())
  gradients, outcomes = jax.vmap(of_worker, in_axes=(1, 0))(played, starts)

  def step(before: tuple[Params, optax.OptState], gradient: Params) -> tuple[tuple[Params, optax.OptState], jax.Array]:
    change, state = _optimizer(agent.hyper).update(gradient, before[1], before[0])
    return (optax.apply_updates(before[0], change), state), optax.global_norm(gradient)

  (after, state), norms = jax.lax.scan(step, (trainable, state), gradients)
  return after, state, _metrics(agent, trainable, after, norms, outcomes.together())


def apply(
  agent: Agent,
  params: Params,
  timesteps: core.TimeStep,
  state: RecurrentState,
  *,
  additions: Additions | None = None,
  known: network.Activations | None = None,
) -> tuple[network.Activations, RecurrentState]:
  """Every column's activations, each `[T, B, ...]`, over timesteps `[T, B, ...]`, from a state `[B, ...]`.

  `additions`, `[T, B, ...]` each, are added to activations of any column; `known` ones are not computed again: see
  `network.apply`.
  """
  return network.apply(
    auxiliary_lib.without(params),
    agent.spec,
    inputs=timesteps.observation,
    state=state,
    is_first=timesteps.step_type == core.FIRST,
    additions=additions,
    known=known,
  )


@struct.dataclass
class Outcome:
  """What a loss was made of."""

  total: jax.Array  # []
  hidden: dict[str, jax.Array]  # Newest column, except its output: layer -> [T+1, B, ...].
  logits: jax.Array  # [T, B, A, N]
  values: jax.Array  # [T, B]
  targets: jax.Array  # [T, B]: lambda returns of scaled rewards.
  rewards: jax.Array  # [T, B], as the world gave them.
  weights: jax.Array  # [T, B]: 1 for transitions that count.
  auxiliary: dict[str, jax.Array]  # Name of a head, or `TEACHER` -> its loss [].

  def together(self) -> "Outcome":
    """Joins outcomes of one world each, every leaf `[B, ...]`, into one; losses are means over worlds."""

    def in_one(x: jax.Array) -> jax.Array:  # [B, T, 1, ...] -> [T, B, ...]; [B] -> [].
      return jnp.moveaxis(x[:, :, 0], 0, 1) if x.ndim > 1 else jnp.mean(x)

    return jax.tree.map(in_one, self)


class Estimates(NamedTuple):
  """Targets and advantages that several steps from one unroll share."""

  targets: jax.Array  # [T, B]: for the values.
  advantages: jax.Array  # [T, B]


def loss(
  trainable: Params,
  frozen: Params,
  agent: Agent,
  trajectory: trajectory_lib.Trajectory,
  estimates: Estimates | None = None,
) -> tuple[jax.Array, Outcome]:
  """The loss that `update` descends, and what it was made of.

  policy + value_cost * value + reward_scale * (sum of cost * head + teacher_cost * teacher - entropy_cost * entropy),
  means over transitions, and for heads over all observations. Policy and entropy are left out if the agent does not
  learn from actions: the steps are then ones that somebody else chose. If `estimates` are given, they replace the
  returns and advantages that the loss computes itself, and the policy's term is PPO's.
  """
  hyper, timesteps = agent.hyper, trajectory.timesteps
  params = partition.merge(trainable, frozen)
  (*_, activations), _ = apply(agent, params, timesteps, trajectory.initial_state, known=trajectory.activations)
  logits, values = heads.split(activations[column.OUTPUT], agent.num_choices)  # [T+1, B, A, N], [T+1, B]
  reward = jnp.clip(hyper.reward_scale * timesteps.reward, -hyper.reward_clip, hyper.reward_clip)
  # vmap maps every leaf of its arguments: take only what returns read, not the pixels.
  read = [dataclasses.replace(timesteps, reward=reward, observation={}, privileged={}), values]
  make_targets: Callable[..., jax.Array] = returns.lambda_returns
  log_ratios = distributions.log_prob(logits[:-1], trajectory.actions) - trajectory.behaviour_log_prob  # [T, B]
  if hyper.correction == "vtrace":
    make_targets = returns.vtrace
    read.append(log_ratios)
  make_targets = functools.partial(make_targets, discount=hyper.discount, lambda_=hyper.lambda_)
  targets = jax.vmap(make_targets, in_axes=1, out_axes=1)(*read)  # [T, B]
  weights = trajectory_lib.weights(timesteps.step_type)
  chex.assert_equal_shape([targets, weights, trajectory.behaviour_log_prob])

  if estimates:
    targets = estimates.targets
    policy_loss = losses.clipped_policy_loss(log_ratios, estimates.advantages, weights, clip_ratio=hyper.clip_ratio)
  else:
    policy_loss = losses.policy_loss(logits[:-1], trajectory.actions, targets - values[:-1], weights)
  value_loss = losses.value_loss(values[:-1], targets, weights)
  entropy = losses.mean_entropy(logits[:-1], weights)
  total = hyper.value_cost * value_loss
  if agent.learns_policy:
    total = policy_loss + total - hyper.reward_scale * hyper.entropy_cost * entropy
  auxiliary_losses = {}
  for head in agent.auxiliary_heads:
    signal, features = timesteps.privileged[head.signal], activations[head.layer]
    head_loss = auxiliary_lib.loss(params, head, features, signal)
    total += hyper.reward_scale * head.cost * head_loss
    auxiliary_losses[head.name] = head_loss
  if agent.is_taught:
    auxiliary_losses[TEACHER] = losses.divergence(timesteps.privileged[TEACHER][:-1], logits[:-1], weights)
    total += hyper.reward_scale * hyper.teacher_cost * auxiliary_losses[TEACHER]
  hidden = {layer: x for layer, x in activations.items() if layer != column.OUTPUT}
  outcome = Outcome(total, hidden, logits[:-1], values[:-1], targets, timesteps.reward[1:], weights, auxiliary_losses)
  return total, outcome


def _metrics(agent: Agent, before: Params, after: Params, norms: jax.Array, outcome: Outcome) -> Metrics:
  """Metrics of one update, from parameters `before` to `after`, along gradients with `norms`, one or `[N]`."""
  weights, errors = outcome.weights, outcome.targets - outcome.values
  return {
    "loss": outcome.total,
    "value_loss": losses.value_loss(outcome.values, outcome.targets, weights),
    "entropy": losses.mean_entropy(outcome.logits, weights),
    "value": losses.weighted_mean(outcome.values, weights),
    "explained_variance": _explained_variance(outcome.targets, errors, weights),
    "reward": losses.weighted_mean(outcome.rewards, weights),
    **{f"auxiliary_{name}": one for name, one in outcome.auxiliary.items()},
    "gradient_norm": jnp.mean(norms),
    "clipped": jnp.mean((norms > agent.hyper.max_gradient_norm).astype(jnp.float32)),
    **diagnostics.of_update(before, after, outcome.hidden, outcome.logits, weights),
  }


def _optimizer(hyper: Hyper) -> optax.GradientTransformation:
  return optimizer.make(
    hyper.optimizer,
    learning_rate=hyper.learning_rate,
    anneal_updates=hyper.anneal_updates,
    max_gradient_norm=hyper.max_gradient_norm,
    decay=hyper.second_moment_decay,
    epsilon=hyper.epsilon,
    fan_in=hyper.fan_in,
  )


def _explained_variance(targets: jax.Array, errors: jax.Array, weights: jax.Array) -> jax.Array:
  """Share of the targets' variance that is not left in the errors; 0 if the targets vary only by rounding."""
  before, after = losses.variance(targets, weights), losses.variance(errors, weights)
  return jnp.where(before > 0, 1 - after / jnp.where(before > 0, before, 1.0), 0.0)
