"""What the process that runs scripts has loaded before it is forked."""

import ctypes
import gc
import importlib
import os
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path

# What the scripts of experiments use. matplotlib is not among them: SageMaker's scikit-learn image
# has none. Nor is boto3, see ``load_boto3``.
_PACKAGES = (
    "numpy",
    "pandas",
    "scipy.sparse",
    "joblib",
    "sklearn.compose",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "narwhals._pandas_like.namespace",
    "pandas.io.formats.csvs",
    "encodings.cp437",
)
# One thread for each job: as many jobs as processors run at once, and sums that several threads share
# come out differently on a machine with another number of processors.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_DONT_NEED = 4  # MADV_DONTNEED
# Of a private mapping that no thread can write to: address, and after offset, device and inode its file; on a later
# line, how much of it is this process's own.
_MAPPING = re.compile(r"^([0-9a-f]+-[0-9a-f]+) r-[x-]p \S+ \S+ \S+ +(\S+)$.*?^Anonymous: +(\d+) kB$", re.M | re.S)


def load() -> None:
    """Import what scripts import.

    Nothing is computed here: a process that has used OpenMP threads cannot be
    forked safely. A job that asks for more threads in its environment gets an
    interpreter of its own, which reads these variables when it starts.
    """
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    with warnings.catch_warnings():
        for package in _PACKAGES:
            try:
                importlib.import_module(package)
            except ModuleNotFoundError:  # an environment without it: jobs that need it fail, others run
                continue


def load_boto3() -> None:
    """Import boto3, once a container runs a script: most use it, while few jobs do, and it takes 8 MB."""
    if "boto3" in sys.modules:
        return
    with suppress(ModuleNotFoundError):
        importlib.import_module("boto3.session")
        importlib.import_module("botocore.client")
    gc.collect()
    gc.freeze()


def trim() -> None:
    """Give back memory that only loading needed (Linux): freed blocks, and pages of program files.

    The files stay in the system's page cache, from which each fork maps what it
    runs; a fork does not inherit those pages anyway.
    """
    library, maps = ctypes.CDLL(None), Path("/proc/self/smaps")
    with suppress(AttributeError):  # not every C library has it
        library.malloc_trim(0)
    if not maps.exists():
        return
    for address, file, own in _MAPPING.findall(maps.read_text()):
        if file.startswith("/") and own == "0":  # nothing of it has been written to
            start, end = (int(number, 16) for number in address.split("-"))
            library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONT_NEED)
