import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from progressive import baselines, network, partition
from tests.progressive import columns

SOURCE = columns.grown(columns.recurrent(4, 6, 8, 8))
NARROW = columns.recurrent()
OBSERVATIONS = columns.inputs(3)


def _prepare(method, column_spec=NARROW, **kwargs):
  """(spec, parameters, which of them learn)"""
  source = {"source_spec": SOURCE[0], "source_params": SOURCE[1]}
  params, spec, is_trainable = baselines.prepare(jax.random.key(7), method, column_spec=column_spec, **source, **kwargs)
  return spec, params, is_trainable


def _trainable(params, is_trainable):
  return {path[:2] for path in partition.paths(partition.split(params, is_trainable)[0])}


def test_progressive_adds_a_column_and_trains_it_alone():
  spec, params, is_trainable = _prepare("progressive")
  assert spec.columns == (*SOURCE[0].columns, NARROW)
  assert _trainable(params, is_trainable) == {(1, layer.name) for layer in NARROW.layers}
  frozen = partition.split(params, is_trainable)[1]
  assert partition.content_hash(frozen[0]) == partition.content_hash(SOURCE[1][0])


@pytest.mark.parametrize(
  "method,layers", (("finetune", ("conv1", "conv2", "fc", "lstm", "output")), ("finetune_head", ("output",)))
)
def test_finetuning_goes_on_with_the_wide_source(method, layers):
  spec, params, is_trainable = _prepare(method)
  assert spec == SOURCE[0]
  assert partition.content_hash(params) == partition.content_hash(SOURCE[1])
  assert _trainable(params, is_trainable) == {(0, name) for name in layers}


def test_scratch_is_the_new_column_alone_and_needs_no_source():
  params, spec, is_trainable = baselines.prepare(jax.random.key(7), "scratch", column_spec=NARROW)
  assert spec.columns == (NARROW,)
  assert partition.split(params, is_trainable)[1] == jax.tree.map(lambda x: None, params)


@pytest.mark.parametrize("method", ["scratch", "random_column"])
def test_a_column_that_names_its_sources_can_stand_alone(method):
  layers = tuple(dataclasses.replace(one, sources=((0, "fc"),)) if one.name == "fc" else one for one in NARROW.layers)
  named = dataclasses.replace(NARROW, layers=layers)
  _, spec, _ = baselines.prepare(jax.random.key(7), method, column_spec=named)
  assert spec.columns[0] == NARROW
  assert spec.columns[1:] == (() if method == "scratch" else (named,))


@pytest.mark.parametrize("method", baselines.FINETUNING)
def test_parameters_that_are_donated_to_a_step_leave_the_source(method):
  spec, params, is_trainable = _prepare(method)
  before = np.asarray(columns.outputs(*SOURCE, OBSERVATIONS))
  own, _ = partition.split(params, is_trainable)
  step = jax.jit(lambda own: jax.tree.map(lambda x: x + 1, own), donate_argnums=0)
  step(own)
  np.testing.assert_array_equal(columns.outputs(*SOURCE, OBSERVATIONS), before)


def test_random_column_is_progressive_with_other_frozen_weights():
  spec, params, is_trainable = _prepare("random_column")
  progressive = _prepare("progressive")
  assert spec == progressive[0]
  assert _trainable(params, is_trainable) == _trainable(progressive[1], progressive[2])
  assert float(jnp.abs(params[0]["fc"]["kernel"] - SOURCE[1][0]["fc"]["kernel"]).max()) > 0.1
  before = columns.outputs(network.Network(spec.columns[:1]), params[:1], OBSERVATIONS)
  np.testing.assert_array_equal(columns.outputs(spec, params, OBSERVATIONS), before)


def test_progressive_methods_start_as_the_source():
  before = columns.outputs(*SOURCE, OBSERVATIONS)
  for method in ("progressive", "finetune", "finetune_head"):
    np.testing.assert_array_equal(columns.outputs(*_prepare(method)[:2], OBSERVATIONS), before)
  random = columns.outputs(*_prepare("progressive", output_init="random")[:2], OBSERVATIONS)
  assert float(jnp.abs(random - before).max()) > 0.01


def test_a_vision_column_cannot_be_finetuned_on_proprioception():
  for method in ("finetune", "finetune_head"):
    with pytest.raises(ValueError, match=f"'{method}' makes no sense here.*pixels.*proprioception.*'progressive'"):
      _prepare(method, columns.proprioceptive())
  assert _prepare("progressive", columns.proprioceptive())[0].columns[1] == columns.proprioceptive()


def test_what_else_makes_no_sense_is_refused_by_name():
  with pytest.raises(ValueError, match="'output' has 7 outputs, the target's 9"):
    _prepare("finetune", columns.recurrent(outputs=9))
  with pytest.raises(ValueError, match="method='distill' is not one of"):
    _prepare("distill")
  with pytest.raises(ValueError, match="method='progressive' needs a source network"):
    baselines.prepare(jax.random.key(0), "progressive", column_spec=NARROW)


def test_random_column_needs_the_sources_shape_alone():
  _, spec, _ = baselines.prepare(jax.random.key(0), "random_column", source_spec=SOURCE[0], column_spec=NARROW)
  assert len(spec.columns) == 2


def test_random_column_without_a_source_is_one_like_the_new():
  params, spec, is_trainable = baselines.prepare(jax.random.key(0), "random_column", column_spec=NARROW)
  assert spec.columns == (NARROW, NARROW)
  trainable, frozen = partition.split(params, is_trainable)
  assert {path[0] for path in partition.paths(trainable)} == {1}
  assert {path[0] for path in partition.paths(frozen)} == {0}
