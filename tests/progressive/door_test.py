"""The public names of `import progressive as pn`, and what a user's own training loop needs from them."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import progressive as pn
from tests import conftest
from tests.progressive import columns

NUM_STEPS = 4
ORDER = ("key", "params", "spec")
FUNCTIONS = [name for name in pn.__all__ if inspect.isfunction(getattr(pn, name))]


def _feed_forward():
  return pn.Column(
    (("x", (3,)),),
    (pn.Dense("fc", ("x",), 5), pn.Dense("output", ("fc",), 2, activation=None, laterals="linear")),
  )


def _two_columns(*column_specs):
  spec = pn.Network(columns=column_specs)
  return spec, pn.init(jax.random.key(0), spec)


def _x(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# Names and signatures.


@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_arguments_by_position_in_one_order(name):
  parameters = list(inspect.signature(getattr(pn, name)).parameters.values())
  by_position = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
  assert 1 <= len(by_position) <= 2
  assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(by_position) :])
  names = [p.name for p in parameters if p.name in ORDER]
  assert names == sorted(names, key=ORDER.index)


def test_there_are_about_twenty_names_and_all_have_docstrings():
  assert 18 <= len(pn.__all__) <= 24 and set(pn.__all__) <= set(dir(pn))
  assert {"init", "grow", "apply", "initial_state", "split", "merge", "prepare"} <= set(FUNCTIONS)
  assert all(inspect.getdoc(getattr(pn, name)) for name in pn.__all__)


def test_progressive_imports_none_of_our_other_packages():
  code = "import sys, progressive; print(*sorted({name.split('.')[0] for name in sys.modules}))"
  done = subprocess.run([sys.executable, "-c", code], cwd=conftest.ROOT, capture_output=True, text=True, check=True)
  imported = set(done.stdout.split())
  assert "progressive" in imported
  unwanted = {
    "agents",
    "environments",
    "experiments",
    "analysis",
    "orbax",
    "mujoco",
    "ml_collections",
    "optax",
    "dm_env",
  }
  assert not imported & unwanted


# Examples without time, and sequences.


@pytest.mark.parametrize("leading", ((), (7,), (2, 3), (0,)))
def test_examples_without_time_equal_numpy(leading):
  spec, params = _two_columns(_feed_forward(), _feed_forward())
  x = _x(*leading, 3)
  activations, state = pn.apply(params, spec, inputs={"x": x})
  assert state == ({}, {})
  w0, w1 = jax.tree.map(np.asarray, params)
  fc = [np.maximum(x @ w["fc"]["kernel"] + w["fc"]["bias"], 0) for w in (w0, w1)]
  lateral = fc[0] @ w1["output"]["laterals"]["column_0"]["fc"]["U"]
  expected = fc[1] @ w1["output"]["kernel"] + w1["output"]["bias"] + lateral
  assert activations[-1]["output"].shape == (*leading, 2)
  np.testing.assert_allclose(activations[-1]["output"], expected, rtol=1e-5, atol=1e-6)


def test_additions_without_time_are_seen_above():
  spec, params = _two_columns(_feed_forward())
  added = _x(2, 4, 5)
  plain, _ = pn.apply(params, spec, inputs={"x": _x(2, 4, 3)})
  moved, _ = pn.apply(params, spec, inputs={"x": _x(2, 4, 3)}, additions={(0, "fc"): added})
  expected = plain[0]["output"] + added @ params[0]["output"]["kernel"]
  np.testing.assert_allclose(moved[0]["output"], expected, rtol=1e-4, atol=1e-5)


def test_pictures_without_time_equal_one_by_one():
  spec, params = _two_columns(columns.feed_forward(), columns.feed_forward())
  pixels = columns.inputs(6)["pixels"].reshape(2, 3, 12, 12, 3)
  apply = jax.jit(pn.apply, static_argnums=1)
  whole = apply(params, spec, inputs={"pixels": pixels})[0][-1]["output"]
  for i in range(2):
    for j in range(3):
      one = apply(params, spec, inputs={"pixels": pixels[i, j]})[0][-1]["output"]
      np.testing.assert_allclose(whole[i, j], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_reset", (False, True))
def test_batches_of_sequences_equal_each_alone(is_reset):
  spec, params = _two_columns(columns.proprioceptive(), columns.proprioceptive())
  inputs = {"proprioception": _x(NUM_STEPS, 2, 3, 5), "target": _x(NUM_STEPS, 2, 3, 3)}
  is_first = np.random.default_rng(0).random((NUM_STEPS, 2, 3)) < 0.4 if is_reset else None
  state = jax.tree.map(lambda s: s + 0.5, pn.initial_state(spec, batch_shape=(2, 3)))
  apply = jax.jit(pn.apply, static_argnums=1)
  whole, last = apply(params, spec, inputs=inputs, state=state, is_first=is_first)
  for i in range(2):
    for j in range(3):
      alone, after = apply(
        params,
        spec,
        inputs={name: x[:, i, j] for name, x in inputs.items()},
        state=jax.tree.map(lambda s: s + 0.5, pn.initial_state(spec)),
        is_first=is_first[:, i, j] if is_reset else np.zeros(NUM_STEPS, bool),
      )
      close = lambda a, b, i=i, j=j: np.testing.assert_allclose(a[:, i, j], b, rtol=1e-4, atol=1e-5)  # noqa: E731
      jax.tree.map(close, whole, alone)
      jax.tree.map(lambda a, b, i=i, j=j: np.testing.assert_allclose(a[i, j], b, rtol=1e-4, atol=1e-5), last, after)


@pytest.mark.parametrize(
  "fields,message",
  (
    ({}, r"\(0, 'lstm'\).* carry a state: give apply a state"),
    ({"batch_shape": (3,), "is_first": np.zeros(NUM_STEPS, bool)}, r"is_first has shape \(4,\) .* \(4, 2\)"),
    ({"batch_shape": (3,)}, r"state of another network: column 0, lstm/cell is \(3, 5\) and in spec \(2, 5\)"),
  ),
)
def test_state_and_is_first_of_wrong_shape_are_refused(fields, message):
  spec, params = _two_columns(columns.proprioceptive())
  inputs = {"proprioception": _x(NUM_STEPS, 2, 5), "target": _x(NUM_STEPS, 2, 3)}
  if "is_first" in fields:
    fields = fields | {"batch_shape": (2,)}
  state = {"state": pn.initial_state(spec, batch_shape=fields["batch_shape"])} if fields else {}
  with pytest.raises(ValueError, match=message):
    pn.apply(params, spec, inputs=inputs, **state, is_first=fields.get("is_first"))


def test_time_that_is_not_there_and_inputs_of_other_shapes_are_refused():
  spec, params = _two_columns(_feed_forward())
  with pytest.raises(ValueError, match="is_first speaks of time: give apply a state"):
    pn.apply(params, spec, inputs={"x": _x(4, 3)}, is_first=np.zeros(4, bool))
  with pytest.raises(ValueError, match="inputs have no axis of time"):
    pn.apply(params, spec, inputs={"x": _x(3)}, state=pn.initial_state(spec))
  with pytest.raises(ValueError, match=r"Input 'x' has shape \(4, 2\), not \(4, 3\): the column reads \(3,\)"):
    pn.apply(params, spec, inputs={"x": _x(4, 2)})
  spec, params = _two_columns(columns.proprioceptive())
  inputs = {"proprioception": _x(4, 5), "target": _x(3, 3)}
  with pytest.raises(ValueError, match=r"Input 'target' has shape \(3, 3\), not \(4, 3\).*those of 'proprioception'"):
    pn.apply(params, spec, inputs=inputs, state=pn.initial_state(spec))


# Parameters of another network.


def _alter(params, k, layer, **fields):
  return tuple({**p, layer: {**p[layer], **fields}} if i == k else p for i, p in enumerate(params))


def _without(tree, *path):
  first, *rest = path
  if not rest:
    return {name: value for name, value in tree.items() if name != first}
  return {**tree, first: _without(tree[first], *rest)}


def _wrong_params():
  spec, params = _two_columns(columns.feed_forward(), columns.feed_forward())
  lateral = ("fc", "laterals", "column_0", "conv2", "U")
  return spec, {
    "kernel": (
      _alter(params, 0, "conv1", kernel=jnp.zeros((5, 5, 3, 3))),
      r"params of another network: column 0, conv1/kernel is \(5, 5, 3, 3\) and in spec \(4, 4, 3, 3\)",
    ),
    "no lateral": (
      (params[0], _without(params[1], *lateral)),
      r"column 1, fc/laterals/column_0/conv2/U is nothing and in spec \(45, 6\)",
    ),
    "one column too many": ((*params, params[1]), "params has 3 columns and spec 2"),
    "one column too few": (params[:1], "params has 1 columns and spec 2"),
    "a layer too many": (
      ({**params[0], "fc2": {"kernel": jnp.zeros((6, 6))}}, params[1]),
      r"column 0, fc2/kernel is \(6, 6\) and in spec nothing",
    ),
    "a lateral too many": ((params[1], params[1]), "column 0, conv2/laterals/column_0/conv1/U is .* in spec nothing"),
  }


@pytest.mark.parametrize("case", _wrong_params()[1])
@pytest.mark.parametrize("is_compiled", (False, True))
def test_parameters_of_another_network_are_refused(case, is_compiled):
  spec, cases = _wrong_params()
  params, message = cases[case]

  def run(params):
    return pn.apply(params, spec, inputs={"pixels": np.zeros((2, 12, 12, 3), np.uint8)})

  with pytest.raises(ValueError, match=message):
    (jax.jit(run) if is_compiled else run)(params)


def test_growing_and_finetuning_on_parameters_of_another_network_is_refused():
  spec, params = _two_columns(_feed_forward())
  wrong = _alter(params, 0, "fc", kernel=jnp.zeros((3, 6)))
  message = r"column 0, fc/kernel is \(3, 6\) and in spec \(3, 5\)"
  with pytest.raises(ValueError, match=message):
    pn.grow(jax.random.key(0), wrong, spec=pn.Network((*spec.columns, _feed_forward())))
  for method in ("progressive", "finetune"):
    with pytest.raises(ValueError, match=message):
      pn.prepare(jax.random.key(0), method, source_params=wrong, source_spec=spec, column_spec=_feed_forward())
