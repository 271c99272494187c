"""The sweep as a flow: preprocess once, then the other three steps for each variant, in one task a variant."""

from flow import run
from metaflow import FlowSpec, step

VARIANTS = 8
STEPS = ("train", "predict", "evaluate")


class SweepFlow(FlowSpec):
    """A branch for each variant. One task runs its three scripts: a task each would cost a new Python each."""

    @step
    def start(self):
        """Run preprocess.py."""
        self.features = run("single", "preprocess")
        self.variants = [str(number) for number in range(VARIANTS)]
        self.next(self.variant, foreach="variants")

    @step
    def variant(self):
        """Run train.py, predict.py and evaluate.py of a variant."""
        self.metrics = [run(self.input, name) for name in STEPS][-1]
        self.next(self.gather)

    @step
    def gather(self, inputs):
        """Gather where the metrics are."""
        self.metrics = [branch.metrics for branch in inputs]
        self.next(self.end)

    @step
    def end(self):
        """End; Metaflow allows no join here."""


if __name__ == "__main__":
    SweepFlow()
