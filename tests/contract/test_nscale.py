"""The contract for ``provider=nscale``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from runner.providers.nscale import KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.servers.loopback import Loopback
from tests.servers.nscale import NscaleServer


class TestNscale(ProviderContract):
    provider = "nscale"
    server_type = NscaleServer
    variables = KEY_VARIABLES
    families = ("nscale",)
    cost_basis = "price_book"
    returns_urls = False
    tells_refusals = False
    sends_request_id = False
    samples: ClassVar[Mapping[str, Any]] = {"size": "1024x768"}
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1001x1000"}

    def test_exactly_what_is_documented_is_sent(self, server: Loopback) -> None:
        asked = self.ask(server, n=2, size="16:9")
        assert asked.answer is not None, asked.fault
        assert server.calls()[0].json == {
            "model": "black-forest-labs/FLUX.1-schnell",
            "prompt": "a red lighthouse",
            "size": "1408x792",
            "n": 2,
        }

    def test_pixels_are_paid(self, server: Loopback) -> None:
        for size, pixels in ((None, 512 * 512), ("1024x1024", 1024 * 1024)):
            answer = self.ask(server, n=2, size=size).answer
            assert answer is not None
            assert answer.cost_usd == pytest.approx(2 * pixels * 1.3e-9)

    def test_it_has_no_options(self) -> None:
        with pytest.raises(RequestError, match="quality"):
            make_provider(self.settings(None, "+provider.options.quality=low"))
