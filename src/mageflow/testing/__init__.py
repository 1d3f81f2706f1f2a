"""What tests of mageflow and of programs on it are made with.

* `mageflow.testing.clock`: time that a test turns, and chance that a seed repeats.
* `mageflow.testing.contracts`: what every store must do, as tests to inherit.
"""
