"""Trains the first column of a progressive network in a world in JAX.

    python -m experiments.train --config=experiments/configs/jaco_corl2017.py --workdir=runs/column

The same command continues a run that was stopped, exactly.
"""

from collections.abc import Sequence

from ml_collections import config_dict

from agents import actor_critic, auxiliary
from environments import core
from experiments import binary, configuration, loop, population, session
from experiments.disk import released
from progressive import network


def make_task(config: config_dict.ConfigDict) -> session.Task:
  """A freshly initialised column on the config's world."""
  world = configuration.make_world(config.world, config.world_options)
  num_choices = core.num_choices(world.action_spec())
  column = configuration.make_column(config.train.column, world.observation_spec(), num_choices)
  spec = network.Network((column,))
  heads = configuration.make_auxiliary(config.train)
  agent = actor_critic.Agent(spec, num_choices, configuration.make_hyper(config.train), heads)
  if config.train.start_from:
    source = released.load_source(config.train.start_from)
    if source.spec != spec:
      raise ValueError(
        f"train.start_from={config.train.start_from!r} holds another network than train.column describes"
      )
    params = source.params
  else:
    params = network.init(configuration.make_key(config.seed, "network"), spec)
  heads_key = configuration.make_key(config.seed, "auxiliary")
  params = auxiliary.init(heads_key, spec, params, heads, world.privileged_spec())
  return session.Task(agent, params, is_trainable=lambda path: True, world=world)


def run(config: config_dict.ConfigDict, workdir: str) -> loop.TrainState:
  """Trains as `config.train` says; returns the last state."""
  return session.run(make_task(config), config, "train", workdir)


def main(argv: Sequence[str]) -> None:
  """Entry point: one run, or the many of a config with a sweep."""
  del argv
  config, workdir = binary.config(), binary.workdir()
  if "sweep" in config:
    population.run_and_keep_best(make_task, config, "train", workdir)
  else:
    run(config, workdir)


if __name__ == "__main__":
  binary.run(main, reads=(binary.CONFIG, binary.WORKDIR))
