"""The talks' first two columns: vision in simulation, then proprioception on the arm; 6 joints.

  python -m experiments.train --config=experiments/configs/jaco_talk.py --workdir=runs/talk
  python -m experiments.transfer --config=experiments/configs/jaco_talk.py --workdir=runs/talk_arm \
    --config.source=runs/talk --config.target=arm://localhost:5005

Column 1: 30.8 of 50 (500 episodes) after 768,000 steps, 14 minutes on two cores that had other work too. Starts reach
0.4 rad from home here and 1 rad in the task by default, which one run of 0.5 M steps from scratch did not master (13).
Finetuning is refused for column 2: the columns' inputs differ.
"""

from ml_collections import config_dict

from experiments import configuration


def get_config() -> config_dict.ConfigDict:
  """Column 1 sees pixels of `reach/fixed`; column 2 feels joints and target of `reach/random` (papers.md 2.6)."""
  config = config_dict.ConfigDict()
  config.seed = 0

  # Column 1, in simulation. Layer sizes are those of Rusu et al. 2017; the talks give none.
  config.world = "jaco/reach/fixed"
  config.world_options = config_dict.ConfigDict({"num_joints": 6, "max_start_spread_rad": 0.4})
  config.train = configuration.first_column(
    column=configuration.column_section(conv=((16, 8, 4), (32, 5, 2)), dense=(128,), lstm=(128,)),
    steps=768_000,
    num_worlds=64,
    num_steps=20,
    evaluate_every=200_000,
    evaluation_episodes=100,
    save_every=50_000,
    # What the simulation knows and the picture shows, read out of the features: the project's addition.
    auxiliary={
      "target": configuration.head("palm_to_target", "dense1", 3.0),
      "joints": configuration.head("joints", "dense1", 0.3),
    },
    # A tenth of the reward, and of every other term, so that the value's head alone has less way to go: after 40
    # updates it stands at 12.8 in rewards, with the whole reward (and 0.05, 5e-3, 0.5, costs of 30 and 3) at 2.8.
    reward_scale=0.1,
    value_cost=0.5,
    entropy_cost=5e-4,
    max_gradient_norm=0.05,
    learning_rate=1e-3,
    anneal_updates=600,  # All of them: steps / (num_worlds * num_steps).
  )

  # Column 2, on the target: a world in JAX by its name, or arm://host:port.
  config.method = "progressive"
  config.source = "experiments/released/jaco_talk"
  config.target = "jaco/reach/random"
  config.target_options = config_dict.ConfigDict({"num_joints": 6})
  config.output_init = "previous"  # The new column starts as exactly the old policy (papers.md 2.3); or "random".
  config.alpha = 1.0  # Adapters' first scale; Rusu et al. 2016 draw it from 1, 0.1, 0.01.
  config.transfer = configuration.phase(
    column=configuration.column_section(inputs=("proprioception", "target"), conv=(), dense=(64,), lstm=(64,)),
    steps=60_000,
    num_worlds=1,
    num_steps=20,
    evaluate_every=0,
    evaluation_episodes=20,
    save_every=2_000,
    updates_per_record=5,
  )
  return config
