"""Reading what the API server answers without holding much of it.

    read        the bytes of an answer, up to a bound
    PageSize    how many objects to ask for: as many as fit, however big they are
    PagesOfKopf the same for the lists that kopf asks for, with `LightResponse`

An object may be 1.5 MiB, and there may be thousands. Each is lightened (core/subject.py) as soon as
it is parsed, so that what is kept grows with what is needed, not with what is read.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from pydantic_core import from_json

from controller.core.subject import lighten

MAX_BYTES = 8 * 1024 * 1024
"""Of one answer. The API server's store takes objects of 1.5 MiB; a few of them fit."""
PAGE_BYTES = 2 * 1024 * 1024
"""What a page of a list should have."""
FIRST_PAGE = 25
LARGEST_PAGE = 500
_GROWTH = 4
_SHRINKAGE = 8


class TooLarge(Exception):
    """An answer has more than MAX_BYTES."""


async def read(response: aiohttp.ClientResponse, head: bytes = b"") -> bytes:
    """The rest of an answer after `head`. Raises TooLarge, and the connection is closed then."""
    parts, total = [head], len(head)
    async for part in response.content.iter_any():
        total += len(part)
        if total > MAX_BYTES:
            response.close()
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


def parse(raw: bytes) -> Any:
    """The JSON of an answer. Raises ValueError."""
    # Not json.loads: it makes a text of the bytes first, of four bytes a character where one of
    # them needs it, and takes three times as long.
    return from_json(raw, allow_inf_nan=False, cache_strings="keys")


def parse_light(raw: bytes) -> Any:
    """The same for a Sandbox or a list of them, lightened."""
    parsed = parse(raw)
    if isinstance(parsed, dict):
        for obj in parsed.get("items") or () if "items" in parsed else (parsed,):
            lighten(obj)
    return parsed


class PageSize:
    """How many objects of a list to ask for. It follows the sizes that were seen; small objects
    may be followed by big ones, so a page that was too large is asked for again with fewer."""

    def __init__(self) -> None:
        self.limit = FIRST_PAGE

    def took(self, count: int, total: int) -> None:
        """A page of so many objects had so many bytes."""
        fitting = PAGE_BYTES * max(count, 1) // max(total, 1)
        self.limit = max(1, min(fitting, self.limit * _GROWTH, LARGEST_PAGE))

    def shrink(self) -> bool:
        """Ask for fewer. False where one object was too many."""
        possible = self.limit > 1
        self.limit = max(1, self.limit // _SHRINKAGE)
        return possible


class LightResponse(aiohttp.ClientResponse):
    """An answer whose JSON is lightened: for kopf, which parses lists itself."""

    page: Any = None

    async def json(self, **options: Any) -> Any:
        if self.page is not None:
            page, self.page = self.page, None
            return page
        return await super().json(**options)


class PagesOfKopf:
    """A middleware of aiohttp: the pages that kopf asks for have as many objects as fit."""

    def __init__(self) -> None:
        self._size = PageSize()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if "limit" not in request.url.query:
            return await handler(request)
        while True:
            request.url = request.url.update_query(limit=self._size.limit)
            response = await handler(request)
            if response.status != 200 or not isinstance(response, LightResponse):
                return response
            try:
                raw = await read(response)
                response.page = parse_light(raw)
            except TooLarge:
                if not self._size.shrink():
                    raise aiohttp.ClientPayloadError("an object is too large") from None
                continue
            except ValueError:
                raise aiohttp.ClientPayloadError("the answer is no JSON") from None
            self._size.took(len(response.page.get("items") or ()), len(raw))
            return response
