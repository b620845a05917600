"""A user's own world through the binaries: the world in `examples/`, and the same game behind dm_env."""

import json
import os
import pathlib
import subprocess
import sys

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from environments import batch, core, registry
from experiments.configs import base
from experiments.running import run
from experiments.setup import learn, place
from experiments.store import released
from tests.agents import worlds

ROOT = pathlib.Path(__file__).resolve().parents[2]


class HostCatch(dm_env.Environment):
  """Catch as many users write it: a nested observation, an action of -1, 0 or 1, and numpy alone."""

  def __init__(self, *, num_rows: int = 10, num_columns: int = 5, seed: int = 0):
    self._shape, self._random, self._row = (num_rows, num_columns), np.random.default_rng(seed), None

  def observation_spec(self):
    return {"pixels": specs.BoundedArray((*self._shape, 1), np.uint8, 0, 255), "name": specs.StringArray(())}

  def action_spec(self):
    return specs.BoundedArray((), np.int64, -1, 1, name="move")

  def reset(self):
    self._row, self._column, self._paddle = 0, self._random.integers(self._shape[1]), self._shape[1] // 2
    return dm_env.restart(self._observation())

  def step(self, action):
    if self._row in (None, self._shape[0] - 1):
      return self.reset()
    self.action_spec().validate(action)
    self._row += 1
    self._paddle = min(max(self._paddle + int(action), 0), self._shape[1] - 1)
    if self._row < self._shape[0] - 1:
      return dm_env.transition(0.0, self._observation())
    return dm_env.termination(1.0 if self._paddle == self._column else -1.0, self._observation())

  def _observation(self):
    board = np.zeros((*self._shape, 1), np.uint8)
    board[self._row, self._column] = board[-1, self._paddle] = 255
    return {"pixels": board, "name": "catch"}


def _place(timestep) -> tuple[list[int], list[int]]:
  """Columns of the ball and of the paddle on a board before its last row."""
  board = np.asarray(timestep.observation["pixels"])[..., 0]
  return int(board[:-1].max(0).argmax()), int(board[-1].argmax())


def test_the_example_plays_as_it_says():
  """Against the same game in numpy: pictures, rewards and ends of an episode, ball for ball."""
  world = registry.make("examples.own_world:Catch")
  theirs = registry.make("tests.environments.own_world_test:HostCatch", seed=0)
  for moves in ([0] * 9, [2] * 9, [1, 1, 0, 0, 2, 2, 2, 2, 1]):
    seen = theirs.reset()
    ball, _ = _place(seen)
    state = world.reset(jax.random.key(0)).replace(column=jnp.int32(ball))
    for move in moves:
      np.testing.assert_array_equal(world.observe(state).observation["pixels"], seen.observation["pixels"])
      state, seen = world.step(state, jnp.array([move], jnp.int32)), theirs.step(np.array([move], np.int32))
      ours = world.observe(state)
      assert (int(ours.step_type), float(ours.reward)) == (int(seen.step_type), seen.reward)
      assert float(ours.discount) == seen.discount
    assert seen.last()


def test_who_follows_the_ball_catches_it():
  games = batch.Batch(registry.make("examples.own_world:Catch"), 16, ("pixels",), ("column",))
  state, rewards = games.init(jax.random.key(0)), []
  balls = np.asarray(state.timestep.privileged["column"])
  assert len(set(balls)) > 2
  for _ in range(9):
    boards = np.asarray(state.timestep.observation["pixels"])[..., 0]
    action = 1 + np.sign(balls - boards[:, -1].argmax(1))
    state = games.step(state, jnp.asarray(action[:, None], jnp.int32))
    rewards.append(np.asarray(state.timestep.reward))
  np.testing.assert_array_equal(np.sum(rewards, 0), 1.0)
  assert (np.asarray(state.timestep.step_type) == core.LAST).all()


def _run(*arguments: str) -> None:
  command = [sys.executable, "-m", "experiments.train", "--config=examples/own_world_config.py", *arguments]
  variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
  done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr


def test_a_world_with_a_tuple_option_is_trained_continued_and_played(tmp_path):
  """Its config comes back from JSON with a list."""
  options = {"num_choices": (3, 3)}
  config = base.experiment(
    world="tests.agents.worlds:Bandit",
    world_options=options,
    train=base.phase(
      column=base.column(inputs=("signal",), conv=(), dense=(4,), lstm=()),
      steps=16,
      num_worlds=2,
      num_steps=4,
      evaluate_every=0,
      evaluation_episodes=0,
      save_every=0,
    ),
  )
  run.run(config, tmp_path)
  config.train.steps = 32
  run.run(config, tmp_path)
  task = learn.player(released.load_source(tmp_path), *released.trained_in(tmp_path))
  assert task.place.world == worlds.Bandit(**options)
  assert place.num_choices(task.place) == (3, 3)


def test_the_example_is_trained_and_goes_on_behind_dm_env(tmp_path):
  """Runs the binaries themselves, to test that names on the command line lead to the user's worlds."""
  own, host = tmp_path / "own", tmp_path / "host"
  sizes = {"steps": 256, "num_worlds": 4, "num_steps": 8, "evaluation_episodes": 2}
  _run(f"--workdir={own}", *(f"--config.train.{name}={value}" for name, value in sizes.items()))
  sizes |= {"steps": 40, "num_worlds": 1, "evaluate_every": 0}
  given = [f"--config.train.{name}={value}" for name, value in sizes.items()]
  world = "tests.environments.own_world_test:HostCatch"
  _run(f"--workdir={host}", "--config.method=progressive", f"--config.source={own}", f"--config.world={world}", *given)
  records = [json.loads(line) for line in (host / "metrics.jsonl").read_text().splitlines()]
  episodes = [record for record in records if record["kind"] == "episode"]
  assert len(episodes) == 4 and {record["length"] for record in episodes} == {9.0}  # 40 steps: 4 times 9 and a start.
  assert {record["return"] for record in episodes} <= {-1.0, 1.0}
