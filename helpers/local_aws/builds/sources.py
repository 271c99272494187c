"""What a build begins with: its source in S3, its buildspec, and variables that are parameters of SSM."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.local_aws.archives import ZIP_ERRORS
from helpers.local_aws.builds.problems import PhaseProblem


def fetch(location: str, version: str | None, folder: Path) -> str:
    """Unpack the archive ``bucket/key`` of S3 into a folder; return its version, "" in a bucket without versions."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = location.removeprefix("arn:aws:s3:::").partition("/")
    archive = folder.parent / "source.zip"
    try:
        found = boto3.client("s3").get_object(Bucket=bucket, Key=key, **({"VersionId": version} if version else {}))
        with archive.open("wb") as file:
            for block in found["Body"].iter_chunks(1 << 20):
                file.write(block)
    except (ClientError, BotoCoreError) as error:
        raise PhaseProblem(
            "CLIENT_ERROR", f"{_said(error)} for primary source and source version {version or ''}"
        ) from None
    try:
        unpack(archive, folder, location)
    finally:
        archive.unlink(missing_ok=True)
    version = found.get("VersionId")
    return version if version and version != "null" else ""


def unpack(archive: Path, folder: Path, location: str) -> None:
    """Unpack an archive, which is known as ``location``, into a folder. Raises PhaseProblem."""
    try:
        with zipfile.ZipFile(archive) as files:
            for item in files.infolist():
                place = files.extract(item, folder)
                if item.external_attr >> 16 & 0o111 and not item.is_dir():
                    os.chmod(place, 0o755)  # noqa: S103 - as it was packed
    except ZIP_ERRORS as error:
        raise PhaseProblem("CLIENT_ERROR", f"the source {location} cannot be unpacked: {error}") from None


def buildspec_text(given: str, folder: Path) -> str:
    """Return the text of the buildspec: what was given, or the file that it names (buildspec.yml) in the source."""
    if "\n" in given or given.lstrip().startswith("{") or ":" in given:
        return given
    path = (folder / (given or "buildspec.yml")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise PhaseProblem("YAML_FILE_ERROR", f"the buildspec {given} is not in the source")
    try:
        return path.read_text()
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise PhaseProblem("YAML_FILE_ERROR", f"stat {path}: {said}") from None
    except UnicodeDecodeError:
        raise PhaseProblem("YAML_FILE_ERROR", f"{path} is not UTF-8 text") from None


def parameters(names: Mapping[str, str]) -> dict[str, str]:
    """Return the values of parameters in SSM's Parameter Store, by the variable that they are for."""
    if not names:
        return {}
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    wanted = sorted(set(names.values()))
    values: dict[str, str] = {}
    try:
        ssm = boto3.client("ssm")
        for start in range(0, len(wanted), 10):
            answer: dict[str, Any] = ssm.get_parameters(Names=wanted[start : start + 10], WithDecryption=True)
            values |= {found["Name"]: found["Value"] for found in answer["Parameters"]}
    except (ClientError, BotoCoreError) as error:
        raise PhaseProblem("Decrypted Variables Error", _said(error)) from None
    if missing := [name for name in wanted if name not in values]:
        raise PhaseProblem("Decrypted Variables Error", f"parameter does not exist: {', '.join(missing)}")
    return {variable: values[name] for variable, name in names.items()}


def _said(error: Exception) -> str:
    found = getattr(error, "response", {}).get("Error", {})
    return f"{found['Code']}: {found['Message']}" if found else str(error)
