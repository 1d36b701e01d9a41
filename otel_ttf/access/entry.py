"""How a command comes in to a server: by a key, by certificates."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path


class CannotEnter(Exception):
    """A file cannot be used; the message says which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is shown, and who is believed.

    key                  an API key, or a token
    ca_file              who must have signed the server's certificate; None: whom this machine trusts
    cert_file, key_file  our own certificate, for a server that asks for one
    """

    key: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of a request; names in small letters."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def trust(self) -> ssl.SSLContext | bool:
        """For TLS; True: nothing of our own. Raises CannotEnter."""
        if not (self.ca_file or self.cert_file):
            return True
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(filter(None, (self.ca_file, self.cert_file, self.key_file)))
            raise CannotEnter(f"{files}: cannot be used for TLS: {error.strerror or 'no PEM'}.") from None
        return context

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """(authorities, our key, our certificate), for gRPC. Raises CannotEnter."""
        self.trust()
        authorities, key, certificate = (
            None if file is None else Path(file).read_bytes()
            for file in (self.ca_file, self.key_file, self.cert_file)
        )
        return authorities, key, certificate


NOBODY = Entry()


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """What TLS says, among the causes of an error."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
