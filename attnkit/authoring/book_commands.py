"""`attnkit book`: build the site, keep the notebook twins in step, vendor MathJax."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from attnkit.authoring.project import find_root

app = typer.Typer(no_args_is_help=True, help="Execute and build the book and its notebook twins.")


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _stop(error: Exception) -> typer.Exit:
    print(f"\n{error}", file=sys.stderr)
    return typer.Exit(1)


@app.command()
def build(
    jobs: Annotated[int, typer.Option(help="How many chapters run at a time.")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Start from nothing: execute and write everything.")] = False,
) -> None:
    """Execute the chapters that changed and write the site into _build/html; a warning is an error."""
    from attnkit.authoring import chapters, execution, site, vendor

    root = find_root()
    start = time.monotonic()
    try:
        folder = site.build(root, jobs=jobs, force=force, say=_say)
    except (execution.ChapterError, site.BuildError, vendor.VendorError, FileNotFoundError) as error:
        raise _stop(error) from None
    print(f"Built {len(chapters.pages(root))} pages in {time.monotonic() - start:.0f} s. Open {folder / 'index.html'}")


@app.command()
def twins(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a twin is out of step.")] = False,
    jobs: Annotated[int, typer.Option(help="How many chapters run at a time.")] = 2,
) -> None:
    """Write beside each chapter the notebook that Colab opens: text outputs, no images."""
    from attnkit.authoring import execution, twins

    root = find_root()
    try:
        changed = twins.write_twins(root, jobs=jobs, check=check, say=_say)
    except (execution.ChapterError, twins.TwinError) as error:
        raise _stop(error) from None
    if check and changed:
        print("Out of step: " + ", ".join(changed) + ". Run: attnkit book twins", file=sys.stderr)
        raise typer.Exit(1)
    print("Twins in step." if not changed else "Wrote " + ", ".join(changed))


@app.command()
def vendor() -> None:
    """Copy MathJax from node_modules into the book, so that pages need no network."""
    from attnkit.authoring import vendor as vendoring

    root = find_root()
    try:
        changed = vendoring.vendor(root)
    except vendoring.VendorError as error:
        raise _stop(error) from None
    print("MathJax copied into book/assets/vendor." if changed else "MathJax is in place.")
