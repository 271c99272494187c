"""DynamoDB: update expressions that AWS refuses and ministack would carry out some way or other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.local_aws.seam.hooks import Ministack

_SECTIONS = ("SET", "REMOVE", "ADD", "DELETE")
_WRONG_TYPE = "An operand in the update expression has an incorrect data type"

Token = tuple[Any, ...]
Path = tuple[Any, ...]


class Tables:
    """What differs from ministack's DynamoDB."""

    def __init__(self, ministack: Ministack) -> None:
        self._ministack, self._handlers = ministack, ministack.app.SERVICE_HANDLERS

    def install(self) -> None:
        """Put the checks in with the first request: the module is large, and many do without DynamoDB."""
        serve = self._handlers["dynamodb"]

        async def first(*request: Any) -> tuple:
            self._handlers["dynamodb"] = serve
            self._check_updates(self._ministack.module("dynamodb"))
            return await serve(*request)

        self._handlers["dynamodb"] = first

    def _check_updates(self, dynamodb: Any) -> None:
        apply, evaluate = dynamodb._apply_update_expression, dynamodb._eval_set_value

        def checked(item: Any, expression: str, values: Any, names: Any, *more: Any) -> Any:
            paths = list(_paths(dynamodb, dynamodb._tokenize(expression), names))
            for number, path in enumerate(paths):
                for other in paths[:number]:
                    if path[: len(other)] == other[: len(path)]:
                        raise ValueError(
                            "Invalid UpdateExpression: Two document paths overlap with each other; must remove or "
                            f"rewrite one of these paths; path one: {_shown(other)}, path two: {_shown(path)}"
                        )
            return apply(item, expression, values, names, *more)

        def typed(tokens: Sequence[Token], item: Any, values: Any, names: Any) -> Any:
            for operands, kind in _operands(dynamodb, tokens):
                for operand in operands:
                    if kind not in (typed(operand, item, values, names) or {}):
                        raise ValueError(_WRONG_TYPE)
            return evaluate(tokens, item, values, names)

        dynamodb._apply_update_expression = checked
        dynamodb._eval_set_value = typed


def _paths(dynamodb: Any, tokens: Sequence[Token], names: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths that an update changes. Raises ValueError for a section that is there twice."""
    sections: dict[str, list[Token]] = {}
    current: list[Token] = []
    for token in tokens:
        word = token[1].upper() if token[0] == "IDENT" else ""
        if word in _SECTIONS:
            if word in sections:
                message = f'The "{word}" section can only be used once in an update expression;'
                raise ValueError(f"Invalid UpdateExpression: {message}")
            current = sections[word] = []
        elif token[0] != "EOF":
            current.append(token)
    for parts in sections.values():
        for part in dynamodb._split_by_comma(parts):
            ends = [number for number, token in enumerate(part) if token[0] in ("EQ", "VALUE_REF")]
            yield tuple(dynamodb._parse_path_from_tokens(part[: ends[0]] if ends else part, names) or ())


def _operands(dynamodb: Any, tokens: Sequence[Token]) -> Iterator[tuple[list[Sequence[Token]], str]]:
    """Yield the operands of a value's sum or list_append, and the type that they must have."""
    depth = 0
    for number, token in enumerate(tokens):
        depth += {"LPAREN": 1, "RPAREN": -1}.get(token[0], 0)
        if depth == 0 and number and token[0] in ("PLUS", "MINUS"):
            yield [tokens[:number], tokens[number + 1 :]], "N"
            return
    if len(tokens) > 1 and tokens[0][0] == "IDENT" and tokens[0][1].lower() == "list_append":
        end = dynamodb._find_matching_paren(tokens, 1)
        if end is not None:
            yield dynamodb._split_by_comma(tokens[2:end]), "L"


def _shown(path: Path) -> str:
    return f"[{', '.join(f'[{part}]' if isinstance(part, int) else str(part) for part in path)}]"
