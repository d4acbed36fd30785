"""Receivers of results: a C-STORE provider, or a DICOMweb server over STOW-RS."""

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
from .outbox import Parcel, SendResult

_OUT_OF_RESOURCES = range(0xA700, 0xA800)  # PS3.4, B.2.3
_DUPLICATE_INSTANCE = 0x0111  # PS3.7, C.5.7
# STOW-RS statuses that refuse the instance itself; 401, 429 and 5xx concern the server and may change.
_REFUSING_HTTP_STATUSES = (400, 409, 415)


@dataclass(frozen=True)
class StoreTarget:
    """A C-STORE provider.

    Attributes:
        peer: The application entity to call.
        title: AE title of this device.
        context: TLS context; None for an unencrypted connection.
        timeout: Seconds to wait for an answer.
    """

    peer: Peer
    title: str = "EDGECT"
    context: ssl.SSLContext | None = None
    timeout: float = 30.0

    def __str__(self) -> str:
        return str(self.peer)

    def echo(self) -> bool:
        """Return whether the peer answers C-ECHO."""
        association = self._associate([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])])
        if not association.is_established:
            return False
        answer = association.send_c_echo()
        association.release()
        return bool(answer.get("Status") == 0x0000)

    def send(self, parcels: Sequence[Parcel]) -> list[SendResult]:
        """Send parcels in one association; see `outbox.Target`."""
        datasets = [_read_object(Path(parcel.file)) for parcel in parcels]
        contexts = {
            (str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID))
            for dataset in datasets
            if not isinstance(dataset, SendResult)
        }
        if not contexts:
            return datasets  # No file could be read.
        try:
            association = self._associate([(sop_class, [syntax]) for sop_class, syntax in sorted(contexts)])
        except (OSError, RuntimeError, ValueError) as error:
            return [SendResult(f"{self.peer} cannot be called: {type(error).__name__}")] * len(parcels)
        try:
            return [
                dataset if isinstance(dataset, SendResult) else self._send_one(association, dataset)
                for dataset in datasets
            ]
        finally:
            if association.is_established:
                association.release()

    def _associate(self, contexts: Sequence[tuple[str, list[str]]]) -> Any:
        from pynetdicom import AE

        entity = AE(ae_title=self.title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = self.timeout
        for sop_class, syntaxes in contexts:
            entity.add_requested_context(sop_class, syntaxes)
        tls: Any = (self.context, None) if self.context else None
        return entity.associate(self.peer.host, self.peer.port, ae_title=self.peer.title, tls_args=tls)

    def _send_one(self, association: Any, dataset: Any) -> SendResult:
        if association.is_rejected:
            return SendResult(f"{self.peer} refuses the association")
        if not association.is_established:
            return SendResult(f"{self.peer} does not answer")
        try:
            answer = association.send_c_store(dataset)
        except ValueError:
            return SendResult(f"{self.peer} does not accept SOP class {dataset.SOPClassUID}", refused=True)
        except (RuntimeError, AttributeError, OSError) as error:
            return SendResult(f"{self.peer}: {type(error).__name__}")
        status = answer.get("Status")
        if status is None:
            return SendResult(f"{self.peer} did not answer the request")
        is_warning = status >> 12 == 0xB
        if status == 0x0000 or is_warning or status == _DUPLICATE_INSTANCE:
            return SendResult()
        return SendResult(f"{self.peer} answers status {status:04X}", refused=status not in _OUT_OF_RESOURCES)


@dataclass(frozen=True)
class WebTarget:
    """A DICOMweb server.

    Attributes:
        url: Base URL of the service.
        authority: PEM file of authorities that may sign the certificate of the server; None uses the system's.
    """

    url: str
    authority: Path | None = None

    @classmethod
    def parse(cls, text: str, authority: Path | None = None) -> WebTarget:
        """Parse http(s)://host[:port]/path.

        Raises:
            ValueError: The text has another form, or holds a password.
        """
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError(f"{text!r} is not of the form http(s)://host/path, without a password")
        return cls(text.rstrip("/"), authority)

    def __str__(self) -> str:
        return self.url

    def send(self, parcels: Sequence[Parcel]) -> list[SendResult]:
        """Send each parcel in its own request, so that a refused one does not block the others; see `outbox.Target`."""
        from dicomweb_client.api import DICOMwebClient
        from dicomweb_client.session_utils import create_session

        with create_session() as session:
            session.trust_env = False  # A proxy of the environment must not see patient data.
            if self.authority:
                session.verify = str(self.authority)
            client = DICOMwebClient(self.url, session=session)
            client.set_http_retry_params(retry=False)
            return [self._send_one(client, _read_object(Path(parcel.file))) for parcel in parcels]

    def _send_one(self, client: Any, dataset: Any) -> SendResult:
        import requests

        if isinstance(dataset, SendResult):
            return dataset
        try:
            client.store_instances([dataset])
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            return SendResult(f"{self.url} answers {status}", refused=status in _REFUSING_HTTP_STATUSES)
        except (requests.RequestException, OSError) as error:
            return SendResult(f"{self.url} cannot be reached: {type(error).__name__}")
        except Exception as error:  # The library raises anything over an answer that is not DICOM JSON.
            return SendResult(f"{self.url}: its answer is not understood: {type(error).__name__}")
        return SendResult()


def _read_object(path: Path) -> Any:
    """Return the dataset of a file, or a `SendResult` if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return read_dataset(file.read(), path.name)
    except (OSError, EdgeCTError) as error:
        reason = getattr(error, "strerror", None) or path.name
        return SendResult(f"the file of the object can no longer be read: {reason}", refused=True)
