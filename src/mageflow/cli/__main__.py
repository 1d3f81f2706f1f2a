"""`python -m mageflow.cli`, where the `mageflow` script is not in the PATH."""

from mageflow.cli import main

if __name__ == "__main__":
    main()
