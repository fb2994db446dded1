"""Does a GraphQL document only select what may be read? Pure (design §4).

Grammar: GraphQL specification of October 2021, parsed by graphql-core.
"""

from graphql import GraphQLSyntaxError, parse
from graphql.language import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    Node,
    OperationDefinitionNode,
    OperationType,
)

MOST_TOKENS = 2_000  # of one document: 20 ms at worst, and what was judged is remembered
MOST_DEPTH = 40


def why_not_document(document: str, without_fields: frozenset[str]) -> str:
    """Why a document is not certain to read only; empty if it is.

    Args:
        document: its text.
        without_fields: what may not be selected, such as a field that answers with a token.
    """
    try:
        parsed = parse(document, no_location=True, max_tokens=MOST_TOKENS)
    except (GraphQLSyntaxError, RecursionError):
        return f"the GraphQL document does not parse, or has more than {MOST_TOKENS} tokens"
    return _why_not_parsed(parsed, without_fields)


def _why_not_parsed(document: DocumentNode, without_fields: frozenset[str]) -> str:
    operations = 0
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            operations += 1
            if definition.operation is not OperationType.QUERY:
                return f"the GraphQL document holds a {definition.operation.value}"
        elif not isinstance(definition, FragmentDefinitionNode):
            return "the GraphQL document holds something else than operations and fragments"
    if not operations:
        return "the GraphQL document holds no operation"
    return _why_not_selected(document, without_fields)


def _why_not_selected(document: DocumentNode, without_fields: frozenset[str]) -> str:
    """Walks without recursion: depth is what is being counted."""
    waiting: list[tuple[Node, int]] = [(definition, 0) for definition in document.definitions]
    while waiting:
        node, depth = waiting.pop()
        if depth > MOST_DEPTH:
            return f"GraphQL selections nested more than {MOST_DEPTH} deep are not judged"
        if isinstance(node, FieldNode) and node.name.value in without_fields:
            return f"the field {node.name.value} answers with a credential"
        selected = getattr(node, "selection_set", None)
        if selected is not None:
            waiting.extend((selection, depth + 1) for selection in selected.selections)
    return ""
