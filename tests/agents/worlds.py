"""Worlds whose right answers are known: what to choose, what to remember, what a state is worth."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from flax import struct

from environments import core, registry


def serve(patch, make):
  """Lets `make(name, **options)` make every world, whatever its name, until `patch` is undone."""
  patch.setattr(registry, "make", make)
  patch.setattr(registry, "resolve", lambda name, options: options)


@struct.dataclass
class State:
  time: jax.Array  # [] int32, transitions since the episode began.
  cue: jax.Array  # [] int32
  action: jax.Array  # [] int32, the last action.
  reward: jax.Array  # [] float32


class _World:
  """What the worlds below share: `length` steps, one action entry, observations of `size` floats."""

  num_choices: tuple[int, ...] = (2,)
  length: int
  terminates: bool = True
  size: int

  def observation_spec(self):
    return {"signal": specs.BoundedArray((self.size,), jnp.float32, 0.0, 1.0, name="signal")}

  def privileged_spec(self):
    return {"cue": specs.BoundedArray((2,), jnp.float32, 0.0, 1.0, name="cue")}

  def action_spec(self):
    maximum = [n - 1 for n in self.num_choices]
    return specs.BoundedArray((len(self.num_choices),), jnp.int32, 0, maximum, name="action")

  def reset(self, key):
    zero = jnp.int32(0)
    return State(time=zero, cue=jax.random.randint(key, (), 0, 2, jnp.int32), action=zero, reward=jnp.float32(0))

  def step(self, state, action):
    time = state.time + jnp.int32(1)
    reward = self.reward(state.replace(time=time), action)
    return state.replace(time=time, action=action[0], reward=reward)

  def observe(self, state):
    is_last = state.time == self.length
    step_type = jnp.where(state.time == 0, core.FIRST, jnp.where(is_last, core.LAST, core.MID)).astype(jnp.int32)
    discount = jnp.where(is_last & self.terminates, jnp.float32(0), jnp.float32(1))
    privileged = {"cue": jax.nn.one_hot(state.cue, 2)}
    return core.TimeStep(step_type, state.reward, discount, {"signal": self.signal(state)}, privileged)


@dataclasses.dataclass(frozen=True)
class Bandit(_World):
  """One step. Each of the two entries earns half a point if it is right. (1, 2) is right."""

  num_choices: tuple[int, ...] = (2, 3)
  length: int = 1
  size: int = 1

  def reward(self, state, action):
    return 0.5 * jnp.sum(action == jnp.array([1, 2]), dtype=jnp.float32)

  def signal(self, state):
    return jnp.ones(1, jnp.float32)


@dataclasses.dataclass(frozen=True)
class CueRecall(_World):
  """Shows a cue at the start, then nothing. The last action earns 1 if it names the cue. Without memory: 1/2."""

  length: int = 5
  size: int = 3

  def reward(self, state, action):
    return ((state.time == self.length) & (action[0] == state.cue)).astype(jnp.float32)

  def signal(self, state):
    cue = jnp.where(state.time == 0, jax.nn.one_hot(state.cue, 2), 0.0)
    is_time = (state.time == self.length - 1).astype(jnp.float32)
    return jnp.append(cue, is_time)


@dataclasses.dataclass(frozen=True)
class SlowCueRecall(CueRecall):
  """The same, with a sleep of a hundredth of a second per step, whatever the processor."""

  def step(self, state, action):
    def sleep(value):
      time.sleep(0.01)
      return np.asarray(value)

    state = super().step(state, action)
    return state.replace(time=jax.pure_callback(sleep, state.time, state.time, vmap_method="broadcast_all"))


@dataclasses.dataclass(frozen=True)
class Chain(_World):
  """Every action earns one point a step. An episode ends after `length` steps, by truncation unless `terminates`.

  With discount g, if the end terminates, a state at `time` is worth (1 - g^(length - time)) / (1 - g), and it shows
  `time`, one-hot. If the end truncates, every state is worth 1 / (1 - g) and shows the same: an episode's last state is
  only ever bootstrapped from, never regressed on, so its value must be that of a state seen elsewhere. Both show the
  last action.
  """

  terminates: bool = False
  length: int = 4

  @property
  def size(self):
    return self.length + 2

  def reward(self, state, action):
    return jnp.float32(1)

  def signal(self, state):
    time = jax.nn.one_hot(state.time, self.length + 1) if self.terminates else jnp.ones(self.length + 1)
    return jnp.append(time, state.action.astype(jnp.float32))
