"""Plays a recording again: as an environment of this process, or served like an arm.

Actions change nothing: every step is the recorded one, with the same observations, rewards and endings. After the last
episode, the first one comes again. An episode that its client left early is cut off at its last step, with that
step's discount. That step may have been cut short, and is left out if it lacks what is shown, namely a picture.

    environment = replay.Replay("runs/recordings")
    environment = registry.make("environments.arm.replay:Replay", path="runs/recordings")  # As a config names it.
"""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import dm_env
import numpy as np
from dm_env import specs

from environments.arm import protocol, recording, safety
from environments.jaco import constants


class Replay(dm_env.Environment):
  """The episodes of a recording, in their order."""

  return_bounds = (0.0, float(constants.NUM_EPISODE_STEPS))  # A step pays 0 or 1.

  def __init__(self, path: str, observations: Sequence[str] | None = None):
    """Opens the recording `path`, a file or a folder of files, and shows `observations`.

    None means `protocol.by_default`; recordings from before `protocol.JITTER` lack that observation. An episode is left
    out if it has no step, or if a step lacks one of the observations, such as a picture that no client asked for. If
    the step that lacks one was cut short, only that step is left out.

    Raises:
      ValueError: if there is no recording, or no such episode.
    """
    self._path = pathlib.Path(path)
    self.about = recording.read_about(self._path)
    self.control_dt_s, self.task_name = self.about.control_dt_s, self.about.task
    if observations is None:
      observations = protocol.by_default(self.about.observation_spec)
    names = sorted(observations)
    self._spec = {name: spec for name, spec in self.about.observation_spec.items() if name in names}
    if len(self._spec) < len(names) or next(self.episodes(), None) is None:
      whole = (episode for episode in recording.episodes(self._path) if len(episode) > 1)
      has = ", ".join(sorted({name for episode in whole for name in episode[0].observation})) or "no whole step"
      raise ValueError(f"{path} has no episode with {', '.join(names)}; what it has is {has}")
    self.restart()

  def restart(self) -> None:
    """Goes back to the first episode."""
    self._coming = itertools.chain.from_iterable(self.episodes() for _ in itertools.count())
    self._is_over = True

  def episodes(self) -> Iterator[list[recording.Step]]:
    """The episodes that are played, once."""
    for episode in recording.episodes(self._path):
      if episode[-1].is_cut_short and not self._spec.keys() <= episode[-1].observation.keys():
        episode = episode[:-1]
      if len(episode) > 1 and all(self._spec.keys() <= step.observation.keys() for step in episode):
        yield episode

  def reset(self) -> dm_env.TimeStep:
    episode = next(self._coming)
    self._rest, self._last = iter(episode), episode[-1]
    return self._show(next(self._rest))

  def step(self, action: object) -> dm_env.TimeStep:
    """The next recorded step, whatever `action` is. After the last step of an episode, the first step of the next."""
    return self.reset() if self._is_over else self._show(next(self._rest))

  def simulated(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the simulation would show at the arm's position: see `environments.jaco.world.simulated`."""
    from environments.jaco import world  # Imported here: reading a recording needs no JAX.

    return world.simulated(observation)

  def observation_spec(self) -> Mapping[str, specs.Array]:
    return self._spec

  def reward_spec(self) -> specs.Array:
    return specs.Array((), np.float32, name=protocol.REWARD)

  def action_spec(self) -> specs.BoundedArray:
    return self.about.action_spec

  def _show(self, step: recording.Step) -> dm_env.TimeStep:
    self.recorded = step
    self._is_over = step is self._last
    observation = {name: step.observation[name] for name in self._spec}
    if step.step_type.first():
      return dm_env.restart(observation)
    step_type = dm_env.StepType.LAST if self._is_over else dm_env.StepType.MID
    return dm_env.TimeStep(step_type, np.float32(step.reward), step.discount, observation)


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
  """A recording in place of an arm: the arguments of `Replay`, except that None offers all that was recorded."""

  recording: str
  observations: tuple[str, ...] | None = None


class ReplayWorld:
  """A recording that the server plays like an arm's episodes (`world.ArmWorld`). Every client begins at its start."""

  def __init__(self, config: ReplayConfig, *, task: str, num_joints: int):
    """Raises `protocol.BridgeError` if there is no recording, or one of another task or number of joints."""
    try:
      observations = config.observations
      if observations is None:
        observations = tuple(recording.read_about(pathlib.Path(config.recording)).observation_spec)
      self._environment = Replay(config.recording, observations)
    except (ValueError, OSError) as error:
      raise protocol.BridgeError(str(error)) from None
    about = self._environment.about
    if (task, num_joints) != (about.task, *about.action_spec.shape):
      (recorded,) = about.action_spec.shape
      raise protocol.BridgeError(
        f"{config.recording} is of {about.task} with {recorded} joints; serve it with --task={about.task} "
        f"--num_joints={recorded}"
      )
    self.now_s = time.monotonic
    self.observation_spec, self.action_spec = self._environment.observation_spec, self._environment.action_spec
    self.is_over = True

  @property
  def asked_rad_s(self) -> np.ndarray:
    return self._environment.recorded.asked_rad_s

  @property
  def reading(self) -> protocol.Reading:
    return self._environment.recorded.reading

  def seed(self, seed: int) -> None:
    self._environment.restart()
    self.is_over = True

  def restart(self) -> None:
    self.is_over = True

  def step(
    self, action: np.ndarray | None, *, is_wanted: Callable[[], bool] = lambda: True
  ) -> tuple[dm_env.StepType, float, float]:
    timestep = self._environment.reset() if self.is_over else self._environment.step(action)
    self.is_over, self._observation = timestep.last(), timestep.observation
    if timestep.first():
      return timestep.step_type, 0.0, 1.0
    return timestep.step_type, float(timestep.reward), float(timestep.discount)

  def observe(self, names: Collection[str]) -> dict[str, np.ndarray]:
    return {name: self._observation[name] for name in names}

  def hold(self) -> None:
    pass

  def go_home(self, *, after_s: float, is_wanted: Callable[[], bool]) -> Iterator[str]:
    return iter(())

  def poll(self) -> None:
    pass

  def told(self) -> list[safety.Told]:
    return []
