"""The three papers' figures, a module a subject; `drawing` turns what they return into files."""
