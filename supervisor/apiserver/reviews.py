"""What clients ask about themselves: who they are, and what they may do.

Whoever gets as far as this holds the node's token or is its owner, so everything is allowed.
Reviews are answered and never stored.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.api import schema
from supervisor.apiserver import metadata, reading
from supervisor.apiserver.contract import Answer, Json, Resource, WriteOptions, bad_request

_EVERYTHING = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


def answer(
    resource: Resource,
    body: Json,
    options: WriteOptions,
    user: str,
    is_token: Callable[[str], bool],
) -> Answer:
    """The review with its status. `is_token`: whether a token is the user's. Raises ApiError
    (BadRequest)."""
    body = metadata.addressed(resource, "", "", body)
    # Older versions of a review have the same fields.
    model = schema.MODELS[f"{resource.group}/v1", resource.kind]
    _, warnings = reading.typed(model, body, options.validation, options.repeated)
    spec = body.get("spec") or {}
    who = {"username": user, "groups": ["system:masters", "system:authenticated"]}
    status: Json
    match resource.kind:
        case "SelfSubjectAccessReview":
            if not spec.get("resourceAttributes") and not spec.get("nonResourceAttributes"):
                raise bad_request(
                    "spec: must have resourceAttributes or nonResourceAttributes: what is asked for"
                )
            status = {"allowed": True, "reason": "there is one user, who may do everything"}
        case "SelfSubjectRulesReview":
            status = _EVERYTHING
        case "SelfSubjectReview":
            status = {"userInfo": who}
        case "TokenReview":
            if is_token(spec.get("token") or ""):
                status = {"authenticated": True, "user": who}
            else:
                status = {"authenticated": False, "error": "it is not the token of this node"}
        case kind:
            raise AssertionError(f"{kind} is no review")
    return Answer(object=body | {"status": status}, created=True, warnings=warnings)
