"""What a URI names, and an image's layers as files: they come from users."""

import gzip
import io
import sys
import tarfile
from pathlib import Path

import pytest
from docker_builds import FROM, Workbench
from ecr_api import HOST, Api, manifest

from helpers.local_aws.builds.docker.unpack import Unpacking, unpack
from helpers.local_aws.ecr import ImageProblem


@pytest.fixture
def api(tmp_path):
    api = Api(tmp_path / "state")
    api("CreateRepository", repositoryName="images")
    return api


@pytest.fixture
def bench(tmp_path):
    return Workbench(tmp_path / "bench")


def push(api: Api, bench: Workbench, text: str, tag: str = "v1") -> str:
    image = bench.build(text)
    for digest in (*image.layers, image.image_id):
        has = api("BatchCheckLayerAvailability", repositoryName="images", layerDigests=[digest])["layers"][0]
        if has["layerAvailability"] == "UNAVAILABLE":
            api.upload(bench.images.get(digest))
    api("PutImage", repositoryName="images", imageManifest=image.manifest.decode(), imageTag=tag)
    return image.digest


def test_a_pushed_image_is_what_was_built(api, bench):
    bench.write("main.py", "print(1)")
    lines = 'WORKDIR /app\nCOPY . .\nENV A=1\nENTRYPOINT ["python"]\nCMD ["main.py"]\n'
    digest = push(api, bench, FROM + lines)
    image = api.ecr.images.resolve(f"{HOST}/images:v1")
    assert (image.digest, image.entrypoint, image.command) == (digest, ("python",), ("main.py",))
    assert (image.working_directory, image.environment["A"]) == ("/app", "1")
    assert (image.folder / "app" / "main.py").read_text() == "print(1)"
    assert api.ecr.images.resolve(f"{HOST}/images@{digest}").folder == image.folder


def test_the_programs_of_an_image_are_those_of_this_python(api, bench):
    push(api, bench, FROM + "ENV PATH=/app/bin:$PATH\n")
    path = api.ecr.images.resolve(f"{HOST}/images:v1").environment["PATH"].split(":")
    assert path[:3] == ["/app/bin", str(Path(sys.executable).parent), "/usr/local/bin"]


def test_an_image_without_files_has_no_folder(api, bench):
    push(api, bench, FROM + 'CMD ["python", "-c", "1"]\n')
    assert api.ecr.images.resolve(f"{HOST}/images:v1").folder is None


def test_the_files_of_an_image_go_with_it(api, bench):
    bench.write("a", "1")
    push(api, bench, FROM + "COPY a /app/\n")
    folder = api.ecr.images.resolve(f"{HOST}/images:v1").folder
    api("BatchDeleteImage", repositoryName="images", imageIds=[{"imageTag": "v1"}])
    assert not folder.exists()
    with pytest.raises(ImageProblem, match=r"CannotPullContainerError: .*: not found"):
        api.ecr.images.resolve(f"{HOST}/images:v1")


@pytest.mark.parametrize(
    "uri",
    [
        "python",
        "python:3.12",
        "python:3.11.7-slim-bookworm",
        "docker.io/library/python:3",
        "public.ecr.aws/docker/library/python:3.12-slim",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3",
    ],
)
def test_public_images_stand_for_this_python(api, uri):
    image = api.ecr.images.resolve(uri)
    assert image.folder is None
    assert str(Path(sys.executable).parent) in image.environment["PATH"]


@pytest.mark.parametrize(
    "uri",
    [
        "python:3.99",
        "python:3.12-alpine",
        "ubuntu:22.04",
        "amazonlinux",
        f"{HOST}/sagemaker-scikit-learn:1.4-2-cpu-py3",
        f"{HOST}/images:none",
        f"{HOST}/other:v1",
        "999999999999.dkr.ecr.us-east-1.amazonaws.com/images:v1",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/images:v1",
        f"{HOST}/../x:v1",
        "",
    ],
)
def test_other_images_cannot_be_pulled(api, uri):
    with pytest.raises(ImageProblem, match=r"^CannotPullContainerError: "):
        api.ecr.images.resolve(uri)


def test_what_pulling_needs(api):
    needed = api.ecr.images.pull_permissions(f"{HOST}/images:v1")
    arn = "arn:aws:ecr:us-east-1:123456789012:repository/images"
    assert [(one.action, one.resource) for one in needed] == [
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", arn),
        ("ecr:BatchGetImage", arn),
        ("ecr:GetDownloadUrlForLayer", arn),
    ]
    assert api.ecr.images.pull_permissions("python:3.12") == []


def layer(*items: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    """Pack a layer as its author likes: files with a content, or any kind of item."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, item in items:
            info = tarfile.TarInfo(name) if isinstance(item, bytes) else item
            info.name = name
            info.size = len(item) if isinstance(item, bytes) else 0
            archive.addfile(info, io.BytesIO(item) if isinstance(item, bytes) else None)
    return gzip.compress(content.getvalue())


def item(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([("../../outside", b"x")], "has the path"),
        ([("app/../../outside", b"x")], "has the path"),
        ([("etc/passwd", b"x")], "/etc is the machine's own"),
        ([("app", item(tarfile.SYMTYPE, "/etc")), ("app/passwd", b"x")], "only folders can lie at /"),
        ([("app/l", item(tarfile.SYMTYPE, "../../outside"))], "leads out of its folder"),
        ([("app/l", item(tarfile.SYMTYPE, "d")), ("app/l/x", b"x")], "behind a link"),
        ([("app/l", item(tarfile.LNKTYPE, "../../outside"))], "has the path"),
        ([("app/l", item(tarfile.LNKTYPE, "app/none"))], "which is no file of the image"),
        ([("app/null", item(tarfile.CHRTYPE))], "neither a file, a folder nor a link"),
        ([("app/pipe", item(tarfile.FIFOTYPE))], "neither a file, a folder nor a link"),
        ([("app/l", item(tarfile.SYMTYPE, "d")), ("app/l/.wh.x", b"")], "behind a link"),
        ([("app/x", b"x"), (".wh...", b"")], "has the path"),
        ([("app/x", b"x"), (".wh..", b"")], "has the path"),
        ([("app/x", b"x"), (".wh.", b"")], "has the path"),
    ],
)
def test_a_layer_cannot_reach_out_of_its_image(tmp_path, items, said):
    (tmp_path / "outside").write_text("safe")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ValueError, match=said):
        unpack(root, [layer(*items)])
    assert (tmp_path / "outside").read_text() == "safe"


def test_a_layer_that_is_no_archive_is_refused(tmp_path):
    for data in (b"nothing", gzip.compress(b"nothing")[:12], gzip.compress(b"nothing" * 100)):
        with pytest.raises(ValueError, match=r"not a tar\.gz archive"):
            unpack(tmp_path, [data])


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    info = tarfile.TarInfo()
    info.pax_headers = {"comment": "x" * 2**21}
    with pytest.raises(ValueError, match="a header of"):
        unpack(tmp_path, [layer(("app/a", info))])


def test_files_are_taken_away_by_a_later_layer(tmp_path):
    first = layer(("app/a", b"1"), ("app/b", b"2"), ("app/deep/c", b"3"), ("data/d", b"4"))
    unpack(tmp_path, [first, layer(("app/.wh.a", b""), ("app/deep/.wh..wh..opq", b""), ("app/deep/e", b"5"))])
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"app/b", "app/deep/e", "data/d"}


def test_a_hard_link_is_a_file_of_its_own(tmp_path):
    unpack(tmp_path, [layer(("app/a", b"1"), ("app/b", item(tarfile.LNKTYPE, "app/a")))])
    assert (tmp_path / "app" / "b").read_bytes() == b"1"
    assert (tmp_path / "app" / "a").stat().st_nlink == 1


@pytest.mark.parametrize(("bytes_", "files", "said"), [(10, 99, "too many bytes"), (10**6, 1, "too many files")])
def test_an_image_that_unpacks_to_too_much_is_given_up(tmp_path, bytes_, files, said):
    unpacking = Unpacking(tmp_path, most_bytes=bytes_, most_files=files)
    with pytest.raises(ValueError, match=said):
        unpacking.add(io.BytesIO(layer(("app/a", bytes(8)), ("app/b", bytes(8)))))


def test_an_image_that_cannot_be_unpacked_leaves_nothing(api, tmp_path):
    config = b'{"config": {}}'
    bad = layer(("etc/passwd", b"x"))
    for data in (config, bad):
        api.upload(data)
    api("PutImage", repositoryName="images", imageManifest=manifest(config, bad), imageTag="bad")
    with pytest.raises(ImageProblem, match="/etc is the machine's own"):
        api.ecr.images.resolve(f"{HOST}/images:bad")
    assert list((tmp_path / "state" / "ecr" / "unpacked").iterdir()) == []


def test_why_an_image_cannot_be_unpacked_tells_no_path_of_this_machine(api, tmp_path):
    config, bad = b'{"config": {}}', layer((f"app/{'x' * 300}", b""))
    for data in (config, bad):
        api.upload(data)
    api("PutImage", repositoryName="images", imageManifest=manifest(config, bad), imageTag="bad")
    with pytest.raises(ImageProblem) as caught:
        api.ecr.images.resolve(f"{HOST}/images:bad")
    assert str(caught.value).endswith("images:bad: File name too long")


@pytest.mark.parametrize(
    "config",
    [
        b"[]",
        b'{"config": 1}',
        b'{"config": {"Env": ["A"]}}',
        b'{"config": {"Cmd": "a"}}',
        b'{"config": {"WorkingDir": "a"}}',
    ],
)
def test_a_configuration_that_is_malformed_cannot_be_run(api, config):
    data = layer(("app/a", b"1"))
    api.upload(config)
    api.upload(data)
    api("PutImage", repositoryName="images", imageManifest=manifest(config, data), imageTag="bad")
    with pytest.raises(ImageProblem, match="failed to unpack"):
        api.ecr.images.resolve(f"{HOST}/images:bad")
