"""`--scheduler`: the submissions of a class go to the workers of a Dask cluster, on one machine or on many.

What travels is a job (one student's seeds, never the course key) and the bytes of the file; what returns is a record.
Only the client writes the ledger, each record once, as they arrive. A worker that is lost costs its submissions
nothing: Dask gives them to another (https://distributed.dask.org/en/stable/resilience.html). One that has another
attnkit, other libraries or other questions is refused, since its grades would not be those of the others.

The scheduler and its workers are trusted like this process: what they say is a grade. Let nobody else reach them
(https://distributed.dask.org/en/stable/tls.html); each jails what it runs, as `attnkit grade` does on one machine.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnkit.grading.crew import Done, Task
from attnkit.grading.digest import engine_digest, questions_digest, versions
from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.isolation import why_no
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.job import Job, grade_job
from attnkit.grading.records import Record
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec, load_lab

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 30.0
# Enough that no worker waits for the next submission, and few enough that files do not fill the memory.
_EACH = 2


class Dask:
    """The workers of the cluster whose scheduler is at `address`. `lab` names the lab there: a name, or a path."""

    def __init__(self, address: str, lab: str, isolation: Isolation, private: tuple[Path, ...] = ()) -> None:
        self.address, self.lab, self.isolation = address, lab, isolation
        self.private = [str(path.resolve()) for path in private]
        self._client: Client | None = None

    def __enter__(self) -> Dask:
        from distributed import Client  # here: it takes longer to import than all of the grader

        try:
            self._client = Client(self.address, timeout=CONNECT_SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            self.__exit__()
            raise GradingError(
                f"--scheduler: no Dask cluster with a worker answers at {self.address} ({error or 'no worker'}); "
                "it should be an address such as tcp://127.0.0.1:8786, which `dask scheduler` prints."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # the cluster may be gone, and the ledger has what there is
                self._client.run(stop_here)
            self._client.close()
            self._client = None

    def grade(self, spec: LabSpec, tasks: Sequence[Task]) -> Iterator[Done]:
        """Grade the tasks on the cluster; yields them as they end."""
        if not tasks:
            return
        assert self._client is not None
        self._check(self._client, spec)
        from distributed import as_completed

        waiting, sent = iter(tasks), dict[Any, Task]()
        results = as_completed(loop=self._client.loop)
        try:
            for future in self._send(spec, itertools.islice(waiting, self._window()), sent):
                results.add(future)
            for ended in results:
                task = sent.pop(ended)
                yield self._result(task, ended)
                for future in self._send(spec, itertools.islice(waiting, 1), sent):
                    results.add(future)
        finally:
            self._client.cancel(list(sent))

    def _window(self) -> int:
        assert self._client is not None
        return _EACH * max(1, sum(self._client.nthreads().values()))

    def _send(self, spec: LabSpec, tasks: Iterator[Task], sent: dict[Any, Task]) -> Iterator[Future]:
        assert self._client is not None
        for task in tasks:
            try:
                data: bytes | str = task.read()
            except Exception as error:  # told where the result is awaited: the file is gone, or the zip is
                data = f"{type(error).__name__}: {error}"
            name = f"attnkit-{uuid.uuid4().hex}"
            future = self._client.submit(
                grade_here, self.lab, asdict(task.job), data, self.private, key=name, pure=False
            )
            sent[future] = task
            yield future

    def _result(self, task: Task, future: Future) -> Done:
        try:
            told = future.result()
        except Exception as error:  # a worker that was lost too often, or whose attnkit cannot be imported
            return task, None, f"{type(error).__name__}: {error}"
        if "stop" in told:
            raise GradingError(f"--scheduler: {told['stop']}")
        return (task, None, told["error"]) if "error" in told else (task, _record(told["record"]), "")

    def _check(self, client: Client, spec: LabSpec) -> None:
        """Raise `GradingError` unless each worker would give the grades that this process would."""
        wanted = _made_by(questions_digest(spec))
        about = client.run(about_here, self.lab, self.isolation, on_error="return")
        for address, told in sorted(about.items()):
            if isinstance(told, BaseException):
                told = {"wrong": f"{type(told).__name__}: {told}; is attnkit installed there?"}
            if wrong := told["wrong"] or _unlike(told, wanted):
                raise GradingError(f"--scheduler: the worker {address} cannot grade this: {wrong}")


def about_here(lab: str, isolation: Isolation) -> dict[str, Any]:
    """On a worker: what would grade here, and what stands in its way."""
    try:
        questions = questions_digest(load_lab(lab))
    except Exception as error:
        return {"wrong": f"--lab {lab}: {error}"}
    why = why_no(isolation)
    wrong = f"no {isolation}: {why}" if why else ""
    return {**_made_by(questions), "wrong": wrong}


def grade_here(lab: str, job: dict[str, Any], data: bytes | str, private: list[str]) -> dict[str, Any]:
    """On a worker: grade one submission. The record, or `error` (costs this one) or `stop` (costs the run)."""
    try:
        if isinstance(data, str):
            return {"error": data}
        made = _job(job)
        spec = load_lab(lab)
        if wrong := _unlike(_made_by(questions_digest(spec)), made.made):
            return {"stop": f"a worker cannot grade this: {wrong}"}
        return {"record": asdict(_graded(spec, made, data, private))}
    except GradingError as error:
        return {"stop": str(error)}
    except Exception as error:  # one submission must never end the batch
        return {"error": f"{type(error).__name__}: {error}"}


def stop_here() -> None:
    """On a worker: end the zygotes that were kept warm and grade for nobody."""
    with _lock:
        idle = [(place, warm) for place, warm in _warm.items() if warm.busy.acquire(blocking=False)]
        for place, warm in idle:
            del _warm[place]
            warm.zygote.stop()


@dataclass(frozen=True)
class _Warm:
    zygote: Zygote
    busy: threading.Lock = field(default_factory=threading.Lock)


_warm: dict[Any, _Warm] = {}
_lock = threading.Lock()


def _graded(spec: LabSpec, job: Job, data: bytes, private: list[str]) -> Record:
    # bubblewrap dies with the thread that started it, so there is one zygote a thread; Dask keeps its threads.
    place = (threading.get_ident(), job.isolation, job.limits, tuple(private))
    with _lock:
        if place not in _warm:
            _warm[place] = _Warm(Zygote(job.isolation, job.limits, tuple(map(Path, private))))
        warm = _warm[place]
        warm.busy.acquire()
    try:
        return grade_job(warm.zygote, spec, job, data)
    except BaseException:
        warm.zygote.stop()
        raise
    finally:
        warm.busy.release()


def _made_by(questions: str) -> dict[str, Any]:
    return {"engine": engine_digest(), "questions": questions, "versions": versions()}


def _unlike(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What is other on a worker than with the client, in words."""
    if there["questions"] != here["questions"]:
        return "its questions.py is another one"
    if there["engine"] != here["engine"]:
        mine, its = here["versions"], there["versions"]
        other = [f"{name} {its.get(name)} instead of {mine[name]}" for name in mine if mine[name] != its.get(name)]
        return f"it has {', '.join(other) or 'another attnkit'}"
    return ""


def _job(plain: dict[str, Any]) -> Job:
    carried = {name: Graded(**answer) for name, answer in plain["carried"].items()}
    return Job(**{**plain, "limits": Limits(**plain["limits"]), "carried": carried})


def _record(plain: dict[str, Any]) -> Record:
    return Record(**{**plain, "answers": tuple(Graded(**answer) for answer in plain["answers"])})
