"""Catch, learned by a small column, and then by a second column that grows beside it.

python -m experiments.train --config=examples/own_world_config.py --workdir=runs/own
python -m experiments.train --config=examples/own_world_config.py --workdir=runs/second --config.train.steps=50000 \
  --config.method=progressive --config.source=runs/own
"""

from ml_collections import config_dict

from experiments.configs import base


def get_config() -> config_dict.ConfigDict:
  """One column on `examples.own_world:Catch`; `config.world` may name any module that Python finds."""
  return base.experiment(
    world="examples.own_world:Catch",
    world_options={"num_rows": 10, "num_columns": 5},
    output_init="random",
    train=base.phase(
      column=base.column(inputs=("pixels",), conv=((16, 3, 1),), dense=(64,), lstm=()),
      steps=150_000,
      num_worlds=32,
      num_steps=20,
      evaluate_every=50_000,
      evaluation_episodes=200,
      save_every=50_000,
      updates_per_record=50,
      video=False,  # Five pixels are too few for a film.
      learning_rate=1e-3,
      entropy_cost=0.01,
    ),
  )
