"""Serving: TLS with a certificate of one's own, and a socket that only this user may open."""

import socket
import ssl
import stat

import httpx
import pytest

from relay.api.app import application
from relay.api.serving import LONGEST_PATH, Tls, served, served_locally
from relay.domain.errors import UserError
from tests.fixtures.certificates import Authority


@pytest.fixture
def tls(tmp_path):
    authority = Authority()
    certificate, key = authority.issued(None, "127.0.0.1")
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for path, text in zip(paths, (certificate, key), strict=True):
        path.write_text(text)
    return authority, Tls(*paths)


async def test_with_a_certificate_the_port_speaks_tls(tls):
    authority, files = tls
    context = ssl.create_default_context(cadata=authority.root)
    async with served(application({}), "127.0.0.1", 0, files) as url, httpx.AsyncClient(verify=context) as client:
        assert url.startswith("https://")
        assert (await client.get(url + "/health/live")).status_code == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_older_than_1_2_is_refused(tls):
    authority, files = tls
    context = ssl.create_default_context(cadata=authority.root)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with served(application({}), "127.0.0.1", 0, files) as url, httpx.AsyncClient(verify=context) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url + "/health/live")


async def test_a_certificate_that_cannot_be_used_names_the_settings(tls, tmp_path):
    _, files = tls
    for wrong in (Tls(files.certificate, tmp_path / "nothing.pem"), Tls(files.key, files.certificate)):
        with pytest.raises(UserError, match="RELAY_HTTP__CERTIFICATE and RELAY_HTTP__KEY cannot be used"):
            async with served(application({}), "127.0.0.1", 0, wrong):
                pass


def at_socket(path):
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://relay")


async def test_the_socket_is_for_this_user_only_and_is_gone_afterwards(short_folder):
    path = short_folder / "relay.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    async with served_locally(application({}), path), at_socket(path) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await client.get("/health/live")).status_code == 200
    assert not path.exists()


async def test_a_socket_that_another_relay_serves_is_left_to_it(short_folder):
    path = short_folder / "relay.sock"
    async with served_locally(application({}), path):
        async with served_locally(application({}), path):
            pass
        async with at_socket(path) as client:
            assert (await client.get("/health/live")).status_code == 200


async def test_a_path_that_is_too_long_for_a_socket_is_left_out(tmp_path):
    path = tmp_path / ("a" * LONGEST_PATH)
    async with served_locally(application({}), path):
        assert not any(tmp_path.iterdir())
