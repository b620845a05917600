"""Packaging: what is installed, and what for. Exact tested versions are in requirements.lock."""

import setuptools

setuptools.setup(
  name="progressive-robots",
  version="0.1.0",
  description="Progressive networks in JAX: a column learned in simulation is transferred to an arm",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(
    include=[f"{name}*" for name in ("progressive", "agents", "environments", "experiments", "analysis")]
  ),
  package_data={
    "": ["py.typed"],
    "environments": ["**/assets/*", "**/levels/*"],
    "analysis": ["*.csv"],
    "experiments": ["released/*/*", "report/*.css", "plans/*.sh"],
  },
  install_requires=[
    "absl-py>=2.1",
    "chex>=0.1.90",
    "dm-env>=1.6",
    "dm-env-rpc>=1.1.6",
    "flax>=0.12",
    "imageio>=2.34",
    "imageio-ffmpeg>=0.5",
    "jax>=0.10,<0.13",
    "matplotlib>=3.8",
    "ml-collections>=1.0",
    "mujoco==3.17.*",
    "mujoco-mjx==3.17.*",
    "numpy>=2.0",
    "optax>=0.2.5",
    "orjson>=3.10,<4",
    "pillow>=10.1",
    "safetensors>=0.8",
    "scikit-learn>=1.7,<2",
    "scipy>=1.15",
    "tensorboardX>=2.6",
  ],
  extras_require={
    "arm": ["h5py>=3.12,<4", "mcap>=1.5,<2"],
    "atari": ["ale-py>=0.12"],
    "gpu": ["jax[cuda12]>=0.10,<0.13"],
    "peer": ["ale-py>=0.12", "opencv-python-headless>=4.9,<6", "stable-baselines3>=2.9,<3"],
    "twin": ["dm_control==1.0.50"],
    "wandb": ["wandb>=0.31,<0.32"],
    "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=1.0,<2"],
    "dev": [
      "ale-py>=0.12",
      "gymnasium>=1.0,<2",
      "h5py>=3.12,<4",
      "mcap>=1.5,<2",
      "mypy>=1.15",
      "nbmake>=1.5,<2",
      "pytest>=8",
      "pytest-xdist>=3.6",
      "rlax>=0.1.6",
      "ruff>=0.9",
      "setuptools>=65",
    ],
  },
)
