"""Lambda functions: package them, create them, keep them up to date."""

import hashlib
import io
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helpers.propagation import retry_until_propagated
from helpers.roles import Ensured

PROJECT = Path(__file__).resolve().parents[1]
SOURCES = PROJECT / "lambda_src"
PLANNING = PROJECT / "helpers" / "planning"  # the package that functions and notebooks share
CACHE = PROJECT / ".cache" / "lambda"
RUNTIME = "python3.13"
PLATFORM = "manylinux2014_x86_64"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
WITHOUT_SOURCE_ACCOUNT = ("events.amazonaws.com", "apigateway.amazonaws.com")


def package(folder: Path, *shared: Path, runtime: str = RUNTIME, cache: Path = CACHE) -> bytes:
    """Return a zip of a function's folder, of what is ``shared`` and its requirements, the same for the same files.

    Of the folder, modules and shell scripts are taken: a function may hand those on. A shared package, such as
    PLANNING, lies in the zip under its folder's name, with its modules and its JSON files; a shared module beside
    the function's own. Requirements (``requirements.txt``, if there is one) are installed for Lambda's platform as
    wheels, never built here, and kept in ``cache``. Raises RuntimeError with pip's message.
    """
    sources = (*folder.rglob("*.py"), *folder.rglob("*.sh"))
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sources}
    for source in shared:
        for path in [source] if source.is_file() else [*source.rglob("*.py"), *source.rglob("*.json")]:
            files[path.relative_to(source.parent).as_posix()] = path.read_bytes()
    if (folder / "requirements.txt").exists():
        installed = _install(folder / "requirements.txt", runtime, cache)
        for path in sorted(installed.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.relative_to(installed).parts[0] != "bin":
                files.setdefault(path.relative_to(installed).as_posix(), path.read_bytes())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def ensure_function(
    client: Any,
    name: str,
    *,
    role_arn: str,
    code: bytes,
    timeout: int,
    memory: int,
    variables: Mapping[str, str],
    tags: Mapping[str, str],
    runtime: str = RUNTIME,
    handler: str = "lambda_function.lambda_handler",
    sleep: Callable[[float], None] = time.sleep,
) -> Ensured:
    """Create the function ``name`` from ``code`` (a zip), or bring an existing one up to date; wait until it is active.

    ``timeout`` in seconds, ``memory`` in MB.
    """
    settings = {
        "FunctionName": name,
        "Role": role_arn,
        "Runtime": runtime,
        "Handler": handler,
        "Timeout": timeout,
        "MemorySize": memory,
        "Environment": {"Variables": dict(variables)},
    }
    try:
        made = retry_until_propagated(
            lambda: client.create_function(**settings, Code={"ZipFile": code}, Tags=dict(tags)), sleep=sleep
        )
        created = True
    except client.exceptions.ResourceConflictException:
        # Lambda refuses an update while an earlier one, or the creation, is under way.
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        client.update_function_code(FunctionName=name, ZipFile=code)
        client.get_waiter("function_updated_v2").wait(FunctionName=name)
        made = retry_until_propagated(lambda: client.update_function_configuration(**settings), sleep=sleep)
        client.get_waiter("function_updated_v2").wait(FunctionName=name)
        created = False
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    return Ensured(name, made["FunctionArn"], created)


def allow_invoke(client: Any, name: str, *, principal: str, source_arn: str, account_id: str) -> bool:
    """Let an AWS service invoke a function for one source, such as a repository. Returns whether that is new.

    ``principal``: such as codecommit.amazonaws.com. The source account closes the
    gap that an ARN without an account would leave (the confused deputy). EventBridge and
    API Gateway do not name it when they call, so a condition on it would keep them out:
    the ARNs of their rules and APIs have the account in them.
    """
    account = {} if principal in WITHOUT_SOURCE_ACCOUNT else {"SourceAccount": account_id}
    try:
        client.add_permission(
            FunctionName=name,
            StatementId=re.sub("[^A-Za-z0-9_-]", "-", f"{principal.partition('.')[0]}-{source_arn.rpartition(':')[2]}"),
            Action="lambda:InvokeFunction",
            Principal=principal,
            SourceArn=source_arn,
            **account,
        )
    except client.exceptions.ResourceConflictException:
        return False
    return True


def _install(requirements: Path, runtime: str, cache: Path) -> Path:
    """Install requirements for Lambda's platform into a cached folder, and return it."""
    digest = hashlib.sha256(f"{runtime} {PLATFORM} {requirements.read_text()}".encode()).hexdigest()[:16]
    folder = cache / f"{requirements.parent.name}-{digest}"
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    version = runtime.removeprefix("python")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--only-binary", ":all:", "--platform", PLATFORM, "--python-version", version, "--implementation", "cp"]
    done = subprocess.run(
        [*command, "--target", str(partial), "-r", str(requirements)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"cannot package {requirements.parent.name} for Lambda:\n{done.stderr.strip()}")
    partial.replace(folder)
    return folder


if __name__ == "__main__":  # `make` fills the cache, so that notebooks need no network
    for source in sorted(SOURCES.iterdir()):
        if (source / "lambda_function.py").exists():
            print(f"{source.name}: {len(package(source, PLANNING)):,} bytes for {RUNTIME}")
