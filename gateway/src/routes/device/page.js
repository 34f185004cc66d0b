// Logs a person in, or finds the session of a provider's login, and sends the decision.
"use strict";
const api = "/api/v1";
const byId = (id) => document.getElementById(id);
const login = byId("login"), approve = byId("approve");
let token = null;

function say(text) { byId("message").textContent = text; }

async function call(method, path, body) {
  const headers = { "Accept": "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers["Authorization"] = "Bearer " + token;
  const csrf = document.cookie.split("; ").find((one) => /^(__Host-)?everline_csrf=/.test(one));
  if (csrf) headers["X-CSRF-Token"] = decodeURIComponent(csrf.slice(csrf.indexOf("=") + 1));
  const answer = await fetch(api + path, {
    method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  return { ok: answer.ok, json };
}

async function show() {
  const me = await call("GET", "/auth/me");
  login.hidden = me.ok;
  approve.hidden = !me.ok;
  if (me.ok) { byId("who").textContent = me.json.email; return; }
  const providers = await call("GET", "/auth/oidc");
  byId("providers").replaceChildren(...(providers.json.items || []).map((provider) => {
    const link = document.createElement("a");
    const back = location.pathname + location.search;
    link.href = api + "/auth/oidc/" + encodeURIComponent(provider.name) + "?redirect=" + encodeURIComponent(back);
    link.textContent = "Log in with " + provider.name;
    return link;
  }));
}

login.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(login);
  const body = { email: form.get("email"), password: form.get("password") };
  if (form.get("code")) body.code = form.get("code");
  const answer = await call("POST", "/auth/login", body);
  if (answer.ok) {
    token = answer.json.access_token;
    login.reset();
    say("");
    return show();
  }
  byId("factor").hidden = answer.json.code !== "second_factor_required" && byId("factor").hidden;
  say(answer.json.detail || "That did not work.");
});

approve.addEventListener("submit", async (event) => {
  event.preventDefault();
  const yes = event.submitter ? event.submitter.value === "yes" : false;
  const code = new FormData(approve).get("user_code");
  const answer = await call("POST", "/auth/device/approve", { user_code: code, approve: yes });
  if (!answer.ok) return say(answer.json.detail || "That did not work.");
  approve.hidden = true;
  say((yes ? "Let in: " : "Turned away: ") + answer.json.client_name + ". You can close this page.");
});

const given = new URLSearchParams(location.search).get("user_code");
if (given) approve.elements.user_code.value = given;
show();
