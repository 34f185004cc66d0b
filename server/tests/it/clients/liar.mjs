// An OpenID Connect provider that lies as its codes say: {"lie", "nonce", "sub"} in base64url. For tests of the relying
// party, which must believe none of it. Argument: the port.
import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const pair = () => generateKeyPairSync("ec", { namedCurve: "P-256" });
const [known, next, foreign] = [pair(), pair(), pair()];
const jwk = (key, kid) => ({ ...key.publicKey.export({ format: "jwk" }), kid, use: "sig", alg: "ES256" });
let keys = [jwk(known, "k1")];
let fetches = 0;
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(lie, nonce, sub) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, sub, aud: "everline", exp: now + 300, iat: now, nonce, email: `${sub}@example.test`, email_verified: true };
  let [header, key] = [{ alg: "ES256", kid: "k1", typ: "JWT" }, known.privateKey];
  if (lie === "issuer") claims.iss = "http://127.0.0.1:1";
  if (lie === "audience") claims.aud = "another";
  if (lie === "audiences") claims.aud = ["everline", "another"];
  if (lie === "expired") claims.exp = now - 10;
  if (lie === "nonce") claims.nonce = "of another login";
  if (lie === "no nonce") delete claims.nonce;
  if (lie === "key") key = foreign.privateKey;
  if (lie === "unknown key") { header.kid = "k9"; key = foreign.privateKey; }
  if (lie === "own key") { header.jwk = jwk(foreign, "k1"); key = foreign.privateKey; }
  if (lie === "unverified") claims.email_verified = false;
  if (lie === "new key") { header.kid = "k2"; key = next.privateKey; keys = [jwk(known, "k1"), jwk(next, "k2")]; }
  if (lie === "none") return `${encode({ alg: "none" })}.${encode(claims)}.`;
  if (lie === "shared secret") {
    const text = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
    return `${text}.${createHmac("sha256", "the secret of the provider").update(text).digest("base64url")}`;
  }
  const text = `${encode(header)}.${encode(claims)}`;
  return `${text}.${sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

createServer((request, response) => {
  const answer = (value, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  if (request.url === "/.well-known/openid-configuration") {
    return answer({
      issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/keys`,
      response_types_supported: ["code"], subject_types_supported: ["public"],
      // It would like to sign with anything.
      id_token_signing_alg_values_supported: ["ES256", "HS256", "none"], authorization_response_iss_parameter_supported: true,
    });
  }
  if (request.url === "/keys") { fetches += 1; return answer({ keys }); }
  if (request.url === "/fetches") return answer(fetches);
  let body = "";
  request.on("data", (chunk) => { body += chunk; });
  request.on("end", () => {
    const sent = new URLSearchParams(body);
    const { lie, nonce, sub } = JSON.parse(Buffer.from(sent.get("code"), "base64url").toString());
    if (!sent.get("code_verifier")) return answer({ error: "invalid_grant" }, 400);
    if (lie === "huge") { response.writeHead(200, { "content-type": "application/json" }); return response.end("x".repeat(4_000_000)); }
    if (lie === "redirect") { response.writeHead(302, { location: `${issuer}/elsewhere` }); return response.end(); }
    if (lie === "no token") return answer({ access_token: "a", token_type: "Bearer" });
    return answer({ access_token: "a", token_type: "Bearer", id_token: token(lie, nonce, sub) });
  });
}).listen(port, "127.0.0.1", () => console.log("ready"));
