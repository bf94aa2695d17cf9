"""datasets.shards.scan: tars that cannot be used are refused by name."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest

from datasets.shards.format import MANIFEST
from datasets.shards.reindex import index_shards
from datasets.shards.writer import write_shards
from storage.errors import StoreError
from tests.datasets.shards.test_reindex import ONE, arrays, good, npy, write_tar
from tests.fakes import SMALL, write_fake_source
from tests.shard_sets import SMALL_SHARDS, contents
from tests.spoiled import replaced


def link(kind, name="s9.npy"):
    """A member that is a link out of the tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


BAD_MEMBERS = {
    "pickled": ([("k.npy", npy(np.array([{}, []], object)))], "k.npy.*pickled"),
    "fortran": ([("k.npy", npy(np.asfortranarray(arrays(1)[0])))], "k.npy.*Fortran"),
    "float64": ([("k.npy", npy(arrays(1)[0].astype(float)))], "k.npy.*float64.*none of uint8"),
    "int16": ([("k.npy", npy(arrays(1)[0].astype("i2")))], "k.npy.*int16"),
    "big endian": ([("k.npy", npy(arrays(1)[0].astype(">f4")))], "k.npy.*>f4"),
    "other dtype": ([*good(), ("k.npy", npy(arrays(1, dtype="uint8")[0]))], "k.npy is uint8.*floa"),
    "other shape": ([*good(), ("k.npy", npy(arrays(1, shape=(8, 9))[0]))], r"k.npy.*\[8, 9\]"),
    "no matrix": ([("k.npy", npy(np.zeros(9, "f4")))], r"k.npy has the shape \[9\]"),
    "no cells": ([("k.npy", npy(np.zeros((0, 9), "f4")))], r"k.npy has the shape \[0, 9\]"),
    "nan": ([("k.npy", npy(np.full(SMALL.slice_shape, np.nan, "f4")))], "k.npy.*NaN"),
    "short npy": ([("k.npy", npy(arrays(1)[0])[:-7])], "k.npy has 505 bytes.*promises 512"),
    "long npy": ([("k.npy", npy(arrays(1)[0]) + b"more")], "k.npy has 516 bytes"),
    "no npy": ([("k.npy", b"hello, world, hello")], r"k.npy is not a valid \.npy"),
    "empty npy": ([("k.npy", b"")], r"k.npy is not a valid \.npy"),
    "no array": ([*good(), ("k.cls", b"1")], "sample k has the members cls, not npy"),
    "other array": ([*good(), ("k.mel.npy", good()[0][1])], r"sample k.*mel\.npy, not npy"),
    "no json": ([("k.npy", good()[0][1]), ("k.json", b"{")], "sample k: its label"),
    "no text": ([("k.npy", good()[0][1]), ("k.txt", b"\xff\xfe\x00")], "sample k: its label"),
    "half a letter": ([("k.npy", good()[0][1]), ("k.json", b'"\\ud800"')], "sample k: its label"),
    "deep json": ([("k.npy", good()[0][1]), ("k.json", b"[" * 50_000)], "sample k: its label"),
    "name of bytes": ([*good(), ("Gr\udcfcn.npy", good()[0][1])], r"Gr\\xfcn.npy is not UTF-8"),
    "up and out": ([*good(), ("../k.npy", good()[0][1])], r"\.\./k\.npy leads out"),
    "absolute": ([*good(), ("/etc/k.npy", good()[0][1])], "/etc/k.npy leads out"),
    "symbolic link": ([*good(), link(tarfile.SYMTYPE)], "s9.npy is a link"),
    "hard link": ([*good(), link(tarfile.LNKTYPE)], "s9.npy is a link"),
    "device": ([*good(), link(tarfile.CHRTYPE)], "s9.npy is a link, a device"),
    "same member twice": ([*good(), good()[1]], "two members s0.cls"),
    "same key later": ([*good(0), *good(1), *good(0)], "the key s0 comes twice"),
    "nothing": ([], "holds no samples|empty"),
    "nothing but others": ([("readme", b"hello")], "holds no samples"),
}


@pytest.mark.parametrize(("members", "said"), BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_a_tar_that_cannot_be_used_is_refused_by_name(target, members, said):
    write_tar(target / "bad.tar", members)
    with pytest.raises(StoreError, match=rf"(?s)bad\.tar.*({said})"):
        index_shards(str(target), SMALL, ONE)
    assert {*contents(target)} == {"bad.tar"}


SPOILED = {
    "cut": lambda data, members: data[: len(data) // 2],
    "cut between members": lambda data, members: data[: members[2].offset],
    "cut at the end": lambda data, members: data[: members[-1].offset_data + 512],
    "spoilt header": lambda data, members: replaced(data, members[2].offset + 3, b"?"),
    "another after it": lambda data, members: data + data,
    "compressed": lambda data, members: b"\x1f\x8b\x08" + data,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_truncated_or_damaged_tar_is_refused_by_name(target, spoil):
    path = write_tar(target / "bad.tar", [*good(0), *good(1)])
    with tarfile.open(path) as tar:
        data = spoil(path.read_bytes(), tar.getmembers())
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"bad\.tar"):
        index_shards(str(target), SMALL, ONE)
    assert not (target / MANIFEST).exists()


def test_each_byte_of_a_tar_may_be_cut(target):
    """No truncation is taken for a whole tar, wherever it falls."""
    path = write_tar(target / "bad.tar", [*good(0), *good(1)])
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 512 + 1024
    for length in range(0, end, 37):
        path.write_bytes(data[:length])
        with pytest.raises(StoreError, match=r"bad\.tar"):
            index_shards(str(target), SMALL, ONE)


def test_compressed_tars_are_refused_by_name(target):
    write_tar(target / "a.tar", good())
    (target / "b.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(StoreError, match=r"b\.tar\.gz is compressed"):
        index_shards(str(target), SMALL, ONE)


def test_a_key_in_two_tars_is_refused_with_both(target):
    write_tar(target / "a.tar", good())
    write_tar(target / "b.tar", good())
    with pytest.raises(StoreError, match=r"key s0 is in a\.tar and in b\.tar"):
        index_shards(str(target), SMALL, ONE)


def test_tars_of_two_kinds_are_refused_with_both(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    write_tar(target / "theirs.tar", good())
    with pytest.raises(StoreError, match=r"theirs\.tar differs from shard-000000\.tar"):
        index_shards(str(target), SMALL, ONE)
    (target / "theirs.tar").unlink()
    other = write_fake_source(target.parent / "other.raw", [3], seed=2)
    write_shards(replace(other, store_id="0ther"), str(target.parent / "other"), SMALL_SHARDS)
    (target.parent / "other" / "shard-000000.tar").rename(target / "shard-000099.tar")
    with pytest.raises(StoreError, match=r"shard-000099\.tar.*store 0ther.* there, store fa4e"):
        index_shards(str(target), SMALL, ONE)
