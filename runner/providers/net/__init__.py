"""What every network provider stands on. ``docs/add_a_provider.md`` shows how to use it."""

from runner.providers.net.faults import FaultRules, bad_response, one_line
from runner.providers.net.http import Http, bearer
from runner.providers.net.inputs import (
    InputImage,
    Inputs,
    alpha_mask,
    binary_mask,
    file_identity,
    grey_mask,
    inverted_mask,
    pixels_of,
    size_problem,
)
from runner.providers.net.jobs import JobError, Jobs, Pace, Running, sent_fields
from runner.providers.net.native import given, native_fields
from runner.providers.net.outputs import Found, take_all, text
from runner.providers.net.payload import encode_data_url
from runner.providers.net.wire import Part, Reply, json_object, require

__all__ = [
    "FaultRules",
    "Found",
    "Http",
    "InputImage",
    "Inputs",
    "JobError",
    "Jobs",
    "Pace",
    "Part",
    "Reply",
    "Running",
    "alpha_mask",
    "bad_response",
    "bearer",
    "binary_mask",
    "encode_data_url",
    "file_identity",
    "given",
    "grey_mask",
    "inverted_mask",
    "json_object",
    "native_fields",
    "one_line",
    "pixels_of",
    "require",
    "sent_fields",
    "size_problem",
    "take_all",
    "text",
]
