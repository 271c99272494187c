"""Check of state machine definitions: what CreateStateMachine on AWS refuses is refused here.

Fields per state type and the words of the diagnostics are those that AWS's
ValidateStateMachineDefinition gives; where it has no published words, ours
keep its style. The codes are those of its API reference.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from helpers.local_aws.states import tasks

MAX_CHARACTERS = 1_048_576
TRANSITION = "MISSING_TRANSITION_TARGET"

# -- Values ------------------------------------------------------------------------------------------

_NAME = r"[^.\[\]()\s,'\"]+"
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
# Each text is to fit in one way only, brackets as a whole: else a long one that does not would be tried in all ways.
_BRACKETS = (
    rf"(?>\[\s*(?:(?:{_QUOTED})(?:\s*,\s*(?:{_QUOTED}))*|\*|-?\d+(?:\s*,\s*-?\d+)*"
    r"|-?\d*(?::-?\d*){1,2}|\?\(.+?\))\s*\])"
)
PATH = re.compile(rf"\$(?:\$|[A-Za-z_]\w*)?(?:\.\.?{_NAME}|{_BRACKETS})*")
REFERENCE = re.compile(rf"\$(?:\.{_NAME}|\[\s*(?:{_QUOTED}|\d+)\s*\])*")
LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
CALL = re.compile(r"States\.(\w+)\(\s*")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
RESOURCE = re.compile(
    r"arn:aws[a-z-]*:(lambda:[a-z0-9-]+:\d{12}:function:[\w-]+(:[\w$-]+)?"
    r"|states:[a-z0-9-]+:\d{12}:activity:[^\s:]+"
    r"|states:[a-z0-9-]*:(\d{12})?:(aws-sdk:)?[a-z0-9-]+:[A-Za-z0-9]+(\.sync(:2)?|\.waitForTaskToken)?)"
)
# Intrinsic functions with the least and the most arguments that each takes.
INTRINSICS = {
    "Format": (1, 99), "StringToJson": (1, 1), "JsonToString": (1, 1), "Array": (0, 999), "ArrayPartition": (2, 2),
    "ArrayContains": (2, 2), "ArrayRange": (3, 3), "ArrayGetItem": (2, 2), "ArrayLength": (1, 1),
    "ArrayUnique": (1, 1), "Base64Encode": (1, 1), "Base64Decode": (1, 1), "Hash": (2, 2), "JsonMerge": (3, 3),
    "MathRandom": (2, 3), "MathAdd": (2, 2), "StringSplit": (2, 2), "UUID": (0, 0),
}  # fmt: skip


def is_path(value: object) -> bool:
    """Whether ``value`` is a JSONPath as Step Functions takes it: input ($), context ($$) or a variable ($name)."""
    return isinstance(value, str) and bool(PATH.fullmatch(value))


def is_intrinsic(value: object) -> bool:
    """Whether ``value`` is a call of an intrinsic function, arguments and all."""
    return isinstance(value, str) and _call_end(value, 0) == len(value)


def _call_end(text: str, start: int) -> int | None:
    """Return where the intrinsic call that begins at ``start`` ends, or None if none does."""
    head = CALL.match(text, start)
    if not head or head[1] not in INTRINSICS:
        return None
    position, count = head.end(), 0
    while not text.startswith(")", position):
        if count:
            comma = re.compile(r"\s*,\s*").match(text, position)
            if not comma:
                return None
            position = comma.end()
        simple = PATH.match(text, position) or LITERAL.match(text, position)
        end = simple.end() if simple else _call_end(text, position)
        if end is None:
            return None
        space = re.compile(r"\s*").match(text, end)
        position, count = space.end() if space and text.startswith(")", space.end()) else end, count + 1
    least, most = INTRINSICS[head[1]]
    return position + 1 if least <= count <= most else None


def _whole(least: int, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _jsonata(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{%") and value.endswith("%}")


def _is_timestamp(value: Any) -> bool:
    return _jsonata(value) or (isinstance(value, str) and bool(TIMESTAMP.fullmatch(value)))


# What a value must satisfy, and what is said of one that does not.
Rule = tuple[Callable[[Any], bool], str]
TEXT: Rule = (lambda v: isinstance(v, str), "Expected value of type String")
FLAG: Rule = (lambda v: isinstance(v, bool), "Expected value of type Boolean")
OBJECT: Rule = (lambda v: isinstance(v, dict), "Expected value of type Object")
NUMBER: Rule = (_number, "Expected value of type Number")
COUNT: Rule = (lambda v: _whole(0, v) or _jsonata(v), "Expected value of type Integer, 0 or greater")
POSITIVE: Rule = (lambda v: _whole(1, v) or _jsonata(v), "Expected value of type Integer, 1 or greater")
RATE: Rule = (lambda v: _number(v) and v >= 1, "Expected value of type Float, 1.0 or greater")
ANY_PATH: Rule = (is_path, "Value must be a valid JSONPath.")
NULLABLE_PATH: Rule = (lambda v: v is None or is_path(v), ANY_PATH[1])
PATH_OR_CALL: Rule = (lambda v: is_path(v) or is_intrinsic(v), ANY_PATH[1])
REFERENCE_PATH: Rule = (
    lambda v: v is None or (isinstance(v, str) and bool(REFERENCE.fullmatch(v))),
    "Value is not a Reference Path",
)
ARN: Rule = (lambda v: isinstance(v, str) and bool(RESOURCE.fullmatch(v)), "Value is not a valid resource ARN")
MOMENT: Rule = (_is_timestamp, "Value is not a timestamp")


def _among(*values: object) -> Rule:
    words = f"Value should be one of the following: [{', '.join(map(str, values))}]"
    return (lambda v: any(v is value or (isinstance(v, str) and v == value) for value in values)), words


VALUES: dict[str, Rule] = {
    "Comment": TEXT, "QueryLanguage": _among("JSONPath", "JSONata"), "Version": _among("1.0"), "StartAt": TEXT,
    "States": OBJECT, "TimeoutSeconds": POSITIVE, "HeartbeatSeconds": POSITIVE, "Next": TEXT, "Default": TEXT,
    "End": _among(True), "Resource": ARN, "InputPath": NULLABLE_PATH, "OutputPath": NULLABLE_PATH,
    "ResultPath": REFERENCE_PATH, "ItemsPath": ANY_PATH, "TimeoutSecondsPath": ANY_PATH,
    "HeartbeatSecondsPath": ANY_PATH, "SecondsPath": ANY_PATH, "TimestampPath": ANY_PATH,
    "MaxConcurrencyPath": ANY_PATH, "ToleratedFailureCountPath": ANY_PATH, "ToleratedFailurePercentagePath": ANY_PATH,
    "ErrorPath": PATH_OR_CALL, "CausePath": PATH_OR_CALL, "Error": TEXT, "Cause": TEXT, "Seconds": COUNT,
    "Timestamp": MOMENT, "MaxConcurrency": COUNT, "ToleratedFailureCount": COUNT, "Label": TEXT, "ItemReader": OBJECT,
    "ItemBatcher": OBJECT, "ResultWriter": OBJECT, "ProcessorConfig": OBJECT, "Credentials": OBJECT, "Assign": OBJECT,
    "ItemProcessor": OBJECT, "Iterator": OBJECT, "IntervalSeconds": POSITIVE, "MaxAttempts": COUNT,
    "MaxDelaySeconds": POSITIVE, "BackoffRate": RATE, "JitterStrategy": _among("NONE", "FULL"), "Variable": ANY_PATH,
    "Condition": TEXT, "Not": OBJECT,
}  # fmt: skip

# -- Fields ------------------------------------------------------------------------------------------

MACHINE = {"Comment", "StartAt", "States"}
ROOT = MACHINE | {"QueryLanguage", "TimeoutSeconds", "Version"}
COMMON = {"Type", "Comment", "QueryLanguage"}
FLOW = {"InputPath", "OutputPath", "Output", "Assign", "Next", "End"}
WORK = FLOW | {"ResultPath", "Parameters", "ResultSelector", "Retry", "Catch"}
FIELDS = {
    "Task": COMMON | WORK | {"Arguments", "Resource", "Credentials", "TimeoutSeconds", "TimeoutSecondsPath"}
    | {"HeartbeatSeconds", "HeartbeatSecondsPath"},
    "Wait": COMMON | FLOW | {"Seconds", "Timestamp", "SecondsPath", "TimestampPath"},
    "Pass": COMMON | FLOW | {"Result", "ResultPath", "Parameters"},
    "Succeed": COMMON | {"InputPath", "OutputPath", "Output"},
    "Fail": COMMON | {"Error", "Cause", "ErrorPath", "CausePath"},
    "Choice": COMMON | {"InputPath", "OutputPath", "Output", "Assign", "Choices", "Default"},
    "Parallel": COMMON | WORK | {"Arguments", "Branches"},
    "Map": COMMON | WORK | {"ItemProcessor", "Iterator", "ItemsPath", "Items", "ItemSelector", "ItemReader", "Label"}
    | {"ItemBatcher", "ResultWriter", "MaxConcurrency", "MaxConcurrencyPath", "ToleratedFailureCount"}
    | {"ToleratedFailureCountPath", "ToleratedFailurePercentage", "ToleratedFailurePercentagePath"},
}  # fmt: skip
REQUIRED = {"Task": ["Resource"], "Choice": ["Choices"], "Parallel": ["Branches"]}
EXACTLY_ONE: dict[str, list[tuple[str, ...]]] = {
    kind: [("Next", "End")] if "Next" in fields else [] for kind, fields in FIELDS.items()
}
EXACTLY_ONE["Wait"].append(("SecondsPath", "Seconds", "TimestampPath", "Timestamp"))
EXACTLY_ONE["Map"].append(("ItemProcessor", "Iterator"))
_OR_PATH = ("TimeoutSeconds", "HeartbeatSeconds", "MaxConcurrency", "ToleratedFailureCount", "Error", "Cause")
AT_MOST_ONE = [(name, f"{name}Path") for name in (*_OR_PATH, "ToleratedFailurePercentage")]
TEMPLATES = {"Parameters", "ResultSelector", "ItemSelector", "Assign", "Credentials"}
TEMPLATES |= {"ItemReader", "ItemBatcher", "ResultWriter"}
JSONATA_ONLY = {"Arguments", "Output", "Items", "Condition"}
JSONPATH_ONLY = {name for name in VALUES if name.endswith("Path")} | {"Parameters", "ResultSelector", "Variable"}
RETRY = {"Comment", "ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds", "JitterStrategy"}
CATCH = {"Comment", "ErrorEquals", "Next", "ResultPath", "Assign", "Output"}
_ORDER = ("Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals")
COMPARISONS = {
    f"{kind}{order}{path}" for kind in ("String", "Numeric", "Timestamp") for order in _ORDER for path in ("", "Path")
}
COMPARISONS |= {"BooleanEquals", "BooleanEqualsPath", "StringMatches"}
COMPARISONS |= {"IsNull", "IsPresent", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp"}
RULE_KINDS = ("And", "Or", "Not", "Variable", "Condition")


def problems(definition: str) -> list[str]:
    """Return why AWS would refuse this definition: ``CODE: message at /path`` each; empty if it would take it."""
    if len(definition) > MAX_CHARACTERS:
        return [f"SCHEMA_VALIDATION_FAILED: The definition is longer than {MAX_CHARACTERS} characters at /"]
    check = _Check()
    try:
        machine = json.loads(definition)
        if not isinstance(machine, dict):
            return ["INVALID_JSON_DESCRIPTION: the definition is not a JSON object"]
        check.machine(machine, "", ROOT, machine.get("QueryLanguage", "JSONPath"))
    except ValueError as error:
        return [f"INVALID_JSON_DESCRIPTION: {error}"]
    except RecursionError:
        return ["TOO_DEEPLY_NESTED: The states are too deeply nested."]
    return check.found


class _Check:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.names: set[str] = set()

    def report(self, path: str, message: str, code: str = "SCHEMA_VALIDATION_FAILED") -> None:
        self.found.append(f"{code}: {message} at {path or '/'}")

    def fields(self, item: dict, path: str, allowed: set[str], required: list[str], language: str) -> None:
        """Check the presence of fields, their query language and the values that need no context."""
        if missing := [name for name in required if name not in item]:
            self.report(path, f"These fields are required: [{', '.join(missing)}]")
        foreign = JSONPATH_ONLY if language == "JSONata" else JSONATA_ONLY
        for name, value in item.items():
            if name not in allowed:
                self.report(path, f"Field '{name}' is not supported")
            elif name in foreign:
                only = "JSONPath" if language == "JSONata" else "JSONata"
                words = f"but field '{name}' is only supported for the '{only}' QueryLanguage"
                self.report(path, f"The QueryLanguage is set to '{language}', {words}")
            elif name in VALUES and not VALUES[name][0](value):
                self.report(f"{path}/{name}", VALUES[name][1])
            elif name in TEMPLATES and language != "JSONata":
                self.template(value, f"{path}/{name}")

    def one_of(self, item: dict, path: str, names: tuple[str, ...], *, needed: bool) -> None:
        given = [name for name in names if name in item]
        if len(given) > 1:
            self.report(path, f"There should only be one of the following fields: [{', '.join(names)}]")
        elif needed and not given:
            self.report(path, f"This object should have only one of the following fields: [{', '.join(names)}]")

    def objects(self, value: Any, path: str) -> list[tuple[str, dict]]:
        """Return the objects of a list that must not be empty, each with its path."""
        if not isinstance(value, list) or not value:
            self.report(path, "Value cannot be empty" if value == [] else "Expected value of type Array")
            return []
        items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        for place, item in items:
            if not isinstance(item, dict):
                self.report(place, OBJECT[1])
        return [(place, item) for place, item in items if isinstance(item, dict)]

    def template(self, value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if name.endswith(".$") and not (is_path(item) or is_intrinsic(item)):
                    words = "must be a valid JSONPath or a valid intrinsic function call"
                    self.report(path, f"The value for the field '{name}' {words}")
                elif not name.endswith(".$"):
                    self.template(item, f"{path}/{name}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.template(item, f"{path}[{index}]")

    def machine(self, machine: dict, path: str, allowed: set[str], language: str) -> None:
        self.fields(machine, path, allowed, ["StartAt", "States"], language)
        states = machine.get("States")
        if not isinstance(states, dict) or "StartAt" not in machine:
            return
        if not states:
            self.report(f"{path}/States", "Value cannot be empty")
        targets: dict[str, list[tuple[str, str]]] = {}
        for name, state in states.items():
            place = f"{path}/States/{name}"
            if name in self.names:
                self.report(place, f"Duplicate State name: {name}", "DUPLICATE_STATE_NAME")
            if not 0 < len(name) <= 80:
                self.report(place, "A state's name has 1 to 80 characters", "INVALID_STATE_NAME")
            self.names.add(name)
            if not isinstance(state, dict):
                self.report(place, OBJECT[1])
                continue
            self.state(state, place, language)
            targets[name] = list(_targets(state, place))
        self.graph(machine, states, targets, path)

    def graph(self, machine: dict, states: dict, targets: dict[str, list[tuple[str, str]]], path: str) -> None:
        """Check that transitions lead somewhere, that the machine can end and that every state can be reached."""
        start = (f"{path}/StartAt", machine["StartAt"])
        for place, target in [start, *(edge for edges in targets.values() for edge in edges)]:
            if isinstance(target, str) and target not in states:
                self.report(place, f"Missing 'Next' target: {target}", TRANSITION)
        known = [state for state in states.values() if isinstance(state, dict)]
        if states and not any(s.get("End") is True or s.get("Type") in ("Succeed", "Fail") for s in known):
            self.report("null", "Workflow has no terminal state", "MISSING_END_STATE")
            return
        reached: set[str] = set()
        waiting = [start[1]] if isinstance(start[1], str) else []
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += [target for _, target in targets.get(name, []) if isinstance(target, str)]
        for name in [name for name in states if name not in reached]:
            self.report(f"{path}/States/{name}", f'State "{name}" is not reachable.', TRANSITION)

    def state(self, state: dict, path: str, language: str) -> None:
        kind = state.get("Type")
        if "Type" not in state:
            self.report(path, "These fields are required: [Type]")
        elif not isinstance(kind, str) or kind not in FIELDS:
            self.report(f"{path}/Type", f"The field 'Type' should have one of these values: [{', '.join(FIELDS)}]")
        if not isinstance(kind, str) or kind not in FIELDS:
            return
        own = state.get("QueryLanguage", language)
        if language == "JSONata" and own == "JSONPath":
            self.report(path, "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine")
        self.fields(state, path, FIELDS[kind], REQUIRED.get(kind, []), own)
        for names in EXACTLY_ONE[kind]:
            self.one_of(state, path, names, needed=True)
        for names in AT_MOST_ONE:
            self.one_of(state, path, names, needed=False)
        timeout, heartbeat = state.get("TimeoutSeconds", 0), state.get("HeartbeatSeconds", 0)
        if _whole(1, timeout) and _whole(1, heartbeat) and heartbeat >= timeout:
            self.report(f"{path}/HeartbeatSeconds", "HeartbeatSeconds must be smaller than TimeoutSeconds")
        for name, allowed, required in (("Retry", RETRY, ["ErrorEquals"]), ("Catch", CATCH, ["ErrorEquals", "Next"])):
            if name in state and name in FIELDS[kind]:
                self.handlers(state[name], f"{path}/{name}", allowed, required, own)
        for field, problem in tasks.parameter_problems(state) if kind == "Task" else ():
            self.report(f"{path}/{field}", problem)
        self.nested(state, path, language, own)

    def nested(self, state: dict, path: str, language: str, own: str) -> None:
        """Check a Choice's rules and the machines inside of a Parallel or a Map.

        States in there take the query language of the whole machine, not of the state around them.
        """
        kind = state["Type"]
        if kind == "Choice" and "Choices" in state:
            for place, rule in self.objects(state["Choices"], f"{path}/Choices"):
                self.rule(rule, place, own, top=True)
        if kind == "Parallel" and "Branches" in state:
            for place, branch in self.objects(state["Branches"], f"{path}/Branches"):
                self.machine(branch, place, MACHINE, language)
        for name in ("ItemProcessor", "Iterator"):
            if kind == "Map" and isinstance(state.get(name), dict):
                self.machine(state[name], f"{path}/{name}", MACHINE | {"ProcessorConfig"}, language)
                self.processor(state[name].get("ProcessorConfig"), f"{path}/{name}/ProcessorConfig")

    def processor(self, config: Any, path: str) -> None:
        """Check how a Map says that its items run. Items that are executions of their own need a type."""
        config = config if isinstance(config, dict) else {}
        valid, words = _among("INLINE", "DISTRIBUTED")
        if not valid(config.get("Mode", "INLINE")):
            self.report(f"{path}/Mode", words)
        valid, words = _among("STANDARD", "EXPRESS")
        if config.get("Mode") == "DISTRIBUTED" and not valid(config.get("ExecutionType")):
            self.report(f"{path}/ExecutionType", words)

    def handlers(self, value: Any, path: str, allowed: set[str], required: list[str], language: str) -> None:
        if value == []:  # taken by AWS: nothing to retry, nothing to catch
            return
        items = self.objects(value, path)
        for index, (place, item) in enumerate(items, 1):
            self.fields(item, place, allowed, required, language)
            errors = item.get("ErrorEquals", ["none"])
            if not isinstance(errors, list) or not all(isinstance(error, str) for error in errors):
                self.report(f"{place}/ErrorEquals", "Expected value of type Array of String")
            elif not errors:
                self.report(f"{place}/ErrorEquals", "Value cannot be empty")
            elif "States.ALL" in errors and (len(errors) > 1 or index < len(items)):
                self.report(f"{place}/ErrorEquals", "States.ALL must appear alone and at end of list")

    def rule(self, rule: dict, path: str, language: str, *, top: bool) -> None:
        """Check one rule of a Choice, and the rules inside it."""
        extra = {"Next", "Comment", "Assign", "Output"} if top else {"Comment"}
        self.fields(rule, path, {*RULE_KINDS, *COMPARISONS, *extra}, ["Next"] if top else [], language)
        self.one_of(rule, path, RULE_KINDS, needed=True)
        comparisons = [name for name in rule if name in COMPARISONS]
        if len(comparisons) != ("Variable" in rule):
            self.report(path, "A rule with Variable, and no other, should have only one comparison")
        for name in comparisons:
            valid, words = _operand(name)
            if not valid(rule[name]):
                self.report(f"{path}/{name}", words)
        for name in ("And", "Or"):
            for place, inner in self.objects(rule[name], f"{path}/{name}") if name in rule else []:
                self.rule(inner, place, language, top=False)
        if isinstance(rule.get("Not"), dict):
            self.rule(rule["Not"], f"{path}/Not", language, top=False)


def _operand(comparison: str) -> Rule:
    if comparison.endswith("Path"):
        return ANY_PATH
    kinds = {"Is": FLAG, "Boolean": FLAG, "Numeric": NUMBER, "Timestamp": MOMENT, "String": TEXT}
    return next(rule for kind, rule in kinds.items() if comparison.startswith(kind))


def _targets(state: dict, path: str) -> Iterator[tuple[str, str]]:
    """Yield every transition of a state: where it is written, and the name that it leads to."""
    for name in ("Next", "Default"):
        if name in state:
            yield f"{path}/{name}", state[name]
    for name in ("Choices", "Catch"):
        items = state.get(name)
        for index, item in enumerate(items if isinstance(items, list) else []):
            if isinstance(item, dict) and "Next" in item:
                yield f"{path}/{name}[{index}]/Next", item["Next"]
