"""A2C of Stable-Baselines3 in Pong, by its usual script: the peer beside which learning is timed (`[peer]`).

Its defaults for Atari: 16 games in one process, four frames stacked, its `CnnPolicy`, unrolls of 5 steps.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

_GAME = "PongNoFrameskip-v4"


def training(
  num_envs: int, num_steps: int, *, conv: Sequence[tuple[int, int, int]] = (), dense: Sequence[int] = ()
) -> Callable[[], None]:
  """Each call goes on learning for `num_steps` steps of `num_envs` games.

  Args:
    num_envs: number of games, which run one after the other, as in `make_atari_env`.
    num_steps: steps of every game, a multiple of an unroll's 5.
    conv: (channels, kernel, stride) of each layer, in place of its own network; empty for its own network.
    dense: units of each layer behind the convolutions.

  Raises:
    ModuleNotFoundError: if the extra `peer` is not installed.
  """
  try:
    import ale_py
    import gymnasium
    import stable_baselines3
    from stable_baselines3.common import env_util, vec_env
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'{error}; the stage "peer" needs pip install "progressive-robots[peer]"') from None
  gymnasium.register_envs(ale_py)
  games = vec_env.VecFrameStack(env_util.make_atari_env(_GAME, n_envs=num_envs, seed=0), n_stack=4)
  network = {"features_extractor_class": _features(conv, dense)} if conv else {}
  model = stable_baselines3.A2C("CnnPolicy", games, policy_kwargs=network, seed=0, device="cpu")
  return functools.partial(model.learn, total_timesteps=num_envs * num_steps, reset_num_timesteps=False)


def _features(conv: Sequence[tuple[int, int, int]], dense: Sequence[int]) -> type:
  """Convolutions and dense layers with ReLU, as a features extractor."""
  import torch
  from stable_baselines3.common import torch_layers

  class Features(torch_layers.BaseFeaturesExtractor):
    def __init__(self, observation_space: Any):
      super().__init__(observation_space, dense[-1])
      layers: list[torch.nn.Module] = []
      for channels, kernel, stride in conv:
        layers += [torch.nn.LazyConv2d(channels, kernel, stride), torch.nn.ReLU()]
      layers.append(torch.nn.Flatten())
      for units in dense:
        layers += [torch.nn.LazyLinear(units), torch.nn.ReLU()]
      self.layers = torch.nn.Sequential(*layers)
      self.layers(torch.zeros(1, *observation_space.shape))  # So that every layer knows its inputs.

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
      return self.layers(observations)

  return Features
