"""Layers as JSON: a file holds the name under which an object can be imported again, and the object's fields.

A function or a class is named `module:name`; those of `progressive.layers` are named by `name` alone. A dataclass (a
layer or a `flax` module) becomes a JSON object with its class under `type` and its fields. Anything without such a name
is refused, such as a lambda or anything else made inside a function. So is anything that the program itself
(`__main__`) defines. Reading imports the modules that the file names.
"""

import contextlib
import dataclasses
import importlib
from typing import Any

_OURS = "progressive.layers"
_HOMES = (_OURS, "jax.nn", "jax.nn.initializers", "jax.numpy", "flax.linen")  # Public homes of objects from elsewhere.


class UnknownName(ValueError):
  """A name under which nothing can be imported."""


def name_of(thing: Any) -> str:
  """The name that `find` resolves to `thing`.

  Raises:
    ValueError: if it has none.
  """
  name = getattr(thing, "__name__", "")
  for module in filter(None, (*_HOMES, getattr(thing, "__module__", ""))):
    with contextlib.suppress(ImportError):
      if getattr(importlib.import_module(module), name, None) is thing:
        return name if module == _OURS else f"{module}:{name}"
  raise ValueError(f"{thing!r} cannot be saved by its name; define it at the top of a module that can be imported")


def find(name: str) -> Any:
  """The object that `name_of` named.

  Raises:
    UnknownName: if it cannot be imported.
  """
  module, _, attribute = name.rpartition(":")
  try:
    return getattr(importlib.import_module(module or _OURS), attribute)
  except (ImportError, AttributeError) as error:
    raise UnknownName(f"{name!r} cannot be imported ({error}); its module must be on Python's path") from error


def to_json(value: Any) -> Any:
  """A layer, or the value of one of its fields, as JSON values.

  Raises:
    ValueError: if a part of it has no name.
  """
  if _is_plain(value):
    return _elsewhere(value)
  if isinstance(value, (list, tuple)):
    return [to_json(one) for one in value]
  if not dataclasses.is_dataclass(value) or isinstance(value, type):
    return {"named": _elsewhere(name_of(value))}
  fields = [field for field in dataclasses.fields(value) if field.init and field.name != "parent"]  # Flax's own.
  values = {field.name: getattr(value, field.name) for field in fields}
  defaults = {field.name for field in fields if values[field.name] is field.default and not _is_plain(field.default)}
  written = {name: to_json(one) for name, one in values.items() if name not in defaults}
  return {"type": _elsewhere(name_of(type(value))), **written}


def from_json(value: Any) -> Any:
  """The inverse of `to_json`; a list becomes a tuple.

  Raises:
    UnknownName: if a name cannot be imported.
    ValueError: if a type is not a dataclass.
    TypeError: if the type does not have these fields.
  """
  if isinstance(value, list):
    return tuple(from_json(one) for one in value)
  if not isinstance(value, dict):
    return value
  if "named" in value:
    return find(value["named"])
  fields = {name: from_json(one) for name, one in value.items()}
  cls = find(fields.pop("type"))
  if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
    raise ValueError(f"type {value['type']!r} is no dataclass, as layers and flax modules are")
  return cls(**fields)


def _elsewhere(value: Any) -> Any:
  """Returns a plain value; refuses a name that another program cannot import."""
  if isinstance(value, str) and value.startswith("__main__:"):
    raise ValueError(f"{value} is defined in the program itself, where no other one finds it; move it into a module")
  return value


def _is_plain(value: Any) -> bool:
  return value is None or isinstance(value, (bool, int, float, str))
