"""PyMySQL's connections as episodes need them: closed at once, bounded in time, values as mysql-connector gives them.

Uses private parts of PyMySQL (``_read_packet``, ``_force_close``, ``_result``), steady since its version 0.7.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from pymysql.charset import charset_by_name
from pymysql.connections import Connection
from pymysql.constants import CR, FIELD_TYPE, SERVER_STATUS
from pymysql.converters import conversions, convert_date, convert_datetime
from pymysql.cursors import SSCursor
from pymysql.err import MySQLError, OperationalError

__all__ = ["CONVERSIONS", "StreamCursor", "TidyConnection", "TimedConnection"]

_SLACK_S = 0.1
_CONNECT_S = 30.0
_COM_RESET_CONNECTION = 0x1F

if TYPE_CHECKING:  # generic in its stubs only
    _Base = Connection[Any]
else:
    _Base = Connection


class TidyConnection(_Base):
    """A connection that closes its socket at once, whatever went wrong; PyMySQL's own sometimes leaves it open."""

    _result: Any
    _secure: bool
    host_info: str
    unix_socket: str | None
    connect_timeout: float

    def connect(self, sock: Any = None) -> None:
        """Connect and log in. PyMySQL leaves the socket open where a unix socket's file is missing or unheard."""
        if sock is None and self.unix_socket:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self.connect_timeout)
                sock.connect(self.unix_socket)
            except OSError as error:
                sock.close()
                raise OperationalError(
                    CR.CR_CONN_HOST_ERROR, f"Can't connect to the database server ({error})"
                ) from error
            self.host_info = "Localhost via UNIX socket"
            self._secure = True  # a password may be sent as it is
        super().connect(sock)

    def abandon(self) -> None:
        """Close the socket without a word, whatever is under way."""
        if self._result is not None:
            self._result.unbuffered_active = False
        self._force_close()  # type: ignore[attr-defined]


class TimedConnection(TidyConnection):
    """A connection whose reads end at a deadline (monotonic seconds), however the answer trickles."""

    deadline = float("inf")
    charset: str
    collation: str | None
    encoding: str
    init_command: str
    server_status: int
    _read_timeout: float | None

    def _read_packet(self, *args: Any, **kwargs: Any) -> Any:
        left = _CONNECT_S if self.deadline == float("inf") else self.deadline - time.monotonic()
        if left <= 0:  # an answer without end never blocks, so no read would run out of time
            raise OperationalError(CR.CR_SERVER_LOST, "the time limit is over")
        left = max(left, 0.001)
        # Set rarely: each change is a system call that gives up the GIL.
        if self._read_timeout is None or not left <= self._read_timeout < left + _SLACK_S:
            self._read_timeout = left + _SLACK_S / 2
        return super()._read_packet(*args, **kwargs)  # type: ignore[no-untyped-call]

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Note it alone: ``init_command`` tells the server, with all else in one go."""
        self.charset, self.collation = charset, collation
        self.encoding = charset_by_name(charset).encoding

    def reset(self) -> None:
        """Give the session back its first state: no temporary table, variable, lock, prepared statement is left.

        COM_RESET_CONNECTION; a tenth of a new login. Raises pymysql's errors.
        """
        self._execute_command(_COM_RESET_CONNECTION, b"")  # type: ignore[attr-defined]
        self._read_ok_packet()  # type: ignore[attr-defined]
        self.query(self.init_command)

    def quit(self) -> None:
        """Take leave of the server, which then ends the session, and close the socket. Errors do not matter here."""
        try:
            self.close()
        except MySQLError:
            self.abandon()

    @property
    def session_id(self) -> int:
        """The server's number of this session."""
        return int(self.thread_id())  # type: ignore[no-untyped-call]

    @property
    def in_transaction(self) -> bool:
        """Whether the last answer of the server said so."""
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)


class StreamCursor(SSCursor):
    """A streaming cursor that can be left in the middle of an answer."""

    _result: Any
    description: Any  # None where the statement gave no rows

    def leave(self) -> None:
        """Let go of the connection; ``close`` and the result's ``__del__`` would read the answer to its end."""
        if self._result is not None:
            self._result.unbuffered_active = False
        self.connection = None  # type: ignore[assignment]

    def drain(self) -> None:
        """Read the answer to its end, and further results of a procedure."""
        more: bool | None = self._result is not None
        while more:  # whether another follows is known at a result's end
            self._result._finish_unbuffered_query()
            more = self.nextset()


def _bit(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _date(value: str) -> object:
    found = convert_date(value)
    return None if isinstance(found, str) else found  # 0000-00-00


def _datetime(value: str) -> object:
    found = convert_datetime(value)
    return None if isinstance(found, str) else found


# Where mysql-connector gives other values than PyMySQL.
CONVERSIONS = conversions | {
    FIELD_TYPE.BIT: _bit,
    FIELD_TYPE.DATE: _date,
    FIELD_TYPE.DATETIME: _datetime,
    FIELD_TYPE.TIMESTAMP: _datetime,
}
