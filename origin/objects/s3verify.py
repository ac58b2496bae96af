"""Reading a large object once, part by part, for its digests: some parts are fetched while another is being hashed.

Whoever completes an upload waits for it. Fetched one after another in one thread, the store, the network, and the digests of
the part and of the whole take turns; here they work side by side. Memory is bounded by AHEAD_BYTES, or one part if it is larger.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from origin.objects.s3multipart import Span

AT_ONCE: Final = 4
AHEAD_BYTES: Final = 128 * 1024 * 1024

Chunks = Callable[[Span], Iterable[bytes]]


def parts_with_digests(spans: Sequence[Span], chunks: Chunks, at_once: int = AT_ONCE) -> Iterator[tuple[Sequence[bytes], str]]:
    """(chunks, SHA-256 in hex) of each span, in their order. Raises what `chunks` raises."""
    largest = max((span.size_bytes for span in spans), default=0)
    ahead = max(1, min(at_once, AHEAD_BYTES // max(1, largest)))
    waiting: deque[Future[tuple[list[bytes], str]]] = deque()
    remaining = iter(spans)
    with ThreadPoolExecutor(ahead, thread_name_prefix="s3-verify") as readers:
        try:
            for span in remaining:
                waiting.append(readers.submit(_fetched, span, chunks))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _fetched(span: Span, chunks: Chunks) -> tuple[list[bytes], str]:
    digest = hashlib.sha256()
    body = []
    for chunk in chunks(span):
        digest.update(chunk)  # without the interpreter's lock: others fetch meanwhile
        body.append(chunk)
    return body, digest.hexdigest()
