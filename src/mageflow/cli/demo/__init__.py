"""`mageflow demo`: the library at work on real files. Its program is `program.py`, to be read as an example."""
