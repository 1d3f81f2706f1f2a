"""The `mageflow` command."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the exit code; where typer and rich are not installed, with the command that installs
            them.
    """
    try:
        from mageflow.cli.app import run  # noqa: PLC0415 - an extra: only whoever runs the command needs it
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("rich", "typer"):
            raise
        raise SystemExit(
            f"mageflow: the command line needs {missing}, which is not installed. Run: pip install 'mageflow[cli]'"
        ) from None
    run()
