"""What clients ask about themselves: who they are, and what they may do.

Whoever gets as far as this holds the node's token or is its owner, so everything is allowed.
Reviews are answered and never stored.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.apiserver.contract import Json, Resource, bad_request

_EVERYTHING = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


def answer(resource: Resource, body: Json, user: str, is_token: Callable[[str], bool]) -> Json:
    """The review with its status. `is_token`: whether a token is the user's. Raises ApiError
    (BadRequest)."""
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request("spec: must be a mapping")
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
            token = spec.get("token")
            if isinstance(token, str) and is_token(token):
                status = {"authenticated": True, "user": who}
            else:
                status = {"authenticated": False, "error": "it is not the token of this node"}
        case kind:
            raise AssertionError(f"{kind} is no review")
    meta = body.get("metadata")
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": meta if isinstance(meta, dict) else {},
        "spec": spec,
        "status": status,
    }
