"""A certificate authority for the tests and the certificates that it issues, created with the `openssl` command.

All files are in one temporary folder.
"""

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority. `certificate` is the path of its PEM file."""

    def __init__(self, folder, name="Test authority"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        self.openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}",
            "-keyout", self.key, "-out", self.certificate,
        )  # fmt: skip

    def openssl(self, *words):
        done = subprocess.run(["openssl", *map(str, words)], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"openssl {words[0]}: {done.stderr}"
        return done.stdout

    def issue(self, name, usage, names=""):
        """Creates `name.pem` and `name.key` for clientAuth or serverAuth; returns both paths."""
        certificate, key, request = (self.folder / f"{name}{end}" for end in (".pem", ".key", ".csr"))
        self.openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request
        )
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={names}\n" if names else ""))
        self.openssl(
            "x509", "-req", "-days", "30", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-set_serial", str(abs(hash(name)) + 1), "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def thumbprint(self, certificate, digest="sha1"):
        """The thumbprint as OpenSSL prints it, with colons."""
        output = self.openssl("x509", "-noout", "-fingerprint", f"-{digest}", "-in", certificate)
        return output.strip().split("=")[1]

    def pfx(self, name, password):
        """Creates `name.pfx` from the files that `issue` created; returns its path."""
        path = self.folder / f"{name}.pfx"
        self.openssl(
            "pkcs12", "-export", "-in", self.folder / f"{name}.pem", "-inkey", self.folder / f"{name}.key",
            "-out", path, "-passout", f"pass:{password}",
        )  # fmt: skip
        return path
