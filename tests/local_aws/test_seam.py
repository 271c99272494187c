"""The seam to ministack: its hooks are there, and one that is gone is named."""

import pytest

from helpers.local_aws import seam


def test_the_pinned_version_has_every_hook() -> None:
    seam.check_hooks()


def test_a_hook_that_is_gone_is_named() -> None:
    gone = {"ministack.services.stepfunctions": ["_executions", "_no_such_name"], "ministack.app": ["_nor_this"]}
    with pytest.raises(
        RuntimeError, match=r"needs: ministack\.services\.stepfunctions\._no_such_name, ministack\.app\._nor_this$"
    ):
        seam.check_hooks(gone)
