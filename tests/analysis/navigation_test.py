"""Navigation measures by hand, the decoder on separable and inseparable data, and clouds of points in the plane."""

import numpy as np
import pytest
from scipy import optimize, special

from analysis import curves, decoding, navigation, projection


def test_auc_is_the_curve_s_mean_up_to_the_horizon():
  curve = curves.Curve(np.array([0.0, 10, 20]), np.array([[0.0, 10, 30], [6, 6, 6]]))
  np.testing.assert_allclose(navigation.auc(curve, 20.0), [12.5, 6.0])
  np.testing.assert_allclose(navigation.auc(curve, 10.0), [5.0, 6.0])


def goals(*steps, num_steps=99):
  """`[E, T]`: the steps at which each episode reached a goal, counted from 1."""
  is_goal = np.zeros((len(steps), num_steps), bool)
  for episode, own in enumerate(steps):
    is_goal[episode, np.array(own, int) - 1] = True
  return is_goal


def test_latency_by_hand():
  found = navigation.latency(goals([30, 40, 60], [10], []), step_s=0.5)
  assert found.first_s == pytest.approx(0.5 * (30 + 10) / 2)
  assert found.later_s == pytest.approx(0.5 * (10 + 20) / 2)
  assert found.goal_percent == pytest.approx(200 / 3) and found.num_goals == 4


def test_latency_without_goals_is_unknown():
  none = navigation.latency(goals([], []), step_s=1.0)
  assert np.isnan([none.first_s, none.later_s]).all() and none.goal_percent == 0.0
  first_alone = navigation.latency(goals([4], [8]), step_s=1.0)
  assert first_alone.first_s == 6.0 and np.isnan(first_alone.later_s)


def test_loop_closures_by_hand():
  labels = np.array([1, 1, 1, 0, 0, 0], bool)
  found = navigation.detection(labels, np.array([0.9, 0.5, 0.2, 0.7, 0.1, 0.0]))
  assert found == pytest.approx((2 / 3, 2 / 3, 2 / 3))
  shy = navigation.detection(labels, np.array([0.9, 0.49, 0.2, 0.4, 0.1, 0.0]))
  assert shy == pytest.approx((1.0, 1 / 3, 0.5))
  silent = navigation.detection(labels, np.zeros(6))
  assert np.isnan(silent.precision) and (silent.recall, silent.f1) == (0.0, 0.0)
  assert np.isnan(navigation.detection(np.zeros(3, bool), np.zeros(3)).f1)


def cells_and_features(seed, noise, num_episodes=20, num_steps=30, num_cells=6):
  rng = np.random.default_rng(seed)
  centres = 3.0 * np.random.default_rng(99).normal(size=(num_cells, 8))
  cells = rng.integers(num_cells, size=num_episodes * num_steps)
  features = centres[cells] + noise * rng.normal(size=(len(cells), 8))
  return features, cells, np.repeat(np.arange(num_episodes), num_steps)


def test_separable_positions_are_decoded_and_shuffled_ones_are_not():
  features, cells, episodes = cells_and_features(0, noise=0.3)
  found = decoding.evaluate(features, cells, episodes)
  assert found.accuracy > 0.99 and found.majority < 0.35
  shuffled = decoding.evaluate(np.random.default_rng(1).permutation(features), cells, episodes)
  assert shuffled.accuracy < 0.35
  assert (found.decoder.predict(features) == cells).mean() > 0.99


def test_whole_episodes_are_held_out():
  """Features that only name the episode decode its cell only if an episode's steps are split over both sides."""
  rng = np.random.default_rng(0)
  episodes = np.repeat(np.arange(40), 25)
  cells = rng.integers(5, size=40)[episodes]
  features = np.eye(40)[episodes] + 0.01 * rng.normal(size=(1000, 40))
  assert decoding.evaluate(features, cells, episodes).accuracy < 0.6
  assert decoding.evaluate(features, cells, np.arange(1000)).accuracy > 0.99
  is_test = decoding.split(episodes, seed=3)
  assert len(np.unique(episodes[is_test])) == 10
  assert not set(episodes[is_test]) & set(episodes[~is_test])


def test_the_fit_is_the_optimum_another_optimiser_finds():
  features, cells, _ = cells_and_features(1, noise=4.0, num_episodes=4, num_cells=3)
  softmax = decoding.fit(features, cells, l2=0.1)[-1]
  kernel, bias = softmax.coef_.T, softmax.intercept_
  inputs = (features - features.mean(axis=0)) / features.std(axis=0)

  def loss(flat):
    kernel, bias = flat[:24].reshape(8, 3), flat[24:]
    log_probs = special.log_softmax(inputs @ kernel + bias, axis=1)
    return -log_probs[np.arange(len(cells)), cells].mean() + 0.05 * (kernel**2).sum()

  other = optimize.minimize(loss, np.zeros(27), method="BFGS").x  # It uses differences, not our gradient.
  np.testing.assert_allclose(kernel, other[:24].reshape(8, 3), atol=2e-3)
  np.testing.assert_allclose(bias - bias.mean(), other[24:] - other[24:].mean(), atol=2e-3)


def test_a_feature_that_never_changes_does_no_harm():
  features, cells, episodes = cells_and_features(0, noise=0.3)
  with_constant = np.concatenate([features, np.full((len(features), 1), 7.0)], axis=1)
  assert decoding.evaluate(with_constant, cells, episodes).accuracy > 0.99


def test_an_agent_that_stays_in_one_cell_is_decoded_there():
  found = decoding.evaluate(np.random.default_rng(0).normal(size=(40, 3)), np.full(40, 7), np.repeat(np.arange(4), 10))
  assert found.accuracy == found.majority == 1.0
  assert found.decoder.predict(np.zeros((2, 3))).tolist() == [7, 7]


def test_too_few_episodes_are_refused():
  with pytest.raises(ValueError, match="1 episodes, of which 1 is held out, leave none to fit on"):
    decoding.split(np.zeros(10), seed=0)


def test_clouds_that_lie_apart_stay_apart_in_the_plane():
  """Four distant clouds in 20 dimensions. In the plane, nearly every dot's nearest dot is from its own cloud."""
  rng = np.random.default_rng(0)
  cloud = np.repeat(np.arange(4), 30)
  features = 10.0 * rng.normal(size=(4, 20))[cloud] + rng.normal(size=(120, 20))
  points = projection.embed(features)
  assert points.shape == (120, 2) and (points == projection.embed(features)).all()
  apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(120)
  assert (cloud[apart.argmin(axis=1)] == cloud).mean() > 0.99
  # A dot has at most 29 neighbours of its own cloud. The perplexity also fits few dots.
  assert projection.embed(features[:4]).shape == (4, 2)
  with pytest.raises(ValueError, match="1 samples have no neighbours"):
    projection.embed(features[:1])
