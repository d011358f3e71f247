"""Connects one disk to its host with a new ticket, and does so again when the connection is lost.

A ticket is good once, so every connection takes a new one. After a vMotion the new ticket names
the new host. A connection holds a disk slot of its host while it is open.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, Protocol

from vreplica.disk_errors import AuthenticationFailed, DiskAccessError, HostConnection, HostLeaving
from vreplica.nfc import authd
from vreplica.nfc.admission import HostAdmission
from vreplica.nfc.authd import NfcTicket
from vreplica.nfc.config import IO_MIN, NfcConfig
from vreplica.nfc.session import NfcSession, OpenedFile
from vreplica.units import SECTOR

log = logging.getLogger(__name__)


class TicketSource(Protocol):
    """Gives tickets for one disk: `vreplica.nfc.ticket.TicketService`, or a test's own."""

    def ticket(self, *, read_only: bool) -> NfcTicket:
        """Returns a new ticket for the disk. Raises TicketRefused."""

    def host_trouble(self) -> str | None:
        """Says what vCenter knows to be wrong with the host; None where it knows nothing."""

    def capacity_bytes(self) -> int | None:
        """Returns the capacity that vCenter has for the disk; None where it knows none."""


class HostLink:
    """One disk's session at its host, with its admission. Not thread-safe."""

    def __init__(
        self,
        tickets: TicketSource,
        config: NfcConfig,
        path: str,
        *,
        read_only: bool,
        first_of_two: bool,
    ) -> None:
        self.path: Final = path
        self.host = ""
        self.file = OpenedFile(0, 0, (0, 0, 0))
        self.opens = 0
        self._tickets = tickets
        self._config = config
        self._read_only = read_only
        self._first_of_two = first_of_two
        self._buffer = config.buffer_bytes
        self._session: NfcSession | None = None
        self._admission: HostAdmission | None = None

    @property
    def session(self) -> NfcSession:
        assert self._session, "the link is open"
        return self._session

    @property
    def admission(self) -> HostAdmission:
        assert self._admission, "the link is open"
        return self._admission

    def open(self) -> None:
        """Connects, logs in and opens the disk.

        Raises DiskAccessError, TicketRefused, AdmissionTimeout.
        """
        ticket = self._new_ticket()
        try:
            self._open(ticket)
        except AuthenticationFailed as error:
            # The ticket may have expired on its way; where a second one fails too, it was not that.
            log.info("%s; trying once more with a new ticket", error)
            self._open(self._new_ticket())
        self.opens += 1

    def close(self) -> DiskAccessError | None:
        """Closes disk, session and connection; returns the host's error, if there was one."""
        failure: DiskAccessError | None = None
        session, self._session = self._session, None
        if session and session.usable:
            try:
                session.close_file(self.file.handle)
            except DiskAccessError as error:
                failure = error
        if session:
            session.close()
        self.drop()
        return failure

    def drop(self) -> None:
        """Drops a connection that is lost already, and its slot."""
        if self._session:
            self._session.close()
            self._session = None
        if self._admission:
            self._admission.close()
            self._admission = None

    def _new_ticket(self) -> NfcTicket:
        return self._tickets.ticket(read_only=self._read_only)

    def _open(self, ticket: NfcTicket) -> None:
        self.drop()
        self.host = ticket.host
        self._admission = HostAdmission(
            ticket.host, self._config.limits, first_of_two=self._first_of_two
        )
        try:
            try:
                self._connect(ticket)
            except _BuffersRefused as refused:
                # Only ESXi 8 was seen to accept 1-2 MiB. 64 KiB is VDDK's default everywhere.
                log.warning("%s: %s; going on with 64 KiB buffers", self.host, refused.error)
                self._buffer = IO_MIN
                self._connect(self._new_ticket())
        except HostConnection as error:
            self.drop()
            told = with_trouble(error, self._tickets)
            if told is error:
                raise
            raise told from error
        except BaseException:
            self.drop()
            raise

    def _connect(self, ticket: NfcTicket) -> None:
        channel = authd.connect(ticket, self._config, path=self.path)
        session = NfcSession(channel, self._config, buffer_bytes=self._buffer)
        try:
            session.handshake()
            try:
                session.open_session()
            except DiskAccessError as error:
                if isinstance(error, HostConnection) or self._buffer <= IO_MIN:
                    raise
                raise _BuffersRefused(error) from error
            self.file = self._with_capacity(session.open_file(self.path, read_only=self._read_only))
        except BaseException:
            session.close()
            raise
        self._session = session
        log.info(
            "%s on %s open over %s (NFC %d, %d bytes)",
            *(self.path, self.host, self._config.mode, session.version),
            self.file.capacity_bytes,
        )

    def _with_capacity(self, file: OpenedFile) -> OpenedFile:
        """Takes vCenter's capacity where the host tells none. Only ESXi 8 was seen to tell it."""
        if file.capacity_bytes:
            return file
        told = self._tickets.capacity_bytes()
        if not told or told % SECTOR:
            raise DiskAccessError(
                host=self.host,
                path=self.path,
                doing="opening",
                reason=f"its capacity is not known: the host tells none, vCenter {told}",
            )
        return replace(file, capacity_bytes=told)


def with_trouble(error: HostConnection, tickets: TicketSource) -> HostConnection:
    """Returns the error, as HostLeaving where vCenter knows why the host does not answer."""
    trouble = None if isinstance(error, HostLeaving) else tickets.host_trouble()
    if not trouble:
        return error
    reason = f"{error.reason}; {trouble}"
    return HostLeaving(host=error.host, path=error.path, doing=error.doing, reason=reason)


class _BuffersRefused(Exception):
    """OPEN_SESSION was answered with an error. Never leaves this module."""

    def __init__(self, error: DiskAccessError) -> None:
        super().__init__()
        self.error = error
