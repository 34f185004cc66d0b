//! One provider: its discovery document and keys, and what its answers say.

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreGrantType, CoreIdToken, CoreIdTokenClaims, CoreJsonWebKey, CoreJsonWebKeySet,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType, CoreUserInfoClaims,
};
use openidconnect::{
    AccessToken, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, ProviderMetadata, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, TokenResponse,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

use super::OidcConfig;
use super::outbound::Outbound;
use super::pending::Pending;
use crate::failure::Failure;
use crate::status;

/// How long a discovery document is believed.
const FRESH_FOR: Duration = Duration::from_secs(60 * 60);
/// How long a provider that did not answer is not asked again, and how soon keys are fetched again at the earliest.
const PAUSE: Duration = Duration::from_secs(5);

/// Signatures that only the provider can make: neither `none` nor one with a shared secret.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 10] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EcdsaP521Sha512,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What discovery says beyond OpenID Connect Discovery 1.0.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct MoreMetadata {
    /// RFC 9207.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for MoreMetadata {}

type Metadata = ProviderMetadata<
    MoreMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A provider.
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) config: OidcConfig,
    outbound: Outbound,
    known: Mutex<Known>,
}

/// What is known of a provider at the moment.
#[derive(Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Instant)>,
    failed_at: Option<Instant>,
}

/// Who came, as the provider says.
#[derive(Debug)]
pub(super) struct Identity {
    /// Hexadecimal SHA-256 of issuer and subject, which together never mean another person.
    pub(super) fingerprint: String,
    /// The e-mail, if the provider says that it has verified it.
    pub(super) verified_email: Option<String>,
    /// The name.
    pub(super) name: Option<String>,
}

impl Provider {
    pub(super) fn new(name: &str, config: &OidcConfig, outbound: Outbound) -> Self {
        Self { name: name.to_owned(), config: config.clone(), outbound, known: Mutex::default() }
    }

    /// Where to send a browser, and what ties the answer to it.
    pub(super) async fn question(
        &self,
        redirect_url: String,
        redirect: Option<String>,
        until_ms: i64,
    ) -> Result<(String, Pending), Failure> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata, redirect_url)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                || CsrfToken::new_random_len(32),
                || Nonce::new_random_len(32),
            )
            .set_pkce_challenge(challenge);
        let usual = ["email".to_owned(), "profile".to_owned()];
        let scopes = if self.config.scopes.is_empty() { &usual[..] } else { &self.config.scopes[..] };
        for scope in scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.url();
        let pending = Pending {
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
            redirect,
            until_ms,
        };
        Ok((url.to_string(), pending))
    }

    /// Whether an answer comes from this provider (RFC 9207).
    pub(super) async fn check_issuer(&self, iss: Option<&str>) -> Result<(), Failure> {
        let metadata = self.metadata().await?;
        let required = metadata.additional_metadata().authorization_response_iss_parameter_supported;
        match iss {
            Some(iss) if iss == metadata.issuer().as_str() => Ok(()),
            None if !required => Ok(()),
            _ => Err(Failure::new(
                status::LOGIN_STATE_INVALID,
                "the answer comes from another provider than the login was begun with; begin it again",
            )),
        }
    }

    /// Exchanges a code, and says who came.
    pub(super) async fn identity(
        &self,
        redirect_url: String,
        code: String,
        pending: &Pending,
    ) -> Result<Identity, Failure> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata, redirect_url.clone())?;
        let request =
            client.exchange_code(AuthorizationCode::new(code)).map_err(|error| self.unusable(&error))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(pending.verifier.clone()));
        let tokens = request.request_async(&self.outbound).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(refusal) => {
                let said: String = refusal.error().to_string().chars().take(100).collect();
                let detail = format!("the provider refused the code ({said}); begin the login again");
                Failure::new(status::LOGIN_REFUSED, detail)
            }
            error => self.unusable(&error),
        })?;
        let token = tokens
            .id_token()
            .ok_or_else(|| Failure::new(status::PROVIDER_TOKEN_INVALID, "the provider sent no ID token"))?;
        let nonce = Nonce::new(pending.nonce.clone());
        let claims = match self.verify(&client, token, &nonce) {
            // The provider may have new keys.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let metadata = self.with_keys_again().await?;
                let client = self.client(&metadata, redirect_url)?;
                self.verify(&client, token, &nonce)
            }
            verified => verified,
        }
        .map_err(|error| self.untrue(&error))?;
        let info = self.more(&client, &claims, tokens.access_token()).await?;
        Ok(identity(metadata.issuer(), &claims, info.as_ref()))
    }

    /// What an ID token says, if all of it is true.
    fn verify(
        &self,
        client: &Client,
        token: &CoreIdToken,
        nonce: &Nonce,
    ) -> Result<CoreIdTokenClaims, ClaimsVerificationError> {
        let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
        token.claims(&verifier, nonce).cloned()
    }

    /// What the provider tells at its userinfo endpoint, where the ID token has no e-mail.
    async fn more(
        &self,
        client: &Client,
        claims: &CoreIdTokenClaims,
        token: &AccessToken,
    ) -> Result<Option<CoreUserInfoClaims>, Failure> {
        if claims.email().is_some() || client.user_info_url().is_none() {
            return Ok(None);
        }
        // Refused where its subject is another than the ID token's.
        let subject = Some(claims.subject().clone());
        let request = client.user_info(token.clone(), subject).map_err(|error| self.unusable(&error))?;
        request.request_async(&self.outbound).await.map(Some).map_err(|error| self.unusable(&error))
    }

    fn client(&self, metadata: &Metadata, redirect_url: String) -> Result<Client, Failure> {
        let secret = self.config.secret().map_err(|detail| {
            tracing::error!(oidc.provider = self.name, detail, "a provider's secret cannot be read");
            Failure::new(
                status::PROVIDER_UNAVAILABLE,
                "the provider is not set up well; tell your administrator",
            )
        })?;
        let secret = secret.map(|secret| ClientSecret::new(secret.expose().to_owned()));
        let redirect = RedirectUrl::new(redirect_url).map_err(|error| self.unusable(&error))?;
        let id = ClientId::new(self.config.client_id.clone());
        let mut client: Client =
            CoreClient::from_provider_metadata(metadata.clone(), id, secret).set_redirect_uri(redirect);
        let methods = metadata.token_endpoint_auth_methods_supported();
        if methods.is_some_and(|methods| !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)) {
            client = client.set_auth_type(AuthType::RequestBody);
        }
        Ok(client)
    }

    /// The discovery document and keys, fetched when they are needed first.
    async fn metadata(&self) -> Result<Arc<Metadata>, Failure> {
        let mut known = self.known.lock().await;
        if let Some((metadata, fetched_at)) = &known.metadata
            && (fetched_at.elapsed() < FRESH_FOR || known.failed_at.is_some_and(|at| at.elapsed() < PAUSE))
        {
            return Ok(metadata.clone());
        }
        if known.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(unavailable());
        }
        let issuer = IssuerUrl::new(self.config.issuer.clone()).map_err(|error| self.unusable(&error))?;
        match Metadata::discover_async(issuer, &self.outbound).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known = Known { metadata: Some((metadata.clone(), Instant::now())), failed_at: None };
                Ok(metadata)
            }
            Err(error) => {
                known.failed_at = Some(Instant::now());
                let failure = self.unusable(&error);
                // What was known serves as long as nothing newer can be had.
                known.metadata.as_ref().map(|(metadata, _)| metadata.clone()).ok_or(failure)
            }
        }
    }

    /// The keys fetched again, unless that was done a moment ago.
    async fn with_keys_again(&self) -> Result<Arc<Metadata>, Failure> {
        let metadata = self.metadata().await?;
        let mut known = self.known.lock().await;
        if let Some((newest, fetched_at)) = &known.metadata
            && fetched_at.elapsed() < PAUSE
        {
            return Ok(newest.clone());
        }
        let keys = CoreJsonWebKeySet::fetch_async(metadata.jwks_uri(), &self.outbound).await;
        let keys = keys.map_err(|error| self.unusable(&error))?;
        let metadata = Arc::new((*metadata).clone().set_jwks(keys));
        known.metadata = Some((metadata.clone(), Instant::now()));
        Ok(metadata)
    }

    fn unusable(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        tracing::warn!(oidc.provider = self.name, error, "a provider did not answer as it should");
        unavailable()
    }

    fn untrue(&self, error: &ClaimsVerificationError) -> Failure {
        let error = error as &dyn std::error::Error;
        tracing::warn!(oidc.provider = self.name, error, "a provider's ID token was refused");
        Failure::new(
            status::PROVIDER_TOKEN_INVALID,
            "what the provider says of you cannot be trusted; begin again",
        )
    }
}

fn unavailable() -> Failure {
    Failure::new(status::PROVIDER_UNAVAILABLE, "the provider does not answer as it should; try again shortly")
}

fn identity(issuer: &IssuerUrl, claims: &CoreIdTokenClaims, info: Option<&CoreUserInfoClaims>) -> Identity {
    let mut hasher = Sha256::new();
    hasher.update(issuer.as_str().as_bytes());
    hasher.update([0]);
    hasher.update(claims.subject().as_str().as_bytes());
    let verified = |verified: Option<bool>| verified == Some(true);
    let email = match info {
        _ if claims.email().is_some() => claims.email().filter(|_| verified(claims.email_verified())),
        Some(info) => info.email().filter(|_| verified(info.email_verified())),
        None => None,
    };
    let name = claims.name().or_else(|| info?.name()).and_then(|names| names.get(None));
    Identity {
        fingerprint: domain::blob::hex(&hasher.finalize()),
        verified_email: email.map(|email| domain::identity::normal_email(email)),
        name: name.map(|name| name.as_str().to_owned()),
    }
}
