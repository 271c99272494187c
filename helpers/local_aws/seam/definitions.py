"""Step Functions: what CreateStateMachine and UpdateStateMachine refuse."""

import json

from helpers.local_aws.seam.guard import guarded, refusal
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.states import definition as asl
from helpers.local_aws.states import tasks
from helpers.local_aws.states.services import Work
from helpers.local_aws.wire import AwsError, Permission, Site


class DefinitionHooks:
    """What differs from ministack's state machines."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity

    def install(self) -> None:
        """Refuse what CreateStateMachine refuses: bad definitions, roles it may not or cannot use."""

        def check(data: dict) -> None:
            text = data.get("definition")
            if text is not None and (problems := asl.problems(text)):
                raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: '{', '.join(problems)}'")
            if text is not None:
                tasks.require_supported(json.loads(text))
            known = self._ministack.states._state_machines.get(data.get("stateMachineArn", "")) or {}
            role_arn = data.get("roleArn") or known.get("roleArn", "")
            if "roleArn" in data:
                passed = {"iam:PassedToService": "states.amazonaws.com"}
                self._identity.require_of_requester(Permission("iam:PassRole", role_arn, passed))
            if data.get("tags"):
                arn = self._site.arn("states", f"stateMachine:{data.get('name')}")
                self._identity.require_of_requester(Permission("states:TagResource", arn))
            if not self._identity.trusts(role_arn, "states.amazonaws.com"):
                raise AwsError(
                    "AccessDeniedException",
                    "Neither the global service principal states.amazonaws.com, nor the regional one is authorized "
                    "to assume the provided role.",
                )
            for work in tasks.managed_rules(tasks.task_resources(text)) if text is not None else ():
                self._ensure_managed_rule(role_arn, work)

        create = self._ministack.states._create_state_machine

        def create_state_machine(data: dict) -> tuple:
            answer = create(data)
            if answer[0] == 400 and b"StateMachineAlreadyExists" in answer[2]:
                # Clients read the ARN from between the quotes.
                arn = self._site.arn("states", f"stateMachine:{data.get('name')}")
                return refusal(AwsError("StateMachineAlreadyExists", f"State Machine Already Exists: '{arn}'"))
            return answer

        self._ministack.states._create_state_machine = create_state_machine
        for name in ("_create_state_machine", "_update_state_machine"):
            setattr(self._ministack.states, name, guarded(check, getattr(self._ministack.states, name)))

        def validate(data: dict) -> tuple:
            found = [
                {"severity": "ERROR", "code": problem.partition(":")[0], "message": problem}
                for problem in asl.problems(data.get("definition", ""))
            ]
            answer = {"result": "FAIL" if found else "OK", "diagnostics": found, "truncated": False}
            return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(answer).encode()

        self._ministack.states._validate_state_machine_definition = validate

    def _ensure_managed_rule(self, role_arn: str, work: Work) -> None:
        caller = self._identity.role_caller(role_arn, "states.amazonaws.com", "managed-rule")
        try:
            caller.require(*tasks.managed_rule_permissions(self._site, work.rule))
        except AwsError as error:
            raise AwsError(
                "AccessDeniedException", f"'{role_arn}' is not authorized to create managed-rule."
            ) from error
        events = self._ministack.events
        events._ensure_default_bus()
        made = events._put_rule(
            {
                "Name": work.rule,
                "EventPattern": json.dumps(work.pattern),
                "Description": f"This rule is used to notify Step Functions regarding integrated {work.errors.prefix}"
                " jobs",
            }
        )
        if made[0] != 200:
            raise RuntimeError(f"the managed rule could not be made: {made[2].decode()}")
        events._rules[events._rule_key(work.rule, "default")]["ManagedBy"] = "states.amazonaws.com"
        target = {"Id": "StepFunctions", "Arn": self._site.arn("states", "managed-rule")}
        events._put_targets({"Rule": work.rule, "Targets": [target]})
