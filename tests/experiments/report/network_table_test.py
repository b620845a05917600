"""The table of a network counts what the paper counts (papers.md 2.2: 298,700 and 36,940)."""

import numpy as np
import pytest
from dm_env import specs

from experiments.configs import base
from experiments.report import network_table
from experiments.setup import column
from experiments.store import network_file
from progressive import network

OBSERVATIONS = {"pixels": specs.Array((64, 64, 3), np.uint8), "target": specs.Array((3,), np.float32)}


def corl_network():
  sections = [
    base.column(conv=((16, 8, 4), (32, 5, 2)), dense=(128,), lstm=(128,)),
    base.column(conv=((8, 8, 4), (8, 5, 2)), dense=(16,), lstm=(16,)),
  ]
  return network.Network(tuple(column.make(s, OBSERVATIONS, (3,) * 9) for s in sections))


def test_the_configs_columns_have_the_papers_parameters():
  text = network_table.table(corl_network())
  assert "column 0: 298,700 parameters" in text
  assert "column 1: 36,940 parameters" in text
  assert "total: 335,640 parameters" in text
  assert "0.lstm1 (linear)" in text and "0.conv1 (adapter)" in text


def test_a_networks_shape_survives_its_file(tmp_path):
  network_file.write_spec(tmp_path, corl_network())
  assert network_file.read_spec(tmp_path) == corl_network()


def test_a_column_on_missing_inputs_is_refused():
  section = base.column(inputs=("velocity",), conv=())
  with pytest.raises(ValueError, match="not observed"):
    column.make(section, OBSERVATIONS, (3,))
