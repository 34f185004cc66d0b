//! The OpenAPI 3.1 document: its head, and what is true of every operation.

use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use crate::access::{RULES, Rule};
use crate::schemas;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Everline", description = "Everline's HTTP API. Errors are `application/problem+json`."),
    components(schemas(schemas::Problem, schemas::FieldProblem, schemas::Event))
)]
struct Head;

/// The document before its paths.
pub(crate) fn head() -> OpenApi {
    let mut document = Head::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.license = None;
    document
}

/// Adds what every operation has: its credentials, and problems as its other answers.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    let bearer = SecurityScheme::Http(
        Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key (`evl_…`) or an access token."))
            .build(),
    );
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert("bearer".to_owned(), RefOr::T(bearer));
    for (path, item) in &mut document.paths.paths {
        let open = RULES.iter().any(|(_, route, rule)| route == path && *rule == Rule::Public);
        for operation in operations(item) {
            let needs = if open {
                SecurityRequirement::default()
            } else {
                SecurityRequirement::new::<_, [&str; 0], &str>("bearer", [])
            };
            operation.security = Some(vec![needs]);
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let problem = ResponseBuilder::new()
                .description("A problem.")
                .content("application/problem+json", content)
                .build();
            operation.responses.responses.entry("default".to_owned()).or_insert_with(|| problem.into());
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}
