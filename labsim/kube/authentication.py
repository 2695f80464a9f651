"""Who asks: from a bearer token, or from a client certificate that a transport has verified.

A certificate reaches the API as the header `x-remote-cert-pem` (URL-encoded PEM). Only a transport sets it, after the
TLS handshake has proved the key, and takes it from whatever comes from outside. Whether the certificate is one of this
server's CA is checked here again, in software, because in-process requests pass no TLS layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote

from cryptography.x509.oid import NameOID

from labsim.kube.certificates import BadCertificate, allows_client_auth, is_signed_by, load_certificate
from labsim.kube.users import User
from labsim.model.http import Request

CLIENT_CERTIFICATE_HEADER = "x-remote-cert-pem"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = User("system:anonymous", "", (UNAUTHENTICATED,))


def certificate_header(cert_pem: str) -> str:
    """The header's value for a certificate; for transports in the same process."""
    return quote(cert_pem)


def bearer_token(request: Request) -> str:
    """The bearer token of a request, "" where it has none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@functools.lru_cache(maxsize=8192)
def user_of_certificate(quoted_pem: str, ca_pem: str) -> User | None:
    """The user that a certificate of `ca_pem` names (CN is the name, each O a group); None for any other certificate.

    Dates are not looked at: worlds run on a clock of their own.
    """
    pem = unquote(quoted_pem)
    try:
        certificate = load_certificate(pem)
        trusted = is_signed_by(pem, ca_pem) and allows_client_auth(certificate)
    except (BadCertificate, ValueError):
        return None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not trusted or not names:
        return None
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    groups = tuple(str(entry.value) for entry in organizations)
    return User(str(names[0].value), "", (*groups, AUTHENTICATED))


def client_certificate_user(request: Request, client_ca_pem: str) -> User | None:
    """The user of a request's client certificate; None without one, or with one of another CA."""
    quoted_pem = request.headers.get(CLIENT_CERTIFICATE_HEADER)
    return user_of_certificate(quoted_pem, client_ca_pem) if quoted_pem and client_ca_pem else None


def with_authenticated(user: User) -> User:
    """The user with the group that every authenticated user has."""
    if AUTHENTICATED in user.groups:
        return user
    return dataclasses.replace(user, groups=(*user.groups, AUTHENTICATED))


def authenticator(
    tokens: Mapping[str, User], client_ca_pem: Callable[[], str] = lambda: ""
) -> Callable[[Request], User | None]:
    """An `authenticate` for KubeHttp: these tokens (a live mapping), and client certificates of this CA."""

    def authenticate(request: Request) -> User | None:
        token = bearer_token(request)
        if token:
            user = tokens.get(token)
            return None if user is None else with_authenticated(user)
        return client_certificate_user(request, client_ca_pem())

    return authenticate
