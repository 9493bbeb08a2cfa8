"""ZIP archives, told apart by their members: skops, TorchScript, torch.save, and what is none of ours."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from quarterdeckd.formats import pickles, skops_types
from quarterdeckd.formats.found import Found
from quarterstore.records.faults import Refused, TooLarge, got
from quarterstore.records.names import drawn

MOST: Final = 100_000
"""Members of an archive."""
RATIO: Final = 100
SMALL: Final = 64 * 1024**2
"""An archive that unpacks to more than so many times its size, and to more than so much, is a bomb."""
LARGEST_PICKLE: Final = 64 * 1024**2
DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    ValueError,
)
"""What `zipfile` raises of an archive that lies: it lets the errors of its decompressors through."""
ONNX: Final = "torch.onnx.export(model, (sample,), 'model.onnx', dynamo=True, external_data=False)"
"""What a person of PyTorch runs."""


def inspected(path: Path) -> Found:
    """What an archive holds, by the names in its directory; a fault where it is damaged, a bomb or nothing we keep."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_size(path, members)
            return _told_apart(archive, path, [_checked_name(member.filename) for member in members])
    except DAMAGED as error:
        raise got("file", f"a ZIP archive that is cut off or damaged ({_short(error)})", "a whole file") from error


def _check_size(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST:
        raise TooLarge(f"got an archive of {len(members):,} members, expected at most {MOST:,}", field="file")
    size, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > max(SMALL, RATIO * size):
        raise TooLarge(
            f"got an archive of {size:,} bytes that unpacks to {unpacked:,}, expected at most {RATIO} times its size",
            field="file",
        )


def _checked_name(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise got("file", f"an archive with {drawn(name, longest=80)!r}", "names inside it")
    return name


def _told_apart(archive: zipfile.ZipFile, path: Path, names: list[str]) -> Found:
    tops = {name.partition("/")[2] for name in names}
    if "schema.json" in names:
        types = skops_types.untrusted(path)
        return Found("skops", f"skops with {len(types)} types that are not trusted" if types else "skops", types)
    if "constants.pkl" in tops or any(name.startswith("code/") for name in tops):
        raise Refused(
            "got TorchScript, which is a program, expected ONNX",
            field="file",
            next=f"load it with torch.jit.load and export it: {ONNX.replace('dynamo=True', 'dynamo=False')}; "
            f"or from the module itself: {ONNX}",
        )
    if "data.pkl" in tops:
        return _torch_save(archive, next(name for name in names if name.partition("/")[2] == "data.pkl"))
    if any(name.startswith("models/") for name in tops) or "archive_format" in tops:
        raise Refused("got an exported program of PyTorch (.pt2), expected ONNX", field="file", next=ONNX)
    if "model.weights.h5" in names:
        raise Refused("got a Keras file, expected ONNX", field="file", next="model.export('model.onnx', format='onnx')")
    if names and all(name.endswith(".npy") for name in names):
        raise Refused("got arrays of NumPy, expected safetensors", field="file", next="safetensors.numpy.save_file")
    raise got("file", f"a ZIP archive with {drawn(', '.join(names[:3]), longest=80) or 'nothing'}", "a model file")


def _torch_save(archive: zipfile.ZipFile, name: str) -> Found:
    """`torch.save` writes a pickle and the numbers beside it."""
    if archive.getinfo(name).file_size > LARGEST_PICKLE:
        raise TooLarge(f"got a pickle of more than {LARGEST_PICKLE:,} bytes in an archive", field="file")
    names, whole = pickles.in_bytes(archive.read(name))
    words = pickles.in_words("a pickle in an archive (torch.save)", names)
    return Found("pickle", words, names if whole else (*names, pickles.NOT_READ))


def _short(error: Exception) -> str:
    return drawn(" ".join(str(error).split()), longest=80)
