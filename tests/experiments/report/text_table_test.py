"""Tables aligned by hand."""

from experiments.report import text_table


def test_columns_are_aligned_and_no_line_ends_in_blanks():
  rows = [("job", "n", "why"), ("a", "10", ""), ("long", "2", "waits")]
  assert text_table.lines(rows) == ["job   n   why", "a     10", "long  2   waits"]
  assert text_table.lines(rows, num_left=1) == ["job    n    why", "a     10", "long   2  waits"]
