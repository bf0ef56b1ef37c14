"""Work done ahead of need, by one thread, no further than memory allows."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_ITEMS_AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def done_ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    cost: Callable[[Item], int],
    limit: int,
) -> Iterator[Result]:
    """Yield what `work` makes of each item, in order; the next ones are begun meanwhile.

    Args:
        items: what there is to do.
        work: what is done to each; its errors are raised here.
        cost: bytes that an item's result will take.
        limit: bytes that results may take together, the one in the caller's hands included; a
            result that alone takes more is made when no other is held.
    """
    waiting = deque(items)
    begun: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    try:
        while waiting or begun:
            while waiting and len(begun) < _ITEMS_AHEAD:
                size = cost(waiting[0])
                if held and held + size > limit:
                    break
                begun.append((size, pool.submit(work, waiting.popleft())))
                held += size
            size, future = begun.popleft()
            yield future.result()
            held -= size
    finally:
        pool.shutdown(cancel_futures=True)
