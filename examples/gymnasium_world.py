"""A world of Gymnasium behind `dm_env`: the cart and its pole.

    python -m experiments.train --config=examples/gymnasium_world.py --workdir=runs/cart_pole

An episode that is cut short (`truncated`) keeps its discount of 1; one that ends (`terminated`) has 0. Actions must be
`Discrete` and observations a `Box`; other spaces need one more line. It needs only `pip install gymnasium`.
"""

from collections.abc import Mapping

import dm_env
import gymnasium
import numpy as np
from dm_env import specs
from ml_collections import config_dict

from experiments.configs import base


class FromGymnasium(dm_env.Environment):
  """`environment` as a dm_env environment; `seed` is for all its episodes."""

  def __init__(self, environment: gymnasium.Env, *, seed: int):
    self._environment, self._seed, self._is_last = environment, seed, True

  def observation_spec(self) -> Mapping[str, specs.Array]:
    space = self._environment.observation_space
    return {"state": specs.BoundedArray(space.shape, space.dtype, space.low, space.high, name="state")}

  def action_spec(self) -> specs.BoundedArray:
    space = self._environment.action_space
    return specs.BoundedArray((), np.int64, space.start, space.start + space.n - 1, name="action")

  def reset(self) -> dm_env.TimeStep:
    state, _ = self._environment.reset(seed=self._seed)
    self._seed, self._is_last = None, False  # It goes on from its own random numbers.
    return dm_env.restart({"state": state})

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._is_last:
      return self.reset()
    state, reward, terminated, truncated, _ = self._environment.step(int(action))
    self._is_last = terminated or truncated
    end = dm_env.termination if terminated else dm_env.truncation if truncated else dm_env.transition
    return end(float(reward), {"state": state})

  def close(self) -> None:
    self._environment.close()


def make(name: str = "CartPole-v1", *, seed: int = 0) -> FromGymnasium:
  """The world that Gymnasium calls `name`."""
  try:
    made = gymnasium.make(name)
  except gymnasium.error.Error as error:
    raise ValueError(f"Gymnasium does not make {name!r}: {error}") from error
  spaces = gymnasium.spaces
  if not (isinstance(made.action_space, spaces.Discrete) and isinstance(made.observation_space, spaces.Box)):
    raise ValueError(f"{name} has actions {made.action_space} and shows {made.observation_space}; write its specs here")
  return FromGymnasium(made, seed=seed)


def get_config() -> config_dict.ConfigDict:
  """One column in eight worlds."""
  return base.experiment(
    world="examples.gymnasium_world:make",
    world_options={"name": "CartPole-v1"},
    output_init="random",
    train=base.phase(
      column=base.column(inputs=("state",), conv=(), dense=(64,), lstm=()),
      steps=100_000,
      num_worlds=8,
      num_steps=20,
      evaluate_every=0,
      evaluation_episodes=20,
      save_every=50_000,
      video=False,
      learning_rate=3e-3,
      reward_scale=0.1,
    ),
  )
