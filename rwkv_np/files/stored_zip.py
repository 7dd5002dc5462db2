"""Zip archives in which nothing is compressed, so that an entry is a run of the file's bytes."""

import io
import struct
import zipfile
import zlib


class View(io.RawIOBase):
    """Bytes as a file that can be read and searched, without a copy of them.

    Parameters
    ----------
    data : bytes or memoryview

    Examples
    --------
    >>> file = View(b"abcdef")
    >>> file.seek(-2, 2), file.read()
    (4, b'ef')
    """

    def __init__(self, data):
        self.data, self.position = memoryview(data), 0

    def readable(self) -> bool:
        """Return True: the bytes can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: any place can be gone to."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, counted from the beginning (0), from here (1) or from the end (2); return it."""
        position = offset + (0, self.position, len(self.data))[whence]
        if position < 0:
            raise OSError(f"offset is {offset}, which is before the beginning")
        self.position = position
        return position

    def readinto(self, buffer) -> int:
        """Fill a buffer with the bytes that follow; return how many there were."""
        source = self.data[self.position:self.position + len(buffer)]
        buffer[:len(source)] = source
        self.position += len(source)
        return len(source)


def list_entries(data: memoryview) -> dict[str, memoryview]:
    """Return the entries of an archive by name, without its first folder, as views of `data`.

    Parameters
    ----------
    data : memoryview

    Raises
    ------
    zipfile.BadZipFile
        If an entry is compressed, leaves the file, overlaps others or differs from its checksum.
    """
    entries, left = {}, len(data)
    with zipfile.ZipFile(View(data)) as archive:
        for info in archive.infolist():
            if "/code/__torch__" in info.filename:
                raise ValueError("it is a TorchScript module, a program; save its arrays instead, with PyTorch: "
                                 "torch.save(module.state_dict(), 'new.pth')")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise zipfile.BadZipFile(f"{info.filename} is compressed or encrypted; PyTorch stores plain bytes")
            signature, name_length, extra_length = struct.unpack_from("<4s22xHH", data, info.header_offset)
            start = info.header_offset + 30 + name_length + extra_length
            entry, left = data[start:start + info.file_size], left - info.file_size
            if signature != b"PK\3\4" or len(entry) != info.file_size or left < 0:
                raise zipfile.BadZipFile(f"{info.filename} does not lie where the archive says")
            if zlib.crc32(entry) != info.CRC:
                raise zipfile.BadZipFile(f"{info.filename} differs from its checksum")
            entries[info.filename.partition("/")[2]] = entry
    return entries


def add_entry(archive: zipfile.ZipFile, name: str, data) -> None:
    """Add one entry, its bytes beginning at a multiple of 64 in the file, as in PyTorch's own files."""
    info = zipfile.ZipInfo(f"archive/{name}")           # with zipfile's fixed date: same model, same bytes
    padding = -(archive.fp.tell() + 30 + len(info.filename) + 4) % 64
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, data)
    info.extra = b""                                    # not again in the archive's list of entries
