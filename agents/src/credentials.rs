//! The last step before a node is carried out: the typed parts of its configuration become plain values.
//!
//! Invariant: only the engine's rendering makes parts, so text that came from input and looks like a template or
//! a credential stays text. Absent in this release: credentials; naming one fails the node.

use domain::execution::event::NodeError;
use domain::expression::resolve_parts;
use serde_json::Value;

use crate::failure;

/// The configuration with its parts resolved.
pub(crate) fn resolve(config: Value) -> Result<Value, NodeError> {
    resolve_parts(config, &mut |name, _field| {
        Err(failure::invalid_config(format!("credential `{name}` does not exist")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::execution::event::ErrorKind;
    use serde_json::json;

    #[test]
    fn a_named_credential_fails_the_node_by_its_name() {
        let parts = json!({"$parts": ["Bearer ", {"$credential": "shop_token", "field": "value"}]});
        let error = resolve(json!({"headers": {"authorization": parts}})).expect_err("there are none");
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        assert_eq!(error.message, "credential `shop_token` does not exist");
        assert!(!error.retryable);
    }

    #[test]
    fn data_that_looks_like_a_credential_stays_data() {
        let data = json!({"$parts": [{"$credential": "shop_token", "field": "value"}]});
        let resolved = resolve(json!({"body": {"$data": data}, "url": "{{ credentials.shop_token }}"}));
        assert_eq!(resolved, Ok(json!({"body": data, "url": "{{ credentials.shop_token }}"})));
    }
}
