"""The C-STORE and C-ECHO provider: which peers may call, which objects are stored, and a log line for each refusal.

A log line holds AE titles, addresses, well-formed UIDs and fixed texts, and nothing else that an object contains.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_ct.errors import EdgeCTError, StorageFull

from ..peers import is_allowed, parse_networks
from ..uids import is_uid
from .admission import (
    ACCEPTED,
    CANNOT_UNDERSTAND,
    INSTANCE_CONFLICT,
    OUT_OF_RESOURCES,
    SUCCESS,
    TRANSFER_SYNTAXES,
    ObjectRefused,
    admit,
)
from .connection_limits import ConnectionLimits, receive_within_limits, server_class, stop_waiting_for_request
from .limits import MAX_PDU, InFlight
from .spool import Arrival, InstanceConflict, Spool

LOG = logging.getLogger("edge_ct.listen")
_VERIFICATION = "1.2.840.10008.1.1"
# A-ASSOCIATE-RJ (PS3.8, 9.3.4): result, source and reasons.
_PERMANENT, _SERVICE_USER = 0x01, 0x01
_NO_REASON, _CALLING_TITLE_UNKNOWN, _CALLED_TITLE_UNKNOWN = 0x01, 0x03, 0x07
_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED = 0x02, 0x03, 0x02
_UNLIMITED = 1 << 16  # `ConnectionLimits` keeps the limit


@dataclass(frozen=True)
class ListenerOptions:
    """Options of the C-STORE provider.

    Attributes:
        title: AE title of this device.
        host: Address to bind.
        port: TCP port; 0 chooses a free one.
        titles: AE titles that may call; empty allows all.
        addresses: Addresses and networks that may call; empty allows all.
        associations: Maximum number of simultaneous associations.
        max_object: Maximum size of one object in bytes.
        max_memory: Maximum size of all objects in transfer in bytes.
        timeout: Seconds that a peer may be idle.
        context: TLS context; None for an unencrypted connection.
    """

    title: str = "EDGECT"
    host: str = "127.0.0.1"
    port: int = 11112
    titles: Sequence[str] = ()
    addresses: Sequence[str] = ()
    associations: int = 10
    max_object: int = 256 << 20
    max_memory: int = 512 << 20
    timeout: float = 60.0
    context: ssl.SSLContext | None = None


class Listener:
    """A C-STORE and C-ECHO provider that runs in background threads."""

    def __init__(self, spool: Spool, arrived: Callable[[Arrival], None], options: ListenerOptions) -> None:
        """Bind the port and start to accept associations.

        Args:
            spool: Where received objects are stored.
            arrived: Called for each new object after it is stored and before it is acknowledged.
            options: Options of the provider.

        Raises:
            EdgeCTError: The port cannot be bound.
            ValueError: An allowed address is invalid.
        """
        from pynetdicom import AE, evt

        silence_libraries()
        self._spool, self._arrived, self._options = spool, arrived, options
        self._networks = parse_networks(options.addresses)
        self._in_flight = InFlight(options.max_object, options.max_memory)
        self._limits = ConnectionLimits(options.associations, options.timeout)
        entity = AE(ae_title=options.title)
        entity.maximum_associations = _UNLIMITED
        entity.maximum_pdu_size = MAX_PDU
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = options.timeout
        entity.add_supported_context(_VERIFICATION)
        for sop_class in ACCEPTED:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        handlers: Any = [
            (evt.EVT_CONN_OPEN, self._limit_association),
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_ACCEPTED, self._log_accepted),
            (evt.EVT_ABORTED, self._end_association),
            (evt.EVT_CONN_CLOSE, self._end_association),
            (evt.EVT_PDU_RECV, self._count_pdu),
            (evt.EVT_DIMSE_RECV, self._end_command),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
        ]
        address = (options.host, options.port)
        try:
            server: Any = entity.make_server(
                address,
                server_class=server_class(self._limits),
                evt_handlers=handlers,
                ssl_context=options.context,
            )
        except OSError as error:
            self._limits.stop()
            raise EdgeCTError(
                f"cannot listen on {options.host}:{options.port}: {error.strerror or error}; name another --port"
            ) from error
        self._acceptor = threading.Thread(target=server.serve_forever, name="AcceptorServer", daemon=True)
        self._acceptor.start()
        entity._servers.append(server)
        self._entity, self._server = entity, server
        self.port = int(server.server_address[1])

    @property
    def alive(self) -> bool:
        """True while connections are accepted."""
        return self._acceptor.is_alive()

    def stop(self) -> None:
        """End all associations and release the port."""
        self._entity.shutdown()
        self._limits.stop()

    def _check_caller(self, event: Any) -> None:
        """Reject an association whose caller is not allowed."""
        peer = event.assoc.requestor
        address, title = str(peer.address), str(peer.primitive.calling_ae_title).strip()
        called = str(peer.primitive.called_ae_title).strip()
        rejection = None
        if not is_allowed(address, self._networks):
            rejection = ("address not allowed", _NO_REASON)
        elif self._options.titles and title not in self._options.titles:
            rejection = ("calling AE title not allowed", _CALLING_TITLE_UNKNOWN)
        elif called != self._options.title:
            rejection = ("called AE title is not that of this device", _CALLED_TITLE_UNKNOWN)
        if rejection:
            LOG.warning("association from %s (%s) refused: %s", _printable_title(title), address, rejection[0])
            event.assoc.acse.send_reject(_PERMANENT, _SERVICE_USER, rejection[1])
            event.assoc.kill()
        elif not self._limits.claim(_connection(event)):
            LOG.warning("association from %s (%s) refused: too many associations", _printable_title(title), address)
            event.assoc.acse.send_reject(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED)
            event.assoc.kill()

    def _limit_association(self, event: Any) -> None:
        receive_within_limits(event.assoc, self._limits, MAX_PDU + 64)

    def _count_pdu(self, event: Any) -> None:
        if not self._in_flight.count_pdu(event):
            LOG.warning("association from %s ended: a command is too long", _describe_peer(event))
            self._limits.abort(_connection(event))

    def _end_command(self, event: Any) -> None:
        self._in_flight.end_command(event.assoc)

    def _log_accepted(self, event: Any) -> None:
        refused = sorted({_printable_uid(str(context.abstract_syntax)) for context in event.assoc.rejected_contexts})
        LOG.info("association from %s", _describe_peer(event))
        self._limits.accepted(_connection(event))
        if refused:
            shown = ", ".join(refused[:3]) + (f" and {len(refused) - 3} more" if len(refused) > 3 else "")
            LOG.warning("%s offers unsupported SOP classes: %s", _describe_peer(event), shown)

    def _end_association(self, event: Any) -> None:
        self._in_flight.complete(event.assoc)
        self._in_flight.end_command(event.assoc)
        self._limits.disconnect(_connection(event))
        stop_waiting_for_request(event.assoc)

    def _store(self, event: Any) -> Any:
        """Handle a C-STORE request; return its status."""
        request = event.request
        instance, sop_class = str(request.AffectedSOPInstanceUID), str(request.AffectedSOPClassUID)
        try:
            if not self._in_flight.complete(event.assoc):
                limit = self._options.max_object >> 20
                raise ObjectRefused(OUT_OF_RESOURCES, f"object over {limit} MiB, or too many large ones at once")
            data = event.encoded_dataset()
            frames = admit(data, sop_class, instance)
            arrival = self._spool.store(data, frames[0])
        except ObjectRefused as refusal:
            return self._refuse(event, instance, refusal.status, refusal.reason)
        except InstanceConflict as error:
            return self._refuse(event, instance, INSTANCE_CONFLICT, str(error))
        except StorageFull as error:
            return self._refuse(event, instance, OUT_OF_RESOURCES, f"out of resources: {error}")
        except EdgeCTError as error:
            return self._refuse(event, instance, OUT_OF_RESOURCES, str(error))
        except Exception as error:  # One malformed object must not end the association, nor the server.
            return self._refuse(event, instance, CANNOT_UNDERSTAND, type(error).__name__)
        if arrival is None:
            LOG.info("%s from %s is already stored", _printable_uid(instance), _describe_peer(event))
        else:
            self._arrived(arrival)
        return SUCCESS

    def _refuse(self, event: Any, instance: str, status: int, reason: str) -> Any:
        from pydicom.dataset import Dataset

        peer = _describe_peer(event)
        LOG.warning("%s from %s refused, status %04X: %s", _printable_uid(instance), peer, status, reason)
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in reason)[:64]
        return answer


def silence_libraries() -> None:
    """Turn off the logs and warnings of the DICOM libraries: they quote values of objects, among them names."""
    import warnings

    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=name)


def _connection(event: Any) -> Any:
    """Return the socket of an event's association; None once it is closed."""
    transport = event.assoc.dul.socket
    return transport.socket if transport else None


def _describe_peer(event: Any) -> str:
    peer = event.assoc.requestor
    return f"{_printable_title(str(peer.ae_title).strip())} ({peer.address})"


def _printable_title(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:16] or "(no AE title)"


def _printable_uid(text: str) -> str:
    return text if is_uid(text) else "an object with a malformed UID"
