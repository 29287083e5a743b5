"""Cases that any process may measure: submitted at once, recorded as each ends, begun again where a process died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from queue import SimpleQueue

from jaxopt_study.bench import record
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.pools import Pool
from jaxopt_study.bench.process import CaseFailed
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.stock import Work

RETRIES = 2
"""How often a case is begun again whose process died: after that the case itself is what ends processes."""


def measure(cases: Iterable[Case], pool: Pool, work: Work) -> Generator[Record]:
    """Yield the record of each case as it ends, one for each. When this ends early, whatever still measures ends.

    Raises:
        CaseFailed: The pool is gone.
    """
    ended: SimpleQueue[Future[Record]] = SimpleQueue()
    rest: dict[Future[Record], Case] = {}
    begun: Counter[Case] = Counter()

    def submit(case: Case) -> None:
        future = pool.submit(work, case)
        rest[future] = case
        begun[case] += 1
        future.add_done_callback(ended.put)

    try:
        for case in cases:
            submit(case)
        while rest:
            future = ended.get()
            case = rest.pop(future)
            error = future.exception()
            if isinstance(error, CancelledError):
                raise CaseFailed("the processes that measured are gone")
            retried = max(begun[case], pool.begun[case.key]) - 1
            if isinstance(error, pool.died) and retried < RETRIES:
                submit(case)
                continue
            found = future.result() if error is None else _failed(case, error, work.key)
            yield replace(found, retried=retried)
    finally:
        pool.end(work.run)


def _failed(case: Case, error: BaseException, key: str) -> Record:
    if isinstance(error, CaseFailed):
        return record.not_measured(case, error.status, str(error), key)
    words = (str(error).strip().splitlines() or ["no message"])[0]
    return record.not_measured(case, "failed", f"{type(error).__name__}: {words}", key)
