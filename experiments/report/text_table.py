"""A table as aligned text, for a terminal or a log."""

from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]], *, num_left: int | None = None) -> list[str]:
  """A line for each row of cells; the first `num_left` columns (None: all) are aligned left, the others right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  num_left = len(widths) if num_left is None else num_left
  return [
    "  ".join(
      cell.ljust(width) if i < num_left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
