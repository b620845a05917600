"""From configs to objects: a column, a place to learn in, what learns there."""
