"""The command line as a whole: its help, its commands, its exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mageflow.cli.demo.command import demo
from mageflow.cli.doctor import doctor
from mageflow.cli.drawing import graph
from mageflow.cli.explaining import explain
from mageflow.cli.listing import ls
from mageflow.cli.output import FAILED, INTERRUPTED, complain, tolerate_any_encoding
from mageflow.cli.purging import purge
from mageflow.cli.showing import show
from mageflow.cli.starting import run_task
from mageflow.cli.steering import cancel, close, interrupt, resume, retry, suspend
from mageflow.cli.worker import dev, worker
from mageflow.errors import MageflowError

__all__ = ["app", "run"]

# `\b` above a paragraph keeps its line breaks.
_HELP = """\
Signatures and callbacks for background tasks: what shall follow when a task succeeds, fails or ends, kept in one
SQLite file, with nothing to start.

See it work on real files, with a run for each and a callback for each run. Kill it half way: started again, it does
the rest.

\b
    mageflow demo                       the standard library of this Python
    mageflow demo ~/code/my-project     your own files

Write tasks with a worker beside you, and execute what your programs start in processes of their own:

\b
    mageflow dev shop.tasks:mage        starts anew when a file changes, logs all
    mageflow worker shop.tasks:mage --processes 4

Start a task from here, and look at what has run:

\b
    mageflow run send_email '{"to": "ada@example.com"}' --wait
    mageflow ls --status failed         the newest runs, those that failed
    mageflow show run_01k80r            one run: its message, its result or why it
                                        failed, and the runs that it caused

Find out why something does not go on, and move it:

\b
    mageflow explain run_01k80r         why it is where it is, what it waits for,
                                        and the command that moves it
    mageflow graph run_01k80r           a picture of it and of what it calls
    mageflow suspend run_01k80r         hold it; also interrupt, resume, cancel
    mageflow retry run_01k80r           start it anew, with its message
    mageflow doctor                     what is broken or will hurt, and what helps

The app, shop.tasks:mage, is where your client is: the name mage in the module shop.tasks. Given none, a command takes
the one in MAGEFLOW_APP, else that of the nearest pyproject.toml:

\b
    [tool.mageflow]
    app = "shop.tasks:mage"

Where an ID is wanted, its beginning will do. The store is the file that --store names, else the one in
MAGEFLOW_STORE, else mageflow.db in the current folder. With --json a command prints JSON for programs.

Exit codes: 0 done; 1 refused or failed, with the reason on stderr; 2 wrong usage; 130 interrupted.
"""

app = typer.Typer(
    name="mageflow",
    help=_HELP,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Panels and colours would differ between a terminal and a pipe; the help is plain text in both.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mageflow {version('mageflow')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    return


app.command(short_help="Run a real job: parse Python files.")(demo)
app.command(short_help="List the newest runs.")(ls)
app.command(short_help="Show one run, whole.")(show)
app.command(short_help="Execute an app's runs.")(worker)
app.command(short_help="A worker while you write the app.")(dev)
app.command(short_help="Say why a run is where it is.")(explain)
app.command(short_help="Draw a run or a signature.")(graph)
app.command("run", short_help="Start a task by its name.")(run_task)
app.command(short_help="Cancel runs and what they lead to.")(cancel)
app.command(short_help="Hold what has not begun.")(suspend)
app.command(short_help="Hold, and stop what runs.")(interrupt)
app.command(short_help="Let what is held go on.")(resume)
app.command(short_help="Let no member be added any more.")(close)
app.command(short_help="Start ended runs anew.")(retry)
app.command(short_help="Remove what has expired.")(purge)
app.command(short_help="Find what is broken or will hurt.")(doctor)


def run() -> None:
    """Run the command that `sys.argv` names; what mageflow refuses is one line on stderr.

    Raises:
        SystemExit: always, with the exit code.
    """
    tolerate_any_encoding()
    try:
        app(prog_name="mageflow")
    except MageflowError as error:
        complain(str(error))
        sys.exit(FAILED)
    except SystemExit as error:
        if error.code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            complain("interrupted")
        raise
