"""Requests as a client sends them to a URL."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from labsim.model.http import request_for_url


@pytest.mark.parametrize(
    "url",
    [
        "https://192.168.122.5:8090/api/assisted-install/v2/infra-envs/1/hosts?limit=3",
        "https://assisted-service",
        "http://[fd00::1]:80/boot/ipxe?file_type=discovery&empty=&a=%2Fb%3F#part",
        "https://hub.example/images/a b?x=1&x=2",
        "https://hub.example?watch=true",
        "https://hub.example/path/?next=https://other.example/?a",
        "https://hub.example/#part?none",
    ],
)
def test_a_url_is_taken_apart_as_the_standard_library_does(url: str) -> None:
    request, parts = request_for_url("GET", url), urlsplit(url)
    assert (request.scheme, request.host, request.path) == (parts.scheme, parts.netloc, parts.path or "/")
    assert request.query == tuple(parse_qsl(parts.query, keep_blank_values=True))


def test_headers_have_lower_case_names() -> None:
    request = request_for_url("GET", "https://hub/", headers={"Authorization": "Bearer x", "accept": "a"})
    assert request.headers == {"authorization": "Bearer x", "accept": "a"}
    assert request_for_url("GET", "https://hub/").headers == {}
