"""A browser, as far as a login through a provider needs one: cookies, redirects, forms.

Arguments: Everline's URL, the provider's name, then a name to log in with. Prints what each login ended with.
"""

import html
import json
import re
import sys
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

everline, provider = sys.argv[1:3]
begin = f"{everline}/api/v1/auth/oidc/{provider}"


def browser():
    return httpx.Client(follow_redirects=False, timeout=20, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def submit(client, page):
    """Fills the one form of a page."""
    form = re.search(r"<form[^>]*action=\"([^\"]+)\"[^>]*>(.*?)</form>", page.text, re.S)
    assert form, page.text
    fields = dict(re.findall(r"<input[^>]*type=\"hidden\"[^>]*name=\"([^\"]+)\"[^>]*value=\"([^\"]*)\"", form[2]))
    if "name=\"login\"" in form[2]:
        fields |= {"login": who, "password": "anything"}
    return client.post(urljoin(str(page.url), html.unescape(form[1])), data=fields)


def until_callback(client, answer):
    """Goes on at the provider until it sends the browser back; gives the address that it is sent to."""
    for _ in range(20):
        if answer.is_redirect:
            place = urljoin(str(answer.url), answer.headers["location"])
            if place.startswith(everline + "/"):
                return place
            answer = client.get(place)
        else:
            assert answer.status_code == 200, answer.text
            answer = submit(client, answer)
    raise AssertionError("the provider goes round in circles")


def login(name, redirect=None):
    global who
    who = name
    client = browser()
    question = client.get(begin, params={"redirect": redirect} if redirect else None)
    assert question.status_code == 302, question.text
    asked = parse_qs(urlsplit(question.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["response_type"] == ["code"], asked
    cookie = question.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Max-Age=600" in cookie, cookie
    return client, until_callback(client, question)


def said(answer):
    body = answer.json() if answer.content else {}
    return {"status": answer.status_code, "code": body.get("code"), "email": body.get("user", {}).get("email"),
            "user": body.get("user", {}).get("id"), "access_token": body.get("access_token")}


for name in sys.argv[3:]:
    client, place = login(name)
    first = client.get(place)
    result = {"name": name, "first": said(first)}
    # The same answer again, with the same cookies but for the one that was taken away, and with it.
    result["replayed"] = said(client.get(place))
    client, place = login(name)
    kept = {cookie.name: cookie.value for cookie in client.cookies.jar if cookie.name.startswith("everline")}
    result["second"] = said(client.get(place))
    result["replayed_with_cookie"] = said(httpx.get(place, cookies=kept, trust_env=False))
    # Another browser is led to the end of a login that it has not begun.
    client, place = login(name)
    result["of_another_browser"] = said(browser().get(place))
    state = parse_qs(urlsplit(place).query)["state"][0]
    result["wrong_state"] = said(client.get(place.replace(state, state[::-1])))
    issuer = parse_qs(urlsplit(place).query)["iss"][0]
    other = place.replace("iss=" + place.split("iss=")[1].split("&")[0], "iss=http%3A%2F%2Fevil.example")
    assert issuer not in other
    result["wrong_issuer"] = said(client.get(other))
    without = re.sub(r"[&?]iss=[^&]*", "", place)
    result["no_issuer"] = said(client.get(without))
    client, place = login(name)
    result["wrong_code"] = said(client.get(re.sub(r"code=[^&]*", "code=guessed", place)))
    # With a path to go to, the session is in cookies.
    client, place = login(name, "/device?user_code=BCDF-GHJK")
    end = client.get(place)
    result["redirected"] = {"status": end.status_code, "location": end.headers.get("location"),
                            "me": client.get(f"{everline}/api/v1/auth/me").status_code}
    for bad in ["https://evil.example", "//evil.example", "/\\evil.example"]:
        assert browser().get(begin, params={"redirect": bad}).status_code == 400, bad
    print(json.dumps(result))
