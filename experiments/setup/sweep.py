"""The configs of a sweep's members: each has its own seed, and values drawn for what `sweep.sampled` names.

A member's own values can only be its seed, `alpha` and leaves of its agent: numbers, which are data
(`running.devices`).
"""

import dataclasses
import functools
import zlib

import numpy as np
from ml_collections import config_dict

from agents import actor_critic, auxiliary

_KINDS = ("choice", "log_uniform")


def own_fields(config: config_dict.ConfigDict) -> set[str]:
  """The fields in which runs side by side may differ: numbers that are data, not what makes a program or a world."""
  hyper, head = (
    [field.name for field in dataclasses.fields(data) if field.metadata.get("pytree_node", True)]
    for data in (actor_critic.Hyper, auxiliary.Head)
  )
  heads = [f"train.auxiliary.{name}.{field}" for name in config.train.auxiliary for field in head]
  return {"alpha", *(f"train.hyper.{field}" for field in hyper), *heads}


def sample(config: config_dict.ConfigDict, index: int) -> config_dict.ConfigDict:
  """The config of member `index`: its own seed, and a value drawn for each of `config.sweep.sampled`.

  `sampled` lists (field, kind, values): "choice" deals the values like cards, so that a few members see all of them;
  "log_uniform" draws between two. Adding members does not change the earlier ones.

  Raises:
    ValueError: for an unknown field or kind, for a field in which runs may not differ, or for nothing to draw from.
  """
  member = config_dict.ConfigDict({name: value for name, value in config.items() if name != "sweep"})
  member = member.copy_and_resolve_references()
  for name, kind, values in config.sweep.sampled:
    if kind not in _KINDS:
      raise ValueError(f"sweep.sampled draws {name} by {kind!r}; choose one of {', '.join(_KINDS)}")
    section, _, field = name.rpartition(".")
    try:
      owner = functools.reduce(lambda at, part: at[part], section.split(".") if section else [], member)
      owner[field]
    except (KeyError, TypeError):  # TypeError: a field of a number's.
      raise ValueError(f"sweep.sampled names {name}, which is no field of the config") from None
    if name not in own_fields(member):
      raise ValueError(
        f"sweep.sampled draws {name}, in which runs side by side cannot differ: only numbers of hyper "
        "but epochs and minibatches, costs of auxiliary heads and alpha are a run's own; make a sweep for each value"
      )
    if not values:
      raise ValueError(f"sweep.sampled gives no values for {name}")
    rng = np.random.default_rng((config.seed, zlib.crc32(name.encode())))
    if kind == "choice":
      dealt = [value for _ in range(index // len(values) + 1) for value in rng.permutation(values)]
    else:
      low, high = np.log(values)
      dealt = list(np.exp(rng.uniform(low, high, size=index + 1)))
    with owner.ignore_type():  # A config may have a whole number there.
      owner[field] = float(dealt[index])
  member.seed = config.seed + index
  return member
