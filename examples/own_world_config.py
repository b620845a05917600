"""Catch, learned by a small column, and a second column for a wider board.

python -m experiments.train --config=examples/own_world_config.py --workdir=runs/own
python -m experiments.transfer --config=examples/own_world_config.py --workdir=runs/wider --config.source=runs/own
"""

from ml_collections import config_dict

from experiments import configuration


def get_config() -> config_dict.ConfigDict:
  """One column on `examples.own_world:Catch`; `config.world` may name any module that Python finds."""
  config = config_dict.ConfigDict()
  config.seed = 0
  config.world = "examples.own_world:Catch"
  config.world_options = config_dict.ConfigDict({"num_rows": 10, "num_columns": 5})
  column = configuration.column_section(inputs=("pixels",), conv=((16, 3, 1),), dense=(64,), lstm=())
  config.train = configuration.first_column(
    column=column,
    steps=150_000,
    num_worlds=32,
    num_steps=20,
    evaluate_every=50_000,
    evaluation_episodes=200,
    save_every=50_000,
    updates_per_record=50,
    learning_rate=1e-3,
    entropy_cost=0.01,
  )
  config.train.video = False  # Five pixels are no film.

  # The second column. With `--config.target=` it learns in another world, in JAX or behind dm_env.
  config.method = "progressive"
  config.source = "runs/own"
  config.target = "examples.own_world:Catch"
  config.target_options = config_dict.ConfigDict({"num_rows": 10, "num_columns": 5})
  config.output_init = "random"
  config.alpha = 1.0
  config.transfer = configuration.phase(
    column=column,
    steps=50_000,
    num_worlds=32,
    num_steps=20,
    evaluate_every=0,
    evaluation_episodes=200,
    save_every=50_000,
    learning_rate=1e-3,
    entropy_cost=0.01,
  )
  config.transfer.video = False
  return config
