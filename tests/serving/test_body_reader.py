import asyncio

import pytest

from mura_skorch.serving.body_reader import BodyReader, ServerBusyError
from mura_skorch.serving.requests import BadRequestError


async def chunks(*parts):
    for part in parts:
        yield part


def test_body_is_complete_and_counted_until_it_is_used():
    async def read():
        reader = BodyReader(8)
        async with reader.read(chunks(b"123", b"", b"45678")) as body:
            assert body == b"12345678"
            assert reader.n_in_memory == 8
        assert reader.n_in_memory == 0
        async with reader.read(chunks()) as body:
            assert body == b""

    asyncio.run(read())


def test_body_that_is_too_large_is_received_to_its_end_but_not_stored():
    sizes = []

    async def read():
        reader = BodyReader(8)

        async def endless():
            for _ in range(100):
                yield b"12345"
                sizes.append(reader.n_in_memory)

        with pytest.raises(BadRequestError, match="at most 8 bytes, got 500; send the studies"):
            async with reader.read(endless()):
                pass
        assert reader.n_in_memory == 0

    asyncio.run(read())
    assert sizes == [5] + [0] * 99


def test_bodies_that_are_too_large_together_are_refused_until_one_is_answered():
    async def read():
        reader = BodyReader(8)
        kept = [reader.read(chunks(b"123", b"45678")) for _ in range(4)]
        assert [await body.__aenter__() for body in kept] == [b"12345678"] * 4
        with pytest.raises(ServerBusyError, match="at most 32 bytes in all requests at once"):
            async with reader.read(chunks(b"123", b"4")):
                pass
        assert reader.n_in_memory == 32
        await kept.pop().__aexit__(None, None, None)
        async with reader.read(chunks(b"123", b"4")) as body:
            assert body == b"1234"
            assert reader.n_in_memory == 28
        for body in kept:
            await body.__aexit__(None, None, None)
        assert reader.n_in_memory == 0

    asyncio.run(read())


def test_body_of_a_client_that_disconnects_is_dropped():
    async def read():
        reader = BodyReader(8)

        async def interrupted():
            yield b"123"
            raise ConnectionError

        with pytest.raises(ConnectionError):
            async with reader.read(interrupted()):
                pass
        assert reader.n_in_memory == 0

    asyncio.run(read())
