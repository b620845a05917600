import jax
import jax.numpy as jnp
import numpy as np
import pytest

from progressive.layers import convolution

# (input, kernel, stride, features): the paper's two layers, Atari's 3x4, a stride above the kernel, cut-off borders.
CASES = (
  ((16, 16, 3), (8, 8), 4, 4),
  ((15, 15, 16), (5, 5), 2, 3),
  ((9, 10, 12), (3, 4), 1, 5),
  ((11, 13, 2), (2, 3), 3, 4),
  ((8, 9, 9), (2, 2), 3, 2),
)


def _arrays(shape, kernel, features):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32)
  return x, jnp.asarray(rng.normal(size=(*kernel, shape[-1], features)), jnp.float32)


@pytest.mark.parametrize("shape,kernel,stride,features", CASES)
def test_forward_equals_a_numpy_loop(shape, kernel, stride, features):
  x, w = _arrays(shape, kernel, features)
  y = np.asarray(convolution.conv(x, w, stride))
  assert y.shape[1:] == convolution.output_shape(shape, kernel, stride, features)
  for row in range(y.shape[1]):
    for col in range(y.shape[2]):
      patch = np.asarray(x)[:, row * stride : row * stride + kernel[0], col * stride : col * stride + kernel[1]]
      np.testing.assert_allclose(y[:, row, col], np.tensordot(patch, np.asarray(w), 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape,kernel,stride,features", CASES)
def test_gradients_as_products_equal_xlas(shape, kernel, stride, features):
  x, w = _arrays(shape, kernel, features)
  g = np.random.default_rng(1).normal(size=(2, *convolution.output_shape(shape, kernel, stride, features)))

  def gradients(by):
    loss = lambda x, w: (g * convolution.conv(x, w, stride, by=by)).sum()  # noqa: E731
    return jax.jit(jax.grad(loss, (0, 1)))(x, w)

  for products, lax in zip(gradients("products"), gradients("lax"), strict=True):
    np.testing.assert_allclose(products, lax, rtol=1e-4, atol=2e-6 * float(jnp.abs(lax).max()))


@pytest.mark.parametrize("shape,kernel,stride,features", [*CASES, ((21, 20, 4), (8, 8), 4, 8)])
def test_pixels_are_convolved_as_floats_from_0_to_1(shape, kernel, stride, features):
  _, w = _arrays(shape, kernel, features)
  pixels = jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, *shape)), jnp.uint8)
  floats = jnp.asarray(np.asarray(pixels) / 255.0, jnp.float32)

  def value_and_gradient(x, by):
    loss = lambda w, x: jnp.sin(convolution.conv(x, w, stride, by=by)).sum()  # noqa: E731
    return jax.jit(jax.value_and_grad(loss))(w, x)

  expected = value_and_gradient(floats, "lax")
  for by in ("products", "lax"):
    found = value_and_gradient(pixels, by)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5 * float(jnp.abs(expected[1]).max()))


def test_gradients_as_products_under_vmap():
  x, w = _arrays(*CASES[0][:2], CASES[0][3])
  xs = jnp.stack([x, x + 1.0])
  loss = lambda w, x: jnp.square(convolution.conv(x, w, 4, by="products")).sum()  # noqa: E731
  batched = jax.jit(jax.grad(lambda w: jax.vmap(loss, (None, 0))(w, xs).sum()))(w)
  alone = jax.jit(jax.grad(loss))
  np.testing.assert_allclose(batched, alone(w, xs[0]) + alone(w, xs[1]), rtol=1e-4)


def test_gradient_keeps_the_input_dtype():
  x, w = _arrays(*CASES[0][:2], CASES[0][3])
  gradient = jax.grad(lambda x: jnp.square(convolution.conv(x, w, 4, by="products")).sum())
  exact, rounded = gradient(x.astype(jnp.bfloat16).astype(jnp.float32)), gradient(x.astype(jnp.bfloat16))
  assert rounded.dtype == jnp.bfloat16
  np.testing.assert_allclose(rounded.astype(jnp.float32), exact, rtol=2**-8)


def test_an_unknown_convolution_method_is_refused():
  with pytest.raises(ValueError, match="'fft' is not one of"):
    convolution.conv(*_arrays(*CASES[0][:2], 4), 4, by="fft")


@pytest.mark.parametrize(
  ("backend", "num_worlds", "part"),
  [("cpu", 1, 3), ("cpu", 7, 3), ("cpu", 24, 3), ("gpu", 24, 4), ("gpu", 24, 40), ("gpu", 24, 1_000)],
)
def test_many_examples_in_parts_are_what_they_are_together(backend, num_worlds, part, monkeypatch, as_if_on):
  """Compared with XLA's convolution, under a `vmap` over worlds and over runs that have their own kernels."""
  as_if_on(backend)
  monkeypatch.setattr(convolution, "_PART" if backend == "cpu" else "_LARGE_PART", part * 9 * 9 * 2)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.integers(0, 256, (2, num_worlds, 6, 9, 9, 2)), jnp.uint8)
  w1, w2 = (jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32) for shape in ((3, 3, 2, 3), (2, 2, 3, 4)))

  def of_runs(by):
    def of_world(x, w1, w2):
      return convolution.conv(convolution.conv(x, w1, 2, by=by), w2, 1, by=by)

    def of_run(x, w1, w2):
      y = jax.vmap(of_world, in_axes=(0, None, None))(x, w1, w2)
      return jnp.sum(jnp.linspace(0.0, 1.0, y.size, dtype=jnp.float32).reshape(y.shape) * y), y

    return jax.jit(jax.vmap(jax.value_and_grad(of_run, (1, 2), has_aux=True)))(x, w1, w2)

  for parts, whole in zip(jax.tree.leaves(of_runs("products")), jax.tree.leaves(of_runs("lax")), strict=True):
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * float(jnp.abs(whole).max()))


def test_only_a_tpu_takes_the_convolution_of_its_compiler(as_if_on):
  x, w = _arrays(*CASES[0][:2], 4)
  for backend, has_convolution in (("cpu", False), ("gpu", False), ("tpu", True)):
    as_if_on(backend)
    program = jax.make_jaxpr(lambda x, w: convolution.conv(x, w, 4))(x, w)
    assert ("conv_general_dilated" in str(program)) == has_convolution


def test_empty_and_symbolic_batch_sizes():
  w = jnp.ones((3, 3, 2, 3), jnp.float32)
  assert convolution.conv(jnp.zeros((0, 9, 9, 2), jnp.float32), w, 2, by="products").shape == (0, 4, 4, 3)
  (num,) = jax.export.symbolic_shape("n")
  exported = jax.export.export(jax.jit(lambda x: convolution.conv(x, w, 2, by="products")))(
    jax.ShapeDtypeStruct((num, 9, 9, 2), jnp.float32)
  )
  assert exported.call(jnp.zeros((5, 9, 9, 2), jnp.float32)).shape == (5, 4, 4, 3)


def test_second_derivatives():
  x, w = _arrays(*CASES[0][:2], 4)

  def curvature(by):
    loss = lambda w: jnp.sum(jnp.sin(convolution.conv(x, w, 4, by=by)))  # noqa: E731
    return jax.jit(jax.grad(lambda w: jnp.sum(jnp.square(jax.grad(loss)(w)))))(w)

  expected = curvature("lax")
  np.testing.assert_allclose(curvature("products"), expected, rtol=1e-3, atol=1e-4 * float(jnp.abs(expected).max()))
