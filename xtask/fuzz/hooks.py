"""Hooks and checks of schemathesis for Everline: ids that exist, waits that end, and no tenant's marker in another's answer.

FUZZ_STATE names a file that `fuzz.py` has written: `ids` by the name of a path parameter's kind, and `foreign`, the
texts that must not come back.
"""

import json
import os
import zlib

import schemathesis

with open(os.environ["FUZZ_STATE"], encoding="utf-8") as file:
    STATE = json.load(file)

TALLY = os.environ["FUZZ_TALLY"]
LONGEST_WAIT_MS = 50


def ids_for(path, name):
    """The ids that fit a parameter of a path."""
    before = path.split("{" + name + "}")[0].rstrip("/").split("/")[-1]
    return STATE["ids"].get({"diff": "executions"}.get(before, before), [])


@schemathesis.hook
def before_call(context, case, kwargs):
    """Offers ids that exist, those of another tenant among them, and lets nothing wait for long."""
    mode = case.meta.generation.mode if case.meta else None
    if mode is None or mode.is_positive:
        for name, value in dict(case.path_parameters or {}).items():
            pool = ids_for(case.operation.path, name)
            # Most of the time one that exists; which one is a matter of what was generated, so that a seed repeats.
            pick = zlib.crc32(repr((value, case.operation.path, case.body if not isinstance(case.body, bytes) else "")).encode())
            if pool and pick % 8 != 0:
                case.path_parameters[name] = pool[pick % len(pool)]
    if isinstance(case.body, dict) and isinstance(case.body.get("wait_ms"), int):
        if LONGEST_WAIT_MS < case.body["wait_ms"] <= 60_000:
            case.body["wait_ms"] = LONGEST_WAIT_MS
    for name in [name for name in (case.headers or {}) if name.lower() == "prefer"]:
        del case.headers[name]


@schemathesis.hook
def after_call(context, case, response):
    """Counts what was answered, so that a run that reaches nothing is seen."""
    with open(TALLY, "a", encoding="utf-8") as file:
        file.write(f"{case.operation.method.upper()} {case.operation.path} {response.status_code}\n")


@schemathesis.check
def no_cross_tenant_read(ctx, response, case):
    """Nothing of another tenant is ever answered."""
    for marker in STATE["foreign"]:
        assert marker not in response.text, f"the answer holds `{marker}`, which is another tenant's"
        for name, value in response.headers.items():
            assert marker not in str(value), f"the header {name} holds `{marker}`, which is another tenant's"
