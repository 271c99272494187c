"""Which objects of S3 become which files of a job, and back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.local_aws.workers import transfer
from helpers.local_aws.workers.requests import Refusal


class Store:
    """The calls that a transfer makes of S3, over a dict of keys."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        return iter([key for key in sorted(self.objects) if key.startswith(prefix)])

    def read(self, bucket: str, key: str) -> bytes:
        return self.objects[key]

    def fetch(self, bucket: str, key: str, into: int) -> None:
        os.write(into, self.objects[key])

    def put(self, bucket: str, key: str, source: int) -> None:
        self.objects[f"{bucket}/{key}"] = os.read(source, 1 << 20)


class Refusing(Store):
    """S3 that lets nobody list."""

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        raise Refusal("AccessDenied", "no", 403)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "local"
    folder.mkdir()
    return folder


def fetched(objects: dict[str, bytes], local: Path, uri: str, **source: str) -> list[str]:
    host, hosts = int(source.pop("host", "0")), int(source.pop("hosts", "1"))
    transfer.download(Store(objects), {"S3Uri": uri, "S3DataType": "S3Prefix", **source}, local, host, hosts)
    return sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file())


OBJECTS = {"d/a.csv": b"a", "d/sub/b.csv": b"b", "d/folder/": b"", "data.csv": b"c", "d.csv": b"d"}


@pytest.mark.parametrize(
    ("uri", "files"),
    [
        ("s3://bucket/d/", ["a.csv", "sub/b.csv"]),
        ("s3://bucket/data.csv", ["data.csv"]),
        ("s3://bucket/d/sub", ["b.csv"]),
        ("s3://bucket/d", ["a.csv", "d.csv", "data.csv", "sub/b.csv"]),
    ],
)
def test_a_prefix_becomes_files_below_the_local_path(local: Path, uri: str, files: list[str]) -> None:
    assert fetched(OBJECTS, local, uri) == files


def test_sharding_gives_every_object_to_one_host(tmp_path: Path, local: Path) -> None:
    objects = {f"p/{number}": b"" for number in range(7)}
    shares = []
    for host in range(3):
        folder = tmp_path / str(host)
        shares.append(
            fetched(objects, folder, "s3://b/p/", S3DataDistributionType="ShardedByS3Key", host=str(host), hosts="3")
        )
    assert sorted(name for share in shares for name in share) == list("0123456")
    assert [len(share) for share in shares] == [3, 2, 2]


def test_a_host_without_a_share_gets_an_empty_folder(local: Path) -> None:
    assert (
        fetched({"p/a": b"x"}, local, "s3://b/p/", S3DataDistributionType="ShardedByS3Key", host="1", hosts="2") == []
    )


def test_a_manifest_names_its_objects(local: Path) -> None:
    manifest = json.dumps([{"prefix": "s3://bucket/d/"}, "a.csv", "sub/b.csv"]).encode()
    found = fetched(OBJECTS | {"m.json": manifest}, local, "s3://bucket/m.json", S3DataType="ManifestFile")
    assert found == ["a.csv", "sub/b.csv"]


@pytest.mark.parametrize("manifest", [b"{}", b"no json", b"[]", b'["a"]', b'[{"prefix": "s3://b/"}, 3]'])
def test_a_manifest_that_is_none_fails_the_job(local: Path, manifest: bytes) -> None:
    with pytest.raises(transfer.TransferError, match=r"^ClientError: Manifest file"):
        fetched({"m": manifest}, local, "s3://bucket/m", S3DataType="ManifestFile")


@pytest.mark.parametrize("key", ["p/../../escape", "p//etc/passwd", "p/a/../../b"])
def test_a_key_that_would_leave_the_local_path_is_refused(local: Path, key: str) -> None:
    with pytest.raises(transfer.TransferError, match="would leave"):
        fetched({key: b"x"}, local, "s3://bucket/p/")
    assert not list(local.rglob("*"))


def test_a_file_that_is_also_a_folder_is_the_error_of_sagemaker(local: Path) -> None:
    with pytest.raises(transfer.TransferError, match="a previously downloaded file/folder clashes with it"):
        fetched({"p/a": b"x", "p/a/b": b"y"}, local, "s3://bucket/p/")


def test_nothing_under_a_prefix_fails_the_job(local: Path) -> None:
    with pytest.raises(transfer.TransferError, match=r'^ClientError: .*No S3 objects found under S3 URL "s3://b/none"'):
        fetched({}, local, "s3://b/none")


def test_a_refusal_of_s3_is_a_client_error_with_its_code(local: Path) -> None:
    with pytest.raises(transfer.TransferError, match=r"^ClientError: Data download failed:AccessDenied \(403\): no"):
        transfer.download(Refusing({}), {"S3Uri": "s3://bucket/p/", "S3DataType": "S3Prefix"}, local, 0, 1)


def test_outputs_go_below_the_prefix_without_links_and_only_when_changed(local: Path) -> None:
    (local / "sub").mkdir()
    (local / "sub/metrics.json").write_text("{}")
    (local / "link").symlink_to("/etc/passwd")
    (local / "folder").symlink_to("/etc")
    store, done = Store({}), {}
    transfer.upload(store, local, "s3://bucket/run/evaluate/", done, local)
    assert store.objects == {"bucket/run/evaluate/sub/metrics.json": b"{}"}
    store.objects.clear()
    transfer.upload(store, local, "s3://bucket/run/evaluate/", done, local)
    assert store.objects == {}
    (local / "sub/metrics.json").write_text('{"a": 1}')
    transfer.upload(store, local, "s3://bucket", done, local)
    assert store.objects == {"bucket/sub/metrics.json": b'{"a": 1}'}


@pytest.mark.parametrize("replaced", ["job/a/output", "job/a"])
def test_an_output_that_a_script_has_made_a_link_is_not_followed(tmp_path: Path, replaced: str) -> None:
    (tmp_path / "secret/output").mkdir(parents=True)
    for folder in ("secret", "secret/output"):
        (tmp_path / folder / "key").write_text("secret")
    (tmp_path / replaced).parent.mkdir(parents=True)
    (tmp_path / replaced).symlink_to(tmp_path / "secret")
    store = Store({})
    transfer.upload(store, tmp_path / "job/a/output", "s3://bucket/run/", {}, tmp_path / "job")
    assert store.objects == {}


def test_what_is_no_file_is_not_waited_for(local: Path) -> None:
    os.mkfifo(local / "pipe")
    store = Store({})
    transfer.upload(store, local, "s3://bucket/run/", {}, local)
    assert store.objects == {}
