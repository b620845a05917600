"""Signal and noise of gradients, against numbers made by hand and samples of known mean and spread."""

import numpy as np
import pytest

from analysis import credit


@pytest.mark.parametrize(
  ("gradients", "noise_scale"),
  [
    ([[1.0, 0.0], [3.0, 0.0]], 2 / 3),  # |sum|^2 = 16, sum of squares 10: signal (16 - 10) / 2 = 3, noise 5 - 3 = 2.
    ([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]], 0.0),
    ([[1.0, 0.0], [0.0, 1.0]], float("inf")),  # The signal is 0,
    ([[1.0, 0.0], [-1.0, 0.0]], float("inf")),  # or negative.
  ],
)
def test_noise_scale_by_hand(gradients, noise_scale):
  found = credit.of_samples(np.array(gradients))
  np.testing.assert_allclose(found.noise_scale, noise_scale, atol=1e-12)
  np.testing.assert_allclose(found.mean, np.mean(gradients, axis=0))


def test_noise_scale_of_many_samples_is_covariance_trace_over_squared_mean():
  mean, deviations = np.array([0.3, -0.2, 0.0, 0.1]), np.array([1.0, 2.0, 0.5, 0.0])
  samples = mean + deviations * np.random.default_rng(0).standard_normal((200_000, 4))
  found = credit.of_samples(samples.astype(np.float32))
  np.testing.assert_allclose(found.noise_scale, np.sum(deviations**2) / np.sum(mean**2), rtol=0.05)


def test_one_gradient_has_no_spread():
  with pytest.raises(ValueError, match="1 gradients have no spread; give two or more"):
    credit.of_samples(np.ones((1, 3)))
