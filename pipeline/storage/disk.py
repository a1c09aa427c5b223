"""Objects as files of a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pipeline import names
from pipeline.elements import File, ImageRef, LargeFile
from pipeline.failures import BadNameError, ChangedError, ConflictError, MissingError, TooLargeError, UnreadableError
from pipeline.flags import UsageError
from pipeline.spool import CHUNK_BYTES, Content, Spool, chunks_of
from pipeline.storage.interface import Created, Storage, make_file

_C = TypeVar("_C", bytes, Spool)

_LOG = logging.getLogger(__name__)

_TEMPORARY = ".relume-"
"""How our temporary files begin; a listing leaves them out."""

# Anything else that an operating system answers (no more file handles, no more memory) is no property of the image.
_UNREADABLE = {
    errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG,
    errno.ESTALE, errno.EBADMSG, errno.EUCLEAN, errno.EOVERFLOW,
}  # fmt: skip

_NOT_SEEN = "0-0"
"""Version of what is listed though nobody may look at it; the listings of receipts read a time in every version."""

# What a file system says to a link that has no hard links, as FAT, exFAT and some of those over a network.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}

# A name that this file system cannot hold, though it is a good one elsewhere.
_NAME_REFUSED = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}

# What is said of a link that leads to nothing.
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, *_NAME_REFUSED}


@dataclasses.dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder on disk; an object's version is its modification time in ns and its size.

    Links to files are files; links to folders are not followed, so that nothing is listed twice and no loop is endless.
    A folder that may not be looked into is listed itself, and is unreadable; so is a file that may not be looked at.

    Attributes:
        root: the folder; need not exist until something is written.
    """

    root: str

    @property
    def uri(self) -> str:
        return str(self._root)

    @property
    def _root(self) -> Path:
        # Without links: an output that is inside the input by way of one must be seen to be.
        return Path(self.root).expanduser().resolve()

    def list(self, prefix: str = "", *, recursive: bool = True) -> Iterator[ImageRef]:
        start = prefix.rpartition("/")[0]
        # A stack rather than recursion: a path may be 2,000 folders deep.
        open_folders = [(start, self._entries(start))]
        while open_folders:
            folder, entries = open_folders[-1]
            try:
                entry = next(entries, None)
            except OSError as error:
                if not folder or error.errno not in _UNREADABLE:
                    raise
                # What is in it stays unknown, but an archive with a `lost+found` is none to be given up as a whole.
                yield ImageRef(folder, 0, _NOT_SEEN)
                entry = None
            if entry is None:
                open_folders.pop()
                continue
            name, path = entry
            if not name.startswith(prefix):
                continue
            if _is_folder(path):
                if recursive:
                    open_folders.append((name, self._entries(name)))
            elif ref := self._seen(name, path):
                yield ref

    def folders(self, prefix: str = "") -> Iterator[str]:
        for name, path in self._entries(prefix.rpartition("/")[0]):
            if name.startswith(prefix) and _is_folder(path):
                yield f"{name}/"

    def stat(self, name: str) -> ImageRef | None:
        try:
            return self._seen(name, self._path(name), links_may_dangle=False)
        except BadNameError:
            return None

    def read(self, ref: ImageRef, max_bytes: int) -> File:
        return make_file(ref, self._whole(ref, max_bytes, _read_at_most))

    def fetch(self, ref: ImageRef, max_bytes: int) -> LargeFile:
        spool = self._whole(ref, max_bytes, lambda file, size: Spool.written_by(lambda to: _copy(file, to, size)))
        return LargeFile(ref, spool)

    def _whole(self, ref: ImageRef, max_bytes: int, take: Callable[[Any, int], _C]) -> _C:
        """Takes all of one version out of its file by a function of the open file and of a size, at most one more."""
        if not ref.version:
            raise MissingError("was not there when the archive was listed")
        try:
            # Not blocking: opening a pipe that took the file's place would wait for a writer.
            handle = os.open(self._path(ref.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(handle, "rb", buffering=0) as file:
                before = os.fstat(handle)
                if not stat.S_ISREG(before.st_mode) or _version(before) != ref.version:
                    if ref.version == _NOT_SEEN:
                        raise UnreadableError("could not be looked at when the archive was listed")
                    raise ChangedError(f"was version {ref.version} when listed, is {_version(before)} now")
                if before.st_size > max_bytes:
                    raise TooLargeError(f"{before.st_size} bytes, over the limit of {max_bytes}")
                data = take(file, before.st_size + 1)
                after = os.fstat(handle)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError("is gone since the archive was listed") from error
        except OSError as error:
            if error.errno in _UNREADABLE:
                raise UnreadableError(os.strerror(error.errno or 0)) from error
            raise
        if _version(after) != ref.version or len(data) != before.st_size:
            raise ChangedError(f"was written to while it was read as version {ref.version}")
        return data

    def read_small(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, name: str, data: Content, *, content_type: str, attempt: str) -> Created:
        path = self._path(name)
        with self._writing(path), _opened_folder(path.parent) as folder:
            try:
                _link_new(folder, path, data)
            except FileExistsError:
                how = Created.IDENTICAL if _holds(path, data) else Created.CONFLICT
            else:
                how = Created.CREATED
            # Also where it stood already: a killed run may have linked it and not lived to make the folder durable.
            os.fsync(folder)
        return how

    def replace(self, ref: ImageRef, data: Content, *, content_type: str, attempt: str) -> None:
        path = self._path(ref.name)
        with self._writing(path), _opened_folder(path.parent) as folder:
            with _temporary(folder, data) as temporary:
                if self._found(ref.name, path, links_may_dangle=False) != ref:
                    raise ConflictError(f"{self.address(ref.name)} changed while it was to be replaced")
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def delete(self, ref: ImageRef) -> None:
        path = self._path(ref.name)
        if self._found(ref.name, path, links_may_dangle=False) == ref:
            path.unlink(missing_ok=True)

    def output_name(self, name: str, suffix: str = "") -> str:
        # 255 bytes between slashes is what Linux's file systems hold.
        return names.output_name(name, suffix, segment_bytes=255, total_bytes=None)

    def check_readable(self, role: str) -> None:
        if not self._root.exists():
            raise UsageError(f"{role} {self.root}: no such folder")
        if not self._root.is_dir():
            raise UsageError(f"{role} {self.root}: is a file; give the folder")
        if not os.access(self._root, os.R_OK | os.X_OK):
            raise UsageError(f"{role} {self.root}: may not be read by this user")

    def check_writable(self, role: str) -> None:
        standing = next(path for path in (self._root, *self._root.parents) if path.exists())
        if not standing.is_dir():
            raise UsageError(f"{role} {self.root}: {standing} is a file; give a folder")
        if not os.access(standing, os.W_OK | os.X_OK):
            raise UsageError(f"{role} {self.root}: this user may not write to {standing}")
        scratch = standing / _temporary_name()
        try:
            with _opened_folder(standing) as folder:
                _link_new(folder, scratch, b"")
            scratch.unlink()
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise UsageError(
                f"{role} {self.root}: the file system of {standing} has no hard links, without which no output can "
                "appear whole or not at all; give a folder on another (not FAT or exFAT), and copy from there"
            ) from error

    def _path(self, name: str) -> Path:
        names.check_name(name)
        return self._root / name

    def _entries(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yields what is in one folder, sorted; nothing where there is no such folder."""
        try:
            with os.scandir(self._root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.name.startswith(_TEMPORARY):
                yield (f"{folder}/{entry.name}" if folder else entry.name), entry

    def _seen(self, name: str, path: Path | os.DirEntry[str], *, links_may_dangle: bool = True) -> ImageRef | None:
        """As `_found`, but what may not or cannot be looked at is there: reading it says that it is unreadable."""
        try:
            return self._found(name, path, links_may_dangle=links_may_dangle)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            return ImageRef(name, 0, _NOT_SEEN)

    def _found(self, name: str, path: Path | os.DirEntry[str], *, links_may_dangle: bool = True) -> ImageRef | None:
        """Describes what stands at a path; None for what is no file or is gone again.

        A link that leads nowhere is listed without a version: somebody meant an image to be there, and reading it says
        that it is missing.
        """
        try:
            info = path.stat()
        except OSError as error:
            if links_may_dangle and error.errno in _NOWHERE and path.is_symlink():
                return ImageRef(name, 0, "")
            if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno in _NAME_REFUSED:
                return None
            raise
        if stat.S_ISREG(info.st_mode):
            return ImageRef(name, info.st_size, _version(info))
        _LOG.warning("%s is no file and no folder of its own; not listed", self.address(names.printable(name)))
        return None

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Makes the folder of an object, and turns refusals that belong to its name into typed errors."""
        try:
            _make_folder(path.parent)
            yield
        except (NotADirectoryError, FileExistsError) as error:
            raise ConflictError(f"a file stands where a folder of {path} belongs") from error
        except OSError as error:
            if error.errno in _NAME_REFUSED:
                raise BadNameError(f"the file system refuses {path}: {os.strerror(error.errno or 0)}") from error
            raise


def _version(info: os.stat_result) -> str:
    return f"{info.st_mtime_ns}-{info.st_size}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError as error:  # where the file system's listings do not say what an entry is
        if error.errno not in _UNREADABLE:
            raise
        return False


def _read_at_most(file: Any, size: int) -> bytes:
    """Reads from an unbuffered file until `size` bytes or its end: one read may give less, and at most 2 GiB."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _copy(file: Any, to: Any, size: int) -> None:
    """Copies from an unbuffered file until `size` bytes or its end."""
    while size > 0 and (part := file.read(min(size, CHUNK_BYTES))):
        to.write(part)
        size -= len(part)


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each durable in its parent before anything is put into it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    with _opened_folder(folder.parent) as parent:
        os.fsync(parent)


@contextlib.contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _write_all(handle: int, data: Content) -> None:
    for chunk in chunks_of(data):
        left = memoryview(chunk)
        while left:
            left = left[os.write(handle, left) :]
    os.fsync(handle)


def _link_new(folder: int, path: Path, data: Content) -> None:
    """Gives data a name that nothing has yet: `FileExistsError` where something has.

    A file without a name vanishes with its process, so that a run killed at any moment leaves nothing behind; where a
    file system has no such files, a temporary name serves, and a kill may leave it (never listed, never taken for an
    image).
    """
    try:
        handle = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666)
    except (AttributeError, OSError) as error:
        # The kernel says EISDIR or EOPNOTSUPP where it cannot; other systems lack the flag.
        if isinstance(error, OSError) and error.errno not in {errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
        with _temporary(folder, data) as temporary:
            os.link(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        _write_all(handle, data)
        # With folder handles, or else Python calls link(), which does not follow the link in /proc.
        source = f"/proc/self/fd/{handle}"
        os.link(source, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(handle)


def _temporary_name() -> str:
    return f"{_TEMPORARY}{uuid.uuid4().hex}.tmp"


@contextlib.contextmanager
def _temporary(folder: int, data: Content) -> Iterator[str]:
    """Keeps data in a named file of its own in the folder; what still has that name in the end is removed."""
    name = _temporary_name()
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        try:
            _write_all(handle, data)
        finally:
            os.close(handle)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _holds(path: Path, data: Content) -> bool:
    """Says whether a plain file at `path` holds exactly these bytes."""
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size != len(data):
            return False
        with path.open("rb") as file:
            return all(file.read(len(chunk)) == chunk for chunk in chunks_of(data))
    except FileNotFoundError:
        return False
