"""Small agents for the worlds beside this file."""

import jax

from agents import actor_critic, heads
from progressive import column, layers, network, partition


def column_spec(world, *, memory, size=32):
  """hidden -> memory (LSTM) or a second dense layer -> output."""
  second = layers.LSTM("memory", ("hidden",), size) if memory else layers.Dense("memory", ("hidden",), size)
  output_size = heads.output_size(world.num_choices)
  return column.Column(
    inputs=(("signal", (world.size,)),),
    layers=(
      layers.Dense("hidden", ("signal",), size),
      second,
      layers.Dense("output", ("memory",), output_size, activation=None, laterals="linear"),
    ),
  )


def make(world, *, memory=True, seed=0, **hyper):
  """(agent, trainable, frozen) with one column, all of which learns."""
  spec = network.Network((column_spec(world, memory=memory),))
  trainable, frozen = partition.split(network.init(jax.random.key(seed), spec), lambda path: True)
  return actor_critic.Agent(spec, world.num_choices, actor_critic.Hyper(**hyper)), trainable, frozen


def make_progressive(world, *, seed=0, **hyper):
  """The same with a frozen recurrent column and a smaller recurrent column that learns."""
  first = network.Network((column_spec(world, memory=True),))
  spec = network.Network((*first.columns, column_spec(world, memory=True, size=8)))
  params_key, grow_key = jax.random.split(jax.random.key(seed))
  params = network.grow(grow_key, network.init(params_key, first), spec=spec)
  trainable, frozen = partition.split(params, lambda path: path[0] == 1)
  return actor_critic.Agent(spec, world.num_choices, actor_critic.Hyper(**hyper)), trainable, frozen
