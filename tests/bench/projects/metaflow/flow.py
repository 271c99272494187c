"""The experiment as a flow. The first and the last step have to be called start and end."""

import json
from pathlib import Path

import in_process
from metaflow import FlowSpec, step

PROJECT = Path(__file__).parent


def run(root: str, name: str) -> str:
    """Run a step's script in this process; return the folder of its files, which is what the next step needs."""
    arguments = json.loads((PROJECT / "arguments.json").read_text())
    folder = PROJECT / "work" / root / name
    in_process.run(PROJECT / "code", name, folder, arguments[root][name])
    return str(folder)


class ExperimentFlow(FlowSpec):
    """preprocess (start), train, predict, evaluate (end)."""

    @step
    def start(self):
        """Run preprocess.py."""
        self.features = run("single", "preprocess")
        self.next(self.train)

    @step
    def train(self):
        """Run train.py."""
        self.model = run("single", "train")
        self.next(self.predict)

    @step
    def predict(self):
        """Run predict.py."""
        self.predictions = run("single", "predict")
        self.next(self.end)

    @step
    def end(self):
        """Run evaluate.py."""
        self.metrics = run("single", "evaluate")


if __name__ == "__main__":
    ExperimentFlow()
