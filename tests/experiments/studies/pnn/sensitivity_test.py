"""AFS and APS of networks that play: handmade ones on a world with one choice, whose Fisher information is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import actor_critic
from analysis import fisher, perturbation
from environments import batch as batch_lib
from experiments.studies.pnn import sensitivity, sensitivity_file
from progressive import column, layers, network, partition
from tests.agents import agents_for_tests, worlds

# The agent sees a cue and names it, in one step. All tests use one object, because programs belong to a world.
WORLD = worlds.CueRecall(length=1)
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
KEY = jax.random.key(0)


def make_params(*, own, lateral):
  """Two columns that copy the cue. The output weighs the newest column's copy by `own`, the first's by `lateral`."""
  copy = {"kernel": jnp.eye(3, 2), "bias": jnp.zeros(2)}
  choose = jnp.eye(2, 3)  # Two logits and the value.
  first = {"hidden": copy, "output": {"kernel": choose, "bias": jnp.zeros(3)}}
  laterals = {"column_0": {"hidden": {"U": lateral * choose}}}
  newest = {"hidden": copy, "output": {"kernel": own * choose, "bias": jnp.zeros(3), "laterals": laterals}}
  return first, newest


def make_player(*, own, lateral, num_worlds=32):
  chain = (
    layers.Dense("hidden", ("signal",), 2),
    layers.Dense("output", ("hidden",), 3, activation=None, laterals="linear"),
  )
  spec = network.Network((column.Column((("signal", (3,)),), chain),) * 2)
  agent = actor_critic.Agent(spec, WORLD.num_choices, actor_critic.Hyper())
  params = make_params(own=own, lateral=lateral)
  return sensitivity.Player(agent, params, batch_lib.Batch(WORLD, num_worlds, ("signal",)))


def measure(player, *, num_samples=256, every=2):
  samples = sensitivity.record(player, KEY, num_samples=num_samples, every=every)
  return samples, sensitivity.fisher_diagonals(player, samples)


def test_fisher_of_a_played_network_by_hand():
  """logit_a = (own + lateral) cue_a: F = weight^2 p (1 - p) var(cue), the same for both features by symmetry."""
  samples, diagonals = measure(make_player(own=2.0, lateral=1.0))
  cue = np.concatenate([one.inputs["signal"][:, 0] for one in samples])
  assert len(cue) == 256 and set(cue) == {0.0, 1.0} and 0.4 < cue.mean() < 0.6
  p = 1 / (1 + np.exp(-3.0))
  expected = p * (1 - p) * cue.var()
  np.testing.assert_allclose(diagonals[1, "hidden"], 4 * expected, rtol=1e-4)
  np.testing.assert_allclose(diagonals[0, "hidden"], expected, rtol=1e-4)
  assert set(diagonals) == {(0, "hidden"), (1, "hidden")}
  assert fisher.per_column(diagonals)[1, "hidden"] == pytest.approx(0.8)


def test_only_choices_are_recorded():
  """Every other step of this world is an episode's last, where nothing is chosen."""
  samples = sensitivity.record(make_player(own=2.0, lateral=1.0), KEY, num_samples=256, every=1)
  assert [len(one.is_first) for one in samples] == [128, 128]
  assert all(one.is_first.all() for one in samples)
  with pytest.raises(ValueError, match="samples=100 is no multiple of 128"):
    sensitivity.record(make_player(own=2.0, lateral=1.0), KEY, num_samples=100, every=1)


def test_a_column_that_is_cut_off_scores_nothing_by_both():
  player = make_player(own=6.0, lateral=0.0)
  samples, diagonals = measure(player)
  assert fisher.per_column(diagonals) == {(0, "hidden"): 0.0, (1, "hidden"): 1.0}
  variance = sensitivity.variances(player, samples)
  np.testing.assert_allclose(variance[0, "hidden"], variance[1, "hidden"])
  found = sensitivity.aps(player, KEY, variance=variance, scales=SCALES, floor=0.5)
  unused, used = (found.criticals[k, "hidden"] for k in (0, 1))
  assert (unused.scores == found.clean_score).all() and found.clean_score > 0.9
  assert used.scores[-1] < 0.75 < used.scores[0] and used.where == "inside"
  assert perturbation.shares(found.criticals) == {(0, "hidden"): 0.0, (1, "hidden"): 1.0}


def test_noise_finds_the_column_that_fisher_finds():
  """With weights 2 : 1 on equal features, APS is near AFS's 0.8, from 400 episodes per scale."""
  player = make_player(own=6.0, lateral=3.0, num_worlds=400)
  samples, diagonals = measure(player, num_samples=512)
  scales = tuple(float(x) for x in np.geomspace(0.03, 300.0, 15))
  found = sensitivity.aps(
    player, KEY, variance=sensitivity.variances(player, samples), scales=scales, floor=0.5, is_greedy=True
  )
  assert perturbation.shares(found.criticals)[1, "hidden"] == pytest.approx(
    fisher.per_column(diagonals)[1, "hidden"], abs=0.1
  )


def test_noise_is_fresh_in_every_world_and_step_and_only_where_it_is_asked_for():
  spec = make_player(own=1.0, lateral=1.0).agent.spec
  places = ((0, "hidden"), (1, "hidden"))
  noise = sensitivity._noise_fn(spec, places, 500)
  variance = dict.fromkeys(places, jnp.array([1.0, 4.0]))
  first, again, later = (noise(KEY, jnp.int32(1), variance, jnp.float32(0.25), jnp.int32(step)) for step in (0, 0, 1))
  assert not first[0, "hidden"].any()
  np.testing.assert_allclose(np.var(first[1, "hidden"], axis=0), [0.25, 1.0], rtol=0.2)
  np.testing.assert_array_equal(first[1, "hidden"], again[1, "hidden"])
  both = np.stack([first[1, "hidden"][:, 0], later[1, "hidden"][:, 0]])
  assert abs(np.corrcoef(both)[0, 1]) < 0.15


def test_one_program_for_all_places_scales_and_networks_of_one_shape():
  sizes = None
  for own in (6.0, 5.0):
    player = make_player(own=own, lateral=0.5)
    samples, _ = measure(player, num_samples=128)
    variance = sensitivity.variances(player, samples)
    for scales in (SCALES, tuple(2 * s for s in SCALES)):
      sensitivity.aps(player, KEY, variance=variance, scales=scales, floor=0.0)
      now = sensitivity._noisy_returns._cache_size(), fisher._statistics._cache_size()
      assert sizes is None or now == sizes
      sizes = now


def test_a_network_at_the_floor_has_nothing_to_lose():
  player = make_player(own=0.0, lateral=0.0)
  samples, _ = measure(player, num_samples=128)
  variance = sensitivity.variances(player, samples)
  with pytest.raises(sensitivity.NothingToLose, match="no better than the floor 1"):
    sensitivity.aps(player, KEY, variance=variance, scales=SCALES, floor=1.0)


def test_a_recurrent_network_is_differentiated_at_the_state_it_had():
  """When the cue was seen two steps ago, only the memory knows it."""
  world = worlds.CueRecall(length=3)
  agent, trainable, frozen = agents_for_tests.make_progressive(world)
  player = sensitivity.Player(agent, partition.merge(trainable, frozen), batch_lib.Batch(world, 16, ("signal",)))
  samples, diagonals = measure(player, num_samples=128, every=1)
  together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *samples)
  hidden = together.state[0]["memory"].hidden
  assert np.abs(hidden[~together.is_first]).sum(axis=1).all()
  assert (0, "memory") in diagonals and diagonals[0, "memory"].shape == (32,) and diagonals[0, "memory"].all()


def test_the_file_gives_back_what_was_measured(tmp_path):
  player = make_player(own=6.0, lateral=0.0)
  samples, diagonals = measure(player, num_samples=128)
  found = sensitivity.aps(player, KEY, variance=sensitivity.variances(player, samples), scales=SCALES, floor=0.5)
  written = sensitivity_file.Sensitivity(128, 20, diagonals, found)
  sensitivity_file.write(tmp_path, written, about={"target": "recall"})
  read = sensitivity_file.read(tmp_path)
  assert (
    (read.num_samples, read.every) == (128, 20) and read.aps.clean_score == found.clean_score and not read.aps_fault
  )
  np.testing.assert_array_equal(read.diagonals[1, "hidden"], diagonals[1, "hidden"])
  assert perturbation.shares(read.aps.criticals) == perturbation.shares(found.criticals)
  assert "Infinity" not in (tmp_path / sensitivity_file.NAME).read_text()  # Plain JSON has null.
  fault = sensitivity_file.Fault(10, 0.5, "at the floor")
  sensitivity_file.write(tmp_path, written._replace(aps=None, aps_fault=fault), about={})
  read = sensitivity_file.read(tmp_path)
  assert read.aps is None and read.aps_fault == fault
  (tmp_path / sensitivity_file.NAME).write_text('{"afs": {')
  with pytest.raises(ValueError, match=r"sensitivity.json cannot be read .*; remove it"):
    sensitivity_file.read(tmp_path)
  assert sensitivity_file.read(tmp_path / "nowhere") is None


def test_layers_before_their_normalisation_are_not_features():
  chain = (
    layers.Conv("conv", ("pixels",), 4, 3, 1, activation=None),
    layers.LayerNorm("normed", ("conv",)),
    layers.Dense("bottleneck", ("normed",), 2, activation=None),  # Other layers read it as it is.
    layers.Dense("below", ("bottleneck",), 8, activation=None),
    layers.LayerNorm("above", ("below",)),
    layers.LSTM("memory", ("above",), 8),
    layers.Dense("output", ("memory",), 3, activation=None, laterals="linear"),
  )
  spec = network.Network((column.Column((("pixels", (6, 6, 1)),), chain),))
  assert sensitivity.features(spec) == ((0, "above"), (0, "bottleneck"), (0, "memory"), (0, "normed"))
