import jax
import jax.numpy as jnp
import numpy as np

from agents import distributions, heads

NUM_CHOICES = (2, 4, 3)


def _logits_and_softmaxes():
  rng = np.random.default_rng(0)
  flat = rng.normal(scale=2.0, size=(5, sum(NUM_CHOICES) + 1)).astype(np.float32)
  pieces = np.split(flat[:, :-1].astype(np.float64), np.cumsum(NUM_CHOICES)[:-1], axis=-1)
  softmaxes = [np.exp(p) / np.exp(p).sum(-1, keepdims=True) for p in pieces]
  logits, value = heads.split(jnp.asarray(flat), NUM_CHOICES)
  np.testing.assert_array_equal(value, flat[:, -1])
  return logits, softmaxes


def test_log_prob_is_the_sum_over_entries():
  logits, softmaxes = _logits_and_softmaxes()
  action = np.random.default_rng(1).integers(0, NUM_CHOICES, size=(5, 3)).astype(np.int32)
  expected = sum(np.log(p[np.arange(5), action[:, j]]) for j, p in enumerate(softmaxes))
  np.testing.assert_allclose(distributions.log_prob(logits, jnp.asarray(action)), expected, atol=1e-5)


def test_entropy_is_the_sum_over_entries():
  logits, softmaxes = _logits_and_softmaxes()
  expected = sum(-(p * np.log(p)).sum(-1) for p in softmaxes)
  np.testing.assert_allclose(distributions.entropy(logits), expected, atol=1e-5)


def test_mode_is_the_argmax_of_each_entry():
  logits, softmaxes = _logits_and_softmaxes()
  np.testing.assert_array_equal(distributions.mode(logits), np.stack([p.argmax(-1) for p in softmaxes], -1))


def test_samples_have_the_probabilities_of_the_softmaxes():
  logits, softmaxes = _logits_and_softmaxes()
  num_samples = 20_000
  samples = distributions.sample(jax.random.key(0), jnp.broadcast_to(logits[0], (num_samples, *logits[0].shape)))
  for j, p in enumerate(softmaxes):
    # Five standard errors of a frequency over 20,000 draws are at most 0.018; a padded choice never occurs.
    frequency = np.bincount(samples[:, j], minlength=NUM_CHOICES[j]) / num_samples
    np.testing.assert_allclose(frequency, p[0], atol=0.018)


def test_gradients_stay_finite_at_certainty():
  logits, _ = heads.split(jnp.array([300.0, -300.0, 0.0, 0.0, 900.0, 0.0], jnp.float32), (2, 3))
  assert np.isfinite(jax.grad(distributions.entropy)(logits)).all()
