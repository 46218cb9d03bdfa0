"""What /openapi.json says is so, whatever is sent: schemathesis draws requests from it, right and wrong ones.

It pins what it needs, so it lives in an environment of its own (`.ci/run` makes it in build/schemathesis). A few requests an
operation; FUZZ_EXAMPLES=1000 makes it more (``make nightly``). /subscribe has no end, and is left out.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.house.project import ROOT
from tests.running import RunningServer

PROGRAM = ROOT / "build/schemathesis/bin/st"
FOLDER = Path(__file__).parent
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "ignored_auth", "unsupported_method", "allow_header_conformance",
)  # fmt: skip
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "15")


@pytest.mark.programs
@pytest.mark.timeout(120 + 2 * int(EXAMPLES))
def test_requests_drawn_from_the_document_are_answered_as_it_says(tmp_path: Path):
    if not PROGRAM.exists():
        pytest.skip("schemathesis is not in build/schemathesis")
    arguments = ["--in-memory", "--http-port", "0", "--auth", "scram all", "--limit", "failed_logins_max=1000000"]
    with RunningServer(tmp_path, arguments, {"STREAMSQL_PASSWORD": "owner"}) as server:
        with server.owner() as owner:
            owner.execute("CREATE STREAM s (k TEXT, x INT, at TIMESTAMP)")
        command: list[str | Path] = [
            PROGRAM, "--config-file", FOLDER / "schemathesis.toml", "run", f"{server.http}/openapi.json",
            "--auth", "streamsql:owner", "--exclude-path", "/subscribe/{name}", "--checks", ",".join(CHECKS),
            "--max-examples", EXAMPLES, "--phases", "coverage,fuzzing", "--seed", "1", "--request-timeout", "20", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
        assert httpx.get(f"{server.http}/readyz").status_code == 200


def test_the_document_says_how_to_log_in(tmp_path: Path):
    with RunningServer(tmp_path, ["--in-memory", "--http-port", "0"]) as server:
        said = httpx.get(f"{server.http}/openapi.json").json()
        refused = httpx.delete(f"{server.http}/query")
    assert said["components"]["securitySchemes"]["password"]["scheme"] == "basic"
    assert {"password": []} in said["security"]
    assert said["paths"]["/healthz"]["get"]["security"] == []
    assert "401" in said["paths"]["/query"]["get"]["responses"]
    assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
