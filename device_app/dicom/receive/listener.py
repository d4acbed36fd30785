"""The C-STORE and C-ECHO provider: who may call, what is taken, and a log line for whatever is refused.

A log line holds titles, addresses, UIDs that are well formed, and our own words; never anything else of an object.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_ct.errors import EdgeCTError, StorageFull

from ..peers import allowed, networks
from ..uids import is_uid
from .admission import ACCEPTED, CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS, TRANSFER_SYNTAXES, Refused, admit
from .limits import MAX_PDU, InFlight, bound_units
from .spool import Arrival, Spool

LOG = logging.getLogger("edge_ct.listen")
_PERMANENT, _USER, _NO_REASON, _CALLING, _CALLED = 0x01, 0x01, 0x01, 0x03, 0x07


@dataclass(frozen=True)
class Options:
    """How to listen. titles and addresses: of those who may call; empty: everybody.

    max_object: bytes of one object; max_memory: of all that are on their way. timeout: seconds that a peer may be idle.
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
    """A server in threads of its own; `arrived` is called for each new object, before it is acknowledged."""

    def __init__(self, spool: Spool, arrived: Callable[[Arrival], None], options: Options) -> None:
        """Bind the port. Raises `EdgeCTError` where that cannot be, ValueError for addresses that are none."""
        from pynetdicom import AE, evt

        silence_libraries()
        self._spool, self._arrived, self._options = spool, arrived, options
        self._networks = networks(options.addresses)
        self._in_flight = InFlight(options.max_object, options.max_memory)
        entity = AE(ae_title=options.title)
        entity.maximum_associations = options.associations
        entity.maximum_pdu_size = MAX_PDU
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = options.timeout
        entity.add_supported_context("1.2.840.10008.1.1")
        for sop_class in ACCEPTED:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        handlers: Any = [
            (evt.EVT_CONN_OPEN, bound_units),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_CONN_CLOSE, self._ended),
            (evt.EVT_PDU_RECV, self._in_flight.received),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
        ]
        address = (options.host, options.port)
        try:
            server: Any = entity.start_server(
                address,
                block=False,
                evt_handlers=handlers,
                ssl_context=options.context,
            )
        except OSError as error:
            raise EdgeCTError(f"{options.host}:{options.port}: cannot listen: {error.strerror or error}") from error
        self._entity, self._server = entity, server
        self.port = int(server.server_address[1])

    def stop(self) -> None:
        """End associations and free the port."""
        self._entity.shutdown()

    def _requested(self, event: Any) -> None:
        peer = event.assoc.requestor
        address, title = str(peer.address), str(peer.primitive.calling_ae_title).strip()
        called = str(peer.primitive.called_ae_title).strip()
        reason = None
        if not allowed(address, self._networks):
            reason = ("address is not on the list", _NO_REASON)
        elif self._options.titles and title not in self._options.titles:
            reason = ("calling AE title is not on the list", _CALLING)
        elif called != self._options.title:
            reason = ("it calls another AE title", _CALLED)
        if reason:
            LOG.warning("association from %s (%s) refused: %s", _title(title), address, reason[0])
            event.assoc.acse.send_reject(_PERMANENT, _USER, reason[1])
            event.assoc.kill()

    def _rejected(self, event: Any) -> None:
        LOG.warning("association from %s refused: too many at once", _who(event))

    def _accepted(self, event: Any) -> None:
        refused = sorted({_uid(str(context.abstract_syntax)) for context in event.assoc.rejected_contexts})
        LOG.info("association from %s", _who(event))
        if refused:
            shown = ", ".join(refused[:3]) + (f" and {len(refused) - 3} more" if len(refused) > 3 else "")
            LOG.warning("%s offers what is not taken here: SOP class %s", _who(event), shown)

    def _ended(self, event: Any) -> None:
        self._in_flight.taken(event.assoc)

    def _store(self, event: Any) -> Any:
        request = event.request
        instance, sop_class = str(request.AffectedSOPInstanceUID), str(request.AffectedSOPClassUID)
        try:
            if not self._in_flight.taken(event.assoc):
                limit = self._options.max_object >> 20
                raise Refused(OUT_OF_RESOURCES, f"object over {limit} MiB, or too many large ones at once")
            data = event.encoded_dataset()
            frames = admit(data, sop_class, instance)
            arrival = self._spool.store(data, frames[0])
        except Refused as refusal:
            return self._refuse(event, instance, refusal.status, refusal.reason)
        except StorageFull as error:
            return self._refuse(event, instance, OUT_OF_RESOURCES, f"out of resources: {error}")
        except EdgeCTError as error:
            return self._refuse(event, instance, OUT_OF_RESOURCES, str(error))
        except Exception as error:  # whatever an object provokes, its sender gets a status and others their turn
            return self._refuse(event, instance, CANNOT_UNDERSTAND, type(error).__name__)
        if arrival is None:
            LOG.info("%s from %s is held already", _uid(instance), _who(event))
        else:
            self._arrived(arrival)
        return SUCCESS

    def _refuse(self, event: Any, instance: str, status: int, reason: str) -> Any:
        from pydicom.dataset import Dataset

        LOG.warning("%s from %s refused, status %04X: %s", _uid(instance), _who(event), status, reason)
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in reason)[:64]
        return answer


def silence_libraries() -> None:
    """pydicom and pynetdicom write values of objects into their logs and warnings: names among them."""
    import warnings

    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for module in ("pydicom", "pynetdicom", "highdicom"):
        warnings.filterwarnings("ignore", module=module)


def _who(event: Any) -> str:
    peer = event.assoc.requestor
    return f"{_title(str(peer.ae_title).strip())} ({peer.address})"


def _title(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:16] or "nobody"


def _uid(text: str) -> str:
    return text if is_uid(text) else "a malformed UID"
