"""The colours of methods, the same in all figures: a strong one, and a lighter one for another width or more columns.

A figure that draws other things chooses its own colours.
"""

from collections.abc import Mapping

METHODS: Mapping[str, tuple[str, str]] = {
  "progressive": ("#1f4e9c", "#5aa0e6"),
  "finetune": ("#d9661f", "#f0a868"),
  "finetune_head": ("#8c5a9e", "#bd93cc"),
  "random_column": ("#2f8f5b", "#84c9a3"),
  "scratch": ("#555555", "#a0a0a0"),
  "unchanged": ("#000000", "#000000"),
}
