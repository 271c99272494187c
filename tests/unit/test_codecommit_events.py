"""Triggers and comments of CodeCommit, without a server."""

from pathlib import Path
from typing import Any

import pytest
from codecommit_api import ARN, FUNCTION, REGION, USER, ZEROS, Api, trigger

from helpers.local_aws.wire import AwsError


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = Api(tmp_path)
    api("CreateRepository", repositoryName="repo", repositoryDescription="text", tags={"workshop": "demo"})
    return api


# --- triggers ---


def test_every_change_of_a_branch_fires(api: Api) -> None:
    api.triggers(trigger())
    first = api.commit(a=b"1")
    second = api.commit(first, a=b"2")
    api("CreateBranch", repositoryName="repo", branchName="dev", commitId=first)
    api("DeleteBranch", repositoryName="repo", branchName="dev")
    assert api.references() == [
        [{"commit": first, "ref": "refs/heads/main", "created": True}],
        [{"commit": second, "ref": "refs/heads/main"}],
        [{"commit": first, "ref": "refs/heads/dev", "created": True}],
        [{"commit": first, "ref": "refs/heads/dev", "deleted": True}],
    ]


def test_the_event_is_the_documented_one(api: Api) -> None:
    api.triggers({**trigger(), "customData": "mine"})
    commit = api.commit(a=b"1")
    [(function, event, source)] = api.invoked
    assert (function, source) == (FUNCTION, ARN)
    [record] = event["Records"]
    assert len(record.pop("eventId")) == 36
    assert record.pop("eventTime").endswith("+0000")
    configuration = api("GetRepositoryTriggers", repositoryName="repo")["configurationId"]
    assert record == {
        "awsRegion": REGION,
        "codecommit": {"references": [{"commit": commit, "ref": "refs/heads/main", "created": True}]},
        "customData": "mine",
        "eventName": "ReferenceChanges",
        "eventPartNumber": 1,
        "eventSource": "aws:codecommit",
        "eventSourceARN": ARN,
        "eventTotalParts": 1,
        "eventTriggerConfigId": configuration,
        "eventTriggerName": "push",
        "eventVersion": "1.0",
        "userIdentityARN": USER,
    }


def test_triggers_choose_events_and_branches(api: Api) -> None:
    api.triggers(trigger("u", events=("updateReference",)), trigger("dev", branches=("dev",)))
    first = api.commit(a=b"1")
    assert api.references() == []
    api.commit(first, a=b"2")
    api("CreateBranch", repositoryName="repo", branchName="dev", commitId=first)
    names = [event["Records"][0]["eventTriggerName"] for _, event, _ in api.invoked]
    assert names == ["u", "dev"]


def test_a_trigger_that_fails_does_not_fail_the_commit(api: Api) -> None:
    api.triggers(trigger())
    api.undeliverable = AwsError("ResourceNotFoundException", "no such function")
    assert api.commit(a=b"1")
    report = api("TestRepositoryTriggers", repositoryName="repo", triggers=[trigger("other")])
    assert report["failedExecutions"] == [{"trigger": "other", "failureMessage": "no such function"}]
    api.undeliverable = None
    report = api("TestRepositoryTriggers", repositoryName="repo", triggers=[trigger("other")])
    assert report["successfulExecutions"] == ["other"]
    assert api.invoked[0][1]["Records"][0]["eventName"] == "TriggerEventTest"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "a b"}, "InvalidRepositoryTriggerNameException"),
        ({"name": None}, "RepositoryTriggerNameRequiredException"),
        ({"destinationArn": "arn:aws:sns:us-east-1:123456789012:topic"}, "NotImplemented"),
        ({"destinationArn": "arn:aws:s3:::bucket"}, "InvalidRepositoryTriggerDestinationArnException"),
        ({"destinationArn": FUNCTION.replace(REGION, "eu-west-1")}, "InvalidRepositoryTriggerRegionException"),
        ({"branches": None}, "RepositoryTriggerBranchNameListRequiredException"),
        ({"branches": ["a..b"]}, "InvalidRepositoryTriggerBranchNameException"),
        ({"branches": [f"b{n}" for n in range(11)]}, "MaximumBranchesExceededException"),
        ({"events": []}, "RepositoryTriggerEventsListRequiredException"),
        ({"events": ["push"]}, "InvalidRepositoryTriggerEventsException"),
        ({"events": ["all", "updateReference"]}, "InvalidRepositoryTriggerEventsException"),
        ({"customData": "x" * 1001}, "InvalidRepositoryTriggerCustomDataException"),
    ],
)
def test_a_trigger_that_codecommit_refuses(api: Api, change: dict[str, Any], code: str) -> None:
    wrong = {key: value for key, value in (trigger() | change).items() if value is not None}
    assert api.fails("PutRepositoryTriggers", repositoryName="repo", triggers=[wrong]) == code
    assert api("GetRepositoryTriggers", repositoryName="repo")["triggers"] == []


def test_a_repository_has_at_most_ten_triggers(api: Api) -> None:
    many = [trigger(f"t{n}") for n in range(11)]
    code = api.fails("PutRepositoryTriggers", repositoryName="repo", triggers=many)
    assert code == "MaximumRepositoryTriggersExceededException"


# --- comments ---


def test_comments_are_grouped_by_place_with_their_replies(api: Api) -> None:
    first = api.commit(a=b"1\n2\n")
    second = api.commit(first, a=b"1\n3\n")
    pair = {"repositoryName": "repo", "beforeCommitId": first, "afterCommitId": second}
    place = {"filePath": "a", "filePosition": 2, "relativeFileVersion": "AFTER"}
    general = api("PostCommentForComparedCommit", content="all", **pair)
    api("PostCommentForComparedCommit", content="here", location=place, **pair)
    api("PostCommentReply", inReplyTo=general["comment"]["commentId"], content="yes")
    found = api("GetCommentsForComparedCommit", **pair)["commentsForComparedCommitData"]
    assert [[c["content"] for c in group["comments"]] for group in found] == [["all", "yes"], ["here"]]
    assert found[0]["comments"][0]["authorArn"] == USER
    assert found[1]["location"] == place
    assert found[1]["beforeBlobId"] != found[1]["afterBlobId"]
    place["filePosition"] = 3
    code = api.fails("PostCommentForComparedCommit", content="x", location=place, **pair)
    assert code == "InvalidFilePositionException"


def test_a_repeated_token_stores_one_comment(api: Api) -> None:
    about = {"repositoryName": "repo", "afterCommitId": api.commit(a=b"1"), "clientRequestToken": "t"}
    one = api("PostCommentForComparedCommit", content="x", **about)
    assert api("PostCommentForComparedCommit", content="x", **about) == one
    other = api.fails("PostCommentForComparedCommit", content="y", **about)
    assert other == "IdempotencyParameterMismatchException"


def test_comments_that_codecommit_refuses(api: Api) -> None:
    first = api.commit(a=b"1")
    second = api.commit(first, a=b"2")

    def refused(content: str = "x", after: str = second, **more: str) -> str:
        return api.fails(
            "PostCommentForComparedCommit", repositoryName="repo", afterCommitId=after, content=content, **more
        )

    assert refused() == "CommitIdRequiredException"
    assert refused(beforeCommitId=second) == "BeforeCommitIdAndAfterCommitIdAreSameException"
    assert refused(beforeCommitId=ZEROS) == "CommitDoesNotExistException"
    assert refused(beforeCommitId=first, content="") == "CommentContentRequiredException"
    assert refused(beforeCommitId=first, content="x" * 10_241) == "CommentContentSizeLimitExceededException"
    assert api.fails("GetComment", commentId="nope") == "CommentDoesNotExistException"
