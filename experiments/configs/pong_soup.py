"""Pong Soup (Rusu et al. 2016, section 5.2): what transfers between Pong and seven games that look otherwise.

python -m experiments.matrix --config=experiments/configs/pong_soup.py:laptop --workdir=runs/soup
python -m experiments.analyse --runs=runs/soup --aps
python -m experiments.figures --figure=pnn --runs=runs/soup --out=runs/soup/figures
"""

from typing import Any

from ml_collections import config_dict

from environments.pong import variants
from experiments.setup import configuration

SCALES = ("smoke", "laptop", "paper")
VARIANTS = ("pong", "noisy", "black", "white", "zoom", "h_flip", "v_flip", "hv_flip")
# The paper "closely follows" A3C (papers.md 1.4), which sums gradients over the 5 steps of an unroll; ours are means:
# its epsilon is 0.1 / 5^2 here, and the paper's clipping at 20 and 40 is at 4 and 8.
_A3C: dict[str, Any] = {
  "discount": 0.99,
  "lambda_": 1.0,
  "optimizer": "rmsprop",
  "second_moment_decay": 0.99,
  "epsilon": 4e-3,
}
# What two cores learn Pong with (experiments/results/pong_soup/tuning.md): they have steps for short credit alone.
_LAPTOP: dict[str, Any] = {"discount": 0.97, "entropy_cost": 2e-3, "learning_rate": 5e-4}


def get_config(scale: str = "laptop") -> config_dict.ConfigDict:
  """The experiment at one of `SCALES`."""
  if scale not in SCALES:
    raise ValueError(f"pong_soup.py:{scale} is not one of the scales {', '.join(SCALES)}")
  config = config_dict.ConfigDict()
  config.seed = 0

  # The matrix: every method from every source to every target but itself; see `experiments.matrix`.
  config.matrix = config_dict.ConfigDict(
    {
      "world": "pong/",
      "methods": ("scratch", "finetune_head", "finetune", "random_column", "progressive"),
      "sources": ("pong", "noisy", "h_flip") if scale == "paper" else ("pong",),
      "source_pairs": (("noisy", "h_flip"),) if scale == "paper" else (),  # Of three-column networks.
      # Laptop: those of figure 4b.
      "targets": {"smoke": ("pong", "white"), "laptop": ("pong", "white", "h_flip"), "paper": VARIANTS}[scale],
      # Scores that count as nothing, see `analysis.transfer`: the lowest, and the one nearest to the paper's numbers.
      "floors": (-21.0, -20.0),
    }
  )

  # What `experiments.transfer` reads; the matrix fills in method, source and target cell by cell.
  config.method = "scratch"
  config.source = ""
  config.target = "pong/pong"
  # A lost game takes about 1,000 steps; the smoke test cuts it short so that some end within its few steps.
  config.target_options = config_dict.ConfigDict(
    {"num_actions": 3, **variants.Options()._asdict()} | ({"max_episode_steps": 20} if scale == "smoke" else {})
  )
  config.output_init = "random"  # Starting as the previous policy came with the later paper (papers.md 2.3).
  config.alpha = 1.0
  config.transfer = configuration.phase(
    # Two convolutions, the first of 8 maps (papers.md 1.2); the second and the dense layer are not established.
    # How they begin is ours: "contrast" sees the ball sooner (explained variance at 0.2 M steps 0.7, "lecun" 0.1).
    column=configuration.column_section(conv=((8, 8, 4), (16, 4, 2)), dense=(128,), lstm=(), pixel_init="contrast"),
    steps={"smoke": 2_000, "laptop": 2_000_000, "paper": 40_000_000}[scale],
    # Many small updates: to see the ball took 0.05 to 0.15 M steps with 40 to 160 an update, over 0.25 M with 320.
    num_worlds={"smoke": 4, "laptop": 4, "paper": 16}[scale],
    num_steps=20 if scale == "laptop" else 5,
    evaluate_every=0,
    evaluation_episodes={"smoke": 2, "laptop": 32, "paper": 100}[scale],
    save_every={"smoke": 1_000, "laptop": 100_000, "paper": 1_000_000}[scale],
    updates_per_record={"smoke": 10, "laptop": 200, "paper": 1000}[scale],
    value_cost=0.5,
    **(_LAPTOP if scale == "laptop" else _A3C),
  )
  config.transfer.video = False
  drawn = (
    ("transfer.hyper.learning_rate", "choice", (1e-3, 5e-4, 1e-4)),
    ("transfer.hyper.entropy_cost", "choice", (1e-2, 1e-3, 1e-4)),
    ("transfer.hyper.max_gradient_norm", "choice", (4.0, 8.0)),
    ("alpha", "choice", (1.0, 0.1, 0.01)),
  )
  config.sweep = configuration.sweep(
    num_runs={"smoke": 2, "laptop": 1, "paper": 25}[scale],
    top={"smoke": 1, "laptop": 1, "paper": 3}[scale],
    sampled=() if scale == "laptop" else drawn,  # One run of each is no sample.
  )
  return config
