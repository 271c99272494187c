"""The operations of the CloudFormation API that only read."""

from typing import ClassVar

from helpers.local_aws.cloudformation import answers, changesets
from helpers.local_aws.cloudformation.errors import invalid, unsupported
from helpers.local_aws.cloudformation.records import Data, Stack, Stacks
from helpers.local_aws.cloudformation.template import parse
from helpers.local_aws.wire import AwsError, Caller, Params, Service, Site


class Reading(Service):
    """What is known of stacks, their resources, events, templates and change sets."""

    name: ClassVar[str] = "cloudformation"

    def __init__(self, site: Site) -> None:
        """Read the stacks of the state folder."""
        super().__init__(site)
        self.stacks = Stacks(site.state_dir / "cloudformation")

    def describe_stacks(self, params: Params, caller: Caller) -> Params:
        """Describe one stack, or all that are not deleted."""
        if "StackName" in params:
            return {"Stacks": [answers.stack(self._existing(params["StackName"]))]}
        alive = [stack for stack in self.stacks if stack.status != "DELETE_COMPLETE"]
        return answers.page("Stacks", alive, params, answers.stack)

    def list_stacks(self, params: Params, caller: Caller) -> Params:
        """List stacks, deleted ones too."""
        wanted = params.get("StackStatusFilter")
        found = [stack for stack in self.stacks if not wanted or stack.status in wanted]
        return answers.page("StackSummaries", found, params, answers.stack_summary)

    def describe_stack_events(self, params: Params, caller: Caller) -> Params:
        """Tell what happened, newest first."""
        stack = self._existing(params["StackName"], "Stack [{}] does not exist")
        events = list(reversed(stack.data["events"]))
        about = {"StackId": stack.id, "StackName": stack.name}
        return answers.page("StackEvents", events, params, lambda event: {**about, **event})

    def describe_stack_resource(self, params: Params, caller: Caller) -> Params:
        """Describe one resource."""
        stack = self._existing(params["StackName"], "Stack '{}' does not exist")
        logical = params["LogicalResourceId"]
        if logical not in stack.resources:
            raise invalid(f"Resource {logical} does not exist for stack {stack.name}")
        template = parse(stack.data["template"]) if stack.data["template"] else None
        return {"StackResourceDetail": answers.resource_detail(stack, logical, template)}

    def describe_stack_resources(self, params: Params, caller: Caller) -> Params:
        """Describe the resources of a stack."""
        if "StackName" not in params:
            raise unsupported("DescribeStackResources by PhysicalResourceId")
        stack = self._existing(params["StackName"], "Stack with id {} does not exist")
        wanted = params.get("LogicalResourceId")
        return {"StackResources": [answers.resource(stack, name) for name in sorted(stack.resources)
                                   if wanted in (None, name)]}  # fmt: skip

    def list_stack_resources(self, params: Params, caller: Caller) -> Params:
        """List the resources of a stack."""
        stack = self._existing(params["StackName"], "Stack with id {} does not exist")
        return answers.page("StackResourceSummaries", sorted(stack.resources), params,
                            lambda name: answers.resource_summary(stack, name))  # fmt: skip

    def list_exports(self, params: Params, caller: Caller) -> Params:
        """List what stacks export."""
        found = [
            {"ExportingStackId": stack.id, "Name": output["ExportName"], "Value": output["OutputValue"]}
            for stack in self.stacks
            if stack.status != "DELETE_COMPLETE"
            for output in stack.data["outputs"]
            if "ExportName" in output
        ]
        return answers.page("Exports", sorted(found, key=lambda item: item["Name"]), params, dict)

    def list_imports(self, params: Params, caller: Caller) -> Params:
        """List the stacks that import a value."""
        name = params["ExportName"]
        users = [stack.name for stack in self.stacks.importers(name)]
        if not users:
            raise invalid(f"Export '{name}' is not imported by any stack.")
        return answers.page("Imports", users, params, str)

    def get_template(self, params: Params, caller: Caller) -> Params:
        """Return a stack's template as it was given."""
        stack = self._existing(params.get("StackName", ""), "Stack with id {} does not exist")
        body = stack.data["template"]
        if "ChangeSetName" in params:
            body = changesets.find(stack, params["ChangeSetName"])["template"]
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def describe_change_set(self, params: Params, caller: Caller) -> Params:
        """Tell what a change set would change."""
        stack, record = self._change_set(params)
        return changesets.described(stack, record, params)

    def list_change_sets(self, params: Params, caller: Caller) -> Params:
        """List the change sets of a stack."""
        stack = self._existing(params["StackName"], "Stack [{}] does not exist")
        found = sorted(stack.data["change_sets"].values(), key=lambda record: record["created"])
        return answers.page("Summaries", found, params, lambda record: changesets.summary(stack, record))

    def _existing(self, name: str, words: str = "Stack with id {} does not exist") -> Stack:
        stack = self.stacks.find(name)
        if stack is None:
            raise invalid(words.format(name))
        return stack

    def _stack_of_change_set(self, params: Params) -> Stack:
        name = params["ChangeSetName"]
        if "StackName" in params:
            return self._existing(params["StackName"], "Stack [{}] does not exist")
        if not name.startswith("arn:"):
            raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
        for stack in self.stacks:
            if any(record["id"] == name for record in stack.data["change_sets"].values()):
                return stack
        raise AwsError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)

    def _change_set(self, params: Params) -> tuple[Stack, Data]:
        stack = self._stack_of_change_set(params)
        return stack, changesets.find(stack, params["ChangeSetName"])
