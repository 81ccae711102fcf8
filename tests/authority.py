"""A real time-stamping authority (RFC 3161) made by `openssl`: root, its certificate, answers."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Authority", "make_authority"]

_SETTINGS = """
[ req ]
distinguished_name = name
prompt = no
[ name ]
CN = unused
[ root ]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[ stamping ]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[ signing ]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = codeSigning
[ tsa ]
default_tsa = here
[ here ]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Authority:
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "stamping.pem"

    def answer(self, request: bytes) -> bytes:
        (self.folder / "request.tsq").write_bytes(request)
        self.openssl(
            "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "request.tsq", "-signer",
            "stamping.pem", "-inkey", "stamping.key", "-out", "answer.tsr",
        )  # fmt: skip
        return (self.folder / "answer.tsr").read_bytes()

    def verifies(self, line: bytes, response: bytes) -> bool:
        """Whether openssl itself accepts the response for a line."""
        (self.folder / "line").write_bytes(line)
        (self.folder / "given.tsr").write_bytes(response)
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", "line", "-in", "given.tsr", "-CAfile", "root.pem",
             "-untrusted", "stamping.pem"],
            cwd=self.folder, capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        )


def make_authority(folder: Path) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not here; on Debian: apt-get install openssl")
    (folder / "tsa.cnf").write_text(_SETTINGS)
    (folder / "serial").write_text("01\n")
    made = Authority(folder)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    made.openssl(
        "req", "-x509", *curve, "-keyout", "root.key", "-out", "root.pem", "-days", "3", "-subj",
        f"/CN=Root of {folder.name}", "-config", "tsa.cnf", "-extensions", "root",
    )  # fmt: skip
    made.openssl(
        "req", *curve, "-keyout", "stamping.key", "-out", "stamping.csr", "-subj", "/CN=Stamps",
        "-config", "tsa.cnf",
    )  # fmt: skip
    made.openssl(
        "x509", "-req", "-in", "stamping.csr", "-CA", "root.pem", "-CAkey", "root.key",
        "-CAcreateserial", "-out", "stamping.pem", "-days", "2", "-extfile", "tsa.cnf",
        "-extensions", "stamping",
    )  # fmt: skip
    return made
