"""What ``resume`` tries again by itself, and what only by name; a server counts the requests."""

from __future__ import annotations

from pathlib import Path

from tests.cli.runs import failures, manifest
from tests.conftest import RunCli
from tests.servers.openai import OpenAIServer

AGAIN = "left alone, because the same request fails again: 1 image; all the same: python -m runner "


def test_a_request_that_is_wrong_is_sent_again_only_by_name(
    run_cli: RunCli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with OpenAIServer() as server:
        env = {"OPENAI_API_KEY": server.key}
        command = (
            "provider=openai", f"provider.base_url={server.base_url}", "prompt=fox,owl,hare", "-m",
            f"hydra.sweep.dir={run}", "limits.max_concurrency=1", "retry.max_attempts=1",
        )  # fmt: skip
        server.script("invalid", "server_error")
        first = run_cli(*command, env=env)
        assert first.code == 1, first.text
        assert AGAIN + f"resume {run} --include failed" in first.out
        assert f"go on with: python -m runner resume {run}\n" in first.out
        assert [row["kind"] for row in failures(run)] == ["invalid", "transient"]

        second = run_cli("resume", str(run), env=env)
        assert second.code == 1, second.text
        assert [seen.json["prompt"] for seen in server.calls()] == ["fox", "owl", "hare", "owl"]
        assert AGAIN in second.out
        assert "go on with" not in second.out

        same = run_cli(*command, env=env)
        assert same.code == 1, same.text
        assert len(server.calls()) == 4
        assert AGAIN in same.out
        assert manifest(run)["counts"] == {"done": 2, "refused": 0, "failed": 1, "unknown": 0}

        named = run_cli("resume", str(run), "--include", "failed", env=env)
        assert named.code == 0, named.text
        assert [seen.json["prompt"] for seen in server.calls()[4:]] == ["fox"]
        assert "left alone" not in named.out
        assert server.problems == []
