"""The project's own configs describe the networks they say, on their worlds, and every phase can begin."""

import jax
import pytest

from experiments import describe, released, train, transfer
from experiments.configs import jaco_corl2017, jaco_talk
from progressive import growth, network

CONFIGS = {"corl2017": jaco_corl2017.get_config, "talk": jaco_talk.get_config}


@pytest.mark.parametrize("name", CONFIGS)
def test_both_columns_join(name):
  spec = describe.from_config(CONFIGS[name]())
  assert len(spec.columns) == 2
  counts = [one.num_parameters for one in growth.report(spec)]
  if name == "corl2017":
    assert counts == [298_700, 36_940]  # Rusu et al. 2017, table 1.
  assert all(len(one.layers) > 1 for one in growth.report(spec))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_column_can_begin(name):
  task = train.make_task(CONFIGS[name]())
  assert task.agent.num_choices == (3,) * (9 if name == "corl2017" else 6)


def test_finetuning_a_vision_column_on_proprioception_is_refused(tmp_path):
  config = jaco_talk.get_config()
  spec = describe.from_config(config)
  source = network.NetworkSpec(spec.columns[:1])
  released.save(tmp_path, source, network.init(jax.random.key(0), source), evaluation={}, provenance={})
  config.source = str(tmp_path)
  assert transfer.make_task(config).agent.spec == spec
  config.method = "finetune"
  with pytest.raises(ValueError, match="method='finetune' makes no sense here"):
    transfer.make_task(config)
