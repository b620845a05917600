"""Two columns and a training loop of your own: features of the first task help with the second, and are kept.

    python examples/two_columns.py

Both tasks are readouts of the same hidden features of a random teacher. The first column has to discover these features
from 2,000 examples. The second task has only 100 examples, too few to discover the features again.
"""

import jax
import jax.numpy as jnp
import optax

import progressive as pn

NUM_INPUTS, NUM_FEATURES, NUM_OUTPUTS = 8, 16, 4
NUM_STEPS = 1000


def column(size: int) -> pn.Column:
  """x -> `size` features -> `size` features -> output."""
  return pn.Column(
    inputs=(("x", (NUM_INPUTS,)),),
    layers=(
      pn.Dense("fc1", ("x",), size, activation="tanh"),
      pn.Dense("fc2", ("fc1",), size, activation="tanh"),
      pn.Dense("output", ("fc2",), NUM_OUTPUTS, activation=None, laterals="linear"),
    ),
  )


def examples(key: jax.Array, task: int, num: int) -> tuple[jax.Array, jax.Array]:
  """(x `[num, D]`, y `[num, outputs]`) of a task: the task's own readout of features that all tasks share."""
  x = jax.random.normal(key, (num, NUM_INPUTS))
  features = jnp.tanh(2 * x @ jax.random.normal(jax.random.key(100), (NUM_INPUTS, NUM_FEATURES)) / NUM_INPUTS**0.5)
  return x, features @ jax.random.normal(jax.random.key(200 + task), (NUM_FEATURES, NUM_OUTPUTS)) / NUM_FEATURES**0.5


def error(params: tuple, spec: pn.Network, *, data: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Mean squared error of the newest column."""
  activations, _ = pn.apply(params, spec, inputs={"x": data[0]})
  return jnp.mean(jnp.square(activations[-1]["output"] - data[1]))


def learn(params: tuple, spec: pn.Network, *, data: tuple[jax.Array, jax.Array]) -> tuple:
  """The parameters after `NUM_STEPS` steps of Adam on only the newest column."""
  newest = len(spec.columns) - 1
  trainable, frozen = pn.split(params, lambda path: path[0] == newest)
  optimizer = optax.adam(3e-3)

  def step(carry: tuple, _: None) -> tuple:
    trainable, state = carry
    gradient = jax.grad(lambda t: error(pn.merge(t, frozen), spec, data=data))(trainable)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(trainable, updates), state), None

  (trainable, _), _ = jax.lax.scan(step, (trainable, optimizer.init(trainable)), length=NUM_STEPS)
  return pn.merge(trainable, frozen)


def main() -> None:
  """Learns task 1, then task 2 with and without the first column."""
  wide, narrow = pn.Network((column(64),)), pn.Network((column(16),))
  first = learn(pn.init(jax.random.key(0), wide), wide, data=examples(jax.random.key(1), 1, 2000))
  few, test = examples(jax.random.key(2), 2, 100), examples(jax.random.key(3), 2, 1000)

  both = pn.Network((*wide.columns, *narrow.columns))
  grown = learn(pn.grow(jax.random.key(4), first, spec=both, output_init="random"), both, data=few)
  scratch = learn(pn.init(jax.random.key(4), narrow), narrow, data=few)

  print("first column kept, bit for bit:", pn.content_hash(grown[:1]) == pn.content_hash(first))
  print(f"task 2, error with laterals:    {error(grown, both, data=test):.4f}")
  print(f"task 2, error from scratch:     {error(scratch, narrow, data=test):.4f}")
  print(f"parameters of the new column:   {pn.count(grown[1]):,}, without laterals {pn.count(scratch):,}")


if __name__ == "__main__":
  main()
