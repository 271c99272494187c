"""IAM's policy simulator, where ministack's own differs from AWS's."""

import itertools
from typing import Any
from xml.sax.saxutils import escape

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.wire import Site


def install_simulator(site: Site, ministack: Ministack) -> None:
    """Simulate as AWS does: roles with a path, several resources, and the context that the caller gives."""
    iam = ministack.iam

    def members(params: dict, name: str, *suffix: str) -> list[str]:
        wanted = (iam._p(params, ".".join((name, "member", str(n), *suffix))) for n in itertools.count(1))
        return list(itertools.takewhile(bool, wanted))

    def simulate(params: dict) -> tuple:
        source = iam._p(params, "PolicySourceArn")
        kind, _, name = source.rpartition(":")[2].partition("/")
        name = name.rpartition("/")[2]
        gather = (
            ministack.evaluator._gather_user_policies if kind == "user" else ministack.evaluator._gather_role_policies
        )
        found = gather(name, site.account_id)
        # A request that names no tags has no aws:TagKeys.
        context: dict[str, Any] = {"aws:tagkeys": None}
        for n, key in enumerate(members(params, "ContextEntries", "ContextKeyName"), 1):
            values = members(params, f"ContextEntries.member.{n}.ContextKeyValues")
            several = iam._p(params, f"ContextEntries.member.{n}.ContextKeyType").endswith("List")
            context[key.lower()] = values if several or len(values) != 1 else values[0]
        results = []
        for action, resource in itertools.product(
            members(params, "ActionNames"), members(params, "ResourceArns") or ["*"]
        ):
            question = ministack.evaluator.EvalContext(
                principal_arn=source,
                principal_type="User" if kind == "user" else "AssumedRole",
                principal_account=site.account_id,
                action=action,
                resource_arn=resource,
                region=site.region,
                service_context=context,
            )
            decision = ministack.evaluator.evaluate(question, found).decision
            decision = {"Allow": "allowed", "Deny": "explicitDeny"}.get(decision, "implicitDeny")
            answer = {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision}
            inner = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in answer.items())
            results.append(f"<member>{inner}</member>")
        body = f"<EvaluationResults>{''.join(results)}</EvaluationResults><IsTruncated>false</IsTruncated>"
        name = "SimulatePrincipalPolicy"
        return iam._xml(200, f"{name}Response", f"<{name}Result>{body}</{name}Result>", ns="iam")

    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = simulate
