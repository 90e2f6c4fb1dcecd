"""`attnkit book`: build the site, print it, keep the notebook twins in step, vendor MathJax."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from attnkit.authoring.project import find_root

_JOBS = "How many chapters run at a time; one for each core if not given."
app = typer.Typer(no_args_is_help=True, help="Execute and build the book and its notebook twins.")


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _stop(error: Exception) -> typer.Exit:
    print(f"\n{error}", file=sys.stderr)
    return typer.Exit(1)


@app.command()
def build(
    jobs: Annotated[int | None, typer.Option(help=_JOBS)] = None,
    force: Annotated[bool, typer.Option("--force", help="Start from nothing: execute and write everything.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this page, as book/idea/masks; may be given several times.")
    ] = None,
) -> None:
    """Execute the chapters that changed and write the site into _build/html; a warning is an error.

    With --only, a page that you are writing, alone and quickly, into _build/only: it need not be in _toc.yml yet, and
    its links to other pages need not lead anywhere.
    """
    from attnkit.authoring import chapters, execution, site, vendor

    root = find_root()
    start = time.monotonic()
    try:
        if only:
            folder = site.build_only(root, only, jobs=jobs, say=_say)
            print(f"Built in {time.monotonic() - start:.0f} s. Open {folder / only[0].removesuffix('.md')}.html")
            return
        folder = site.build(root, jobs=jobs, force=force, say=_say)
    except (execution.ChapterError, site.BuildError, vendor.VendorError, FileNotFoundError) as error:
        raise _stop(error) from None
    print(f"Built {len(chapters.pages(root))} pages in {time.monotonic() - start:.0f} s. Open {folder / 'index.html'}")


@app.command()
def twins(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a twin is out of step.")] = False,
    jobs: Annotated[int | None, typer.Option(help=_JOBS)] = None,
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
def pdf(
    page: Annotated[
        list[str] | None, typer.Option(help="Only this page, as book/idea/softmax; may be repeated.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help=_JOBS)] = None,
) -> None:
    """Print the book for paper: a PDF of each page, and all of them bound into _build/pdf/attnkit.pdf."""
    from attnkit.authoring import execution, pdf, site, vendor

    root = find_root()
    try:
        site.build(root, jobs=jobs, say=_say)
        printed = pdf.print_pages(root, page)
        for one in printed:
            _say(f"printed {one.path.relative_to(root)}" + (f"; too wide: {one.too_wide[0]}" if one.too_wide else ""))
        if not page:
            print(f"Open {pdf.print_book(root, printed)}")
    except (pdf.PdfError, execution.ChapterError, site.BuildError, vendor.VendorError, FileNotFoundError) as error:
        raise _stop(error) from None


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
