"""Everline through httpx. Arguments: URL, API key, e-mail, password. Assertions are its output."""

import sys
import uuid

import httpx

url, key, email, password = sys.argv[1:]
api = f"{url}/api/v1"


def definition(name):
    return {"name": name, "nodes": [{"id": "start", "type": "start"}, {"id": "end", "type": "end"}],
            "edges": [{"source": "start", "target": "end"}]}


def client(**more):
    return httpx.Client(timeout=30, trust_env=False, headers={"Authorization": f"Bearer {key}"}, **more)


for version, options in [("HTTP/1.1", {}), ("HTTP/2", {"http1": False, "http2": True})]:
    with client(**options) as http:
        me = http.get(f"{api}/auth/me")
        assert (me.status_code, me.http_version) == (200, version), (me, me.http_version)
        # The same write twice is one thing; the same key for another is refused.
        name, idempotency = f"w-{uuid.uuid4()}", {"Idempotency-Key": str(uuid.uuid4())}
        first = http.post(f"{api}/workflows", json=definition(name), headers=idempotency)
        again = http.post(f"{api}/workflows", json=definition(name), headers=idempotency)
        assert first.status_code == again.status_code == 201, (first.text, again.text)
        assert first.json()["id"] == again.json()["id"]
        other = http.post(f"{api}/workflows", json=definition(name + "x"), headers=idempotency)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused"), other.text
        # Two streams at once on one connection, where the protocol can.
        assert http.get(f"{url}/livez").status_code == 200

with client() as http:
    for number in range(7):
        position = http.post(f"{api}/workflows", json=definition(f"page-{number}")).headers["everline-position"]
    seen, page = [], f"{api}/workflows?limit=3"
    while page:
        answer = http.get(page, headers={"Everline-Min-Position": position})
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        assert 1 <= len(items) <= 3
        seen += [item["name"] for item in items]
        link = answer.links.get("next", {}).get("url")
        assert (link is None) == (answer.json()["next_cursor"] is None)
        page = link and str(answer.url.join(link))
    assert len(seen) == len(set(seen)) == 9, seen
    problem = http.get(f"{api}/workflows?limit=1000")
    assert problem.status_code == 400 and problem.headers["content-type"] == "application/problem+json"

# A browser's session: cookies, and the code that other sites cannot read.
with httpx.Client(timeout=30, trust_env=False) as http:
    login = http.post(f"{api}/auth/login", json={"email": email, "password": password, "session": "cookie"})
    assert login.status_code == 200 and "access_token" not in login.json(), login.text
    held = [line for line in login.headers.get_list("set-cookie") if "everline_session" in line]
    assert len(held) == 1 and "HttpOnly" in held[0] and "SameSite=Lax" in held[0], held
    assert http.get(f"{api}/auth/me").json()["email"] == email
    forged = http.post(f"{api}/workflows", json=definition("forged"))
    assert (forged.status_code, forged.json()["code"]) == (403, "csrf_failed"), forged.text
    code = {"X-CSRF-Token": http.cookies["everline_csrf"]}
    assert http.post(f"{api}/workflows", json=definition("by-cookie"), headers=code).status_code == 201
    cross = http.post(f"{api}/workflows", json=definition("cross"), headers=code | {"Origin": "http://evil.example"})
    assert cross.status_code == 403, cross.text
    kept = dict(http.cookies)
    assert http.post(f"{api}/auth/logout", headers=code).status_code == 204
    assert httpx.get(f"{api}/auth/me", cookies=kept, trust_env=False).status_code == 401
