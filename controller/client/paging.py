"""A place in a search: the API server's continue token and the last name seen.

An expired token (410 after some minutes) is answered with a fresh one that goes on at the present
state. Should an API server send none, the list starts again, and the name says what to skip: a
list of one namespace is in the order of names.
https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from controller.client.api import Api
from controller.client.errors import InvalidPageId, SandboxRefused
from controller.client.objects import Object

MOST_AT_ONCE = 500
"""Objects in one answer, as kubectl asks for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on. `token` is empty at the start and after the end."""

    token: str = ""
    after: str = ""

    @classmethod
    def parse(cls, page_id: str | None) -> Self:
        """Raises InvalidPageId."""
        if page_id is None:
            return cls()
        try:
            token, after = json.loads(base64.b64decode(page_id, altchars=b"-_", validate=True))
        except (ValueError, TypeError):
            token = after = None
        if not (isinstance(token, str) and isinstance(after, str) and token):
            raise InvalidPageId
        return cls(token, after)

    def page_id(self) -> str | None:
        """For the next call; None at the end."""
        if not self.token:
            return None
        return base64.urlsafe_b64encode(json.dumps([self.token, self.after]).encode()).decode()


async def objects_from(
    api: Api, place: Place, most: int, field_selector: str
) -> tuple[Sequence[Object], Place]:
    """At most `most` objects from there on, and the place after them. Raises InvalidPageId."""
    query: dict[str, str | int] = {"limit": min(most, MOST_AT_ONCE)}
    query |= {"fieldSelector": field_selector}
    try:
        listing = await api.list(**query, **({"continue": place.token} if place.token else {}))
    except SandboxRefused as error:
        if place.token and error.status == 400:
            raise InvalidPageId from None
        if error.status != 410:
            raise
        token = error.resume_token
        listing = await api.list(**query, **({"continue": token} if token else {}))
    found = [obj for obj in listing["items"] if obj["metadata"]["name"] > place.after]
    after = found[-1]["metadata"]["name"] if found else place.after
    return found, Place(listing["metadata"].get("continue", ""), after)
