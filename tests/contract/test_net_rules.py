"""The foundation of network providers: keys, addresses, faults, payloads."""

from __future__ import annotations

import asyncio
import base64
import copy
import email.utils
import json
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.images import BadImage
from runner.providers.contract import ProviderError
from runner.providers.net import FaultRules, Http
from runner.providers.net.address import BaseUrl, Guard, check_base_url, origin
from runner.providers.net.faults import error_text, retry_after, status_fault
from runner.providers.net.keys import Keys, Secret
from runner.providers.net.payload import decode_base64, decode_data_url, encode_data_url
from runner.providers.net.wire import json_object, require
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.schema import ModelSettings, ProviderSettings, VariantSettings

T = TypeVar("T")
KEY = "canary-key-0123456789abcdef"


def settings(base_url: str | None = None, **provider: Any) -> VariantSettings:
    return VariantSettings(
        provider=ProviderSettings(name="example", base_url=base_url, **provider),
        model=ModelSettings(name="model-1"),
        timeout_s=5,
    )


# ---------------------------------------------------------------------- keys


class TestKeys:
    def test_a_secret_shows_itself_nowhere(self) -> None:
        secret = Secret(KEY)
        shown = f"{secret} {secret!r} {[secret]} {Exception(secret)!r}"
        assert KEY not in shown
        assert secret.reveal() == KEY
        for leak in (pickle.dumps, copy.deepcopy, json.dumps):
            with pytest.raises(TypeError):
                leak(secret)

    def test_first_variable_that_is_set_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = Keys(settings(), "FIRST_KEY", "SECOND_KEY")
        monkeypatch.setenv("SECOND_KEY", " two\n")
        found = keys.read()
        assert found is not None
        assert found.reveal() == "two"
        monkeypatch.setenv("FIRST_KEY", "one")
        found = keys.read()
        assert found is not None
        assert found.reveal() == "one"

    def test_a_named_variable_replaces_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FIRST_KEY", "one")
        keys = Keys(settings(api_key_env="MINE"), "FIRST_KEY")
        with pytest.raises(PrerequisiteError, match="MINE"):
            keys.read()

    def test_optional_keys(self) -> None:
        assert Keys(settings(), "NOT_SET_AT_ALL", required=False).read() is None
        assert Keys(settings(), required=False).read() is None

    @pytest.mark.parametrize("value", ["kéy", "a\x00b", "a\nb"])
    def test_values_that_no_header_holds(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.environ", {"FIRST_KEY": value})
        with pytest.raises(PrerequisiteError, match="FIRST_KEY") as caught:
            Keys(settings(), "FIRST_KEY").read()
        assert value not in repr(caught.value)

    def test_a_key_given_as_a_name_is_not_repeated(self) -> None:
        with pytest.raises(RequestError, match="NAME") as caught:
            Keys(settings(api_key_env="sk-secret/value"), "FIRST_KEY")
        assert "sk-secret" not in str(caught.value)

    def test_redaction_is_by_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FIRST_KEY", "ab/cd+ef==")
        keys = Keys(settings(), "FIRST_KEY")
        text = keys.redact("key ab/cd+ef== and ab%2Fcd%2Bef%3D%3D")
        assert text == "key *** and ***"


# ---------------------------------------------------------------------- addresses


class TestAddresses:
    @pytest.mark.parametrize(
        ("given", "text", "place", "loopback"),
        [
            (None, "https://api.example.com/v1", "https://api.example.com", False),
            ("https://Example.com:8443/v1/", "https://Example.com:8443/v1",
             "https://example.com:8443", False),
            ("http://localhost:8000", "http://localhost:8000", "http://localhost:8000", True),
            ("http://127.0.0.1:1/v1//", "http://127.0.0.1:1/v1", "http://127.0.0.1:1", True),
            ("http://[::1]:9/x", "http://[::1]:9/x", "http://[::1]:9", True),
            ("https://example.com:443", "https://example.com:443", "https://example.com", False),
        ],
    )  # fmt: skip
    def test_good_ones(self, given: str | None, text: str, place: str, loopback: bool) -> None:
        found = check_base_url(settings(given), "https://api.example.com/v1")
        assert (found.text, found.origin, found.loopback) == (text, place, loopback)

    @pytest.mark.parametrize(
        "given",
        [
            "http://example.com",
            "http://192.168.1.5:8000",
            "http://127.0.0.1.example.com",
            "https://user:secret@example.com",
            "https://example.com?key=secret",
            "https://example.com#secret",
            "ftp://example.com",
            "example.com/v1",
            "https://",
            "https://[::1",
            "https://example.com:port",
        ],
    )
    def test_bad_ones(self, given: str) -> None:
        with pytest.raises(RequestError, match=r"provider\.base_url") as caught:
            check_base_url(settings(given), None)
        assert "secret" not in str(caught.value)

    def test_none_at_all(self) -> None:
        with pytest.raises(RequestError, match="no address of its own"):
            check_base_url(settings(), None)

    def test_the_vendors_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(RequestError, match="export ITS_ADDRESS="):
            check_base_url(settings(), None, "ITS_ADDRESS")
        monkeypatch.setenv("ITS_ADDRESS", "https://its.example/v1/")
        assert check_base_url(settings(), None, "ITS_ADDRESS").text == "https://its.example/v1"
        mine = check_base_url(settings("https://mine.example"), None, "ITS_ADDRESS")
        assert mine.text == "https://mine.example"
        monkeypatch.setenv("ITS_ADDRESS", "http://its.example")
        with pytest.raises(RequestError, match=r"\(from ITS_ADDRESS\)"):
            check_base_url(settings(), None, "ITS_ADDRESS")

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/a.png",
            "file:///etc/passwd",
            "https://localhost/a",
            "https://127.0.0.1/a",
            "https://10.0.0.8/a",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/a",
            "https://[::ffff:10.0.0.1]/a",
            "https://[64:ff9b::a00:1]/a",
            "https://[2002:a00:1::]/a",
            "https://[fe80::1]/a",
            "https://0.0.0.0/a",
            "https://224.0.0.1/a",
            "https://100.64.0.1/a",
        ],
    )
    def test_results_from_where_they_must_not_come(self, url: str) -> None:
        guard = Guard(check_base_url(settings("https://8.8.8.8/v1"), None))
        assert asyncio.run(guard.problem(url))

    def test_public_results_are_fine(self) -> None:
        guard = Guard(check_base_url(settings("https://8.8.8.8/v1"), None))
        for url in ("https://cdn.example.com/a.png", "https://1.1.1.1/a", "https://[2606::1]/a"):
            assert asyncio.run(guard.problem(url)) is None

    @pytest.mark.parametrize(
        ("base", "address", "allowed"),
        [
            ("http://127.0.0.1:1", "127.0.0.1", True),
            ("http://127.0.0.1:1", "192.168.0.9", True),
            ("http://127.0.0.1:1", "169.254.169.254", False),
            ("https://10.1.2.3", "10.9.9.9", True),
            ("https://10.1.2.3", "169.254.169.254", False),
            ("https://169.254.3.4", "169.254.169.254", True),
            ("https://8.8.8.8", "127.0.0.1", False),
            ("https://8.8.8.8", "10.0.0.1", False),
            ("https://8.8.8.8", "9.9.9.9", True),
        ],
    )
    def test_private_ones_only_for_a_private_base(
        self, base: str, address: str, allowed: bool
    ) -> None:
        guard = Guard(check_base_url(settings(base), None))
        assert (asyncio.run(guard.refuses([address])) is None) == allowed

    def test_a_base_that_dns_calls_private(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", _dns({"gateway.example": "10.0.0.5"}))
        guard = Guard(check_base_url(settings("https://gateway.example/v1"), None))
        assert asyncio.run(guard.refuses(["10.0.0.6"])) is None
        assert asyncio.run(guard.refuses(["169.254.169.254"])) == "169.254.169.254"

    def test_origin(self) -> None:
        assert origin("https://A.example:443/x?y") == "https://a.example"
        assert origin("http://[::1]:80/") == "http://[::1]"


def _dns(names: dict[str, str]) -> Callable[..., Any]:
    def getaddrinfo(host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown in this test")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names[host], port or 0))]

    return getaddrinfo


# ---------------------------------------------------------------------- faults


class TestFaults:
    @pytest.mark.parametrize(
        ("status", "body", "kind", "code"),
        [
            (400, {"error": {"message": "no", "code": "moderation_blocked"}}, "refused",
             "moderation_blocked"),
            (400, {"error": {"code": "content_policy_violation",
                             "inner_error": {"code": "ResponsibleAIPolicyViolation"}}},
             "refused", "content_policy_violation"),
            (400, {"error": {"code": "BadRequest",
                             "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
             "refused", "BadRequest"),
            (400, {"error": {"message": "rejected by the safety system", "code": "400"}},
             "refused", "400"),
            (400, {"error": {"message": "bad size", "type": "invalid_request_error"}}, "invalid",
             "invalid_request_error"),
            (422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}]}, "invalid", "422"),
            (429, {"error": {"code": "insufficient_quota"}}, "auth", "insufficient_quota"),
            (429, {"error": {"code": "rate_limit_exceeded"}}, "rate_limit", "rate_limit_exceeded"),
            (429, {"detail": "slow down"}, "rate_limit", "429"),
            (402, {}, "auth", "402"),
            (401, {"error": "no"}, "auth", "401"),
            (403, {"error": "no"}, "auth", "403"),
            (404, {"error": {"code": "DeploymentNotFound"}}, "gone", "DeploymentNotFound"),
            (400, {"error": {"code": "model_not_found"}}, "gone", "model_not_found"),
            (410, b"", "gone", "410"),
            (308, b"", "gone", "308"),
            (408, b"", "transient", "408"),
            (409, b"", "transient", "409"),
            (500, b"<html><style>x{}</style>oops</html>", "transient", "500"),
            (503, {"code": 503, "reason": "Busy", "message": "loading"}, "transient", "Busy"),
            (504, b"", "ambiguous", "504"),
            (524, b"", "ambiguous", "524"),
            (529, b"", "rate_limit", "529"),
            (413, b"", "invalid", "413"),
        ],
    )  # fmt: skip
    def test_kinds(self, status: int, body: object, kind: str, code: str) -> None:
        rules = FaultRules(refused_words=("rejected by the safety system",))
        fault = status_fault(status, {}, body, rules)
        assert (fault.kind, fault.code) == (kind, code)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert status_fault(status, {}, raw, rules).kind == kind

    def test_a_providers_own_statuses(self) -> None:
        rules = FaultRules(statuses={429: "auth", 403: "refused"})
        assert status_fault(429, {}, b"", rules).kind == "auth"
        assert status_fault(403, {}, b"", rules).kind == "refused"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"error": {"message": "one"}}, "one"),
            ({"error": "two"}, "two"),
            ({"detail": "three"}, "three"),
            ({"detail": [{"loc": ["body", "n"], "msg": "four"}]}, "body.n: four"),
            ({"code": 500, "reason": "Oh", "message": "five"}, "five"),
            ({"message": "six"}, "six"),
            (b"seven\n\x1b[31m eight", "seven [31m eight"),
            (b"<html><script>bad()</script><h1>nine</h1></html>", "nine"),
            ([1, 2], "1; 2"),
            (None, ""),
            ({}, ""),
        ],
    )
    def test_error_bodies(self, body: object, message: str) -> None:
        assert error_text(body).message == message

    @given(st.binary(max_size=200) | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["error", "detail", "message", "code", "loc", "type"])
                          | st.text(max_size=3), inner, max_size=4),
        max_leaves=12,
    ))  # fmt: skip
    def test_any_body_gives_one_short_line(self, body: object) -> None:
        fault = status_fault(500, {}, body, FaultRules())
        assert "\n" not in fault.message
        assert len(fault.message) < 420

    def test_retry_after(self) -> None:
        now = time.time()
        date = email.utils.formatdate(now + 30, usegmt=True)
        past = email.utils.formatdate(now - 30, usegmt=True)
        for headers, wait in (
            ({"retry-after": "7"}, 7.0),
            ({"retry-after": " 0.5 "}, 0.5),
            ({"retry-after": "0"}, 0.0),
            ({"retry-after-ms": "250"}, 0.25),
            ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
            ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
            ({"retry-after": past}, 0.0),
            ({"retry-after": "86400"}, 86400.0),
            ({"retry-after": "-3"}, None),
            ({"retry-after": "nan"}, None),
            ({"retry-after": "inf"}, None),
            ({"retry-after": "soon"}, None),
            ({"retry-after": ""}, None),
            ({}, None),
        ):
            assert retry_after(headers, now) == wait, headers
        assert retry_after({"retry-after": date}, now) == pytest.approx(30, abs=1.1)

    def test_messages_hold_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXAMPLE_KEY", KEY)
        http = Http(settings("https://8.8.8.8"), base_url=None, variables=("EXAMPLE_KEY",))
        fault = http.status_fault(400, {}, {"error": {"message": f"bad {KEY}"}})
        assert fault.message == "HTTP 400: bad ***"
        assert KEY not in http.classify(ValueError(f"oh {KEY}")).message


# ---------------------------------------------------------------------- payloads


class TestPayloads:
    @given(st.binary(min_size=1, max_size=2000))
    def test_base64_comes_back(self, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        assert decode_base64(text) == data
        assert decode_base64(text.rstrip("=")) == data
        assert decode_base64(base64.encodebytes(data).decode()) == data
        assert decode_data_url(encode_data_url(data, "image/png")) == data

    @pytest.mark.parametrize("text", ["", "=", "not base64!", "YWJj*", "a", "YW Jj\x00", "é"])
    def test_noise_is_refused(self, text: str) -> None:
        with pytest.raises(BadImage):
            decode_base64(text)

    @pytest.mark.parametrize(
        "url", ["data:image/png;base64,", "data:image/png;base64,***", "data:", "data:image/png"]
    )
    def test_broken_data_urls(self, url: str) -> None:
        with pytest.raises(BadImage):
            decode_data_url(url)

    def test_other_data_urls(self) -> None:
        assert decode_data_url("data:image/svg+xml,%3Csvg/%3E") == b"<svg/>"
        assert decode_data_url("DATA:image/png;charset=x;BASE64,YWJj") == b"abc"
        assert decode_data_url("data:image/png;base64,YWJj%3D%0A"[:-3].replace("%3D", "")) == b"abc"

    @pytest.mark.parametrize(
        ("body", "found"),
        [
            (b'{"a": "\\ud800"}', {"a": "\ud800"}),
            (b'{"a": NaN, "b": 1}', {"a": None, "b": 1}),
            ('{"a": "é"}'.encode(), {"a": "é"}),
        ],
    )
    def test_odd_json_is_read(self, body: bytes, found: object) -> None:
        assert json_object(body) == found

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            (b"", "empty"),
            (b" <html>", "HTML"),
            (b'{"a"', "JSON"),
            (b"[]", "list"),
            (b"[" * 99_999, "JSON"),
        ],
    )
    def test_bodies_that_are_no_object(self, body: bytes, word: str) -> None:
        with pytest.raises(ProviderError, match=word) as caught:
            json_object(body)
        assert caught.value.kind == "ambiguous"

    def test_missing_packages_are_named(self) -> None:
        with pytest.raises(PrerequisiteError, match=r"no_such_package.*\[cloud\]"):
            require("cloud", "json", "no_such_package")


def test_base_url_type_is_plain_data() -> None:
    assert BaseUrl("https://x", "https://x", "x", False) == check_base_url(
        settings("https://x"), None
    )


def test_details_of_an_error_in_googles_shape() -> None:
    def fault(status: int, *details: dict[str, str], code: str = "RESOURCE_EXHAUSTED") -> Any:
        error = {"code": status, "message": "no", "status": code, "details": list(details)}
        rules = FaultRules(auth=frozenset({"api_key_invalid"}))
        return status_fault(status, {"retry-after": "1"}, {"error": error}, rules)

    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "41.5s"}
    assert fault(429, {"reason": "RATE_LIMIT_EXCEEDED"}, wait).retry_after == 41.5
    assert fault(429, {"retryDelay": "soon"}).retry_after == 1
    assert fault(400, {"reason": "API_KEY_INVALID"}, code="INVALID_ARGUMENT").kind == "auth"
    assert fault(400, code="INVALID_ARGUMENT").kind == "invalid"
