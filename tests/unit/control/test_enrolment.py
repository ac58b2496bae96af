"""Enrolment's law: one token, one key; a certificate counts until its node is enrolled anew or revoked."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from control.enrolment.authority import FILE, open_authority
from control.enrolment.ledger import Ledger, StoredToken, check, issued, redeemed, revoked, with_token
from control.enrolment.office import EnrolmentOffice, Wish
from control.enrolment.refusals import EnrolmentRefused, Refusal
from control.enrolment.requests import LARGEST_CSR_BYTES, requested_key
from control.enrolment.startup import ensure_enrolled
from headwater.rules.enroltokens import DRAWN_BYTES, EnrolToken, InvalidEnrolToken, draw_enrol_token, parse_enrol_token
from headwater.rules.nodeidentity import NodeIdentity, can_be_named, identity_of_peer, identity_of_uri
from headwater.runtime.enrolment.identity import FILE as NODE_FILE
from headwater.runtime.enrolment.identity import new_key, signing_request, write_identity
from headwater.runtime.enrolment.joining import TOKEN_FILE
from headwater.runtime.httpsite import CannotStart
from headwater.settings.deployment import Deployment, nodes_of
from headwater.settings.enrolment import Enrolment
from tests.support.deployments import lab_deployment

CA = "ab" * 32
NOW = 1_800_000_000.0


def token(number: int = 1) -> EnrolToken:
    return draw_enrol_token(bytes([number]) * DRAWN_BYTES, CA)


def stored(one: EnrolToken, node: str = "fra-1", made_at: float = NOW) -> StoredToken:
    return StoredToken(one.id, one.secret_sha256, node, "edge", made_at, made_at + 3600)


def refusal(work: Callable[[], object]) -> Refusal:
    with pytest.raises(EnrolmentRefused) as refused:
        work()
    return refused.value.refusal


@given(st.binary(min_size=DRAWN_BYTES, max_size=DRAWN_BYTES), st.binary(min_size=32, max_size=32))
def test_a_token_is_read_back_as_it_was_printed(random: bytes, authority: bytes) -> None:
    made = draw_enrol_token(random, authority.hex())
    assert parse_enrol_token(f" {made.text}\n") == made
    assert made.secret not in repr(made)


@pytest.mark.parametrize("text", ["", "hw_x", token().text[:-1], token().text + "0", token().text.replace("hwe", "hw", 1)])
def test_a_text_that_is_no_token_is_told_so(text: str) -> None:
    with pytest.raises(InvalidEnrolToken, match="headwater enrol token"):
        parse_enrol_token(text)


def test_a_certificate_names_its_node_by_one_uri() -> None:
    one = NodeIdentity("lab", "edge", "fra-1", 1795212000)
    assert identity_of_uri(one.uri) == one
    assert identity_of_peer({"subjectAltName": (("DNS", "fra-1"), ("URI", one.uri))}) == one
    assert identity_of_peer({"subjectAltName": (("URI", one.uri), ("URI", one.uri))}) is None
    assert identity_of_peer(None) is None
    assert identity_of_uri("headwater://lab/edge/fra-1/1/2") is None
    assert [can_be_named(name) for name in ("fra-1", "fra 1", "-a", "a" * 64, "ü")] == [True, False, False, False, False]


def test_a_token_is_for_one_key_one_node_and_a_while() -> None:
    ledger = with_token(Ledger(), stored(token()))

    def use(
        shown: EnrolToken | None = None, node: str = "fra-1", role: str | None = "edge", key: str = "k", at: float = NOW
    ) -> Ledger:
        return redeemed(ledger, shown or token(), node, role, key, at)[0]

    assert refusal(lambda: use(replace(token(), secret="x" * 43))) is Refusal.TOKEN_UNKNOWN
    assert refusal(lambda: use(token(2))) is Refusal.TOKEN_UNKNOWN
    assert refusal(lambda: use(node="iad-1")) is Refusal.TOKEN_OF_ANOTHER
    assert refusal(lambda: use(role="shield")) is Refusal.TOKEN_OF_ANOTHER
    assert refusal(lambda: use(role=None)) is Refusal.NODE_UNKNOWN
    assert refusal(lambda: use(at=NOW + 3600)) is Refusal.TOKEN_EXPIRED
    ledger = use()
    assert use() == ledger, "its answer was lost: the same key asks again"
    assert refusal(lambda: use(key="other")) is Refusal.TOKEN_USED


def test_a_later_token_ends_the_one_that_nobody_used() -> None:
    ledger = with_token(with_token(Ledger(), stored(token(1))), stored(token(2), made_at=NOW + 1))
    assert refusal(lambda: redeemed(ledger, token(1), "fra-1", "edge", "k", NOW + 2)) is Refusal.TOKEN_ENDED
    redeemed(ledger, token(2), "fra-1", "edge", "k", NOW + 2)


def test_enrolling_anew_and_revoking_end_what_was_signed_before() -> None:
    ledger, first = redeemed(with_token(Ledger(), stored(token(1))), token(1), "fra-1", "edge", "k", NOW)
    old = first.within("lab")
    check(ledger, old, "lab", "edge")
    assert refusal(lambda: check(ledger, old, "other", "edge")) is Refusal.CERTIFICATE_FOREIGN
    assert refusal(lambda: check(ledger, old, "lab", "shield")) is Refusal.NODE_UNKNOWN
    assert refusal(lambda: check(ledger, old, "lab", None)) is Refusal.NODE_UNKNOWN

    ledger, second = redeemed(with_token(ledger, stored(token(2))), token(2), "fra-1", "edge", "k2", NOW)
    assert refusal(lambda: check(ledger, old, "lab", "edge")) is Refusal.CERTIFICATE_REPLACED
    assert refusal(lambda: redeemed(ledger, token(1), "fra-1", "edge", "k", NOW)) is Refusal.TOKEN_ENDED
    check(ledger, second.within("lab"), "lab", "edge")

    ledger = revoked(with_token(ledger, stored(token(3))), "fra-1", "edge", NOW)
    assert refusal(lambda: check(ledger, second.within("lab"), "lab", "edge")) is Refusal.CERTIFICATE_REVOKED
    assert refusal(lambda: issued(ledger, second, NOW, "d" * 64)) is Refusal.CERTIFICATE_REVOKED, "renewed at the same moment"
    assert refusal(lambda: redeemed(ledger, token(3), "fra-1", "edge", "k3", NOW)) is Refusal.TOKEN_ENDED
    assert refusal(lambda: redeemed(ledger, token(2), "fra-1", "edge", "k2", NOW)) is Refusal.TOKEN_ENDED
    assert refusal(lambda: revoked(Ledger(), "gone", None, NOW)) is Refusal.NODE_UNKNOWN

    ledger, third = redeemed(with_token(ledger, stored(token(4))), token(4), "fra-1", "edge", "k4", NOW)
    check(ledger, third.within("lab"), "lab", "edge")


@given(st.lists(st.sampled_from(["enrol", "revoke", "lose"]), max_size=12))
def test_no_certificate_that_was_ended_counts_again_whatever_is_lost_and_done(acts: list[str]) -> None:
    """Losing the book forgets what it ended; the next enrolment or revocation ends it for good again."""
    ledger, now, signed = Ledger(), NOW, []
    for number, act in enumerate(acts):
        now += 1
        if act == "lose":
            ledger = Ledger()
            continue
        if act == "revoke":
            ledger = revoked(ledger, "fra-1", "edge", now)
        else:
            one = token(number + 1)
            ledger, made = redeemed(with_token(ledger, stored(one, made_at=now)), one, "fra-1", "edge", str(number), now)
            signed.append(made.within("lab"))
        counting = signed[-1:] if act == "enrol" else []
        for old in signed:
            if old in counting:
                check(ledger, old, "lab", "edge")
            else:
                ended = refusal(partial(check, ledger, old, "lab", "edge"))
                assert ended in (Refusal.CERTIFICATE_REPLACED, Refusal.CERTIFICATE_REVOKED)


def test_a_certificate_that_an_older_copy_of_the_book_does_not_know_counts_and_is_learnt() -> None:
    older = with_token(Ledger(), stored(token(1)))
    later, made = redeemed(older, token(1), "fra-1", "edge", "k", NOW)
    check(older, made.within("lab"), "lab", "edge")
    assert issued(older, made, NOW + 5, "d" * 64).nodes["fra-1"].enrolment == later.nodes["fra-1"].enrolment


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    lab = lab_deployment(tmp_path)
    enrolment = Enrolment.model_validate({"listen": "127.0.0.1:7001"})
    return lab.model_copy(update={"control": lab.control.model_copy(update={"enrolment": enrolment})})


def test_of_many_who_ask_with_one_token_at_once_one_gets_a_certificate_also_after_a_restart(
    tmp_path: Path, deployment: Deployment
) -> None:
    made = EnrolmentOffice(tmp_path, lambda: deployment).make_token("fra-1", 60)
    keys = [new_key() for _ in range(8)]

    def ask(key: ec.EllipticCurvePrivateKey) -> Refusal | None:
        office = EnrolmentOffice(tmp_path, lambda: deployment)  # as another process, or the next control
        try:
            office.enrol(made.text, Wish("fra-1", key.public_key(), "d" * 64))
        except EnrolmentRefused as refused:
            return refused.refusal
        return None

    with ThreadPoolExecutor(len(keys)) as at_once:
        answers = list(at_once.map(ask, keys))
    assert sorted(map(str, answers)) == sorted(["None", *[str(Refusal.TOKEN_USED)] * (len(keys) - 1)])
    winner = keys[answers.index(None)]
    assert ask(winner) is None
    assert made.secret not in (tmp_path / "enrolment" / "book.json").read_text()


def test_the_authority_is_made_once_readable_by_control_alone_and_a_damaged_one_names_its_cure(tmp_path: Path) -> None:
    first = open_authority(tmp_path, "lab", NOW)
    assert open_authority(tmp_path, "lab", NOW + 9).fingerprint == first.fingerprint
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:300])
    with pytest.raises(CannotStart, match="restore it from a copy"):
        open_authority(tmp_path, "lab", NOW)


def test_what_is_signed_names_the_node_and_its_enrolment_and_nothing_that_was_asked_for(tmp_path: Path) -> None:
    key, one = new_key(), NodeIdentity("lab", "edge", "fra-1", 7)
    certificate = x509.load_pem_x509_certificate(open_authority(tmp_path, "lab", NOW).issue(one, key.public_key(), NOW, 86400))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("fra-1"), x509.UniformResourceIdentifier(one.uri)]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.not_valid_after_utc.timestamp() == NOW + 86400
    assert certificate.not_valid_before_utc.timestamp() == NOW - 300


def csr(
    key: object = None,
    names: tuple[str, ...] = ("fra-1",),
    sans: tuple[str, ...] = (),
    extension: x509.ExtensionType | None = None,
    *,
    hashed: bool = True,
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, sans))), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    signer = key or new_key()
    return builder.sign(signer, hashes.SHA256() if hashed else None).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


def tampered() -> bytes:
    der = bytearray(x509.load_pem_x509_csr(csr()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: b"", Refusal.CSR_UNREADABLE),
        (lambda: b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", Refusal.CSR_UNREADABLE),
        (lambda: csr() + b"x" * LARGEST_CSR_BYTES, Refusal.CSR_TOO_LARGE),
        (lambda: csr(ec.generate_private_key(ec.SECP384R1())), Refusal.CSR_KEY),
        (lambda: csr(rsa.generate_private_key(65537, 2048)), Refusal.CSR_KEY),
        (lambda: csr(ed25519.Ed25519PrivateKey.generate(), hashed=False), Refusal.CSR_KEY),
        (tampered, Refusal.CSR_SIGNATURE),
        (lambda: csr(names=("iad-1",)), Refusal.CSR_NAME),
        (lambda: csr(names=("fra-1", "control")), Refusal.CSR_NAME),
        (lambda: csr(names=()), Refusal.CSR_NAME),
        (lambda: csr(sans=("fra-1", "control")), Refusal.CSR_NAME),
        (lambda: csr(extension=x509.BasicConstraints(ca=True, path_length=None)), Refusal.CSR_EXTENSIONS),
    ],
)
def test_a_hostile_request_is_refused_by_name(made: Callable[[], bytes], expected: Refusal) -> None:
    assert refusal(lambda: requested_key(made(), "fra-1")) is expected


def test_a_nodes_own_request_is_taken() -> None:
    key = new_key()
    assert requested_key(signing_request(key, "fra-1"), "fra-1") == key.public_key()
    assert requested_key(csr(key, sans=("fra-1",)), "fra-1") == key.public_key()


def test_a_lab_gives_a_token_to_each_node_without_a_certificate_that_holds_and_to_no_revoked_one(
    tmp_path: Path, deployment: Deployment
) -> None:
    control = deployment.data / "nodes" / "control"

    def given() -> set[str]:
        ensure_enrolled(deployment)
        files = list((deployment.data / "nodes").glob(f"*/{TOKEN_FILE}"))
        nodes = {file.parent.name for file in files}
        for file in files:
            file.unlink()
        return nodes

    def certified(node: str, began: float) -> None:
        key, office = new_key(), EnrolmentOffice(control, lambda: deployment)
        one = NodeIdentity(deployment.name, "edge", node, 1)
        issued_now = office.authority.issue(one, key.public_key(), began, 3600)
        write_identity(deployment.data / "nodes" / node / NODE_FILE, key, issued_now, office.authority.pem)

    everybody = set(nodes_of(deployment)) - {"control", "origin-transcoder"}
    assert given() == everybody
    certified("fra-1", time.time())
    certified("iad-1", time.time() - 7200)
    assert given() == everybody - {"fra-1"}, "one has expired"
    EnrolmentOffice(control, lambda: deployment).revoke("sin-1")
    assert given() == everybody - {"fra-1", "sin-1"}
    (control / FILE).unlink()
    assert given() == everybody - {"sin-1"}, "the certificates are of an authority that was lost"
