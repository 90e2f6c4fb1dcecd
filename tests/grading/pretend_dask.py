"""A Dask scheduler or worker with a stand-in for the engine: python -m tests.grading.pretend_dask worker ADDRESS.

PRETEND_SECONDS is how long a question takes; PRETEND_LOG gets a line "process question" for each; PRETEND_ENGINE is
another engine's digest.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any


async def serve(role: str, address: str) -> None:
    """Until it is killed."""
    from distributed import Scheduler, Worker

    if role == "scheduler":
        async with Scheduler(host=address, dashboard_address=":0", dashboard=False) as scheduler:
            await scheduler.finished()
    else:
        async with Worker(address, nthreads=1, dashboard=False) as worker:
            await worker.finished()


def main() -> None:
    """Put the stand-in in place and serve."""
    from attnkit.grading import job, schedule
    from tests.grading.tiny import pretended

    seconds, log = float(os.environ.get("PRETEND_SECONDS", "0")), os.environ.get("PRETEND_LOG", os.devnull)

    def slowly(zygote: Any, question: Any, cells: Any, seed: str) -> Any:
        time.sleep(seconds)
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {question.name}\n")
        return pretended(zygote, question, cells, seed)

    job.grade_question = slowly
    if engine := os.environ.get("PRETEND_ENGINE"):
        schedule.engine_digest = lambda: engine
    asyncio.run(serve(*sys.argv[1:3]))


if __name__ == "__main__":
    main()
