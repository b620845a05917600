"""Driving an arm, or any world of joints that go back, rest or go forwards, by typed commands: `2+ 3- 10`."""

from collections.abc import Iterable

import dm_env
import numpy as np

HELP = """2+      joint 2 forwards for one step; 2- backwards; 2+ 10 for ten steps; several joints: 2+ 3- 10
hold 5  rest for five steps; reset  a new episode; quit"""


def parse_command(text: str, num_joints: int) -> tuple[np.ndarray, int]:
  """An action, int32 `[num_joints]`, and for how many steps, from a line such as `2+ 3- 10` or `hold 5`.

  Raises:
    ValueError: if the line says neither.
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
  return action, num_steps


def drive(environment: dm_env.Environment, commands: Iterable[str]) -> None:
  """Plays typed commands, one line each, until `quit` or the last one."""
  num_joints = environment.action_spec().shape[0]
  timestep, total = environment.reset(), 0.0
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
        action, num_steps = parse_command(text, num_joints)
      except ValueError as error:
        print(error)
        continue
      for _ in range(num_steps):
        timestep = environment.step(action)
        if timestep.first():
          total = 0.0
          print("a new episode")
        total += timestep.reward or 0.0
        if timestep.last():
          print(f"the episode ends with return {total:g}; the next step starts another")
          break
      shown = {name: np.round(value, 2).tolist() for name, value in timestep.observation.items() if value.ndim == 1}
      print(f"return {total:g}  {shown}")
