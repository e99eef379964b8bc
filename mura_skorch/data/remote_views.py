"""Store prepared views of remote files one by one, so that none is read twice."""

import json
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock

from mura_skorch.data.images import read_view
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.intensity import ViewNotes
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.remote import N_THREADS
from mura_skorch.utils.text import printable

__all__ = ["RemoteView", "RemoteViewStore"]

RemoteView = tuple[str, int, str]  # address, size and tag of its content
_TABLE = (
    "CREATE TABLE IF NOT EXISTS views (address TEXT PRIMARY KEY, size INTEGER, tag TEXT, "
    "pixels BLOB, checksum INTEGER, reason TEXT)"
)


class RemoteViewStore:
    """Prepared views of remote files in an SQLite file, as a context.

    Each view is written as soon as it is read: what breaks off is continued. A view is read again
    when the store that holds it names another size or tag. Other processes wait.

    Parameters
    ----------
    file : Path
        The SQLite file, made if it is missing.
    transform : Prepare
        Applied to each view.
    settings : dict of str to JSON values
        What the views depend on; written to a JSON file of the same name.
    """

    def __init__(self, file: Path, transform: Any, settings: dict[str, Any]) -> None:
        self.file = file
        self.transform = transform
        self.settings = settings
        self.notes = ViewNotes()
        self._lock = FileLock(f"{file}.lock")
        self._one_writer = threading.Lock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        try:
            self._open()
            self._describe()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._describe()
            self._connection.close()
        finally:
            self._lock.release()

    def __getitem__(self, view: RemoteView) -> np.ndarray:
        """Return the pixels of a view, of shape (image_size, image_size), uint8."""
        address = view[0]
        pixels, checksum = self._ask(
            "SELECT pixels, checksum FROM views WHERE address = ?", address
        )
        if zlib.crc32(pixels) != checksum:  # a damaged disk
            self._ask("DELETE FROM views WHERE address = ?", address)
            self.read([view])
            return self[view]
        return np.frombuffer(pixels, np.uint8).reshape(2 * (self.transform.image_size,))

    def read(self, views: Iterable[RemoteView], *, keep_going: bool = False) -> dict[str, str]:
        """Read, in threads, the views that are not stored.

        Parameters
        ----------
        views : iterable of RemoteView
            Views to read.
        keep_going : bool, default=False
            Whether to read the others after one that cannot be read.

        Returns
        -------
        dict of str to str
            The addresses of views that cannot be read, and the reasons.

        Raises
        ------
        FileNotFoundError, ValueError
            A view cannot be read, unless `keep_going`.
        OSError
            A store does not answer, or the disk is full. What was read is stored.
        """
        wanted = {view[0]: view for view in views}
        stored = {row[0]: row for row in self._rows("SELECT address, size, tag, reason FROM views")}
        missing = [view for view in wanted.values() if stored.get(view[0], ())[:3] != view]
        reasons = {
            address: stored[address][3]
            for address in wanted.keys() - {view[0] for view in missing}
            if stored[address][3] is not None
        }
        if reasons and not keep_going:
            address, reason = min(reasons.items())
            raise ValueError(f"{printable(address)}: {reason}")

        def read(view: RemoteView) -> str | None:
            try:
                self._write(view, pixels=self.transform(read_view(view[0], note=self.notes)))
            except (FileNotFoundError, ValueError) as error:
                reason = str(error).removeprefix(f"{printable(view[0])}: ")
                if isinstance(error, ValueError):  # a missing file may come
                    self._write(view, reason=reason)
                if not keep_going:
                    raise
                return reason
            return None

        try:
            found = map_in_threads(
                read, missing, desc="read", unit="view", n_threads=N_THREADS, leave=False
            )
        except OSError as error:
            if isinstance(error, FileNotFoundError) or not error.strerror:
                raise
            text = f"{error.strerror}. {self._count():,} views are stored in {self.file.parent}"
            text += " and will not be read again"
            raise OSError(error.errno, text, error.filename) from error
        bad = zip(missing, found, strict=True)
        return reasons | {view[0]: reason for view, reason in bad if reason is not None}

    def _open(self) -> None:
        try:
            self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            warnings.warn(f"{self.file} is damaged; its views are read again", stacklevel=5)
            self._connection.close()
            self.file.unlink()
            self._connect()

    def _connect(self) -> None:
        # Threads share the connection, one at a time. Each row is a transaction, which survives a
        # kill; after a power cut the file may be damaged, and is made again.
        self._connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(_TABLE)
        self._count()

    def _write(
        self, view: RemoteView, *, pixels: np.ndarray | None = None, reason: str | None = None
    ) -> None:
        data = b"" if pixels is None else np.ascontiguousarray(pixels).tobytes()
        row = (*view, data, zlib.crc32(data), reason)
        with self._one_writer:
            self._connection.execute("INSERT OR REPLACE INTO views VALUES (?, ?, ?, ?, ?, ?)", row)

    def _rows(self, command: str, *values: Any) -> list[Any]:
        with self._one_writer:
            return self._connection.execute(command, values).fetchall()

    def _ask(self, command: str, *values: Any) -> Any:
        rows = self._rows(command, *values)
        return rows[0] if rows else None

    def _count(self) -> int:
        return self._ask("SELECT count(*) FROM views")[0]

    def _describe(self) -> None:
        about = self.settings | {"n_views": self._count()}
        write_text(self.file.with_suffix(".json"), json.dumps(about, indent=1))
