"""A Python with Kedro, the project and the scripts' packages loaded, which runs a pipeline for each line it reads."""

import json
import sys
from pathlib import Path

import joblib  # noqa: F401
import pandas  # noqa: F401
import scipy.sparse  # noqa: F401
import sklearn.compose
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
import sklearn.preprocessing  # noqa: F401
from kedro.framework.session.service_session import KedroServiceSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import ParallelRunner, SequentialRunner


def main() -> None:
    """Answer "done" to each request, or the error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    project = Path.cwd()
    bootstrap_project(project)
    session = KedroServiceSession.create(project_path=project)
    for line in sys.stdin:
        request = json.loads(line)
        runner = ParallelRunner() if request.pop("parallel", False) else SequentialRunner()
        try:
            session.run(runner=runner, **request)
        except Exception as error:  # noqa: BLE001 - the caller tells
            print(f"{type(error).__name__}: {error}", file=answers, flush=True)
        else:
            print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
