"""Secrets in texts: each kind is found and taken out, and nothing that only resembles one is touched."""

import base64
import hashlib
import json
import random
import string
import time
import tomllib
import uuid
from importlib import resources
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentic_os.contracts.redaction import SecretScan, redact, secrets_in

RULES = tomllib.loads(
    resources.files("agentic_os.contracts").joinpath("secret_rules.toml").read_text(encoding="utf-8")
)["rules"]
HINTS = [hint for rule in RULES for hint in rule["hints"]]
WORD = string.ascii_letters + string.digits


def draw(length: int, alphabet: str = WORD) -> str:
    """Make up characters, the same ones each time."""
    return "".join(random.Random(length).choices(alphabet, k=length))


HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + "234567"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{draw(64)}\n{draw(64)}\n{draw(40)}==\n-----END RSA PRIVATE KEY-----"
SECRETS: dict[str, list[str]] = {
    "private-key": [
        PEM,
        PEM.replace("\n", "\\n"),
        PEM.replace("RSA", "OPENSSH"),
        PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
        PEM.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n", 1),
    ],
    "age-secret-key": ["AGE-SECRET-KEY-1" + draw(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")],
    "attempt-token": [f"aosa_0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11.1.2.{draw(43)}"],
    "agentic-os-credential": ["aosx_" + draw(43), "aoso_" + draw(43, WORD + "-_")],
    "github-fine-grained-pat": ["github_pat_" + draw(82, WORD + "_")],
    "github-token": [f"gh{letter}_{draw(36)}" for letter in "pousr"],
    "gitlab-token": ["glpat-" + draw(20), "glrt-" + draw(20), "gldt-" + draw(20), "glptt-" + draw(40, HEX)],
    "aws-access-key": ["AKIA" + draw(16, UPPER), "ASIA" + draw(16, UPPER)],
    "aws-bedrock-key": ["ABSK" + draw(120)],
    "anthropic-key": [f"sk-ant-api03-{draw(93)}AA", f"sk-ant-admin01-{draw(93)}AA"],
    "openai-key": [f"sk-{draw(20)}T3BlbkFJ{draw(20)}", f"sk-proj-{draw(74)}T3BlbkFJ{draw(74)}"],
    "google-api-key": ["AIza" + draw(35)],
    "google-oauth-secret": ["GOCSPX-" + draw(28)],
    "slack-token": [f"xoxb-1234567890123-1234567890123-{draw(24)}",
                    f"xapp-1-{draw(11, UPPER)}-1234567890-{draw(64, HEX)}"],
    "slack-webhook": [f"https://hooks.slack.com/services/T{draw(8, UPPER)}/B{draw(8, UPPER)}/{draw(24)}"],
    "stripe-key": ["sk_live_" + draw(24), "rk_test_" + draw(24)],
    "npm-token": ["npm_" + draw(36)],
    "pypi-token": ["pypi-AgEIcHlwaS5vcmc" + draw(120)],
    "rubygems-token": ["rubygems_" + draw(48, HEX)],
    "azure-client-secret": [f"abc8Q~{draw(34)}"],
    "azure-storage-key": [draw(86) + "=="],
    "sendgrid-key": [f"SG.{draw(22)}.{draw(43)}"],
    "twilio-key": ["SK" + draw(32, HEX)],
    "digitalocean-token": ["dop_v1_" + draw(64, HEX)],
    "vault-token": ["hvs." + draw(95), "hvb." + draw(150)],
    "databricks-token": ["dapi" + draw(32, HEX)],
    "huggingface-token": ["hf_" + draw(34, string.ascii_letters)],
    "shopify-token": ["shpat_" + draw(32, HEX)],
    "grafana-token": [f"glsa_{draw(32)}_{draw(8, HEX)}"],
    "atlassian-token": ["ATATT3" + draw(186)],
    "linear-key": ["lin_api_" + draw(40)],
    "notion-token": [f"ntn_12345678901{draw(35)}"],
    "postman-key": [f"PMAK-{draw(24, HEX)}-{draw(34, HEX)}"],
    "sentry-token": ["sntryu_" + draw(64, HEX)],
    "telegram-bot-token": [f"123456789:AA{draw(33)}"],
    "jwt": [f"eyJ{draw(30)}.eyJ{draw(60)}.{draw(43)}"],
    "url-password": ["Tr0ub4dor-and-3"],
    "assigned-secret": ["correct7horse8battery"],
}  # fmt: skip
AROUND = {
    "azure-storage-key": "AccountName=a;AccountKey={};EndpointSuffix=core.windows.net",
    "url-password": "postgres://app:{}@db.internal/app",
    "assigned-secret": 'password = "{}"',
}
INNOCENT = [
    "sha256:" + hashlib.sha256(b"a").hexdigest(),
    hashlib.sha1(b"a", usedforsecurity=False).hexdigest(),
    str(uuid.UUID(int=2**100 + 17)),
    "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(50_000)).decode(),
    base64.urlsafe_b64encode(random.Random(2).randbytes(50_000)).decode(),
    "password = get()",
    'password = os.environ["DATABASE_PASSWORD_2"]',
    'password: str = ""',
    'api_key = "${API_KEY_1_FROM_VAULT}"',
    'token = "see the second document"',
    'secret = "<insert-your-secret-1-here>"',
    "postgres://user:password@localhost/db and https://example.org:8443/a@b",
    "Set GITHUB_TOKEN to ghp_... and ANTHROPIC_API_KEY to sk-ant-...",
    "ghp_" + "x" * 36,
    "AKIAIOSFODNN7EXAMPLE",
    "The file begins with -----BEGIN PRIVATE KEY----- and is left out of the commit, as it should always be.",
    "-----BEGIN PUBLIC KEY-----\n" + draw(64) + "\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\n" + draw(64) + "\n-----END CERTIFICATE-----",
    "def test_sk_live_mode_is_refused_without_a_key(): npm_config_registry_of_the_internal_mirror = None",
    "Desk-SKUs, risk-and-so-on, sha512-" + draw(86) + "==",
]


def place(kind: str, secret: str) -> str:
    """Write a secret as it is met in a text."""
    return f"Used {AROUND.get(kind, '{}').format(secret)}. It worked."


def test_each_rule_is_tried_here() -> None:
    """The kinds of the rules and of the secrets made up here are the same."""
    assert [rule["kind"] for rule in RULES] == list(SECRETS)


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_is_replaced(kind: str) -> None:
    """A secret of each kind is replaced by its kind, and what stands around it stays."""
    for secret in SECRETS[kind]:
        body, (finding,) = redact({"summary": place(kind, secret)})
        assert {"summary": place(kind, f"[redacted:{kind}]")} == body
        assert (kind, 1, ("/body/summary",)) == (finding.kind, finding.count, finding.pointers)
        assert (secret,) == finding.secrets
        assert secret not in repr(finding)


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_is_found_in_artifacts(kind: str) -> None:
    """A secret of each kind is found in bytes, also among those that are no text, and in UTF-16."""
    for secret in SECRETS[kind]:
        assert [kind] == secrets_in(b"\xff\xfe\0" + place(kind, secret).encode())
        assert [kind] == secrets_in(place(kind, secret).encode("utf-16"))


@pytest.mark.parametrize("text", INNOCENT, ids=lambda text: text[:30])
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    """Digests, ids, images, code and placeholders are neither redacted nor a reason to refuse an artifact."""
    body = {"summary": text, "output": [text]}
    assert (body, []) == redact(body)
    assert [] == secrets_in(text.encode())


def test_secrets_are_found_at_any_depth_and_counted() -> None:
    """Every text is searched whatever holds it, each finding says how often and where, and the original stays."""
    token, key = SECRETS["github-token"][0], SECRETS["aws-access-key"][0]
    body: dict[str, Any] = {
        "summary": f"{token} and {token}",
        "steps": [{"id": "a", "do": "nothing"}, {"id": "b", "do": {"a/b": [1, None, True, key]}}],
        "changes": [token],
    }
    before = json.dumps(body)
    redacted, findings = redact(body)
    assert {
        "summary": "[redacted:github-token] and [redacted:github-token]",
        "steps": [
            {"id": "a", "do": "nothing"},
            {"id": "b", "do": {"a/b": [1, None, True, "[redacted:aws-access-key]"]}},
        ],
        "changes": ["[redacted:github-token]"],
    } == redacted
    assert before == json.dumps(body)
    assert {
        "github-token": (3, ("/body/summary", "/body/changes/0")),
        "aws-access-key": (1, ("/body/steps/1/do/a~1b/3",)),
    } == {f.kind: (f.count, f.pointers) for f in findings}


def test_inline_bytes_are_not_rewritten_and_nothing_else_hides_behind_their_name() -> None:
    """The content of an artifact stays as its digest names it, but the same name elsewhere is a text like any other."""
    token = SECRETS["npm-token"][0]
    body = {
        "artifacts": [{"name": token, "content_base64": token}],
        "output": {"content_base64": token, "artifacts": [{"content_base64": token}]},
    }
    gone = "[redacted:npm-token]"
    assert {
        "artifacts": [{"name": gone, "content_base64": token}],
        "output": {"content_base64": gone, "artifacts": [{"content_base64": gone}]},
    } == redact(body)[0]


def test_keys_stay() -> None:
    """The name of a member is not rewritten, for two of them could become one."""
    body = {"output": {SECRETS["npm-token"][0]: 1}}
    assert (body, []) == redact(body)


def test_the_rest_of_a_key_without_an_end_goes_too() -> None:
    """A private key that was cut off before its last line is still taken out."""
    cut = PEM[: PEM.rindex("\n")]
    assert {"note": "[redacted:private-key]"} == redact({"note": cut[:160]})[0]


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_texts_without_any_prefix_are_unchanged(value: Any) -> None:
    """A body in which no text holds the beginning of a secret comes back as it is."""
    assume(not any(hint in json.dumps(value, ensure_ascii=False) for hint in HINTS))
    body = {"output": value}
    redacted, findings = redact(body)
    assert redacted is body
    assert [] == findings


@given(
    st.lists(
        st.text(max_size=5)
        | st.sampled_from([place(kind, s) for kind, all_ in SECRETS.items() for s in all_])
    )
)
def test_what_is_redacted_stays_as_it_is(texts: list[str]) -> None:
    """However secrets stand beside each other and other text, a redacted body redacts to itself."""
    once, _ = redact({"parts": texts, "whole": "".join(texts)})
    assert (once, []) == redact(once)


@pytest.mark.parametrize("part", [*HINTS, "-----BEGIN PRIVATE KEY-----", "://a:", 'password="', "eyJa-" * 8])
def test_no_text_makes_the_search_slow(part: str) -> None:
    """The longest text that the contract allows, full of beginnings of secrets, is done with in half a second."""
    started = time.perf_counter()
    redact({"message": (part * 200_000)[:200_000], "note": part + "a1" * 90_000})
    assert time.perf_counter() - started < 0.5


def scanned(content: bytes, size: int) -> list[str]:
    """Look through bytes that come in chunks of a size."""
    scan = SecretScan()
    found = [kind for at in range(0, len(content), size) for kind in scan.add(content[at : at + size])]
    return sorted({*found, *scan.end()})


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_is_found_wherever_chunks_and_windows_end(kind: str) -> None:
    """A secret is found across every boundary, near the start and the end, in UTF-8 and UTF-16."""
    for secret in SECRETS[kind]:
        for before in (0, 65_480, 65_530, 65_536, 73_700, 139_260):
            for encoding in ("utf-8", "utf-16-le"):
                text = ("word " * (before // 5 + 1))[:before] + " " + place(kind, secret) + " word" * 9_000
                assert [kind] == scanned(text.encode(encoding), 4096)
        assert [kind] == scanned(place(kind, secret).encode(), 7)


def test_a_key_longer_than_a_window_is_found() -> None:
    """A private key is found though no window holds all of it, since its beginning says enough."""
    key = "-----BEGIN PRIVATE KEY-----\n" + (draw(64) + "\n") * 9_000 + "-----END PRIVATE KEY-----"
    for before in (0, 65_000, 65_520):
        assert ["private-key"] == scanned(("x " * before + key).encode(), 4096)


@pytest.mark.parametrize("kind", ["huggingface-token", "twilio-key", "sendgrid-key"])
def test_an_innocent_word_is_not_taken_for_a_secret_where_a_window_ends(kind: str) -> None:
    """What is a secret only if it ended there is none when it goes on in the next window."""
    word = SECRETS[kind][0] + "a1B2c3" * 9
    for before in range(65_536 - len(word), 65_536, 7):
        assert [] == scanned(b" " * before + word.encode() + b" word" * 20_000, 65_536)


def test_bytes_that_are_no_text_are_passed_over() -> None:
    """Compressed or encrypted bytes show nothing, and a text beside them still does."""
    source = random.Random(3)
    noise = source.randbytes(300_000)
    secret = place("github-token", SECRETS["github-token"][0]).encode()
    assert [] == scanned(noise[:100_000] + b"SK" + draw(32, HEX).encode() + noise[100_000:], 65_536)
    assert ["github-token"] == scanned(noise + b"word " * 30_000 + secret + noise, 65_536)


@pytest.mark.parametrize("text", INNOCENT, ids=lambda text: text[:30])
def test_what_only_resembles_a_secret_stays_in_chunks_too(text: str) -> None:
    """What is no secret at once is none in pieces."""
    assert [] == scanned(text.encode(), 1000)
