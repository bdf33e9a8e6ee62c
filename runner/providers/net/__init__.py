"""What every network provider stands on. ``docs/add_a_provider.md`` shows how to use it."""

from runner.providers.net.faults import FaultRules, bad_response, one_line
from runner.providers.net.http import Http, bearer
from runner.providers.net.inputs import (
    InputImage,
    Inputs,
    alpha_mask,
    grey_mask,
    inverted_mask,
    size_problem,
)
from runner.providers.net.native import given, native_fields
from runner.providers.net.payload import encode_data_url
from runner.providers.net.wire import Part, Reply, json_object, require

__all__ = [
    "FaultRules",
    "Http",
    "InputImage",
    "Inputs",
    "Part",
    "Reply",
    "alpha_mask",
    "bad_response",
    "bearer",
    "encode_data_url",
    "given",
    "grey_mask",
    "inverted_mask",
    "json_object",
    "native_fields",
    "one_line",
    "require",
    "size_problem",
]
