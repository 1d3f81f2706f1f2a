"""What mageflow costs, beside what this machine can do at all. Run it with `make bench`."""
