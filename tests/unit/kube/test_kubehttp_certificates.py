"""Certificates depend on seed, purpose and clock, and verify as certificates do."""

from __future__ import annotations

import pytest

from labsim.entropy import Entropy
from labsim.kube.certificates import (
    BadCertificate,
    allows_client_auth,
    csr,
    derived_key,
    is_signed_by,
    issue,
    key_pem,
    load_certificate,
    self_signed_ca,
    sign_csr,
)

NOW_S = 1_767_225_600.0


def test_same_seed_and_purpose_give_the_same_bytes() -> None:
    assert self_signed_ca(Entropy(1), "root", "ca", NOW_S) == self_signed_ca(Entropy(1), "root", "ca", NOW_S)
    assert self_signed_ca(Entropy(1), "root", "ca", NOW_S) != self_signed_ca(Entropy(2), "root", "ca", NOW_S)
    assert key_pem(derived_key(Entropy(1), "a")) != key_pem(derived_key(Entropy(1), "b"))


def test_a_signed_request_keeps_subject_and_key_and_verifies_against_its_authority_only() -> None:
    ca = self_signed_ca(Entropy(1), "root", "ca", NOW_S)
    other = self_signed_ca(Entropy(1), "other", "ca", NOW_S)
    request = csr(derived_key(Entropy(1), "kubelet"), "system:node:w0", organizations=["system:nodes"])
    pem = sign_csr(ca, request, NOW_S, ["digital signature", "client auth"])
    assert pem == sign_csr(ca, request, NOW_S, ["digital signature", "client auth"])
    assert "system:node:w0" in load_certificate(pem).subject.rfc4514_string()
    assert is_signed_by(pem, ca.cert_pem)
    assert not is_signed_by(pem, other.cert_pem)
    assert allows_client_auth(load_certificate(pem))


def test_serving_certificates_do_not_allow_client_auth() -> None:
    ca = self_signed_ca(Entropy(1), "root", "ca", NOW_S)
    leaf = issue(
        ca, Entropy(1), "api", "api", dns_names=["api.example"], ip_addresses=["::1"], server=True, now_s=NOW_S
    )
    assert not allows_client_auth(leaf.certificate)


def test_rubbish_is_refused_by_name() -> None:
    ca = self_signed_ca(Entropy(1), "root", "ca", NOW_S)
    with pytest.raises(BadCertificate):
        sign_csr(ca, "not pem", NOW_S)
    with pytest.raises(BadCertificate):
        load_certificate("nope")
