"""Which names of ministack we use or replace, and how it is configured and imported."""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.wire import Site

# The services that ministack answers. Its others either pretend to run things or
# have not been held against AWS's permissions yet: they are refused by name.
SERVICES = (
    "s3", "iam", "sts", "lambda", "states", "logs", "events", "dynamodb", "sns", "sqs", "ssm",
)  # fmt: skip

HOOKS = {
    "ministack.app": ["SERVICE_HANDLERS", "_dispatch_service_request", "app", "call_service_handler_sync"],
    "ministack.core.iam_actions": [
        "_TAG_OPERATIONS", "access_denied_response", "extract_iam_action", "extract_resource_arn",
        "identity_denial_message", "s3_service_context",
    ],
    "ministack.core.iam_evaluator": [
        "AuthError", "CredentialResolutionError", "EvalContext", "_fnmatch_compile", "_gather_role_policies",
        "_gather_user_policies", "authenticate", "enforce", "evaluate", "evaluate_resource_policy",
        "is_root_access_key", "pin_signed_body", "pin_signed_request", "resolve_credential",
    ],
    "ministack.core.router": ["extract_access_key_id"],
    "ministack.services.cloudwatch_logs": [
        "_build_log_record", "_create_log_group", "_create_log_stream", "_log_groups", "_log_records",
        "_put_log_events",
    ],
    "ministack.services.eventbridge": [
        "_ensure_default_bus", "_events_log_list", "_invoke_target", "_put_rule", "_put_targets", "_rule_key", "_rules",
        "_targets", "start_scheduler",
    ],
    "ministack.services.iam": [
        "_IAM_HANDLERS", "_access_keys", "_aws_managed_policies", "_instance_profiles", "_make_aws_managed_record",
        "_p", "_roles", "_users", "_xml",
    ],
    "ministack.services.lambda_svc": [
        "_create_function", "_execute_function", "_execute_function_dispatch", "_get_base_func_record_for_ref",
        "_get_func_record_for_ref", "_invoke", "_update_code", "_update_config", "invoke_async_with_retry",
    ],
    "ministack.services.s3": [
        "_bucket_notifications", "_buckets", "_collect_list_entries", "_cors_pattern_matches", "_create_bucket",
        "_deliver_event_to_sns", "_deliver_event_to_sqs", "_dispatch", "_error", "_fire_s3_event_async",
        "_fire_s3_test_event", "_no_such_bucket", "_notification_bucket_region", "_notification_destination_allows",
        "_notification_destination_exists", "_put_bucket_notification", "_resolve_sse_write_headers", "handle_request",
        "load_persisted_state",
    ],
    "ministack.services.sns": [
        "_create_topic", "_deliver_to_sqs", "_error", "_fanout", "_matches_filter_policy", "_publish",
        "_resolve_message_for_protocol", "_set_topic_attributes", "_topic_by_arn_any_scope",
    ],
    "ministack.services.sqs": ["_Err", "_HANDLERS"],
    "ministack.services.tagging": ["_RESOURCE_TAG_COLLECTORS", "_collect_eventbridge"],
    "ministack.services.stepfunctions": [
        "_ExecutionError", "_activities", "_apply_catcher", "_apply_input_path", "_apply_jsonata_arguments",
        "_apply_jsonata_output", "_apply_jsonata_template", "_apply_output_path", "_apply_parameters",
        "_apply_result_path", "_apply_state_assign", "_call_lambda", "_create_activity", "_create_state_machine",
        "_delete_activity", "_describe_activity", "_emit_execution_status_event", "_error_matches", "_evaluate_rule",
        "_execute_choice", "_execute_pass", "_executions", "_fail_execution", "_fail_state_error",
        "_find_matching_catcher", "_find_matching_retrier", "_get_activity_task", "_invoke_resource",
        "_invoke_resource_with_timeout", "_jsonata_state_field", "_jsonata_wait_seconds", "_jsonata_wait_timestamp",
        "_list_activities", "_map_runs", "_next_or_end", "_resolve_params_obj", "_resolve_path_or_ctx",
        "_run_execution", "_send_task_failure", "_send_task_heartbeat", "_send_task_success", "_start_execution",
        "_state_machines", "_state_query_language", "_stop_execution", "_tags", "_update_state_machine",
        "_validate_state_machine_definition", "jsonata", "load_persisted_state", "new_uuid", "now_iso",
    ],
    "ministack.services.sts": ["_sessions", "get_state", "load_persisted_state", "register_session"],
}  # fmt: skip

# Of modules that are large and that many do without: imported, and looked at, when they are first used.
LATER_HOOKS = {
    "ministack.services.dynamodb": [
        "_apply_update_expression", "_eval_set_value", "_find_matching_paren", "_parse_path_from_tokens",
        "_split_by_comma", "_tables", "_tokenize",
    ],
}  # fmt: skip


def check_hooks(hooks: Mapping[str, Sequence[str]] = HOOKS) -> None:
    """Raise RuntimeError naming every hook that this version of ministack no longer has."""
    missing = [
        f"{module}.{name}"
        for module, names in hooks.items()
        for name in names
        if not hasattr(importlib.import_module(module), name)
    ]
    if missing:
        raise RuntimeError(f"ministack has changed; the embedded AWS needs: {', '.join(missing)}")


def configure(site: Site, port: int) -> None:
    """Set the environment that ministack reads at import. Must run before anything imports it."""
    state = site.state_dir / "ministack"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # ministack treats AWS_ACCESS_KEY_ID as root, and the server needs no credentials
    os.environ.update(
        AUTH="true",
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_ACCOUNT_ID=site.account_id,
        MINISTACK_REGION=site.region,
        SERVICES=",".join(SERVICES),
        PERSIST_STATE="1",
        STATE_DIR=str(state / "services"),
        S3_PERSIST="1",
        S3_DATA_DIR=str(state / "s3"),
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent",  # ministack removes containers that it thinks are its own
        LOG_LEVEL=os.environ.get("LOG_LEVEL", "WARNING"),
    )
    for folder in ("services", "s3"):
        (state / folder).mkdir(parents=True, exist_ok=True, mode=0o700)


class Ministack:
    """ministack's modules, imported in this process."""

    def __init__(self) -> None:
        """Import them. ``configure`` ran before. Raises RuntimeError when a hook is gone."""
        check_hooks()
        self.app: Any = importlib.import_module("ministack.app")
        self.actions: Any = importlib.import_module("ministack.core.iam_actions")
        self.evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
        self.router: Any = importlib.import_module("ministack.core.router")
        self.iam: Any = importlib.import_module("ministack.services.iam")
        self.sts: Any = importlib.import_module("ministack.services.sts")
        self.functions: Any = importlib.import_module("ministack.services.lambda_svc")
        self.logs: Any = importlib.import_module("ministack.services.cloudwatch_logs")
        self.s3: Any = importlib.import_module("ministack.services.s3")
        self.states: Any = importlib.import_module("ministack.services.stepfunctions")
        self.events: Any = importlib.import_module("ministack.services.eventbridge")

    def module(self, name: str) -> Any:
        """Return the module of a service, imported now if it is not yet. Raises RuntimeError when a hook is gone."""
        full = f"ministack.services.{name}"
        check_hooks({full: LATER_HOOKS.get(full, [])})
        return importlib.import_module(full)
