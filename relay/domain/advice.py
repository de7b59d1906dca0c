"""Advice: what an answer other than 2xx means, and what a person does about it, in plain words."""

from collections.abc import Mapping
from types import MappingProxyType

from relay.domain.deliveries import Answer

_ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "resolve": "the host's name leads to no address: check its spelling and its DNS entry",
        "refused": "nothing answers at this address and port: start the receiver, and check the port and the firewall",
        "tls": "the certificate is not accepted: it must be valid, for this host, and sent with its intermediates",
        "timeout": "no answer in time: answer first and work later, or raise the endpoint's deadline",
        "reset": "the connection was closed before the answer was whole: look into the receiver's log, and its proxy's",
        "protocol": "what answers does not speak HTTP: check the port, and https against http",
        "auth": "the token server gives no token: check its URL, the client's id and secret, and whether it runs",
        "proxy": "the forward proxy cannot be used: check RELAY_EGRESS__PROXY, its login and what it allows",
        "policy": "this address may not be called: use a public one, or allow it with RELAY_EGRESS__ALLOW",
    }
)
_SIGNATURE = (
    "the receiver refuses the signature or wants a login: it must verify with this endpoint's secret over the raw body "
    "(`relay endpoints rotate` makes a new one)"
)
_STATUSES: Mapping[int, str] = MappingProxyType(
    {
        400: "the receiver could not read the webhook, or its signature: look into its log",
        401: _SIGNATURE,
        403: _SIGNATURE,
        404: "there is nothing at this path: check the URL's path",
        405: "this path does not take the method: check the URL's path",
        407: "a proxy in between wants a login",
        408: "the receiver was too slow for its own server: answer first and work later",
        410: "the receiver asks never to be called again",
        413: "the webhook is too large for the receiver: raise its limit",
        415: "the receiver must take the content type application/json",
        422: "the receiver could not use the webhook: look into its log",
        429: "the receiver has had too many requests: it is asked again later",
        501: "the receiver does not do this",
    }
)
_CLASSES: Mapping[int, str] = MappingProxyType(
    {
        3: "redirects are not followed: give the final URL",
        4: "the receiver refuses the webhook: look into its log",
        5: "the receiver failed: look into its log",
    }
)


def advice(answer: Answer) -> str:
    """What stood in the way, with the status or error it is about; empty for a whole 2xx."""
    if answer.error:
        known = _ERRORS.get(answer.error, "the webhook was not answered")
        return f"{answer.error}: {known}" + (f" ({answer.detail})" if answer.detail else "")
    status = answer.status or 0
    if 200 <= status <= 299:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
        return ""
    known = _STATUSES.get(status) or _CLASSES.get(status // 100, "this is no status that HTTP knows")
    to = f", which is {answer.location}" if answer.location else ""
    return f"{status}: {known}{to}"
