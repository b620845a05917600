import jax
import pytest

from progressive import cost, network, partition
from tests.progressive import columns


@pytest.mark.parametrize(
  "make,wide,narrow,counts",
  (
    (columns.recurrent, (16, 32, 128, 128), (8, 8, 16, 16), (298_700, 36_940)),
    (columns.feed_forward, (16, 32, 512), (8, 8, 32), (620_620, 38_876)),
  ),
)
def test_published_parameter_counts(make, wide, narrow, counts):
  # Rusu et al. 2017, table 1: 299K and 37K, 621K and 39K. The exact numbers are derived by hand from its widths.
  spec = network.Network((make(*wide, 28, 64), make(*narrow, 28, 64)))
  reports = cost.report(spec)
  assert tuple(report.num_parameters for report in reports) == counts
  assert tuple(report.num_alphas for report in reports) == (0, 2)
  params = jax.eval_shape(lambda key: network.init(key, spec), jax.random.key(0))
  assert tuple(partition.count(column_params) for column_params in params) == counts


def test_laterals_of_the_published_recurrent_column():
  # Derived by hand: conv1 -> conv2 and conv2 -> fc have V with a bias and U. The others have U alone.
  spec = network.Network((columns.recurrent(16, 32, 128, 128, 28, 64), columns.recurrent(8, 8, 16, 16, 28, 64)))
  laterals = {layer.name: layer.laterals for layer in cost.report(spec)[1].layers}
  sizes = {name: [(c.source, c.kind, c.num_parameters) for c in into] for name, into in laterals.items()}
  assert sizes == {
    "conv1": [],
    "conv2": [((0, "conv1"), "adapter", 16 * 8 + 8 + 5 * 5 * 8 * 8)],
    "fc": [((0, "conv2"), "adapter", 32 * 8 + 8 + 6 * 6 * 8 * 16)],
    "lstm": [((0, "fc"), "linear", 128 * 64), ((0, "lstm"), "linear", 128 * 64)],
    "output": [((0, "lstm"), "linear", 128 * 28)],
  }


def test_flops_count_two_for_each_multiply_add():
  # By hand, 12x12x3 pixels: conv1 4x4/2 -> 5x5x3, conv2 3x3/1 -> 3x3x5, fc 6, LSTM 4, output 7.
  own = [25 * 4 * 4 * 3 * 3, 9 * 3 * 3 * 3 * 5, 45 * 6, (6 + 4) * 16, 4 * 7]
  adapters = [25 * 3 * 3 + 9 * 3 * 3 * 3 * 5, 9 * 5 * 5 + 45 * 6]
  linear = [(6 + 4) * 16, 4 * 7]
  first, second = cost.report(network.Network((columns.recurrent(), columns.recurrent())))
  assert [layer.flops for layer in first.layers] == [2 * macs for macs in own]
  assert first.flops == 2 * sum(own)
  assert second.flops == 2 * (sum(own) + sum(adapters) + sum(linear))


def test_units_grow_linearly_and_laterals_with_each_earlier_column():
  reports = cost.report(network.Network((columns.feed_forward(),) * 4))
  sizes = [report.num_parameters for report in reports]
  steps = [b - a for a, b in zip(sizes, sizes[1:], strict=False)]
  assert steps[0] > 0 and len(set(steps)) == 1
