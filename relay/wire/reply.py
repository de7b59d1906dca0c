"""What has come back of one request so far: it survives a connection that breaks off."""

from dataclasses import dataclass, field

from pyreqwest.http import Url

from relay.domain.deliveries import Answer, Wish

LONGEST_DETAIL, LONGEST_LOCATION = 200, 512
WISH = b"webhook-delivery"
"""The response header of a receiver that wants no more."""

_REDIRECTS = range(300, 400)
_WISHES = {str(each): each for each in Wish if each}


@dataclass(slots=True)
class Reply:
    """One request's, filled in as it comes. `url` is the one that was asked."""

    url: Url | None = None
    status: int | None = None
    error: str = ""
    detail: str = ""
    address: str = ""
    unconnected: bool = False
    """No connection was made: another address may do."""
    resolve_seconds: float = 0.0
    answer_seconds: float | None = None
    status_at: float | None = None
    """On the loop's clock."""
    retry_after: float | None = None
    """Seconds."""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """By their names in small letters; of several with one name the first."""
    body: bytes = b""
    """As much of it as is kept."""

    def header(self, name: bytes) -> str:
        """A header of the answer; empty when it has none, or one that is not ASCII, or no whole head has come."""
        value = self.headers.get(name, b"") if self.status is not None else b""
        return value.decode().strip() if value.isascii() else ""

    def answer(self) -> Answer:
        """The reply as a webhook's answer."""
        detail, location, wish = self.detail, "", Wish.NONE
        if self.status in _REDIRECTS:
            location = self._location()
            if not self.error:
                detail = "redirects are not followed: give the final URL"
                detail += f", {location}" if location else ""
        if self.headers:
            wish = _WISHES.get(self.header(WISH).lower(), Wish.NONE)
        return Answer(
            self.status,
            self.error,
            detail[:LONGEST_DETAIL],
            self.body,
            self.retry_after,
            wish,
            location,
            self.address,
            self.resolve_seconds,
            self.answer_seconds,
        )

    def _location(self) -> str:
        """Where a redirect leads, without user name, query and fragment, which may be secret; empty when unreadable."""
        value = self.header(b"location")
        try:
            leads = self.url.join(value) if value and self.url else None
        except ValueError:
            return ""
        if leads is None or leads.scheme not in {"http", "https"}:
            return ""
        bare = leads.with_username("").with_password(None).with_query_string(None).with_fragment(None)
        return str(bare)[:LONGEST_LOCATION]
