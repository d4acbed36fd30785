"""Where results go: a C-STORE provider, or a DICOMweb server by STOW-RS."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge_ct.dicom import read_dataset
from edge_ct.errors import EdgeCTError

from ..peers import Peer
from .outbox import Parcel, Sent

_RETRIABLE = range(0xA700, 0xA800)  # out of resources: PS3.4, B.2.3


@dataclass(frozen=True)
class StoreTarget:
    """A C-STORE provider. title: by which we call."""

    peer: Peer
    title: str = "EDGECT"
    context: ssl.SSLContext | None = None
    timeout: float = 30.0

    def __str__(self) -> str:
        return str(self.peer)

    def echo(self) -> bool:
        """Whether it answers C-ECHO."""
        association = self._associate([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])])
        if not association.is_established:
            return False
        answer = association.send_c_echo()
        association.release()
        return bool(answer.get("Status") == 0x0000)

    def send(self, parcels: Sequence[Parcel]) -> list[Sent]:
        """In one association. See `outbox.Target`."""
        datasets = [_load(Path(parcel.file)) for parcel in parcels]
        wanted = {
            (str(own.SOPClassUID), str(own.file_meta.TransferSyntaxUID))
            for own in datasets
            if not isinstance(own, Sent)
        }
        if not wanted:
            return [own if isinstance(own, Sent) else Sent() for own in datasets]
        try:
            association = self._associate([(kind, [syntax]) for kind, syntax in sorted(wanted)])
        except (OSError, RuntimeError, ValueError) as error:
            return [Sent(f"{self.peer} cannot be called: {type(error).__name__}")] * len(parcels)
        try:
            return [own if isinstance(own, Sent) else self._send_one(association, own) for own in datasets]
        finally:
            if association.is_established:
                association.release()

    def _associate(self, contexts: Sequence[tuple[str, list[str]]]) -> Any:
        from pynetdicom import AE

        entity = AE(ae_title=self.title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = self.timeout
        for kind, syntaxes in contexts:
            entity.add_requested_context(kind, syntaxes)
        tls: Any = (self.context, None) if self.context else None
        return entity.associate(self.peer.host, self.peer.port, ae_title=self.peer.title, tls_args=tls)

    def _send_one(self, association: Any, dataset: Any) -> Sent:
        if association.is_rejected:
            return Sent(f"{self.peer} refuses the association")
        if not association.is_established:
            return Sent(f"{self.peer} does not answer")
        try:
            answer = association.send_c_store(dataset)
        except ValueError:
            return Sent(f"{self.peer} does not take SOP class {dataset.SOPClassUID}", refused=True)
        except (RuntimeError, AttributeError, OSError) as error:
            return Sent(f"{self.peer}: {type(error).__name__}")
        status = answer.get("Status")
        if status is None:
            return Sent(f"{self.peer} did not answer")
        if status == 0x0000 or status >> 12 == 0xB or status == 0x0111:  # warnings, and what it holds already
            return Sent()
        return Sent(f"{self.peer} answers status {status:04X}", refused=status not in _RETRIABLE)


@dataclass(frozen=True)
class WebTarget:
    """A DICOMweb server. authority: a file of certificates that its own must be signed by."""

    url: str
    authority: Path | None = None
    timeout: float = 30.0

    @classmethod
    def parse(cls, text: str, authority: Path | None = None) -> WebTarget:
        """http(s)://host[:port]/path. Raises ValueError."""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError(f"{text!r} is not http(s)://host/path without a password")
        return cls(text.rstrip("/"), authority)

    def __str__(self) -> str:
        return self.url

    def send(self, parcels: Sequence[Parcel]) -> list[Sent]:
        """Each in a request of its own, so that one that is refused holds up no other. See `outbox.Target`."""
        import requests
        from dicomweb_client.api import DICOMwebClient
        from dicomweb_client.session_utils import create_session

        session = create_session()
        session.trust_env = False  # no proxy of the environment's
        if self.authority:
            session.verify = str(self.authority)
        client = DICOMwebClient(self.url, session=session)
        client.set_http_retry_params(retry=False)
        answers = []
        for parcel in parcels:
            dataset = _load(Path(parcel.file))
            if isinstance(dataset, Sent):
                answers.append(dataset)
                continue
            try:
                client.store_instances([dataset])
                answers.append(Sent())
            except requests.HTTPError as error:
                code = error.response.status_code if error.response is not None else 0
                # 409: the server says of the instance that it is refused; 5xx, 429, 401: of itself, and it may change.
                answers.append(Sent(f"{self.url} answers {code}", refused=code in (400, 409, 415)))
            except (requests.RequestException, OSError) as error:
                answers.append(Sent(f"{self.url} cannot be reached: {type(error).__name__}"))
            except Exception as error:  # an answer that is no DICOM JSON, say
                answers.append(Sent(f"{self.url}: its answer is not understood: {type(error).__name__}"))
        session.close()
        return answers


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return read_dataset(file.read(), path.name)
    except (OSError, EdgeCTError) as error:
        return Sent(
            f"the object is no longer to be read: {getattr(error, 'strerror', None) or path.name}", refused=True
        )
