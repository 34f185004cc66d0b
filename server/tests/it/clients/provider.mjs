// The certified OpenID Connect provider `oidc-provider`, with its own login and consent pages.
// Arguments: the folder of node_modules, the port, the redirect URI of its one client.
const [folder, port, redirect] = process.argv.slice(2);
const { default: Provider } = await import(`${folder}/node_modules/oidc-provider/lib/index.js`);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "everline", client_secret: "the secret of the provider", redirect_uris: [redirect] }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
  pkce: { required: () => true, methods: ["S256"] },
  cookies: { keys: ["a key of this test"] },
  // Any name logs in, with any password.
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, email: `${id}@example.test`, email_verified: !id.startsWith("unverified") }),
  }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
