"""Drives an arm, or any world of joints that go back, rest or go forwards, by typed commands: `2+ 3- 10`."""

import itertools
from collections.abc import Iterable, Iterator

import dm_env
import numpy as np

HELP = """2+      joint 2 forwards for one step; 2- backwards; 2+ 10 for ten steps; several joints: 2+ 3- 10
hold 5  rest for five steps; reset  a new episode; quit
random 3000  all joints to and fro at random for 3000 steps, over episodes: what --mode=identify learns most from"""
_MOST_STEPS = 1_000_000  # Per command: a day.
_HELD_STEPS = 3  # Steps between two random draws of a joint's direction, on average.


def parse_command(text: str, num_joints: int) -> tuple[np.ndarray, int]:
  """Parses a line such as `2+ 3- 10` or `hold 5` to an action, int32 `[num_joints]`, and its number of steps.

  Raises:
    ValueError: if the line has neither form.
  """
  action = np.ones(num_joints, np.int32)
  num_steps = 1
  for word in text.split():
    joint, sign = word[:-1], word[-1]
    if word.isdigit():
      num_steps = int(word)
    elif sign in "+-" and joint.isdigit() and 1 <= int(joint) <= num_joints:
      action[int(joint) - 1] = 2 if sign == "+" else 0
    elif word != "hold":
      raise ValueError(f"{word!r} is no command: joints are 1 to {num_joints}, e.g. 2+ or 3- 10; ? helps")
  if num_steps > _MOST_STEPS:
    raise ValueError(f"{num_steps} steps are more than a day; give at most {_MOST_STEPS}")
  return action, num_steps


def random_actions(rng: np.random.Generator, num_joints: int) -> Iterator[np.ndarray]:
  """Actions, int32 `[num_joints]`, in which every joint goes back or forwards, and reverses now and then."""
  action = 2 * rng.integers(0, 2, num_joints, dtype=np.int32)
  while True:
    yield action
    drawn = 2 * rng.integers(0, 2, num_joints, dtype=np.int32)
    action = np.where(rng.random(num_joints) < 1.0 / _HELD_STEPS, drawn, action)


def drive(environment: dm_env.Environment, commands: Iterable[str]) -> None:
  """Plays typed commands, one line each, until `quit` or the last one."""
  num_joints = environment.action_spec().shape[0]
  timestep, total = environment.reset(), 0.0
  wild = random_actions(np.random.default_rng(0), num_joints)
  print(HELP)
  for text in commands:
    text = text.strip()
    if text == "quit":
      break
    if text == "?":
      print(HELP)
    elif text == "reset":
      timestep, total = environment.reset(), 0.0
      print("a new episode")
    elif text:
      try:
        first, *rest = text.split()
        is_random = first == "random" and all(word.isdigit() for word in rest)
        action, num_steps = parse_command(text.replace("random", "hold") if is_random else text, num_joints)
      except ValueError as error:
        print(error)
        continue
      actions = itertools.islice(wild, num_steps) if is_random else itertools.repeat(action, num_steps)
      for each in actions:
        timestep = environment.step(each)
        if timestep.first():
          total = 0.0
          print("a new episode")
        total += timestep.reward or 0.0
        if timestep.last():
          print(f"the episode ends with return {total:g}; the next step starts another")
          if not is_random:
            break
      shown = {name: np.round(value, 2).tolist() for name, value in timestep.observation.items() if value.ndim == 1}
      print(f"return {total:g}  {shown}")
