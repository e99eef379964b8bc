"""Limit how many bytes of request bodies are in memory."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from mura_skorch.serving.requests import BadRequestError

__all__ = ["BodyReader", "ServerBusyError"]

N_LARGEST = 4  # bodies of the largest size that may be in memory at once


class ServerBusyError(Exception):
    """The bodies of all current requests are too large together."""


class BodyReader:
    """Read request bodies up to a limit for each and a limit for all together.

    Parameters
    ----------
    max_bytes : int
        Limit of one body. All current ones together may hold `N_LARGEST` times as much.

    Attributes
    ----------
    n_in_memory : int
        Bytes of all bodies that are in use.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_in_memory = 0

    @asynccontextmanager
    async def read(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytearray]:
        """Give the complete body; its bytes count as in use until the block ends.

        A body that is too large is received to its end but not stored: a client that is still
        sending would not see the answer.

        Raises
        ------
        BadRequestError
            The body is larger than the limit of one.
        ServerBusyError
            All current bodies together are larger than their limit.
        """
        body, n_received, is_busy = bytearray(), 0, False
        max_in_memory = N_LARGEST * self.max_bytes
        try:
            async for chunk in chunks:
                n_received += len(chunk)
                is_busy = is_busy or self.n_in_memory + len(chunk) > max_in_memory
                if is_busy or n_received > self.max_bytes:
                    self.n_in_memory -= len(body)
                    body.clear()
                else:
                    self.n_in_memory += len(chunk)
                    body += chunk
            if n_received > self.max_bytes:
                raise BadRequestError(
                    f"expected a request of at most {self.max_bytes:,} bytes, got {n_received:,}; "
                    "send the studies in several requests"
                )
            if is_busy:
                raise ServerBusyError(
                    f"expected at most {max_in_memory:,} bytes in all requests at once, got more; "
                    "try again later"
                )
            yield body
        finally:
            self.n_in_memory -= len(body)
