"""Certificates, made anew for each run by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificates:
    """An authority, a server's certificate for localhost signed by it, another server's, and the certificate of a user."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    def of(self, name: str) -> tuple[Path, Path]:
        """Give a certificate and its key; made when it is first asked for."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        if not certificate.exists():
            request, names = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
            names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            subject = "localhost" if name.startswith("server") else name
            _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-keyout", key, "-out", request, "-subj", f"/CN={subject}")  # fmt: skip
            _openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", self.folder / "authority.key",
                     "-CAcreateserial", "-days", "2", "-out", certificate, "-extfile", names)  # fmt: skip
            key.chmod(0o600)
        return certificate, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-keyout", made.folder / "authority.key", "-out", made.authority, "-subj", "/CN=The authority")  # fmt: skip
    return made
