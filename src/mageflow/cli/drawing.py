"""`mageflow graph`: a picture of a run or a signature."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mageflow import Drawing
from mageflow.cli.choosing import choose
from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened
from mageflow.cli.output import CommandError, clean, console, print_json

__all__ = ["graph"]


def graph(
    key: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The id of a run, the key of a signature, or its beginning.", show_default=False
        ),
    ],
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", dir_okay=False, help="Write it as an image.", show_default=False),
    ] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as a Mermaid flowchart.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Draw a run with its members and callbacks as they are now, or a signature with what it would call.

    A swarm is one box with its counts, however many members it has. What is left out is named.

    \b
    mageflow graph run_01k80r
    mageflow graph run_01k80r --svg flow.svg
    mageflow graph sig_01k80r --mermaid >> README.md
    """
    if mermaid and as_json:
        raise typer.BadParameter("--mermaid and --json are two forms of output; give one of them")
    drawing = asyncio.run(_draw(store, key))
    if svg is not None:
        try:
            svg.write_text(drawing.svg, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{svg} cannot be written: {error.strerror}; give another path with --svg") from error
    if as_json:
        print_json(drawing.model_dump(mode="json"))
    elif mermaid:
        print(str(drawing), end="")
    elif svg is not None:
        console().print(f"Wrote {clean(str(svg))}", soft_wrap=True)
    else:
        console().print(drawing)


async def _draw(store: str, wanted: str) -> Drawing:
    async with opened(store) as mage:
        return await (await choose(mage, wanted)).draw()
