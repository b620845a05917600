"""A trained navigator plays whole episodes of its maze: its values, features and scores step by step, and table 1.

Table 1 of Mirowski et al. 2017 has the score, the episodes with a goal, the latency to the first goal and to later
ones, and how well the agent's place can be decoded from its features. These are the features of the layer that policy
and value read: the policy LSTM, or the encoder of a feed-forward agent. Auxiliary heads are also tested on depth and on
loop closures. The first episode is shown in figures and video and does not count in any measure: no decoder has seen
it, and nobody chose it.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import actor_critic, auxiliary
from analysis import decoding, intervals, navigation
from environments import batch as batch_lib
from environments.maze import constants, depth_target
from environments.maze import world as world_lib
from experiments.setup import learn
from progressive import network, partition

NUM_WORLDS = 20  # Played side by side; a multiple of this is played, and surplus episodes are left out.
MOST_SAMPLES = 20_000  # For the position decoder: more only take longer.
DEPTHS = ("depth", "depth_grid")  # Signals of depth heads: bands, or a number.
LOOP = "loop_closure"
SIGNALS = ("position", "heading", "cell", "goal_position", "goals_reached", "fruit", "depth", LOOP)


class Played(NamedTuple):
  """N episodes of T steps in lockstep; time 0 is the start of each. Legend: `F` fruit, `D` features."""

  reward: np.ndarray  # [N, T + 1] float32
  value: np.ndarray  # [N, T + 1] float32, divided by the reward scale; reward clipping is not undone.
  features: np.ndarray  # [N, T + 1, D] float32
  signals: Mapping[str, np.ndarray]  # name in SIGNALS -> [N, T + 1, ...]
  said: Mapping[str, np.ndarray]  # head -> [N, T + 1, ...]: depth bands, or the probability of a loop closure.
  frames: np.ndarray  # [T + 1, 84, 84, 3] uint8: what the agent saw in the first episode.

  def part(self, episodes: slice) -> "Played":
    """Some of the episodes."""
    picked = {name: jax.tree.map(lambda x: x[episodes], getattr(self, name)) for name in self._fields[:-1]}
    return self._replace(**picked)


class DepthScore(NamedTuple):
  """How often a head names the right band, over all places and steps."""

  accuracy: float
  prior: float  # Of always naming each place's most common band: the best guess without looking.


class Measures(NamedTuple):
  """Table 1 of one agent."""

  scores: np.ndarray  # [N] returns
  score: intervals.Interval  # Of their mean.
  latency: navigation.Latency
  layer: str  # From whose features the position is decoded.
  position: decoding.Decoding | None  # None if only one episode was played.
  loop: navigation.Detection | None  # None if there is no such head.
  loop_percent: float  # Share of steps that close a loop.
  depth: Mapping[str, DepthScore]  # head -> score


def feature_layer(spec: network.Network) -> str:
  """The layer from which policy and value are read."""
  return spec.columns[-1].layers[-1].inputs[0]


def play(task: learn.Task, key: jax.Array, *, num_episodes: int, is_greedy: bool) -> Played:
  """Plays one episode to be shown and then `num_episodes`, N - 1, that count.

  Raises:
    ValueError: if the world is not a maze with a goal.
  """
  maze = task.place.world
  if not (isinstance(maze, world_lib.Maze) and maze.task.has_goal):
    raise ValueError(f"{type(maze).__name__} is no maze with a goal; these measures need its position, goals and cells")
  observations = tuple(sorted({*learn.input_names(task), "pixels"}))
  batch = batch_lib.Batch(maze, min(NUM_WORLDS, num_episodes + 1), observations, SIGNALS)
  num_rounds = -(-(num_episodes + 1) // batch.num_worlds)
  rounds = [
    jax.device_get(_round(task.agent, task.params, batch, round_key, maze.task.num_steps, is_greedy))
    for round_key in jax.random.split(key, num_rounds)
  ]
  played = jax.tree.map(lambda *x: np.concatenate([np.swapaxes(one, 0, 1) for one in x]), *rounds)
  return played._replace(frames=rounds[0].frames).part(slice(num_episodes + 1))


@functools.partial(jax.jit, static_argnames=("batch", "num_steps", "is_greedy"))
def _round(
  agent: actor_critic.Agent,
  params: Any,
  batch: batch_lib.Batch,
  key: jax.Array,
  num_steps: int,
  is_greedy: bool,
) -> Played:
  """Plays one episode in each world; the time axis comes first."""
  world_key, action_key = jax.random.split(key)
  _, nothing = partition.split(params, lambda path: True)

  def step(carry: tuple[Any, Any], step_key: jax.Array) -> tuple[tuple[Any, Any], Played]:
    state, recurrent = carry
    chosen = actor_critic.act(agent, params, nothing, recurrent, state.timestep, step_key, is_greedy)
    features = chosen.activations[-1][feature_layer(agent.spec)]
    seen = Played(
      reward=state.timestep.reward,
      value=chosen.value / agent.hyper.reward_scale,
      features=features.reshape(features.shape[0], -1),
      signals=state.timestep.privileged,
      said={head.name: _say(params, head, chosen.activations[-1]) for head in agent.auxiliary_heads},
      frames=state.timestep.observation["pixels"][0],
    )
    return (batch.step(state, chosen.action), chosen.recurrent_state), seen

  start = batch.init(world_key), actor_critic.initial_state(agent, batch.num_worlds)
  return jax.lax.scan(step, start, jax.random.split(action_key, num_steps + 1))[1]


def _say(params: Any, head: auxiliary.Head, activations: Mapping[str, jax.Array]) -> jax.Array:
  """A head's output in each world: bands int8 `[B, 4, 16]`, or the probability of a loop closure `[B]`."""
  shape = depth_target.SHAPE if head.signal in DEPTHS else ()
  readout = auxiliary.read(params, head, activations[head.layer][None], shape)[0]
  if head.signal in DEPTHS:
    bands = jnp.argmax(readout, axis=-1) if head.num_classes else depth_target.bands(jnp.clip(readout, 0.0, 1.0))
    return bands.astype(jnp.int8)
  return jax.nn.softmax(readout)[..., 1] if head.num_classes else readout


def check_heads(agent: actor_critic.Agent) -> None:
  """Refuses heads of unknown signals, and heads that regress depth bands.

  Raises:
    ValueError: naming the signal.
  """
  for head in agent.auxiliary_heads:
    if head.signal not in (*DEPTHS, LOOP):
      raise ValueError(f"the head of signal {head.signal!r} has no measure; there are {', '.join((*DEPTHS, LOOP))}")
    if head.signal == "depth" and not head.num_classes:
      raise ValueError("the head of signal 'depth' has num_classes=0, but depth comes in bands; regress 'depth_grid'")


def measure(played: Played, *, layer: str, bounds: tuple[float, float], seed: int = 0) -> Measures:
  """Table 1 of the episodes after the first, whose returns lie within `bounds`.

  `seed` chooses those on which the position decoder is tested.
  """
  counted = played.part(slice(1, None))
  scores = counted.reward[:, 1:].sum(axis=1, dtype=np.float64)
  loops = [name for name in counted.said if name.startswith(LOOP)]
  label = counted.signals[LOOP].astype(bool)[:, 1:]
  return Measures(
    scores=scores,
    score=intervals.of_mean(scores, bounds=bounds),
    latency=navigation.latency(np.diff(counted.signals["goals_reached"], axis=1) > 0, step_s=constants.CONTROL_S),
    layer=layer,
    position=_position(counted, seed) if len(scores) > 1 else None,
    loop=navigation.detection(label, counted.said[loops[0]][:, 1:]) if loops else None,
    loop_percent=100.0 * float(label.mean()),
    depth={
      name: _depth(said[:, 1:], counted.signals["depth"][:, 1:])
      for name, said in counted.said.items()
      if name not in loops
    },
  )


def _position(counted: Played, seed: int) -> decoding.Decoding:
  """A linear softmax over cells, on features; it skips steps if there are more than enough."""
  num_episodes, num_steps, size = counted.features[:, 1:].shape
  every = -(-num_episodes * num_steps // MOST_SAMPLES)
  features, cells = counted.features[:, 1::every], counted.signals["cell"][:, 1::every]
  episodes = np.repeat(np.arange(num_episodes), cells.shape[1])
  flat = features.reshape(-1, size)
  return decoding.evaluate(flat, cells.reshape(-1), episodes, seed=seed)


def _depth(said: np.ndarray, truth: np.ndarray) -> DepthScore:
  """The score of bands `[N, T, 4, 16]`."""
  flat = truth.reshape(-1, *depth_target.SHAPE)
  counts = np.stack([(flat == band).sum(axis=0) for band in range(depth_target.NUM_BANDS)])  # [8, 4, 16]
  return DepthScore(accuracy=float((said == truth).mean()), prior=float(counts.max(axis=0).sum() / flat.size))
