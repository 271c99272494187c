"""Step Functions: the API of activities and of task tokens, in place of ministack's."""

import json
from collections.abc import Callable
from typing import Any

from botocore import xform_name

from helpers.local_aws import pages
from helpers.local_aws.seam.guard import guarded, refusal
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.states import names
from helpers.local_aws.states.activities import ActivityQueues
from helpers.local_aws.states.callbacks import Callbacks
from helpers.local_aws.wire import AwsError, Site, check, service_model

_MOST_TAGS, _PAGE = 50, 100
_HEADERS = {"Content-Type": "application/x-amz-json-1.0"}


class ActivityHooks:
    """Put ours in. Activities themselves stay in ministack's store, which keeps them and their tags."""

    def __init__(self, site: Site, ministack: Ministack, callbacks: Callbacks, queues: ActivityQueues) -> None:
        self._site, self._states = site, ministack.states
        self._callbacks, self._queues = callbacks, queues

    def install(self) -> None:
        """Replace the operations, their parameters held against botocore's model."""
        for operation, served in {
            "CreateActivity": self._create, "DescribeActivity": self._describe, "ListActivities": self._list,
            "DeleteActivity": self._delete, "SendTaskSuccess": self._succeed, "SendTaskFailure": self._fail,
            "SendTaskHeartbeat": self._beat,
        }.items():  # fmt: skip
            self._replace(operation, served)

        async def get_activity_task(data: dict) -> tuple:
            try:
                _check("GetActivityTask", data)
                activity = self._known(data["activityArn"])["activityArn"]
            except AwsError as error:
                return refusal(error)
            task = await self._queues.poll(activity, data.get("workerName"))
            return _answer({"taskToken": task.token, "input": task.input} if task else {})

        self._states._get_activity_task = get_activity_task

    def close(self) -> None:
        """Answer all workers that wait: the embedded AWS stops."""
        self._queues.close()

    def _replace(self, operation: str, served: Callable[[dict], dict]) -> None:
        def call(data: dict) -> tuple:
            try:
                return _answer(served(data))
            except AwsError as error:
                return refusal(error)

        setattr(self._states, f"_{xform_name(operation)}", guarded(lambda data: _check(operation, data), call))

    def _create(self, data: dict) -> dict:
        """Create an activity; one of that name that is there already is the answer, whatever its tags."""
        name, tags = data["name"], data.get("tags") or []
        names.require(name)
        if len({tag.get("key") for tag in tags}) > _MOST_TAGS:
            raise AwsError("TooManyTags", f"An activity can have at most {_MOST_TAGS} tags.")
        if (data.get("encryptionConfiguration") or {}).get("type", "AWS_OWNED_KEY") != "AWS_OWNED_KEY":
            raise AwsError("NotImplemented", "the embedded AWS does not support activities with a key of your own", 501)
        arn = self._site.arn("states", f"activity:{name}")
        known = self._states._activities.get(arn)
        if known is None:
            known = {"activityArn": arn, "name": name, "creationDate": self._states.now_iso()}
            self._states._activities[arn] = known
            if tags:
                self._states._tags[arn] = list(tags)
        return {"activityArn": arn, "creationDate": known["creationDate"]}

    def _describe(self, data: dict) -> dict:
        return {**self._known(data["activityArn"]), "encryptionConfiguration": {"type": "AWS_OWNED_KEY"}}

    def _list(self, data: dict) -> dict:
        known = sorted(self._states._activities.values(), key=lambda activity: activity["name"])
        try:
            found, token = pages.cut(known, data.get("nextToken"), data.get("maxResults") or _PAGE)
        except ValueError:
            raise AwsError("InvalidToken", "Invalid Token: 'Invalid token'") from None
        return {"activities": found, **({"nextToken": token} if token else {})}

    def _delete(self, data: dict) -> dict:
        """Delete an activity; none is no error. Tasks that workers have may still be reported."""
        arn = _activity_arn(data["activityArn"])
        self._states._activities.pop(arn, None)
        self._states._tags.pop(arn, None)
        return {}

    def _succeed(self, data: dict) -> dict:
        output = data["output"]
        try:
            json.loads(output, parse_constant=_no_json)
        except (ValueError, RecursionError) as error:
            raise AwsError("InvalidOutput", f"Invalid Output: '{error}'") from None
        self._callbacks.succeed(data["taskToken"], output)
        return {}

    def _fail(self, data: dict) -> dict:
        self._callbacks.fail(data["taskToken"], data.get("error") or "", data.get("cause"))
        return {}

    def _beat(self, data: dict) -> dict:
        self._callbacks.beat(data["taskToken"])
        return {}

    def _known(self, arn: str) -> dict[str, Any]:
        found = self._states._activities.get(_activity_arn(arn))
        if found is None:
            raise AwsError("ActivityDoesNotExist", f"Activity Does Not Exist: '{arn}'")
        return found


def _activity_arn(arn: str) -> str:
    parts = arn.split(":")
    if len(parts) != 7 or parts[:1] + parts[2:3] != ["arn", "states"]:
        raise AwsError("InvalidArn", f"Invalid Arn: 'Invalid ARN prefix: {arn}'")
    if parts[5] != "activity":
        raise AwsError("InvalidArn", f"Invalid Arn: 'Resource type not valid in this context: {parts[5]}'")
    return arn


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _check(operation: str, data: dict) -> None:
    model = service_model("stepfunctions").operation_model(operation)
    check(
        model, data, lambda member, problem: AwsError("ValidationException", f"1 validation error detected: {problem}")
    )


def _answer(document: dict[str, Any]) -> tuple:
    return 200, dict(_HEADERS), json.dumps(document).encode()
