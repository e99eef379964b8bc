"""Recognise DICOM files without a preamble by their first elements."""

import struct

__all__ = ["START", "begins_with_elements"]

START = 1024  # bytes, enough for the first elements
MIN_ELEMENTS = 3
# DICOM PS3.5, 6.2: value representations with a length field of 2 bytes, and of 4.
_SHORT = "AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS"
_LONG = "OBODOFOLOVOWSQSVUCUNURUTUV"
_LENGTH_BYTES = {
    names[i : i + 2]: n for names, n in ((_SHORT, 2), (_LONG, 4)) for i in range(0, len(names), 2)
}
_UNDEFINED = 0xFFFFFFFF


def begins_with_elements(start: bytes, size: int) -> bool:
    r"""Return whether the first bytes of a file are DICOM elements.

    Parameters
    ----------
    start : bytes
        The first ``START`` bytes of the file, or all of it.
    size : int
        Size of the file in bytes.

    Returns
    -------
    bool
        True if the file begins with the file meta information or the identification (groups 0002
        and 0008), its first elements are in the order of their tags, their lengths fit into the
        file, and, in explicit encoding, their value representations exist.

    Examples
    --------
    >>> begins_with_elements(b"\x89PNG\r\n\x1a\n" + bytes(100), 108)
    False
    """
    little, big = start[:2] in (b"\2\0", b"\x08\0"), start[:2] in (b"\0\2", b"\0\x08")
    if little:
        return _follow(start, size, "<", True) or _follow(start, size, "<", False)
    return big and _follow(start, size, ">", True)


def _follow(start, size, order, is_explicit):
    """Return whether the first elements are valid in one encoding."""
    place, previous, n = 0, (-1, -1), 0
    while place + 12 <= len(start):
        tag = struct.unpack_from(f"{order}HH", start, place)
        if n >= MIN_ELEMENTS and previous[0] == 2 < tag[0]:
            break  # the data set may have another encoding than the meta information
        if tag <= previous:
            return False
        if is_explicit:
            n_bytes = _LENGTH_BYTES.get(start[place + 4 : place + 6].decode("latin-1"))
            if n_bytes is None:
                return False
            head = 8 if n_bytes == 2 else 12
            form = f"{order}H" if n_bytes == 2 else f"{order}I"
            length = struct.unpack_from(form, start, place + head - n_bytes)[0]
        else:
            head, length = 8, struct.unpack_from(f"{order}I", start, place + 4)[0]
        n += 1
        if length == _UNDEFINED:
            break
        place, previous = place + head + length, tag
        if length % 2 or place > size:
            return False
    return n >= MIN_ELEMENTS
