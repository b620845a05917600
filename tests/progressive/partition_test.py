import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from progressive import network, partition
from tests.progressive import columns

LATERALS = {"column_0": {"fc": {"U": jnp.ones((2, 1)), "alpha": jnp.float32(1.0)}}}
TREE = ({"fc": {"kernel": jnp.ones((2, 2)), "laterals": LATERALS}}, {"fc": {"kernel": jnp.zeros((4,))}})


def test_split_and_merge_undo_each_other():
  trainable, frozen = partition.split(TREE, lambda path: path[0] == 1)
  assert partition.paths(trainable) == ((1, "fc", "kernel"),)
  assert partition.paths(frozen) == (
    (0, "fc", "kernel"),
    *((0, "fc", "laterals", "column_0", "fc", each) for each in ("U", "alpha")),
  )
  merged = partition.merge(trainable, frozen)
  assert jax.tree.structure(merged) == jax.tree.structure(TREE)
  jax.tree.map(np.testing.assert_array_equal, merged, TREE)


def test_a_predicate_that_gives_no_bool_loses_no_array():
  trainable, frozen = partition.split(TREE, lambda path: path[-1] == "kernel" and 2)
  assert {*partition.paths(trainable), *partition.paths(frozen)} == set(partition.paths(TREE))
  assert all(path[-1] == "kernel" for path in partition.paths(trainable))


def test_count_leaves_scales_out_unless_asked():
  assert partition.count(TREE) == 10
  assert partition.count(TREE, include_alpha=True) == 11
  assert partition.count({"fc": {"params": {"alpha": jnp.ones(7)}}}) == 7  # A module's own alpha is no adapter's scale.


def test_content_hash_is_sha256_of_paths_and_bytes():
  x = np.array([1.0, 2.0], np.float32)
  expected = hashlib.sha256(b"(('a',), 'float32', (2,))" + x.tobytes()).hexdigest()
  assert partition.content_hash({"a": jnp.asarray(x)}) == expected


def test_content_hash_sees_values_names_shapes_and_dtypes():
  trees = (
    {"a": jnp.zeros(4)},
    {"a": jnp.zeros(4).at[3].set(1e-30)},
    {"b": jnp.zeros(4)},
    {"a": jnp.zeros((2, 2))},
    {"a": jnp.zeros(4, jnp.int32)},
  )
  assert len({partition.content_hash(tree) for tree in trees}) == len(trees)
  assert partition.content_hash({"a": np.zeros(4, np.float32)}) == partition.content_hash(trees[0])


def test_no_gradient_to_a_frozen_column_exists():
  spec, params = columns.grown(columns.recurrent(), columns.recurrent())
  trainable, frozen = partition.split(params, lambda path: path[0] == 1)
  before = partition.content_hash(frozen)

  def loss(trainable):
    return jnp.square(columns.outputs(spec, partition.merge(trainable, frozen), columns.inputs(3))).sum()

  gradient = jax.jit(jax.grad(loss))(trainable)
  assert {path[0] for path in partition.paths(gradient)} == {1}
  assert partition.paths(gradient) == partition.paths(trainable)
  after = partition.split(
    partition.merge(jax.tree.map(lambda w, g: w - g, trainable, gradient), frozen), lambda path: path[0] == 1
  )[1]
  assert partition.content_hash(after) == before


def test_altering_one_weight_changes_the_hash():
  params = network.init(jax.random.key(0), network.Network((columns.proprioceptive(),)))
  before = partition.content_hash(params)
  params[0]["fc"]["kernel"] = params[0]["fc"]["kernel"].at[0, 0].add(1e-6)
  assert partition.content_hash(params) != before
