"""The colours of methods, equal in all figures: a strong one, and a lighter one for what differs in width or columns.

A figure that draws other things chooses its own.
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
