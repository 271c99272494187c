"""A Python with the scripts' packages loaded, which runs a script's ``main`` for each line of JSON that it reads."""

import json
import sys

import in_process
import joblib  # noqa: F401
import pandas  # noqa: F401
import scipy.sparse  # noqa: F401
import sklearn.compose
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
import sklearn.preprocessing  # noqa: F401


def main() -> None:
    """Answer "done" to each request, or the error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            in_process.run(**json.loads(line))
        except Exception as error:  # noqa: BLE001 - the caller tells
            print(f"{type(error).__name__}: {error}", file=answers, flush=True)
        else:
            print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
