"""Learns a target task from a trained network: progressively, by one of the baselines, or from scratch.

    python -m experiments.transfer --config=experiments/configs/jaco_corl2017.py --workdir=runs/arm \\
      --config.method=progressive --config.source=runs/column --config.target=arm://localhost:5005

The target is a world in JAX by its name, or an arm behind a bridge as `arm://host:port`.
"""

from collections.abc import Sequence

from ml_collections import config_dict

from agents import actor_critic
from environments import core
from experiments import binary, configuration, loop, population, session
from experiments.disk import released
from progressive import baselines, network


def make_task(config: config_dict.ConfigDict) -> session.Task:
  """The network that `config.method` starts from, on the target.

  Raises:
    ValueError: if there is no source where the method needs one, or the method makes no sense for it.
  """
  if config.method not in baselines.METHODS:
    raise ValueError(f"method={config.method!r} is none of {', '.join(baselines.METHODS)}")
  needs_none = config.method == "scratch" or (config.method == "random_column" and not config.source)
  source = None if needs_none else released.load_source(config.source)
  read = (*config.transfer.column.inputs, *(network.input_names(source.spec) if source else ()))
  world, environment = session.open_target(config.target, config.target_options, observations=read, seed=config.seed)
  target = world or environment
  assert target is not None
  num_choices = core.num_choices(target.action_spec())
  params, spec, is_trainable = baselines.prepare(
    configuration.make_key(config.seed, "network"),
    config.method,
    source_params=source.params if source else None,
    source_spec=source.spec if source else None,
    column_spec=configuration.make_column(config.transfer.column, target.observation_spec(), num_choices),
    output_init=config.output_init,
    alpha=config.alpha,
  )
  session.check_inputs(spec, target.observation_spec(), config.target)
  agent = actor_critic.Agent(spec, num_choices, configuration.make_hyper(config.transfer))
  return session.Task(agent, params, is_trainable, world=world, environment=environment)


def run(config: config_dict.ConfigDict, workdir: str) -> loop.TrainState:
  """Learns as `config.transfer` says; returns the last state."""
  return session.run(make_task(config), config, "transfer", workdir)


def main(argv: Sequence[str]) -> None:
  """Entry point: one run, or the many of a config with a sweep."""
  del argv
  config, workdir = binary.config(), binary.workdir()
  if "sweep" in config:
    population.run_and_keep_best(make_task, config, "transfer", workdir)
  else:
    run(config, workdir)


if __name__ == "__main__":
  binary.run(main, reads=(binary.CONFIG, binary.WORKDIR))
