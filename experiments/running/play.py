"""Whole episodes of a task: returns, a summary of them, and pictures to look at."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from agents import actor_critic, evaluation, unroll
from analysis import intervals
from environments import batch as batch_lib
from environments import core
from experiments.report import video
from experiments.setup import learn
from experiments.setup import place as place_lib

_FILM_STEPS = 100  # Of a world in JAX.


class Played(NamedTuple):
  """Episodes, and pictures of some of them."""

  episodes: evaluation.Episodes
  frames: Sequence[np.ndarray] = ()  # [H, W, 3] each; none if no film was wanted, or the world has no pixels.
  captions: Sequence[str] = ()  # One for each.


def play(
  task: learn.Task,
  trainable: actor_critic.Params,
  frozen: actor_critic.Params,
  key: jax.Array,
  *,
  num_episodes: int,
  is_greedy: bool,
  has_film: bool = False,
  on_end: Callable[[int, float], None] = lambda episode, episode_return: None,
) -> Played:
  """Plays `num_episodes` whole episodes; a film shows these episodes (behind `dm_env`) or extra ones (in JAX).

  `on_end` is called for each episode behind `dm_env` as soon as it is over (`evaluation.host_evaluate`).
  """
  play_key, film_key = jax.random.split(key)
  if isinstance(task.place, place_lib.Host):
    world = video.Filmed(task.place.world) if has_film else task.place.world
    episodes = evaluation.host_evaluate(
      task.agent, trainable, frozen, world, play_key, num_episodes=num_episodes, greedy=is_greedy, on_end=on_end
    )
    return Played(episodes, world.frames, world.captions) if isinstance(world, video.Filmed) else Played(episodes)
  batch = task.place.batch(num_episodes, learn.input_names(task))
  episodes = evaluation.evaluate(task.agent, trainable, frozen, batch, play_key, greedy=is_greedy)
  has_film = has_film and "pixels" in task.place.world.observation_spec()
  return Played(episodes, *(_film(task, trainable, frozen, film_key, is_greedy) if has_film else ()))


def summarise(place: place_lib.Place, episodes: evaluation.Episodes) -> dict[str, float]:
  """Mean return with its interval (`analysis.intervals`; one episode has none), episodes, mean length."""
  bounds = place_lib.return_bounds(place)
  mean, low, high = (float(x) for x in intervals.of_mean(episodes.returns, bounds=bounds))
  interval = {"return_ci_low": low, "return_ci_high": high} if len(episodes.returns) > 1 else {}
  return {
    "return_mean": mean,
    **interval,
    "episodes": float(len(episodes.returns)),
    "length_mean": float(np.mean(episodes.lengths)),
  }


def _film(
  task: learn.Task, trainable: actor_critic.Params, frozen: actor_critic.Params, key: jax.Array, is_greedy: bool
) -> tuple[list[np.ndarray], list[str]]:
  """Frames of one world in JAX, and a caption for each."""
  assert isinstance(task.place, place_lib.Simulation)
  init_key, act_key = jax.random.split(key)
  one = task.place.batch(1, sorted({*learn.input_names(task), "pixels"}))
  start = batch_lib.begin(one, init_key)
  recurrent_state = actor_critic.initial_state(task.agent, 1)
  _, _, played = unroll.unroll(
    task.agent, trainable, frozen, one, start, recurrent_state, act_key, _FILM_STEPS, is_greedy
  )
  seen = jax.tree.map(lambda x: np.asarray(x[:, 0]), played.timesteps)
  return list(video.rgb(seen.observation["pixels"])), video.captions(seen.step_type == core.FIRST, seen.reward)
